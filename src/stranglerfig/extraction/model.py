"""The cut-over of writes as pure decisions: which transition is legal, and what whoever holds the protocol does next.

The controller, recovery and the exhaustive test all decide by these functions. The compare-and-sets themselves are SQL
(``databases/transitions.sql``); the predicates here say the same and are held against it by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from stranglerfig.databases.model import Side, State

CutoverDirection = Literal["forward", "back"]
"""Which way the ownership of writes moves: to the service, or back to the monolith."""


class Row(NamedTuple):
    """An ownership row as a participant knows it; ``nonce`` is that of the fence."""

    state: State
    epoch: int
    nonce: str | None = None


class Action(StrEnum):
    """What to do next. The first eight are the steps of the protocol, in their order."""

    INTEND = "intend"
    HOLD = "hold"
    FENCE = "fence"
    MARK = "mark"
    PROVE = "prove"
    CEDE = "cede"
    ACTIVATE = "activate"
    RELEASE = "release"
    ABORT = "abort"
    DONE = "done"
    LOST = "lost"


STEPS = tuple(Action)[:8]


@dataclass(frozen=True, slots=True)
class Observation:
    """What a participant knows when it decides.

    Attributes:
        loser: the row of L, the side that loses the ownership, as last read or written.
        winner: the row of W.
        epoch: the epoch of the cut-over that this participant itself has begun; None when it has begun none.
        nonce: the nonce it gave to the fence; None before.
        holding: the façade has confirmed the hold for this epoch, with no write in flight.
        marked: the fence's marker is in L's change stream.
        proved: W has applied the marker, and both sides were proved equal.
        giving_up: the budget is over, or a step failed.
        released: the façade's steady routes lead to the owner.
        wanted: whether a cut-over is asked for (recovery asks for none).
    """

    loser: Row
    winner: Row
    epoch: int | None = None
    nonce: str | None = None
    holding: bool = False
    marked: bool = False
    proved: bool = False
    giving_up: bool = False
    released: bool = False
    wanted: bool = True


def next_action(seen: Observation) -> Action:
    """The next step; total: every pair of rows has one.

    ``LOST`` means that another participant acted on this cut-over: read the rows again and begin anew from them.
    """
    loser, winner = seen.loser, seen.winner
    if loser.state == "ceded":
        # Past the point of no return there is only forward, whoever is looking.
        if may_activate(loser, winner, loser.epoch):
            return Action.ACTIVATE
        return Action.DONE if seen.released else Action.RELEASE
    if seen.epoch is not None and loser.epoch != seen.epoch:
        return Action.LOST
    if loser.state == "owner":
        if seen.epoch is not None:
            return Action.LOST
        return Action.INTEND if seen.wanted else Action.DONE
    if loser.state == "standby":
        return Action.LOST
    if seen.epoch is None or seen.giving_up:
        return Action.ABORT
    if loser.state == "intent":
        return Action.FENCE if seen.holding else Action.HOLD
    if loser.nonce != seen.nonce:
        return Action.LOST
    if not seen.marked:
        return Action.MARK
    return Action.CEDE if seen.proved else Action.PROVE


def next_epoch(loser: Row, winner: Row) -> int:
    """The epoch of a new cut-over: above every one that either side has taken part in."""
    return max(loser.epoch, winner.epoch) + 1


def may_intend(loser: Row, epoch: int) -> bool:
    """L: ``owner → intent(epoch)``."""
    return loser.state == "owner" and loser.epoch < epoch


def may_fence(loser: Row, epoch: int, *, drained: bool, enforcing: bool = True) -> bool:
    """L: ``intent(epoch) → fenced(epoch, nonce)``, when no transaction that has written is open."""
    return loser.state == "intent" and loser.epoch == epoch and drained and enforcing


def may_mark(loser: Row, epoch: int, nonce: str | None) -> bool:
    """L: the marker of this fence may be written; checked in the transaction that writes it."""
    return loser == Row("fenced", epoch, nonce)


def may_cede(loser: Row, epoch: int, nonce: str | None) -> bool:
    """L: ``fenced(epoch, nonce) → ceded(epoch)``."""
    return loser == Row("fenced", epoch, nonce)


def may_activate(loser: Row, winner: Row, epoch: int, *, applied: bool = True) -> bool:
    """W: ``standby`` or an older ``ceded`` → ``owner(epoch)``, when L was read to have ceded this epoch and the
    nonce of its fence is applied here."""
    return (
        loser.state == "ceded"
        and loser.epoch == epoch
        and winner.state in ("standby", "ceded")
        and winner.epoch < epoch
        and applied
    )


def may_abort(loser: Row, epoch: int) -> bool:
    """L: ``intent(epoch)`` or ``fenced(epoch) → owner(epoch)``."""
    return loser.state in ("intent", "fenced") and loser.epoch == epoch


def guard_admits(state: State, *, lock_free: bool) -> bool:
    """Whether a guard lets a direct write pass, given the shared lock and the row it reads after it."""
    return lock_free and state in ("owner", "intent")


def owner_of(monolith: Row, service: Row) -> Side | None:
    """Who owns the writes by two rows; None between the cede and the activation, and while nobody ever owned."""
    rows: dict[Side, Row] = {"monolith": monolith, "service": service}
    holders: list[Side] = [side for side, row in rows.items() if row.state in ("owner", "intent", "fenced")]
    return max(holders, key=lambda side: rows[side].epoch, default=None)


def under_way(monolith: Row, service: Row) -> CutoverDirection | None:
    """The direction of a cut-over that has been begun and not ended, by two rows."""
    if monolith.state in ("intent", "fenced"):
        return "forward"
    if service.state in ("intent", "fenced"):
        return "back"
    if monolith.state == "ceded" and may_activate(monolith, service, monolith.epoch):
        return "forward"
    if service.state == "ceded" and may_activate(service, monolith, service.epoch):
        return "back"
    return None


def inconsistent(monolith: Row, service: Row) -> str | None:
    """What two rows may never say, in words; None when they agree (I1, I4)."""
    accepting = [row for row in (monolith, service) if row.state in ("owner", "intent")]
    if len(accepting) == 2:
        return "both sides accept writes"
    for mine, other in ((monolith, service), (service, monolith)):
        if mine.state == "owner" and other.state == "ceded" and other.epoch > mine.epoch:
            return "a side owns at an epoch below the one that was ceded to it"
    return None
