"""The world in which the exhaustive test explores the cut-over: two databases, their streams, controllers, the fence
server, writers, and everything that may go wrong between any two steps.

What is decided comes from the code that runs: ``extraction.model`` (the next action and every compare-and-set),
``changes.model.admit`` (what sync applies) and ``facade.holding`` (toward whom the fence server opens). Here is only
what happens around those decisions. A step of a database is atomic, as its transactions are; everything else may be
delayed for ever, so a zombie is any participant that acts late on what it knew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from stranglerfig.changes.model import Admission, admit
from stranglerfig.databases.model import Ownership, Side
from stranglerfig.extraction import model
from stranglerfig.extraction.model import Action, Observation, Row
from stranglerfig.facade import holding
from stranglerfig.facade.holding import Seen

SIDES: tuple[Side, Side] = ("monolith", "service")
ACCEPTING = ("owner", "intent")
WROTE, MARKER, ACTIVATED, ROGUE, ECHO = "write", "marker", "activated", "foreign change", "echo of write"
Entry = tuple[str, int]


@dataclass(frozen=True)
class Rules:
    """The rules of the protocol; a mutant has one of them removed."""

    writers_drained: bool = True
    lock_before_row: bool = True
    old_snapshot_locks_row: bool = True
    standby_refuses: bool = True
    hold_seen_by_fence_server: bool = True
    writes_in_flight_ended: bool = True
    fence_compares_epoch: bool = True
    marker_behind_fence: bool = True
    marker_applied_before_proof: bool = True
    marker_of_this_fence: bool = True
    cede_compares_fence: bool = True
    activate_needs_marker: bool = True
    activate_after_cede: bool = True
    activate_compares_epoch: bool = True
    intend_compares_epoch: bool = True
    abort_compares_epoch: bool = True
    abort_only_before_cede: bool = True
    open_after_abort_succeeded: bool = True
    owner_parks: bool = True
    discard_before_activation: bool = True
    own_origin_dropped: bool = True
    position_with_rows: bool = True
    commits_are_durable: bool = True


@dataclass(frozen=True)
class Bounds:
    """How much of the world there is.

    Attributes:
        controllers: how many may be alive, or stopped and continued, at once.
        epochs: how many cut-overs may be begun.
        requests: writes through the façade; with any, the fence server is part of the world.
        direct: direct transactions (the nightly job), on either side.
        snapshots: whether direct transactions may also be REPEATABLE READ.
        rogue: changes that enter W's stream though nobody let them (a superuser's, say).
        crashes: kills of databases and of the fence server together; controllers die without bound.
        torn_look: whether a controller reads the two rows at two moments.
    """

    controllers: int = 1
    epochs: int = 1
    requests: int = 0
    direct: int = 0
    snapshots: bool = False
    rogue: int = 0
    crashes: int = 0
    torn_look: bool = False


class Controller(NamedTuple):
    """What one controller knows. ``loser`` is a side's number; ``half`` a row it read while the other is unread."""

    half: Row | None = None
    loser: int = 0
    seen_loser: Row | None = None
    seen_winner: Row | None = None
    epoch: int | None = None
    nonce: str | None = None
    holding: bool = False
    marked: bool = False
    proved: bool = False
    giving_up: bool = False
    wanted: bool = True


class World(NamedTuple):
    """Everything there is. Sides are numbered 0 (monolith) and 1 (service).

    ``streams[s]`` is what commits at side s wrote; ``applied[s]`` how much of it the other side has applied;
    ``data[s]`` and ``acked`` are bit sets of writes. A direct transaction is (side, phase, row as of its snapshot);
    a request is None, "held", or the side it is in flight to.
    """

    rows: tuple[Row, Row]
    durable: tuple[Row, Row]
    streams: tuple[tuple[Entry, ...], tuple[Entry, ...]] = ((), ())
    applied: tuple[int, int] = (0, 0)
    data: tuple[int, int] = (0, 0)
    acked: int = 0
    controllers: tuple[Controller | None, ...] = (None,)
    views: tuple[tuple[Row, bool] | None, tuple[Row, bool] | None] = (None, None)
    hold: int | None = None
    request: str | int | None = None
    requests: int = 0
    direct: tuple[int, str, Row] | None = None
    directs: int = 0
    rogues: int = 0
    crashes: int = 0
    writes: int = 0


class Violation(Exception):
    """An invariant that does not hold; its name begins with I1 to I9."""


Step = tuple[str, World]


def begin(bounds: Bounds) -> World:
    """The monolith owns, both streams are empty, nobody is at work."""
    rows = (Row("owner", 0), Row("standby", 0))
    return World(
        rows,
        rows,
        controllers=(None,) * bounds.controllers,
        requests=bounds.requests,
        directs=bounds.direct,
        rogues=bounds.rogue,
        crashes=bounds.crashes,
    )


def put(pair: tuple[Any, Any], side: int, value: Any) -> tuple[Any, Any]:
    return (value, pair[1]) if side == 0 else (pair[0], value)


@cache
def judged(views: tuple[tuple[Row, bool] | None, tuple[Row, bool] | None], held: bool) -> Any:
    """The fence server's own judgement; a view is fresh when it was read after the hold began."""
    seen = [
        None
        if view is None
        else Seen(Ownership("c", SIDES[side], view[0].state, view[0].epoch, None, True), 0.5 if view[1] else 0.1)
        for side, view in enumerate(views)
    ]
    judgement = holding.judge(seen[0], seen[1], 0.6)
    may = holding.may_open(judgement, 0.25 if held else None)
    return judgement, (SIDES.index(judgement.side) if may and judgement.side else None)


class Machine:
    """The steps that are possible in a world, under the rules."""

    def __init__(self, bounds: Bounds, rules: Rules | None = None) -> None:
        self.bounds = bounds
        self.rules = rules or Rules()

    def steps(self, w: World) -> Iterator[Step]:
        """Every step that may happen next."""
        for number, controller in enumerate(w.controllers):
            if controller is None:
                yield from self._arrive(w, number)
            else:
                yield from self._control(w, number, controller)
        for source in (0, 1):
            if w.applied[source] < len(w.streams[source]):
                yield from self._sync(w, source)
        if self.bounds.requests:
            yield from self._fence_server(w)
            yield from self._requests(w)
        if self.bounds.direct:
            yield from self._direct(w)
        if w.rogues:
            yield "a change nobody let in at the service", self._committed(w, 1, ROGUE, rogues=w.rogues - 1)
        if w.crashes:
            yield from self._crashes(w)

    # -- rows --------------------------------------------------------------------------------------------------------

    def _set(self, w: World, side: int, row: Row, **also: Any) -> World:
        if row.epoch < w.rows[side].epoch:
            raise Violation(f"I4 the {SIDES[side]}'s epoch falls from {w.rows[side].epoch} to {row.epoch}")
        durable = put(w.durable, side, row if self.rules.commits_are_durable else w.rows[side])
        return w._replace(rows=put(w.rows, side, row), durable=durable, **also)

    def _committed(self, w: World, side: int, kind: str, *, acknowledged: bool = False, **also: Any) -> World:
        """A write of a new key commits at ``side``."""
        bit = 1 << w.writes
        return w._replace(
            streams=put(w.streams, side, (*w.streams[side], (kind, w.writes))),
            data=put(w.data, side, w.data[side] | bit),
            acked=w.acked | bit if acknowledged else w.acked,
            writes=w.writes + 1,
            **also,
        )

    def _marker_applied(self, w: World, loser: int, nonce: str | None) -> bool:
        done = w.streams[loser][: w.applied[loser]]
        if not self.rules.marker_of_this_fence:
            return any(kind == MARKER for kind, _ in done)
        return nonce is not None and (MARKER, int(nonce)) in done

    # -- controllers -------------------------------------------------------------------------------------------------

    def _arrive(self, w: World, number: int) -> Iterator[Step]:
        """A controller starts: for a cut-over, or as recovery."""
        name = f"controller {number + 1}"
        if self.bounds.torn_look:
            yield f"{name} reads the monolith", self._with(w, number, Controller(half=w.rows[0]))
        else:
            yield from self._decide(w, number, w.rows[0], w.rows[1])

    def _decide(self, w: World, number: int, monolith: Row, service: Row) -> Iterator[Step]:
        name = f"controller {number + 1}"
        direction = model.under_way(monolith, service)
        if direction is not None:
            loser = 0 if direction == "forward" else 1
            rows = (monolith, service) if loser == 0 else (service, monolith)
            controller = Controller(None, loser, rows[0], rows[1], wanted=False)
            yield f"{name} recovers {direction}", self._with(w, number, controller)
        else:
            owner = model.owner_of(monolith, service)
            if owner is not None:
                loser = SIDES.index(owner)
                rows = (monolith, service) if loser == 0 else (service, monolith)
                if model.next_epoch(*rows) <= self.bounds.epochs:
                    yield (
                        f"{name} wants the writes away from the {owner}",
                        self._with(w, number, Controller(None, loser, rows[0], rows[1])),
                    )
            if self.bounds.torn_look:
                yield f"{name} leaves", self._with(w, number, None)

    @staticmethod
    def _with(w: World, number: int, controller: Controller | None) -> World:
        controllers = list(w.controllers)
        controllers[number] = controller
        return w._replace(controllers=tuple(controllers))

    def _again(self, w: World, number: int, c: Controller) -> World:
        """A compare-and-set compared unequal: read the rows again."""
        return self._with(w, number, c._replace(seen_loser=w.rows[c.loser], seen_winner=w.rows[1 - c.loser]))

    def _control(self, w: World, number: int, c: Controller) -> Iterator[Step]:
        name = f"controller {number + 1}"
        if c.half is not None:
            yield f"{name} dies", self._with(w, number, None)
            yield from self._decide(w, number, c.half, w.rows[1])
            return
        assert c.seen_loser is not None
        assert c.seen_winner is not None
        action = model.next_action(
            Observation(
                c.seen_loser,
                c.seen_winner,
                c.epoch,
                c.nonce,
                c.holding,
                c.marked,
                c.proved,
                c.giving_up,
                False,
                c.wanted,
            )
        )
        if not self.rules.activate_after_cede and c.seen_loser.state == "fenced" and c.proved:
            action = Action.ACTIVATE
        if action in (Action.RELEASE, Action.DONE, Action.LOST):
            yield f"{name} ends ({action})", self._with(w, number, None)
            return
        yield f"{name} dies", self._with(w, number, None)
        if c.epoch is not None and not c.giving_up and c.seen_loser.state in ("intent", "fenced"):
            yield f"{name} gives up", self._with(w, number, c._replace(giving_up=True))
        after = getattr(self, f"_{action}")(w, number, c)
        if after is not None:
            yield f"{name}: {action}" + (f" (epoch {c.epoch})" if c.epoch else ""), after

    def _intend(self, w: World, number: int, c: Controller) -> World | None:
        assert c.seen_loser is not None
        assert c.seen_winner is not None
        epoch = model.next_epoch(c.seen_loser, c.seen_winner)
        row = w.rows[c.loser]
        c = c._replace(epoch=epoch)
        if model.may_intend(row, epoch) or (not self.rules.intend_compares_epoch and row.state == "owner"):
            new = Row("intent", epoch)
            return self._with(self._set(w, c.loser, new), number, c._replace(seen_loser=new))
        return self._again(w, number, c)

    def _hold(self, w: World, number: int, c: Controller) -> World | None:
        epoch = c.epoch
        assert epoch is not None
        if self.bounds.requests:
            if self.rules.hold_seen_by_fence_server and w.hold != epoch:
                return None
            if self.rules.writes_in_flight_ended and isinstance(w.request, int):
                return None
        c = c._replace(holding=True)
        if not self.rules.marker_behind_fence:
            # The position is recorded before the running writers have drained.
            nonce = str(epoch * 10 + number)
            entry = (MARKER, int(nonce))
            w = w._replace(streams=put(w.streams, c.loser, (*w.streams[c.loser], entry)))
            c = c._replace(nonce=nonce, marked=True)
        return self._with(w, number, c)

    def _fence(self, w: World, number: int, c: Controller) -> World | None:
        epoch = c.epoch
        assert epoch is not None
        row = w.rows[c.loser]
        drained = not (w.direct and w.direct[0] == c.loser and w.direct[1] in ("locked", "wrote"))
        drained = drained or not self.rules.writers_drained
        nonce = str(epoch * 10 + number)
        c = c._replace(nonce=nonce)
        compared = row if self.rules.fence_compares_epoch else row._replace(epoch=epoch)
        if model.may_fence(compared, epoch, drained=drained):
            new = Row("fenced", row.epoch, nonce)
            return self._with(self._set(w, c.loser, new), number, c._replace(seen_loser=new))
        return self._again(w, number, c) if drained else None

    def _mark(self, w: World, number: int, c: Controller) -> World | None:
        assert c.epoch is not None
        assert c.nonce is not None
        if not model.may_mark(w.rows[c.loser], c.epoch, c.nonce):
            return self._again(w, number, c)
        entry = (MARKER, int(c.nonce))
        streams = put(w.streams, c.loser, (*w.streams[c.loser], entry))
        return self._with(w._replace(streams=streams), number, c._replace(marked=True))

    def _prove(self, w: World, number: int, c: Controller) -> World | None:
        if self.rules.marker_applied_before_proof and not self._marker_applied(w, c.loser, c.nonce):
            return None
        return self._with(w, number, c._replace(proved=True))

    def _cede(self, w: World, number: int, c: Controller) -> World | None:
        assert c.epoch is not None
        row = w.rows[c.loser]
        if model.may_cede(row, c.epoch, c.nonce) or (not self.rules.cede_compares_fence and row.state == "fenced"):
            new = row._replace(state="ceded")
            return self._with(self._set(w, c.loser, new), number, c._replace(seen_loser=new))
        return self._again(w, number, c)

    def _activate(self, w: World, number: int, c: Controller) -> World | None:
        assert c.seen_loser is not None
        winner, seen = 1 - c.loser, c.seen_loser
        row = w.rows[winner]
        applied = self._marker_applied(w, c.loser, seen.nonce) or not self.rules.activate_needs_marker
        if not self.rules.activate_after_cede:
            seen = seen._replace(state="ceded")
        compared = row if self.rules.activate_compares_epoch else row._replace(epoch=-1)
        if model.may_activate(seen, compared, seen.epoch, applied=applied):
            new = Row("owner", seen.epoch, seen.nonce)
            streams = put(w.streams, winner, (*w.streams[winner], (ACTIVATED, seen.epoch)))
            if not self.rules.activate_compares_epoch and row.epoch > new.epoch:
                new = new._replace(epoch=row.epoch)
            return self._with(self._set(w, winner, new, streams=streams), number, c._replace(seen_winner=new))
        # Waits for the marker, or W has moved on.
        changed = (row, w.rows[c.loser]) != (c.seen_winner, c.seen_loser)
        return self._again(w, number, c) if changed else None

    def _abort(self, w: World, number: int, c: Controller) -> World | None:
        assert c.seen_loser is not None
        after = self._aborted(w, c.loser, c.seen_loser.epoch)
        return self._again(w, number, c) if after is None else self._with(after, number, None)

    def _aborted(self, w: World, side: int, epoch: int) -> World | None:
        row = w.rows[side]
        if not self.rules.abort_only_before_cede and row.state == "ceded" and row.epoch == epoch:
            return self._set(w, side, Row("owner", epoch))
        if not self.rules.abort_compares_epoch and row.state in ("intent", "fenced"):
            return self._set(w, side, Row("owner", epoch))
        return self._set(w, side, Row("owner", epoch)) if model.may_abort(row, epoch) else None

    # -- sync --------------------------------------------------------------------------------------------------------

    def _sync(self, w: World, source: int) -> Iterator[Step]:
        """One entry of ``source``'s stream is applied at the other side, under a lock on its ownership row."""
        target, at = 1 - source, w.applied[source]
        kind, number = w.streams[source][at]
        after = w._replace(applied=put(w.applied, source, at + 1))
        label = f"sync takes {kind} {number} to the {SIDES[target]}"
        if kind in (MARKER, ACTIVATED):
            yield label, after
            return
        row = w.rows[target]
        activated = max((n for k, n in w.streams[source][:at] if k == ACTIVATED), default=0)
        admission = admit(row.state, row.epoch, activated)
        if (admission is Admission.PARK and not self.rules.owner_parks) or (
            admission is Admission.DISCARD and not self.rules.discard_before_activation
        ):
            admission = Admission.APPLY
        if admission is not Admission.APPLY:
            if kind != ROGUE:
                raise Violation(f"I5 the {SIDES[target]} meets {kind} {number}, which is not its peer's to write")
            yield f"{label}: {admission}", after
            return
        if row.state not in ("standby", "ceded"):
            raise Violation(f"I5 the {SIDES[target]} owns and applies a change of its peer")
        if row.state == "ceded" and activated < row.epoch:
            raise Violation(f"I6 the {SIDES[target]} applies a change from before activated({row.epoch})")
        if w.data[target] & 1 << number:
            raise Violation(f"I2 write {number} arrives twice at the {SIDES[target]}")
        data = put(w.data, target, w.data[target] | 1 << number)
        if not self.rules.own_origin_dropped:
            after = after._replace(streams=put(after.streams, target, (*after.streams[target], (ECHO, number))))
        yield label, after._replace(data=data)
        if not self.rules.position_with_rows:
            yield f"{label} and dies before its position is stored", w._replace(data=data)

    # -- façade ------------------------------------------------------------------------------------------------------

    def _fence_server(self, w: World) -> Iterator[Step]:
        for side in (0, 1):
            view = (w.rows[side], True)
            if w.views[side] != view:
                yield f"the fence server reads the {SIDES[side]}", self._looked(w, put(w.views, side, view))
            if w.crashes and w.views[side] is not None:
                yield (
                    f"the fence server loses sight of the {SIDES[side]}",
                    self._looked(w, put(w.views, side, None))._replace(crashes=w.crashes - 1),
                )
        judgement, _ = judged(w.views, w.hold is not None)
        if w.hold is not None and judgement.kind == "hold" and judgement.state in ("intent", "fenced"):
            side = SIDES.index(judgement.side)
            after = self._aborted(w, side, judgement.epoch)
            if after is not None:
                views = put(w.views, side, (after.rows[side], True))
                yield "the fence server's budget is over", self._looked(after, views)
            elif not self.rules.open_after_abort_succeeded:
                views = put(w.views, side, (Row("owner", w.rows[side].epoch + 1), True))
                yield "the fence server opens though its abort failed", self._looked(w, views)

    def _looked(self, w: World, views: Any) -> World:
        """What the fence server does after a look: begin a hold, or end it."""
        judgement, opens = judged(views, w.hold is not None)
        hold = w.hold
        if judgement.kind == "hold":
            if hold is None:
                views = tuple(None if view is None else (view[0], False) for view in views)
            hold = max(hold or 0, judgement.epoch)
        elif opens is not None:
            hold = None
            # Whether it was read before the hold no longer matters: fewer worlds.
            views = tuple(None if view is None else (view[0], True) for view in views)
        return w._replace(views=views, hold=hold)

    def _requests(self, w: World) -> Iterator[Step]:
        if w.request is None:
            if w.requests:
                yield "a request arrives", w._replace(request="held", requests=w.requests - 1)
            return
        if w.request == "held":
            _, opens = judged(w.views, w.hold is not None)
            if opens is not None:
                seen = w.views[opens]
                if seen is None or seen[0].state != "owner" or seen[0].epoch > w.rows[opens].epoch:
                    raise Violation("I7 the façade sends a write to a side it has not seen to own")
                yield f"the façade sends it to the {SIDES[opens]}", w._replace(request=opens)
            return
        side = w.request
        assert isinstance(side, int)
        if not model.guard_admits(w.rows[side].state, lock_free=True):
            raise Violation(f"I9 the {SIDES[side]}'s guard refuses a request of the façade")
        yield f"the {SIDES[side]} answers it", self._committed(w, side, WROTE, acknowledged=True, request=None)

    # -- direct writers ----------------------------------------------------------------------------------------------

    def _direct(self, w: World) -> Iterator[Step]:
        """A transaction past the façade: shares the lock, then reads the row, writes, commits."""
        if w.direct is None:
            if w.directs:
                for side in (0, 1):
                    row = w.rows[side]
                    rest = w._replace(directs=w.directs - 1)
                    if self.rules.lock_before_row:
                        yield (
                            f"a writer at the {SIDES[side]} takes the lock",
                            rest._replace(direct=(side, "locked", row)),
                        )
                    elif row.state in ACCEPTING:
                        yield (
                            f"a writer at the {SIDES[side]} reads the row",
                            rest._replace(direct=(side, "read", row)),
                        )
                    if self.bounds.snapshots:
                        yield (
                            f"a writer takes a snapshot of the {SIDES[side]}",
                            rest._replace(direct=(side, "snapshot", row)),
                        )
            return
        side, phase, snapshot = w.direct
        row = w.rows[side]
        if phase == "wrote":
            yield "the writer commits", self._committed(w, side, WROTE, acknowledged=True, direct=None)
        elif phase == "snapshot":
            if self.rules.old_snapshot_locks_row and row != snapshot:
                yield "the writer's snapshot is too old", w._replace(direct=None)
            else:
                yield from self._guarded(w, side, snapshot)
        elif phase == "read":
            yield from self._guarded(w, side, snapshot)
        else:
            yield from self._guarded(w, side, row)
        yield "the writer dies", w._replace(direct=None)

    def _guarded(self, w: World, side: int, row: Row) -> Iterator[Step]:
        admitted = model.guard_admits(row.state, lock_free=True)
        if row.state == "standby" and not self.rules.standby_refuses:
            admitted = True
        if admitted:
            yield f"the writer writes at the {SIDES[side]}", w._replace(direct=(side, "wrote", row))
        else:
            yield f"the writer is refused at the {SIDES[side]}", w._replace(direct=None)

    # -- crashes -----------------------------------------------------------------------------------------------------

    def _crashes(self, w: World) -> Iterator[Step]:
        for side in (0, 1):
            lost = w._replace(
                rows=put(w.rows, side, w.durable[side]),
                request=None if w.request == side else w.request,
                direct=None if w.direct and w.direct[0] == side else w.direct,
                crashes=w.crashes - 1,
            )
            yield f"the {SIDES[side]}'s database is killed and comes back", lost
        if self.bounds.requests:
            held = None if w.request == "held" else w.request
            yield (
                "the fence server is killed and comes back",
                w._replace(views=(None, None), hold=None, request=held, crashes=w.crashes - 1),
            )


def check(w: World) -> None:
    """The invariants that speak of one world.

    Raises:
        Violation: the first that does not hold.
    """
    monolith, service = w.rows
    if monolith.state in ACCEPTING and service.state in ACCEPTING:
        raise Violation("I1 both databases accept direct writes")
    if wrong := model.inconsistent(monolith, service):
        raise Violation(f"I4 {wrong}")
    for mine, other in ((0, 1), (1, 0)):
        row, peer = w.rows[mine], w.rows[other]
        if row.state in ("owner", "intent", "fenced") and peer.state not in ("ceded", "standby"):
            raise Violation(f"I4 the {SIDES[mine]} owns though the {SIDES[other]} has not ceded")
        if row.state in ("owner", "intent", "fenced") and w.acked & ~w.data[mine]:
            raise Violation(f"I2 an acknowledged write is not in the {SIDES[mine]}'s rows, which owns")
        if row.state == "ceded":
            if peer.state in ("ceded", "standby") and row.epoch > peer.epoch and w.acked & ~w.data[mine]:
                raise Violation("I2 an acknowledged write is in no owner's rows")
            marker = (MARKER, int(row.nonce or 0))
            stream = w.streams[mine]
            if marker not in stream and row.epoch > peer.epoch:
                raise Violation("I3 ceded without a marker behind the fence")
            if marker in stream and any(
                kind == WROTE and n < w.writes and (w.acked >> n) & 1
                for kind, n in _before_activation(stream[stream.index(marker) + 1 :])
            ):
                raise Violation("I3 a write was committed behind the fence's marker")


def _before_activation(stream: tuple[Entry, ...]) -> Iterator[Entry]:
    for entry in stream:
        if entry[0] == ACTIVATED:
            return
        yield entry


def settled(w: World, bounds: Bounds) -> bool:
    """One side owns, no cut-over is under way, and the façade leads there."""
    owner = model.owner_of(*w.rows)
    if owner is None or model.under_way(*w.rows) is not None:
        return False
    if not bounds.requests:
        return True
    _, opens = judged(w.views, w.hold is not None)
    return bool(opens == SIDES.index(owner))


@dataclass
class Explored:
    """What an exploration found; ``trace`` leads to the first violation, by the shortest way."""

    worlds: int
    complete: bool
    violation: str | None = None
    trace: tuple[str, ...] = ()


def explore(bounds: Bounds, rules: Rules | None = None, *, most: int = 2_000_000, reach: bool = False) -> Explored:
    """Breadth first through every world; with ``reach`` also I8: a settled world can be reached from each."""
    machine = Machine(bounds, rules)
    start = begin(bounds)
    came: dict[World, tuple[World, str] | None] = {start: None}
    back: dict[World, list[World]] = {}
    queue = deque([start])
    while queue:
        world = queue.popleft()
        try:
            steps = list(machine.steps(world))
        except Violation as violation:
            return Explored(len(came), False, str(violation), _trace(came, world))
        for label, after in steps:
            if reach:
                back.setdefault(after, []).append(world)
            if after not in came:
                came[after] = (world, label)
                try:
                    check(after)
                except Violation as violation:
                    return Explored(len(came), False, str(violation), _trace(came, after))
                queue.append(after)
        if len(came) > most:
            return Explored(len(came), False)
    if reach:
        stuck = _stuck(came, back, bounds)
        if stuck is not None:
            return Explored(len(came), True, "I8 no settled state can be reached any more", _trace(came, stuck))
    return Explored(len(came), True)


def _stuck(came: dict[World, Any], back: dict[World, list[World]], bounds: Bounds) -> World | None:
    """The first world found from which no settled one can be reached."""
    good = {world for world in came if settled(world, bounds)}
    queue = deque(good)
    while queue:
        for before in back.get(queue.popleft(), ()):
            if before not in good:
                good.add(before)
                queue.append(before)
    return next((world for world in came if world not in good), None)


def _trace(came: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    labels: list[str] = []
    at: World | None = world
    while at is not None and (step := came[at]) is not None:
        labels.append(step[1])
        at = step[0]
    return tuple(reversed(labels))


def without(*names: str) -> Rules:
    """The rules but for these."""
    return replace(Rules(), **dict.fromkeys(names, False))
