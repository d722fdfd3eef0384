"""A member of a group that reads streams: leases in the database, subscriptions of its own to what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from rstream.constants import OffsetType

from stranglerfig.eventlog.leases import LeasedSubscription, Place
from stranglerfig.eventlog.model import Record
from stranglerfig.eventlog.rabbitmq_cluster import Cluster
from stranglerfig.eventlog.rabbitmq_reader import Reader
from stranglerfig.eventlog.rabbitmq_topics import Known
from stranglerfig.foundation import clock

_AT_ONCE = 1000
_PAGE_BYTES = 8_000_000


class MemberSource:
    """The log as one member sees it: what its subscriptions bring wakes it, and no other member's.

    Args:
        known: finds a topic that has a partition.
        fresh: finds a topic as it is now.
        asked: does what a topic's streams are needed for, and makes errors ours.
    """

    def __init__(
        self,
        cluster: Cluster,
        known: Callable[[str, int], Awaitable[Known]],
        fresh: Callable[[str], Awaitable[Known]],
        asked: Callable[[str, Callable[[], Awaitable[list[Record]]]], Awaitable[list[Record]]],
    ) -> None:
        self._cluster = cluster
        self._known = known
        self._fresh = fresh
        self._asked = asked
        self._firsts: dict[Place, int] = {}
        self._readers: dict[Place, Reader] = {}
        self._arrived = asyncio.Event()

    async def places(self, topics: Sequence[str], group: str) -> Mapping[Place, int]:
        """The topics' partitions, and what was kept of each first when we met it."""
        found: dict[Place, int] = {}
        for topic in topics:
            known = await self._fresh(topic)
            for partition in range(known.partitions):
                place = (topic, partition)
                if place not in self._firsts:
                    self._firsts[place] = await self._first(known.stream(partition))
                found[place] = self._firsts[place]
        return found

    async def _first(self, stream: str) -> int:
        found = await self._cluster.probe(stream, OffsetType.FIRST)
        return found[0].first if found else 0

    async def read(self, topic: str, partition: int, position: int) -> list[Record]:
        """What has arrived of a partition; see the port."""
        known = await self._known(topic, partition)

        async def page() -> list[Record]:
            reader = self._reader(known, partition)
            return await reader.read(position, max_records=_AT_ONCE, max_bytes=_PAGE_BYTES, wait=0, settled=False)

        return await self._asked(topic, page)

    def _reader(self, known: Known, partition: int) -> Reader:
        place = (known.name, partition)
        reader = self._readers.get(place)
        if reader is None or reader.stream != known.stream(partition):
            reader = Reader(self._cluster, known.stream(partition), *place, arrived=self._arrived.set)
            self._readers[place] = reader
        return reader

    async def grown(self, topics: Sequence[str], timeout: float) -> None:
        """Return when something arrived since this last returned, after ``timeout`` seconds at the latest.

        What arrived for a partition that went to another member wakes once, and is not asked for again.
        """
        await clock.signalled(self._arrived, timeout=timeout)
        self._arrived.clear()

    async def close(self) -> None:
        """End the subscriptions."""
        for reader in self._readers.values():
            await reader.close()
        self._readers.clear()


class Member:
    """A member of a group, as the port wants it."""

    def __init__(self, leased: LeasedSubscription, source: MemberSource) -> None:
        self._leased = leased
        self._source = source

    def batches(self) -> AsyncIterator[list[Record]]:
        """Batches of records, each of one partition and in order."""
        return self._leased.batches()

    async def commit(self, record: Record) -> None:
        """All up to and with ``record`` is handled; ``lease_lost`` when another member has the partition."""
        await self._leased.commit(record)

    async def close(self) -> None:
        """Leave the group; another member takes over."""
        await self._leased.close()
        await self._source.close()
