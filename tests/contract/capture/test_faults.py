"""Capture through Debezium when parts of it die: nothing lost, nothing doubled, and said in words."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from stranglerfig.capture.capture import remove
from stranglerfig.changes import frames
from stranglerfig.changes.model import Item
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import postgres as sessions
from stranglerfig.foundation import tasks
from tests.captures import FORWARD, ITEM, Running, captured, held, replayed
from tests.conftest import Server
from tests.contract.capture.conftest import Farm

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(600)  # the first one starts the servers


async def load(dsn: str, stop: asyncio.Event, seed: int) -> int:
    """Writes until told to stop: single rows, many by COPY (which share LSNs), updates, moves, deletions."""
    chance = random.Random(seed)
    number = 0
    async with sessions.session(dsn, what="load") as conn:
        while not stop.is_set():
            kind = chance.random()
            many = chance.randint(1, 1500) if kind < 0.2 else 1
            if kind < 0.2:
                async with conn.cursor() as cursor, cursor.copy("COPY item (id, sku) FROM STDIN") as copy:
                    for n in range(many):
                        await copy.write_row((number + n, f"copied {number}"))
                number += many
            elif kind < 0.6:
                await conn.execute("INSERT INTO item VALUES (%s, 'one')", (number,))
                number += 1
            else:
                low = chance.randint(0, max(number, 1))
                await conn.execute(
                    chance.choice(
                        (
                            "UPDATE item SET n = n + 1 WHERE id BETWEEN %s AND %s",
                            "DELETE FROM item WHERE id BETWEEN %s AND %s",
                            "UPDATE item SET id = -id WHERE id > 0 AND id BETWEEN %s AND %s",
                        )
                    ),
                    (low, low + 20),
                )
            await asyncio.sleep(0.002)
    return number


@asynccontextmanager
async def loaded(dsn: str, seed: int) -> AsyncIterator[None]:
    stop = asyncio.Event()
    work = tasks.spawn(load(dsn, stop, seed), name="load")
    try:
        yield
    finally:
        stop.set()
        await work


@pytest.mark.timeout(600)
async def test_kafka_connect_is_killed_under_load_and_nothing_is_lost_or_doubled(postgres: Server, farm: Farm) -> None:
    async with captured(postgres.database(), ITEM, through=farm.through) as (running, conn):
        await running.streaming()
        async with loaded(running.job.dsn, 5):
            for _ in range(2):
                before = running.report["changes"]
                await running.until(lambda r, n=before: r["changes"] > n + 2000, "changes")  # type: ignore[misc]
                await asyncio.to_thread(farm.connect.kill)
                await running.until(lambda r: r["error"] and "connect" in r["error"]["code"], "connect")
                farm.connect.start()  # in this thread: what one of the pool's starts would end with it
                await running.streaming()
        await running.caught_up(conn)
        assert replayed(await running.items()) == await held(conn)


async def test_the_relay_is_killed_at_random_and_nothing_is_lost_or_doubled(postgres: Server, farm: Farm) -> None:
    dsn, log_dsn = postgres.database(), postgres.database()
    chance = random.Random(3)
    running = Running(dsn, through=farm.through)
    told = {
        "url": farm.connect.url, "servers": farm.kafka.servers, "context": running.job.context, "dsn": dsn,
        "tables": ["public.item"], "log": log_dsn,
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.contract.capture.relay_child", orjson.dumps(told).decode()]
    running.log = PostgresLog(log_dsn)
    async with sessions.session(dsn, what="test") as conn:
        await conn.execute(ITEM)
        try:
            async with loaded(dsn, 9):
                for _ in range(3):
                    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
                        assert child.stdout is not None
                        changes = 0
                        enough = chance.randint(500, 3000)
                        while changes < enough:
                            line = await asyncio.to_thread(child.stdout.readline)
                            assert line, "the child ended by itself"
                            changes = orjson.loads(line)["changes"]
                        os.kill(child.pid, signal.SIGKILL)
            running.start()
            await running.streaming()
            await running.caught_up(conn)
            items: list[Item] = []
            for record in await everything(running):
                items += frames.decode(record.event.datacontenttype, record.event.data)
            assert replayed(items) == await held(conn)
        finally:
            await running.stop()
            await running.log.close()
            await remove(dsn, running.job.context, FORWARD, farm.through)


async def everything(running: Running) -> list[Any]:
    found: list[Any] = []
    while batch := await running.log.read(running.topic, 0, len(found), max_records=500):
        found += batch
    return found
