"""A service of the kit on each backend: state, messages, progress and read models hold on any log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from stranglerfig.foundation import clock, tasks
from stranglerfig.kit import Event, Projection, Service, Transaction, evolves
from stranglerfig.kit.testing import event_of
from tests.conftest import Server
from tests.contract.eventlog.backends import Backend
from tests.kit_shop import TABLES, StockLevel

pytestmark = pytest.mark.timeout(600)
ORDERS, ITEMS = 300, 20


class Shop:
    """Messages and read model of a test: their topics and names are its own."""

    def __init__(self, nonce: str) -> None:
        self.topics = (f"events.orders-{nonce}", f"events.stock-{nonce}")

        class Placed(Event, type=f"orders{nonce}.Placed", key="item_id", topic=self.topics[0]):
            item_id: int
            number: int

        class Sold(Event, type=f"stock{nonce}.Sold", key="item_id", topic=self.topics[1]):
            item_id: int
            number: int

        class Sales(Projection, name="sales", id="item_id", version=1):
            item_id: int
            sold: int = 0
            last: int = 0

            @evolves(Sold, by="item_id")
            def _sold(self, event: Sold) -> None:
                assert event.number > self.last, "each item's in their order, none twice"
                self.sold += 1
                self.last = event.number

        self.placed, self.sold, self.sales = Placed, Sold, Sales

    def service(self, dsn: str, log: Any) -> Service:
        """One more process of the service."""
        made = Service("stock", database=dsn, log=log, source="/stock", lease=3.0)

        @made.on(self.placed)
        async def sell(event: Any, tx: Transaction) -> None:
            (await tx.load(StockLevel, event.item_id)).on_hand -= 1
            tx.send(self.sold(event.item_id, event.number))

        made.projection(self.sales)
        return made


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[asyncio.Task[None]]:
    """A process of the service, which may be gone before the block is."""
    task = asyncio.create_task(service.run())
    try:
        yield task
    finally:
        await tasks.stop(task)
        await service.close()


async def test_a_service_handles_each_event_once_and_its_read_model_follows(
    backend: Backend, log: Any, name: Callable[[str], str], postgres: Server
) -> None:
    """Two processes share three partitions; one ends in the middle, and each event is put on the log twice."""
    shop = Shop(name("x").replace("-", ""))
    dsn = postgres.database()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(TABLES)
        await shop.service(dsn, log).migrate()
        for topic in shop.topics:
            await log.create_topic(topic, partitions=3)

        async def placed() -> None:
            for number in range(1, ORDERS + 1):
                event = event_of(shop.placed(number % ITEMS + 1, number), source="/orders")
                await log.append(shop.topics[0], [event])
                await log.append(shop.topics[0], [event])

        def rows(query: str) -> list[Any]:
            return conn.execute(query.encode()).fetchall()

        other_log = log if backend.name == "memory" else backend.open()
        async with running(shop.service(dsn, log)) as first, running(shop.service(dsn, other_log)):
            placing = asyncio.create_task(placed())

            async def third() -> bool:
                return int(rows("SELECT sum(100 - on_hand) FROM stock_level")[0][0]) >= ORDERS // 3

            await clock.until(third, timeout=120, what="a third of them to be handled")
            await tasks.stop(first)
            await placing

            async def followed() -> bool:
                if rows("SELECT to_regclass('sales')") == [(None,)]:
                    return False
                return rows("SELECT sum(sold)::int, count(*) FROM sales") == [(ORDERS, ITEMS)]

            await clock.until(followed, timeout=120, what="the read model")
        assert rows("SELECT DISTINCT on_hand FROM stock_level WHERE item_id <= 20") == [(100 - ORDERS // ITEMS,)]
        assert rows("SELECT count(*) FROM fig.outbox") == [(0,)] and rows("SELECT FROM fig.dead_letter") == []
        if other_log is not log:
            await other_log.close()
