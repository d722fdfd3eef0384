"""Several worker processes on one topic, killed with kill -9 under load, on PostgreSQL's log and on Kafka's: in the end
the target is what the source is, each key's changes were applied in their order, and none of them twice."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sync_scenario as s
from test_sync_partitions import LANDED, QUICK, keys_of

from examples.servers.fetch import Missing
from examples.servers.kafka import Kafka
from stranglerfig.capture import capture
from stranglerfig.changes.flows import Flows
from stranglerfig.changes.model import Direction, names
from stranglerfig.changes.spread import Spread
from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation import postgres as sessions
from stranglerfig.sync import apply
from stranglerfig.sync.target import prepare
from stranglerfig.verification import rows
from stranglerfig.verification.rows import VerifyJob
from tests.conftest import Server, required

FORWARD = Direction.FORWARD
WORKER = Path(__file__).with_name("sync_worker.py")
ITEMS = 90


class Scaled:
    """A flow from a monolith to a service, its workers, and a load that never stops."""

    def __init__(self, source: str, target: str, control: str, url: str, folder: Path) -> None:
        self.source, self.target, self.control, self.url = source, target, control, url
        self.folder = folder
        self.log: EventLog = open_log(url, state=control)
        self.topic = names("inventory", FORWARD).topic
        self.flows = Flows(control)
        self.workers: list[subprocess.Popen[str]] = []
        self.written = 0
        self.mapping: Any = None
        self.job: Any = None
        self.told: dict[str, Any] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, partitions: int) -> None:
        self.mapping = await s.databases(self.source, self.target)
        async with sessions.session(self.target, what="test") as conn:
            await prepare(conn)
        await s.run_sql(self.target, LANDED)
        await s.run_sql(
            self.source,
            f"INSERT INTO inventory SELECT n, 's' || n, 'thing', 0, 0, 1, now() FROM generate_series(1, {ITEMS}) n",
        )
        await self.log.migrate()
        await self.flows.migrate()
        await self.flows.want("inventory", FORWARD, capture=True, sync=True, snapshot=True)
        found = names("inventory", FORWARD)
        self.job = self.folder / "job"
        job = apply.SyncJob("inventory", FORWARD, self.target, found.topic, found.origin, self.mapping)
        self.job.write_bytes(pickle.dumps((job, self.url, self.control)))
        keys = await keys_of(self.mapping, FORWARD, self.source, self.target)
        self.capture_job = capture.CaptureJob(
            "inventory", FORWARD, self.source, self.mapping.inputs(FORWARD), pace=QUICK, spread=Spread(partitions, keys)
        )
        self.capture()

    def capture(self) -> None:
        async def report(told: dict[str, Any]) -> None:
            self.told = told

        self._tasks["capture"] = tasks.spawn(capture.run(self.capture_job, self.log, report), name="test capture")

    async def again(self) -> None:
        await tasks.stop(self._tasks["capture"])
        self.capture()

    def worker(self) -> subprocess.Popen[str]:
        with (self.folder / "workers.log").open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, str(WORKER), str(self.job)], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.workers.append(process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        self.workers.remove(process)

    def load(self) -> None:
        async def write() -> None:
            rng = random.Random(4)
            async with sessions.session(self.source, what="test") as conn:
                while True:
                    items = sorted(rng.sample(range(1, ITEMS + 1), 5))
                    await conn.execute(
                        "UPDATE inventory SET quantity = quantity + 1, updated_at = now() WHERE item_id = ANY (%s)",
                        (items,),
                    )
                    self.written += len(items)

        self._tasks["load"] = tasks.spawn(write(), name="test load")

    async def quiet(self) -> None:
        await tasks.stop(self._tasks["load"])

    async def more(self, count: int = 500) -> None:
        """Wait until so many more changes have landed in the target."""
        start = await self.landed()

        async def enough() -> bool:
            return await self.landed() >= start + count

        await clock.until(enough, timeout=60, what=f"{count} more changes in the target")

    async def landed(self) -> int:
        [[count]] = await s.rows(self.target, "SELECT coalesce(sum(on_hand), 0) FROM stock_level")
        return int(count)

    async def shares(self) -> dict[str, int]:
        flow = await self.flows.get("inventory", FORWARD)
        found: dict[str, int] = {}
        for part in flow.sync.get("parts", []) if flow is not None else []:
            pid = part["worker"].rpartition("/")[2]
            if part["state"] == "applying":
                found[pid] = found.get(pid, 0) + 1
        return found

    async def shared(self, *sizes: int) -> None:
        """Wait until the living workers have shares of these sizes."""
        alive = {str(process.pid) for process in self.workers}

        async def so() -> bool:
            found = await self.shares()
            return set(found) <= alive and sorted(found.values()) == sorted(sizes)

        try:
            await clock.until(so, timeout=40, what=f"shares of {sizes}")
        except Exception:
            print((self.folder / "workers.log").read_text()[-3000:], await self.shares())
            raise

    async def sound(self) -> None:
        """The target is what the source is; each key's changes came in their order, none twice."""
        await self.quiet()
        job = VerifyJob("inventory", FORWARD, self.source, self.target, self.mapping, marker_seconds=60.0)
        result = await rows.verify(job)
        assert result.equal, result.as_dict()
        [[total]] = await s.rows(self.source, "SELECT sum(quantity) FROM inventory")
        assert await self.landed() == total
        versions: dict[int, list[int]] = {}
        for item, version in await s.rows(self.target, "SELECT id, version FROM landed ORDER BY n"):
            versions.setdefault(item, []).append(version)
        assert len(versions) == ITEMS
        for item, found in versions.items():
            assert all(a < b for a, b in itertools.pairwise(found)), (item, found)

    async def stop(self) -> None:
        for process in list(self.workers):
            self.kill(process)
        for task in self._tasks.values():
            await tasks.stop(task)
        await capture.remove(self.source, "inventory", FORWARD)
        await self.log.close()


@asynccontextmanager
async def scaled(
    postgres: Server, postgres_b: Server, folder: Path, url: str | None, partitions: int
) -> AsyncIterator[Scaled]:
    control = postgres_b.database()
    made = Scaled(postgres.database(), postgres_b.database(), control, url or control, folder)
    try:
        await made.begin(partitions)
        yield made
    except BaseException:
        print(made.told)
        raise
    finally:
        await made.stop()


@pytest.fixture(params=["postgres", "kafka"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str | None]:
    """The log's address; None for the control database's."""
    async with AsyncExitStack() as stack:
        if request.param == "postgres":
            yield None
            return
        try:
            kafka = Kafka(tmp_path / "kafka")
            kafka.start()
        except Missing as error:
            required(str(error))
        stack.callback(kafka.stop)
        yield kafka.url


@pytest.mark.timeout(600)
async def test_workers_killed_under_load_and_partitions_added(
    postgres: Server, postgres_b: Server, tmp_path: Path, url: str | None
) -> None:
    async with scaled(postgres, postgres_b, tmp_path, url, 3) as made:
        first, second = made.worker(), made.worker()
        made.load()
        await made.shared(1, 2)
        await made.more()
        made.kill(second)
        await made.shared(3)
        await made.more()
        second = made.worker()
        await made.shared(1, 2)
        # Whoever runs the log adds a partition: capture turns to it behind a barrier.
        await made.log.add_partitions(made.topic, 4)
        await made.shared(2, 2)
        await made.more()
        await made.again()
        await made.more()
        made.kill(first)
        await made.shared(4)
        await made.sound()
        spread = await s.rows(made.target, "SELECT partition, ordinal FROM fig.applied ORDER BY 1")
        assert [row[0] for row in spread] == [0, 1, 2, 3] and all(row[1] > 0 for row in spread)


@pytest.mark.timeout(600)
async def test_random_kills(postgres: Server, postgres_b: Server, tmp_path: Path) -> None:
    rng = random.Random(8)
    async with scaled(postgres, postgres_b, tmp_path, None, 3) as made:
        for _ in range(3):
            made.worker()
        made.load()
        await made.shared(1, 1, 1)
        for _ in range(5):
            made.kill(rng.choice(made.workers))
            if rng.random() < 0.4:
                await made.again()
            await asyncio.sleep(rng.random())
            made.worker()
            await made.more(100)
        await made.shared(1, 1, 1)
        await made.sound()
