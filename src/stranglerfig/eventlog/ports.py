"""The log's one port. Each backend implements it; one contract suite runs against all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from stranglerfig.eventlog.model import LEASE, Capabilities, Event, Record, Topic


class Subscription(Protocol):
    """A consumer's claim on partitions of topics, as a member of a group."""

    def batches(self) -> AsyncIterator[list[Record]]:
        """Batches of records, each of one partition and in order; waits when there is nothing."""
        ...

    async def commit(self, record: Record) -> None:
        """All up to and with ``record`` in its partition is handled."""
        ...

    async def close(self) -> None:
        """Leave the group; another member takes over."""
        ...


class EventLog(Protocol):
    """Topics of immutable events.

    Raises (all): FigError ``log_unreachable``, ``unknown_topic``, ``event_too_large``, and ``log_lacks`` when the
    backend has not what is asked for.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        ...

    async def migrate(self) -> None:
        """Create or bring forward what the log keeps in a database; nothing for most."""
        ...

    async def create_topic(self, name: str, *, partitions: int = 1, retention_seconds: float | None = None) -> None:
        """Create a topic; does nothing when it exists with as many partitions.

        ``retention_seconds``: how long events are kept at least; None keeps them for ever, or for as long as the
        backend can.
        """
        ...

    async def add_partitions(self, name: str, partitions: int) -> None:
        """Give a topic ``partitions`` partitions; does nothing when it has as many or more.

        From then on a key's events may go to another partition than those before: whoever appends sees to it that
        nobody takes them out of order.
        """
        ...

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with all its events; does nothing when there is none."""
        ...

    async def topic(self, name: str) -> Topic | None:
        """The topic, or None."""
        ...

    async def topics(self) -> list[Topic]:
        """All topics, by name."""
        ...

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """Append in order, durable when it returns; returns the log positions.

        The partition is ``partition``, else chosen by each event's ``partitionkey``. Where ``idempotent append`` is
        declared, an event whose id the topic has already is not appended again; its first position is returned.
        """
        ...

    async def read(
        self,
        topic: str,
        partition: int,
        position: int,
        *,
        max_records: int = 1000,
        max_bytes: int = 8_000_000,
        wait: float = 0.0,
    ) -> list[Record]:
        """Records from ``position`` on, bounded; waits up to ``wait`` seconds for the first. At least one if any."""
        ...

    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """The first log position appended at or after ``time`` (the next one when there is none)."""
        ...

    async def subscribe(self, topics: Sequence[str], group: str, *, lease: float = LEASE) -> Subscription:
        """Join ``group``; a new group begins at the start of each topic.

        A member that is not heard of for ``lease`` seconds loses its partitions to the others.
        """
        ...

    async def groups(self, topic: str) -> list[str]:
        """The groups that have read ``topic``, by name."""
        ...

    async def committed(self, topic: str, group: str) -> tuple[int, ...]:
        """Per partition, the log position at which ``group`` goes on."""
        ...

    async def seek(self, topic: str, group: str, *, position: int | None = None, time: datetime | None = None) -> None:
        """Move ``group`` in all partitions of ``topic``: to a log position or a time (exactly one is given).

        Raises:
            FigError: ``bad_seek``; ``group_active`` where a group can only be moved while it has no members.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
