"""Google Cloud Pub/Sub as the log: the messages are there, their order is in a PostgreSQL database.

Pub/Sub has no partitions and no positions, and keeps an order only where it is delivered to one subscriber at a time.
So a producer publishes first, and once Pub/Sub has acknowledged all, one statement gives the batch its positions: that
is when it is appended. A reader learns from the database what comes next, and takes it out of what a subscription of
its own delivers, in whatever order. What was published and never got positions was never acknowledged, and is dropped.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from stranglerfig.eventlog import model, pubsub_messages
from stranglerfig.eventlog.leases import LeasedGroups, Leases, Place
from stranglerfig.eventlog.model import LEASE, Capabilities, Capability, Event, Record, Topic
from stranglerfig.eventlog.ports import Subscription
from stranglerfig.eventlog.pubsub_calls import Calls, address_of
from stranglerfig.eventlog.pubsub_messages import MAX_EVENT_BYTES, Batch
from stranglerfig.eventlog.pubsub_reader import Reader
from stranglerfig.foundation import clock, ids, postgres, sql
from stranglerfig.foundation.errors import FigError

TABLES = postgres.Tables("pubsub", __package__ or "", ("pubsub_tables.sql",))
_LEAST: Final = 600.0
_MOST: Final = 31 * 86_400.0
_PATIENCE: Final = 30.0
_READERS: Final = 64
_READERS_OF_ONE: Final = 3
_AT_ONCE: Final = 8
"""Publish requests of one append on their way."""
_EXPIRY: Final = 60.0
"""Seconds between two looks at what has expired, per topic that is appended to."""
_queries = sql.load(__package__ or "", "pubsub.sql")


@dataclass(frozen=True, slots=True)
class _Known:
    id: int
    partitions: int
    retention: float


class PubSubLog(LeasedGroups):
    """An event log on Google Cloud Pub/Sub.

    Args:
        url: as :func:`~stranglerfig.eventlog.pubsub_calls.address_of` reads it.
        state: the PostgreSQL database that keeps the positions and the consumer groups.
        patience: seconds that Pub/Sub may be away before an operation fails.
    """

    def __init__(self, url: str, state: str, *, patience: float = _PATIENCE) -> None:
        address = address_of(url)
        self._calls = Calls(address, patience=patience)
        self._name = address.name
        self._poll = address.poll
        # Three, so that appends, reads and leases do not wait for each other.
        self._sequencer = postgres.Kept(state, what="log sequencer")
        self._index = postgres.Kept(state, what="log index")
        self._groups = postgres.Kept(state, what="log groups")
        self._leases = Leases(self._groups.session, address.name)
        self._known: dict[str, _Known] = {}
        self._readers: OrderedDict[Reader, tuple[int, int]] = OrderedDict()
        self._expired_at: dict[int, float] = {}

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do: an append that is repeated may be there twice."""
        return Capabilities(frozenset(Capability) - {Capability.IDEMPOTENT_APPEND}, MAX_EVENT_BYTES)

    async def migrate(self) -> None:
        """Create or bring forward the tables of positions and of groups."""
        await self._leases.migrate()
        async with self._session(self._sequencer) as conn:
            await postgres.migrate(conn, *TABLES)

    @asynccontextmanager
    async def _session(self, kept: postgres.Kept) -> AsyncIterator[postgres.Connection]:
        try:
            async with kept.session() as conn:
                yield conn
        except FigError as error:
            if error.code != "database_unreachable":
                raise
            raise FigError("log_unreachable", f"the log's positions: {error.message}", error.remedy) from error

    async def close(self) -> None:
        """Let go of connections and delete the readers' subscriptions."""
        readers = list(self._readers)
        self._readers.clear()
        await asyncio.gather(*(reader.close() for reader in readers))
        for kept in (self._sequencer, self._index, self._groups):
            await kept.close()
        await self._calls.close()

    # Topics

    async def create_topic(self, name: str, *, partitions: int = 1, retention_seconds: float | None = None) -> None:
        """Create a topic; see the port. Pub/Sub keeps messages for 10 minutes to 31 days.

        Raises:
            FigError: ``log_lacks`` for another retention; ``topic_differs`` when it has another number of partitions.
        """
        if retention_seconds is not None:
            model.check_retention(retention_seconds, _LEAST, _MOST, log="pubsub", topic=name)
        retention = retention_seconds or _MOST
        found = await self.topic(name)
        if found is None:
            # First the topic: what is in the table can be published to.
            await self._calls.create_topic(name, retention)
            async with self._session(self._sequencer) as conn:
                await conn.execute(
                    _queries.create_topic,
                    {"log": self._name, "name": name, "partitions": partitions, "retention": retention},
                )
            found = await self.topic(name)
        if found is not None and found.partitions != partitions:
            raise model.topic_differs(name, found.partitions, partitions)

    async def add_partitions(self, name: str, partitions: int) -> None:
        """Give a topic more partitions; see the port."""
        async with self._session(self._sequencer) as conn:
            await conn.execute(_queries.add_partitions, {"log": self._name, "name": name, "partitions": partitions})
        if await self.topic(name) is None:
            raise model.unknown_topic(name)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with its events, its positions, and what its groups had read."""
        known = self._known.pop(name, None)
        async with self._session(self._sequencer) as conn:
            await conn.execute(_queries.delete_topic, {"log": self._name, "name": name})
        try:
            await self._calls.delete_topic(name)
        except FigError as error:
            if error.code != "unknown_topic":
                raise
        await self._leases.forget(name)
        for reader in [reader for reader, place in self._readers.items() if known and place[0] == known.id]:
            del self._readers[reader]
            await reader.close()

    async def topic(self, name: str) -> Topic | None:
        """The topic, or None. Topics that other programs made have no positions, and are not the log's."""
        found = await self._topics(name)
        if not found:
            self._known.pop(name, None)
        return found[0] if found else None

    async def topics(self) -> list[Topic]:
        """All topics that were made through the port, by name."""
        return await self._topics(None)

    async def _topics(self, name: str | None) -> list[Topic]:
        async with self._session(self._index) as conn:
            rows = await postgres.fetch(conn, _queries.topics, {"log": self._name, "name": name})
        self._known |= {row[1]: _Known(row[0], row[2], row[3]) for row in rows}
        return [Topic(row[1], row[2], row[3], tuple(row[4])) for row in rows]

    async def _find(self, name: str, partition: int | None = None) -> _Known:
        if name not in self._known and await self.topic(name) is None:
            raise model.unknown_topic(name)
        known = self._known[name]
        if partition is not None and partition >= known.partitions and await self.topic(name) is not None:
            known = self._known[name]  # it may have more by now
        if partition is not None and not 0 <= partition < known.partitions:
            raise model.unknown_partition(name, partition, known.partitions)
        return known

    # Append

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """Append in order; see the port. All of ``events`` or none.

        Raises:
            FigError: also ``attribute_too_large``, ``log_throttled``.
        """
        model.check_sizes(events, MAX_EVENT_BYTES)
        known = await self._find(topic, partition)
        if not events:
            return []
        batch, begun = ids.new_id(), clock.now()
        groups = pubsub_messages.by_partition(events, known.partitions, partition)
        calls = pubsub_messages.calls_of(
            [
                pubsub_messages.outgoing(events[number], to, batch, place)
                for to, numbers in groups.items()
                for place, number in enumerate(numbers)
            ]
        )
        for start in range(0, len(calls), _AT_ONCE):
            await asyncio.gather(*(self._calls.publish(topic, call) for call in calls[start : start + _AT_ONCE]))
        counts = {to: len(numbers) for to, numbers in groups.items()}
        firsts = await self._sequence(known, counts, batch, begun)
        if len(firsts) < len(groups):  # the topic was deleted, and perhaps made anew, behind our back
            self._known.pop(topic, None)
            known = await self._find(topic, max(groups))
            firsts = await self._sequence(known, counts, batch, begun)
        await self._expire(known)
        positions = [0] * len(events)
        for to, numbers in groups.items():
            for place, number in enumerate(numbers):
                positions[number] = firsts[to] + place
        return positions

    async def _sequence(self, known: _Known, counts: Mapping[int, int], batch: str, begun: datetime) -> dict[int, int]:
        """Give what is published its positions: partition → the first of them."""
        parameters = {
            "topic": known.id,
            "partitions": list(counts),
            "counts": list(counts.values()),
            "batch": batch,
            "published_at": begun,
        }
        async with self._session(self._sequencer) as conn:
            rows = await postgres.fetch(conn, _queries.append, parameters)
        return {row[0]: row[1] for row in rows}

    async def _expire(self, known: _Known) -> None:
        """Forget the positions of what Pub/Sub no longer keeps, now and then."""
        now = clock.monotonic()
        if now - self._expired_at.setdefault(known.id, now) > _EXPIRY:
            self._expired_at[known.id] = now
            await self._enforce(known)

    async def _enforce(self, known: _Known) -> int:
        async with self._session(self._sequencer) as conn:
            parameters = {"topic": known.id, "retention": known.retention}
            return int(await postgres.value(conn, _queries.expire, parameters))

    async def enforce_retention(self) -> int:
        """Forget the positions of what Pub/Sub no longer keeps; returns how many batches were given up."""
        await self.topics()
        return sum([await self._enforce(known) for known in list(self._known.values())])

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
            FigError: also ``log_gap`` when Pub/Sub does not deliver what it has acknowledged.
        """
        deadline = clock.monotonic() + wait
        reader: Reader | None = None
        try:
            while True:
                known = await self._find(topic, partition)
                if batches := await self._batches(topic, known, partition, position, max_records):
                    reader = reader or await self._reader(topic, known, partition, position)
                    return await reader.read(batches, position, max_records, max_bytes)
                left = deadline - clock.monotonic()
                if left <= 0:
                    return []
                reader = reader or self._idle((known.id, partition), position)
                if reader is None:
                    await asyncio.sleep(min(left, self._poll))
                else:
                    await reader.arrival(min(left, self._poll))
        finally:
            if reader is not None:
                self._readers[reader] = (known.id, partition)

    async def _batches(self, topic: str, known: _Known, partition: int, position: int, most: int) -> list[Batch]:
        place: dict[str, Any] = {"topic": known.id, "partition": partition}
        async with self._session(self._index) as conn:
            rows = await postgres.fetch(conn, _queries.batches, place | {"position": position, "most": most})
            if not rows or rows[0][0] > position:
                bounds = await postgres.one(conn, _queries.bounds, place)
                if bounds is None:
                    self._known.pop(topic, None)
                    raise model.unknown_topic(topic)
                if position < bounds[0]:
                    raise model.position_expired(topic, partition, position, bounds[0])
        return [Batch(row[0], row[1], str(row[2]), row[3], row[4]) for row in rows]

    def _idle(self, place: tuple[int, int], position: int) -> Reader | None:
        """A reader that stands at ``position``, no longer among the idle ones."""
        found = next((one for one, where in self._readers.items() if where == place and one.next == position), None)
        if found is not None:
            del self._readers[found]
        return found

    async def _reader(self, topic: str, known: _Known, partition: int, position: int) -> Reader:
        """A reader for this place: one that stands there, one that may be moved, or a new one."""
        place = (known.id, partition)
        if (found := self._idle(place, position)) is not None:
            return found
        same = [one for one, where in self._readers.items() if where == place]
        if len(same) >= _READERS_OF_ONE:
            del self._readers[same[0]]
            return same[0]
        while len(self._readers) >= _READERS:
            oldest, _ = self._readers.popitem(last=False)
            await oldest.close()
        return Reader(self._calls, topic, partition)

    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """The first log position appended at or after ``time``, by the clock of the positions' database."""
        known = await self._find(topic, partition)
        place = {"topic": known.id, "partition": partition, "time": time}
        async with self._session(self._index) as conn:
            found = await postgres.value(conn, _queries.position_at, place)
        if found is None:
            self._known.pop(topic, None)
            raise model.unknown_topic(topic)
        return int(found)

    # Groups

    async def subscribe(self, topics: Sequence[str], group: str, *, lease: float = LEASE) -> Subscription:
        """Join ``group``."""
        for topic in topics:
            await self._find(topic)
        return await self._leases.subscribe(self, topics, group, lease=lease)

    async def places(self, topics: Sequence[str], group: str) -> Mapping[Place, int]:
        """All partitions, and the lowest position that each keeps."""
        async with self._session(self._index) as conn:
            rows = await postgres.fetch(conn, _queries.firsts, {"log": self._name, "names": list(topics)})
        return {(row[0], row[1]): row[2] for row in rows}

    async def grown(self, topics: Sequence[str], timeout: float) -> None:
        """Wait until it is worth asking again."""
        await asyncio.sleep(min(self._poll, timeout))
