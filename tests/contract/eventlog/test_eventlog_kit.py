"""A service of the kit on each backend: state, messages, progress and read models hold on any log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Event, Projection, Service, Transaction, evolves
from stranglerfig.kit.testing import event_of
from stranglerfig.runtime.embedded import EmbeddedPostgres
from tests import saga_shop
from tests.conftest import Server, passable
from tests.contract.eventlog.backends import Backend
from tests.kit_shop import TABLES, StockLevel

pytestmark = pytest.mark.timeout(600)
ORDERS, ITEMS = 300, 20
SAGAS = 30
POINTS = (
    "relay/read", "relay/appended", "relay/removed", "consumer/attempted", "consumer/handled", "consumer/committed",
)  # fmt: skip


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

    def service(self, dsn: str, log: Any, kill_point: Callable[[str], None] = str) -> Service:
        """One more process of the service."""
        made = Service("stock", database=dsn, log=log, source="/stock", lease=3.0, kill_point=kill_point)

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


async def test_sagas_end_whole_or_not_at_all(backend: Backend, log: Any, postgres: Server, postgres_b: Server) -> None:
    """A saga's service and the one that it asks have a database each; every seventh is declined, some sold out."""
    dsn, other_dsn = postgres.database(), postgres_b.database()
    for topic in saga_shop.TOPICS:
        await log.create_topic(topic)
    conducting, asked = Service("orders", database=dsn, log=log), Service("stock", database=other_dsn, log=log)
    saga_shop.orders(conducting)
    saga_shop.stock(asked)
    for service in (conducting, asked):
        await service.migrate()
    with psycopg.connect(dsn, autocommit=True) as conn, psycopg.connect(other_dsn, autocommit=True) as other:
        other.execute(saga_shop.STOCK)
        other.execute("INSERT INTO level SELECT i, 5 FROM generate_series(1, 4) AS i")
        async with running(conducting), running(asked):
            placed = [saga_shop.OrderPlaced(number, number % 4 + 1, 1, 100 + number) for number in range(1, SAGAS + 1)]
            await log.append("events.orders", [event_of(each, source="/shop") for each in placed])

            async def ended() -> bool:
                return conn.execute("SELECT FROM fig.saga WHERE ended_at IS NOT NULL").rowcount == SAGAS

            await clock.until(ended, timeout=120, what=f"{SAGAS} sagas to end")
        ends = dict(conn.execute("SELECT status, count(*) FROM fig.saga GROUP BY 1").fetchall())
        paid = {key for (key,) in other.execute("SELECT order_id::text FROM payment")}
        held = {key for (key,) in other.execute("SELECT order_id::text FROM reservation WHERE state = 'held'")}
        assert paid == held == {key for (key,) in conn.execute("SELECT key FROM fig.saga WHERE status = 'completed'")}
        assert ends.keys() == {"completed", "compensated"} and sum(ends.values()) == SAGAS
        assert other.execute('SELECT sum("left")::int FROM level').fetchone() == (4 * 5 - len(held),)


@pytest.mark.parametrize("victim", ["database", "postgres", "kafka"])
async def test_a_server_that_is_killed_at_each_point_costs_nothing(
    victim: str, serve: Callable[..., Backend], name: Callable[[str], str], tmp_path: Path
) -> None:
    """The broker, or the service's database: at each point the work under way is interrupted, and is done once."""
    shop = Shop(name("x").replace("-", ""))
    visits: Counter[str] = Counter()
    killed: list[str] = []
    with ExitStack() as own:
        server = EmbeddedPostgres(passable(tmp_path) / "service")
        server.start()
        own.callback(server.stop)
        dsn = server.create_database("stock")
        broker = serve("postgres" if victim == "database" else victim, own=own)
        kill, start = (server.kill, server.start) if victim == "database" else (broker.kill, broker.start)
        assert kill is not None and start is not None
        restarts = own.enter_context(ThreadPoolExecutor(1))
        restarted: list[Future[None]] = []

        def reached(point: str) -> None:
            visits[point] += 1
            # One after the other, each when all is well again.
            if POINTS[len(killed) :][:1] == (point,) and all(each.done() for each in restarted):
                killed.append(point)
                kill()
                restarted.append(restarts.submit(start))

        log = broker.open()
        await log.migrate()
        for topic in shop.topics:
            await log.create_topic(topic, partitions=3)

        def rows(query: str) -> list[Any]:
            with psycopg.connect(dsn, autocommit=True) as conn:
                done = conn.execute(query.encode())
                return done.fetchall() if done.description else []

        rows(TABLES)
        await shop.service(dsn, log).migrate()
        placed = 0

        async def place() -> None:
            nonlocal placed
            event = event_of(shop.placed(placed % ITEMS + 1, placed + 1), source="/orders")
            with suppress(FigError):
                await log.append(shop.topics[0], [event])
                placed += 1

        async with running(shop.service(dsn, log, reached)):
            async with asyncio.timeout(240):
                while len(killed) < len(POINTS) or not all(each.done() for each in restarted):
                    for each in restarted:
                        if each.done():
                            each.result()  # a start that failed says why
                    await place()
                    await asyncio.sleep(0.05)
            while placed % ITEMS:
                await place()

            async def followed() -> bool:
                with suppress(psycopg.OperationalError, psycopg.errors.UndefinedTable):
                    return rows("SELECT sum(sold)::int, count(*) FROM sales") == [(placed, ITEMS)]
                return False

            await clock.until(followed, timeout=120, what=f"the read model of {placed}")
        for each in restarted:
            each.result()
        assert killed == [*POINTS]
        levels = rows(f"SELECT DISTINCT on_hand FROM stock_level WHERE item_id <= {ITEMS}")
        assert levels == [(100 - placed // ITEMS,)]
        assert rows("SELECT count(*) FROM fig.outbox") == [(0,)] and rows("SELECT FROM fig.dead_letter") == []
        await log.close()
