"""Changes and where they stand at their source: what capture writes, and sync and verification read.

A change is a row's change, an event is a business fact: this module knows only the former.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple


class Direction(StrEnum):
    """Which way changes flow: monolith → service, or service → monolith."""

    FORWARD = "forward"
    REVERSE = "reverse"

    @property
    def opposite(self) -> Direction:
        """The other way."""
        return Direction.REVERSE if self is Direction.FORWARD else Direction.FORWARD


class SourcePosition(NamedTuple):
    """A change's place at its source; ordered. Only commit LSNs are monotonic, and many changes share one.

    Attributes:
        lsn: commit LSN of the transaction, as an integer (bytes of WAL); for snapshot chunks the snapshot's LSN.
        ordinal: number of the change in its transaction (or of the chunk in its snapshot), from 1.
    """

    lsn: int
    ordinal: int


class Unchanged:
    """The third state of a value: a TOASTed column that the database did not send. Never null, never a value."""

    _only: Unchanged | None = None

    def __new__(cls) -> Unchanged:
        """The one instance."""
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "UNCHANGED"

    def __reduce__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged()

Value = str | None | Unchanged
Row = tuple[Value, ...]
"""Values in the order of the relation's columns: PostgreSQL's text form verbatim."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the change stream describes it; ``type`` is ``format_type()``'s text, such as ``numeric(10,2)``."""

    name: str
    type: str
    key: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the change stream describes it."""

    schema: str
    name: str
    columns: tuple[Column, ...]

    @property
    def qualified(self) -> str:
        """``schema.name``, as ``extraction.yaml`` writes it."""
        return f"{self.schema}.{self.name}"


Operation = Literal["c", "u", "d", "r", "t"]


class Change(NamedTuple):
    """A row's change.

    Attributes:
        op: ``c`` created, ``u`` updated, ``d`` deleted, ``r`` read by a snapshot, ``t`` truncated (one per table).
        before: what the source sent of the old row: the key alone (other columns UNCHANGED) when the key changed or
            the row was deleted, the whole row under REPLICA IDENTITY FULL, else None.
        after: the new row; None for ``d`` and ``t``.
    """

    op: Operation
    relation: Relation
    before: Row | None
    after: Row | None


TRACE: Final = "traceparent"
"""Prefix of the logical message by which a transaction says to which trace it belongs."""


@dataclass(frozen=True, slots=True)
class Message:
    """A logical message in the change stream (a marker, an activation); ``content`` is JSON text."""

    prefix: str
    content: str


class Transaction(NamedTuple):
    """A transaction, or a part of one that is too large to travel whole.

    Attributes:
        lsn: its commit LSN.
        xid: its id at the source.
        committed_at: microseconds since 1970.
        first: ordinal of the first item here (1 unless an earlier part went before).
        items: changes and messages in order; the n-th has ordinal ``first + n``.
        end: whether the transaction ends with this part.
        trace: the W3C ``traceparent`` of the request that made it, when its author said so: by a transactional
            logical message with the prefix :data:`TRACE`, or in its outbox row.
    """

    lsn: int
    xid: int
    committed_at: int
    first: int
    items: tuple[Change | Message, ...]
    end: bool = True
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Rows of one table as the snapshot read them: COPY text, as PostgreSQL wrote it.

    Attributes:
        lsn: the slot's consistent point; every streamed transaction commits above it.
        ordinal: number of the chunk in the whole snapshot, from 1.
        copy: COPY text format, ``rows`` lines.
    """

    lsn: int
    ordinal: int
    relation: Relation
    rows: int
    copy: bytes


@dataclass(frozen=True, slots=True)
class SnapshotEdge:
    """A snapshot begins or ends. One that begins again (the source's session was lost) has a higher generation."""

    lsn: int
    ordinal: int
    generation: int
    begins: bool
    tables: tuple[str, ...] = field(default=())
    total_rows: int = 0


@dataclass(frozen=True, slots=True)
class Barrier:
    """A point that every partition of a change topic reaches before any goes beyond it.

    It opens in all partitions; in the first one what it is about follows (what may not be split by key); it closes in
    the others (in the first one as well, where it is about nothing). The first partition goes on past the opening once
    the others have arrived there, the others past the closing once the first one has.

    Attributes:
        lsn, ordinal: its place; that of an opening lies before what it is about, that of a closing is that of its last
            item.
        partitions: how many partitions have something before it.
        generation: the snapshot's that it is about; 0 for all else.
    """

    lsn: int
    ordinal: int
    partitions: int
    closes: bool = False
    generation: int = 0

    @property
    def position(self) -> SourcePosition:
        """Its place."""
        return SourcePosition(self.lsn, self.ordinal)

    def reached(self, generation: int, position: SourcePosition) -> bool:
        """Whether a partition that stands at ``position`` has come this far."""
        return generation >= self.generation and position >= self.position


Item = Transaction | SnapshotChunk | SnapshotEdge | Barrier

MARKER: Final = "fig.marker"
ACTIVATED: Final = "fig.activated"
REFUSED: Final = "fig.refused"
HEARTBEAT: Final = "fig.heartbeat"
VERSION: Final = "fig.version"
"""Which change of a row this was, and which of the other side's it knew: written where both sides write."""


def lsn_text(lsn: int) -> str:
    """An LSN as PostgreSQL writes it: ``16/B374D848``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """The inverse of :func:`lsn_text`."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


class Names(NamedTuple):
    """What one direction of one extraction is called in databases and log; derived, never configured."""

    slot: str
    publication: str
    origin: str
    topic: str


def names(context: str, direction: Direction) -> Names:
    """The names of a context's flow. ``origin`` is what sync applies *this direction's* changes under in the target;
    capture of the opposite direction drops what carries it."""
    base = f"fig_{context.replace('-', '_')}_{direction}"
    return Names(base, base, base, f"fig.changes.{context}.{direction}")


def origin_of(origin: str, partition: int) -> str:
    """What a partition's changes are applied under; the first one has the flow's own name."""
    return f"{origin}_p{partition}" if partition else origin


def is_origin_of(name: str, origin: str) -> bool:
    """Whether ``name`` is what some partition of the flow with ``origin`` is applied under."""
    return name == origin or (name.startswith(f"{origin}_p") and name[len(origin) + 2 :].isdecimal())


class Admission(StrEnum):
    """What sync does with its peer's change, given what its own side's ownership row says."""

    APPLY = "apply"
    DISCARD = "discard"
    PARK = "park"


def admit(state: str, epoch: int, activated: int) -> Admission:
    """Whether a peer's change may be applied on a side in ``state`` at ``epoch``.

    ``activated`` is the highest epoch whose activation this stream has carried so far. A side that has ceded takes
    the new owner's changes from its activation on (I6); an owner takes none (I5): they are parked and alarmed.
    """
    if state == "standby":
        return Admission.APPLY
    if state == "ceded":
        return Admission.APPLY if activated >= epoch else Admission.DISCARD
    return Admission.PARK
