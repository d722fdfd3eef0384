"""One cut-over as it is asked for, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stranglerfig.changes.model import Direction
from stranglerfig.databases.model import Side
from stranglerfig.extraction.model import CutoverDirection
from stranglerfig.extraction.ports import HoldStats

MARGIN = 1000
"""How far above the loser's values a sequence goes on, besides what sessions may have cached."""


@dataclass(frozen=True, slots=True)
class SequencePair:
    """A sequence and the one that takes its place on the other side (``schema.sequence``)."""

    monolith: str
    service: str


@dataclass(frozen=True, slots=True)
class CutoverPlan:
    """One cut-over of one context.

    Attributes:
        direction: ``forward``, the service wins; ``back``, the monolith wins.
        monolith_tables, service_tables: the context's tables on either side, as they are now.
        budget: seconds that requests may be held before the cut-over gives up.
        drain: seconds of the budget that open transactions get to end.
        max_lag: seconds that the stream into W may be behind when the cut-over begins.
        canary: seconds that a marker may take to go the way round, once in each direction.
        sequences: pairs whose values must never be given out twice.
        margin: how far beyond the loser's value the winner's sequence is set, besides what sessions may have cached.
        shared: whether writers stay in the monolith: its guards refuse nobody, whoever owns.
        made_with: what is kept beside the ownership, see ``extraction.made``.
        takeover: seconds after which a controller that holds the lock and does nothing counts as stopped.
    """

    context: str
    direction: CutoverDirection
    monolith_dsn: str
    service_dsn: str
    monolith_tables: tuple[str, ...]
    service_tables: tuple[str, ...]
    budget: float = 2.0
    drain: float = 1.0
    max_lag: float = 1.0
    canary: float = 10.0
    sequences: tuple[SequencePair, ...] = ()
    margin: int = MARGIN
    shared: bool = False
    made_with: Mapping[str, Any] = field(default_factory=dict)
    takeover: float = 10.0

    @property
    def loser(self) -> Side:
        """The side that loses the ownership."""
        return "monolith" if self.direction == "forward" else "service"

    @property
    def winner(self) -> Side:
        """The side that wins it."""
        return "service" if self.direction == "forward" else "monolith"

    @property
    def stream(self) -> Direction:
        """The direction of the changes from L to W."""
        return Direction.FORWARD if self.direction == "forward" else Direction.REVERSE

    def dsn(self, side: Side) -> str:
        """Where a side's database is."""
        return self.monolith_dsn if side == "monolith" else self.service_dsn

    def tables(self, side: Side) -> tuple[str, ...]:
        """A side's tables."""
        return self.monolith_tables if side == "monolith" else self.service_tables


@dataclass(frozen=True, slots=True)
class CutoverResult:
    """A cut-over that has been made; ``duration_ms`` is from the intent to the activation, ``steps`` in ms."""

    direction: CutoverDirection
    epoch: int
    duration_ms: float
    hold: HoldStats
    steps: Mapping[str, float]

    def _commands(self) -> dict[str, Any]:
        hold = self.hold
        if not hold.held_commands:
            return {}
        return {
            "held_commands": hold.held_commands,
            "commands_p99_ms": hold.commands_p99_ms,
            "commands_max_ms": hold.commands_max_ms,
        }

    def as_dict(self) -> dict[str, Any]:
        """As ``report.json`` has it."""
        return {
            "direction": self.direction,
            "epoch": self.epoch,
            "held_requests": self.hold.held_requests,
            "hold_p50_ms": self.hold.p50_ms,
            "hold_p99_ms": self.hold.p99_ms,
            "hold_max_ms": self.hold.max_ms,
            "holds_ms": list(self.hold.waits_ms),
            **self._commands(),
            "duration_ms": round(self.duration_ms, 1),
            "steps": {name: round(ms, 2) for name, ms in self.steps.items()},
        }


@dataclass(frozen=True, slots=True)
class Recovery:
    """What recovery found and did; ``owner`` is who owns the writes now."""

    outcome: Literal["nothing", "aborted", "finished"]
    owner: Side
    epoch: int
    direction: CutoverDirection | None = None
