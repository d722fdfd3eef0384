"""The log in memory: the port's meaning without a server, for tests. Shipped, so that a team's own tests can use it."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from stranglerfig.eventlog import model
from stranglerfig.eventlog.model import LEASE, Capabilities, Capability, Event, Record, Topic
from stranglerfig.eventlog.ports import Subscription
from stranglerfig.foundation import clock, ids


@dataclass
class _Partition:
    records: list[Record] = field(default_factory=list)
    first: int = 0

    @property
    def next(self) -> int:
        return self.first + len(self.records)


@dataclass
class _Topic:
    partitions: list[_Partition]
    retention: float | None
    known: dict[str, int] = field(default_factory=dict)


@dataclass
class _Claim:
    position: int = 0
    member: str | None = None


class MemoryLog:
    """Topics in this process; gone with it."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._claims: dict[tuple[str, int, str], _Claim] = {}
        self._members: set[tuple[str, str]] = set()
        self._changed = asyncio.Condition()

    @property
    def capabilities(self) -> Capabilities:
        """The same as the embedded default's."""
        return Capabilities(frozenset(Capability), model.MAX_EVENT_BYTES)

    async def migrate(self) -> None:
        """Nothing to do."""

    async def create_topic(self, name: str, *, partitions: int = 1, retention_seconds: float | None = None) -> None:
        """Create a topic; see the port."""
        made = _Topic([_Partition() for _ in range(partitions)], retention_seconds)
        found = len(self._topics.setdefault(name, made).partitions)
        if found != partitions:
            raise model.topic_differs(name, found, partitions)

    async def add_partitions(self, name: str, partitions: int) -> None:
        """Give a topic more partitions; see the port."""
        found = self._find(name).partitions
        found += [_Partition() for _ in range(len(found), partitions)]

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with its events."""
        self._topics.pop(name, None)
        for place in [place for place in self._claims if place[0] == name]:
            del self._claims[place]

    async def topic(self, name: str) -> Topic | None:
        """The topic, or None."""
        topic = self._topics.get(name)
        if topic is None:
            return None
        return Topic(name, len(topic.partitions), topic.retention, tuple(p.next for p in topic.partitions))

    async def topics(self) -> list[Topic]:
        """All topics, by name."""
        return [topic for name in sorted(self._topics) if (topic := await self.topic(name)) is not None]

    def _find(self, name: str) -> _Topic:
        if name not in self._topics:
            raise model.unknown_topic(name)
        return self._topics[name]

    def _partition(self, name: str, partition: int) -> _Partition:
        topic = self._find(name)
        if not 0 <= partition < len(topic.partitions):
            raise model.unknown_partition(name, partition, len(topic.partitions))
        return topic.partitions[partition]

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """Append in order; see the port."""
        model.check_sizes(events, self.capabilities.max_event_bytes)
        found = self._find(topic)
        if partition is not None:
            self._partition(topic, partition)
        now = clock.now()
        for event in events:
            if event.id not in found.known:
                count = len(found.partitions)
                number = model.partition_of(event.partitionkey, count) if partition is None else partition
                place = found.partitions[number]
                found.known[event.id] = place.next
                place.records.append(Record(topic, number, place.next, event, now))
        async with self._changed:
            self._changed.notify_all()
        return [found.known[event.id] for event in events]

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
        """Records from ``position`` on; see the port."""
        place = self._partition(topic, partition)
        if wait > 0 and place.next <= position:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait), self._changed:
                    await self._changed.wait_for(lambda: place.next > position)
        if position < place.first:
            raise model.position_expired(topic, partition, position, place.first)
        start = position - place.first
        page: list[Record] = []
        size = 0
        for record in place.records[start : start + max_records]:
            if page and size >= max_bytes:
                break
            page.append(record)
            size += len(record.event.data)
        return page

    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """The first log position appended at or after ``time``."""
        place = self._partition(topic, partition)
        return place.first + bisect.bisect_left(place.records, time, key=lambda record: record.appended_at)

    async def enforce_retention(self) -> int:
        """Delete what topics no longer keep; returns how many positions were given up."""
        gone = 0
        for name, topic in self._topics.items():
            if topic.retention is None:
                continue
            limit = clock.now() - timedelta(seconds=topic.retention)
            for number, place in enumerate(topic.partitions):
                count = await self.position_at(name, number, limit) - place.first
                for record in place.records[:count]:
                    topic.known.pop(record.event.id, None)
                del place.records[:count]
                place.first += count
                gone += count
        return gone

    async def subscribe(self, topics: Sequence[str], group: str, *, lease: float = LEASE) -> Subscription:
        """Join ``group``; a member of this process lives until it is closed, whatever its lease."""
        self._places(topics, group)
        return MemorySubscription(self, topics, group)

    def _places(self, topics: Sequence[str], group: str) -> list[tuple[str, int]]:
        """The topics' partitions; ``group`` begins those that it did not know with what is kept first."""
        places = [(name, number) for name in topics for number in range(len(self._find(name).partitions))]
        for name, number in places:
            self._claims.setdefault((name, number, group), _Claim(self._topics[name].partitions[number].first))
        return places

    async def groups(self, topic: str) -> list[str]:
        """The groups that have read ``topic``."""
        return sorted({group for name, _, group in self._claims if name == topic})

    async def committed(self, topic: str, group: str) -> tuple[int, ...]:
        """Per partition, the log position at which ``group`` goes on."""
        count = len(self._find(topic).partitions)
        return tuple(self._claims.get((topic, number, group), _Claim()).position for number in range(count))

    async def seek(self, topic: str, group: str, *, position: int | None = None, time: datetime | None = None) -> None:
        """Move ``group`` in all partitions of ``topic``."""
        model.check_seek(position, time)
        for number in range(len(self._find(topic).partitions)):
            to = position if position is not None else await self.position_at(topic, number, time or clock.now())
            self._claims[(topic, number, group)] = _Claim(to)

    async def close(self) -> None:
        """Nothing to let go of."""


class MemorySubscription:
    """A member of a group."""

    def __init__(self, log: MemoryLog, topics: Sequence[str], group: str) -> None:
        self._log = log
        self._topics = topics
        self._group = group
        self._member = ids.new_id()
        self._read: dict[tuple[str, int], int] = {}
        log._members.add((group, self._member))

    def _holds(self) -> list[tuple[str, int]]:
        """Keep what is ours, within a fair share; claim what is free."""
        log = self._log
        alive = sum(group == self._group for group, _ in log._members)
        places = log._places(self._topics, self._group)
        share = -(-len(places) // alive)
        held: list[tuple[str, int]] = []
        for place in sorted(places, key=lambda place: place not in self._read):
            claim = log._claims[(*place, self._group)]
            mine = claim.member == self._member
            if len(held) < share and (mine or claim.member is None):
                if not mine:
                    self._read[place] = claim.position
                claim.member = self._member
                held.append(place)
            elif mine:
                claim.member = None
        self._read = {place: self._read.get(place, 0) for place in held}
        return held

    async def batches(self) -> AsyncIterator[list[Record]]:
        """Batches of records, each of one partition and in order."""
        while True:
            got = False
            for place in self._holds():
                position = self._read.get(place)
                records = [] if position is None else await self._log.read(*place, position)
                if records:
                    got = True
                    self._read[place] = records[-1].position + 1
                    yield records
            if not got:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1), self._log._changed:
                        await self._log._changed.wait()

    async def commit(self, record: Record) -> None:
        """All up to and with ``record`` is handled; ``lease_lost`` when another member has the partition."""
        claim = self._log._claims[(record.topic, record.partition, self._group)]
        if claim.member != self._member:
            raise model.lease_lost(record.topic, record.partition, self._group)
        claim.position = max(claim.position, record.position + 1)

    async def close(self) -> None:
        """Leave the group."""
        for place, claim in self._log._claims.items():
            if place[0] in self._topics and place[2] == self._group and claim.member == self._member:
                claim.member = None
        self._log._members.discard((self._group, self._member))
