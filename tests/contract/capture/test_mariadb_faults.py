"""Capture from MariaDB when parts of it die: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from examples.servers.mariadb import MariaDB
from stranglerfig.capture.capture import remove
from stranglerfig.capture.debezium import connector_name, raw_topic
from stranglerfig.capture.mariadb import relay
from stranglerfig.capture.mariadb.relay import Relay
from stranglerfig.changes import frames
from stranglerfig.changes.model import Direction, Item, SnapshotChunk, SnapshotEdge, Value
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock, mysql, tasks
from stranglerfig.foundation.errors import FigError
from tests.captures import replayed
from tests.conftest import MonolithOnMariaDB, Server
from tests.contract.capture.conftest import Farm
from tests.contract.capture.mariadb_source import OnMariaDB, captured
from tests.contract.capture.test_faults import ROOT, everything

pytestmark = pytest.mark.timeout(600)  # the first one starts the servers


async def load(dsn: str, stop: asyncio.Event, seed: int) -> None:
    """Writes until told to stop, whether the server is there or not: rows, many at once, updates, moves, deletions."""
    chance = random.Random(seed)
    number = 0
    while not stop.is_set():
        with suppress(FigError):
            async with mysql.session(dsn, what="load") as conn:
                while not stop.is_set():
                    number += 1000
                    low = chance.randint(0, number)
                    last = number + chance.randint(1, 900)
                    statement = chance.choice(
                        (
                            f"INSERT INTO item SELECT seq, 'many', 0 FROM seq_{number}_to_{last}",
                            f"INSERT INTO item VALUES ({number}, 'one', 0)",
                            f"UPDATE item SET n = n + 1 WHERE id BETWEEN {low} AND {low + 500}",
                            f"DELETE FROM item WHERE id BETWEEN {low} AND {low + 50}",
                            f"UPDATE item SET id = -id WHERE id > 0 AND id BETWEEN {low} AND {low + 50}",
                        )
                    )
                    async with conn.transaction():
                        await conn.execute(statement)
                        await conn.execute(f"UPDATE item SET name = 'touched' WHERE id = {low}")
                    await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)


async def test_relay_and_source_are_killed_under_load_and_nothing_is_lost_or_doubled(
    tmp_path: Path, postgres: Server, farm: Farm
) -> None:
    server = MariaDB(tmp_path / "mariadb")
    server.start()
    log_dsn = postgres.database()
    stop = asyncio.Event()
    async with mysql.session(server.url("mysql"), what="test") as conn:
        await conn.execute("CREATE DATABASE shop")
        await conn.execute("CREATE TABLE shop.item (id int PRIMARY KEY, name varchar(40), n int)")
        await conn.execute("INSERT INTO shop.item SELECT -seq, 'before', 0 FROM seq_1000000_to_1002000")
    dsn = server.url("shop")
    running = OnMariaDB(dsn, tables=("shop.item",), through=farm.through)
    running.log = PostgresLog(log_dsn)
    told = {
        "url": farm.connect.url, "servers": farm.kafka.servers, "context": running.job.context, "dsn": dsn,
        "tables": ["shop.item"], "log": log_dsn,
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.contract.capture.relay_child", orjson.dumps(told).decode()]
    writing = tasks.spawn(load(dsn, stop, 11), name="load")
    try:
        for victim in ("relay", "source", "relay"):
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                changes, enough = 0, 1500
                while changes < enough:
                    line = await asyncio.to_thread(child.stdout.readline)
                    assert line, "the child ended by itself"
                    changes = orjson.loads(line)["changes"]
                    if victim == "source" and changes >= enough:
                        await asyncio.to_thread(server.kill)
                        await asyncio.to_thread(server.start)
                        victim, enough = "relay", changes + 1000
                os.kill(child.pid, signal.SIGKILL)
        stop.set()
        await writing
        running.start()
        async with mysql.session(dsn, what="test") as conn:
            await running.streaming()
            await arrived(running, conn)
            held = await conn.fetch("SELECT id, name, n FROM item")
        items: list[Item] = []
        for record in await everything(running):
            items += frames.decode(record.event.datacontenttype, record.event.data)
        here: dict[str, tuple[Value, ...]] = {str(row[0]): tuple(str(value) for value in row) for row in held}
        assert replayed(items) == here and len(here) > 2000
    finally:
        stop.set()
        await tasks.stop(writing)
        await running.stop()
        await running.log.close()
        await remove(dsn, running.job.context, Direction.FORWARD, farm.through)
        server.stop()


async def arrived(running: OnMariaDB, conn: mysql.Connection) -> None:
    """Wait until the capture has everything: what it stands at is where the source's log ended."""
    row = await conn.one("SHOW MASTER STATUS")
    assert row is not None
    file, offset = str(row[0]), int(row[1] or 0)
    end = f"{int(file.rpartition('.')[2]):X}/{offset:X}"

    async def there() -> bool:
        parts = [[int(p, 16) for p in text.split("/")] for text in (running.report["lsn"], end)]
        return parts[0] >= parts[1]

    await clock.until(there, timeout=120, what=f"everything up to {end}")


ITEM = ("CREATE TABLE item (id int PRIMARY KEY, n int)", "INSERT INTO item VALUES (1, 1)")


async def test_a_connector_that_falls_silent_is_begun_again(
    mariadb: MonolithOnMariaDB, farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SILENT_SECONDS", 4.0)
    async with captured(mariadb, farm.through, ("item",), *ITEM) as (running, conn):
        await running.streaming()
        url = f"{farm.connect.url}/connectors/{connector_name(running.job.context, Direction.FORWARD)}/pause"
        async with aiohttp.ClientSession() as session, session.put(url, json={}) as answer:
            assert answer.status == 202
        await running.until(
            lambda r: r["error"] and r["error"]["code"] == "connector_silent", "that it is silent", may_fail=True
        )
        await conn.execute("INSERT INTO item VALUES (2, 2)")
        await running.streaming()
        await running.caught_up_with(conn)
        assert [change.after for change in await running.changes()] == [("2", "2")]


async def test_a_table_that_changes_between_the_snapshot_and_the_connector_is_read_again(
    mariadb: MonolithOnMariaDB, farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, altered = Relay._begin, False

    async def altering(self: Relay, conn: mysql.Connection, *rest: Any) -> None:
        nonlocal altered
        if not altered:
            altered = True
            await conn.execute("INSERT INTO item VALUES (2, 20)")
            await conn.execute("ALTER TABLE item ADD COLUMN first int FIRST")
        await begin(self, conn, *rest)

    monkeypatch.setattr(Relay, "_begin", altering)
    async with captured(mariadb, farm.through, ("item",), *ITEM) as (running, conn):

        async def twice() -> bool:
            edges = [i for i in await running.items() if isinstance(i, SnapshotEdge) and i.begins]
            return [edge.generation for edge in edges] == [1, 2]

        await clock.until(twice, timeout=120, what="another snapshot", at_most=1.0)
        await running.streaming()
        await conn.execute("INSERT INTO item VALUES (NULL, 3, 30)")
        await running.caught_up_with(conn)
        chunks = [item for item in await running.items() if isinstance(item, SnapshotChunk)]
        assert chunks[-1].copy == b"\\N\t1\t1\n\\N\t2\t20\n"
        assert [change.after for change in await running.changes()] == [(None, "3", "30")]


async def test_what_a_paused_worker_sends_late_of_an_earlier_life_is_passed_over(
    mariadb: MonolithOnMariaDB, farm: Farm
) -> None:
    """A whole transaction from further on than the log is: taken for the next one, all between would be lost."""
    async with captured(mariadb, farm.through, ("item",), *ITEM) as (running, conn):
        await running.streaming()
        await conn.execute("INSERT INTO item VALUES (2, 2)")
        await running.caught_up_with(conn)
        await running.stop()
        topic = raw_topic(running.job.context, Direction.FORWARD, 1)
        late = [ahead(value, headers) for value, headers in await asyncio.to_thread(sent, farm, topic)]
        assert any(b'"id":77' in value for value, _ in late)
        running.start()
        await running.streaming()
        producer = Producer({"bootstrap.servers": farm.kafka.servers})
        for value, headers in late:
            producer.produce(topic, value, headers=headers)
        assert await asyncio.to_thread(producer.flush, 30) == 0
        await conn.execute("INSERT INTO item VALUES (3, 3)")
        await running.caught_up_with(conn)
        assert [change.after for change in await running.changes()] == [("2", "2"), ("3", "3")]


Headers = list[tuple[str, bytes]]


def sent(farm: Farm, topic: str) -> list[tuple[bytes, Headers]]:
    """What the connector sent of the transaction that inserted item 2."""
    consumer = Consumer({"bootstrap.servers": farm.kafka.servers, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[tuple[bytes, Headers]] = []
    try:
        while (message := consumer.poll(3.0)) is not None:
            assert message.error() is None
            found.append((message.value() or b"", list(message.headers() or ())))
    finally:
        consumer.close()
    assert all(dict(headers)["fig.life"].startswith(b"life-") for _, headers in found)
    changes = [orjson.loads(value) for value, _ in found if b'"after":{"id":2,' in value]
    gtid = changes[0]["transaction"]["id"].encode()
    return [(value, headers) for value, headers in found if gtid in value]


def ahead(value: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """The same of a later transaction, and of item 77."""
    record = orjson.loads(value)
    whose = record.get("transaction", record)
    domain, server, number = whose["id"].split("-")
    whose["id"] = f"{domain}-{server}-{int(number) + 1000}"
    if "transaction" in record:
        record["source"]["pos"] += 1_000_000
        record["after"]["id"] = 77
    return orjson.dumps(record), headers
