"""Events and where they stand in the log: pure data, the attributes of CloudEvents 1.0."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Final, NamedTuple, TypeVar

from stranglerfig.foundation.errors import FigError

T = TypeVar("T")

MAX_EVENT_BYTES: Final = 64 * 1024 * 1024

LEASE: Final = 6.0
"""Seconds after which a group's member that is not heard of loses its partitions, unless it says otherwise: the least
that a Kafka broker takes which was not told otherwise (``group.min.session.timeout.ms``)."""


class Event(NamedTuple):
    """One immutable fact: CloudEvents 1.0 attributes and the data, verbatim.

    A tuple, because hundreds of thousands a second are made: a frozen dataclass takes seven times as long.

    Attributes:
        id: unique within ``source``; a second append of the same id to a topic is the same event.
        source: who says so, a URI reference such as ``/shop/inventory``.
        type: ``inventory.StockAdjusted``.
        time: when it happened, aware.
        data: the bytes of the data in ``datacontenttype``.
        subject: what it is about within the source, such as an item's id.
        partitionkey: events of one key keep their order.
        tenantid: whose it is, where several customers share a service or a log.
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
    tenantid: str | None = None


class Record(NamedTuple):
    """An event at its place: ``position`` is its log position, which grows along the topic's partition.

    The next record's position is above it, by how much is the backend's affair (one, in PostgreSQL and in memory).
    """

    topic: str
    partition: int
    position: int
    event: Event
    appended_at: datetime


# As the classes' own makers do, without a call of Python's for each: hundreds of thousands a second are read.
event_of = partial(tuple.__new__, Event)
"""An event, of an iterable of all its fields."""
record_of = partial(tuple.__new__, Record)
"""A record, of an iterable of all its fields."""


_WIDEST: Final = 2**53 - 1


def shown(position: int) -> int | str:
    """A position for people and JSON: some logs' are wider than what readers of JSON take as a number."""
    return position if position <= _WIDEST else str(position)


class Capability(StrEnum):
    """What a backend may be able to do; asking for what it lacks is refused at configuration."""

    ORDERED_PER_KEY = "ordered per key"
    REPLAY_FROM_POSITION = "replay from position"
    REPLAY_FROM_TIME = "replay from time"
    CONSUMER_GROUPS = "consumer groups"
    IDEMPOTENT_APPEND = "idempotent append"
    RETENTION = "retention"
    GROWTH = "partitions added"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend declares; ``max_event_bytes`` bounds the data of one event.

    An append whose answer was lost is repeated by whoever made it. Where ``idempotent append`` is declared the event is
    in the log once; elsewhere it may be there again, and consumers tell it by its id.
    """

    has: frozenset[Capability]
    max_event_bytes: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it stands: ``next_positions`` has one entry per partition (where the next append goes)."""

    name: str
    partitions: int
    retention_seconds: float | None = None
    next_positions: tuple[int, ...] = field(default=())


def partition_of(key: str | None, partitions: int) -> int:
    """The partition that a key's events go to: the same in every process and release. No key goes to the first."""
    return 0 if key is None or partitions == 1 else zlib.crc32(key.encode()) % partitions


def check_sizes(events: Sequence[Event], limit: int) -> None:
    """Refuse events that are too large.

    Raises:
        FigError: ``event_too_large``.
    """
    for event in events:
        if len(event.data) > limit:
            raise event_too_large(event, limit)


def event_too_large(event: Event, limit: int) -> FigError:
    """The event's data is larger than what the log takes of it."""
    return FigError(
        "event_too_large",
        f"the event {event.id} ({event.type}) has {len(event.data)} bytes of data, the log takes {limit}",
        "Put the large part elsewhere and a reference to it into the event.",
        event=event.id,
        bytes=len(event.data),
        limit=limit,
    )


def check_retention(seconds: float, least: float, most: float, *, log: str, topic: str) -> None:
    """Refuse a retention that the backend cannot keep to.

    Args:
        least, most: the bounds in seconds, both allowed.

    Raises:
        FigError: ``log_lacks``.
    """
    if not least <= seconds <= most:
        raise FigError(
            "log_lacks",
            f"the topic '{topic}' wants its events kept for {seconds:g} s; the log '{log}' keeps them for {least:g} s "
            f"to {most:g} s",
            "Choose a retention within these bounds, or a log that has others.",
            log=log,
            topic=topic,
            seconds=seconds,
            least=least,
            most=most,
        )


def check_seek(position: int | None, time: datetime | None) -> None:
    """Refuse a seek that says neither where to, or both.

    Raises:
        FigError: ``bad_seek``.
    """
    if (position is None) == (time is None):
        raise FigError("bad_seek", "a group is moved to a position or to a time: give exactly one")


def require(capabilities: Capabilities, wanted: Capability, *, log: str, what: str) -> None:
    """Refuse what a backend cannot do.

    Args:
        log: how the log is named to its user, such as ``kinesis``.
        what: what asks for it: "retention of the topic 'orders'".

    Raises:
        FigError: ``log_lacks``.
    """
    if wanted not in capabilities.has:
        raise FigError(
            "log_lacks",
            f"{what} needs '{wanted}', which the log '{log}' does not have",
            f"Do without it, or use a log that has it. This one has: {', '.join(sorted(capabilities.has))}.",
            capability=wanted.value,
            log=log,
            has=sorted(capabilities.has),
        )


def in_calls(items: Iterable[T], size: Callable[[T], int], *, most: int, most_bytes: int) -> list[list[T]]:
    """Items, in order, in calls that a server takes: at most ``most`` items and ``most_bytes`` each, at least one."""
    calls: list[list[T]] = []
    total = 0
    for item in items:
        bytes_ = size(item)
        if not calls or len(calls[-1]) == most or total + bytes_ > most_bytes:
            calls.append([])
            total = 0
        calls[-1].append(item)
        total += bytes_
    return calls


def unknown_topic(name: str) -> FigError:
    """There is no such topic."""
    return FigError("unknown_topic", f"the log has no topic named '{name}'", "Create it first.", topic=name)


def unknown_partition(name: str, partition: int, partitions: int) -> FigError:
    """There is no such partition."""
    return FigError(
        "unknown_partition",
        f"the topic '{name}' has no partition {partition}: it has {partitions}",
        topic=name,
        partition=partition,
    )


def topic_differs(name: str, found: int, asked: int) -> FigError:
    """A topic exists with another number of partitions, and order per key would not survive a change."""
    return FigError(
        "topic_differs",
        f"the topic '{name}' exists with {found} partitions, not {asked}",
        "Use another name, or delete it when nothing in it is needed.",
        topic=name,
        found=found,
        asked=asked,
    )


def position_expired(name: str, partition: int, position: int, first: int) -> FigError:
    """What is asked for was deleted by the topic's retention."""
    return FigError(
        "position_expired",
        f"position {position} of '{name}' (partition {partition}) is no longer kept: the first is {first}",
        "Go on from there when what is missing is not needed, or rebuild from the source; retain for longer.",
        topic=name,
        partition=partition,
        position=position,
        first=first,
    )


def lease_lost(name: str, partition: int, group: str) -> FigError:
    """Another member of the group took the partition over."""
    return FigError(
        "lease_lost",
        f"partition {partition} of '{name}' now belongs to another member of '{group}'",
        "Nothing: the other member handles again what was not committed.",
        topic=name,
        partition=partition,
        group=group,
    )
