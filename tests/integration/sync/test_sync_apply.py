"""Changes written into the log by hand arrive in the target: once, whole, in both directions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import sync_scenario as s

from stranglerfig.changes.model import (
    ACTIVATED,
    MARKER,
    UNCHANGED,
    Change,
    Direction,
    Message,
    SnapshotChunk,
    SnapshotEdge,
    Transaction,
)
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import apply
from stranglerfig.sync.target import Target
from tests.conftest import Server

ITEMS = "SELECT item_id, sku, name FROM inventory_item ORDER BY 1"
STOCK = "SELECT item_id, on_hand FROM stock_level ORDER BY 1"


async def forward(postgres: Server, postgres_b: Server) -> s.Flow:
    target = postgres_b.database()
    return s.Flow(await s.databases(postgres.database(), target), target)


async def backward(postgres: Server, postgres_b: Server) -> s.Flow:
    monolith = postgres.database()
    return s.Flow(await s.databases(monolith, postgres_b.database()), monolith, Direction.REVERSE)


async def test_snapshot_then_stream(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    reservation = ("1", "1", None, "2", "f", s.NOON)
    await flow.snapshot((s.RESERVATIONS, [reservation]), (s.INVENTORY, [s.item(1), s.item(2)]))
    await flow.stream(
        [s.create(s.INVENTORY, s.item(3)), s.update(s.INVENTORY, s.item(1, 9))],
        [s.update(s.RESERVATIONS, ("1", "1", "7", "2", "t", s.NOON)), s.delete(s.INVENTORY, s.item(2))],
    )
    async with flow.running():
        await flow.applied()
        await flow.stream([s.create(s.INVENTORY, s.item(4))])
        await flow.applied()
    dsn = flow.job.dsn
    assert await s.rows(dsn, STOCK) == [(1, 9), (3, 5), (4, 5)]
    assert await s.rows(dsn, ITEMS) == [(1, "S1", "thing"), (3, "S3", "thing"), (4, "S4", "thing")]
    assert await s.rows(dsn, "SELECT order_ref, state FROM reservation") == [(7, "released")]
    last = flow.reports[-1]
    assert last["state"] == "applying" and last["snapshot_done"] and last["snapshot_rows"] == 3
    assert last["snapshot_total"] == 3 and last["transactions"] == 3
    # What was written while the copy was made is late by its nature, and no latency of the stream.
    assert last["latency_ms"]["count"] == 1 and sum(n for _, n in last["latency_histogram"]) == 1


async def test_what_was_applied_is_not_applied_again(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    first = Transaction(50, 1, 1, 1, (s.create(s.INVENTORY, s.item(1)),))
    second = Transaction(60, 2, 1, 1, (s.delete(s.INVENTORY, s.item(1)),))
    third = Transaction(70, 3, 1, 1, (s.create(s.INVENTORY, s.item(2, 3)),))
    async with flow.running():
        await flow.transactions(first, second)
        await flow.applied()
        await flow.transactions(first, second, third)
        await flow.applied()
    async with flow.running():
        await flow.transactions(second, third, third)
        await flow.transactions(Transaction(80, 3, 1, 1, (s.update(s.INVENTORY, s.item(2, 4)),)))
        await flow.applied()
    assert await s.rows(flow.job.dsn, STOCK) == [(2, 4)]


async def test_unchanged_values_stay(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    toasted = ("1", "S1", UNCHANGED, "8", "0", "1", s.NOON)
    await flow.stream([s.create(s.INVENTORY, s.item(1, name="long")), s.create(s.INVENTORY, s.item(2, name="long"))])
    async with flow.running():
        await flow.applied()
        await flow.stream(
            [s.update(s.INVENTORY, toasted)],
            [s.update(s.INVENTORY, s.item(2, 6, name="new"))],
            [s.update(s.INVENTORY, ("2", "S2", UNCHANGED, "7", "0", "1", s.NOON))],
        )
        await flow.applied()
    assert await s.rows(flow.job.dsn, ITEMS) == [(1, "S1", "long"), (2, "S2", "new")]
    assert await s.rows(flow.job.dsn, STOCK) == [(1, 8), (2, 7)]


async def test_keys_change_truncates_and_swaps(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    await s.run_sql(flow.job.dsn, "ALTER TABLE inventory_item ADD UNIQUE (sku)")
    key_only: s.Row = ("1", *[UNCHANGED] * 6)
    await flow.stream([s.create(s.INVENTORY, s.item(1)), s.create(s.INVENTORY, s.item(2))])
    await flow.stream([Change("u", s.INVENTORY, key_only, s.item(11, 4))])
    # swapping unique values through a third one: in bulk the last states collide, in order they do not
    await flow.stream(
        [
            s.update(s.INVENTORY, s.item(2, sku="tmp")),
            s.update(s.INVENTORY, s.item(11, sku="S2")),
            s.update(s.INVENTORY, s.item(2, sku="S1")),
        ]
    )
    async with flow.running():
        await flow.applied()
        assert await s.rows(flow.job.dsn, ITEMS) == [(2, "S1", "thing"), (11, "S2", "thing")]
        # the key changes and a large value was not sent: only a change in place knows it
        kept = ("12", "S2", UNCHANGED, "4", "0", "1", s.NOON)
        await flow.stream([s.create(s.RESERVATIONS, ("1", "2", None, "1", "f", s.NOON))])
        await flow.stream([Change("u", s.INVENTORY, ("11", *[UNCHANGED] * 6), kept)])
        with pytest.raises(AssertionError, match="foreign key"):
            # stock_level refers to the item's key and does not follow
            await flow.applied()
        await s.run_sql(
            flow.job.dsn,
            "ALTER TABLE stock_level DROP CONSTRAINT stock_level_item_id_fkey",
        )
        await apply.retry(flow.job.dsn, "inventory", Direction.FORWARD, 1)
        await clock.until(lambda: _applying(flow), timeout=10, what="sync to go on")
        await flow.applied()
        assert await s.rows(flow.job.dsn, ITEMS) == [(2, "S1", "thing"), (12, "S2", "thing")]
        await flow.stream(
            [Change("t", s.RESERVATIONS, None, None), Change("t", s.INVENTORY, None, None)],
            [s.create(s.INVENTORY, s.item(5))],
        )
        await flow.applied()
    assert await s.rows(flow.job.dsn, ITEMS) == [(5, "S5", "thing")]
    assert await s.rows(flow.job.dsn, "SELECT count(*) FROM reservation") == [(0,)]


async def _applying(flow: s.Flow) -> bool:
    return bool(flow.reports[-1]["state"] == "applying")


async def test_reverse_folds_entries_into_one_row(postgres: Server, postgres_b: Server) -> None:
    flow = await backward(postgres, postgres_b)
    item = ("1", "S1", "thing", "1")
    stock = ("1", "5", "0", s.NOON)
    await flow.stream([s.create(s.ITEM, item), s.create(s.STOCK, stock)])
    await flow.stream([s.update(s.STOCK, ("1", "7", "2", s.NOON))])
    await flow.stream(
        [s.create(s.ITEM, ("2", "S2", "x", "0")), s.create(s.STOCK, ("2", "1", "0", s.NOON))],
        [s.update(s.ITEM, ("2", "S2", "y", "3"))],
        [s.create(s.ITEM, ("3", "S3", "x", "0")), s.create(s.STOCK, ("3", "1", "0", s.NOON))],
    )
    query = "SELECT item_id, name, quantity, reserved, reorder_level FROM inventory ORDER BY 1"
    async with flow.running():
        await flow.applied()
        assert await s.rows(flow.job.dsn, query) == [(1, "thing", 7, 2, 1), (2, "y", 1, 0, 3), (3, "x", 1, 0, 0)]
        await flow.stream([s.delete(s.STOCK, ("3", *[UNCHANGED] * 3)), s.delete(s.ITEM, ("3", *[UNCHANGED] * 3))])
        await flow.stream([s.update(s.STOCK, ("2", "4", "0", s.NOON)), s.update(s.ITEM, ("1", "S1", "z", "1"))])
        await flow.applied()
        assert await s.rows(flow.job.dsn, query) == [(1, "z", 7, 2, 1), (2, "y", 4, 0, 3)]
        await flow.stream([s.create(s.STOCK, ("9", "4", "0", s.NOON))])
        assert "belong to no row" in (await flow.stopped())["message"]


async def test_a_row_that_cannot_be_applied_stops_the_flow(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    await s.run_sql(flow.job.dsn, "ALTER TABLE stock_level ADD CHECK (on_hand < 100)")
    await flow.stream(*[[s.create(s.INVENTORY, s.item(n, 500 if n in (7, 13) else 5))] for n in range(1, 21)])
    async with flow.running():
        error = await flow.stopped()
        assert error["code"] == "change_refused" and error["context"]["row"]["item_id"] == "7"
        assert await s.rows(flow.job.dsn, "SELECT count(*) FROM stock_level") == [(6,)]
        first = error["context"]["parked"]
        await apply.skip(flow.job.dsn, "inventory", Direction.FORWARD, first)

        async def another() -> bool:
            last = flow.reports[-1]["error"]
            return bool(last and last["context"].get("parked", first) != first)

        await clock.until(another, timeout=10, what="the next refusal")
        second = flow.reports[-1]["error"]["context"]["parked"]
        await s.run_sql(flow.job.dsn, "ALTER TABLE stock_level DROP CONSTRAINT stock_level_on_hand_check")
        await apply.retry(flow.job.dsn, "inventory", Direction.FORWARD, second)
        await clock.until(lambda: _applying(flow), timeout=10, what="sync to go on")
        await flow.applied()
    assert await s.rows(flow.job.dsn, "SELECT count(*), sum(on_hand) FROM stock_level") == [(19, 500 + 18 * 5)]
    with pytest.raises(FigError, match="unknown_parked"):
        await apply.skip(flow.job.dsn, "inventory", Direction.FORWARD, second)


async def test_a_bad_row_of_a_snapshot(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    await s.run_sql(flow.job.dsn, "ALTER TABLE stock_level ADD CHECK (on_hand < 100)")
    await flow.snapshot((s.INVENTORY, [s.item(n, 500 if n == 7 else 5) for n in range(1, 21)]))
    async with flow.running():
        error = await flow.stopped()
        assert error["context"]["row"]["item_id"] == "7"
        await apply.skip(flow.job.dsn, "inventory", Direction.FORWARD, error["context"]["parked"])
        await clock.until(lambda: _applying(flow), timeout=10, what="sync to go on")
        await flow.applied()
    assert await s.rows(flow.job.dsn, "SELECT count(*) FROM stock_level") == [(19,)]


async def test_a_new_generation_starts_over(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    await flow.snapshot((s.INVENTORY, [s.item(n) for n in range(1, 9)]), end=False)
    async with flow.running():
        await flow.applied()
        flow.lsn += 100
        await flow.snapshot((s.INVENTORY, [s.item(n) for n in range(5, 7)]), generation=2)
        await flow.applied()
    assert await s.rows(flow.job.dsn, STOCK) == [(5, 5), (6, 5)]


async def test_a_snapshot_whose_rows_refer_to_nothing(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    await flow.snapshot((s.RESERVATIONS, [("1", "99", None, "2", "f", s.NOON)]))
    async with flow.running():
        assert (await flow.stopped())["code"] == "snapshot_orphans"


OWNED = (
    "INSERT INTO fig.ownership (context, side, state, epoch, admitted)"
    " VALUES ('inventory', 'service', 'owner', 3, '{}')"
)


async def test_ownership_decides(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    dsn = flow.job.dsn
    await s.run_sql(dsn, OWNED)
    marker = Message(MARKER, '{"context": "inventory", "direction": "forward", "nonce": "n1"}')
    other = Message(MARKER, '{"context": "orders", "direction": "forward", "nonce": "n2"}')
    strange = Message(MARKER, "not json")
    async with flow.running():
        await flow.stream([s.create(s.INVENTORY, s.item(1)), marker, other, strange])
        await flow.applied()
        assert await s.rows(dsn, STOCK) == []
        assert await s.rows(dsn, "SELECT reason, change->'after'->>'item_id' FROM fig.parked") == [("tripwire", "1")]
        assert await s.rows(dsn, "SELECT nonce FROM fig.marker") == [("n1",)]
        await s.run_sql(dsn, "UPDATE fig.ownership SET state = 'ceded', epoch = 4")
        await flow.stream([s.create(s.INVENTORY, s.item(2))])
        await flow.stream(
            [s.create(s.INVENTORY, s.item(3))],
            [Message(ACTIVATED, '{"context": "inventory", "epoch": 4, "nonce": "a"}')],
            [s.create(s.INVENTORY, s.item(4))],
        )
        await flow.applied()

        async def told() -> bool:
            return bool(flow.reports[-1]["parked"] == 1)

        await clock.until(told, timeout=10, what="the parked change to be reported")
    assert await s.rows(dsn, STOCK) == [(4, 5)]
    assert await s.rows(dsn, "SELECT activated FROM fig.applied") == [(4,)]


async def test_a_snapshot_never_overwrites_an_owner(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    dsn = flow.job.dsn
    await s.run_sql(dsn, OWNED)
    await s.run_sql(dsn, "INSERT INTO inventory_item VALUES (1, 'a', 'b', 0)")
    await flow.snapshot((s.INVENTORY, [s.item(7)]))
    async with flow.running():
        assert (await flow.stopped())["code"] == "snapshot_on_owner"
    assert await s.rows(dsn, ITEMS) == [(1, "a", "b")]


async def test_a_large_transaction_comes_in_parts(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    items = [s.create(s.INVENTORY, s.item(n)) for n in range(1, 31)]
    parts = [Transaction(500, 9, 1, 1 + at, tuple(items[at : at + 10]), at == 20) for at in (0, 10, 20)]
    async with flow.running():
        await flow.transactions(parts[0])
        await flow.transactions(parts[1])
    assert await s.rows(flow.job.dsn, "SELECT count(*) FROM inventory_item") == [(0,)]
    async with flow.running():
        # capture was killed, too, and begins the transaction again
        await flow.transactions(parts[0], parts[1])
        await flow.transactions(parts[2], Transaction(510, 10, 1, 1, (s.delete(s.INVENTORY, s.item(30)),)))
        await flow.applied()
    assert await s.rows(flow.job.dsn, "SELECT count(*) FROM stock_level") == [(29,)]
    assert flow.reports[-1]["transactions"] == 2


async def test_a_bad_row_in_a_large_transaction(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    await s.run_sql(flow.job.dsn, "ALTER TABLE stock_level ADD CHECK (on_hand < 100)")
    items = [s.create(s.INVENTORY, s.item(n, 500 if n == 25 else 5)) for n in range(1, 31)]
    async with flow.running():
        for at in (0, 10, 20):
            await flow.transactions(Transaction(500, 9, 1, 1 + at, tuple(items[at : at + 10]), at == 20))
        error = await flow.stopped()
        assert error["context"]["row"]["item_id"] == "25"
        assert await s.rows(flow.job.dsn, "SELECT count(*) FROM inventory_item") == [(0,)]
        await apply.skip(flow.job.dsn, "inventory", Direction.FORWARD, error["context"]["parked"])
        await clock.until(lambda: _applying(flow), timeout=10, what="sync to go on")
        await flow.applied()
    assert await s.rows(flow.job.dsn, "SELECT count(*) FROM stock_level") == [(29,)]


async def test_a_second_worker_waits_for_the_origin(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    second = s.Flow(flow.job.mapping, flow.job.dsn)
    second.log = flow.log
    await flow.stream([s.create(s.INVENTORY, s.item(1))])
    async with flow.running() as task:
        await flow.applied()
        async with second.running():

            async def busy() -> bool:
                error = second.reports[-1]["error"] if second.reports else None
                return bool(error and error["code"] == "origin_busy")

            await clock.until(busy, timeout=10, what="the second worker to wait")
            await tasks.stop(task)
            await flow.stream([s.create(s.INVENTORY, s.item(2))])
            await second.applied()
    assert await s.rows(flow.job.dsn, STOCK) == [(1, 5), (2, 5)]


async def test_the_target_goes_away_and_comes_back(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    async with flow.running():
        for number in range(1, 6):
            await flow.stream([s.create(s.INVENTORY, s.item(number))])
            await flow.applied()
            await s.rows(
                flow.job.dsn,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'fig:sync inv%' AND datname = current_database()",
            )
        await flow.stream([s.create(s.INVENTORY, s.item(6))])
        await flow.applied()
    assert await s.rows(flow.job.dsn, STOCK) == [(n, 5) for n in range(1, 7)]


async def test_columns_come_and_go_at_the_source(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    wider = dataclasses.replace(s.INVENTORY, columns=(*s.INVENTORY.columns, s.Column("color", "no_such_type")))
    narrow = dataclasses.replace(s.INVENTORY, columns=s.INVENTORY.columns[:-1])
    await flow.stream(
        [s.create(s.INVENTORY, s.item(1))],
        [s.create(wider, (*s.item(2), "red"))],
        [s.update(wider, (*s.item(1, 3), None))],
    )
    async with flow.running():
        await flow.applied()
        assert await s.rows(flow.job.dsn, STOCK) == [(1, 3), (2, 5)]
        await flow.stream([s.create(narrow, s.item(3)[:-1])])
        error = await flow.stopped()
        assert "incompatible_ddl" in error["message"] and "updated_at" in error["message"]


async def test_what_is_not_a_frame_stops_the_flow(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    await flow.put("text/plain", b"hello")
    async with flow.running():
        assert (await flow.stopped())["code"] == "not_a_frame"


async def test_a_part_without_its_beginning(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    await flow.transactions(Transaction(500, 9, 1, 11, (s.create(s.INVENTORY, s.item(1)),), False))
    async with flow.running():
        assert (await flow.stopped())["code"] == "log_gap"


async def test_a_table_that_is_copied_column_by_column(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    relation = s.relation(
        "inventory_requests",
        ("key", "text"),
        ("kind", "text"),
        ("item_id", "bigint"),
        ("delta", "integer"),
        ("response", "jsonb"),
        ("created_at", "timestamp with time zone"),
    )
    edge = SnapshotEdge(10, 0, 1, True, ("public.inventory_requests",), 2)
    text = b'a\\\\b\tadjust\t1\t-2\t{"a": "x\\\\ty"}\t2026-01-01 00:00:00+00\nc\t\\N\t\\N\t\\N\t\\N\t\\N\n'
    await flow.put(s.frames.EDGE, s.frames.encode_edge(edge))
    await flow.put(s.frames.CHUNK, s.frames.encode_chunk(SnapshotChunk(10, 1, relation, 2, text)))
    await flow.put(s.frames.EDGE, s.frames.encode_edge(dataclasses.replace(edge, ordinal=2, begins=False)))
    await flow.stream([s.update(relation, ("a\\b", "x\ny\tz", None, "4", None, None))])
    async with flow.running():
        await flow.applied()
    found = await s.rows(flow.job.dsn, "SELECT key, kind, delta FROM processed_request ORDER BY key")
    assert found == [("a\\b", "x\ny\tz", 4), ("c", None, None)]


TYPES = {
    "bigint": "9223372036854775807",
    "numeric(10,2)": "-0.10",
    "double precision": "1e-07",
    "boolean": "t",
    "text": 'a "quoted" \\N, {brace}\n\ttab \\',
    "character varying(9)": "é€𝄞",
    "character(5)": "ab   ",
    '"char"': "x",
    "name": "n",
    "bytea": "\\x00ff",
    "date": "0044-03-15 BC",
    "timestamp(3) with time zone": "2026-01-01 12:00:00.5+00",
    "time without time zone": "24:00:00",
    "interval": "1 year 2 mons -3 days",
    "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "jsonb": '{"a": "NULL"}',
    "inet": "10.0.0.1/8",
    "bit(3)": "101",
    "point": "(1,2)",
    "int4range": "[1,5)",
    "tsvector": "'cat':3 'fat':2",
    "text[]": '{a,NULL,"\\"{},"}',
    "integer[]": "{{1,2},{3,4}}",
    "mood": "sad",
    "addr": '("x, y",1)',
    "addr[]": '{"(x,1)"}',
    "posint": "5",
}


async def test_rows_that_travel_with_their_statement_arrive_as_through_a_stage(
    postgres: Server, postgres_b: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged: list[int] = []
    long_way = Target._transaction

    async def counted(self: Target, units: Any, *, careful: bool) -> None:
        staged.append(len(units))
        await long_way(self, units, careful=careful)

    monkeypatch.setattr(Target, "_transaction", counted)
    source, target = postgres.database(), postgres_b.database()
    columns = {f"c{n}": kind for n, kind in enumerate(TYPES)}
    made = (
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TYPE addr AS (street text, number int)",
        "CREATE DOMAIN posint AS int CHECK (VALUE > 0)",
        f"CREATE TABLE anything (id bigint PRIMARY KEY, {', '.join(f'{n} {kind}' for n, kind in columns.items())})",
    )
    for dsn in (source, target):
        await s.run_sql(dsn, *made)
    every = s.TableMapping.model_validate(
        {"from": "public.anything", "to": "anything", "key": {"id": "id"}, "columns": {name: name for name in columns}}
    )
    flow = s.Flow(await s.databases(source, target, tables=[every]), target)
    anything = s.relation("anything", ("id", "bigint"), *columns.items())
    full, empty = tuple(TYPES.values()), (None,) * len(TYPES)
    async with flow.running():
        await flow.stream([s.create(anything, ("1", *full)), s.create(anything, ("2", *empty))])
        await flow.applied()
        await flow.stream([s.create(anything, ("3", *full)), s.create(anything, ("4", *empty))])
        await flow.applied()
        await flow.stream([s.delete(anything, ("2", *empty)), s.update(anything, ("4", *full))])
        await flow.applied()
    assert staged == [1], "only the first goes through a stage"
    as_text = ", ".join(f"{name}::text" for name in columns)
    found = {row[0]: row[1:] for row in await s.rows(target, f"SELECT id, {as_text} FROM anything")}
    assert set(found) == {1, 3, 4}
    assert found[1] == found[3] == found[4]
    shown = dict(zip(columns.values(), found[1], strict=True))
    changed = {"boolean": "true", "timestamp(3) with time zone": "2026-01-01 12:00:00.5+00", "character(5)": "ab"}
    assert shown == TYPES | changed


FILTERED = [
    s.TABLES[0],
    s.TABLES[1].model_copy(update={"where": "quantity % 2 = 0 and name <> 'x%'"}),
]


async def test_rows_that_do_not_match_have_no_row(postgres: Server, postgres_b: Server) -> None:
    target = postgres_b.database()
    flow = s.Flow(await s.databases(postgres.database(), target, tables=FILTERED), target)
    await flow.snapshot((s.INVENTORY, [s.item(1, 4), s.item(2, 5)]))
    async with flow.running():
        await flow.applied()
        assert await s.rows(target, STOCK) == [(1, 4)]
        await flow.stream(
            [
                s.update(s.INVENTORY, s.item(1, 5)),
                s.update(s.INVENTORY, s.item(2, 6)),
                s.create(s.INVENTORY, s.item(3, 2)),
            ]
        )
        await flow.applied()
        assert await s.rows(target, STOCK) == [(2, 6), (3, 2)]
        # the condition reads a value that was not sent
        await flow.stream([s.update(s.INVENTORY, ("2", "S2", UNCHANGED, "8", "0", "1", s.NOON))])
        assert "unchanged_value_needed" in (await flow.stopped())["message"]


async def test_expressions_are_judged_by_the_database(postgres: Server, postgres_b: Server) -> None:
    source, target = postgres.database(), postgres_b.database()
    mapped = await s.databases(source, target)
    wrong = {
        "mapping_unknown_column": "quantity + no_such",
        "mapping_type_mismatch": "quantity > 1",
        "mapping_invalid_expression": "quantity +",
    }
    async with s.postgres.session(target, what="test") as service, s.postgres.session(source, what="test") as monolith:
        await s.mapping.check(service, mapped, Direction.FORWARD)
        await s.mapping.check(monolith, mapped, Direction.REVERSE)
        await s.mapping.check(service, await s.compiled(monolith, service, FILTERED), Direction.FORWARD)
        for code, expression in wrong.items():
            bad = s.TABLES[1].model_copy(update={"columns": s.TABLES[1].columns | {"on_hand": expression}})
            with pytest.raises(FigError, match=code):
                await s.mapping.check(service, await s.compiled(monolith, service, [bad]), Direction.FORWARD)


async def test_what_does_not_come_back_as_it_went(postgres: Server, postgres_b: Server) -> None:
    source, target = postgres.database(), postgres_b.database()
    await s.databases(source, target)
    await s.run_sql(
        source,
        "INSERT INTO inventory SELECT n, 's', 'thing', n, 0, 0, now() FROM generate_series(1, 10) n",
        "INSERT INTO reservations (item_id, qty, created_at) VALUES (1, 1, now())",
    )
    lossy = s.TABLES[1].model_copy(update={"columns": s.TABLES[1].columns | {"on_hand": "least(quantity, 7)"}})
    async with s.postgres.session(target, what="test") as service, s.postgres.session(source, what="test") as monolith:
        mapped = await s.compiled(monolith, service, [s.TABLES[0], lossy, s.TABLES[2]])
        found = await s.mapping.identity_violations(monolith, mapped)
        assert [(v.table, v.column, v.rows, v.examples) for v in found] == [
            ("public.inventory", "quantity", 3, ("8", "9", "10"))
        ]
        filtered = lossy.model_copy(update={"where": "quantity < 9"})
        mapped = await s.compiled(monolith, service, [s.TABLES[0], filtered])
        assert [v.rows for v in await s.mapping.identity_violations(monolith, mapped)] == [1]


async def test_tables_that_others_refer_to_are_emptied_row_by_row(postgres: Server, postgres_b: Server) -> None:
    flow = await forward(postgres, postgres_b)
    await s.run_sql(flow.job.dsn, "CREATE TABLE outside (item_id bigint REFERENCES inventory_item ON DELETE CASCADE)")
    await flow.snapshot((s.INVENTORY, [s.item(1)]))
    await flow.stream([Change("t", s.INVENTORY, None, None)], [s.create(s.INVENTORY, s.item(2))])
    async with flow.running():
        await flow.applied()
    assert await s.rows(flow.job.dsn, STOCK) == [(2, 5)]


async def test_the_service_truncates(postgres: Server, postgres_b: Server) -> None:
    flow = await backward(postgres, postgres_b)
    await flow.stream([s.create(s.ITEM, ("1", "S1", "x", "1")), s.create(s.STOCK, ("1", "5", "0", s.NOON))])
    async with flow.running():
        await flow.applied()
        await flow.stream([Change("t", s.STOCK, None, None), Change("t", s.ITEM, None, None)])
        await flow.applied()
        assert await s.rows(flow.job.dsn, "SELECT count(*) FROM inventory") == [(0,)]
        await flow.stream([s.create(s.ITEM, ("1", "S1", "x", "1")), s.create(s.STOCK, ("1", "5", "0", s.NOON))])
        await flow.stream([Change("t", s.STOCK, None, None)])
        assert "quantity" in (await flow.stopped())["message"]


async def test_a_snapshot_never_runs_backward(postgres: Server, postgres_b: Server) -> None:
    flow = await backward(postgres, postgres_b)
    await flow.snapshot((s.ITEM, [("1", "S1", "x", "1")]))
    async with flow.running():
        assert (await flow.stopped())["code"] == "snapshot_backward"
