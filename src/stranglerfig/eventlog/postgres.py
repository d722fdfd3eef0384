"""The embedded default: the log on PostgreSQL. A partition's row is its sequencer, a lease per partition its group.

Appends of a batch are one statement, so one round trip and one commit; readers are woken by NOTIFY, and poll as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

import psycopg

from stranglerfig.eventlog import model, postgres_batch
from stranglerfig.eventlog.leases import LeasedGroups, Leases, Place
from stranglerfig.eventlog.model import LEASE, Capabilities, Capability, Event, Record, Topic
from stranglerfig.eventlog.ports import Subscription
from stranglerfig.foundation import clock, postgres, sql, tasks
from stranglerfig.foundation.errors import FigError

_queries = sql.load(__package__ or "")
TABLES = postgres.Tables("eventlog", __package__ or "", ("tables.sql", "groups_to_leases.sql", "batches.sql"))
_CHANNEL = "fig_log"
_POLL = 0.25
_ATTEMPTS = 5
# The statement's arrays are bounded so that one append never holds more than this in the server's memory.
_BATCH_BYTES = 32 * 1024 * 1024
_BATCH = 5000


@dataclass(frozen=True, slots=True)
class _Known:
    id: int
    partitions: int


class PostgresLog(LeasedGroups):
    """An event log in the schema ``fig`` of a PostgreSQL database (15 or later).

    Args:
        dsn: the database.
        connections: how many sessions it may hold for appends and reads (one more listens).
    """

    def __init__(self, dsn: str, *, connections: int = 4) -> None:
        self._sessions = postgres.Few(dsn, what="log", most=connections)
        self._known: dict[str, _Known] = {}
        self._waiting: dict[str, set[asyncio.Event]] = {}
        # How often each topic was said to have grown, and how often that was when a reader last had all of it.
        self._news: Counter[str] = Counter()
        self._ends: dict[tuple[str, int], tuple[int, int]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._leases = Leases(self._session)

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do: everything."""
        return Capabilities(frozenset(Capability), model.MAX_EVENT_BYTES)

    async def migrate(self) -> None:
        """Create or bring forward the tables."""
        await self._leases.migrate()
        async with self._session() as conn:
            await postgres.migrate(conn, *TABLES)

    # Sessions

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[postgres.Connection]:
        """A session out of the few; driver errors leave as ``log_unreachable``."""
        try:
            async with self._sessions.session() as conn:
                yield conn
        except FigError as error:
            if error.code != "database_unreachable":
                raise
            raise _unreachable(error) from error

    async def close(self) -> None:
        """Let go of the sessions."""
        if self._listener is not None:
            await tasks.stop(self._listener)
        await self._sessions.close()

    # Topics

    async def create_topic(self, name: str, *, partitions: int = 1, retention_seconds: float | None = None) -> None:
        """Create a topic; see the port. ``topic_differs`` when it has another number of partitions."""
        async with self._session() as conn:
            await conn.execute(
                _queries.create_topic, {"name": name, "partitions": partitions, "retention": retention_seconds}
            )
        found = await self.topic(name)
        if found is not None and found.partitions != partitions:
            raise model.topic_differs(name, found.partitions, partitions)

    async def add_partitions(self, name: str, partitions: int) -> None:
        """Give a topic more partitions; see the port."""
        async with self._session() as conn:
            await conn.execute(_queries.add_partitions, {"name": name, "partitions": partitions})
        if await self.topic(name) is None:
            raise model.unknown_topic(name)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with its events."""
        self._known.pop(name, None)
        async with self._session() as conn, conn.transaction():
            number = await postgres.value(conn, _queries.delete_topic, {"name": name})
            if number is not None:
                await conn.execute(_queries.delete_records, {"topic": number})
        await self._leases.forget(name)

    async def topic(self, name: str) -> Topic | None:
        """The topic, or None."""
        async with self._session() as conn:
            row = await postgres.one(conn, _queries.topic, {"name": name})
        if row is None:
            self._known.pop(name, None)
            return None
        self._known[name] = _Known(row[0], row[2])
        return Topic(row[1], row[2], row[3], tuple(row[4] or ()))

    async def topics(self) -> list[Topic]:
        """All topics, by name."""
        async with self._session() as conn:
            rows = await postgres.fetch(conn, _queries.topics)
        return [Topic(row[1], row[2], row[3], tuple(row[4])) for row in rows]

    async def _find(self, name: str) -> _Known:
        if name not in self._known and await self.topic(name) is None:
            raise model.unknown_topic(name)
        return self._known[name]

    async def _partition(self, name: str, partition: int) -> _Known:
        known = await self._find(name)
        if partition >= known.partitions and await self.topic(name) is not None:  # it may have more by now
            known = self._known[name]
        if not 0 <= partition < known.partitions:
            raise model.unknown_partition(name, partition, known.partitions)
        return known

    # Append

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """Append in order; see the port. All of ``events`` or none (in batches of 32 MB each)."""
        model.check_sizes(events, self.capabilities.max_event_bytes)
        known = await self._find(topic) if partition is None else await self._partition(topic, partition)
        positions: list[int] = []
        for batch in model.in_calls(events, lambda one: len(one.data), most=_BATCH, most_bytes=_BATCH_BYTES):
            try:
                positions += await self._append_batch(known, topic, batch, partition)
            except _Gone:
                # The topic was deleted, and perhaps made anew, behind our back.
                self._known.pop(topic, None)
                known = await self._find(topic)
                try:
                    positions += await self._append_batch(known, topic, batch, partition)
                except _Gone:
                    raise model.unknown_topic(topic) from None
        return positions

    async def _append_batch(
        self, known: _Known, topic: str, events: Sequence[Event], partition: int | None
    ) -> list[int]:
        fresh = {event.id: event for event in events}
        look = False
        for attempt in range(_ATTEMPTS):
            try:
                async with self._session() as conn:
                    found = await self._write(conn, known, topic, list(fresh.values()), partition, look=look)
                return [found[event.id] for event in events]
            except psycopg.errors.UniqueViolation:
                # Looking each id up beforehand would cost every append what only a repeated one needs.
                look = True
            except psycopg.errors.DeadlockDetected:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise FigError(
            "append_contended",
            f"appending to '{topic}' met the same events being appended elsewhere",
            "Append again.",
            topic=topic,
        )

    async def _write(
        self,
        conn: postgres.Connection,
        known: _Known,
        topic: str,
        events: list[Event],
        partition: int | None,
        *,
        look: bool,
    ) -> dict[str, int]:
        groups: dict[int, list[Event]] = {}
        for event in events:
            number = model.partition_of(event.partitionkey, known.partitions) if partition is None else partition
            groups.setdefault(number, []).append(event)
        if len(groups) == 1 and not look:
            [(number, group)] = groups.items()
            return await self._insert(conn, known, topic, number, group)
        found: dict[str, int] = {}
        async with conn.transaction():
            if look:
                rows = await postgres.fetch(conn, _queries.known, (known.id, [event.id for event in events]))
                found.update((row[0], row[1]) for row in rows)
            # In order of their numbers, so that two producers cannot wait for each other.
            for number in sorted(groups):
                group = [event for event in groups[number] if event.id not in found]
                if group:
                    found |= await self._insert(conn, known, topic, number, group)
        return found

    async def _insert(
        self, conn: postgres.Connection, known: _Known, topic: str, partition: int, events: list[Event]
    ) -> dict[str, int]:
        rows = postgres_batch.rows(events)
        try:
            base = await postgres.value(
                conn,
                _queries.append,
                {
                    "topic": known.id,
                    "partition": partition,
                    "channel": topic,
                    "ids": [event.id for event in events],
                    "begins": [*accumulate((row.events for row in rows[:-1]), initial=0)],
                    "counts": [row.events for row in rows],
                    "headers": [row.header for row in rows],
                    "datas": [row.data for row in rows],
                },
            )
        except psycopg.errors.DivisionByZero:
            raise _Gone from None
        return {event.id: base + number for number, event in enumerate(events)}

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
        """Records from ``position`` on; see the port. ``position_expired`` below what is retained."""
        known = await self._partition(topic, partition)
        parameters = {
            "topic": known.id,
            "partition": partition,
            "position": position,
            "records": max_records,
            "bytes": max_bytes,
        }
        deadline = clock.monotonic() + wait
        place = (topic, partition)
        with self._waiter(topic, wait) as woken:
            if wait > 0 and self._ends.get(place) == (position, self._news[topic]):
                # Whoever asks here had all of it, and was told of nothing since: the question can wait as well.
                await clock.signalled(woken, timeout=min(wait, _POLL))
            while True:
                woken.clear()
                news = self._news[topic]
                async with self._session() as conn:
                    cursor = await conn.cursor(binary=True).execute(_queries.read, parameters)
                    rows = await cursor.fetchall()
                    if not rows or rows[0][0] > position:
                        await self._check_retained(conn, known, topic, partition, position)
                found = [record for row in rows for record in postgres_batch.records(topic, partition, *row)]
                found = found[max(0, position - found[0].position) :] if found else []
                page = _page(found, max_records, max_bytes)
                if page:
                    if len(page) == len(found) < max_records and sum(len(one.event.data) for one in page) < max_bytes:
                        self._ends[place] = (page[-1].position + 1, news)
                    return page
                left = deadline - clock.monotonic()
                if left <= 0:
                    return []
                await clock.signalled(woken, timeout=min(left, _POLL))

    async def _check_retained(
        self, conn: postgres.Connection, known: _Known, topic: str, partition: int, position: int
    ) -> None:
        bounds = await postgres.one(conn, _queries.bounds, (known.id, partition))
        if bounds is None:
            self._known.pop(topic, None)
            raise model.unknown_topic(topic)
        if position < bounds[0]:
            raise model.position_expired(topic, partition, position, bounds[0])

    @contextlib.contextmanager
    def _waiter(self, topic: str, wait: float) -> Any:
        """An event that is set when something is appended to ``topic``."""
        woken = asyncio.Event()
        if wait > 0:
            self._listen()
            self._waiting.setdefault(topic, set()).add(woken)
        try:
            yield woken
        finally:
            if wait > 0:
                self._waiting[topic].discard(woken)

    def _listen(self) -> None:
        if self._listener is None or self._listener.done():
            self._listener = tasks.spawn(tasks.supervise(self._notified, name="log listener"), name="log listener")

    async def _notified(self) -> None:
        async with postgres.session(self._sessions.dsn, what="log listener") as conn:
            await conn.execute(f"LISTEN {_CHANNEL}")
            for waiting in self._waiting.values():  # what was appended before we listened
                for woken in waiting:
                    woken.set()
            async for notification in conn.notifies():
                self._news[notification.payload] += 1
                for woken in self._waiting.get(notification.payload, ()):
                    woken.set()

    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """The first log position appended at or after ``time``; found by halving, so without an index of its own."""
        known = await self._partition(topic, partition)
        async with self._session() as conn:
            bounds = await postgres.one(conn, _queries.bounds, (known.id, partition))
            if bounds is None:
                raise model.unknown_topic(topic)
            low, high = bounds
            while low < high:
                middle = {"topic": known.id, "partition": partition, "position": (low + high) // 2}
                row = await postgres.one(conn, _queries.around, middle)
                if row is None:
                    break  # deleted by retention, or with its topic, meanwhile
                first, count, at = row
                if at < time:
                    low = first + count
                else:
                    high = min(first, high)
        return int(low)

    async def enforce_retention(self) -> int:
        """Delete what topics no longer keep; returns how many positions were given up."""
        gone = 0
        for topic in await self.topics():
            if topic.retention_seconds is None:
                continue
            known = await self._find(topic.name)
            limit = clock.now() - timedelta(seconds=topic.retention_seconds)
            for partition in range(topic.partitions):
                first = await self.position_at(topic.name, partition, limit)
                async with self._session() as conn:
                    before = await postgres.one(conn, _queries.bounds, (known.id, partition))
                    if before is not None and before[0] < first:
                        await conn.execute(_queries.expire, {"topic": known.id, "partition": partition, "first": first})
                        gone += first - before[0]
        return gone

    # Groups

    async def subscribe(self, topics: Sequence[str], group: str, *, lease: float = LEASE) -> Subscription:
        """Join ``group``; see the port."""
        return await self._leases.subscribe(self, topics, group, lease=lease)

    async def places(self, topics: Sequence[str], group: str) -> dict[Place, int]:
        """The topics' partitions, and what is kept of each first."""
        known = {(await self._find(name)).id: name for name in topics}
        async with self._session() as conn:
            rows = await postgres.fetch(conn, _queries.firsts, (list(known),))
        return {(known[row[0]], row[1]): row[2] for row in rows}

    async def grown(self, topics: Sequence[str], timeout: float) -> None:
        """Until something is appended to any of the topics, or it is time to look anyway."""
        woken = asyncio.Event()
        self._listen()
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(woken)
        try:
            await clock.signalled(woken, timeout=min(_POLL, timeout))
        finally:
            for topic in topics:
                self._waiting[topic].discard(woken)


class _Gone(Exception):
    """The partition's row is not there."""


def _unreachable(error: FigError) -> FigError:
    return FigError(
        "log_unreachable",
        f"the log: {error.message}",
        "Check that its PostgreSQL runs. An append whose answer was lost may be repeated: it is idempotent.",
        **error.context,
    )


def _page(records: list[Record], most: int, most_bytes: int) -> list[Record]:
    """The first of ``records`` within the bounds, at least one."""
    size = 0
    for number, record in enumerate(records[:most]):
        if number and size >= most_bytes:
            return records[:number]
        size += len(record.event.data)
    return records[:most]
