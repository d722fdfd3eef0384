"""What the fence server may do, given what it has seen of the two ownership rows: open toward an owner, or hold.

Pure. The rule that matters: it opens only toward an owner whose row it read after the hold began.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from stranglerfig.databases.model import Ownership, Side, State

FRESH = 1.0
"""Seconds for which what was read counts as seen; what is older counts as unreadable."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An ownership row as it was read; ``began`` is the monotonic second at which the reading began."""

    row: Ownership | None
    began: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What two rows mean.

    Attributes:
        kind: ``open`` toward ``side``; ``hold``, a cut-over from ``side`` is under way; ``blind``, nothing can be said.
        epoch: the epoch of the row that decided.
        state: the state of the row that decided.
        began: when that row was read (monotonic seconds).
    """

    kind: Literal["open", "hold", "blind"]
    side: Side | None = None
    epoch: int = -1
    state: State | None = None
    began: float = -math.inf


BLIND = Judgement("blind")


def judge(monolith: Seen | None, service: Seen | None, now: float) -> Judgement:
    """What the rows say at ``now``; what was read more than ``FRESH`` seconds ago says nothing."""
    read = [(seen.row, seen.began) for seen in (monolith, service) if seen and seen.row and now - seen.began <= FRESH]

    def verdict(kind: Literal["open", "hold"], row: Ownership, began: float) -> Judgement:
        return Judgement(kind, row.side, row.epoch, row.state, began)

    for row, began in read:
        if row.state in ("intent", "fenced"):
            return verdict("hold", row, began)
    top = max((row.epoch for row, _ in read), default=-1)
    owners = [(row, began) for row, began in read if row.state == "owner"]
    # Two rows are read at two instants: an owner below the other's epoch is a picture of before.
    if len(owners) == 1 and owners[0][0].epoch == top:
        return verdict("open", *owners[0])
    if len(owners) == 1 and all(row.state == "standby" for row, _ in read if row is not owners[0][0]):
        return verdict("open", *owners[0])
    ceded = [(row, began) for row, began in read if row.state == "ceded" and row.epoch == top]
    if ceded or owners:
        return verdict("hold", *(ceded or owners)[0])
    return BLIND


def may_open(judgement: Judgement, hold_began: float | None) -> bool:
    """Whether requests may go toward ``judgement.side``: an owner, seen since the hold began (None: no hold)."""
    return judgement.kind == "open" and (hold_began is None or judgement.began > hold_began)


Overdue = Literal["wait", "abort", "refuse"]


def overdue(judgement: Judgement, waited: float, budget: float, patience: float) -> Overdue:
    """What becomes of a request that has waited ``waited`` seconds.

    Over ``budget``: a cut-over that can be given up is given up; when nothing can be seen the request is refused.
    After the point of no return there is only forward: it waits on, up to ``patience`` seconds.
    """
    if waited < budget:
        return "wait"
    if judgement.kind == "blind" or waited >= patience:
        return "refuse"
    if judgement.kind == "hold" and judgement.state in ("intent", "fenced"):
        return "abort"
    return "wait"


KEPT_WAITS = 1000


@dataclass(frozen=True)
class HoldReport:
    """One hold, after it has ended: waits in milliseconds; ``began`` is wall time, seconds since 1970.

    ``refused`` are the requests that were answered 503; ``given_up`` says that the fence server ended the cut-over
    because its budget was over.
    ``waits_ms`` are the waits themselves, at most ``KEPT_WAITS`` of them, evenly picked from the sorted ones.
    """

    context: str
    epoch: int
    began: float
    seconds: float
    target: Side
    held_requests: int
    refused: int
    hold_p50_ms: float
    hold_p99_ms: float
    hold_max_ms: float
    given_up: bool = False
    waits_ms: Sequence[float] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def report(
    context: str,
    *,
    epoch: int,
    began: float,
    seconds: float,
    target: Side,
    waits: Sequence[float],
    refused: int,
    given_up: bool,
) -> HoldReport:
    """The report of a hold from the ``waits`` (seconds) of the requests that it let go."""
    ordered = sorted(waits)
    return HoldReport(
        context,
        epoch,
        began=round(began, 3),
        seconds=round(seconds, 4),
        target=target,
        held_requests=len(ordered),
        refused=refused,
        hold_p50_ms=round(quantile(ordered, 0.5) * 1000, 2),
        hold_p99_ms=round(quantile(ordered, 0.99) * 1000, 2),
        hold_max_ms=round(quantile(ordered, 1.0) * 1000, 2),
        given_up=given_up,
        waits_ms=[round(wait * 1000, 1) for wait in ordered[:: max(1, -(-len(ordered) // KEPT_WAITS))]],
    )


def quantile(ordered: Sequence[float], q: float) -> float:
    """The nearest-rank quantile of sorted values; 0 when there are none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
