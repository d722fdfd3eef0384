"""Amazon Kinesis Data Streams as the log: a topic is a stream, a partition a shard, groups are leases in a database.

Resharding is followed: a partition's number is its shard's; shards that were split or merged stay partitions until what
they hold has expired, take no more events, and a group is given a shard once it has finished those it came from.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from stranglerfig.eventlog import kinesis_shards, model
from stranglerfig.eventlog.kinesis_calls import Calls, Cursor, address_of
from stranglerfig.eventlog.kinesis_records import Lane
from stranglerfig.eventlog.kinesis_shards import Shard
from stranglerfig.eventlog.kinesis_writer import Writer
from stranglerfig.eventlog.leases import LeasedGroups, Leases, Place
from stranglerfig.eventlog.model import LEASE, Capabilities, Capability, Event, Record, Topic
from stranglerfig.eventlog.ports import Subscription
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError

MAX_EVENT_BYTES: Final = 1_000_000
"""Kinesis takes 1 MiB a record; the rest is for the key and the attributes."""
_HOUR: Final = 3600.0
_LEAST: Final = 24
_MOST: Final = 24 * 365
_PATIENCE: Final = 30.0
_CURSORS: Final = 64
_AT_ONCE: Final = 1000
_LOOK_BACK: Final = tuple(4.0**step for step in range(14))
"""Seconds: the end of a shard is looked for in the last second, four seconds, … two years."""


class KinesisLog(LeasedGroups):
    """An event log on Amazon Kinesis.

    Args:
        url: as :func:`~stranglerfig.eventlog.kinesis_calls.address_of` reads it.
        state: the PostgreSQL database that keeps its consumer groups.
        patience: seconds that a shard may refuse all before an append fails.
    """

    def __init__(self, url: str, state: str, *, patience: float = _PATIENCE) -> None:
        self._calls = Calls(address_of(url))
        self._writer = Writer(self._calls, patience=patience)
        self._state = postgres.Kept(state, what="log groups")
        self._leases = Leases(self._state.session, self._calls.address.name)
        self._poll = self._calls.address.poll
        self._shards: dict[str, dict[int, Shard]] = {}
        self._cursors: OrderedDict[tuple[str, int, int], Cursor] = OrderedDict()
        # Closed shards: the lowest position after which they are known to hold nothing.
        self._finished: dict[Place, int] = {}
        self._ends: dict[Place, tuple[int, datetime]] = {}

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do: an append that is repeated may be there twice, and a stream's shards are split."""
        lacks = {Capability.IDEMPOTENT_APPEND, Capability.GROWTH}
        return Capabilities(frozenset(Capability) - lacks, MAX_EVENT_BYTES)

    async def migrate(self) -> None:
        """Create or bring forward the groups' tables."""
        await self._leases.migrate()

    async def close(self) -> None:
        """Let go of connections."""
        await self._state.close()
        await self._calls.close()

    # Topics

    async def create_topic(self, name: str, *, partitions: int = 1, retention_seconds: float | None = None) -> None:
        """Create a stream; see the port. Kinesis keeps events for 24 hours to 365 days, in whole hours.

        Raises:
            FigError: ``log_lacks`` for another retention; ``topic_differs`` when it has another number of open shards.
        """
        if retention_seconds is not None:
            model.check_retention(retention_seconds, _LEAST * _HOUR, _MOST * _HOUR, log="kinesis", topic=name)
        hours = _MOST if retention_seconds is None else math.ceil(retention_seconds / _HOUR)
        if await self._calls.run(name, self._create, name, partitions):
            await clock.until(
                lambda: self._calls.run(name, self._made, name, hours),
                timeout=120,
                what=f"the stream '{name}' to be made",
            )
            return
        if (found := await self._open(name)) != partitions:
            raise model.topic_differs(name, found, partitions)

    async def _open(self, name: str) -> int:
        """How many shards take records."""
        return sum(shard.ending is None for shard in (await self._list(name)).values())

    async def add_partitions(self, name: str, partitions: int) -> None:
        """Refuse; see the port. A shard is split into two others and closed: no number goes on beside the new ones.

        Raises:
            FigError: ``log_lacks`` unless as many shards are open.
        """
        if await self._open(name) < partitions:
            what = f"more partitions for the topic '{name}', which has its events by then,"
            model.require(self.capabilities, Capability.GROWTH, log="kinesis", what=what)

    def _create(self, name: str, partitions: int) -> bool:
        client = self._calls.client
        try:
            client.create_stream(StreamName=name, ShardCount=partitions)
        except client.exceptions.ResourceInUseException:
            return False
        return True

    def _made(self, name: str, hours: int) -> bool:
        """Whether a stream that is being made is there by now, and keeps its records for so long."""
        if hours == _LEAST:  # what it is made with
            return self._summary(name)[0] == "ACTIVE"
        client = self._calls.client
        try:
            client.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=hours)
        except client.exceptions.ResourceInUseException:
            return False
        return True

    def _summary(self, name: str) -> tuple[str, float]:
        """The stream's status, and its retention in seconds."""
        found = self._calls.client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        return str(found["StreamStatus"]), found["RetentionPeriodHours"] * _HOUR

    async def delete_topic(self, name: str) -> None:
        """Delete a stream with its events, and what its groups had read."""
        try:
            await self._calls.run(name, self._delete, name)
            await clock.until(lambda: self._gone(name), timeout=120, what=f"the stream '{name}' to be deleted")
        except FigError as error:
            if error.code != "unknown_topic":
                raise
        self._forget(name)
        await self._leases.forget(name)

    def _delete(self, name: str) -> None:
        self._calls.client.delete_stream(StreamName=name, EnforceConsumerDeletion=True)

    async def _gone(self, name: str) -> bool:
        await self._calls.run(name, self._summary, name)
        return False

    def _forget(self, name: str) -> None:
        self._shards.pop(name, None)
        for place in [key for key in self._cursors if key[0] == name]:
            del self._cursors[place]
        for known in (self._finished, self._ends):
            for key in [key for key in known if key[0] == name]:
                del known[key]

    async def topic(self, name: str) -> Topic | None:
        """The topic, or None. Where a shard ends is found by reading what arrived last."""
        try:
            shards = await self._list(name)
            _, retention = await self._calls.run(name, self._summary, name)
            ends = await asyncio.gather(*(self._end(name, shard) for shard in shards.values()))
        except FigError as error:
            if error.code != "unknown_topic":
                raise
            self._forget(name)
            return None
        found = dict(zip(shards, ends, strict=True))
        count = kinesis_shards.count(shards.values())
        return Topic(name, count, retention, tuple(found.get(number, 0) for number in range(count)))

    async def topics(self) -> list[Topic]:
        """All streams of the account in this region, by name."""
        names = sorted(await self._calls.run(None, lambda: list(self._calls.names())))
        found = await asyncio.gather(*(self.topic(name) for name in names))
        return [topic for topic in found if topic is not None]

    async def _list(self, name: str) -> dict[int, Shard]:
        """The shards as they are now."""
        found = {shard.number: shard for shard in await self._calls.run(name, self._calls.shards, name)}
        self._shards[name] = found
        return found

    async def _shard(self, topic: str, partition: int) -> Shard | None:
        """The shard of a partition; None where what it held has expired. One that is unknown is asked about."""
        shards = self._shards.get(topic)
        if shards is None or partition not in shards:
            shards = await self._list(topic)
        count = kinesis_shards.count(shards.values())
        if not 0 <= partition < count:
            raise model.unknown_partition(topic, partition, count)
        return shards.get(partition)

    async def _end(self, topic: str, shard: Shard) -> int:
        """Where the next append to a shard goes: after the last record that can be found in it."""
        place = (topic, shard.number)
        now = clock.now()
        known, until = self._ends.get(place, (0, None))
        found = await self._calls.run(topic, self._last_since, topic, shard, now, until)
        end = known if found is None else found.position + 1
        self._ends[place] = (end, now)
        return end

    def _last_since(self, topic: str, shard: Shard, now: datetime, until: datetime | None) -> Record | None:
        """The last record, looked for further and further back, not beyond what was seen before ``until``."""
        if until is None and not self._holds_any(topic, shard):
            return None
        for seconds in _LOOK_BACK:
            start = now - timedelta(seconds=seconds)
            stop = until is not None and start <= until - timedelta(seconds=5)  # clocks differ
            last = deque(self._calls.since(topic, shard, start), maxlen=1)
            if last or stop:
                return last[0] if last else None
        return None

    def _holds_any(self, topic: str, shard: Shard) -> bool:
        cursor = Cursor()
        while cursor.behind and not cursor.ended and not cursor.ahead:
            self._calls.fetch(topic, shard, cursor, 0, 1)
        return bool(cursor.ahead)

    # Append

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """Append in order per key; see the port. One call is not one transaction: a failure may leave some in.

        Raises:
            FigError: ``shard_closed`` for a given partition whose shard was split or merged, ``log_throttled``.
        """
        model.check_sizes(events, MAX_EVENT_BYTES)
        lane = None
        if partition is not None:
            shard = await self._shard(topic, partition)
            if shard is None or shard.ending is not None:
                raise kinesis_shards.shard_closed(topic, partition)
            lane = Lane("-", shard.hash)
        if not events:
            return []
        positions, shards = await self._writer.append(topic, events, lane)
        if partition is not None and shards != {partition}:
            await self._list(topic)
            raise kinesis_shards.shard_closed(topic, partition)
        return positions

    # Read

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
        """Records from ``position`` on; see the port.

        Raises:
            FigError: ``position_expired`` when what is at ``position``, or came before it, is no longer kept: sequence
                numbers have gaps, so nobody can tell whether something between was missed.
        """
        shard = await self._shard(topic, partition)
        deadline = clock.monotonic() + wait
        cursor = self._cursors.pop((topic, partition, position), None) or Cursor(ended=shard is None)
        while True:
            # Empty pages do not mean that nothing follows: a page covers a stretch of time, too.
            while shard is not None and not cursor.ahead and not cursor.ended:
                await self._fetch(topic, shard, cursor, position, max_records)
                if not cursor.behind:
                    break
            left = deadline - clock.monotonic()
            if cursor.ahead or left <= 0:
                return self._page(cursor, (topic, partition, position), max_records, max_bytes)
            await asyncio.sleep(min(left, self._poll))

    async def _fetch(self, topic: str, shard: Shard, cursor: Cursor, position: int, most: int) -> None:
        try:
            await self._calls.run(topic, self._calls.fetch, topic, shard, cursor, position, max(most, _AT_ONCE))
        except FigError as error:
            if error.code == "unknown_topic":
                self._forget(topic)
            raise

    def _page(self, cursor: Cursor, place: tuple[str, int, int], max_records: int, max_bytes: int) -> list[Record]:
        topic, partition, position = place
        size = count = 0
        for one in cursor.ahead[:max_records]:
            if count and size >= max_bytes:
                break
            count += 1
            size += len(one.event.data)
        page = cursor.ahead[:count]
        del cursor.ahead[:count]
        following = page[-1].position + 1 if page else position
        self._cursors[topic, partition, following] = cursor
        while len(self._cursors) > _CURSORS:
            self._cursors.popitem(last=False)
        return page

    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """The first log position that arrived at or after ``time``; Kinesis' clock has milliseconds."""
        shard = await self._shard(topic, partition)
        if shard is None:
            return 0
        found = await self._calls.run(topic, lambda: next(self._calls.since(topic, shard, time), None))
        return found.position if found is not None else await self._end(topic, shard)

    # Groups

    async def subscribe(self, topics: Sequence[str], group: str, *, lease: float = LEASE) -> Subscription:
        """Join ``group``."""
        for topic in topics:
            await self._list(topic)
        return await self._leases.subscribe(self, topics, group, lease=lease)

    async def places(self, topics: Sequence[str], group: str) -> Mapping[Place, int]:
        """The shards that ``group`` may read now: a shard's parents come first."""
        found: dict[Place, int] = {}
        for topic in topics:
            shards = await self._list(topic)
            closed = [shard for shard in shards.values() if shard.ending is not None]
            committed = await self._leases.committed(topic, group) if closed else {}
            finished = set()
            for shard in closed:
                if await self._is_finished(topic, shard, committed.get(shard.number, 0)):
                    finished.add(shard.number)
            found |= {(topic, one): 0 for one in kinesis_shards.offered(list(shards.values()), frozenset(finished))}
        return found

    async def _is_finished(self, topic: str, shard: Shard, position: int) -> bool:
        """Whether a closed shard holds nothing from ``position`` on."""
        place = (topic, shard.number)
        known = self._finished.get(place)
        if known is not None and known <= position:
            return True
        cursor = self._cursors.pop((topic, shard.number, position), None) or Cursor()
        while not cursor.ahead and not cursor.ended:
            await self._fetch(topic, shard, cursor, position, 1)
        if cursor.ahead:
            self._cursors[topic, shard.number, position] = cursor
            return False
        self._finished[place] = position
        return True

    async def grown(self, topics: Sequence[str], timeout: float) -> None:
        """Wait until it is worth asking again: Kinesis tells nobody of what arrives."""
        await asyncio.sleep(min(self._poll, timeout))

    async def _numbers(self, topic: str) -> Collection[int]:
        return await self._list(topic)
