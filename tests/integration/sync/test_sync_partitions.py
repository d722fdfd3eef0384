"""Several partitions of a topic between real databases: killed at random, added under load, told to move."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import sync_scenario as s
from test_sync_flow import _traffic, ends, held, postgres_session

from stranglerfig.capture import capture
from stranglerfig.capture.job import Pace
from stranglerfig.changes import frames
from stranglerfig.changes.model import Barrier, Direction, Message, Transaction, names
from stranglerfig.changes.spread import Spread, divide_tables
from stranglerfig.databases import catalogue
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.foundation import clock, tasks
from stranglerfig.sync import apply
from stranglerfig.verification import rows
from stranglerfig.verification.rows import VerifyJob
from tests.conftest import Server

QUICK = Pace(look=0.05, partitions=0.1, acknowledge=0.2)

# Fires under session_replication_role = replica as well: what is applied is counted where it lands.
LANDED = """
CREATE TABLE landed (n bigserial, id bigint, version int);
CREATE FUNCTION landed() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO landed (id, version) VALUES (new.item_id, new.on_hand); RETURN NULL; END $$;
CREATE TRIGGER landed AFTER INSERT OR UPDATE ON stock_level FOR EACH ROW EXECUTE FUNCTION landed();
ALTER TABLE stock_level ENABLE ALWAYS TRIGGER landed;
"""


async def keys_of(mapped: s.mapping.Mapping, direction: Direction, source: str, target: str) -> dict[str, Any]:
    async with postgres_session(source) as here, postgres_session(target) as there:
        entries = mapped.entries(direction)
        inputs = await catalogue.tables(here, [e.source for e in entries])
        outputs = await catalogue.tables(there, [e.target for e in entries])
        return dict(divide_tables(entries, inputs, outputs, ()).keys)


class Estate:
    """Two databases, a flow of several partitions between them, and the parts that may be killed."""

    def __init__(
        self, source: str, target: str, mapped: s.mapping.Mapping, direction: Direction, keys: dict[str, Any]
    ) -> None:
        self.source, self.target, self.mapping, self.direction = source, target, mapped, direction
        found = names("inventory", direction)
        self.log = MemoryLog()
        self.topic = found.topic
        self.keys = keys
        self.capture_job = capture.CaptureJob(
            "inventory",
            direction,
            source,
            mapped.inputs(direction),
            snapshot=direction is Direction.FORWARD,
            pace=QUICK,
        )
        self.sync_job = apply.SyncJob("inventory", direction, target, found.topic, found.origin, mapped)
        self.told: dict[Any, dict[str, Any]] = {}
        self._tasks: dict[Any, asyncio.Task[None]] = {}

    def capture(self, partitions: int) -> None:
        job = replace(self.capture_job, spread=Spread(partitions, self.keys))
        self._start("capture", lambda report: capture.run(job, self.log, report))

    def sync(self, *partitions: int, parted: bool = True) -> None:
        for number in partitions:
            job = replace(self.sync_job, partition=number, parted=parted)
            self._start(number, lambda report, job=job: apply.run(job, self.log, report))

    async def begin(self, partitions: int) -> None:
        """Start all parts, and wait until changes stream."""
        self.capture(partitions)
        self.sync(*range(partitions))
        await clock.until(self.streaming, timeout=20, what="the stream to begin")

    def _start(self, part: Any, work: Any) -> None:
        async def report(told: dict[str, Any]) -> None:
            self.told[part] = told

        self._tasks[part] = tasks.spawn(work(report), name=f"test {part}")

    async def kill(self, part: Any) -> None:
        await tasks.stop(self._tasks.pop(part))

    async def stop(self) -> None:
        for part in list(self._tasks):
            await self.kill(part)
        await capture.remove(self.source, "inventory", self.direction)

    async def streaming(self) -> bool:
        return self.told.get("capture", {}).get("state") == "streaming"

    async def partitions(self) -> int:
        topic = await self.log.topic(self.topic)
        return 0 if topic is None else topic.partitions

    async def items(self, partition: int) -> list[Any]:
        records = await self.log.read(self.topic, partition, 0, max_records=100_000, max_bytes=1 << 30)
        return [i for r in records for i in frames.decode(r.event.datacontenttype, r.event.data)]

    async def equal(self) -> rows.VerifyResult:
        job = VerifyJob("inventory", self.direction, self.source, self.target, self.mapping, marker_seconds=30.0)
        result = await rows.verify(job)
        assert result.equal, (result.as_dict(), self.told)
        return result


@asynccontextmanager
async def estate(
    postgres: Server, postgres_b: Server, direction: Direction = Direction.FORWARD
) -> AsyncIterator[Estate]:
    source, target, mapped, _ = await ends(postgres, postgres_b, direction)
    keys = await keys_of(mapped, direction, source, target)
    async with held(Estate(source, target, mapped, direction, keys)) as made:
        yield made


@pytest.mark.parametrize("direction", list(Direction))
async def test_random_transactions_with_kills(postgres: Server, postgres_b: Server, direction: Direction) -> None:
    rng = random.Random(21)
    async with estate(postgres, postgres_b, direction) as made:
        assert len(made.keys) == len(made.mapping.inputs(direction))
        if direction is Direction.FORWARD:
            await _traffic(made.source, rng, 40, direction)
        await made.begin(3)
        traffic = tasks.spawn(_traffic(made.source, rng, 300, direction), name="test traffic")
        chaos = random.Random(22)
        while not traffic.done():
            await asyncio.sleep(chaos.random() * 0.3)
            part = chaos.choice(["capture", 0, 1, 2])
            await made.kill(part)
            if part == "capture":
                made.capture(3)
            else:
                made.sync(part)
        await traffic
        assert (await made.equal()).rows_compared > 50
        sizes = [len(await made.items(number)) for number in range(3)]
        assert min(sizes) > 10, sizes


async def test_partitions_are_added_under_load(postgres: Server, postgres_b: Server) -> None:
    """From one to three by the setting, then to four by whoever runs the log: no key's changes ever overlap."""
    async with estate(postgres, postgres_b) as made:
        await s.run_sql(made.target, LANDED)
        await s.run_sql(
            made.source,
            "INSERT INTO inventory SELECT n, 's' || n, 'thing', 0, 0, 1, now() FROM generate_series(1, 60) n",
        )
        made.capture(1)
        made.sync(0, parted=False)
        await clock.until(made.streaming, timeout=20, what="the stream to begin")
        written = 0
        ending = False

        async def load() -> None:
            nonlocal written
            async with postgres_session(made.source) as conn:
                while not ending:
                    for item in random.sample(range(1, 61), 5):
                        await conn.execute(
                            f"UPDATE inventory SET quantity = quantity + 1, updated_at = now() WHERE item_id = {item}"
                        )
                        written += 1
                    await asyncio.sleep(0.002)

        async def grown() -> None:
            goal = written + 300
            await clock.until(lambda: _true(written > goal), timeout=30, what="load")

        traffic = tasks.spawn(load(), name="test load")
        try:
            await grown()
            await made.kill("capture")
            made.capture(3)
            await clock.until(lambda: _equals(made.partitions, 3), timeout=20, what="three partitions")
            made.sync(1, 2)
            await grown()
            await made.kill(1)
            await made.log.add_partitions(made.topic, 4)
            await grown()
            made.sync(1, 3)
            await made.kill("capture")
            made.capture(3)
            await grown()
        finally:
            ending = True
            await traffic
        await made.equal()
        spread = [{type(i) for i in await made.items(number)} for number in range(4)]
        assert all(found == {Transaction, Barrier} for found in spread[1:]), spread
        versions: dict[int, list[int]] = {}
        for _, item, version in await s.rows(made.target, "SELECT * FROM landed ORDER BY n"):
            versions.setdefault(item, []).append(version)
        for item, found in versions.items():
            assert all(a < b for a, b in itertools.pairwise(found)), (item, found)
        assert sum(found[-1] for found in versions.values()) == written


async def _true(value: bool) -> bool:
    return value


async def _equals(asked: Any, value: Any) -> bool:
    return bool(await asked() == value)


async def test_a_marker_means_everything_in_all_partitions(postgres: Server, postgres_b: Server) -> None:
    async with estate(postgres, postgres_b) as made:
        await made.begin(3)
        for round_ in range(10):
            nonce = f"n{round_}"
            content = f'{{"context": "inventory", "direction": "forward", "nonce": "{nonce}"}}'
            await s.run_sql(
                made.source,
                f"INSERT INTO inventory SELECT n, 's' || n, 'thing', 5, 0, 1, now()"
                f" FROM generate_series({round_ * 50}, {round_ * 50 + 49}) n",
                f"SELECT pg_logical_emit_message(true, 'fig.marker', '{content}')",
            )
            await clock.until(lambda: _marked(made.target, nonce), timeout=20, what="the marker", every=0.001)  # noqa: B023
            [[count]] = await s.rows(made.target, "SELECT count(*) FROM stock_level")
            assert count == (round_ + 1) * 50
        content = '{"context": "inventory", "epoch": 7}'
        await s.run_sql(made.source, f"SELECT pg_logical_emit_message(true, 'fig.activated', '{content}')")

        async def activated() -> bool:
            return await s.rows(made.target, "SELECT DISTINCT activated FROM fig.applied") == [(7,)]

        await clock.until(activated, timeout=10, what="the activation in every partition")


async def _marked(dsn: str, nonce: str) -> bool:
    return bool(await s.rows(dsn, f"SELECT true FROM fig.marker WHERE nonce = '{nonce}'"))


async def test_what_is_large_or_moves_keys_is_applied_alone(postgres: Server, postgres_b: Server) -> None:
    async with estate(postgres, postgres_b) as made:
        await made.begin(3)
        await s.run_sql(
            made.source,
            "INSERT INTO inventory SELECT n, 's' || n, 'thing', 5, 0, 1, now() FROM generate_series(1, 12000) n",
            "UPDATE inventory SET quantity = 6 WHERE item_id < 100",
            "UPDATE inventory SET item_id = -item_id WHERE item_id < 1000",
            "INSERT INTO inventory SELECT n, 's' || n, 'new', 5, 0, 1, now() FROM generate_series(1, 900) n",
            "INSERT INTO inventory_requests SELECT n::text, 'many' FROM generate_series(1, 50) n",
            "TRUNCATE inventory_requests",
            "INSERT INTO inventory_requests SELECT n::text, 'more' FROM generate_series(1, 20) n",
        )
        found = await made.equal()
        assert found.rows_compared == 2 * 12_900 + 20
        for partition in (1, 2):
            items = await made.items(partition)
            assert not any(
                isinstance(c, Message) or c.op == "t" for t in items if isinstance(t, Transaction) for c in t.items
            )


async def test_another_snapshot_is_met_by_all_partitions(postgres: Server, postgres_b: Server) -> None:
    rng = random.Random(3)
    async with estate(postgres, postgres_b) as made:
        await made.begin(2)
        await _traffic(made.source, rng, 60, Direction.FORWARD)
        await made.kill("capture")
        await _traffic(made.source, rng, 20, Direction.FORWARD)
        made.capture_job = replace(made.capture_job, generation=2)
        made.told["capture"] = {}
        made.capture(2)
        await clock.until(made.streaming, timeout=20, what="the stream to begin again")
        await _traffic(made.source, rng, 60, Direction.FORWARD)
        await made.equal()
        assert await s.rows(made.target, "SELECT DISTINCT generation FROM fig.applied") == [(2,)]


async def test_a_change_that_is_refused_holds_all_at_the_next_barrier(postgres: Server, postgres_b: Server) -> None:
    async with estate(postgres, postgres_b) as made:
        await made.begin(3)
        await s.run_sql(
            made.target,
            "ALTER TABLE inventory_item ADD CHECK (name <> 'bad')",
        )
        await s.run_sql(
            made.source,
            "INSERT INTO inventory SELECT n, 's' || n, CASE n WHEN 7 THEN 'bad' ELSE 'x' END, 5, 0, 1, now()"
            " FROM generate_series(1, 90) n",
        )

        async def stopped() -> list[int]:
            return [p for p in (0, 1, 2) if made.told.get(p, {}).get("state") == "stopped"]

        [partition] = await clock.until(stopped, timeout=20, what="a partition to stop")
        await s.run_sql(
            made.source,
            'SELECT pg_logical_emit_message(true, \'fig.marker\', \'{"context": "inventory", "nonce": "held"}\')',
        )
        parked = int(made.told[partition]["error"]["context"]["parked"])
        assert not await _marked(made.target, "held")
        await s.run_sql(made.target, "ALTER TABLE inventory_item DROP CONSTRAINT inventory_item_name_check")
        await apply.retry(made.target, "inventory", Direction.FORWARD, parked)
        await clock.until(lambda: _marked(made.target, "held"), timeout=20, what="the marker")
        await made.equal()


async def test_a_role_that_may_not_look_away_is_refused(postgres: Server, postgres_b: Server) -> None:
    role = postgres_b.role("partitions_poor")
    async with estate(postgres, postgres_b) as made:
        target = made.target
        await s.run_sql(
            target,
            f"GRANT ALL ON ALL TABLES IN SCHEMA public, fig TO {role}",
            f"GRANT CREATE ON DATABASE {target.rsplit('/', 1)[1].split('?')[0]} TO {role}",
            f"GRANT USAGE, CREATE ON SCHEMA public, fig TO {role}",
            *(
                f"GRANT EXECUTE ON FUNCTION {name} TO {role}"
                for name in (
                    "pg_replication_origin_create(text)",
                    "pg_replication_origin_session_setup(text)",
                    "pg_replication_origin_oid(text)",
                )
            ),
        )
        made.sync_job = replace(made.sync_job, dsn=target.replace("postgres@", f"{role}@"))
        made.capture(2)
        made.sync(1)

        async def refused() -> dict[str, Any] | None:
            return made.told.get(1, {}).get("error")

        found = await clock.until(refused, timeout=20, what="the refusal")
        assert found is not None
        assert (found["code"], found["context"]["statement"]) == (
            "partitions_need_replica_role",
            f'GRANT SET ON PARAMETER session_replication_role TO "{role}"',
        )
