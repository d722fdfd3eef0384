"""Capture, log, sync and comparison together on real databases: random transactions, parts of it killed at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import pytest
import sync_scenario as s

from stranglerfig.capture import capture
from stranglerfig.changes.mapping import identity_violations
from stranglerfig.changes.model import Direction, names
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.sync import apply
from stranglerfig.sync.target import prepare
from stranglerfig.verification import rows
from stranglerfig.verification.rows import VerifyJob
from tests.conftest import Server

SEEDS = [11, 12]


class Stoppable(Protocol):
    told: Any

    async def stop(self) -> None: ...


E = TypeVar("E", bound=Stoppable)


class Estate:
    """Two databases, one direction between them, and the parts that may be killed."""

    def __init__(self, source: str, target: str, mapped: s.mapping.Mapping, direction: Direction) -> None:
        self.source, self.target, self.mapping, self.direction = source, target, mapped, direction
        found = names("inventory", direction)
        self.log = MemoryLog()
        self.capture_job = capture.CaptureJob(
            "inventory", direction, source, mapped.inputs(direction), snapshot=direction is Direction.FORWARD
        )
        self.sync_job = apply.SyncJob("inventory", direction, target, found.topic, found.origin, mapped)
        self.told: dict[str, dict[str, object]] = {"capture": {}, "sync": {}}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, part: str) -> None:
        async def report(told: dict[str, object]) -> None:
            self.told[part] = told

        work = (
            capture.run(self.capture_job, self.log, report)
            if part == "capture"
            else apply.run(self.sync_job, self.log, report)
        )
        self._tasks[part] = tasks.spawn(work, name=f"test {part}")

    async def streaming(self) -> bool:
        return self.told["capture"].get("state") == "streaming"

    async def kill(self, part: str) -> None:
        await tasks.stop(self._tasks[part])

    async def stop(self) -> None:
        for part in list(self._tasks):
            await self.kill(part)
        await capture.remove(self.source, "inventory", self.direction)

    def verification(self, **more: object) -> VerifyJob:
        more.setdefault("marker_seconds", 60.0)
        return VerifyJob("inventory", self.direction, self.source, self.target, self.mapping, **more)  # type: ignore[arg-type]


async def ends(
    postgres: Server, postgres_b: Server, direction: Direction
) -> tuple[str, str, s.mapping.Mapping, Direction]:
    """Source and target of a direction between two new databases, and the mapping between them."""
    monolith, service = postgres.database(), postgres_b.database()
    mapped = await s.databases(monolith, service)
    source, target = (monolith, service) if direction is Direction.FORWARD else (service, monolith)
    async with postgres_session(target) as conn:
        await prepare(conn)
    return source, target, mapped, direction


@asynccontextmanager
async def held(made: E) -> AsyncIterator[E]:
    """An estate that is stopped in the end; what its parts said is printed when a test fails."""
    try:
        yield made
    except BaseException:
        print(made.told)
        raise
    finally:
        await made.stop()


@asynccontextmanager
async def estate(postgres: Server, postgres_b: Server, direction: Direction) -> AsyncIterator[Estate]:
    async with held(Estate(*await ends(postgres, postgres_b, direction))) as made:
        yield made


def postgres_session(dsn: str):  # type: ignore[no-untyped-def]
    return postgres.session(dsn, what="test")


LONG = "x" * 40


def _monolith(rng: random.Random) -> list[str]:
    """The statements of a random transaction of the monolith."""
    item = rng.randrange(1, 40)
    # Long and incompressible, so that it is kept outside the row and an update does not send it.
    toast = f"(SELECT string_agg(md5(n::text || '{rng.random()}'), '') FROM generate_series(1, 200) n)"
    name = rng.choice([f"'{LONG}'", "'tab\there \\ and\nlines'", toast])
    insert = (
        "INSERT INTO inventory (item_id, sku, name, quantity, updated_at)"
        f" VALUES ({item}, 's{item}', {name}, {rng.randrange(100)}, now()) ON CONFLICT DO NOTHING"
    )
    reserve = (
        f"INSERT INTO reservations (item_id, order_id, qty, created_at) SELECT item_id, {item}, 1, now()"
        f" FROM inventory WHERE item_id = {item}"
    )
    choices = [
        insert,
        insert,
        f"UPDATE inventory SET quantity = quantity + 1, updated_at = now() WHERE item_id = {item}",
        f"UPDATE inventory SET name = {name} WHERE item_id % 7 = {item % 7}",
        reserve,
        f"UPDATE reservations SET released = NOT released WHERE item_id = {item}",
        f"DELETE FROM reservations WHERE item_id = {item}",
        f"DELETE FROM inventory i WHERE item_id = {item} AND NOT EXISTS"
        " (SELECT FROM reservations r WHERE r.item_id = i.item_id)",
        f"UPDATE reservations SET id = id + 1000 WHERE id = {item}",
        f"INSERT INTO inventory_requests VALUES (md5(random()::text), 'adjust', {item}, 1,"
        ' \'{"a": "x\\ty"}\', clock_timestamp())',
        "INSERT INTO inventory_requests SELECT md5(random()::text), 'many' FROM generate_series(1, 300)",
    ]
    found = rng.choices(choices, k=rng.randrange(1, 6))
    if rng.random() < 0.03:
        found.append("TRUNCATE inventory_requests")
    if rng.random() < 0.1:
        found.append("ROLLBACK")
    return found


def _service(rng: random.Random) -> list[str]:
    """The statements of a random transaction of the service."""
    item = rng.randrange(1, 40)
    new = (
        f"WITH i AS (INSERT INTO inventory_item VALUES ({item}, 's{item}', '{LONG}', 1) ON CONFLICT DO NOTHING"
        " RETURNING item_id) INSERT INTO stock_level SELECT item_id, 5, 0, now() FROM i"
    )
    choices = [
        new,
        new,
        f"UPDATE stock_level SET on_hand = on_hand + 1, updated_at = now() WHERE item_id = {item}",
        f"UPDATE inventory_item SET name = name || '{item}', reorder_level = {item} WHERE item_id % 7 = {item % 7}",
        f"INSERT INTO reservation (item_id, quantity, state, created_at) SELECT item_id, 2, 'held', now()"
        f" FROM inventory_item WHERE item_id = {item}",
        f"UPDATE reservation SET state = 'released' WHERE item_id = {item}",
        f"WITH r AS (DELETE FROM reservation WHERE item_id = {item}) DELETE FROM stock_level WHERE item_id = {item}"
        f" AND NOT EXISTS (SELECT FROM reservation WHERE item_id = {item});"
        f" DELETE FROM inventory_item i WHERE item_id = {item}"
        " AND NOT EXISTS (SELECT FROM stock_level l WHERE l.item_id = i.item_id)",
    ]
    return rng.choices(choices, k=rng.randrange(1, 6))


async def _traffic(dsn: str, rng: random.Random, transactions: int, direction: Direction) -> None:
    made = _monolith if direction is Direction.FORWARD else _service
    async with postgres_session(dsn) as conn:
        for _ in range(transactions):
            await conn.execute("BEGIN")
            for statement in made(rng):
                await conn.execute(statement)
            await conn.execute("COMMIT" if conn.info.transaction_status.name == "INTRANS" else "SELECT 1")


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("seed", SEEDS)
async def test_random_transactions_with_kills(
    postgres: Server, postgres_b: Server, seed: int, direction: Direction
) -> None:
    rng = random.Random(seed)
    async with estate(postgres, postgres_b, direction) as made:
        if direction is Direction.FORWARD:
            await _traffic(made.source, rng, 40, direction)
        made.start("capture")
        made.start("sync")
        await clock.until(made.streaming, timeout=20, what="the stream to begin")
        traffic = tasks.spawn(_traffic(made.source, rng, 400, direction), name="test traffic")
        chaos = random.Random(seed)
        while not traffic.done():
            await asyncio.sleep(chaos.random() * 0.3)
            part = chaos.choice(["capture", "sync", "sync"])
            await made.kill(part)
            made.start(part)
        await traffic
        result = await rows.verify(made.verification())

        async def sound() -> bool:  # the last report may be of a moment before
            return made.told["sync"].get("state") == "applying" and made.told["sync"].get("error") is None

        await clock.until(sound, timeout=20, what="sync to be well")
        assert result.equal, result.as_dict()
        assert result.rows_compared > 50
        if direction is Direction.FORWARD:
            async with postgres_session(made.source) as conn:
                assert await identity_violations(conn, made.mapping) == []


async def test_traffic_is_not_mistaken_for_difference(postgres: Server, postgres_b: Server) -> None:
    async with estate(postgres, postgres_b, Direction.FORWARD) as made:
        made.start("capture")
        made.start("sync")
        rng = random.Random(5)
        traffic = tasks.spawn(_traffic(made.source, rng, 400, Direction.FORWARD), name="test traffic")
        results = []
        while not traffic.done():
            results.append(await rows.verify(made.verification(chunk_rows=50, fine_rows=10)))
        await traffic
        assert results and not any(r.differences for r in results), [r.as_dict() for r in results if not r.equal]


async def test_differences_are_named_and_repaired(postgres: Server, postgres_b: Server) -> None:
    async with estate(postgres, postgres_b, Direction.FORWARD) as made:
        await s.run_sql(
            made.source,
            "INSERT INTO inventory SELECT n, 's' || n, 'thing', 5, 0, 1, now() FROM generate_series(1, 3000) n",
            "INSERT INTO reservations (item_id, qty, created_at) SELECT 1, 1, now()",
        )
        made.start("capture")
        made.start("sync")
        job = made.verification(chunk_rows=1000, fine_rows=100)
        assert (await rows.verify(job)).equal
        await s.run_sql(
            made.target,
            "UPDATE stock_level SET on_hand = 7, reserved = 1 WHERE item_id = 1234",
            "DELETE FROM stock_level WHERE item_id = 3000",
            "INSERT INTO inventory_item VALUES (-1, 'a', 'b', 0), (5000, 'a', 'b', 0)",
            "INSERT INTO reservation VALUES (100, 1, NULL, 1, 'held', now())",
        )
        found = await rows.verify(job)
        assert not found.equal and found.rechecked == 5
        named = {(d.service_table, *d.key.values(), d.kind): dict(d.columns) for d in found.differences}
        assert named == {
            ("public.stock_level", "1234", "differs"): {"on_hand": ("5", "7"), "reserved": ("0", "1")},
            ("public.stock_level", "3000", "missing"): {},
            ("public.inventory_item", "-1", "extra"): {},
            ("public.inventory_item", "5000", "extra"): {},
            ("public.reservation", "100", "extra"): {},
        }
        assert await rows.repair(job, found.differences) == 5
        again = await rows.verify(job)
        assert again.equal and again.rows_compared == 6001, again.as_dict()


async def test_repair_of_the_reverse_direction(postgres: Server, postgres_b: Server) -> None:
    async with estate(postgres, postgres_b, Direction.REVERSE) as made:
        await s.run_sql(
            made.source,
            "INSERT INTO inventory_item SELECT n, 's' || n, 'thing', 5 FROM generate_series(1, 30) n",
            "INSERT INTO stock_level SELECT n, 5, 0, now() FROM generate_series(1, 30) n",
        )
        # the reverse direction has no snapshot: the rows came by the forward one
        await s.run_sql(
            made.target,
            "INSERT INTO inventory SELECT n, 's' || n, 'other', 5, 0, 5, '2020-01-01' FROM generate_series(2, 31) n",
        )
        made.start("capture")
        made.start("sync")
        found = await rows.verify(made.verification())
        assert {d.kind for d in found.differences} == {"missing", "extra", "differs"}
        await rows.repair(made.verification(), found.differences)
        assert (await rows.verify(made.verification())).equal


async def test_a_comparison_goes_on_where_it_was(postgres: Server, postgres_b: Server) -> None:
    async with estate(postgres, postgres_b, Direction.FORWARD) as made:
        await s.run_sql(
            made.source,
            "INSERT INTO inventory SELECT n, 's' || n, 'thing', 5, 0, 1, now() FROM generate_series(1, 900) n",
        )
        made.start("capture")
        made.start("sync")
        job = made.verification(chunk_rows=100)
        told: list[dict[str, object]] = []

        class Killed(Exception):
            pass

        async def progress(one: dict[str, object]) -> None:
            told.append(one)
            if len(told) == 12:
                raise Killed

        async def lag() -> float:
            return 2.0 if not told and clock.monotonic() < patient else 0.0

        patient = clock.monotonic() + 0.3
        with pytest.raises(Killed):
            await rows.verify(job, progress=progress, lag=lag)
        result = await rows.verify(job, resume=told[-1]["resume"])  # type: ignore[arg-type]
        assert result.equal and result.rows_compared == 1800
        assert {t: n for t, n in result.tables.items() if n} == dict.fromkeys(s.TARGETS[:2], 900)
        record = rows.Verifications(made.target)
        await record.run(job)
        assert [r["rows_compared"] for r in await record.latest("inventory")] == [1800]


async def test_a_large_transaction_in_bounded_parts(postgres: Server, postgres_b: Server) -> None:
    async with estate(postgres, postgres_b, Direction.FORWARD) as made:
        made.start("capture")
        made.start("sync")
        await s.run_sql(
            made.source,
            "INSERT INTO inventory SELECT n, 's' || n, 'thing', 5, 0, 1, now() FROM generate_series(1, 20000) n",
        )
        assert (await rows.verify(made.verification())).rows_compared == 40_000
        await s.run_sql(made.source, "UPDATE inventory SET item_id = -item_id, quantity = quantity + 1")
        result = await rows.verify(made.verification())
        assert result.equal, result.as_dict()


async def test_a_target_that_is_killed(postgres: Server, postgres_b: Server) -> None:
    async with estate(postgres, postgres_b, Direction.FORWARD) as made:
        made.start("capture")
        made.start("sync")
        rng = random.Random(3)
        traffic = tasks.spawn(_traffic(made.source, rng, 200, Direction.FORWARD), name="test traffic")
        await s.run_sql(made.target, "CHECKPOINT")  # what other tests wrote need not be replayed
        for _ in range(2):
            await asyncio.sleep(0.2)
            postgres_b.embedded.kill()
            await asyncio.to_thread(postgres_b.embedded.start, timeout=120)
        await traffic
        result = await rows.verify(made.verification())
        assert result.equal, result.as_dict()
