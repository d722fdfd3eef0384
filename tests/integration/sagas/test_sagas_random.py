"""Ten thousand sagas of random shapes, while messages are lost, doubled, late and out of order, services refuse and say
nothing, processes are killed and stopped, and the server dies under all of them. Held against a model at the end.

``SAGA_RANDOM_SEED`` has the same sagas, services and faults again; when each fault strikes is the machine's affair.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Service
from stranglerfig.kit.testing import event_of
from stranglerfig.runtime.embedded import EmbeddedPostgres
from stranglerfig.sagas import operating
from tests.conftest import passable
from tests.integration.sagas.estate import POINTS, SETTINGS, Estate
from tests.integration.sagas.worker import LEASE
from tests.saga_random import (
    CENTS,
    CUSTOMERS,
    DEPOT,
    ITEMS,
    LEVEL,
    OUTSIDE,
    TOPICS,
    Chance,
    Entry,
    Found,
    Outside,
    sales,
)

COUNT = 10_000
FAULTS = 24
SERVER_DIES = (8, 16)
SEED = int(os.environ.get("SAGA_RANDOM_SEED") or secrets.randbelow(1_000_000))


class Market(Estate):
    """Sales, which have the sagas; a depot, which does what they ask; and somebody outside, who is called."""

    def __init__(self, server: EmbeddedPostgres, chance: Chance) -> None:
        self.outside = server.create_database("outside")
        self.chance = chance
        self.died = 0
        self.faults: Counter[str] = Counter()
        self.decided = 0
        super().__init__(
            server, "sales", "depot", begins="events.sales",
            SAGA_RANDOM_SEED=str(chance.seed), SAGA_RANDOM_OUTSIDE=self.outside,
        )  # fmt: skip

    async def open(self) -> None:
        """Its tables."""
        await self.prepare(TOPICS)
        log = PostgresLog(self.log_dsn)
        service = Service("sales", database=self.dsns["sales"], log=log)
        sales(service, self.chance, Outside(self.chance, self.outside))
        await service.migrate()
        await service.close()
        await Service("depot", database=self.dsns["depot"], log=log).migrate()
        await log.close()
        self.rows("depot", DEPOT)
        with psycopg.connect(self.outside, autocommit=True) as conn:
            conn.execute(OUTSIDE.encode())

    async def placed(self, count: int) -> None:
        """So many orders on the log."""
        orders = (self.chance.order(n) for n in range(count))
        await self.append([event_of(order, source="/customers") for order in orders], ahead=600)

    async def operate(self) -> None:
        """An operator has tried again whatever needs one, until cancelled."""
        while True:
            with contextlib.suppress(FigError, psycopg.OperationalError):
                async with postgres.session(self.dsns["sales"], what="operator") as conn:
                    for saga in await operating.listed(conn, status="needs operator", last=200):
                        if saga["asked"] is None:
                            with contextlib.suppress(FigError):  # it goes on by itself
                                await operating.ask(conn, saga["id"], "retry", "an operator")
                                self.decided += 1
            await asyncio.sleep(1)

    async def suffer(self, count: int, ended: asyncio.Task[None]) -> None:
        """Faults, evenly over ``count`` sagas until all have ended: a process dies at a named point or stands still
        past its lease, and twice the server dies."""
        chance = random.Random(self.chance.seed)
        for number in range(1, FAULTS + 1):

            async def far_enough(so_many: float = number * count / (FAULTS + 1)) -> bool:
                self.died += await self.replace_dead()
                with contextlib.suppress(psycopg.OperationalError):
                    return ended.done() or self.ended() >= so_many
                return False

            await clock.until(far_enough, timeout=600, what="some sagas to end", every=0.1, at_most=0.1)
            role, process = chance.choice(self.processes)
            if number in SERVER_DIES:
                self.faults["server"] += 1
                await asyncio.to_thread(self.server.kill)
                await asyncio.to_thread(self.server.start)
            elif number % 4 == 1:
                self.faults["stopped"] += 1
                for sign in (signal.SIGSTOP, signal.SIGCONT):
                    with contextlib.suppress(ProcessLookupError):
                        process.send_signal(sign)
                    await asyncio.sleep(2 * LEASE if sign is signal.SIGSTOP else 0)
            else:
                self.faults["doomed"] += 1
                points = [point for point in POINTS if role == "sales" or not point.startswith("saga/")]
                self.doom(process, chance.choice(points), chance.randint(1, 10))
        while not ended.done():
            self.died += await self.replace_dead()
            await asyncio.sleep(0.1)

    async def entries(self) -> dict[str, list[Entry]]:
        """By saga, what was done for it."""
        found: dict[str, list[Entry]] = defaultdict(list)
        query = "SELECT saga, step, execution, undo, amount FROM entry"
        with psycopg.connect(self.outside) as conn:
            booked = conn.execute(query).fetchall()
        for row in (*self.rows("depot", query), *booked):
            found[row[0]].append(Entry(*row))
        return found

    async def check_all(self, count: int) -> Counter[str]:
        """Everything is as the model says; returns how the sagas ended."""
        self.check(count)
        entries = await self.entries()
        wrong: list[str] = []
        ends: dict[str, str] = {}
        for id, name, key, status, data, course in self.rows(
            "sales", "SELECT id, name, key, status, data, course FROM fig.saga"
        ):
            phases = {step: told[0] for step, told in course["steps"].items()}
            wrong += self.chance.wrong(Found(id, name, int(key), status, data, phases), entries.pop(id, []))
            ends[key] = status
        assert not wrong, f"{len(wrong)} things are wrong: " + "\n".join(wrong[:20])
        assert not entries, "done for sagas that there are not"
        self.check_sums()
        told = await self.told("sales.Placed")
        done = {key for key, status in ends.items() if status == "completed"}
        assert told == {key: "sales.Fulfilled" if key in done else "sales.GivenUp" for key in ends}
        return Counter(ends.values())

    def check_sums(self) -> None:
        """Nothing is gained or lost: stock and money are what they were, and where what was done says."""
        assert self.rows("depot", f'SELECT * FROM level WHERE "left" + taken <> {LEVEL}') == []
        assert self.rows("depot", "SELECT sum(cents) FROM account") == [(CENTS * CUSTOMERS,)]
        by_thing = dict(self.rows("depot", "SELECT thing, sum(amount) FROM entry GROUP BY 1"))
        taken = self.rows("depot", "SELECT 'item/' || item, taken FROM level")
        spent = self.rows("depot", f"SELECT name, {CENTS} - cents FROM account WHERE name LIKE 'customer/%'")
        assert len(taken) == ITEMS
        assert {name: amount for name, amount in (*taken, *spent) if amount != by_thing.get(name, 0)} == {}


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    print(f"SAGA_RANDOM_SEED={SEED}")  # shown when it fails
    server = EmbeddedPostgres(passable(tmp_path) / "pg", settings=SETTINGS)
    server.start()
    made = Market(server, Chance(SEED))
    await made.open()
    yield made
    await made.end()
    server.stop()


@pytest.mark.timeout(1200)
async def test_ten_thousand_random_sagas_whatever_fails(market: Market) -> None:
    for role in ("sales", "depot", "sales", "depot"):
        await market.start(role)
    placing = asyncio.create_task(market.placed(COUNT))
    operating_ = asyncio.create_task(market.operate())
    ended = asyncio.create_task(market.all_ended(COUNT, 1000))
    await market.suffer(COUNT, ended)
    await ended
    await placing
    operating_.cancel()
    ends = await market.check_all(COUNT)
    print(f"{ends}, {market.faults}, {market.died} died, {market.decided} times an operator decided")
    assert ends["completed"] > COUNT / 4 and ends["compensated"] > COUNT / 25
    assert market.died >= FAULTS / 4
