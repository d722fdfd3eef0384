"""What becomes of a change where both sides write: whether its author had seen what is here, and whose change stands.

Each side numbers its changes of a row, and knows the other side's last that it has taken in. A change carries both
numbers (``fig.row_version``); it met a conflict if this side has made changes that it did not know: the row was changed
on both sides since it was last the same. This is operational transformation for two parties (Nichols et al.,
"High-latency, low-bandwidth windowing in the Jupiter collaboration system", UIST 1995), with a row as the thing that is
edited. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from stranglerfig.changes.conflicts import Settlement
from stranglerfig.changes.model import UNCHANGED, Change, Direction, Row
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync.model import Placed, key_places

Key = tuple[str, ...]
Lane = tuple[str, Key]
"""What is counted by itself: a pair (with ``+`` behind it for its counters) and a row's key."""


class Stamp(NamedTuple):
    """A change's version: its number among its side's changes of the row, the last one of the other side's that it was
    made upon, and when it was written (microseconds since 1970; never before what it was made upon)."""

    local: int
    peer: int
    at: int


BEFORE_ALL = Stamp(0, 2**63 - 1, 0)
"""Of a change that was made before versions were counted, when this side had made none: none is unknown to it."""


@dataclass(slots=True)
class Standing:
    """What is known of a row here: :class:`Stamp`'s numbers as this side counts them, and whose change stands."""

    local: int = 0
    peer: int = 0
    at: int = 0
    theirs: bool = False

    def unseen_by(self, stamp: Stamp) -> bool:
        """Whether changes were made here that the author of a change did not know."""
        return self.local > stamp.peer

    def take(self, stamp: Stamp, *, stands: bool) -> None:
        """Note that a change of the other side was taken in; ``stands``: and is what is here now."""
        self.peer = max(self.peer, stamp.local)
        if stands:
            self.at, self.theirs = max(self.at, stamp.at), True


class Outcome(StrEnum):
    """Whose change stands after a conflict."""

    THEIRS = "theirs"
    OURS = "ours"
    ADDED = "added"
    """Only counters met: both differences count."""
    STOPPED = "stopped"


class Effect(NamedTuple):
    """What a transaction leaves of one row of one pair.

    Attributes:
        before, after: the input's whole row; None where there was none, or is none any more.
        value: the version of what is not counted, None when only counters changed; ``counted``: that of the counters.
        placed: the last change of the row, by whose place it is parked.
    """

    pair: str
    key: Key
    before: Row | None
    after: Row | None
    value: Stamp | None
    counted: Stamp | None
    placed: Placed

    @property
    def lives(self) -> bool:
        """Whether the row is there before and after."""
        return self.before is not None and self.after is not None


class Judgement(NamedTuple):
    """What is done with an effect: whether its values are put in place (its counters' differences always are, where the
    row goes on), and what the conflict came to; None: there was none."""

    put: bool
    outcome: Outcome | None


_NO_CHANGE = Stamp(0, 0, 0)


def judge(
    settlement: Settlement, direction: Direction, effect: Effect, value: Standing, count: Standing, *, there: bool
) -> Judgement:
    """Decide about ``effect``, a change that came in ``direction``.

    Args:
        settlement: the pair's rules.
        value, count: what is known here of the row's values and of its counters.
        there: whether the row is there.
    """
    met = effect.value is not None and value.unseen_by(effect.value)
    counted = effect.counted is not None and count.unseen_by(effect.counted)
    if not met and not counted:
        return Judgement(effect.value is not None, None)
    if not settlement.existence and not (effect.lives and there):
        return Judgement(False, Outcome.STOPPED)
    if not met:
        return Judgement(effect.value is not None, Outcome.ADDED)
    if settlement.rule is None:
        return Judgement(False, Outcome.STOPPED)
    stamp = effect.value or _NO_CHANGE
    monolith = direction is Direction.FORWARD
    if settlement.rule == "later commit wins":
        # Two at the same microsecond: the service's. What stands may be a change of the incoming side already.
        wins = (stamp.at, not monolith) > (value.at, not monolith if value.theirs else monolith)
    else:
        wins = monolith == (settlement.rule == "monolith wins")
    return Judgement(wins, Outcome.THEIRS if wins else Outcome.OURS)


@dataclass(slots=True)
class _Net:
    before: Row | None
    after: Row | None
    placed: Placed

    @property
    def lives(self) -> bool:
        """Whether the row is there before and after."""
        return self.before is not None and self.after is not None


def net_rows(changes: Iterable[Placed], key: Sequence[str], needs: Iterable[str]) -> dict[Key, _Net]:
    """What a transaction leaves of each row of one table; a changed key is a row gone and a row made.

    Args:
        changes: its changes of that table, in order.
        key: the names of the key's columns.
        needs: the columns that must be known, before and after.

    Raises:
        FigError: ``old_row_needed`` when the source did not send the old row.
    """
    found: dict[Key, _Net] = {}
    wanted = tuple(needs)
    for placed in changes:
        change = placed.change
        places = key_places(change.relation, tuple(key))
        known = key_places(change.relation, wanted)
        before = change.before if change.op != "c" else None
        if change.op != "c" and (before is None or any(before[i] is UNCHANGED for i in known)):
            raise old_row_needed(change)
        after = change.after
        if after is not None and before is not None:
            after = tuple(b if a is UNCHANGED else a for a, b in zip(after, before, strict=True))
        old = _key(before, places) if before is not None else None
        new = _key(after, places) if after is not None else None
        if old is not None and old != new:
            first = found.get(old)
            found[old] = _Net(first.before if first else before, None, placed)
        if new is not None:
            first = found.get(new)
            found[new] = _Net(first.before if first else before if old == new else None, after, placed)
    return found


def _key(row: Row, places: Sequence[int]) -> Key:
    return tuple(str(row[i]) for i in places)


def old_row_needed(change: Change) -> FigError:
    """The source's table does not send old rows."""
    table = change.relation.qualified
    return FigError(
        "old_row_needed",
        f"{table} did not send the old row of a change, which tells what both sides changed",
        f"Run ALTER TABLE {table} REPLICA IDENTITY FULL at the source; leave this change out, and compare.",
        table=table,
    )


def changed(net: _Net, places: Sequence[int]) -> bool:
    """Whether anything among ``places`` is not what it was."""
    before, after = net.before, net.after
    if before is None or after is None:
        return before is not after
    return any(before[i] != after[i] for i in places)


def unversioned(table: str) -> FigError:
    """A row changed without saying its version."""
    return FigError(
        "change_without_version",
        f"a change of {table} does not say its version: it was written past the trigger that gives one",
        "Find out who disables triggers there; leave this change out, then let fig verify name what differs.",
        table=table,
    )


_BARRED = "Until then there is no way back: fig rollback and fig abort are refused."

_LEFT_OUT = (
    "Leave the change out (fig sync skip) in both directions, and only then write the row once, on the side that is not"
    " as it should be; where counters differ, or one side has no such row, DELETE it in one transaction where it is and"
    f" INSERT it, whole, in another. {_BARRED}"
)


def no_rule(effect: Effect, settlement: Settlement, table: str) -> FigError:
    """A conflict that no rule settles. What is left out counts as seen, so that what one side writes then is the only
    change, which the other takes; a write before that would be one more that the other side has not seen."""
    row = ", ".join(effect.key)
    if settlement.rule is None and (settlement.existence or effect.lives):
        why = "no rule says whose change stands"
        remedy = "Give the entry a rule under conflicts in extraction.yaml and fig sync retry in both directions. Or: "
    else:
        why = (
            "one of the changes made or removed the row, which no rule settles where counters or several tables make it"
        )
        remedy = ""
    return FigError(
        "conflict",
        f"row {row} of {table} was changed on both sides: {why}",
        remedy + _LEFT_OUT,
        pair=effect.pair,
        key=list(effect.key),
    )


_SHORTLY = 50.0
_AT_MOST = 2000.0
_LONG = 10.0


def patience(busy: int, kept_out: float, deadlock: float) -> float:
    """How long to wait for a row that a writer holds, in milliseconds; longer each time.

    Below ``deadlock``, what a server waits before it looks for a deadlock (milliseconds), so that of two that wait for
    each other sync gives up, and not the application; until sync has been kept out for long.

    Args:
        busy: how often it was in vain so far.
        kept_out: for how many seconds.
        deadlock: the server's ``deadlock_timeout``.
    """
    if kept_out >= _LONG:
        return max(_AT_MOST, deadlock)
    return max(5.0, min(min(_SHORTLY, deadlock / 5) * 2.0 ** min(busy, 20), 0.9 * deadlock, _AT_MOST))


def row_missing(table: str, key: Key) -> FigError:
    """A change of a row that is not here. To put it here would be a change that the other side has not seen."""
    return FigError(
        "row_missing",
        f"row {', '.join(key)} of {table} is not there, so it cannot be changed",
        "Leave the change out (fig sync skip); then, on the other side, DELETE the row in one transaction and INSERT"
        f" it, whole, in another. {_BARRED}",
        table=table,
        key=list(key),
    )


__all__ = [
    "BEFORE_ALL",
    "Effect",
    "Judgement",
    "Outcome",
    "Stamp",
    "Standing",
    "changed",
    "judge",
    "net_rows",
    "no_rule",
    "old_row_needed",
    "patience",
    "row_missing",
    "unversioned",
]
