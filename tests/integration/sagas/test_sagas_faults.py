"""Checkouts while processes are killed at each named point, and while their clocks are hours apart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from examples.servers.fetch import Missing, debian
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock
from stranglerfig.kit import Service
from stranglerfig.kit.testing import event_of
from stranglerfig.runtime.embedded import EmbeddedPostgres
from tests.conftest import passable, required
from tests.integration.sagas.estate import POINTS, SETTINGS, Estate
from tests.saga_shop import STOCK, TOPICS, OrderPlaced, orders

ITEMS = 50


def ahead(hours: int) -> dict[str, str]:
    """The environment of a process whose clock is wrong."""
    try:
        debian("faketime", "faketime")
    except Missing as missing:
        required(str(missing))
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


class Shop(Estate):
    """Orders and stock."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        super().__init__(server, "orders", "stock", begins="events.orders", SAGA_SHOP_PATIENCE="10")

    async def open(self, *, each: int) -> None:
        """Its tables; of each item so many."""
        await self.prepare(TOPICS)
        log_ = PostgresLog(self.log_dsn)
        service = Service("orders", database=self.dsns["orders"], log=log_)
        orders(service)
        await service.migrate()
        await service.close()
        await Service("stock", database=self.dsns["stock"], log=log_).migrate()
        await log_.close()
        self.rows("stock", f"{STOCK}; INSERT INTO level SELECT i, {each} FROM generate_series(1, {ITEMS}) AS i")

    async def placed(self, count: int) -> None:
        """So many orders on the log."""
        orders = (OrderPlaced(n, n % ITEMS + 1, n % 3 + 1, n) for n in range(1, count + 1))
        await self.append([event_of(order, source="/shop") for order in orders])

    async def check_all(self, count: int, *, each: int) -> None:
        """All ended, and said so; stock and money are where they belong; every effect happened once."""
        self.check(count)
        held = "SELECT item_id, sum(quantity) FROM reservation WHERE state = 'held' GROUP BY 1"
        wrong = f"""SELECT l.* FROM level l LEFT JOIN ({held}) h USING (item_id)
                    WHERE l."left" + coalesce(h.sum, 0) <> {each}"""
        assert self.rows("stock", wrong) == []
        done = {row[0] for row in self.rows("orders", "SELECT key FROM fig.saga WHERE status = 'completed'")}
        paid = {str(row[0]) for row in self.rows("stock", "SELECT order_id FROM payment")}
        kept = {str(row[0]) for row in self.rows("stock", "SELECT order_id FROM reservation WHERE state = 'held'")}
        assert done == paid == kept and len(done) > count / 2
        assert self.rows("orders", "SELECT status FROM fig.saga WHERE status NOT IN ('completed', 'compensated')") == []
        assert len(await self.told("orders.OrderPlaced")) == count


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    server = EmbeddedPostgres(passable(tmp_path) / "pg", settings=SETTINGS)
    server.start()
    made = Shop(server)
    yield made
    await made.end()
    server.stop()


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_each_point_nothing_is_lost_or_doubled(shop: Shop, point: str) -> None:
    await shop.open(each=10)
    for role in ("orders", "stock"):
        await shop.start(role, point=point)
    await shop.placed(60)
    died = 0

    async def ended() -> bool:
        nonlocal died
        died += await shop.replace_dead()
        return shop.ended() == 60

    await clock.until(ended, timeout=60, what="60 sagas to end")
    assert died == (1 if point.startswith("saga/") else 2)
    await shop.check_all(60, each=10)


@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("saga/")])
async def test_the_server_killed_at_each_point_of_a_saga_costs_nothing(shop: Shop, point: str) -> None:
    await shop.open(each=10)
    assert shop.server.process is not None
    await shop.start("orders", point=point, victim=shop.server.process.pid)
    await shop.start("stock")
    placing = asyncio.create_task(shop.placed(60))
    died = 0

    async def ended() -> bool:
        nonlocal died
        if shop.server.process is None or shop.server.process.poll() is not None:
            died += 1
            await asyncio.to_thread(shop.server.start)
        with contextlib.suppress(psycopg.OperationalError):
            return shop.ended() == 60
        return False

    await clock.until(ended, timeout=90, what="60 sagas to end")
    await placing
    assert died == 1
    await shop.check_all(60, each=10)


@pytest.mark.parametrize("point", ["consumer/handled", "saga/called", "saga/told"])
async def test_who_was_stopped_past_its_lease_changes_nothing_when_it_wakes(shop: Shop, point: str) -> None:
    """Others do its work meanwhile; what it wakes up with is refused, and it goes on with what is new."""
    await shop.open(each=10)
    await shop.start("stock")
    stopped = await shop.start("orders", point=point, sign=signal.SIGSTOP)
    await shop.placed(60)

    async def stands() -> bool:
        return Path(f"/proc/{stopped.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    await clock.until(stands, timeout=30, what=f"the process to stop at {point}")
    other = await shop.start("orders")
    await shop.all_ended(60, 90)
    await shop.check_all(60, each=10)
    before = shop.rows("orders", "SELECT id, status, revision, ended_at FROM fig.saga ORDER BY id")
    os.kill(stopped.pid, signal.SIGCONT)
    other.kill()
    await other.wait()
    more = [event_of(OrderPlaced(n, n % ITEMS + 1, 1, n), source="/shop") for n in range(61, 81)]
    await shop.append(more)
    await shop.all_ended(80, 60)
    assert stopped.returncode is None
    await shop.check_all(80, each=10)
    known = "SELECT id, status, revision, ended_at FROM fig.saga WHERE key::int <= 60 ORDER BY id"
    assert shop.rows("orders", known) == before


async def test_clocks_that_are_hours_apart_change_nothing(shop: Shop) -> None:
    """Leases, time limits and what is due are the database's to say."""
    await shop.open(each=20)
    apart = {"orders": (7, -5), "stock": (-30, 3)}
    for role, clocks in apart.items():
        for hours in clocks:
            await shop.start(role, **ahead(hours))
    placing = asyncio.create_task(shop.placed(600))

    async def half() -> bool:
        return shop.ended() >= 200

    await clock.until(half, timeout=180, what="a third of them to end")
    await shop.replace(0, **ahead(-48))
    await placing
    await shop.all_ended(600, 180)
    await shop.check_all(600, each=20)
    lasted = "SELECT max(ended_at) - min(begun_at) < interval '1 hour' FROM fig.saga"
    assert shop.rows("orders", lasted) == [(True,)]
