"""Changes of the service, written into the log by hand, arrive in a monolith on MariaDB: once and whole."""

from __future__ import annotations

import dataclasses

import mariadb_scenario as m
import pytest
import sync_scenario as s

from stranglerfig.changes.mapping import check
from stranglerfig.changes.model import ACTIVATED, MARKER, UNCHANGED, Change, Direction, Message, Transaction
from stranglerfig.databases.mariadb import binlog, ownership
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import apply, ends
from tests.conftest import MonolithOnMariaDB, Server

RESERVATION = s.relation(
    "reservation",
    ("reservation_id", "bigint"),
    ("item_id", "bigint"),
    ("order_ref", "bigint"),
    ("quantity", "integer"),
    ("state", "text"),
    ("created_at", "timestamp with time zone"),
)
REQUEST = s.relation(
    "processed_request",
    ("key", "text"),
    ("kind", "text"),
    ("item_id", "bigint"),
    ("delta", "integer"),
    ("response", "jsonb"),
    ("created_at", "timestamp with time zone"),
)
INVENTORY = "SELECT item_id, sku, name, quantity, reserved FROM inventory ORDER BY 1"


def item(number: int, sku: str = "", name: str = "thing") -> s.Row:
    return (str(number), sku or f"S{number}", name, "1")


def stock(number: int, on_hand: int = 5) -> s.Row:
    return (str(number), str(on_hand), "0", s.NOON)


def made(number: int, on_hand: int = 5) -> list[Change | Message]:
    return [s.create(s.ITEM, item(number)), s.create(s.STOCK, stock(number, on_hand))]


@pytest.fixture
async def flow(mariadb: MonolithOnMariaDB, postgres: Server) -> m.Backward:
    return await m.backward(mariadb, postgres)


async def test_rows_of_several_tables_become_one_and_every_transaction_says_that_it_is_ours(flow: m.Backward) -> None:
    async with mysql.session(flow.job.dsn, what="test") as conn:
        place = await binlog.where(conn)
    reserved = ("7", "1", None, "2", "released", s.NOON)
    await flow.stream(
        [*made(1), *made(2), s.create(RESERVATION, reserved)],
        [s.update(s.STOCK, stock(1, 9)), s.delete(s.ITEM, item(2)), s.delete(s.STOCK, stock(2))],
        [s.create(REQUEST, ("k%1", "adjust", "1", "-3", '{"a": [1, "é\\\\"]}', None))],
    )
    async with flow.running():
        await flow.applied()
        await flow.stream([s.update(s.ITEM, item(1, name="it's; new"))])
        await flow.applied()
    assert await flow.rows(INVENTORY) == [("1", "S1", "it's; new", "9", "0")]
    assert await flow.rows("SELECT * FROM reservations") == [
        ("7", "1", None, "2", "1", "2026-01-01 12:00:00.000000"),
    ]
    assert await flow.rows("SELECT `key`, kind, delta, response, created_at FROM inventory_requests") == [
        ("k%1", "adjust", "-3", '{"a": [1, "é\\\\"]}', None)
    ]
    async with mysql.session(flow.job.dsn, what="test") as conn:
        written = await m.first_tables(conn, place.file, place.offset)
    assert m.ours(written, mysql.parse(flow.job.dsn).database)
    last = flow.reports[-1]
    assert last["state"] == "applying" and last["transactions"] == 4 and last["latency_ms"]["count"] == 4


async def test_what_was_applied_is_not_applied_again(flow: m.Backward) -> None:
    first = Transaction(50, 1, 1, 1, tuple(made(1)))
    second = Transaction(60, 2, 1, 1, (s.delete(s.STOCK, stock(1)), s.delete(s.ITEM, item(1))))
    third = Transaction(70, 3, 1, 1, tuple(made(2, 3)))
    async with flow.running():
        await flow.transactions(first, second)
        await flow.applied()
        await flow.transactions(first, second, third)
        await flow.applied()
    async with flow.running():
        await flow.transactions(second, third, third)
        await flow.transactions(Transaction(80, 3, 1, 1, (s.update(s.STOCK, stock(2, 4)),)))
        await flow.applied()
    assert await flow.rows(INVENTORY) == [("2", "S2", "thing", "4", "0")]


async def test_unchanged_values_stay_and_keys_change_in_place(flow: m.Backward) -> None:
    await flow.run_sql("ALTER TABLE inventory ADD UNIQUE (sku)")
    await flow.stream([*made(1), *made(2), s.create(RESERVATION, ("1", "2", None, "1", "held", s.NOON))])
    await flow.stream([s.update(s.ITEM, ("1", "S1b", UNCHANGED, "1"))])
    # swapping unique values through a third one: together the last states collide, in order they do not
    await flow.stream(
        [
            s.update(s.ITEM, item(1, sku="tmp")),
            s.update(s.ITEM, item(2, sku="S1b")),
            s.update(s.ITEM, item(1, sku="S2")),
        ]
    )
    moved = Change("u", s.ITEM, ("1", UNCHANGED, UNCHANGED, UNCHANGED), ("11", "S2", UNCHANGED, "1"))
    async with flow.running():
        await flow.applied()
        # the key changes and a large value was not sent: only a change in place knows it
        await flow.stream([moved, Change("u", s.STOCK, ("1", *[UNCHANGED] * 3), stock(11))])
        await flow.applied()
        assert await flow.rows(INVENTORY) == [
            ("2", "S1b", "thing", "5", "0"), ("11", "S2", "thing", "5", "0"),
        ]  # fmt: skip
        await flow.stream([s.update(s.ITEM, ("3", "S3", UNCHANGED, "1"))])
        error = await flow.stopped()
    assert "did not change" in error["message"] and error["code"] == "change_refused"


async def test_a_deleted_row_and_a_key_s_other_case_are_not_taken_for_another(flow: m.Backward) -> None:
    def request(key: str, delta: int) -> s.Row:
        return (key, None, None, str(delta), None, None)

    await flow.stream([s.create(REQUEST, request("A", 1))])
    async with flow.running():
        await flow.applied()
        await flow.stream([s.delete(REQUEST, request("a", 1))])
        await flow.applied()
        assert await flow.rows("SELECT `key`, delta FROM inventory_requests") == [("A", "1")]
        await flow.stream([s.create(REQUEST, request("a", 2))])
        error = await flow.stopped()
        assert "Duplicate entry" in error["message"]
    assert await flow.rows("SELECT `key`, delta FROM inventory_requests") == [("A", "1")]


@pytest.mark.parametrize("way", ["retry", "skip"])
async def test_the_change_that_is_refused_is_named_and_a_person_decides(flow: m.Backward, way: str) -> None:
    await flow.run_sql("ALTER TABLE inventory ADD CONSTRAINT enough CHECK (quantity >= 0)")
    await flow.stream(made(1), made(2), [s.update(s.STOCK, stock(1, 8)), s.update(s.STOCK, stock(2, -1))], made(3))
    async with flow.running():
        error = await flow.stopped()
        assert error["code"] == "change_refused" and "enough" in error["message"] and "[4025]" in error["message"]
        assert error["context"]["row"]["on_hand"] == "-1"
        # What came before it is in, the rest of its transaction is not.
        assert await flow.rows(INVENTORY) == [(n, f"S{n}", "thing", "5", "0") for n in "12"]
        place = ends.Place("inventory", Direction.REVERSE)
        async with ends.decisions(flow.job.dsn) as parked:
            [row] = await parked.listed(place)
            assert row["change"]["table"] == "public.stock_level" and row["reason"] == "error"
            assert row["statement"].startswith("UPDATE") and await parked.count(place) == 1
        with pytest.raises(FigError) as unknown:
            await apply.skip(flow.job.dsn, "inventory", Direction.REVERSE, 999)
        assert unknown.value.code == "unknown_parked"
        if way == "retry":
            await flow.run_sql("ALTER TABLE inventory DROP CONSTRAINT enough")
        await flow.decide(error["context"]["parked"], skip=way == "skip")
        await flow.applied()
    second = "-1" if way == "retry" else "5"
    assert [row[3] for row in await flow.rows(INVENTORY)] == ["8", second, "5"]


async def test_a_large_transaction_is_whole_and_its_culprit_is_found(flow: m.Backward) -> None:
    def part(first: int, numbers: range, *, end: bool) -> Transaction:
        items = tuple(change for number in numbers for change in made(number))
        return Transaction(500, 1, 1, first, items, end)

    await flow.transactions(part(1, range(1, 1500), end=False))
    await flow.transactions(part(2999, range(1500, 3001), end=True))
    async with flow.running():
        await flow.applied()
        assert await flow.rows("SELECT count(*), sum(quantity) FROM inventory") == [("3000", "15000")]
        wrong = s.update(s.ITEM, item(9, sku="x" * 41))
        await flow.transactions(Transaction(600, 1, 1, 1, (s.update(s.STOCK, stock(1, 6)), wrong), end=False))
        error = await flow.stopped()
        assert "too long" in error["message"] and error["context"]["row"]["item_id"] == "9"
        await flow.decide(error["context"]["parked"], skip=True)
        await flow.transactions(Transaction(600, 1, 1, 3, (s.update(s.STOCK, stock(2, 7)),)))
        await flow.applied()
    assert [row[3] for row in await flow.rows(f"SELECT * FROM ({INVENTORY}) AS i LIMIT 3")] == ["6", "7", "5"]


async def test_truncated_tables_are_emptied_unless_others_rows_stand_in_them(
    flow: m.Backward, mariadb: MonolithOnMariaDB, postgres: Server
) -> None:
    def truncate(*relations: s.frames.Relation) -> list[Change | Message]:  # type: ignore[name-defined]
        return [Change("t", relation, None, None) for relation in relations]

    await flow.stream([*made(1), s.create(RESERVATION, ("1", "1", None, "1", "held", s.NOON))])
    async with flow.running():
        await flow.applied()
        await flow.stream([*truncate(s.ITEM, s.STOCK, RESERVATION), *made(2)])
        await flow.applied()
    assert await flow.rows(INVENTORY) == [("2", "S2", "thing", "5", "0")]
    entries = tuple(dataclasses.replace(e, where="sku <> 'x'") for e in flow.job.mapping.forward)
    flow.job = dataclasses.replace(flow.job, mapping=dataclasses.replace(flow.job.mapping, forward=entries))
    await flow.stream(truncate(s.ITEM, s.STOCK, RESERVATION))
    async with flow.running():
        error = await flow.stopped()
    assert "[truncate_refused]" in error["message"] and await flow.rows(INVENTORY)


async def test_a_second_worker_waits_and_one_that_lost_its_place_writes_nothing(flow: m.Backward) -> None:
    await flow.stream(made(1))
    async with flow.running():
        await flow.applied()
        with pytest.raises(FigError) as busy:
            async with ends.open_target(flow.job):
                pass
        assert busy.value.code == "origin_busy"

    async def free() -> bool:  # the server ends a session some time after it was closed
        return not await ends.busy(flow.job.dsn, "inventory")

    await s.clock.until(free, timeout=20, what="the place to be free")
    async with ends.open_target(flow.job) as target:
        await flow.run_sql("UPDATE fig.applied SET lsn = lsn + 1")
        unit = ends.Unit(Transaction(9000, 1, 1, 1, tuple(made(2))), 99)
        with pytest.raises(FigError) as overtaken:
            await target.commit([unit])
        assert overtaken.value.code == "overtaken"
    assert len(await flow.rows(INVENTORY)) == 1


async def test_an_owner_takes_no_changes_and_who_has_ceded_takes_them_from_the_activation_on(flow: m.Backward) -> None:
    name = mysql.parse(flow.job.dsn).database
    async with mysql.session(flow.job.dsn, what="test") as conn:
        await ownership.install(
            conn, "inventory", side="monolith", owner=True, tables=[f"{name}.inventory"], enforcing=True
        )
        await flow.stream(made(1))
        async with flow.running():
            await flow.applied()
            assert await flow.rows(INVENTORY) == []
            assert await flow.rows("SELECT reason, count(*) FROM fig.parked") == [("tripwire", "2")]
            await ownership.intend(conn, "inventory", epoch=1)
            await ownership.fence(conn, "inventory", epoch=1, nonce="n", lock_timeout=5)
            await ownership.cede(conn, "inventory", epoch=1, nonce="n")
            marker = Message(MARKER, '{"context": "inventory", "nonce": "m1"}')
            await flow.stream(made(2), [Message(ACTIVATED, '{"context": "inventory", "epoch": 1}'), marker], made(3))
            await flow.applied()
    assert [row[0] for row in await flow.rows(INVENTORY)] == ["3"]
    assert await flow.rows("SELECT prefix, nonce FROM fig.marker WHERE nonce = 'm1'") == [("fig.marker", "m1")]


async def test_who_holds_rows_is_waited_for(flow: m.Backward) -> None:
    await flow.stream(made(1))
    async with flow.running():
        await flow.applied()
        async with mysql.session(flow.job.dsn, what="test") as conn, conn.transaction():
            await conn.execute("UPDATE inventory SET reserved = 1")
            await flow.stream([s.update(s.STOCK, stock(1, 6))])

            async def waits() -> bool:
                error = flow.reports[-1]["error"]
                return error is not None and error["code"] == "rows_busy"

            await s.clock.until(waits, timeout=30, what="sync to say that it waits")
        await flow.applied()
    assert [row[3] for row in await flow.rows(INVENTORY)] == ["6"]


async def test_a_server_that_dies_between_is_waited_for(flow: m.Backward) -> None:
    async with flow.running():
        await flow.stream(made(1))
        await flow.applied()
        async with mysql.session(flow.job.dsn, what="test") as conn:
            for (number,) in await conn.fetch(
                "SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND db = database()"
            ):
                await conn.execute(f"KILL {number}")
        await flow.stream(made(2))
        await flow.applied()
    assert len(await flow.rows(INVENTORY)) == 2


async def test_what_only_a_postgresql_can_be_asked_for_is_refused(flow: m.Backward) -> None:
    await flow.snapshot((s.ITEM, [item(1)]))
    async with flow.running():
        assert (await flow.stopped())["code"] == "snapshot_backward"
    for change, code in (({"parted": True}, "partitions_unsupported"), ({"rules": {}}, "bidirectional_unsupported")):
        with pytest.raises(FigError) as refused:
            async with ends.open_target(dataclasses.replace(flow.job, **change)):  # type: ignore[arg-type]
                pass
        assert refused.value.code == code
    await flow.run_sql("CREATE TABLE odd (k double PRIMARY KEY, v int)")
    async with (
        mysql.session(flow.job.dsn, what="test") as monolith,
        postgres.session(flow.job.evaluator, what="test") as service,
    ):
        await service.execute("CREATE TABLE odd (k double precision PRIMARY KEY, v int)")
        body = {"from": f"{mysql.parse(flow.job.dsn).database}.odd", "to": "odd", "key": {"k": "k"}}
        wanted = s.TableMapping.model_validate(body | {"columns": {"v": "v"}, "reverse": {"v": "v"}})
        odd = await m.compiled(monolith, service, [wanted])
        bad = s.TableMapping.model_validate(body | {"columns": {"v": "v"}, "reverse": {"v": "v = 1"}})
        boolean = await m.compiled(monolith, service, [bad])
        await check(service, odd, Direction.REVERSE, elsewhere=True)
        await check(service, boolean, Direction.REVERSE, elsewhere=True)  # boolean to integer has a cast
    with pytest.raises(FigError) as key:
        async with ends.open_target(dataclasses.replace(flow.job, mapping=odd)):
            pass
    assert key.value.code == "reverse_key_type"


async def test_expressions_are_judged_by_the_database_that_will_evaluate_them(flow: m.Backward) -> None:
    async with postgres.session(flow.job.evaluator, what="test") as service:
        await check(service, flow.job.mapping, Direction.REVERSE, elsewhere=True)
        entry = flow.job.mapping.reverse[2]
        for expression, code in (("state = 1", "mapping_invalid_expression"), ("nowhere", "mapping_unknown_column")):
            assignment = dataclasses.replace(entry.columns[0], expression=expression)
            wrong = dataclasses.replace(entry, columns=(assignment,))
            mapped = dataclasses.replace(flow.job.mapping, reverse=(wrong,))
            with pytest.raises(FigError) as refused:
                await check(service, mapped, Direction.REVERSE, elsewhere=True)
            assert refused.value.code == code


PAIRS = """CREATE TABLE pair (a int, b varchar(10), v int, w int, PRIMARY KEY (a, b))"""


async def test_keys_of_several_columns_and_columns_that_lose_what_gave_them(flow: m.Backward) -> None:
    """``one`` makes and unmakes rows of ``pair``, ``two`` only fills in a column; their keys are in another order."""
    await flow.run_sql(PAIRS)
    name = mysql.parse(flow.job.dsn).database
    async with (
        mysql.session(flow.job.dsn, what="test") as monolith,
        postgres.session(flow.job.evaluator, what="test") as service,
    ):
        await service.execute("CREATE TABLE one (x int, y text, v int, PRIMARY KEY (x, y))")
        await service.execute("CREATE TABLE two (y text, x int, w int, PRIMARY KEY (y, x))")
        wanted = [
            s.TableMapping.model_validate(body)
            for body in (
                {"from": f"{name}.pair", "to": "one", "key": {"x": "a", "y": "b"}, "columns": {"v": "v"},
                 "reverse": {"v": "100 / v"}},
                {"from": f"{name}.pair", "to": "two", "key": {"y": "b", "x": "a"}, "columns": {"w": "w"},
                 "reverse": {"w": "w"}},
            )
        ]  # fmt: skip
        flow.job = dataclasses.replace(flow.job, mapping=await m.compiled(monolith, service, wanted))
    x, y = s.Column("x", "integer", True), s.Column("y", "text", True)
    one = s.Relation("public", "one", (x, y, s.Column("v", "integer")))
    two = s.Relation("public", "two", (y, x, s.Column("w", "integer")))
    both = [[s.create(one, (str(n), "k", "10")), s.create(two, ("k", str(n), "7"))] for n in (1, 2, 3)]
    await flow.stream(*both)
    pairs = "SELECT a, b, v, w FROM pair ORDER BY 1"
    async with flow.running():
        await flow.applied()
        assert await flow.rows(pairs) == [(n, "k", "10", "7") for n in "123"]
        await flow.stream(
            [s.delete(two, ("k", "1", None)), s.delete(one, ("3", "k", None)), s.delete(two, ("k", "3", None))]
        )
        await flow.applied()
        assert await flow.rows(pairs) == [("1", "k", "10", None), ("2", "k", "10", "7")]
        await flow.stream([Change("t", two, None, None)])
        await flow.applied()
        assert await flow.rows(pairs) == [(n, "k", "10", None) for n in "12"]
        await flow.stream([s.create(two, ("k", "9", "1"))])
        error = await flow.stopped()
        assert "[row_without_anchor]" in error["message"]
    flow.reports.clear()
    async with flow.running():  # who is started again finds what waits
        await flow.decide((await flow.stopped())["context"]["parked"], skip=True)
        await flow.stream([s.update(one, ("1", "k", "0")), s.update(one, ("2", "k", "50"))])
        error = await flow.stopped()
        assert "division by zero [22012]" in error["message"] and error["context"]["row"]["x"] == "1"
        await flow.decide(error["context"]["parked"], skip=True)
        await flow.applied()
    assert await flow.rows(pairs) == [("1", "k", "10", None), ("2", "k", "2", None)]
