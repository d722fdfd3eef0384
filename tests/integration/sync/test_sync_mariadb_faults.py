"""A service that is written at random, its worker killed at random: the MariaDB holds what the mapping says, and
forward capture would take nothing of it for the monolith's."""

from __future__ import annotations

import asyncio
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mariadb_scenario as m
import psycopg
import pytest
import sync_scenario as s

from stranglerfig.capture import capture
from stranglerfig.capture.job import CaptureJob, Pace
from stranglerfig.changes.flows import Flows
from stranglerfig.changes.model import Direction
from stranglerfig.databases import ownership
from stranglerfig.databases.mariadb import binlog
from stranglerfig.databases.markers import emit_marker
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock, mysql, postgres, tasks
from tests.conftest import MonolithOnMariaDB, Server

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[3]
ROWS = {
    "inventory": "SELECT i.item_id, i.sku, i.name, s.on_hand, s.reserved, i.reorder_level,"
    " (s.updated_at AT TIME ZONE 'UTC')::timestamp(6)::text FROM inventory_item i JOIN stock_level s USING (item_id)",
    "reservations": "SELECT reservation_id, item_id, order_ref, quantity, (state = 'released')::int,"
    " (created_at AT TIME ZONE 'UTC')::timestamp(6)::text FROM reservation",
    "inventory_requests": "SELECT key, kind, item_id, delta, response::text,"
    " (created_at AT TIME ZONE 'UTC')::timestamp(6)::text FROM processed_request",
}
BIG = "jsonb_build_object('v', (SELECT string_agg(md5((random() * 1e9)::text), '') FROM generate_series(1, 300)))"


class Writer:
    """Random transactions of the service, each of several statements; some are rolled back."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.number = 0
        self.committed = 0

    def statements(self) -> list[str]:
        self.number += 1
        here, n = self.chance, self.number
        some = f"(SELECT item_id FROM inventory_item ORDER BY md5(item_id::text || '{n}') LIMIT {here.randint(1, 6)})"
        return here.choice([self.made, self.changed, self.moved, self.removed, self.requests, self.swapped])(n, some)

    def made(self, n: int, some: str) -> list[str]:
        first, last = n * 100, n * 100 + self.chance.randint(0, 60)
        return [
            "INSERT INTO inventory_item SELECT g, 'S' || g, 'thing é ' || quote_literal(g), 1"
            f" FROM generate_series({first}, {last}) g",
            f"INSERT INTO stock_level SELECT g, g % 9, 0, now() FROM generate_series({first}, {last}) g",
            f"INSERT INTO reservation (item_id, quantity, state, created_at) SELECT g, 1, 'held', now()"
            f" FROM generate_series({first}, {last}, 3) g",
        ]

    def changed(self, n: int, some: str) -> list[str]:
        return [
            f"UPDATE stock_level SET on_hand = on_hand + 1, updated_at = clock_timestamp() WHERE item_id IN {some}",
            f"UPDATE inventory_item SET name = name || ' {n}' WHERE item_id IN {some}",
            f"UPDATE reservation SET state = 'released', order_ref = {n} WHERE item_id IN {some}",
        ]

    def moved(self, n: int, some: str) -> list[str]:
        """Keys change, and what refers to them is pointed elsewhere by the service itself."""
        return [
            "CREATE TEMP TABLE moving ON COMMIT DROP AS SELECT item_id FROM inventory_item"
            f" WHERE item_id < 10000000 AND item_id IN {some}",
            "INSERT INTO inventory_item SELECT item_id + 10000000, 'M' || sku, name, reorder_level FROM inventory_item"
            " WHERE item_id IN (TABLE moving)",
            "UPDATE stock_level SET item_id = item_id + 10000000 WHERE item_id IN (TABLE moving)",
            "UPDATE reservation SET item_id = item_id + 10000000 WHERE item_id IN (TABLE moving)",
            "DELETE FROM inventory_item WHERE item_id IN (TABLE moving)",
            f"UPDATE reservation SET reservation_id = -reservation_id WHERE reservation_id % 7 = {n % 7}",
        ]

    def removed(self, n: int, some: str) -> list[str]:
        return [
            f"CREATE TEMP TABLE going ON COMMIT DROP AS SELECT item_id FROM inventory_item WHERE item_id IN {some}",
            "DELETE FROM reservation WHERE item_id IN (TABLE going)",
            "DELETE FROM stock_level WHERE item_id IN (TABLE going)",
            "DELETE FROM inventory_item WHERE item_id IN (TABLE going)",
        ]

    def requests(self, n: int, some: str) -> list[str]:
        """Large values that are not sent when they do not change, also where the key does."""
        return [
            f"INSERT INTO processed_request SELECT 'k%' || {n} || '-' || g, 'adjust', g, g, {BIG}, now()"
            " FROM generate_series(1, 4) g",
            f"UPDATE processed_request SET delta = delta + 1 WHERE delta = {n % 5}",
            f"UPDATE processed_request SET key = key || 'x' WHERE length(key) < 30 AND delta = {n % 3}",
            f"DELETE FROM processed_request WHERE delta > 4 + {n % 3}",
        ]

    def swapped(self, n: int, some: str) -> list[str]:
        """Two unique values change places."""
        pair = "SELECT min(item_id) AS a, max(item_id) AS b FROM inventory_item HAVING count(*) > 1"
        return [
            f"UPDATE inventory_item SET sku = 'tmp' FROM ({pair}) p WHERE item_id = a",
            f"UPDATE inventory_item SET sku = 'was{n}' FROM ({pair}) p WHERE item_id = b",
            f"UPDATE inventory_item SET sku = 'now{n}' FROM ({pair}) p WHERE item_id = a",
        ]

    async def write(self, dsn: str, stop: asyncio.Event) -> None:
        async with postgres.session(dsn, what="writer") as conn:
            while not stop.is_set():
                with_rollback = self.chance.random() < 0.1
                try:
                    async with conn.transaction(force_rollback=with_rollback):
                        for statement in self.statements():
                            await conn.execute(statement)  # type: ignore[call-overload]
                    self.committed += not with_rollback
                except psycopg.errors.UniqueViolation:
                    pass  # what it made up collided
                await asyncio.sleep(0.03)


async def theirs(dsn: str, query: str) -> list[tuple[Any, ...]]:
    rows = await s.rows(dsn, query)
    return sorted(tuple(None if value is None else str(value) for value in row) for row in rows)


async def test_a_monolith_on_mariadb_follows_the_service_whatever_dies(
    mariadb: MonolithOnMariaDB, postgres: Server, tmp_path: Path
) -> None:
    seed = random.randrange(1_000_000)
    print("seed:", seed)
    flow = await m.backward(mariadb, postgres)
    await flow.run_sql("ALTER TABLE inventory ADD UNIQUE (sku)")
    service, log_dsn = flow.job.evaluator, postgres.database()
    await s.run_sql(service, "ALTER TABLE inventory_item ADD UNIQUE (sku)")
    async with s.postgres.session(service, what="test") as conn:
        await ownership.migrate(conn)
    async with mysql.session(flow.job.dsn, what="test") as monolith:
        place = await binlog.where(monolith)
    log, flows = PostgresLog(log_dsn), Flows(log_dsn)
    await log.migrate()
    await flows.migrate()
    job = CaptureJob(
        "inventory", Direction.REVERSE, service, flow.job.mapping.inputs(Direction.REVERSE), snapshot=False,
        pace=Pace(look=0.1, acknowledge=0.2),
    )  # fmt: skip
    told: dict[str, Any] = {}

    async def report(said: dict[str, Any]) -> None:
        told.update(said)
        if said["error"] is not None:
            print("capture:", said["error"])

    async def streaming() -> bool:
        return told.get("state") == "streaming"

    (tmp_path / "job").write_bytes(pickle.dumps((flow.job, log_dsn, log_dsn)))
    writer, stop = Writer(seed), asyncio.Event()
    workers: list[subprocess.Popen[bytes]] = []
    capturing = tasks.spawn(capture.run(job, log, report), name="test capture")
    try:
        await clock.until(streaming, timeout=20, what="the stream")
        writing = tasks.spawn(writer.write(service, stop), name="test writer")
        for kill in range(6):
            worker = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("sync_worker.py")), str(tmp_path / "job")],
                cwd=ROOT, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            workers.append(worker)
            before = await position(flow)
            some = writer.chance.randint(1, 40)

            async def further(before: int = before, some: int = some, worker: Any = worker) -> bool:
                assert worker.poll() is None
                return await position(flow) >= before + some

            await clock.until(further, timeout=60, what="the worker to write", every=0.005, at_most=0.02)
            if kill == 5:
                stop.set()
                await writing
                async with s.postgres.session(service, what="test") as conn:
                    nonce = await emit_marker(conn, "inventory", "reverse")
                await applied(flow, nonce)
            elif kill == 2:
                worker.send_signal(signal.SIGSTOP)  # the server ends its session, and who waits takes over
            elif kill == 3:
                workers[2].send_signal(signal.SIGCONT)
                worker.kill()
            else:
                for each in workers:
                    each.kill()
        async with mysql.session(flow.job.dsn, what="test") as monolith:
            assert await monolith.fetch("SELECT * FROM fig.parked") == []
            for table, query in ROWS.items():
                expected = await theirs(service, query)
                found = [
                    tuple(v if v is None else trimmed(str(v)) for v in row)
                    for row in await monolith.fetch(f"SELECT * FROM {table}")
                ]
                assert sorted(found) == expected, table
                assert len(expected) > 5, table
            assert m.ours(await m.first_tables(monolith, place.file, place.offset), mysql.parse(flow.job.dsn).database)
            print(writer.committed, "transactions,", await position(flow), "of them read")
        assert writer.committed > 50
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        stop.set()
        await tasks.stop(capturing)
        await capture.remove(service, "inventory", Direction.REVERSE)
        await log.close()


def trimmed(text: str) -> str:
    """A time as PostgreSQL shows it: without the zeros at its end."""
    return text.rstrip("0").rstrip(".") if len(text) == 26 and text[10] == " " and text[19] == "." else text


async def position(flow: m.Backward) -> int:
    """Up to where in the log our workers have written: one that is behind writes many transactions in one commit."""
    try:
        [[found]] = await flow.rows("SELECT coalesce(max(log_position), 0) FROM fig.applied")
    except s.apply.FigError:
        return 0
    return int(found)


async def applied(flow: m.Backward, nonce: str) -> None:
    async def there() -> bool:
        return bool(await flow.rows(f"SELECT 1 FROM fig.marker WHERE nonce = '{nonce}'"))

    await clock.until(there, timeout=200, what="the marker")
