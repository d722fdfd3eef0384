"""Capture on real servers: what the log has at the end is what the source has, whatever happened on the way."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import orjson
import pytest

from stranglerfig.capture.capture import CaptureJob, remove, resume
from stranglerfig.changes.envelope import copy_rows
from stranglerfig.changes.model import (
    UNCHANGED,
    Item,
    Message,
    SnapshotChunk,
    SnapshotEdge,
    SourcePosition,
    Transaction,
    Value,
    lsn_number,
)
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation import postgres as sessions
from stranglerfig.runtime.embedded import EmbeddedPostgres
from tests.captures import FORWARD, ITEM, OUTBOX, QUICK, REVERSE, Running, captured
from tests.conftest import passable


async def freed(conn: sessions.Connection, slot: str) -> None:
    """A walsender whose client has gone ends within milliseconds."""

    async def free() -> bool:
        query = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
        return await sessions.value(conn, query, (slot,)) is False

    await clock.until(free, timeout=10, what="the slot to be free")


def replay(items: list[Item]) -> dict[str, dict[Value, tuple[Value, ...]]]:
    """Tables by their first column, as a sync would hold them; fails when a position is missing its order."""
    tables: dict[str, dict[Value, tuple[Value, ...]]] = {}
    at = SourcePosition(0, 0)
    for item in items:
        if isinstance(item, SnapshotEdge):
            if item.begins:
                tables = {table: {} for table in item.tables}
            continue
        if isinstance(item, SnapshotChunk):
            rows = list(copy_rows(item.copy))
            assert len(rows) == item.rows
            tables[item.relation.qualified].update({row[0]: row for row in rows})
            at = SourcePosition(item.lsn, item.ordinal)
            continue
        for number, change in enumerate(item.items):
            position = SourcePosition(item.lsn, item.first + number)
            if position <= at or isinstance(change, Message):
                continue
            at = position
            table = tables.setdefault(change.relation.qualified, {})
            old = change.before or change.after
            if change.op == "t":
                table.clear()
            else:
                assert old is not None
                before = table.pop(old[0], None)
                if change.after is not None:
                    assert change.op == "c" or before is not None
                    filled = zip(change.after, before or change.after, strict=True)
                    table[change.after[0]] = tuple(was if new is UNCHANGED else new for new, was in filled)
    return tables


async def assert_equal(running: Running, conn: sessions.Connection, table: str = "item") -> None:
    await running.caught_up(conn)
    rows = await sessions.fetch(conn, f"SELECT t.* FROM {table} t")
    expected = {str(row[0]): tuple(None if v is None else str(v) for v in row) for row in rows}
    assert replay(await running.items())[f"public.{table}"] == expected


@pytest.fixture(params=["postgres", "postgres_16"])
def source(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param).database())


async def test_a_snapshot_under_writes_and_the_stream_after_it_equal_the_source(source: str) -> None:
    fill = "INSERT INTO item SELECT g, 'a\tb\\' || g, NULL FROM generate_series(1, 60000) g"
    async with sessions.session(source, what="writer") as writer:
        await writer.execute(ITEM)
        await writer.execute(fill)
        stop = False

        async def write() -> None:
            n = 0
            while not stop:
                n += 1
                await writer.execute("UPDATE item SET n = %s WHERE id = %s", (n, n % 500 + 1))
                await writer.execute("INSERT INTO item VALUES (%s, 'new', 1)", (100_000 + n,))
                await writer.execute("DELETE FROM item WHERE id = %s", (1000 + n,))
                await writer.execute("UPDATE item SET id = -id WHERE id = %s", (30_000 + n,))

        writing = asyncio.create_task(write())
        async with captured(source) as (running, conn):
            report = await running.streaming()
            assert report["snapshot_rows"] >= 59_000
            assert report["error"] is None
            await asyncio.sleep(0.1)
            stop = True
            await writing
            await assert_equal(running, conn)
            items = await running.items()
            chunks = [item for item in items if isinstance(item, SnapshotChunk)]
            assert [chunk.ordinal for chunk in chunks] == list(range(1, len(chunks) + 1))
            assert min(item.lsn for item in items if isinstance(item, Transaction)) > chunks[0].lsn


TYPES = {
    "smallint": "-7",
    "bigint": "9223372036854775807",
    "numeric(30,10)": "12345678901234567890.0123456789",
    "numeric": "'NaN'",
    "real": "1.1",
    "double precision": "0.1::float8 + 0.2",
    "money": "12.34",
    "text": "e'a\\tb\\n\\\\c'",
    "varchar(9)": "'é€𝄞'",
    "char(5)": "'ab'",
    "bytea": "'\\x00ff'",
    "boolean": "true",
    "date": "'0044-03-15 BC'",
    "time": "'24:00'",
    "timetz": "'04:05:06.7+03'",
    "timestamp": "'infinity'",
    "timestamptz": "'2026-01-02 03:04:05.678901+05'",
    "interval": "'1 year 2 mons -3 days 04:05:06.7'",
    "uuid": "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
    "json": "'{\"a\" :1}'",
    "jsonb": "'{\"a\" :[1,null]}'",
    "inet": "'10.0.0.1/8'",
    "cidr": "'10.0.0.0/8'",
    "macaddr": "'08:00:2b:01:02:03'",
    "bit(3)": "B'101'",
    "varbit": "B'1'",
    "point": "'(1,2)'",
    "box": "'(1,2),(0,0)'",
    "circle": "'<(1,2),3>'",
    "path": "'[(1,2),(3,4)]'",
    "int4range": "'[1,5)'",
    "int4multirange": "'{[1,5),[7,9)}'",
    "tsvector": "'a fat cat'",
    "tsquery": "'fat & cat'",
    "text[]": "array['a', null, '\"{},']",
    "int[][]": "'{{1,2},{3,4}}'",
    "pg_lsn": "'16/B374D848'",
    "oid": "4000000000",
    "name": "'n'",
    "mood": "'sad'",
    "addr": "row('x', 1)",
    "posint": "5",
    "jsonpath": "'$.a'",
    "macaddr8": "'08:00:2b:01:02:03:04:05'",
}


async def test_every_built_in_type_is_carried_verbatim(source: str) -> None:
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(TYPES))
    made = ["CREATE TYPE mood AS ENUM ('sad')", "CREATE TYPE addr AS (street text, number int)"]
    made += ["CREATE DOMAIN posint AS int CHECK (value > 0)", f"CREATE TABLE item (id int PRIMARY KEY, {columns})"]
    insert = f"INSERT INTO item VALUES (%s, {', '.join(TYPES.values())})"
    async with captured(source, *made, insert % 1) as (running, conn):
        await running.streaming()
        await conn.execute(insert % 2)  # type: ignore[call-overload]
        await running.caught_up(conn)
        texts = ", ".join(f"format('%s', c{n})" for n in range(len(TYPES)))  # by the types' output functions
        [expected] = await sessions.fetch(conn, f"SELECT {texts} FROM item WHERE id = 1")
        rows = replay(await running.items())["public.item"]
        assert rows["1"][1:] == expected
        assert rows["2"][1:] == expected
        [change] = await running.changes()
        [chunk] = [item for item in await running.items() if isinstance(item, SnapshotChunk)]
        assert change.relation == chunk.relation  # the snapshot names types as the stream does
        assert change.relation.columns[3].type == "numeric(30,10)"


async def test_toast_keys_and_truncation(source: str) -> None:
    long = "SELECT string_agg(md5(g::text), '') FROM generate_series(1, 400) g"
    async with captured(source, ITEM, f"INSERT INTO item VALUES (1, ({long}), 0)") as (running, conn):
        await running.streaming()
        await conn.execute("UPDATE item SET n = 1")
        await conn.execute("UPDATE item SET id = 2")
        await assert_equal(running, conn)
        first, second = await running.changes()
        assert (first.before, first.after) == (None, ("1", UNCHANGED, "1"))
        assert second.before == ("1", UNCHANGED, UNCHANGED)
        assert second.after is not None and second.after[0] == "2"
        await conn.execute("TRUNCATE item")
        await conn.execute("ALTER TABLE item REPLICA IDENTITY FULL")
        await conn.execute(f"INSERT INTO item VALUES (3, ({long}), 0)")  # type: ignore[call-overload]
        await conn.execute("DELETE FROM item")
        await assert_equal(running, conn)
        *_, truncated, inserted, deleted = await running.changes()
        assert (truncated.op, truncated.before, truncated.after) == ("t", None, None)
        assert deleted.before == inserted.after


async def test_our_own_pair_s_changes_are_dropped_and_others_kept(source: str) -> None:
    async with captured(source, ITEM) as (running, conn):
        await running.streaming()
        origin = f"fig_{running.job.context}_reverse"
        await conn.execute("SELECT pg_replication_origin_create(%s)", (origin,))
        await conn.execute("SELECT pg_replication_origin_create('elsewhere')")
        for name, number in ((origin, 1), ("elsewhere", 2)):
            async with sessions.session(running.job.dsn, what="sync") as sync:
                await sync.execute("SELECT pg_replication_origin_session_setup(%s)", (name,))
                await sync.execute("INSERT INTO item VALUES (%s)", (number,))
                await sync.execute("SELECT pg_replication_origin_session_reset()")  # the server ends a session later
        await running.caught_up(conn)
        assert [change.after and change.after[0] for change in await running.changes()] == ["2"]
        for name in (origin, "elsewhere"):
            await conn.execute("SELECT pg_replication_origin_drop(%s)", (name,))


async def test_a_transaction_of_100000_rows_comes_in_parts(postgres: Any) -> None:
    dsn = postgres.database()
    async with captured(dsn, ITEM) as (running, conn):
        await running.streaming()
        await conn.execute("INSERT INTO item SELECT g, 'sku', g FROM generate_series(1, 100000) g")
        await running.caught_up(conn)
        parts = [item for item in await running.items() if isinstance(item, Transaction)]
        assert [part.end for part in parts] == [False] * (len(parts) - 1) + [True]
        assert max(len(part.items) for part in parts) <= 5000
        assert sum(len(part.items) for part in parts) == 100_000
        assert [part.first for part in parts[:2]] == [1, len(parts[0].items) + 1]


async def test_cancelled_and_started_again_at_any_moment_nothing_is_missing_or_out_of_order(postgres: Any) -> None:
    chance = random.Random(7)
    async with captured(postgres.database(), ITEM, "INSERT INTO item VALUES (0)") as (running, conn):
        await running.streaming()
        for round_ in range(12):
            n = 0
            for n in range(1, 30):
                await conn.execute("INSERT INTO item VALUES (%s, 'x', 0)", (round_ * 10_000 + n,))
            await conn.execute(
                "INSERT INTO item SELECT %s + g, 'big', 0 FROM generate_series(1, 6000) g", (round_ * 10_000 + n,)
            )
            await asyncio.sleep(chance.random() * 0.05)
            await running.stop()
            running.start()
        await assert_equal(running, conn)
        positions = [
            SourcePosition(item.lsn, item.first + n)
            for item in await running.items()
            if isinstance(item, Transaction)
            for n in range(len(item.items))
        ]
        assert positions == sorted(set(positions))


async def test_a_source_that_is_killed_and_comes_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = passable(tmp_path_factory.mktemp("killed"))
    server = EmbeddedPostgres(root / "data")
    server.start()
    try:
        dsn = server.create_database("shop")
        async with sessions.session(dsn, what="test") as conn:
            await conn.execute(ITEM)
        running = Running(dsn)
        running.start()
        await running.streaming()
        async with sessions.session(dsn, what="test") as conn:
            for n in range(200):
                await conn.execute("INSERT INTO item VALUES (%s)", (n,))
            server.kill()
        await running.failed("database_unreachable")
        await server.start_async()
        async with sessions.session(dsn, what="test") as conn:
            await conn.execute("INSERT INTO item VALUES (-1)")
            await running.until(lambda r: r["error"] is None and r["state"] == "streaming", "the stream again")
            await assert_equal(running, conn)
        # A fast shutdown must not hang on a walsender that waits to be acknowledged.
        await asyncio.to_thread(server.stop, timeout=60)
        assert server.process is not None and server.process.returncode == 0, "not by force"
        await running.stop()
    finally:
        server.stop()


async def test_a_changed_shape_pauses_before_its_transaction_and_goes_on_when_asked(postgres: Any) -> None:
    async with captured(postgres.database(), ITEM) as (running, conn):
        await running.streaming()
        await conn.execute("INSERT INTO item VALUES (1)")
        await conn.execute("ALTER TABLE item ADD COLUMN extra date")
        await conn.execute("INSERT INTO item VALUES (2)")
        await running.caught_up(conn)
        assert running.report["state"] == "streaming"
        await conn.execute("ALTER TABLE item RENAME sku TO code")
        await conn.execute("INSERT INTO item VALUES (3)")
        report = await running.failed("incompatible_ddl")
        assert report["state"] == "paused"
        assert "sku" in report["error"]["message"]
        assert len(await running.changes()) == 2
        await running.stop()
        running.start()
        await running.failed("incompatible_ddl")
        await resume(running.log, running.job.context, FORWARD, "public.item")
        await running.until(lambda r: r["state"] == "streaming" and r["changes"], "the stream again")
        assert [change.after and change.after[0] for change in await running.changes()] == ["1", "2", "3"]
        await running.caught_up(conn)
        assert running.report["error"] is None


async def test_a_dropped_slot_is_a_state_with_a_remedy_and_a_new_generation_begins_anew(postgres: Any) -> None:
    async with captured(postgres.database(), ITEM, "INSERT INTO item VALUES (1)") as (running, conn):
        await running.streaming()
        slot = f"fig_{running.job.context}_forward"
        await running.stop()
        await freed(conn, slot)
        await conn.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
        running.start()
        report = await running.failed("slot_lost")
        assert report["state"] == "failed" and report["error"]["remedy"]
        await running.stop()
        await conn.execute("INSERT INTO item VALUES (2)")
        again = {**vars(running.job), "generation": 2}
        running.start(CaptureJob(**again))
        await running.streaming()
        await assert_equal(running, conn)
        edges = [item for item in await running.items() if isinstance(item, SnapshotEdge)]
        assert [(edge.generation, edge.begins) for edge in edges] == [(1, True), (1, False), (2, True), (2, False)]
        await running.stop()
        running.start(CaptureJob(**again))
        await running.streaming()
        assert len([item for item in await running.items() if isinstance(item, SnapshotEdge)]) == 4


async def test_a_dropped_publication_is_noticed_while_streaming(postgres: Any) -> None:
    async with captured(postgres.database(), ITEM) as (running, conn):
        await running.streaming()
        await conn.execute(f"DROP PUBLICATION fig_{running.job.context}_forward")  # type: ignore[call-overload]
        await running.failed("publication_dropped")
        made = f"CREATE PUBLICATION fig_{running.job.context}_forward FOR TABLE item"
        await conn.execute(made)  # type: ignore[call-overload]
        await running.failed("publication_dropped")


async def test_a_slot_that_something_else_moved_is_refused(postgres: Any) -> None:
    async with captured(postgres.database(), ITEM) as (running, conn):
        await running.streaming()
        await running.stop()
        await conn.execute("INSERT INTO item VALUES (1)")
        slot = f"fig_{running.job.context}_forward"
        await freed(conn, slot)
        await conn.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", (slot,))
        running.start()
        await running.failed("changes_skipped")


async def test_an_open_writer_is_named_and_waited_for(postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stranglerfig.capture.capture._LOCK_TIMEOUT_MS", 200)
    dsn = postgres.database()

    async with sessions.session(dsn, what="slow writer", autocommit=False) as writer:
        await writer.execute(ITEM)
        await writer.commit()
        await writer.execute("INSERT INTO item VALUES (1)")
        async with captured(dsn) as (running, conn):
            report = await running.failed("snapshot_blocked")
            assert str(writer.info.backend_pid) in report["error"]["message"]
            assert "fig:slow writer" in report["error"]["message"]
            await writer.commit()
            await running.streaming()
            await assert_equal(running, conn)


async def test_a_second_consumer_waits_and_takes_over(postgres: Any) -> None:
    async with captured(postgres.database(), ITEM) as (running, conn):
        await running.streaming()
        second = Running(running.job.dsn)
        second.job, second.log = running.job, running.log
        second.start()
        report = await second.failed("slot_active")
        assert report["state"] == "starting"
        await running.stop()
        await conn.execute("INSERT INTO item VALUES (1)")
        await second.streaming()
        await assert_equal(second, conn)
        await second.stop()


async def test_markers_of_this_context_pass_refusals_and_outbox_go_their_own_ways(postgres: Any) -> None:
    options = {"direction": REVERSE, "outbox": "public.outbox", "snapshot": False}
    async with captured(postgres.database(), ITEM, OUTBOX, **options) as (running, conn):
        await running.streaming()
        context = running.job.context
        say = "SELECT pg_logical_emit_message(%s, %s, %s)"
        mine = orjson.dumps({"context": context, "mode": "refused", "table": "public.item"}).decode()
        other = orjson.dumps({"context": "other"}).decode()
        for content in (mine, other):
            await conn.execute(say, (True, "fig.marker", content))
            async with conn.transaction(force_rollback=True):
                await conn.execute(say, (False, "fig.refused", content))
        await conn.execute(say, (True, "application", "x"))
        async with conn.transaction():
            await conn.execute("INSERT INTO item VALUES (1)")
            for _ in range(3):
                await conn.execute(
                    "INSERT INTO outbox VALUES (gen_random_uuid(), 'inventory', 'x.Y', 'k', '{\"a\": 1}')"
                )
        await running.caught_up(conn)
        assert [message.content for message in await running.messages()] == [mine]
        [refusal] = await running.log.read(f"fig.refusals.{context}", 0, 0)
        assert (refusal.event.type, refusal.event.subject) == ("fig.WriteRefused", "public.item")
        events = await running.log.read("inventory", 0, 0)
        assert [record.event.data for record in events] == [b'{"a": 1}'] * 3
        assert {change.relation.name for change in await running.changes()} == {"item"}
        assert running.report["snapshot_rows"] == 0
        await running.until(lambda r: r["refusals"] == 1, "the refusal counted")

        async def deleted() -> bool:
            row = await conn.execute("SELECT count(*) FROM outbox")
            return (await row.fetchone() or (1,))[0] == 0

        await clock.until(deleted, timeout=10, what="published rows to be deleted")


async def test_changes_linger_a_marker_takes_them_along_and_a_trace_travels(postgres: Any) -> None:
    pace = replace(QUICK, linger=3600.0)
    async with captured(postgres.database(), ITEM, pace=pace) as (running, conn):
        await running.streaming()
        context = running.job.context

        async def write(number: int) -> None:
            async with conn.transaction():
                await conn.execute("SELECT pg_logical_emit_message(true, 'traceparent', %s)", (f"00-{number}",))
                await conn.execute("INSERT INTO item VALUES (%s)", (number,))

        for number in range(3):
            await write(number)
        content = orjson.dumps({"context": context}).decode()
        await conn.execute("SELECT pg_logical_emit_message(true, 'fig.marker', %s)", (content,))
        await running.until(lambda r: r["transactions"] == 4, "what lingered, with the marker")
        found = [item for item in await running.items() if isinstance(item, Transaction)]
        assert [transaction.trace for transaction in found] == ["00-0", "00-1", "00-2", None]


async def test_partitions_come_as_their_root(postgres: Any) -> None:
    made = ["CREATE TABLE item (id int PRIMARY KEY, sku text, n int) PARTITION BY RANGE (id)"]
    made += ["CREATE TABLE item_a PARTITION OF item FOR VALUES FROM (0) TO (100)"]
    made += ["CREATE TABLE item_b (n int, id int NOT NULL, sku text)"]
    made += ["ALTER TABLE item ATTACH PARTITION item_b FOR VALUES FROM (100) TO (200)"]
    made += ["INSERT INTO item SELECT g, 'a', g FROM generate_series(50, 150) g"]
    async with captured(postgres.database(), *made) as (running, conn):
        await running.streaming()
        await conn.execute("UPDATE item SET id = id + 100 WHERE id BETWEEN 90 AND 99")
        await assert_equal(running, conn)


async def test_an_idle_slot_moves_on(postgres: Any) -> None:
    async with captured(postgres.database(), ITEM) as (running, conn):
        await running.streaming()
        read = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
        slot = (f"fig_{running.job.context}_forward",)

        async def confirmed() -> int:
            row = await (await conn.execute(read, slot)).fetchone()
            assert row is not None
            return lsn_number(row[0])

        before = await confirmed()
        await conn.execute("CREATE TABLE other AS SELECT g FROM generate_series(1, 1000) g")
        end = await (await conn.execute("SELECT pg_current_wal_lsn()::text")).fetchone()
        assert end is not None

        async def moved() -> bool:
            return await confirmed() >= lsn_number(end[0]) > before

        await clock.until(moved, timeout=10, what="the slot to move")
        assert await running.changes() == []


async def test_a_missing_table_and_a_server_without_logical_wal(postgres: Any) -> None:
    async with captured(postgres.database()) as (running, _):
        report = await running.failed("missing_table")
        assert report["state"] == "failed"


async def test_removing_is_idempotent_and_frees_what_is_held(postgres: Any) -> None:
    async with captured(postgres.database(), ITEM) as (running, conn):
        await running.streaming()
        running_task, running.task = running.task, None
        await remove(running.job.dsn, running.job.context, FORWARD)
        await remove(running.job.dsn, running.job.context, FORWARD)
        row = await (await conn.execute("SELECT count(*) FROM pg_publication")).fetchone()
        assert row == (0,)
        await running.failed("slot_lost")
        assert running_task is not None
        await tasks.stop(running_task)
