"""Events and where they stand in the log: pure data, the attributes of CloudEvents 1.0."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Event:
    """One immutable fact: CloudEvents 1.0 attributes and the data, verbatim.

    Attributes:
        id: unique within ``source``; a second append of the same id to a topic is the same event.
        source: who says so, a URI reference such as ``/shop/inventory``.
        type: ``inventory.StockAdjusted``.
        time: when it happened, aware.
        data: the bytes of the data in ``datacontenttype``.
        subject: what it is about within the source, such as an item's id.
        partitionkey: events of one key keep their order.
    """

    id: str
    source: str
    type: str
    time: datetime
    data: bytes
    datacontenttype: str = "application/json"
    subject: str | None = None
    dataschema: str | None = None
    partitionkey: str | None = None
    traceparent: str | None = None
    correlationid: str | None = None
    causationid: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """An event at its place: ``position`` is its log position in the topic's partition, from 0, without gaps."""

    topic: str
    partition: int
    position: int
    event: Event
    appended_at: datetime


class Capability(StrEnum):
    """What a backend may be able to do; asking for what it lacks is refused at configuration."""

    ORDERED_PER_KEY = "ordered per key"
    REPLAY_FROM_POSITION = "replay from position"
    REPLAY_FROM_TIME = "replay from time"
    CONSUMER_GROUPS = "consumer groups"
    TRANSACTIONS = "transactions"
    IDEMPOTENT_APPEND = "idempotent append"
    RETENTION = "retention"
    COMPACTION = "compaction"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend declares; ``max_event_bytes`` bounds the data of one event."""

    has: frozenset[Capability]
    max_event_bytes: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it stands: ``next_positions`` has one entry per partition (where the next append goes)."""

    name: str
    partitions: int
    retention_seconds: float | None = None
    next_positions: tuple[int, ...] = field(default=())
