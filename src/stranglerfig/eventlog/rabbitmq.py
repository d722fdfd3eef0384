"""RabbitMQ's streams as the log: a stream per partition, groups as leases in a database.

The backend needs RabbitMQ 3.9 or later with the plugin ``rabbitmq_stream``; super streams and single active consumers
(3.11) are not used. Positions are the stream's offsets; time is the broker's, which it keeps per chunk (messages that
it wrote at once).
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar
from weakref import WeakSet

from rstream.constants import OffsetType

from stranglerfig.eventlog import model
from stranglerfig.eventlog.leases import LeasedGroups, Leases, Place
from stranglerfig.eventlog.model import LEASE, Capabilities, Capability, Event, Record, Topic
from stranglerfig.eventlog.ports import Subscription
from stranglerfig.eventlog.rabbitmq_append import Appender
from stranglerfig.eventlog.rabbitmq_cluster import Cluster, Settings
from stranglerfig.eventlog.rabbitmq_group import Member, MemberSource
from stranglerfig.eventlog.rabbitmq_message import encode
from stranglerfig.eventlog.rabbitmq_reader import Reader
from stranglerfig.eventlog.rabbitmq_topics import Known, Topics, arguments_of
from stranglerfig.eventlog.rabbitmq_wire import DOES_NOT_EXIST, NOT_AVAILABLE, Lost, Refused, TooLarge
from stranglerfig.foundation import postgres, tasks
from stranglerfig.foundation.errors import FigError

T = TypeVar("T")

MAX_EVENT_BYTES: Final = 1024 * 1024 - 64 * 1024
"""A message is one frame, of 1 MiB unless the server is told otherwise; attributes take their part of it."""
_READERS: Final = 64
_APPENDERS: Final = 256
_AT_ONCE: Final = 1000
_PAGE_BYTES: Final = 8_000_000


class RabbitLog(LeasedGroups):
    """An event log on a RabbitMQ cluster.

    Args:
        url: as :class:`~stranglerfig.eventlog.rabbitmq_cluster.Settings` reads it.
        state: the PostgreSQL database that keeps the consumer groups.
    """

    def __init__(self, url: str, state: str) -> None:
        self._settings = Settings.of(url)
        self._cluster = Cluster(self._settings)
        self._topics = Topics(self._cluster)
        self._readers: OrderedDict[Place, Reader] = OrderedDict()
        self._appenders: OrderedDict[Place, Appender] = OrderedDict()
        self._sources: WeakSet[MemberSource] = WeakSet()
        self._state = postgres.Kept(state, what="consumer groups")
        self._leases = Leases(self._state.session, self._settings.shown)

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do: an append that is repeated may be there twice."""
        return Capabilities(frozenset(Capability) - {Capability.IDEMPOTENT_APPEND}, MAX_EVENT_BYTES)

    async def migrate(self) -> None:
        """Create the tables of the groups."""
        await self._leases.migrate()

    async def _asked(self, topic: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do what streams of ``topic`` are needed for; errors leave as ours.

        Where a stream does not exist the stream of topics knows whether another client deleted the topic. If not, it
        is being made, or its making was interrupted: it is not made here, lest a stream that somebody deleted by hand
        come back empty under the positions of its groups.
        """
        try:
            try:
                return await work()
            except Refused as error:
                if error.code not in (DOES_NOT_EXIST, NOT_AVAILABLE):
                    raise
                if topic in await self._topics.all():
                    raise
                await self._forget(topic)
                raise model.unknown_topic(topic) from error
        except (Lost, Refused) as error:
            raise self._cluster.translated(error) from error

    # Topics

    async def create_topic(self, name: str, *, partitions: int = 1, retention_seconds: float | None = None) -> None:
        """Create a topic; see the port. ``topic_differs`` when it has another number of partitions."""
        arguments = arguments_of(retention_seconds, self._settings.segment_bytes)
        await self._asked(name, lambda: self._topics.make(name, partitions, retention_seconds, arguments))

    async def add_partitions(self, name: str, partitions: int) -> None:
        """Give a topic more partitions; see the port."""
        await self._asked(name, lambda: self._topics.grow(name, partitions))

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with its events, and what its groups had read here."""
        await self._forget(name)
        await self._asked(name, lambda: self._topics.delete(name))
        await self._leases.forget(name)

    async def _forget(self, name: str) -> None:
        for places in (self._readers, self._appenders):
            for place in [place for place in places if place[0] == name]:
                await places.pop(place).close()

    async def topic(self, name: str) -> Topic | None:
        """The topic, or None."""
        known = await self._asked(name, self._topics.all)
        return await self._described(known[name]) if name in known else None

    async def topics(self) -> list[Topic]:
        """All topics, by name; one that is deleted meanwhile is left out."""
        known = await self._asked("", self._topics.all)
        found = await asyncio.gather(*(self._described(known[name]) for name in sorted(known)))
        return [topic for topic in found if topic is not None]

    async def _described(self, known: Known) -> Topic | None:
        async def ends() -> list[int]:
            return await asyncio.gather(*(self._cluster.end(stream) for stream in known.streams))

        try:
            found = await self._asked(known.name, ends)
        except FigError as error:
            if error.code != "unknown_topic":
                raise
            return None
        return Topic(known.name, known.partitions, known.retention_seconds, tuple(found))

    async def _known(self, topic: str, partition: int | None = None) -> Known:
        known = await self._asked(topic, lambda: self._topics.find(topic))
        if partition is not None and partition >= known.partitions:  # it may have more by now
            known = await self._fresh(topic)
        if partition is not None and not 0 <= partition < known.partitions:
            raise model.unknown_partition(topic, partition, known.partitions)
        return known

    async def _fresh(self, topic: str) -> Known:
        """The topic as it is now."""
        await self._asked(topic, self._topics.refresh)
        return await self._known(topic)

    # Append

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """Append in order; see the port. A failure may leave some of the events in."""
        model.check_sizes(events, MAX_EVENT_BYTES)
        known = await self._known(topic, partition)
        numbers: dict[int, list[int]] = {}
        for number, event in enumerate(events):
            to = model.partition_of(event.partitionkey, known.partitions) if partition is None else partition
            numbers.setdefault(to, []).append(number)
        messages = [encode(event) for event in events]
        places = list(numbers.items())
        found = await asyncio.gather(
            *(self._append(known, to, [messages[one] for one in those]) for to, those in places),
            return_exceptions=True,
        )
        positions = [0] * len(events)
        for (_, those), answer in zip(places, found, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            for one, position in zip(those, answer, strict=True):
                positions[one] = position
        return positions

    async def _append(self, known: Known, partition: int, messages: list[bytes]) -> list[int]:
        appender = self._appender(known, partition)
        try:
            return await self._asked(known.name, lambda: appender.append(messages))
        except TooLarge as error:
            raise FigError(
                "event_too_large",
                f"an event makes a message of {error.size} bytes with its attributes, RabbitMQ takes {error.limit}",
                "Put the large part elsewhere and a reference to it into the event, or raise stream.frame_max.",
                bytes=error.size,
                limit=error.limit,
            ) from error

    def _appender(self, known: Known, partition: int) -> Appender:
        place = (known.name, partition)
        appender = self._appenders.pop(place, None)
        if appender is None or appender.stream != known.stream(partition):
            appender = Appender(self._cluster, known.stream(partition))
        self._appenders[place] = appender
        for old in list(self._appenders)[: max(0, len(self._appenders) - _APPENDERS)]:
            if not self._appenders[old].busy:
                tasks.spawn(self._appenders.pop(old).close(), name=f"leave {old}")
        return appender

    # Read

    async def read(
        self,
        topic: str,
        partition: int,
        position: int,
        *,
        max_records: int = _AT_ONCE,
        max_bytes: int = _PAGE_BYTES,
        wait: float = 0.0,
    ) -> list[Record]:
        """Records from ``position`` on; see the port. ``position_expired`` below what is retained."""
        known = await self._known(topic, partition)

        async def page() -> list[Record]:
            kept = self._reader(known, partition)
            # Who waits for more does not keep others from reading what there is.
            reader = kept if not kept.busy else Reader(self._cluster, kept.stream, topic, partition)
            try:
                return await reader.read(position, max_records=max_records, max_bytes=max_bytes, wait=wait)
            finally:
                if reader is not kept:
                    await reader.close()

        return await self._asked(topic, page)

    def _reader(self, known: Known, partition: int) -> Reader:
        place = (known.name, partition)
        reader = self._readers.pop(place, None)
        if reader is None or reader.stream != known.stream(partition):
            reader = Reader(self._cluster, known.stream(partition), *place)
        self._readers[place] = reader
        for old in list(self._readers)[: max(0, len(self._readers) - _READERS)]:
            if not self._readers[old].busy:
                tasks.spawn(self._readers.pop(old).close(), name=f"leave {old}")
        return reader

    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """The first log position appended at or after ``time``; the broker's clock has milliseconds."""
        known = await self._known(topic, partition)
        milliseconds = math.ceil(time.timestamp() * 1000)
        return await self._asked(topic, lambda: self._offset_at(known.stream(partition), milliseconds))

    async def _offset_at(self, stream: str, milliseconds: int) -> int:
        while True:
            # The server begins at the chunk of that time, or at one before it.
            found = await self._cluster.probe(stream, OffsetType.TIMESTAMP, max(0, milliseconds), most=2)
            while found:
                for chunk in found:
                    if chunk.milliseconds >= milliseconds:
                        return chunk.first
                found = await self._cluster.probe(stream, OffsetType.OFFSET, found[-1].next, most=8)
            last = await self._cluster.probe(stream, OffsetType.LAST)
            if not last:
                return 0
            if last[0].milliseconds < milliseconds:  # else it came between the two questions
                return last[0].next

    # Groups

    async def subscribe(self, topics: Sequence[str], group: str, *, lease: float = LEASE) -> Subscription:
        """Join ``group``, which is kept in the database; see the port."""
        for topic in topics:
            await self._known(topic)
        source = MemberSource(self._cluster, self._known, self._fresh, self._asked)
        self._sources.add(source)
        return Member(await self._leases.subscribe(source, topics, group, lease=lease), source)

    async def close(self) -> None:
        """Let go of connections."""
        closing: list[MemberSource | Reader | Appender] = list(self._sources)
        for each in [*closing, *self._readers.values(), *self._appenders.values()]:
            await each.close()
        self._readers.clear()
        self._appenders.clear()
        await self._topics.close()
        await self._cluster.close()
        await self._state.close()
