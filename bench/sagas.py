"""Sagas of two steps with their replies, one process on one PostgreSQL, beside the same workflows in DBOS Transact.

``python -m bench.sagas DSN COUNT RATE`` is our side's process; RATE 0 means as fast as it goes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import datetime
from typing import Any

import psycopg
import uvloop

from bench import peers
from bench.context import Context, Spent
from bench.result import Result, quantile
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import postgres
from stranglerfig.kit import Aggregate, Command, Event, Service, Transaction
from stranglerfig.runtime.roles import collect_rarely
from stranglerfig.sagas import Saga, step
from stranglerfig.sagas.running import Sagas

COUNT = 6000
ROUNDS = 2
ITEMS = 1000
STOCK = 1_000_000
AT_ONCE = 100
TABLES = (
    "CREATE TABLE stock (item_id int PRIMARY KEY, on_hand int NOT NULL)",
    "CREATE TABLE payment (order_id int PRIMARY KEY)",
    f"INSERT INTO stock SELECT g, {STOCK} FROM generate_series(0, {ITEMS - 1}) AS g",
)


class Placed(Event, type="orders.Placed", key="order_id"):
    order_id: int
    item_id: int


class Reserve(Command, type="stock.Reserve", key="item_id"):
    item_id: int
    order_id: int


class Reserved(Event, type="stock.Reserved", key="item_id"):
    item_id: int
    order_id: int


class Charge(Command, type="stock.Charge", key="order_id"):
    order_id: int


class Charged(Event, type="stock.Charged", key="order_id"):
    order_id: int


class Checkout(Saga, type="orders.Checkout", starts=Placed):
    order_id: int
    item_id: int

    reserve = step(Reserve, ok=Reserved, timeout="60s")
    charge = step(Charge, ok=Charged, timeout="60s", pivot=True)


class Stock(Aggregate, table="stock", id="item_id"):
    item_id: int
    on_hand: int


class Payment(Aggregate, table="payment", id="order_id"):
    order_id: int


def orchestrated(context: Context) -> list[Result]:
    """``sagas_rate`` beside DBOS Transact's workflows, and ``sagas_step``: a step and its reply at half that rate."""
    count = context.rows(COUNT)
    fewer = max(500, count // 4)
    ours: list[dict[str, Any]] = []
    theirs: dict[str, list[dict[str, Any]]] = {"threads": [], "coroutines": []}
    spent = []
    with context.servers("service") as (server,):

        def database(name: str) -> str:
            dsn = server.create_database(name)
            with psycopg.connect(dsn, autocommit=True) as conn:
                for statement in TABLES:
                    conn.execute(statement.encode())
            return dsn

        for number in range(ROUNDS):
            dsn, cost = database(f"ours_{number}"), Spent({})
            ours.append(_ours(dsn, count, 0))
            spent.append(cost.says())
            _check(dsn, count)
            context.say(f"ours: {ours[-1]['rate']:,.0f}/s")
            for style, found in theirs.items():
                dsn = database(f"{style}_{number}")
                found.append(peers.measured("workflows.py", dsn, fewer, style))
                _check(dsn, fewer)
                context.say(f"DBOS, {style}: {found[-1]['rate']:,.0f}/s")
        best = max(ours, key=lambda one: one["rate"])
        peer = max((one for found in theirs.values() for one in found), key=lambda one: one["rate"])
        half = best["rate"] / 2
        dsn = database("half")
        slow = _ours(dsn, max(1000, int(half * context.seconds(20))), half)
    listed = ", ".join(f"{style} {max(one['rate'] for one in found):,.0f}" for style, found in theirs.items())
    return [
        Result(
            "sagas_rate", best["rate"], "sagas/s", "DBOS Transact, workflows/s", peer["rate"], 3 * peer["rate"],
            more_is_better=True,
            note=f"{count} (theirs {fewer}) of two steps with replies, each begun by itself, {AT_ONCE} at a time, best "
            f"of {ROUNDS} rounds each, one process each, the same PostgreSQL with fsync; ours: 10 sessions; "
            f"{peer['configuration']}; theirs by style: {listed}; {spent[-1]}",
        ),
        Result(
            "sagas_step", slow["step_p99"], "ms", target=50,
            note=f"p99 from a command's transaction to its reply's, at {half:,.0f} sagas/s; p50 "
            f"{slow['step_p50']:.0f}, a whole saga {slow['saga_p99']:.0f} at p99; {slow['steps']} steps",
        ),
    ]  # fmt: skip


def _ours(dsn: str, count: int, rate: float) -> dict[str, Any]:
    return peers.said([sys.executable, "-m", "bench.sagas", dsn, str(count), str(rate)])


def _check(dsn: str, count: int) -> None:
    """Each effect was there once."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute(
            f"SELECT (SELECT {ITEMS * STOCK} - sum(on_hand) FROM stock), (SELECT count(*) FROM payment)".encode()
        ).fetchone()
    if row != (count, count):
        raise RuntimeError(f"{count} orders, but reserved and charged were {row}")


async def _measured(dsn: str, count: int, rate: float) -> dict[str, Any]:
    log = PostgresLog(dsn)
    await log.migrate()
    service = Service("orders", database=dsn, log=log)
    Sagas(service, [Checkout])

    @service.on(Reserve, emits=[Reserved])
    async def reserve(command: Reserve, tx: Transaction) -> None:
        (await tx.load(Stock, command.item_id)).on_hand -= 1
        tx.send(Reserved(command.item_id, command.order_id))

    @service.on(Charge, emits=[Charged])
    async def charge(command: Charge, tx: Transaction) -> None:
        await tx.add(Payment(command.order_id))
        tx.send(Charged(command.order_id))

    await service.migrate()
    for topic in ("events.orders", "commands.stock", "events.stock"):
        await log.create_topic(topic)
    running = asyncio.create_task(service.run())
    await asyncio.sleep(1)
    begun = time.perf_counter()
    waiting = iter(range(count))

    async def place() -> None:
        for order in waiting:
            if rate:
                await asyncio.sleep(max(0.0, begun + order / rate - time.perf_counter()))

            async def placed(tx: Transaction, order: int = order) -> None:
                tx.send(Placed(order, order * 7919 % ITEMS))

            await service.execute(placed)

    await asyncio.gather(*(place() for _ in range(AT_ONCE)))
    async with postgres.session(dsn, what="bench") as conn:
        while await postgres.value(conn, "SELECT count(*) FROM fig.saga WHERE status = 'completed'") < count:
            await asyncio.sleep(0.02)
        seconds = time.perf_counter() - begun
        rows = await postgres.fetch(conn, "SELECT history, ended_at - begun_at FROM fig.saga")
    running.cancel()
    steps = [ms for history, _ in rows for ms in _steps(history)]
    whole = [lasted.total_seconds() * 1e3 for _, lasted in rows]
    return {
        "rate": count / seconds,
        "steps": len(steps),
        "step_p50": quantile(steps, 0.5),
        "step_p99": quantile(steps, 0.99),
        "saga_p99": quantile(whole, 0.99),
    }


def _steps(history: list[Any]) -> list[float]:
    """Milliseconds from each step's command to its reply."""
    asked: dict[str, datetime] = {}
    found = []
    for at, name, *phase in (entry for entry in history if len(entry) > 2):
        if phase[0] == "done":
            found.append((datetime.fromisoformat(at) - asked[name]).total_seconds() * 1e3)
        else:
            asked.setdefault(name, datetime.fromisoformat(at))
    return found


if __name__ == "__main__":
    collect_rarely()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_measured(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
