"""Logs over logs: what passes every call on, and what sends each topic to the log it belongs to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime

from stranglerfig.eventlog.model import LEASE, Capabilities, Event, Record, Topic
from stranglerfig.eventlog.ports import EventLog, Subscription
from stranglerfig.foundation.errors import FigError


class LogThrough(ABC):
    """A log that is another one, or several, by topic: every call goes to the log of its topic."""

    @abstractmethod
    def log_of(self, topic: str) -> EventLog:
        """The log that has ``topic``."""

    @property
    @abstractmethod
    def logs(self) -> tuple[EventLog, ...]:
        """All logs beneath; the first one's capabilities are what is declared."""

    @property
    def capabilities(self) -> Capabilities:
        """Those of the first log beneath."""
        return self.logs[0].capabilities

    async def migrate(self) -> None:
        """As the port's, for every log beneath."""
        for log in self.logs:
            await log.migrate()

    async def create_topic(self, name: str, *, partitions: int = 1, retention_seconds: float | None = None) -> None:
        """As the port's."""
        await self.log_of(name).create_topic(name, partitions=partitions, retention_seconds=retention_seconds)

    async def add_partitions(self, name: str, partitions: int) -> None:
        """As the port's."""
        await self.log_of(name).add_partitions(name, partitions)

    async def delete_topic(self, name: str) -> None:
        """As the port's."""
        await self.log_of(name).delete_topic(name)

    async def topic(self, name: str) -> Topic | None:
        """As the port's."""
        return await self.log_of(name).topic(name)

    async def topics(self) -> list[Topic]:
        """As the port's: those of every log beneath."""
        found = [topic for log in self.logs for topic in await log.topics() if self.log_of(topic.name) is log]
        return sorted(found, key=lambda topic: topic.name)

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """As the port's."""
        return await self.log_of(topic).append(topic, events, partition=partition)

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
        """As the port's."""
        return await self.log_of(topic).read(
            topic, partition, position, max_records=max_records, max_bytes=max_bytes, wait=wait
        )

    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """As the port's."""
        return await self.log_of(topic).position_at(topic, partition, time)

    async def subscribe(self, topics: Sequence[str], group: str, *, lease: float = LEASE) -> Subscription:
        """As the port's; the topics must be of one log.

        Raises:
            FigError: ``topics_apart``.
        """
        logs = {id(log): log for log in map(self.log_of, topics)}
        if len(logs) != 1:
            raise FigError(
                "topics_apart",
                f"the topics {', '.join(topics)} are not in one log, and a group reads from one",
                "Subscribe to the topics of each log by themselves.",
                topics=list(topics),
            )
        return await logs.popitem()[1].subscribe(topics, group, lease=lease)

    async def groups(self, topic: str) -> list[str]:
        """As the port's."""
        return await self.log_of(topic).groups(topic)

    async def committed(self, topic: str, group: str) -> tuple[int, ...]:
        """As the port's."""
        return await self.log_of(topic).committed(topic, group)

    async def seek(self, topic: str, group: str, *, position: int | None = None, time: datetime | None = None) -> None:
        """As the port's."""
        await self.log_of(topic).seek(topic, group, position=position, time=time)

    async def close(self) -> None:
        """Close every log beneath."""
        for log in self.logs:
            await log.close()


class RoutedLog(LogThrough):
    """The estate's log, and beside it the control database's for what is ours alone and must never expire.

    Args:
        estate: changes and business events.
        control: what capture remembers, the history of extractions, what guards have seen.
        ours: says by its name whether a topic is of the latter kind.
    """

    def __init__(self, estate: EventLog, control: EventLog, ours: Callable[[str], bool]) -> None:
        self._estate = estate
        self._control = control
        self._ours = ours

    def log_of(self, topic: str) -> EventLog:
        """The log that has ``topic``."""
        return self._control if self._ours(topic) else self._estate

    @property
    def logs(self) -> tuple[EventLog, ...]:
        """The estate's log, then ours."""
        return self._estate, self._control
