"""The cut-over of writes: ownership moves from L, the side that loses it, to W, the side that wins it.

What is done next is decided by ``model.next_action``; this is the shell that does it. Correctness rests on the
ownership rows' compare-and-sets alone: the journal records, the advisory lock keeps honest controllers apart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final, Literal

import psycopg

from stranglerfig.databases import model as databases
from stranglerfig.databases import sides
from stranglerfig.databases.model import Ownership, Side
from stranglerfig.databases.side import SideSession
from stranglerfig.extraction import model, rehearsal
from stranglerfig.extraction.cutover_plan import CutoverPlan, CutoverResult, Recovery, SequencePair
from stranglerfig.extraction.model import Action, Observation, Row
from stranglerfig.extraction.ports import Entry, Phase, Ports, Progress
from stranglerfig.foundation import clock, ids, tasks
from stranglerfig.foundation.errors import FigError

__all__ = [
    "KILL_POINTS",
    "CutoverPlan",
    "CutoverResult",
    "Ports",
    "Recovery",
    "SequencePair",
    "cut_over",
    "recover",
    "rehearse",
]

log = logging.getLogger(__name__)

KILL_POINTS: Final = tuple(f"{phase}:{step}" for step in model.STEPS for phase in ("before", "after"))
"""Where a fault test may kill a cut-over: around each journalled step (``after`` is before its journal entry)."""


async def _silent(_: str, __: Mapping[str, Any]) -> None:
    """Progress that nobody follows."""


def _no_kill(_: str) -> None:
    """The kill point outside fault tests."""


async def cut_over(
    plan: CutoverPlan,
    ports: Ports,
    *,
    progress: Progress = _silent,
    kill_point: Callable[[str], None] = _no_kill,
) -> CutoverResult:
    """Move the ownership of writes. What an earlier attempt left is finished or undone first.

    Raises:
        FigError: ``already_owner``; ``cutover_under_way`` when another controller is at it; what the rehearsal refuses
            (nothing has been held then); ``cutover_aborted`` when it was given up and L owns again (``cause`` in the
            context); ``cutover_overtaken`` when another participant acted; ``cutover_undecided`` when a database went
            away: recovery decides once it is back.
    """
    async with _alone(plan):
        recovered = await _recover(plan, ports, kill_point)
        if recovered.owner == plan.winner:
            raise FigError(
                "already_owner",
                f"the {plan.winner} owns the writes of '{plan.context}' already (epoch {recovered.epoch})",
                "Nothing to do.",
                context=plan.context,
                epoch=recovered.epoch,
            )
        async with _Sessions(plan) as sessions:
            run = _Run(plan, ports, sessions, progress, kill_point)
            await run.rehearse()
            return await run.play()


async def recover(plan: CutoverPlan, ports: Ports, *, kill_point: Callable[[str], None] = _no_kill) -> Recovery:
    """Read the ownership rows and finish or undo what they say is under way, in whichever direction. Idempotent.

    Raises:
        FigError: ``cutover_under_way`` when a controller that is alive is at it, ``not_installed``,
            ``database_unreachable``, ``cutover_undecided``.
    """
    async with _alone(plan):
        return await _recover(plan, ports, kill_point)


async def rehearse(plan: CutoverPlan, ports: Ports, *, progress: Progress = _silent) -> None:
    """Step 0 alone: all that would refuse a cut-over, found without holding anything."""
    async with _Sessions(plan) as sessions:
        await _Run(plan, ports, sessions, progress, _no_kill).rehearse()


class _Sessions:
    """A session into each side, open before anything is held; opened anew when one has gone."""

    def __init__(self, plan: CutoverPlan) -> None:
        self._plan = plan
        self._open: dict[Side, SideSession] = {}

    async def __aenter__(self) -> _Sessions:
        try:
            await self.renew("monolith")
            await self.renew("service")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for conn in self._open.values():
            with suppress(psycopg.Error, OSError):
                await conn.close()

    def __getitem__(self, side: Side) -> SideSession:
        return self._open[side]

    async def renew(self, side: Side) -> None:
        """Open the session of ``side`` unless it is open."""
        conn = self._open.get(side)
        if conn is not None and not conn.lost:
            return
        if conn is not None:
            await conn.close()
        self._open[side] = await sides.connect(self._plan.dsn(side), what=f"cutover:{self._plan.context}")


@asynccontextmanager
async def _alone(plan: CutoverPlan) -> AsyncIterator[None]:
    """One cut-over at a time in the monolith's database, kept by a session that shows that it lives."""
    async with sides.session(plan.monolith_dsn, what="cutover-lock") as conn:
        if not await conn.claim():
            if await conn.take_over(plan.takeover):
                log.warning("a stopped controller's cut-over lock was taken over", extra={"action": "takeover"})
            try:
                await clock.until(conn.claim, timeout=5, what="the lock")
            except FigError:
                raise FigError(
                    "cutover_under_way",
                    "another controller is at work on a cut-over in this database",
                    f"Wait until it has ended; when it is stopped, it is overruled after {plan.takeover:g} s.",
                    context=plan.context,
                ) from None

        async def show_life() -> None:
            while True:
                await asyncio.sleep(min(1.0, plan.takeover / 4))
                await conn.show_life()

        life = tasks.spawn(tasks.supervise(show_life, name="cutover-lock", most=60), name="cutover-lock")
        try:
            yield
        finally:
            await tasks.stop(life)


async def _rows(sessions: _Sessions, context: str) -> dict[Side, Ownership]:
    found: dict[Side, Ownership] = {}
    sides: tuple[Side, ...] = ("monolith", "service")
    for side in sides:
        row = await sessions[side].read(context)
        if row is None:
            raise FigError(
                "not_installed",
                f"the {side}'s database has no ownership row for '{context}'",
                "fig advance installs it when the stage sync begins.",
                context=context,
                side=side,
            )
        found[side] = row
    return found


def _known(row: Ownership) -> Row:
    return Row(row.state, row.epoch, row.nonce)


async def _recover(plan: CutoverPlan, ports: Ports, kill_point: Callable[[str], None]) -> Recovery:
    async with _Sessions(plan) as sessions:
        rows = await _rows(sessions, plan.context)
        direction = model.under_way(_known(rows["monolith"]), _known(rows["service"]))
        if direction is None:
            owner = model.owner_of(_known(rows["monolith"]), _known(rows["service"]))
            if owner is None:
                raise FigError(
                    "no_owner",
                    f"neither database owns the writes of '{plan.context}'",
                    "One of the databases was restored from before a cut-over; see fig explain no_owner.",
                    rows={side: row.as_dict() for side, row in rows.items()},
                )
            return Recovery("nothing", owner, rows[owner].epoch)
        towards = replace(plan, direction=direction)
        return await _Run(towards, ports, sessions, _silent, kill_point).settle()


class _Run:
    """One participant's way through the protocol; what it knows is in ``seen``."""

    def __init__(
        self,
        plan: CutoverPlan,
        ports: Ports,
        sessions: _Sessions,
        progress: Progress,
        kill_point: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self.ports = ports
        self.sessions = sessions
        self.progress = progress
        self.kill_point = kill_point
        self.seen = Observation(Row("standby", 0), Row("standby", 0))
        self.cause: FigError | None = None
        self.timings: dict[str, float] = {}
        self._unwritten: list[Entry] = []
        self._intended = 0.0
        self._activated = 0.0
        self._held_since: float | None = None
        self._attempts = 0

    # -- step 0 ------------------------------------------------------------------------------------------------------

    async def rehearse(self) -> None:
        """Everything that would go wrong, found while nobody waits."""
        plan = self.plan
        await self.progress(f"rehearsing the cut-over to the {plan.winner}", {})
        rows = await self._read()
        if rows[plan.loser].state != "owner":
            raise self._overtaken()
        await rehearsal.rehearse(plan, self.ports, self.loser, self.winner)

    # -- steps 1 to 8 ------------------------------------------------------------------------------------------------

    async def play(self) -> CutoverResult:
        """The cut-over itself, until W owns and the façade leads there."""
        await self._read()
        while True:
            action = model.next_action(self.seen)
            if action is Action.DONE:
                break
            if action is Action.LOST:
                raise await self._give_way()
            if action is Action.ABORT:
                if await self._abort():
                    raise self._aborted()
                continue
            await self._attempt(action)
        plan, epoch = self.plan, self.seen.winner.epoch
        await self._write_journal()
        hold = await self.ports.facade.holds(plan.context, epoch)
        duration = (self._activated - self._intended) * 1000
        await self.progress(f"the {plan.winner} owns the writes, epoch {epoch}", {"duration_ms": duration})
        return CutoverResult(plan.direction, epoch, duration, hold, self.timings)

    async def settle(self) -> Recovery:
        """Finish or undo what the rows say is under way: recovery has begun no epoch of its own."""
        self.seen = replace(self.seen, wanted=False)
        await self._read()
        outcome: Literal["aborted", "finished"] = "finished"
        while (action := model.next_action(self.seen)) is not Action.DONE:
            if action is Action.ABORT:
                if await self._abort():
                    outcome = "aborted"
                    break
                continue
            if action is Action.LOST:
                raise self._overtaken()
            await self._attempt(action)
        await self._write_journal()
        plan = self.plan
        owner, row = (plan.winner, self.seen.winner) if outcome == "finished" else (plan.loser, self.seen.loser)
        return Recovery(outcome, owner, row.epoch, plan.direction)

    async def _attempt(self, action: Action) -> None:
        """One step. A failure before the point of no return gives up; a lost answer reads the rows again."""
        begun = clock.monotonic()
        try:
            await self._journalled(action)
        except FigError as error:
            await self._failed(action, error)
        except Exception as error:  # whatever it was, requests are waiting: give up or go on
            log.warning("%s failed", action, exc_info=error, extra={"action": "cutover_step_failed"})
            await self._failed(action, FigError("step_failed", f"{action} failed: {error}", "Try again.", step=action))
        self.timings[str(action)] = (clock.monotonic() - begun) * 1000

    async def _journalled(self, action: Action) -> None:
        step = {
            Action.INTEND: self._intend,
            Action.HOLD: self._hold,
            Action.FENCE: self._fence,
            Action.MARK: self._mark,
            Action.PROVE: self._prove,
            Action.CEDE: self._cede,
            Action.ACTIVATE: self._activate,
            Action.RELEASE: self._release,
        }[action]
        self._note(action, "before")
        await self._write_journal()
        self.kill_point(f"before:{action}")
        await step()
        self.kill_point(f"after:{action}")
        # Written with the next step's entry: one commit less while requests are held.
        self._note(action, "after")

    async def _failed(self, action: Action, error: FigError) -> None:
        log.warning("%s: %s", action, error, extra={"action": "cutover_step_failed", "step": str(action)})
        self.cause = self.cause or error
        if action is Action.RELEASE:
            # Ownership is decided; the fence server opens on seeing it. The steady routes are tried again by recovery.
            raise error
        if error.code in ("ownership_changed", "ownership_unknown", "ownership_busy"):
            await self._read_again()
        if action is Action.ACTIVATE and error.code not in ("ownership_changed", "ownership_unknown", "ownership_busy"):
            raise error
        if action is Action.ACTIVATE and self.seen.winner.state != "owner":
            raise self._undecided() from error
        self.seen = replace(self.seen, giving_up=True)

    async def _intend(self) -> None:
        self._intended = clock.monotonic()
        epoch = model.next_epoch(self.seen.loser, self.seen.winner)
        # Known before the commit's answer: when that is lost, the row at this epoch is ours to give up.
        self.seen = replace(self.seen, epoch=epoch)
        row = await self.loser.intend(self.plan.context, epoch=epoch, lock_timeout=self.plan.drain)
        self.seen = replace(self.seen, loser=_known(row))

    async def _hold(self) -> None:
        self._held_since = clock.monotonic()
        await self.ports.facade.close(self.plan.context, self._epoch, timeout=self._left())
        self.seen = replace(self.seen, holding=True)

    async def _fence(self) -> None:
        nonce = ids.nonce()
        self.seen = replace(self.seen, nonce=nonce)
        wait = min(self.plan.drain, self._left())
        row = await self.loser.fence(self.plan.context, epoch=self._epoch, nonce=nonce, lock_timeout=wait)
        self.seen = replace(self.seen, loser=_known(row))

    async def _mark(self) -> None:
        await self.loser.emit_fence_marker(self.plan.context, self.plan.stream, epoch=self._epoch, nonce=self._nonce)
        self.seen = replace(self.seen, marked=True)

    async def _prove(self) -> None:
        plan, left = self.plan, self._left()
        # While the marker travels, the sequences are set: going up, they harm nobody if this is given up.
        begun = clock.monotonic()
        await self._sequences()
        await self.winner.await_marker(plan.context, plan.stream, self._nonce, timeout=left)
        self.timings["marker"] = (clock.monotonic() - begun) * 1000
        try:
            async with asyncio.timeout(self._left()):
                await self.ports.proof.prove(self._nonce)
                connected = await self.ports.flows.connected(plan.stream.opposite)
        except TimeoutError as error:
            raise FigError(
                "budget_exhausted",
                f"the proof took longer than the {plan.budget:g} s that requests may wait",
                "Try again when there are fewer writes, or raise the budget.",
            ) from error
        if not connected:
            raise FigError("stream_not_live", f"the stream back from the {plan.winner} does not run", "See fig status.")
        self._left()
        self.seen = replace(self.seen, proved=True)

    async def _sequences(self) -> None:
        """W's sequences go on above every value that L may have given out, cached ones included."""
        plan = self.plan
        for pair in plan.sequences:
            source, target = (
                (pair.monolith, pair.service) if plan.direction == "forward" else (pair.service, pair.monolith)
            )
            given = await self.loser.last_given(source)
            start = databases.sequence_start(
                None,
                given.last,
                cache=given.cache,
                sessions=given.sessions,
                margin=plan.margin,
                increment=given.increment,
            )
            await self.winner.advance(target, start)

    async def _cede(self) -> None:
        row = await self.loser.cede(self.plan.context, epoch=self._epoch, nonce=self._nonce, lock_timeout=self._left())
        self.seen = replace(self.seen, loser=_known(row))

    async def _activate(self) -> None:
        plan, ceded = self.plan, self.seen.loser
        row = await self.winner.activate(
            plan.context,
            epoch=ceded.epoch,
            nonce=ceded.nonce or "",
            direction=plan.stream,
        )
        self._activated = clock.monotonic()
        self.seen = replace(self.seen, winner=_known(row))

    async def _release(self) -> None:
        await self.ports.facade.steady(self.plan.context, self.plan.winner)
        self.seen = replace(self.seen, released=True)

    # -- giving up -----------------------------------------------------------------------------------------------------

    async def _abort(self) -> bool:
        """L owns again, by compare-and-set; only then is anything led back to it. False: the rows say otherwise."""
        plan, epoch = self.plan, self.seen.loser.epoch
        self._note(Action.ABORT, "before", cause=str(self.cause) if self.cause else "recovery")
        try:
            row = await self.loser.abort(plan.context, epoch=epoch)
        except FigError as error:
            # Given up by another, ceded after all (its answer was lost), or out of reach.
            self._attempts += 1
            if self._attempts == 3:
                raise self._undecided() from error
            await self._read_again()
            return False
        self.seen = replace(self.seen, loser=_known(row))
        self._note(Action.ABORT, "after")
        await self.ports.facade.steady(plan.context, plan.loser)
        await self._write_journal()
        return True

    async def _give_way(self) -> FigError:
        """Another participant acted on our epoch: the fence server gave up for us, or we are the zombie."""
        with suppress(FigError, psycopg.Error, OSError):
            await self._read_again()
        if self.seen.loser.state == "owner" and self.seen.loser.epoch <= self._epoch:
            # Our own attempt was given up by another, or never came to be; and nobody has begun a new one.
            await self.ports.facade.steady(self.plan.context, self.plan.loser)
            await self._write_journal()
            return self._aborted()
        return self._overtaken()

    def _aborted(self) -> FigError:
        cause = self.cause
        plan = self.plan
        return FigError(
            "cutover_aborted",
            f"the cut-over of '{plan.context}' was given up, the {plan.loser} owns the writes as before"
            + (f": {cause.message}" if cause else ""),
            (cause.remedy if cause else "") or "No request has failed. Try again.",
            context=plan.context,
            epoch=self.seen.epoch,
            cause=cause.as_dict() if cause else {"code": "budget_exhausted"},
            steps={name: round(ms, 2) for name, ms in self.timings.items()},
        )

    def _overtaken(self) -> FigError:
        return FigError(
            "cutover_overtaken",
            f"another participant acted on the ownership of '{self.plan.context}' "
            f"(the {self.plan.loser} is {self.seen.loser.state} at epoch {self.seen.loser.epoch})",
            "Nothing is lost. See fig status, then decide whether the cut-over is still wanted.",
            context=self.plan.context,
            loser=self.seen.loser.state,
            epoch=self.seen.loser.epoch,
        )

    def _undecided(self) -> FigError:
        return FigError(
            "cutover_undecided",
            f"a database of '{self.plan.context}' went away during the cut-over; requests wait meanwhile",
            "Nothing is lost. Once both databases answer, recovery finishes or undoes it by the ownership rows.",
            context=self.plan.context,
        )

    @property
    def loser(self) -> SideSession:
        """The session into L."""
        return self.sessions[self.plan.loser]

    @property
    def winner(self) -> SideSession:
        """The session into W."""
        return self.sessions[self.plan.winner]

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def _epoch(self) -> int:
        assert self.seen.epoch is not None
        return self.seen.epoch

    @property
    def _nonce(self) -> str:
        assert self.seen.nonce is not None
        return self.seen.nonce

    def _left(self) -> float:
        """Seconds left of the budget.

        Raises:
            FigError: ``budget_exhausted``.
        """
        begun = self._held_since if self._held_since is not None else clock.monotonic()
        left = self.plan.budget - (clock.monotonic() - begun)
        if left <= 0:
            raise FigError(
                "budget_exhausted",
                f"requests had waited for {self.plan.budget:g} s",
                "Try again when there are fewer writes, or raise the budget (below the clients' own timeouts).",
                budget=self.plan.budget,
            )
        return left

    async def _read(self) -> dict[Side, Ownership]:
        rows = await _rows(self.sessions, self.plan.context)
        self.seen = replace(self.seen, loser=_known(rows[self.plan.loser]), winner=_known(rows[self.plan.winner]))
        return rows

    async def _read_again(self) -> None:
        """Read both rows, over new sessions where the old ones are gone.

        Raises:
            FigError: ``cutover_undecided`` when a database does not answer.
        """
        try:
            for side in (self.plan.loser, self.plan.winner):
                await self.sessions.renew(side)
            await self._read()
        except (FigError, psycopg.Error, OSError) as error:
            raise self._undecided() from error

    # -- journal -------------------------------------------------------------------------------------------------------

    def _note(self, action: Action, phase: Phase, **detail: Any) -> None:
        if action is Action.INTEND:
            epoch = model.next_epoch(self.seen.loser, self.seen.winner) if phase == "before" else self._epoch
        else:
            epoch = self.seen.loser.epoch if self.seen.epoch is None else self.seen.epoch
        detail |= {"loser": self.seen.loser.state, "winner": self.seen.winner.state}
        self._unwritten.append(Entry(self.plan.context, epoch, self.plan.direction, action, phase, detail))

    async def _write_journal(self) -> None:
        if self._unwritten:
            await self.ports.journal.append(self._unwritten)
            self._unwritten = []
