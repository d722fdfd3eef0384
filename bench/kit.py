"""What a service of the kit does a second: its relay, its inbox, its read models, an aggregate of many events.

``python -m bench.kit DSN SECONDS`` is the service's process of ``kit_memory``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

from psycopg import conninfo

from bench import peers
from bench.context import Context, Spent
from bench.part import peak_megabytes
from bench.result import Result
from stranglerfig.eventlog import model as log
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock, ids, postgres
from stranglerfig.kit import Aggregate, Event, Projection, Service, Transaction, evolves
from stranglerfig.kit.messages import data_of
from stranglerfig.kit.projections import Projector

EVENTS = 200_000
ITEMS = 5000
HISTORY = 10_000
BACKLOG = 10_000_000
LOADS = 50
STREAMS = 200
EACH = 50
AT_ONCE = 10
REASON = "x" * 180
FILL = """\
INSERT INTO fig.outbox (id, topic, type, key, data, dataschema, correlationid, causationid)
SELECT gen_random_uuid()::text, 'events.bench', 'bench.Moved', (g %% 1000)::text,
    json_build_object('item_id', g %% 1000, 'delta', 1, 'reason', repeat('x', 180)), 'fig:schemas/bench.Moved/1',
    'c', 'c'
FROM generate_series(1, %s) AS g"""


class Ordered(Event, type="orders.Ordered", key="item_id"):
    item_id: int
    quantity: int


class Moved(Event, type="bench.Moved", key="item_id"):
    item_id: int
    delta: int
    reason: str = ""


class Stock(Aggregate, table="stock", id="item_id"):
    item_id: int
    on_hand: int

    def move(self, delta: int) -> Moved:
        """Pieces come or go."""
        return self.record(Moved(self.item_id, delta))

    @evolves(Moved)
    def _moved(self, event: Moved) -> None:
        self.on_hand += event.delta


class Account(Aggregate, stream="account", id="item_id"):
    item_id: int
    on_hand: int = 0

    def move(self, delta: int, reason: str = "") -> Moved:
        """Pieces come or go."""
        return self.record(Moved(self.item_id, delta, reason))

    @evolves(Moved)
    def _moved(self, event: Moved) -> None:
        self.on_hand += event.delta


class Demand(Projection, name="demand", id="item_id"):
    item_id: int
    pieces: int = 0
    orders: int = 0

    @evolves(Ordered)
    def _ordered(self, event: Ordered) -> None:
        self.pieces += event.quantity
        self.orders += 1


def service(context: Context) -> list[Result]:
    """``kit_relay``, ``kit_inbox``, ``kit_projection`` and ``kit_load``, each with its log on the same PostgreSQL."""
    with context.servers("service") as (server,):
        dsn = server.create_database("service")
        return asyncio.run(_measured(context, dsn))


def memory(context: Context) -> list[Result]:
    """``kit_memory``: the most that a process holds while ten million events lie before it and a million behind."""
    backlog, seconds = context.rows(BACKLOG), context.seconds(30)
    with context.servers("service") as (server,):
        dsn = server.create_database("service")
        asyncio.run(_piled_up(dsn, backlog))
        found = peers.said([sys.executable, "-m", "bench.kit", dsn, str(seconds)])
    if found["handled"] == 0 or found["sent"] == 0:
        raise RuntimeError(f"nothing was done meanwhile: {found}")
    note = (
        f"{backlog:,} events to be handled and {backlog // 10:,} to be sent; in {seconds:.0f} s it handled "
        f"{found['handled']:,} and sent {found['sent']:,}"
    )
    return [Result("kit_memory", found["peak"], "MB", target=120, note=note)]


async def _piled_up(dsn: str, backlog: int) -> None:
    log_ = PostgresLog(dsn)
    made = await _service(dsn, log_)
    some = [_order(number) for number in range(1000)]
    for _ in range(0, backlog, len(some)):
        await log_.append("events.orders", [each._replace(id=ids.new_id()) for each in some])
    async with made.session() as conn:
        await conn.execute(FILL, (backlog // 10,))
    await made.close()
    await log_.close()


async def _works(dsn: str, seconds: float) -> dict[str, float]:
    """Run the service, as ``python -m`` its package would, and see what it held at most."""
    log_ = PostgresLog(dsn)
    made = await _service(dsn, log_)
    running = asyncio.create_task(made.run())
    await asyncio.sleep(seconds)
    peak = peak_megabytes()
    running.cancel()
    async with postgres.session(dsn, what="bench") as conn:
        handled = int(await postgres.value(conn, "SELECT -sum(on_hand) FROM stock"))
    return {"handled": handled, "sent": await log_.position_at("events.bench", 0, clock.now()), "peak": peak}


async def _service(dsn: str, log_: PostgresLog) -> Service:
    made = Service("bench", database=dsn, log=log_)
    await log_.migrate()
    await made.migrate()

    @made.on(Ordered)
    async def ordered(event: Ordered, tx: Transaction) -> None:
        (await tx.load(Stock, event.item_id)).move(-event.quantity)

    for topic in ("events.orders", "events.bench"):
        await log_.create_topic(topic)
    async with made.session() as conn:
        await conn.execute("CREATE TABLE IF NOT EXISTS stock (item_id int PRIMARY KEY, on_hand int NOT NULL)")
        await conn.execute(
            "INSERT INTO stock SELECT g, 0 FROM generate_series(0, %s) AS g ON CONFLICT DO NOTHING", (ITEMS - 1,)
        )
    return made


async def _measured(context: Context, dsn: str) -> list[Result]:
    log_ = PostgresLog(dsn)
    made = await _service(dsn, log_)
    count = context.rows(EVENTS)
    results = [await _relayed(made, dsn, count), *await _handled(made, log_, count, context)]
    results.append(await _loaded(made))
    results += await _histories(context, made, dsn)
    await made.close()
    await log_.close()
    return results


async def _timed(work: Callable[[], Awaitable[int]]) -> tuple[float, str]:
    """How many a second, and what it cost."""
    spent = Spent({})
    begun = time.perf_counter()
    count = await work()
    return count / (time.perf_counter() - begun), spent.says()


async def _relayed(made: Service, dsn: str, count: int) -> Result:
    async with postgres.session(dsn, what="bench") as conn:
        await conn.execute(FILL, (count,))
        await conn.execute("VACUUM ANALYZE fig.outbox")
        conn.prepare_threshold = 1
        relay = made._relay
        assert relay is not None
        rate, cost = await _timed(lambda: relay.drain(conn))
    return Result("kit_relay", rate, "events/s", target=60_000, more_is_better=True, note=f"240 B; {cost}")


async def _handled(made: Service, log_: PostgresLog, count: int, context: Context) -> list[Result]:
    few = max(1000, count // 4)
    for start in range(0, count, 1000):
        await log_.append("events.orders", [_order(number) for number in range(start, start + 1000)])
    (consumer,) = made.consumers()
    await consumer.begin()

    async def handle() -> int:
        position = 0
        while consumer.handled < few and (records := await log_.read("events.orders", 0, position)):
            await consumer.handle(records)
            position = records[-1].position + 1
        return consumer.handled

    inbox, inbox_cost = await _timed(handle)
    projector = Projector(Demand, made._sessions, log_, group="bench")

    async def build() -> int:
        running = asyncio.create_task(projector.run())
        while projector.applied < count:
            await asyncio.sleep(0.01)
        running.cancel()
        return projector.applied

    projected, projected_cost = await _timed(build)
    return [
        Result("kit_inbox", inbox, "events/s", target=10_000, more_is_better=True,
               note=f"state and outbox in the same transaction, {ITEMS} rows; {inbox_cost}"),
        Result("kit_projection", projected, "events/s", target=50_000, more_is_better=True,
               note=f"{count} events on {ITEMS} rows, built anew; {projected_cost}"),
    ]  # fmt: skip


async def _loaded(made: Service) -> Result:
    async def grow(tx: Transaction) -> None:
        account = await tx.open(Account, 1)
        for _ in range(1000):
            account.move(1)

    async def look(tx: Transaction) -> int:
        return (await tx.load(Account, 1)).on_hand

    begun = time.perf_counter()
    for _ in range(HISTORY // 1000):
        await made.execute(grow)
    written = HISTORY / (time.perf_counter() - begun)
    times = []
    for _ in range(LOADS):
        begun = time.perf_counter()
        assert await made.execute(look) == HISTORY
        times.append(time.perf_counter() - begun)
    async with made.session() as conn:
        await conn.execute("DELETE FROM fig.snapshot")
    begun = time.perf_counter()
    await made.execute(look)
    whole = time.perf_counter() - begun
    return Result(
        "kit_load", max(times) * 1e3, "ms", target=20,
        note=f"the slowest of {LOADS}, of {HISTORY} events with a snapshot; without one {whole * 1e3:.0f} ms; "
        f"written at {written:,.0f} events/s in thousands",
    )  # fmt: skip


async def _histories(context: Context, made: Service, dsn: str) -> list[Result]:
    """Aggregates of some events each, grown one event and one transaction at a time, then each read from its events."""
    streams = max(20, context.rows(STREAMS * EACH) // EACH)

    async def timed(work: Callable[[int], Awaitable[object]]) -> float:
        waiting = iter(range(2, 2 + streams))

        async def one_after_the_other() -> None:
            for id in waiting:
                await work(id)

        begun = time.perf_counter()
        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
        return streams * EACH / (time.perf_counter() - begun)

    async def grow(id: int) -> None:
        async def moved(tx: Transaction) -> None:
            (await tx.open(Account, id)).move(1, REASON)

        for _ in range(EACH):
            await made.execute(moved)

    async def look(id: int) -> None:
        async def looked(tx: Transaction) -> int:
            return (await tx.load(Account, id)).on_hand

        assert await made.execute(looked) == EACH

    written, read = await timed(grow), await timed(look)
    where = conninfo.conninfo_to_dict(dsn)
    address = [str(where[name]) for name in ("dbname", "host", "port", "user")]
    found = []
    for threads in (1, AT_ONCE):
        found.append(await asyncio.to_thread(peers.measured, "histories.py", *address, streams, EACH, threads))
    results = []
    for name, ours, what in (("kit_written", written, "written"), ("kit_read", read, "read")):
        peer = max(found, key=lambda one: float(one[what]))
        note = (
            f"{streams} aggregates of {EACH} events of 240 B, {AT_ONCE} at a time, no snapshots; written: the "
            "aggregate is taken, decides, and is kept, one event and one transaction each time (ours: and its outbox); "
            f"theirs: {peer['configuration']}"
        )
        results.append(
            Result(name, ours, "events/s", "eventsourcing", peer[what], peer[what], more_is_better=True, note=note)
        )
    return results


def _order(number: int) -> log.Event:
    # Items follow each other as a hash would have them, not in their own order.
    item = number * 2_654_435_761 % ITEMS
    data = data_of(Ordered(item, 1))
    return log.Event(ids.new_id(), "/orders", "orders.Ordered", clock.now(), data, partitionkey=str(item))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_works(sys.argv[1], float(sys.argv[2])))))
