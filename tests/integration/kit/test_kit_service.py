"""Work of a service on a real PostgreSQL: state, messages and answer are one, and somebody else's work is noticed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from stranglerfig.foundation import clock, ids, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Aggregate, Cause, Outbox, Projection, Refused, Service, Transaction, evolves
from stranglerfig.sagas.running import Sagas
from tests import saga_shop
from tests.integration.kit.conftest import Stock
from tests.kit_shop import Ledger, Restock, StockAdjusted, StockLevel

OUTBOX = """SELECT topic, type, key, data::text::jsonb, dataschema, correlationid, causationid, traceparent
FROM fig.outbox ORDER BY seq"""


async def sell(tx: Transaction) -> dict[str, int]:
    level = await tx.load(StockLevel, 7)
    level.adjust(-30, "sold")
    return {"on_hand": level.on_hand}


async def test_state_messages_and_answer_are_one(stock: Stock) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

    async def sell_and_order(tx: Transaction) -> dict[str, int]:
        answer = await sell(tx)
        tx.send(Restock(7))
        return answer

    assert await stock.service.execute(sell_and_order, key="k", cause=Cause("k", "flow", trace)) == {"on_hand": 70}
    assert stock.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(70,)]
    assert stock.rows(OUTBOX) == [
        (
            "events.stock", "stock.StockAdjusted", "7", {"item_id": 7, "delta": -30, "on_hand": 70, "reason": "sold"},
            "fig:schemas/stock.StockAdjusted/2", "flow", "k", trace,
        ),
        (
            "commands.warehouse", "warehouse.Restock", "7", {"item_id": 7}, "fig:schemas/warehouse.Restock/1",
            "flow", "k", trace,
        ),
    ]  # fmt: skip


async def test_a_repeated_key_gets_the_same_answer_and_changes_nothing(stock: Stock) -> None:
    first = await stock.service.execute(sell, key="k")
    assert await stock.service.execute(sell, key="k") == first
    for _ in range(2):
        await stock.service.execute(sell, key=f"other{_}")
    assert await stock.service.execute(sell, key="k") == first, "also when the rule would refuse it by now"
    assert stock.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(10,)]
    assert stock.rows("SELECT count(*) FROM fig.outbox") == [(3,)]


async def test_one_key_at_once_many_times_counts_once(stock: Stock) -> None:
    answers = await asyncio.gather(*(stock.service.execute(sell, key="k") for _ in range(8)))
    assert answers == [{"on_hand": 70}] * 8
    assert stock.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(70,)]


class Receipt(Aggregate, table="receipt", id="key"):
    """An answer that the service keeps itself."""

    key: str
    on_hand: int


async def test_answers_in_a_table_of_the_services_own(stock: Stock) -> None:
    stock.rows("CREATE TABLE receipt (key text PRIMARY KEY, on_hand int)")

    async def sell_and_keep(tx: Transaction) -> int:
        on_hand = (await sell(tx))["on_hand"]
        await tx.add(Receipt("k", on_hand))
        return on_hand

    async def known(tx: Transaction) -> int | None:
        found = await tx.find(Receipt, "k")
        return None if found is None else found.on_hand

    answers = await asyncio.gather(*(stock.service.execute(sell_and_keep, known=known) for _ in range(8)))
    assert answers == [70] * 8
    stock.rows("UPDATE stock_level SET on_hand = 10 WHERE item_id = 7")
    assert await stock.service.execute(sell_and_keep, known=known) == 70, "also when the rule would refuse it by now"
    stock.rows("DELETE FROM receipt")
    with pytest.raises(Refused):
        await stock.service.execute(sell_and_keep, known=known)
    assert stock.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(10,)]


async def test_what_was_read_is_the_time_and_else_the_database_is_asked(stock: Stock) -> None:
    async def times(tx: Transaction) -> tuple[object, object]:
        asked = await tx.value("SELECT clock_timestamp()")
        await tx.load(StockLevel, 7)
        return asked, await tx.now()

    asked, now = await stock.service.execute(times)
    assert asked < now < clock.now() + timedelta(minutes=1)  # type: ignore[operator]

    async def twice(tx: Transaction) -> bool:
        return await tx.now() == await tx.now()

    assert await stock.service.execute(twice)


async def test_many_at_once_on_one_row_and_one_stream_all_count(stock: Stock) -> None:
    async def both(tx: Transaction) -> None:
        (await tx.load(StockLevel, 7)).adjust(1)
        (await tx.open(Ledger, 7)).enter(1)

    await asyncio.gather(*(stock.service.execute(both) for _ in range(12)))
    assert stock.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(112,)]
    assert stock.rows("SELECT count(*), max(version) FROM fig.stream_event WHERE stream = 'ledger-7'") == [(12, 12)]
    assert stock.rows("SELECT count(*) FROM fig.outbox") == [(24,)]


async def test_a_refusal_leaves_nothing_and_its_key_is_free(stock: Stock) -> None:
    async def too_much(tx: Transaction) -> None:
        (await tx.load(StockLevel, 3)).adjust(50)
        tx.send(Restock(3))
        (await tx.load(StockLevel, 7)).adjust(-101)

    with pytest.raises(Refused, match="insufficient_stock"):
        await stock.service.execute(too_much, key="k")
    assert stock.rows("SELECT count(*) FROM fig.outbox") == stock.rows("SELECT count(*) FROM fig.answer") == [(0,)]
    assert stock.rows("SELECT on_hand FROM stock_level WHERE item_id = 3") == [(100,)]
    assert await stock.service.execute(sell, key="k") == {"on_hand": 70}


async def test_what_is_not_there_is_refused_by_name(stock: Stock) -> None:
    async def unknown(tx: Transaction) -> None:
        assert await tx.find(StockLevel, 4711) is None
        await tx.load(StockLevel, 4711)

    with pytest.raises(Refused) as caught:
        await stock.service.execute(unknown)
    assert (caught.value.code, caught.value.facts) == ("unknown_stock_level", {"id": 4711})


async def test_a_new_one_is_kept_and_a_second_of_its_id_is_noticed(stock: Stock) -> None:
    seen: list[bool] = []

    async def begin(tx: Transaction) -> None:
        found = await tx.find(StockLevel, 99)
        seen.append(found is not None)
        level = found or await tx.add(StockLevel(99, 5, ["new"]))
        if len(seen) == 1:  # somebody else makes it meanwhile
            stock.rows("INSERT INTO stock_level VALUES (99, 1, null)")
        level.adjust(1)

    await stock.service.execute(begin)
    assert seen == [False, True] and stock.rows("SELECT on_hand, tags FROM stock_level WHERE item_id = 99") == [
        (2, None)
    ]


async def test_a_writer_that_knows_nothing_of_us_is_noticed(stock: Stock) -> None:
    rounds: list[int] = []

    async def adjust(tx: Transaction) -> None:
        level = await tx.load(StockLevel, 7)
        rounds.append(level.on_hand)
        if len(rounds) == 1:
            stock.rows("UPDATE stock_level SET on_hand = 50 WHERE item_id = 7")
        level.adjust(1)

    await stock.service.execute(adjust)
    assert rounds == [100, 50] and stock.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(51,)]


async def test_who_always_finds_others_faster_is_told(stock: Stock) -> None:
    async def adjust(tx: Transaction) -> None:
        level = await tx.load(StockLevel, 7)
        stock.rows("UPDATE stock_level SET on_hand = on_hand + 1 WHERE item_id = 7")
        level.adjust(1)

    with pytest.raises(FigError) as caught:
        await stock.service.execute(adjust)
    assert caught.value.code == "contended" and stock.rows("SELECT count(*) FROM fig.outbox") == [(0,)]


async def test_what_is_changed_inside_a_column_is_written(stock: Stock) -> None:
    async def tag(tx: Transaction) -> None:
        level = await tx.load(StockLevel, 7)
        level.tags = [*(level.tags or []), "red"]

    async def more(tx: Transaction) -> None:
        level = await tx.load(StockLevel, 7)
        assert level.tags is not None
        level.tags.append("blue")

    await stock.service.execute(tag)
    await stock.service.execute(more)
    assert stock.rows("SELECT tags FROM stock_level WHERE item_id = 7") == [(["red", "blue"],)]


async def test_statements_of_ones_own_are_part_of_it(stock: Stock) -> None:
    stock.rows("CREATE TABLE note (item_id int, words text)")

    async def work(tx: Transaction) -> Any:
        tx.execute("INSERT INTO note VALUES (%s, %s)", (7, "sold"))
        assert await tx.value("SELECT count(*) FROM note") == 0, "written with the commit"
        assert await tx.rows("SELECT on_hand FROM stock_level WHERE item_id < %s ORDER BY 1", (3,)) == [(100,), (100,)]
        await sell(tx)

    await stock.service.execute(work)
    assert stock.rows("SELECT * FROM note") == [(7, "sold")]

    async def wrong(tx: Transaction) -> None:
        tx.execute("INSERT INTO nowhere VALUES (1)")
        await sell(tx)

    with pytest.raises(psycopg.errors.UndefinedTable):
        await stock.service.execute(wrong)
    async with stock.service.session() as conn:
        assert conn.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    assert stock.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(70,)]


async def test_what_the_database_refuses_is_said_and_leaves_nothing(stock: Stock) -> None:
    async def too_many(tx: Transaction) -> None:
        (await tx.load(StockLevel, 7)).adjust(1_000_000)

    with pytest.raises(psycopg.errors.CheckViolation):
        await stock.service.execute(too_many)
    assert stock.rows("SELECT count(*) FROM fig.outbox") == [(0,)]
    assert await stock.service.execute(sell) == {"on_hand": 70}


async def test_a_stream_is_loaded_from_its_snapshot_and_without_it(stock: Stock) -> None:
    async def enter(tx: Transaction) -> None:
        ledger = await tx.open(Ledger, 5)
        for _ in range(7):
            ledger.enter(2)

    async def look(tx: Transaction) -> tuple[int, int]:
        ledger = await tx.load(Ledger, 5)
        return ledger.total, ledger.entries

    for _ in range(5):
        await stock.service.execute(enter)
    assert await stock.service.execute(look) == (70, 35)
    assert stock.rows("SELECT version, state::text::jsonb FROM fig.snapshot") == [
        (35, {"item_id": 5, "total": 70, "entries": 35})
    ]
    stock.rows("UPDATE fig.snapshot SET form = 'of an older class', state = '{}'")
    assert await stock.service.execute(look) == (70, 35)
    stock.rows("DELETE FROM fig.snapshot")
    assert await stock.service.execute(look) == (70, 35)


async def test_a_stream_that_recorded_what_nobody_knows_is_not_guessed(stock: Stock) -> None:
    stock.rows(
        "INSERT INTO fig.stream_event VALUES ('ledger-5', 1, 'stock.Forgotten', 'fig:schemas/stock.Forgotten/1', '{}')"
    )

    async def look(tx: Transaction) -> None:
        await tx.load(Ledger, 5)

    with pytest.raises(FigError, match=r"has recorded a stock\.Forgotten"):
        await stock.service.execute(look)


@pytest.mark.parametrize(("columns", "said"), [("item_id int, on_hand int", "no column tags"), ("", "is not there")])
async def test_a_table_that_is_not_as_declared_is_said(stock: Stock, columns: str, said: str) -> None:
    stock.rows("DROP TABLE stock_level")
    if columns:
        stock.rows(f"CREATE TABLE stock_level ({columns})")
    with pytest.raises(FigError, match=said) as caught:
        await stock.service.execute(sell)
    assert caught.value.code == "table_differs"


async def test_columns_of_all_kinds_come_back_as_they_were(stock: Stock) -> None:
    class Odd(Aggregate, table='Odd "one"', id="id"):
        id: str
        level: str
        size: Any
        many: list[int]

    stock.rows("CREATE TYPE heat AS ENUM ('low', 'high')")
    stock.rows('CREATE TABLE "Odd ""one""" (id varchar(9) PRIMARY KEY, level heat, size numeric(9,2), many jsonb)')

    async def make(tx: Transaction) -> None:
        await tx.add(Odd("a", "low", 1.5, [1, 2]))

    async def warm(tx: Transaction) -> str:
        odd = await tx.load(Odd, "a")
        odd.level = "high"
        return f"{odd.size} {odd.many}"

    await stock.service.execute(make)
    assert await stock.service.execute(warm) == "1.50 [1, 2]"
    assert stock.rows('SELECT level FROM "Odd ""one"""') == [("high",)]


async def test_an_outbox_of_the_services_own(stock: Stock) -> None:
    stock.rows("CREATE TABLE own (LIKE fig.outbox INCLUDING ALL)")
    stock.rows("ALTER TABLE own ALTER data TYPE jsonb, ALTER id TYPE uuid USING id::uuid")
    service = Service("stock", database=stock.dsn, outbox=Outbox("public.own", data="jsonb", id="uuid"))
    await service.execute(sell)
    assert stock.rows("SELECT key, data ->> 'reason' FROM own") == [("7", "sold")]
    assert service.consumers() == []
    await service.close()


async def test_sessions_that_ended_are_replaced_before_anybody_notices(stock: Stock) -> None:
    await stock.service.execute(sell)
    ours = "FROM pg_stat_activity WHERE application_name = 'stock' AND datname = current_database()"
    stock.rows(f"SELECT pg_terminate_backend(pid) {ours}")
    while stock.rows(f"SELECT 1 {ours}"):
        await asyncio.sleep(0.01)
    assert await stock.service.execute(sell) == {"on_hand": 40}


class Turnover(Projection, name="turnover", id="item_id"):
    item_id: int
    pieces: int = 0

    @evolves(StockAdjusted)
    def _adjusted(self, event: StockAdjusted) -> None:
        self.pieces += abs(event.delta)


async def test_a_role_that_may_make_no_tables_runs_the_service(stock: Stock) -> None:
    role = f"app_{ids.nonce()}"
    stock.rows(f"CREATE ROLE {role} LOGIN")
    stock.rows(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    Sagas(stock.service, [saga_shop.Checkout])
    stock.service.projection(Turnover)
    await stock.service.migrate(owner="postgres", users=[role])
    may_not = "SELECT relname FROM pg_class WHERE relnamespace = 'fig'::regnamespace AND relkind = 'r'"
    assert stock.rows(f"{may_not} AND NOT has_table_privilege('{role}', oid, 'DELETE') ORDER BY 1") == [
        ("migration",),
        ("personal_key",),
    ]

    theirs = Service("stock", database=conninfo.make_conninfo(stock.dsn, user=role), log=stock.log)
    theirs.projection(Turnover)
    serving = "SELECT 1 FROM fig.projection WHERE state = 'serving'"
    running = tasks.spawn(theirs.run(), name="service")
    try:
        await theirs.execute(sell, key="k")

        async def all_done() -> bool:
            return bool(await stock.log.read("events.stock", 0, 0)) and bool(stock.rows(serving))

        await clock.until(all_done, timeout=20, what="the message on the log, and the projection")
        names = stock.rows(f"SELECT DISTINCT application_name FROM pg_stat_activity WHERE usename = '{role}'")
        assert {name for (name,) in names} == {"stock", "stock:relay", "stock:watch"}, "the team's, not ours"
    finally:
        await tasks.stop(running)
        await theirs.close()


async def test_what_was_handled_and_answered_long_ago_is_forgotten(stock: Stock) -> None:
    service = Service("stock", database=stock.dsn, log=stock.log, keep=timedelta(hours=1))
    Sagas(service, [saga_shop.Checkout])
    await service.migrate()
    saga = """INSERT INTO fig.saga (id, name, version, key, status, data, course, history, begun_at, ended_at, revision)
    VALUES ({0}, 'orders.Checkout', 1, '1', 'completed', '{{}}', '{{}}', '[]', {1}, {1}, 1)"""
    kept = {
        "inbox": "INSERT INTO fig.inbox VALUES (1, ('0000000000000000000000000000000' || {0})::uuid, {1})",
        "reply": "INSERT INTO fig.reply VALUES (1, ('0000000000000000000000000000000' || {0})::uuid, '[]', {1})",
        "answer": "INSERT INTO fig.answer VALUES ('k' || {0}, '1', {1})",
        "flow_event": "INSERT INTO fig.flow_event VALUES ('f', 'e' || {0}, 'c', 't', 's', null, {1})",
        "saga": saga,
    }
    for statement in kept.values():
        stock.rows(statement.format(1, "now() - interval '2 hours'"))
        stock.rows(statement.format(2, "now() - interval '2 minutes'"))
    running = tasks.spawn(service.run(), name="service")
    counts = "SELECT " + ", ".join(f"(SELECT count(*) FROM fig.{table})" for table in kept)
    try:

        async def forgotten() -> bool:
            return stock.rows(counts) == [(1,) * len(kept)]

        await clock.until(forgotten, timeout=20, what="what is old to be forgotten")
        assert stock.rows("SELECT key FROM fig.answer") == [("k2",)]
    finally:
        await tasks.stop(running)
        await service.close()


async def test_what_the_log_would_not_take_is_refused_before_it_is_written(stock: Stock) -> None:
    limit = stock.log.capabilities.max_event_bytes

    async def shout(tx: Transaction) -> None:
        (await tx.load(StockLevel, 7)).adjust(-1, "ä" * (limit // 2))

    with pytest.raises(FigError, match="event_too_large") as caught:
        await stock.service.execute(shout)
    assert caught.value.context["limit"] == limit
    assert stock.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(100,)]
    assert stock.rows("SELECT count(*) FROM fig.outbox") == [(0,)]
