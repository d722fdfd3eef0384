"""Who works on which partition, and tables of an earlier release that are brought forward."""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import sync_scenario as s
from sync_scenario import rows, run_sql

from stranglerfig.changes.flows import Flows
from stranglerfig.changes.model import Direction
from stranglerfig.eventlog.leases import Leases
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation import postgres as sessions
from stranglerfig.sync import apply
from stranglerfig.sync.target import prepare
from stranglerfig.sync.workers import Share
from tests.conftest import Server

FORWARD = Direction.FORWARD
TOPIC = "fig.changes.x.forward"
HOLDER = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'fig:sync inv%' AND state = 'idle'"
STOCK = "SELECT item_id, on_hand FROM stock_level ORDER BY 1"


@pytest.fixture
async def flow(postgres: Server, postgres_b: Server) -> s.Flow:
    target = postgres_b.database()
    return s.Flow(await s.databases(postgres.database(), target), target)


class Worker:
    """A process's share, without a process."""

    def __init__(self, log: MemoryLog, dsn: str) -> None:
        self.working: set[int] = set()
        self.kept = sessions.Kept(dsn, what="test")
        self.share = Share(log, TOPIC, Leases(self.kept.session, "sync"), self._work, lease=0.6)
        self.task = tasks.spawn(self.share.run(), name="test share")

    async def _work(self, partition: int) -> None:
        self.working.add(partition)
        try:
            await asyncio.Event().wait()
        finally:
            self.working.discard(partition)

    async def leave(self) -> None:
        await tasks.stop(self.task)
        await self.kept.close()


async def shares(*workers: Worker) -> list[int]:
    return sorted(len(worker.working) for worker in workers)


async def test_partitions_are_shared_moved_and_met(postgres: Server) -> None:
    dsn = postgres.database()
    log = MemoryLog()
    first, second = Worker(log, dsn), Worker(log, dsn)

    async def become(sizes: list[int], *workers: Worker) -> None:
        async def so() -> bool:
            numbers = [number for worker in workers for number in worker.working]
            return await shares(*workers) == sizes and len(set(numbers)) == len(numbers)

        await clock.until(so, timeout=20, what=f"shares of {sizes}")

    try:
        # Of one partition each is ready to be the worker: its origin decides.
        await clock.until(lambda: _is(first.working == second.working == {0}), timeout=20, what="both at the first")
        await log.create_topic(TOPIC, partitions=1)
        await log.add_partitions(TOPIC, 4)
        await become([2, 2], first, second)
        await second.leave()
        await become([4], first)
        await log.add_partitions(TOPIC, 5)
        await become([5], first)
        third = Worker(log, dsn)
        await become([2, 3], first, third)
        await third.leave()
    finally:
        await first.leave()


async def _is(value: bool) -> bool:
    return value


async def test_a_worker_that_stands_still_is_followed_and_changes_nothing_when_it_wakes(
    flow: s.Flow, postgres: Server, tmp_path: Path
) -> None:
    """SIGSTOP: its session lives on, and its origin with it; the kernel goes on answering for it."""
    control = postgres.database()
    log = PostgresLog(control)
    await log.migrate()
    await Flows(control).migrate()
    flow.log = log
    (tmp_path / "job").write_bytes(pickle.dumps((flow.job, control, control)))
    await flow.stream([s.create(s.INVENTORY, s.item(1))])
    program = [sys.executable, str(Path(__file__).with_name("sync_worker.py")), str(tmp_path / "job")]
    stopped = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.DEVNULL)
    try:
        await flow.applied()
        stopped.send_signal(signal.SIGSTOP)
        await flow.stream([s.update(s.INVENTORY, s.item(1, 7))])
        async with flow.running():
            await flow.applied(timeout=40)
            stopped.send_signal(signal.SIGCONT)
            await flow.stream([s.update(s.INVENTORY, s.item(1, 8)), s.create(s.INVENTORY, s.item(2))])
            await flow.applied()
            await asyncio.sleep(2)  # in which it tries to get its place back
            await flow.stream([s.create(s.INVENTORY, s.item(3))])
            await flow.applied()
        assert flow.reports[-1]["error"] is None
        assert stopped.returncode is None
        # And now it is the one that waited.
        await flow.stream([s.create(s.INVENTORY, s.item(4))])
        await flow.applied()
    finally:
        stopped.kill()
        await stopped.wait()
        await log.close()
    assert await rows(flow.job.dsn, STOCK) == [(1, 8), (2, 5), (3, 5), (4, 5)]


async def test_a_worker_with_nothing_to_do_keeps_its_place(flow: s.Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "STILL", 1)
    monkeypatch.setattr(apply, "TOUCH_SECONDS", 0.2)
    second = s.Flow(flow.job.mapping, flow.job.dsn)
    second.log = flow.log
    await flow.stream([s.create(s.INVENTORY, s.item(1))])
    async with flow.running():
        await flow.applied()
        sessions_before = await rows(flow.job.dsn, HOLDER)
        async with second.running():
            await asyncio.sleep(4)
            assert second.reports[-1]["error"]["code"] == "origin_busy"
        assert await rows(flow.job.dsn, HOLDER) == sessions_before and len(sessions_before) == 1


async def test_a_share_that_cannot_be_known_is_asked_for_again(postgres: Server) -> None:
    class Away(MemoryLog):
        asked = 0

        async def topic(self, name: str) -> Any:
            self.asked += 1
            if self.asked == 1:
                raise OSError("away")
            return await super().topic(name)

    log = Away()
    worker = Worker(log, postgres.database())
    await clock.until(lambda: _is(worker.working == {0}), timeout=20, what="the worker")
    await worker.leave()
    assert worker.working == set()


async def test_tables_of_the_release_before_are_brought_forward(postgres: Server) -> None:
    dsn = postgres.database()
    async with postgres_session(dsn) as conn:
        await postgres_migrate(conn, "sync", ["target.sql", "wide_positions.sql"])
        await postgres_migrate(conn, "sync_derived", ["derived.sql", "wide_derived.sql"])
    await run_sql(
        dsn,
        "INSERT INTO fig.applied (context, direction, lsn, log_position) VALUES ('x', 'forward', 77, 5)",
        "INSERT INTO fig.parked (context, direction, lsn, ordinal, reason, change)"
        " VALUES ('x', 'forward', 77, 1, 'error', '{}')",
        "INSERT INTO fig.derived (context, lsn) VALUES ('x', 70)",
    )
    async with postgres_session(dsn) as conn:
        await prepare(conn)
        await postgres_migrate(conn, "sync_derived", ["derived.sql", "wide_derived.sql", "derived_partitions.sql"])
    await run_sql(
        dsn,
        "INSERT INTO fig.applied (context, direction, partition) VALUES ('x', 'forward', 1)",
        "INSERT INTO fig.parked (context, direction, partition, lsn, ordinal, reason, change)"
        " VALUES ('x', 'forward', 1, 77, 1, 'error', '{}')",
        "INSERT INTO fig.derived (context, partition) VALUES ('x', 1)",
    )
    assert await rows(dsn, "SELECT partition, lsn FROM fig.applied ORDER BY 1") == [(0, 77), (1, 0)]
    assert await rows(dsn, "SELECT partition, lsn FROM fig.derived ORDER BY 1") == [(0, 70), (1, 0)]


def postgres_session(dsn: str) -> Any:
    return sessions.session(dsn, what="test")


async def postgres_migrate(conn: sessions.Connection, room: str, steps: list[str]) -> None:
    await sessions.migrate(conn, room, "stranglerfig.sync", steps)


async def test_flows_show_what_all_partitions_say(postgres: Server) -> None:
    flows = Flows(postgres.database())
    await flows.migrate()
    waits = {"state": "starting", "error": {"code": "origin_busy"}}
    await flows.report_part("x", FORWARD, 0, "a/1", {"state": "applying"})
    await flows.want("x", FORWARD, capture=True, sync=True)
    await flows.report("x", FORWARD, "sync", {"state": "applying", "rows": 3})
    await flows.report("x", FORWARD, "sync", waits)  # who works is heard, not who waits for its place
    found = await flows.get("x", FORWARD)
    assert found is not None and found.sync == {"state": "applying", "rows": 3}
    for number, worker in enumerate(("a/1", "b/2")):
        await flows.report_part(
            "x", FORWARD, number, worker, {"state": "applying", "partitions": 2, "rows": number + 4}
        )
        await flows.report_part("x", FORWARD, number, "c/3", waits)
    found = await flows.get("x", FORWARD)
    assert found is not None and found.sync_at is not None
    assert (found.sync["rows"], found.sync["workers"], found.sync["state"]) == (9, 2, "applying")
    # What keeps the whole flow from beginning is newer than what its partitions last said.
    await flows.report("x", FORWARD, "sync", {"state": "failed", "error": {"code": "mapping_unknown_table"}})
    found = await flows.get("x", FORWARD)
    assert found is not None and found.sync["state"] == "failed"
    await flows.report_part("x", FORWARD, 1, "a/1", {"state": "applying", "partitions": 2})
    await flows.report_part("x", FORWARD, 0, "a/1", {"state": "applying", "partitions": 2})
    found = await flows.get("x", FORWARD)
    assert found is not None and found.sync["state"] == "applying"
    await flows.forget("x")
    assert await flows.all() == []
