"""Ten thousand checkouts while processes are killed, stopped and resumed, and the databases with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from examples.servers.fetch import Missing, debian
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Service
from stranglerfig.kit.testing import event_of
from stranglerfig.runtime.embedded import EmbeddedPostgres
from tests.conftest import passable, required
from tests.integration.sagas.worker import LEASE
from tests.saga_shop import STOCK, TOPICS, OrderPlaced, orders

POINTS = (
    "relay/read", "relay/appended", "relay/removed", "consumer/attempted", "consumer/handled",
    "consumer/committed", "saga/written", "saga/claimed", "saga/called",
)  # fmt: skip
ITEMS = 50
ROOT = Path(__file__).parents[3]
# Whoever measures coverage would have the processes at half their speed: what they do is covered elsewhere.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COV")} | {
    "PYTHONPATH": str(ROOT),
    "SAGA_SHOP_PATIENCE": "10",
}


def ahead(hours: int) -> dict[str, str]:
    """The environment of a process whose clock is wrong."""
    try:
        debian("faketime", "faketime")
    except Missing as missing:
        required(str(missing))
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


class Estate:
    """Two services of two processes each, and a server for both databases and the log."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self.dsns = {"orders": server.create_database("orders"), "stock": server.create_database("stock")}
        self.log_dsn = server.create_database("log")
        self.processes: list[tuple[str, asyncio.subprocess.Process]] = []
        self.ended_by: list[int] = []

    async def prepare(self) -> None:
        """Tables and topics; stock enough for most."""
        log_ = PostgresLog(self.log_dsn)
        await log_.migrate()
        for topic in TOPICS:
            await log_.create_topic(topic, partitions=2)
        service = Service("orders", database=self.dsns["orders"], log=log_)
        orders(service)
        await service.migrate()
        await service.close()
        await Service("stock", database=self.dsns["stock"], log=log_).migrate()
        await log_.close()
        self.rows("stock", STOCK)

    def rows(self, database: str, query: str) -> list[Any]:
        """What a database says; waited for while it is away."""
        with psycopg.connect(self.dsns.get(database, self.log_dsn), autocommit=True) as conn:
            done = conn.execute(query.encode())
            return done.fetchall() if done.description else []

    async def start(self, role: str, *, point: str = "", visit: int = 0, hours: int = 0) -> asyncio.subprocess.Process:
        """One more process, whose clock is so many ``hours`` ahead of the others'."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.sagas.worker", role, self.dsns[role], self.log_dsn),
            *((point, str(visit)) if point else ()),
            cwd=ROOT, env=ENVIRONMENT | (ahead(hours) if hours else {}),
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.processes.append((role, process))
        return process

    async def replace(self, number: int, **fault: Any) -> None:
        """A process is killed, if it lives, and another one takes its place."""
        role, process = self.processes.pop(number)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await self.start(role, **fault)

    async def end(self) -> None:
        """End all that run, and see what they died of."""
        for _, process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def placed(self, count: int) -> None:
        """So many orders on the log, no more than some hundreds at a time ahead of what has ended."""
        log_ = PostgresLog(self.log_dsn)
        events = [event_of(OrderPlaced(n, n % ITEMS + 1, n % 3 + 1, n), source="/shop") for n in range(1, count + 1)]
        for start in range(0, count, 200):

            async def appended(start: int = start) -> bool:
                with contextlib.suppress(FigError, psycopg.OperationalError):
                    if self.ended() < start - 600:
                        return False
                    await log_.append("events.orders", events[start : start + 200])
                    return True
                return False

            await clock.until(appended, timeout=120, what="the shop to keep up", at_most=0.1)
        await log_.close()

    def ended(self) -> int:
        """How many sagas have ended."""
        return int(self.rows("orders", "SELECT count(ended_at) FROM fig.saga")[0][0])

    def check(self, count: int, stock_each: int) -> None:
        """All ended; stock and money are where they belong; every effect happened once; nothing is left over."""
        assert self.rows("orders", "SELECT count(*), count(ended_at) FROM fig.saga") == [(count, count)]
        held = "SELECT item_id, sum(quantity) FROM reservation WHERE state = 'held' GROUP BY 1"
        wrong = f"""SELECT l.* FROM level l LEFT JOIN ({held}) h USING (item_id)
                    WHERE l."left" + coalesce(h.sum, 0) <> {stock_each}"""
        assert self.rows("stock", wrong) == []
        done = {row[0] for row in self.rows("orders", "SELECT key FROM fig.saga WHERE status = 'completed'")}
        paid = {str(row[0]) for row in self.rows("stock", "SELECT order_id FROM payment")}
        kept = {str(row[0]) for row in self.rows("stock", "SELECT order_id FROM reservation WHERE state = 'held'")}
        assert done == paid == kept and len(done) > count / 2
        assert self.rows("orders", "SELECT status FROM fig.saga WHERE status NOT IN ('completed', 'compensated')") == []
        for database in ("orders", "stock"):
            assert self.rows(database, "SELECT event, error FROM fig.dead_letter") == []

    async def told(self, count: int) -> None:
        """Each order's end is on the log, once."""

        async def relayed() -> bool:
            return self.rows("orders", "SELECT count(*) FROM fig.outbox") == [(0,)]

        await clock.until(relayed, timeout=60, what="the outbox to be empty")
        log_ = PostgresLog(self.log_dsn)
        ends: list[str | None] = []
        for partition in range(2):
            position = 0
            while records := await log_.read("events.orders", partition, position):
                position = records[-1].position + 1
                ends += [r.event.subject for r in records if r.event.type != "orders.OrderPlaced"]
        await log_.close()
        assert len(ends) == len(set(ends)) == count


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    server = EmbeddedPostgres(
        passable(tmp_path) / "pg", settings={"synchronous_commit": "off", "max_connections": "200"}
    )
    server.start()
    made = Estate(server)
    await made.prepare()
    yield made
    await made.end()
    server.stop()


async def all_ended(estate: Estate, count: int, timeout: float) -> None:
    async def ended() -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return estate.ended() == count
        return False

    await clock.until(ended, timeout=timeout, what=f"{count} sagas to end")


@pytest.mark.timeout(600)
async def test_ten_thousand_checkouts_whatever_dies(estate: Estate) -> None:
    chance = random.Random(7)
    count, each = 10_000, 320
    estate.rows("stock", f"INSERT INTO level SELECT i, {each} FROM generate_series(1, {ITEMS}) AS i")
    for role in ("orders", "stock", "orders", "stock"):
        await estate.start(role)
    placing = asyncio.create_task(estate.placed(count))
    faults = 0
    ended = asyncio.create_task(all_ended(estate, count, 500))
    stopped: list[tuple[float, asyncio.subprocess.Process]] = []
    while not ended.done():
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        for since, process in [*stopped]:
            if clock.monotonic() - since > 2 * LEASE:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                stopped.remove((since, process))
        for number, (_, process) in enumerate(estate.processes):
            if process.returncode is not None:
                await estate.replace(number)
        if not placing.done() or faults >= 40:
            continue
        faults += 1
        number = chance.randrange(len(estate.processes))
        if faults % 4 == 1:
            process = estate.processes[number][1]
            process.send_signal(signal.SIGSTOP)
            stopped.append((clock.monotonic(), process))
        elif faults in (6, 14):
            await asyncio.to_thread(estate.server.kill)
            await asyncio.to_thread(estate.server.start)
        else:
            await estate.replace(number, point=chance.choice(POINTS), visit=chance.randint(1, 30))
    await ended
    await placing
    estate.check(count, each)
    await estate.told(count)
    assert faults >= 14, "the database was killed twice, and processes in every way"


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_each_point_nothing_is_lost_or_doubled(estate: Estate, point: str) -> None:
    estate.rows("stock", f"INSERT INTO level SELECT i, 10 FROM generate_series(1, {ITEMS}) AS i")
    for role in ("orders", "stock"):
        await estate.start(role, point=point, visit=1)
    await estate.placed(60)
    died = 0

    async def ended() -> bool:
        nonlocal died
        for number, (_, process) in enumerate(estate.processes):
            if process.returncode is not None:
                died += 1
                await estate.replace(number)
        return estate.ended() == 60

    await clock.until(ended, timeout=60, what="60 sagas to end")
    assert died == (1 if point.startswith("saga/") else 2)
    estate.check(60, 10)
    await estate.told(60)


async def test_clocks_that_are_hours_apart_change_nothing(estate: Estate) -> None:
    """Leases, time limits and what is due are the database's to say."""
    estate.rows("stock", f"INSERT INTO level SELECT i, 20 FROM generate_series(1, {ITEMS}) AS i")
    apart = {"orders": (7, -5), "stock": (-30, 3)}
    for role, clocks in apart.items():
        for hours in clocks:
            await estate.start(role, hours=hours)
    placing = asyncio.create_task(estate.placed(600))

    async def half() -> bool:
        return estate.ended() >= 200

    await clock.until(half, timeout=180, what="a third of them to end")
    await estate.replace(0, hours=-48)
    await placing
    await all_ended(estate, 600, 180)
    estate.check(600, 20)
    await estate.told(600)
    lasted = "SELECT max(ended_at) - min(begun_at) < interval '1 hour' FROM fig.saga"
    assert estate.rows("orders", lasted) == [(True,)]
