"""Events handled once, whatever happens: batches, duplicates, poison, parked keys, members that were paused."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import NotYet, Refused, Transaction, operating
from stranglerfig.kit import consumer as consumer_module
from stranglerfig.kit.consumer import ATTEMPTS, Consumer
from stranglerfig.kit.messages import decode
from tests.integration.kit.conftest import Stock
from tests.kit_shop import OrderCancelled, OrderPlaced, Restock, StockAdjusted, StockLevel

LEVEL = "SELECT on_hand FROM stock_level WHERE item_id = {}"
PARKED = "SELECT key, error, attempts FROM fig.dead_letter ORDER BY id"


def reacting(stock: Stock) -> None:
    """Orders take stock."""

    @stock.service.on(OrderPlaced)
    async def reserve(event: OrderPlaced, tx: Transaction) -> None:
        (await tx.load(StockLevel, event.item_id)).adjust(-event.quantity, "order")

    @stock.service.on(OrderCancelled)
    async def release(event: OrderCancelled, tx: Transaction) -> None:
        (await tx.load(StockLevel, event.item_id)).adjust(event.quantity, "cancelled")


async def test_a_batch_is_handled_in_order_and_once(stock: Stock) -> None:
    reacting(stock)
    await stock.placed(OrderPlaced(7, 100), OrderCancelled(7, 100), OrderPlaced(7, 100), OrderPlaced(8, 1))
    consumer = await stock.consumed()
    await stock.consumed(consumer)
    await stock.consumed(stock.service.consumers()[0], from_=1)
    assert stock.rows(LEVEL.format(7)) == [(0,)] and stock.rows(LEVEL.format(8)) == [(99,)]
    said = stock.rows("SELECT data ->> 'item_id', data ->> 'on_hand' FROM fig.outbox ORDER BY seq")
    assert said == [("7", "0"), ("7", "100"), ("7", "0"), ("8", "99")] and consumer.handled == 4
    assert stock.rows(PARKED) == []


async def test_the_same_event_twice_in_the_log_counts_once(stock: Stock) -> None:
    reacting(stock)
    (event,) = await stock.placed(OrderPlaced(7, 1))
    await stock.log.create_topic("again")
    records = await stock.log.read("events.orders", 0, 0)
    consumer = stock.service.consumers()[0]
    await consumer.begin()
    await consumer.handle([*records, records[0]._replace(position=1)])
    await consumer.handle([records[0]._replace(position=2)])
    assert stock.rows(LEVEL.format(7)) == [(99,)] and event.id


async def test_what_is_said_carries_the_flow_on(stock: Stock) -> None:
    reacting(stock)
    first, second = await stock.placed(OrderPlaced(7, 1), OrderPlaced(8, 1))
    (third,) = await stock.placed(OrderPlaced(9, 1), correlationid="flow", traceparent="00-" + "1" * 55)
    await stock.consumed()
    said = stock.rows("SELECT causationid, correlationid, traceparent FROM fig.outbox ORDER BY seq")
    assert said == [
        (first.id, first.id, None), (second.id, second.id, None), (third.id, "flow", "00-" + "1" * 55),
    ]  # fmt: skip


async def test_several_handlers_of_one_event_are_one(stock: Stock) -> None:
    seen: list[str] = []

    @stock.service.on(OrderPlaced)
    async def one(event: OrderPlaced, tx: Transaction) -> None:
        seen.append("one")
        tx.send(Restock(event.item_id))
        (await tx.load(StockLevel, event.item_id)).adjust(-1)

    @stock.service.on(OrderPlaced)
    async def other(event: OrderPlaced, tx: Transaction) -> None:
        tx.send(Restock(-event.item_id))  # before it loads anything: still behind what the first one says
        seen.append("other")
        (await tx.load(StockLevel, event.item_id)).adjust(-2)

    await stock.placed(OrderPlaced(7, 1), OrderPlaced(7, 1))
    await stock.consumed()
    said = stock.rows("SELECT data ->> 'item_id', data ->> 'on_hand' FROM fig.outbox ORDER BY seq")
    assert said == [
        ("7", None), ("7", "99"), ("-7", None), ("7", "97"), ("7", None), ("7", "96"), ("-7", None), ("7", "94"),
    ]  # fmt: skip
    assert len(seen) == 4


async def test_subscriptions_of_one_service_go_their_own_ways(stock: Stock) -> None:
    reacting(stock)

    @stock.service.on(OrderPlaced, subscription="audit")
    async def audit(event: OrderPlaced, tx: Transaction) -> None:
        tx.send(Restock(event.item_id))

    await stock.placed(OrderPlaced(7, 1))
    consumers = stock.service.consumers()
    assert [each.name for each in consumers] == ["stock", "stock.audit"]
    for each in consumers:
        await stock.consumed(each)
    assert stock.rows("SELECT type FROM fig.outbox ORDER BY seq") == [("stock.StockAdjusted",), ("warehouse.Restock",)]


async def test_what_is_not_here_yet_is_awaited_by_its_key_alone(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "LETTERS", 2)
    reacting(stock)

    @stock.service.on(OrderCancelled, subscription="counted")
    async def counted(event: OrderCancelled, tx: Transaction) -> None:
        if not stock.rows(f"SELECT 1 FROM stock_level WHERE item_id = {event.item_id}"):
            raise NotYet(Refused("unknown_item"))
        tx.send(Restock(event.item_id))

    @stock.service.on(StockAdjusted, subscription="counted")
    async def adjusted(event: StockAdjusted, tx: Transaction) -> None:
        tx.send(Restock(event.item_id))

    said = "SELECT key FROM fig.outbox WHERE topic LIKE 'commands.%' ORDER BY seq"
    stock.rows("DELETE FROM stock_level WHERE item_id IN (7, 8, 9)")
    await stock.placed(*(OrderCancelled(item, n) for item, n in ((7, 1), (8, 1), (9, 1), (7, 2), (10, 1))))
    consumer = await stock.consumed(next(each for each in stock.service.consumers() if "counted" in each.name))
    assert stock.rows(said) == [("10",)]  # of the same batch, and nothing holds it up
    await stock.placed(StockAdjusted(7, 1, 1))
    await consumer.handle(await stock.log.read("events.stock", 0, 0))
    assert stock.rows(said) == [("10",), ("7",)]  # another topic, where the log keeps no order either
    assert stock.rows(PARKED) == [("7", None, 0), ("8", None, 0), ("9", None, 0), ("7", None, 0)]
    retrying = asyncio.create_task(consumer._retry())
    await asyncio.sleep((ATTEMPTS + 1) * consumer_module.LOOK)
    assert {row[1:] for row in stock.rows(PARKED)} <= {(None, 0), (None, 1)}
    stock.rows("INSERT INTO stock_level (item_id, on_hand) VALUES (9, 0)")

    async def only(*keys: str) -> None:
        async def are_left() -> bool:
            return [row[0] for row in stock.rows(PARKED)] == [*keys]

        await clock.until(are_left, timeout=10, what=f"{keys} to be left")

    await only("7", "8", "7")
    stock.rows("INSERT INTO stock_level (item_id, on_hand) VALUES (7, 0)")
    await only("8")
    monkeypatch.setattr(consumer_module, "AWAITED", 0.0)
    await clock.until(
        lambda: _is(stock.rows(PARKED), [("8", "refused: unknown_item", 0)]), timeout=10, what="giving up"
    )
    assert stock.rows(said) == [("10",), ("7",), ("9",), ("7",), ("7",)]
    await tasks.stop(retrying)


async def _is(found: list[tuple[object, ...]], wanted: list[tuple[object, ...]]) -> bool:
    return found == wanted


async def test_poison_is_parked_with_its_key_and_others_go_on(stock: Stock) -> None:
    reacting(stock)
    await stock.placed(
        OrderPlaced(7, 500), OrderPlaced(8, 1), OrderCancelled(7, 1), OrderPlaced(9, 1), OrderPlaced(7, 2)
    )
    consumer = await stock.consumed()
    assert stock.rows(PARKED) == [("7", "refused: insufficient_stock", ATTEMPTS), ("7", None, 0), ("7", None, 0)]
    assert [stock.rows(LEVEL.format(item))[0][0] for item in (7, 8, 9)] == [100, 99, 99]
    await stock.placed(OrderPlaced(7, 3), OrderPlaced(8, 3))
    await stock.consumed(consumer, from_=5)
    assert stock.rows(LEVEL.format(8)) == [(96,)] and len(stock.rows(PARKED)) == 4


async def test_what_is_parked_is_tried_again_in_order_when_somebody_asks(stock: Stock) -> None:
    reacting(stock)
    await stock.placed(OrderPlaced(7, 500), OrderCancelled(7, 1), OrderPlaced(8, 500), OrderPlaced(7, 2))
    consumer = await stock.consumed()
    running = asyncio.create_task(consumer.run())
    try:
        stock.rows("UPDATE fig.dead_letter SET retry = true WHERE key = '7' AND error IS NOT NULL")

        async def tried() -> bool:
            return stock.rows("SELECT attempts, retry FROM fig.dead_letter WHERE key = '7' AND error IS NOT NULL") == [
                (ATTEMPTS + 1, False)
            ]

        await clock.until(tried, timeout=20, what="the parked event to be tried")
        assert len(stock.rows(PARKED)) == 4, "it failed again, and waits again with what is behind it"
        stock.rows("UPDATE stock_level SET on_hand = 600 WHERE item_id = 7")
        stock.rows("UPDATE fig.dead_letter SET retry = true WHERE key = '7' AND error IS NOT NULL")

        async def through() -> bool:
            return stock.rows("SELECT count(*) FROM fig.dead_letter WHERE key = '7'") == [(0,)]

        await clock.until(through, timeout=20, what="the key to be free")
    finally:
        await tasks.stop(running)
    assert stock.rows(LEVEL.format(7)) == [(99,)] and [row[0] for row in stock.rows(PARKED)] == ["8"]
    said = stock.rows("SELECT data ->> 'delta' FROM fig.outbox ORDER BY seq")
    assert said == [("-500",), ("1",), ("-2",)]


async def test_what_is_discarded_lets_the_rest_of_its_key_follow(stock: Stock) -> None:
    reacting(stock)
    await stock.placed(OrderPlaced(7, 500), OrderPlaced(7, 2))
    consumer = await stock.consumed()
    stock.rows("DELETE FROM fig.dead_letter WHERE error IS NOT NULL")
    running = asyncio.create_task(consumer.run())

    async def through() -> bool:
        return stock.rows(LEVEL.format(7)) == [(98,)]

    await clock.until(through, timeout=20, what="the rest of the key")
    await tasks.stop(running)
    assert stock.rows(PARKED) == []


async def test_what_cannot_be_read_is_parked_at_once(stock: Stock) -> None:
    reacting(stock)
    (event,) = await stock.placed(OrderPlaced(7, 1))
    bad = event._replace(id="bad", data=b'{"item_id": 8}', partitionkey="8")
    await stock.log.append("events.orders", [bad])
    consumer = await stock.consumed()
    ((key, error, attempts),) = stock.rows(PARKED)
    assert (key, attempts) == ("8", 0) and "quantity: Field required" in error and consumer.handled == 1
    assert stock.rows(LEVEL.format(7)) == [(99,)]


async def test_what_the_database_refuses_is_its_events_fault(stock: Stock) -> None:
    reacting(stock)
    stock.rows("ALTER TABLE stock_level ADD CONSTRAINT lucky CHECK (on_hand <> 87)")
    await stock.placed(OrderPlaced(7, 13), OrderPlaced(8, 1))
    await stock.consumed()
    ((key, error, _),) = stock.rows(PARKED)
    assert key == "7" and "lucky" in error and stock.rows(LEVEL.format(8)) == [(99,)]


async def test_an_undeclared_message_is_refused_and_leaves_nothing(stock: Stock) -> None:
    @stock.service.on(OrderPlaced, emits=[StockAdjusted])
    async def reserve(event: OrderPlaced, tx: Transaction) -> None:
        (await tx.load(StockLevel, event.item_id)).adjust(-1)
        if event.quantity > 1:
            tx.send(Restock(event.item_id))

    await stock.placed(OrderPlaced(7, 2), OrderPlaced(8, 1))
    await stock.consumed()
    ((key, error, _),) = stock.rows(PARKED)
    assert key == "7" and "sends Restock" in error
    assert stock.rows("SELECT key FROM fig.outbox") == [("8",)]


async def test_others_that_are_faster_are_no_failure(stock: Stock) -> None:
    rounds: list[int] = []

    @stock.service.on(OrderPlaced)
    async def reserve(event: OrderPlaced, tx: Transaction) -> None:
        level = await tx.load(StockLevel, event.item_id)
        rounds.append(level.on_hand)
        if len(rounds) == 1:
            stock.rows("UPDATE stock_level SET on_hand = 50 WHERE item_id = 7")
        level.adjust(-1)

    await stock.placed(OrderPlaced(7, 1))
    await stock.consumed()
    assert rounds == [100, 50] and stock.rows(LEVEL.format(7)) == [(49,)] and stock.rows(PARKED) == []


async def test_two_members_with_the_same_events_handle_each_once(stock: Stock) -> None:
    reacting(stock)
    await stock.placed(*[OrderPlaced(item % 50 + 1, 1) for item in range(200)])
    records = await stock.log.read("events.orders", 0, 0)
    members = [stock.service.consumers()[0] for _ in range(2)]
    for member in members:
        await member.begin()

    async def work(member: Consumer, size: int) -> None:
        for start in range(0, len(records), size):
            await member.handle(records[start : start + size])

    await asyncio.gather(work(members[0], 7), work(members[1], 11))
    assert stock.rows("SELECT sum(on_hand) FROM stock_level") == [(50 * 100 - 200,)]
    assert stock.rows("SELECT count(*) FROM fig.outbox") == [(200,)] and stock.rows(PARKED) == []
    assert sum(member.handled for member in members) == 200


KILLED = """
import asyncio, os, signal, sys
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.kit import Service
from tests.kit_shop import OrderPlaced, StockLevel

async def main():
    service = Service("stock", database=sys.argv[1], log=PostgresLog(sys.argv[1]), lease=0.5)

    @service.on(OrderPlaced)
    async def reserve(event, tx):
        level = await tx.load(StockLevel, event.item_id)
        if event.quantity == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        level.adjust(-event.quantity)

    await service.run()

asyncio.run(main())
"""


async def test_an_event_that_kills_its_process_is_parked(lasting: Stock) -> None:
    stock = lasting
    await stock.placed(*[OrderPlaced(item, 13 if item == 7 else 1) for item in range(1, 21)], OrderPlaced(7, 1))

    async def done() -> bool:
        handled = stock.rows("SELECT count(*) FROM stock_level WHERE on_hand = 99") == [(19,)]
        return handled and len(stock.rows(PARKED)) == 2

    lives = 0
    root = Path(__file__).parents[3]
    environment = dict(os.environ, PYTHONPATH=f"{root / 'src'}:{root}")
    while not await done():
        assert lives <= 3 * ATTEMPTS
        lives += 1
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, stock.dsn, env=environment)
        waiting = asyncio.create_task(process.wait())
        while not waiting.done() and not await done():
            await asyncio.sleep(0.02)
        if not waiting.done():
            process.kill()
        await waiting
    ((key, error, attempts), behind) = stock.rows(PARKED)
    assert (key, attempts) == ("7", ATTEMPTS) and "its process ended" in error and behind == ("7", None, 0)
    assert lives > ATTEMPTS


async def test_the_parked_event_is_as_it_came(stock: Stock) -> None:
    from stranglerfig.kit.consumer import event_told

    @stock.service.on(OrderPlaced)
    async def never(event: OrderPlaced, tx: Transaction) -> None:
        raise Refused("never")

    (event,) = await stock.placed(OrderPlaced(7, 1), correlationid="flow", subject="7")
    await stock.consumed()
    ((kept, data),) = stock.rows("SELECT event, data FROM fig.dead_letter")
    assert event_told(kept, data) == event and decode(OrderPlaced, event) == OrderPlaced(7, 1)
    assert pytest.approx(kept["time"][:10]) == event.time.isoformat()[:10]


async def test_a_command_that_is_asked_again_is_done_once_and_answered_again(stock: Stock) -> None:
    @stock.service.on(Restock, emits=[StockAdjusted])
    async def restock(command: Restock, tx: Transaction) -> None:
        (await tx.load(StockLevel, command.item_id)).adjust(5)

    await stock.log.create_topic("commands.warehouse")
    (first,) = await stock.placed(Restock(7))
    again = [first._replace(id=f"{first.id}#{attempt}") for attempt in (2, 3)]
    await stock.log.append("commands.warehouse", again)
    consumer = stock.service.consumers()[0]
    await consumer.begin()
    for record in await stock.log.read("commands.warehouse", 0, 0):
        await consumer.handle([record])
    await consumer.handle(await stock.log.read("commands.warehouse", 0, 0))
    assert stock.rows(LEVEL.format(7)) == [(105,)]
    said = stock.rows("SELECT type, data ->> 'on_hand', causationid FROM fig.outbox ORDER BY seq")
    assert said == [
        ("stock.StockAdjusted", "105", each) for each in (first.id, again[0].id, again[1].id, again[0].id, again[1].id)
    ]


async def test_ids_with_a_sharp_are_events_of_their_own(stock: Stock) -> None:
    reacting(stock)
    (event,) = await stock.placed(OrderPlaced(7, 1))
    more = [event._replace(id=f"order-7#{what}") for what in ("placed", "paid", "2")]
    await stock.log.append("events.orders", more)
    await stock.consumed()
    assert stock.rows(LEVEL.format(7)) == [(96,)]


async def test_what_is_cancelled_within_a_handler_is_that_handlers_failure(stock: Stock) -> None:
    async def gone() -> None:
        raise asyncio.CancelledError

    @stock.service.on(OrderPlaced)
    async def reserve(event: OrderPlaced, tx: Transaction) -> None:
        if event.quantity == 13:
            await gone()
        (await tx.load(StockLevel, event.item_id)).adjust(-event.quantity)
        if event.quantity == 14:
            await gone()

    await stock.placed(OrderPlaced(7, 13), OrderPlaced(8, 14), OrderPlaced(9, 1))
    await stock.consumed()
    assert [row[0] for row in stock.rows(PARKED)] == ["7", "8"] and stock.rows(LEVEL.format(9)) == [(99,)]


async def test_contention_parks_nobody(stock: Stock) -> None:
    rounds = 0

    @stock.service.on(OrderPlaced)
    async def reserve(event: OrderPlaced, tx: Transaction) -> None:
        nonlocal rounds
        level = await tx.load(StockLevel, event.item_id)
        rounds += 1
        if rounds < 12:
            stock.rows("UPDATE stock_level SET on_hand = on_hand + 1 WHERE item_id = 7")
        level.adjust(-1)

    await stock.placed(OrderPlaced(7, 1))
    await stock.consumed()
    assert rounds == 12 and stock.rows(PARKED) == [] and stock.rows(LEVEL.format(7)) == [(110,)]


async def test_a_database_that_is_away_counts_against_no_event(stock: Stock) -> None:
    @stock.service.on(OrderPlaced)
    async def reserve(event: OrderPlaced, tx: Transaction) -> None:
        await tx.load(StockLevel, event.item_id)
        if stock.rows("SELECT count(*) < 6 FROM away") == [(True,)]:
            stock.rows("INSERT INTO away VALUES (1)")
            await tx.rows("SELECT pg_terminate_backend(pg_backend_pid())")

    stock.rows("CREATE TABLE away (n int)")
    await stock.placed(OrderPlaced(7, 1))
    consumer = stock.service.consumers()[0]
    for _ in range(6):
        with pytest.raises(FigError, match="cannot be reached"):
            await stock.consumed(consumer)
    await stock.consumed(consumer)
    assert consumer.handled == 1 and stock.rows(PARKED) == []


async def test_what_another_side_owns_is_waited_for(stock: Stock) -> None:
    reacting(stock)
    stock.rows(
        "CREATE FUNCTION guarded() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'writes are refused here' USING ERRCODE = 'FIG01'; END $$;"
        "CREATE TRIGGER guarded BEFORE UPDATE ON stock_level FOR EACH ROW EXECUTE FUNCTION guarded()"
    )
    await stock.placed(*(OrderPlaced(item, 1) for item in (7, 8, 9)))
    (consumer,) = stock.service.consumers()
    for _ in range(2 * ATTEMPTS):
        with pytest.raises(FigError) as refused:
            await stock.consumed(consumer)
        assert refused.value.code == "not_owner"
    stock.rows("DROP TRIGGER guarded ON stock_level")
    await stock.consumed(consumer)
    assert [stock.rows(LEVEL.format(item)) for item in (7, 8, 9)] == [[(99,)]] * 3 and not stock.rows(PARKED)


async def test_who_says_something_is_checked_though_he_stays_as_he_was(stock: Stock) -> None:
    rounds: list[int] = []

    @stock.service.on(OrderPlaced)
    async def count(event: OrderPlaced, tx: Transaction) -> None:
        level = await tx.load(StockLevel, event.item_id)
        rounds.append(level.on_hand)
        if len(rounds) == 1:
            stock.rows("UPDATE stock_level SET on_hand = 50 WHERE item_id = 7")
        level.adjust(0, "counted")

    await stock.placed(OrderPlaced(7, 1))
    await stock.consumed()
    assert rounds == [100, 50] and stock.rows("SELECT data ->> 'on_hand' FROM fig.outbox") == [("50",)]


async def test_a_letter_that_ends_its_process_is_not_tried_for_ever(stock: Stock) -> None:
    reacting(stock)
    await stock.placed(OrderPlaced(7, 500), OrderPlaced(7, 2))
    consumer = await stock.consumed()
    stock.rows("UPDATE fig.dead_letter SET retry = true WHERE error IS NOT NULL")

    class Ended(BaseException):
        pass

    async def ends(*_: object) -> None:
        raise Ended

    consumer._effects = ends  # type: ignore[method-assign]
    with pytest.raises(Ended):
        await consumer._retry()
    assert stock.rows("SELECT retry, attempts, error FROM fig.dead_letter ORDER BY id") == [
        (False, ATTEMPTS + 1, "refused: insufficient_stock"), (False, 0, None),
    ]  # fmt: skip
    stock.rows("DELETE FROM fig.dead_letter WHERE error IS NOT NULL")
    for _ in range(ATTEMPTS):
        with pytest.raises(Ended):
            await consumer._retry()
    assert stock.rows("SELECT attempts, error FROM fig.dead_letter") == [
        (ATTEMPTS, "its process ended while it handled it")
    ]


async def test_a_handler_that_keeps_its_transaction_open_is_ended_and_parked(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "STILL", 0.4)

    @stock.service.on(OrderPlaced)
    async def dawdle(event: OrderPlaced, tx: Transaction) -> None:
        (await tx.load(StockLevel, event.item_id)).adjust(-event.quantity, "order")
        await asyncio.sleep(1.5 if event.item_id == 7 else 0)

    await stock.placed(OrderPlaced(7, 1), OrderPlaced(8, 1))
    running = asyncio.create_task(stock.service.run())
    parked = [("7", "TimeoutError: its transaction takes longer than 0.4 s", ATTEMPTS)]
    await clock.until(lambda: _is(stock.rows(PARKED), parked), timeout=30, what="it to be parked")
    await clock.until(lambda: _is(stock.rows(LEVEL.format(8)), [(99,)]), timeout=30, what="the other one")
    assert stock.rows(LEVEL.format(7)) == [(100,)]
    await tasks.stop(running)


async def test_what_was_handled_is_handled_anew_when_somebody_asks(stock: Stock) -> None:
    reacting(stock)
    made = await stock.placed(OrderPlaced(7, 3), OrderPlaced(8, 500), OrderPlaced(8, 1), OrderPlaced(9, 2))
    consumer = await stock.consumed()
    async with stock.service.session() as conn:
        assert await operating.subscriptions(conn) == ["stock"]
        assert await operating.forget(conn, "stock", made, dry_run=True) == 2, "what is parked is handled from there"
        assert await operating.forget(conn, "stock", made[:1]) == 1
        assert await operating.forget(conn, "stock", made) == 1
        assert await operating.forget(conn, "stock", made) == 0
    await stock.consumed(consumer)
    assert [stock.rows(LEVEL.format(item))[0][0] for item in (7, 8, 9)] == [94, 100, 96]
    assert len(stock.rows(PARKED)) == 2
