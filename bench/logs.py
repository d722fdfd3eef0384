"""Events into a log and out of it: through the port, and by a bare client of the same server beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from psycopg import sql

from bench.context import Context, Spent
from bench.result import Result
from examples.servers.kafka import Kafka
from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.kafka_producer import headers
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock
from stranglerfig.runtime.roles import collect_rarely

EVENTS = 200_000
BATCH = 1000
FLYING = 2
"""Appends that are on their way at a time, so that the client makes the next one while the server has one."""
QUEUED = 50_000
"""Messages that the bare client may have on their way: it waits for nothing before."""
PAGE = 5000
ROUNDS = 3
BODY = b'{"item_id": 4711, "on_hand": 42, "reserved": 7, "reason": "' + b"x" * 178 + b'"}'
PLAIN = """CREATE TABLE plain (
    position bigint GENERATED ALWAYS AS IDENTITY (START 0 MINVALUE 0) PRIMARY KEY,
    id text NOT NULL, source text NOT NULL, type text NOT NULL, time timestamptz NOT NULL, body bytea NOT NULL)"""

Batches = list[list[Event]]


class Rates(NamedTuple):
    """Events a second."""

    append: float
    read: float

    def best(self, other: Rates) -> Rates:
        """The better ones of two rounds: what other programs took meanwhile is not counted."""
        return Rates(max(self.append, other.append), max(self.read, other.read))


NOTHING = Rates(0.0, 0.0)


def postgres(context: Context) -> list[Result]:
    """``log_append`` and ``log_read``: the log on PostgreSQL, beside plain COPY and SELECT of the same events."""
    with context.servers("control") as (control,):
        dsn = control.create_database("fig")
        spent = Spent({})
        ours, theirs = _rounds(context, "log", dsn, lambda batches, number: _plain(dsn, batches))
        cores = spent.says()
    return _results(
        "log", ours, theirs, "COPY into a table with a primary key", "SELECT of pages of that table", cores, 150_000
    )


def kafka(context: Context) -> list[Result]:
    """``kafka_append`` and ``kafka_read``: the log on Kafka, beside ``confluent-kafka`` alone."""
    with context.folder("kafka") as folder:
        server = Kafka(folder, java=())
        server.start()
        try:
            spent = Spent({})
            ours, theirs = _rounds(
                context, "kafka", server.url, lambda batches, number: _confluent(server.servers, batches, number)
            )
            cores = spent.says()
        finally:
            server.stop()
    peer = "confluent-kafka alone, the same messages and settings"
    return _results("kafka", ours, theirs, peer, "confluent-kafka alone, every field taken", cores, None)


def _rounds(context: Context, name: str, url: str, peer: Callable[[Batches, int], Rates]) -> tuple[Rates, Rates]:
    """Ours and the peer's in turns."""
    collect_rarely()  # as our processes do; the peer gains by it as well
    count = context.rows(EVENTS) // BATCH
    ours, theirs = NOTHING, NOTHING
    for number in range(ROUNDS):
        batches = [
            [Event(f"{number}-{batch}-{n}", "/bench", "bench.Counted", clock.now(), BODY) for n in range(BATCH)]
            for batch in range(count)
        ]
        ours = ours.best(asyncio.run(_through_the_port(url, f"bench-{number}", batches)))
        theirs = theirs.best(peer(batches, number))
        context.say(f"{name}: round {number + 1} of {ROUNDS}: {ours.append:,.0f}/s in, {ours.read:,.0f}/s out")
    return ours, theirs


def _results(
    name: str, ours: Rates, theirs: Rates, append: str, read: str, cores: str, target: float | None
) -> list[Result]:
    how = f"{len(BODY)} B each, the best of {ROUNDS} rounds in turns; {cores}"
    return [
        Result(
            f"{name}_append",
            ours.append,
            "events/s",
            append,
            theirs.append,
            target or 0.8 * theirs.append,
            more_is_better=True,
            note=f"batches of {BATCH:,}, {FLYING} on their way, durable when told; {how}",
        ),
        Result(
            f"{name}_read",
            ours.read,
            "events/s",
            read,
            theirs.read,
            0.8 * theirs.read,
            more_is_better=True,
            note=f"pages of {PAGE:,}; {how}",
        ),
    ]


async def _through_the_port(url: str, topic: str, batches: Batches) -> Rates:
    log = open_log(url)
    try:
        await log.migrate()
        await log.create_topic(topic)
        warm = [event._replace(id=f"warm-{event.id}") for event in batches[0]]
        await log.append(topic, warm)
        begun = time.perf_counter()
        await _keep_flying(lambda batch: log.append(topic, batch), iter(batches))
        appended = time.perf_counter()
        read = await _read(log, topic)
        ended = time.perf_counter()
        events = sum(map(len, batches))
        if read != events + len(warm):
            raise RuntimeError(f"{read:,} of {events + len(warm):,} events were read")
        return Rates(events / (appended - begun), read / (ended - appended))
    finally:
        await log.close()


async def _keep_flying(append: Callable[[list[Event]], Awaitable[list[int]]], batches: Iterator[list[Event]]) -> None:
    async def lane() -> None:
        for batch in batches:
            await append(batch)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(FLYING):
            lanes.create_task(lane())


async def _read(log: EventLog, topic: str) -> int:
    position = read = 0
    while page := await log.read(topic, 0, position, max_records=PAGE):
        position, read = page[-1].position + 1, read + len(page)
    return read


def _plain(dsn: str, batches: Batches) -> Rates:
    """What the driver can do with a table and nothing else: no ids that are checked, no order over commits."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS plain")
        conn.execute(PLAIN)
        begun = time.perf_counter()
        for batch in batches:
            with conn.cursor().copy("COPY plain (id, source, type, time, body) FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["text", "text", "text", "timestamptz", "bytea"])
                for event in batch:
                    copy.write_row((event.id, event.source, event.type, event.time, event.data))
        appended = time.perf_counter()
        position = read = 0
        query = sql.SQL("SELECT * FROM plain WHERE position >= %s ORDER BY position LIMIT {}").format(PAGE)
        while page := conn.cursor(binary=True).execute(query, (position,)).fetchall():
            position, read = page[-1][0] + 1, read + len(page)
        return Rates(read / (appended - begun), read / (time.perf_counter() - appended))


def _confluent(servers: str, batches: Batches, number: int) -> Rates:
    topic = f"peer-{number}"
    asyncio.run(_create(f"kafka://{servers}", topic))
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 1,
            "batch.size": 1_000_000,
        }
    )
    flying = 0

    def told(error: object, _: object) -> None:
        nonlocal flying
        if error is not None:
            raise RuntimeError(str(error))
        flying -= 1

    begun = time.perf_counter()
    for batch in batches:
        for event in batch:
            flying += 1
            producer.produce(topic, event.data, None, 0, told, None, 0, headers(event))
        producer.poll(0)
        while flying > QUEUED:
            producer.poll(0.001)
    producer.flush()
    appended = time.perf_counter()
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    events = sum(map(len, batches))
    read = 0
    while read < events:
        messages = consumer.consume(PAGE, 0.05)
        for message in messages:
            message.value(), message.key(), message.headers(), message.offset(), message.timestamp()
        read += len(messages)
    ended = time.perf_counter()
    consumer.close()
    return Rates(events / (appended - begun), events / (ended - appended))


async def _create(url: str, topic: str) -> None:
    log = open_log(url)
    try:
        await log.create_topic(topic)
    finally:
        await log.close()
