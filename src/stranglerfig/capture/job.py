"""What is to be captured, and how often what is done."""

from __future__ import annotations

from dataclasses import dataclass, field

from stranglerfig.capture.debezium import Through
from stranglerfig.changes.model import Direction
from stranglerfig.changes.spread import Spread


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done that cost something; seconds, and bytes of WAL."""

    linger: float = 0.0
    """Between two appends, so that what commits meanwhile travels in one record; markers do not wait."""
    look: float = 1.0
    partitions: float = 5.0
    """Between two looks at how many partitions the topic has."""
    heartbeat: float = 10.0
    acknowledge: float = 5.0
    acknowledge_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class CaptureJob:
    """What to capture.

    Attributes:
        context, direction: whose flow it is; they give the names of slot, publication, topics.
        dsn: the source.
        tables: ``schema.name`` each.
        outbox: the outbox table, whose inserted rows become events of their own topics.
        snapshot: whether to begin with what the tables hold.
        generation: a higher one than before asks to begin anew.
        spread: how transactions are divided over how many partitions of the topic at least; None: they are not, and
            partitions that somebody adds stay empty.
        pace: how often to look, acknowledge and send heartbeats.
        through: the Kafka Connect cluster whose Debezium reads the source; None: we read it ourselves.
    """

    context: str
    direction: Direction
    dsn: str
    tables: tuple[str, ...]
    outbox: str | None = None
    snapshot: bool = True
    generation: int = 1
    spread: Spread | None = None
    pace: Pace = field(default_factory=Pace)
    through: Through | None = None

    @property
    def what(self) -> str:
        """How its sessions name themselves."""
        return f"capture {self.context} {self.direction}"

    def wanted(self, partitions: int) -> Spread:
        """The spread over the ``partitions`` that the topic has."""
        return Spread() if self.spread is None or partitions == 1 else self.spread.over(partitions)

    @property
    def engine(self) -> str:
        """What reads the source."""
        return "native" if self.through is None else "debezium"

    @property
    def published(self) -> tuple[str, ...]:
        """The publication's tables."""
        return (*self.tables, *([self.outbox] if self.outbox else []))
