"""Events into the log on PostgreSQL, beside plain COPY of as many bytes into a bare table."""

from __future__ import annotations

import asyncio
import time

import psycopg

from bench.context import Context
from bench.result import Result
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock

EVENTS = 200_000
BATCH = 1000
BODY = b'{"item_id": 4711, "on_hand": 42, "reserved": 7, "reason": "' + b"x" * 178 + b'"}'


def appended(context: Context) -> list[Result]:
    """``log_append``: batches of 1,000 events of 240 bytes, each durable before the next begins."""
    count = context.rows(EVENTS) // BATCH * BATCH
    with context.servers("control") as (control,):
        dsn = control.create_database("fig")
        context.say(f"log_append: {count:,} events")
        ours = asyncio.run(_append(dsn, count))
        theirs = _copy(dsn, count)
    return [
        Result(
            "log_append",
            ours,
            "events/s",
            "COPY of as many bytes into a bare table, as many a commit",
            theirs,
            more_is_better=True,
            note=f"{count:,} events of {len(BODY)} B in batches of {BATCH:,}, one producer, ids checked for duplicates",
        )
    ]


async def _append(dsn: str, count: int) -> float:
    log = PostgresLog(dsn)
    try:
        await log.migrate()
        await log.create_topic("bench")
        taken = 0.0
        for batch in range(-1, count // BATCH):  # the first one warms up
            events = [Event(f"{batch}-{n}", "/bench", "bench.Counted", clock.now(), BODY) for n in range(BATCH)]
            begun = time.perf_counter()
            await log.append("bench", events)
            taken += time.perf_counter() - begun if batch >= 0 else 0.0
        return count / taken
    finally:
        await log.close()


def _copy(dsn: str, count: int) -> float:
    line = BODY.replace(b"\\", b"\\\\") + b"\n"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE plain (body text)")
        begun = time.perf_counter()
        for _ in range(count // BATCH):
            with conn.cursor().copy("COPY plain FROM STDIN") as copy:
                copy.write(line * BATCH)
        return count / (time.perf_counter() - begun)
