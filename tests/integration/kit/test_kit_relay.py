"""The relay: in order, each at least once, by one process at a time; one topic's trouble is not another's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from stranglerfig.eventlog import model as log
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Transaction
from stranglerfig.kit import relay as relays
from stranglerfig.kit.relay import Relay
from tests.integration.kit.conftest import Stock
from tests.kit_shop import Restock, StockLevel


async def sold(stock: Stock, count: int, *, restock: bool = False) -> None:
    """So many pieces of item 7, one by one."""

    async def sell(tx: Transaction) -> None:
        (await tx.load(StockLevel, 7)).adjust(-1)
        if restock:
            tx.send(Restock(7))

    for _ in range(count):
        await stock.service.execute(sell)


async def said(stock: Stock, topic: str = "events.stock") -> list[log.Event]:
    """What the log has."""
    return [record.event for record in await stock.log.read(topic, 0, 0)]


def relay(stock: Stock, to: MemoryLog | None = None) -> Relay:
    return Relay(stock.dsn, to or stock.log, name="stock:relay", source="/shop/stock")


async def test_messages_arrive_in_order_with_all_that_they_carry(stock: Stock) -> None:
    await sold(stock, 3)
    ids = [row[0] for row in stock.rows("SELECT id::text FROM fig.outbox ORDER BY seq")]
    async with postgres.session(stock.dsn, what="relay") as conn:
        assert await relay(stock).drain(conn) == 3 and await relay(stock).drain(conn) == 0
    events = await said(stock)
    assert [event.id for event in events] == ids and stock.rows("SELECT count(*) FROM fig.outbox") == [(0,)]
    assert events[0].data == b'{"item_id":7,"delta":-1,"on_hand":99,"reason":""}'
    first = events[0]
    assert (first.source, first.subject, first.partitionkey) == ("/shop/stock", "7", "7")
    assert first.dataschema == "fig:schemas/stock.StockAdjusted/2" and first.time <= clock.now()


async def test_a_running_service_publishes_what_it_does(stock: Stock) -> None:
    running = asyncio.create_task(stock.service.run())
    try:
        await sold(stock, 5)

        async def there() -> bool:
            return len(await said(stock)) == 5

        await clock.until(there, timeout=20, what="the events on the log")
        other = Stock(stock.dsn, stock.log)
        await sold(other, 1)  # written by another process: found by looking
        await other.service.close()

        async def six() -> bool:
            return len(await said(stock)) == 6

        await clock.until(six, timeout=20, what="the other process's event")
    finally:
        await tasks.stop(running)


async def test_one_relays_while_another_waits(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "STANDBY", 0.05)
    one, other = relay(stock), relay(stock)
    running = [asyncio.create_task(one.run())]
    await sold(stock, 1)

    async def moved() -> bool:
        return one.moved == 1

    await clock.until(moved, timeout=20, what="the first event")
    running.append(asyncio.create_task(other.run()))
    await sold(stock, 5)

    async def all_moved() -> bool:
        return one.moved == 6

    await clock.until(all_moved, timeout=20, what="the others")
    await tasks.stop(running[0])
    await sold(stock, 1)

    async def taken_over() -> bool:
        return other.moved == 1

    await clock.until(taken_over, timeout=20, what="the one that waited")
    await tasks.stop(running[1])
    assert [orjson.loads(event.data)["on_hand"] for event in await said(stock)] == [99, 98, 97, 96, 95, 94, 93]


async def test_what_commits_late_comes_before_what_follows_from_it(stock: Stock) -> None:
    """A message may be numbered before others that are seen first; none of its key is among those."""
    stock.rows("INSERT INTO fig.outbox (id, topic, type, key, data) VALUES ('a', 'events.stock', 'x.Y', '1', '1')")
    seen: list[str] = []

    class Watching(MemoryLog):
        async def append(self, topic: str, events: Sequence[log.Event], *, partition: int | None = None) -> list[int]:
            if not seen:  # committed while the first is on its way, in another order than numbered
                stock.rows(
                    "INSERT INTO fig.outbox (seq, id, topic, type, key, data) OVERRIDING SYSTEM VALUE VALUES"
                    " (90, 'b', 'events.stock', 'x.Y', '2', '1'), (80, 'c', 'events.stock', 'x.Y', '2', '1'),"
                    " (-5, 'd', 'events.stock', 'x.Y', '3', '1')"
                )
                await asyncio.sleep(0.05)
            seen.extend(event.id for event in events)
            return [0] * len(events)

    async with postgres.session(stock.dsn, what="relay") as conn:
        mover, moved = relay(stock, Watching()), 0
        while moved < 4:
            moved += await mover.drain(conn)
    assert sorted(seen) == ["a", "b", "c", "d"] and seen.index("c") < seen.index("b")


async def test_a_relay_that_stands_still_loses_its_place(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "PATIENCE", 3)
    monkeypatch.setattr(relays, "STANDBY", 0.05)

    async def silent(self: Relay, conn: Any, published: Sequence[int], moving: Sequence[Any]) -> list[Any]:
        return await self._read(conn, moving)

    monkeypatch.setattr(Relay, "_meanwhile", silent)  # a process that stands still gives no sign of life
    await sold(stock, 2)
    stuck = asyncio.Event()
    go = asyncio.Event()

    class Paused(MemoryLog):
        async def append(self, topic: str, events: Sequence[log.Event], *, partition: int | None = None) -> list[int]:
            stuck.set()
            await go.wait()
            return await stock.log.append(topic, events, partition=partition)

    first = asyncio.create_task(relay(stock, Paused()).run())
    assert await clock.signalled(stuck, timeout=30)
    second = asyncio.create_task(tasks.supervise(relay(stock).run, name="second"))

    async def there() -> bool:
        return stock.rows("SELECT count(*) FROM fig.outbox") == [(0,)]

    await clock.until(there, timeout=20, what="the second relay")
    go.set()
    with pytest.raises(Exception, match=r"database_unreachable|terminating|closed"):
        await first
    await tasks.stop(second)
    assert len(await said(stock)) == 2, "what it sent late has ids that the log knows"


async def test_a_slow_log_costs_no_relay_its_place(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "PATIENCE", 3)
    await sold(stock, 1)

    class Slow(MemoryLog):
        async def append(self, topic: str, events: Sequence[log.Event], *, partition: int | None = None) -> list[int]:
            await asyncio.sleep(7)
            return [0] * len(events)

    one = relay(stock, Slow())
    running = asyncio.create_task(one.run())

    async def moved() -> bool:
        assert not running.done(), running.exception()
        return one.moved == 1 and stock.rows("SELECT 1 FROM fig.outbox") == []

    await clock.until(moved, timeout=40, what="the slow log")
    await tasks.stop(running)


async def test_a_topic_that_takes_nothing_holds_up_no_other(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "HELD_BACK", 0.2)
    await sold(stock, 2, restock=True)
    one = relay(stock)
    async with postgres.session(stock.dsn, what="relay") as conn:
        assert await one.drain(conn) == 2, "there is no topic commands.warehouse"
        assert await one.drain(conn) == 0
        await stock.log.create_topic("commands.warehouse")

        async def taken() -> bool:
            return bool(await one.drain(conn))

        await clock.until(taken, timeout=20, what="the topic to be tried again")
    assert len(await said(stock)) == 2 and len(await said(stock, "commands.warehouse")) == 2


async def test_a_log_that_is_away_loses_nothing(stock: Stock) -> None:
    await sold(stock, 2)

    class Away(MemoryLog):
        async def append(self, *_: object, **__: object) -> list[int]:
            raise FigError("log_unreachable", "it is away")

    async with postgres.session(stock.dsn, what="relay") as conn:
        with pytest.raises(FigError, match="away"):
            await relay(stock, Away()).drain(conn)
        assert await relay(stock).drain(conn) == 2
