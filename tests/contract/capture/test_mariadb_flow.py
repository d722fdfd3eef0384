"""A MariaDB's rows in a PostgreSQL service: captured, synced through a mapping, verified across the two dialects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from stranglerfig.capture.capture import remove
from stranglerfig.changes.mapping import Mapping as TableMap
from stranglerfig.changes.mapping import check, compile_mapping
from stranglerfig.changes.model import Direction, names
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases import catalogue, ownership
from stranglerfig.databases.mariadb import catalogue as mariadb_catalogue
from stranglerfig.databases.mariadb.messages import emit_marker
from stranglerfig.databases.markers import await_marker
from stranglerfig.foundation import clock, mysql, tasks
from stranglerfig.foundation import postgres as sessions
from stranglerfig.sync import apply
from stranglerfig.sync.target import SyncJob, prepare
from stranglerfig.verification.across import AcrossJob, verify
from tests.captures import Running
from tests.conftest import MonolithOnMariaDB, Server
from tests.contract.capture.conftest import Farm
from tests.contract.capture.mariadb_source import OnMariaDB, captured

pytestmark = pytest.mark.timeout(300)

MONOLITH = """CREATE TABLE stock (
    id int unsigned AUTO_INCREMENT PRIMARY KEY, sku varchar(20) NOT NULL, qty bigint unsigned,
    released tinyint(1) NOT NULL, price decimal(10, 2), seen datetime(6), doc json, photo blob,
    kind enum('part', 'whole'))"""
FILLED = """INSERT INTO stock (sku, qty, released, price, seen, doc, photo, kind)
    SELECT concat('sku é', seq), seq, seq % 3 = 0, seq / 7, '2024-02-29 12:00:00.5' + INTERVAL seq SECOND,
        '{"a": 1}', x'00ff', IF(seq % 2, 'part', NULL) FROM seq_1_to_3000"""
SERVICE = """CREATE TABLE item (
    item_id bigint PRIMARY KEY, sku text NOT NULL, quantity numeric, state text NOT NULL, price numeric(10, 2),
    seen timestamp, doc jsonb, photo bytea, kind text)"""


class Flow:
    """A forward flow that runs, with sessions at both ends."""

    def __init__(
        self, running: OnMariaDB, monolith: mysql.Connection, service: sessions.Connection, dsn: str, mapping: TableMap
    ) -> None:
        self.running = running
        self.monolith = monolith
        self.service = service
        self.job = AcrossJob(running.job.context, running.job.dsn, dsn, mapping, marker_seconds=120)

    async def caught_up(self) -> None:
        nonce = await emit_marker(self.monolith, self.job.context, "forward")
        await await_marker(self.service, self.job.context, "forward", nonce, timeout=120)


@asynccontextmanager
async def flowing(mariadb: MonolithOnMariaDB, farm: Farm, postgres: Server) -> AsyncIterator[Flow]:
    target_dsn = postgres.database()
    async with (
        captured(mariadb, farm.through, ("stock",), MONOLITH, FILLED) as (running, monolith),
        sessions.session(target_dsn, what="test") as service,
    ):
        [table] = running.job.tables
        await service.execute(SERVICE)
        await ownership.migrate(service)
        mapped = {
            "from": table, "to": "item", "key": {"item_id": "id"}, "where": "sku <> 'hidden'",
            "columns": {
                "sku": "sku", "quantity": "qty", "price": "price", "seen": "seen", "doc": "doc::jsonb",
                "photo": "photo", "state": "case when released <> 0 then 'released' else 'held' end",
                "kind": "kind",
            },
        }  # fmt: skip
        mapping = compile_mapping(
            [TableMapping.model_validate(mapped)],
            await mariadb_catalogue.tables(monolith, [table]),
            await catalogue.tables(service, ["public.item"]),
        )
        await check(service, mapping, Direction.FORWARD)
        await prepare(service)
        context = running.job.context
        job = SyncJob(
            context, Direction.FORWARD, target_dsn, running.topic, names(context, Direction.FORWARD).origin, mapping
        )
        sync = tasks.spawn(apply.run(job, running.log, _told), name="sync under test")
        try:
            await running.streaming()
            yield Flow(running, monolith, service, target_dsn, mapping)
        finally:
            await tasks.stop(sync)


async def _told(report: dict[str, Any]) -> None:
    """Said where a test fails."""
    print("sync:", report)


async def load(dsn: str, stop: asyncio.Event) -> None:
    number = 0
    async with mysql.session(dsn, what="load") as conn:
        while not stop.is_set():
            number += 1
            async with conn.transaction():
                await conn.execute(
                    "UPDATE stock SET qty = qty + 1, released = 1 - released WHERE mod(id, 50) = %s", (number % 50,)
                )
                await conn.execute("INSERT INTO stock (sku, released) VALUES (%s, 0)", (f"new {number}",))
                await conn.execute("DELETE FROM stock WHERE id = %s", (number,))
                await conn.execute("UPDATE stock SET sku = 'hidden' WHERE id = %s", (3000 - number,))
            await asyncio.sleep(0.1)


async def test_rows_flow_into_the_service_and_are_verified_under_traffic(
    mariadb: MonolithOnMariaDB, farm: Farm, postgres: Server
) -> None:
    async with flowing(mariadb, farm, postgres) as flow:
        await flow.caught_up()
        still = await verify(flow.job)
        assert still.equal and still.rows_compared == 3000 == still.tables["public.item"], still
        stop = asyncio.Event()
        writing = tasks.spawn(load(flow.running.job.dsn, stop), name="load")
        try:
            busy = await verify(flow.job)
            assert busy.equal or busy.unsettled, busy
            assert not busy.differences
        finally:
            stop.set()
            await writing
        quiet = await verify(flow.job)
        assert quiet.equal and quiet.rows_compared > 2000, quiet
        row = await sessions.one(
            flow.service, "SELECT sku, quantity::text, state, seen::text, photo, kind FROM item WHERE item_id = 1500"
        )
        source = await flow.monolith.one("SELECT sku, qty, IF(released, 'released', 'held') FROM stock WHERE id = 1500")
        assert row is not None and source is not None and row[:3] == source
        assert row[3:] == ("2024-02-29 12:25:00.5", b"\x00\xff", None)


async def test_differences_are_named_row_by_row_and_column_by_column(
    mariadb: MonolithOnMariaDB, farm: Farm, postgres: Server
) -> None:
    async with flowing(mariadb, farm, postgres) as flow:
        await flow.caught_up()
        begun = clock.monotonic()
        await flow.service.execute("UPDATE item SET state = 'odd', kind = NULL WHERE item_id = 7")
        await flow.service.execute("DELETE FROM item WHERE item_id = 8")
        await flow.service.execute("INSERT INTO item (item_id, sku, state) VALUES (9999, 'x', 'held')")
        found = await verify(flow.job)
        assert not found.equal and found.rechecked == 3 and clock.monotonic() - begun < 60
        named = {d.key["item_id"]: d for d in found.differences}
        assert {key: d.kind for key, d in named.items()} == {"7": "differs", "8": "missing", "9999": "extra"}
        assert named["7"].columns == {"state": ("held", "odd"), "kind": ("part", None)}


async def test_both_ways_run_and_nothing_goes_round(mariadb: MonolithOnMariaDB, farm: Farm, postgres: Server) -> None:
    made = "CREATE TABLE part (id int PRIMARY KEY, name varchar(40), n int)"
    service_dsn = postgres.database()
    async with (
        captured(mariadb, farm.through, ("part",), made, "INSERT INTO part VALUES (1, 'first', 1)") as (
            there,
            monolith,
        ),
        sessions.session(service_dsn, what="test") as service,
    ):
        await service.execute("CREATE TABLE part (id int PRIMARY KEY, name text, n int)")
        await ownership.migrate(service)
        columns = {"name": "name", "n": "n"}
        mapped = {
            "from": there.job.tables[0],
            "to": "part",
            "key": {"id": "id"},
            "columns": columns,
            "reverse": columns,
        }
        mapping = compile_mapping(
            [TableMapping.model_validate(mapped)],
            await mariadb_catalogue.tables(monolith, there.job.tables),
            await catalogue.tables(service, ["public.part"]),
        )
        back = Running(service_dsn, tables=("public.part",), direction=Direction.REVERSE, snapshot=False)
        # One context, so that each leaves out what the other has written.
        back.job = replace(back.job, context=there.job.context)
        jobs = [
            SyncJob(
                there.job.context, way, dsn, run.topic, names(there.job.context, way).origin, mapping,
                evaluator=service_dsn,
            )
            for run, way, dsn in ((there, Direction.FORWARD, service_dsn), (back, Direction.REVERSE, there.job.dsn))
        ]  # fmt: skip
        await prepare(service)
        back.start()
        syncs = [
            tasks.spawn(apply.run(job, run.log, _told), name=f"sync {job.direction}")
            for job, run in zip(jobs, (there, back), strict=True)
        ]
        try:
            await there.streaming()
            await back.streaming()
            for number in range(2, 40):
                await service.execute("INSERT INTO part VALUES (%s, 'theirs', 0)", (number,))
                await service.execute("UPDATE part SET n = n + 1 WHERE id = %s", (number,))
                await monolith.execute("INSERT INTO part VALUES (%s, 'ours', 0)", (-number,))
            await service.execute("DELETE FROM part WHERE id = 2")

            async def equal() -> bool:
                here = await monolith.fetch("SELECT id, name, n FROM part ORDER BY id")
                texts = await sessions.fetch(service, "SELECT id::text, name, n::text FROM part ORDER BY part.id")
                return here == texts and len(here) == 1 + 37 + 38

            await clock.until(equal, timeout=60, what="both to hold the same")
            await there.caught_up_with(monolith)
            await back.caught_up(service)
            forward = {change.after[0] for change in await there.changes() if change.after is not None}
            reverse = {change.after[0] for change in await back.changes() if change.after is not None}
        finally:
            for sync in syncs:
                await tasks.stop(sync)
            await back.stop()
            await remove(service_dsn, back.job.context, Direction.REVERSE)
        assert forward == {str(-number) for number in range(2, 40)}
        assert reverse == {str(number) for number in range(2, 40)}
