"""Captures that run beside a test, whichever engine reads the source, and what they wrote into the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from stranglerfig.capture.capture import CaptureJob, remove, run
from stranglerfig.capture.job import Pace
from stranglerfig.changes import frames
from stranglerfig.changes.envelope import copy_rows
from stranglerfig.changes.model import (
    Change,
    Direction,
    Item,
    Message,
    SnapshotChunk,
    SourcePosition,
    Transaction,
    Value,
    lsn_number,
)
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.foundation import clock, ids, tasks
from stranglerfig.foundation import postgres as sessions

FORWARD, REVERSE = Direction.FORWARD, Direction.REVERSE
ITEM = "CREATE TABLE item (id int PRIMARY KEY, sku text, n int DEFAULT 0)"
OUTBOX = (
    "CREATE TABLE outbox (id uuid PRIMARY KEY, topic text, type text, key text, data jsonb,"
    " occurred_at timestamptz DEFAULT now(), traceparent text, correlationid text, causationid text)"
)
QUICK = Pace(look=0.05, heartbeat=0.1, acknowledge=0.05)


class Running:
    """A capture that runs beside a test, its log, and what it said."""

    def __init__(self, dsn: str, **options: Any) -> None:
        context = "c" + ids.nonce()[:8]
        direction = options.pop("direction", FORWARD)
        options = {"tables": ("public.item",), "pace": QUICK, **options}
        self.job = CaptureJob(context, direction, dsn, **options)
        self.log: Any = MemoryLog()
        self.reports: list[dict[str, Any]] = []
        self.task: asyncio.Task[None] | None = None

    @property
    def topic(self) -> str:
        return f"fig.changes.{self.job.context}.{self.job.direction}"

    @property
    def report(self) -> dict[str, Any]:
        return self.reports[-1] if self.reports else {}

    def start(self, job: CaptureJob | None = None) -> None:
        self.reports.clear()
        self.task = tasks.spawn(run(job or self.job, self.log, self._told), name="capture under test")

    async def _told(self, report: dict[str, Any]) -> None:
        self.reports.append(report)

    async def stop(self) -> None:
        if self.task is not None:
            await tasks.stop(self.task)

    async def until(
        self, condition: Callable[[dict[str, Any]], Any], what: str, timeout: float = 120, may_fail: bool = False
    ) -> dict[str, Any]:
        """The first report that meets the condition, the last one so far or a later: also one that soon passed."""
        looked = max(len(self.reports) - 1, 0)

        async def met() -> dict[str, Any] | None:
            nonlocal looked
            while looked < len(self.reports):
                report = self.reports[looked]
                assert may_fail or report["state"] != "failed", report
                if condition(report):
                    return report
                looked += 1
            return None

        try:
            return await clock.until(met, timeout=timeout, what=what)  # type: ignore[return-value]
        except Exception:
            print("last report:", self.report)
            raise

    async def streaming(self) -> dict[str, Any]:
        return await self.until(lambda r: r["state"] == "streaming", "the stream")

    async def failed(self, code: str) -> dict[str, Any]:
        return await self.until(lambda r: r["error"] and r["error"]["code"] == code, code, may_fail=True)

    async def caught_up(self, conn: sessions.Connection) -> None:
        end = await sessions.value(conn, "SELECT pg_current_wal_lsn()::text")
        await self.until(
            lambda r: r["state"] == "streaming" and lsn_number(r["lsn"]) >= lsn_number(end), f"everything up to {end}"
        )

    async def items(self, partition: int = 0) -> list[Item]:
        topic = await self.log.topic(self.topic)
        found: list[Item] = []
        for position in range(topic.next_positions[partition] if topic else 0):
            [record] = await self.log.read(self.topic, partition, position, max_records=1)
            found += frames.decode(record.event.datacontenttype, record.event.data)
        return found

    async def changes(self) -> list[Change]:
        return [
            item
            for transaction in await self.items()
            if isinstance(transaction, Transaction)
            for item in transaction.items
            if isinstance(item, Change)
        ]

    async def messages(self) -> list[Message]:
        whole = [item for item in await self.items() if isinstance(item, Transaction)]
        return [item for transaction in whole for item in transaction.items if isinstance(item, Message)]


@asynccontextmanager
async def captured(dsn: str, *statements: str, **options: Any) -> AsyncIterator[tuple[Running, sessions.Connection]]:
    async with sessions.session(dsn, what="test") as conn:
        for statement in statements:
            await conn.execute(statement)  # type: ignore[call-overload]
        running = Running(dsn, **options)
        running.start()
        try:
            yield running, conn
        finally:
            await running.stop()
            await remove(dsn, running.job.context, running.job.direction, running.job.through)


def replayed(items: Iterable[Item]) -> dict[str, tuple[Value, ...]]:
    """The table as whoever reads the log has it, who passes over positions that it knows; it must never be told
    of a row what cannot be true of it."""
    rows: dict[str, tuple[Value, ...]] = {}
    reached = SourcePosition(0, 0)
    for item in items:
        if isinstance(item, SnapshotChunk):
            rows.update({str(row[0]): row for row in copy_rows(item.copy)})
        if not isinstance(item, Transaction):
            continue
        for number, change in enumerate(item.items, item.first):
            if SourcePosition(item.lsn, number) <= reached or not isinstance(change, Change):
                continue
            reached = SourcePosition(item.lsn, number)
            if change.op == "c":
                assert change.after is not None and change.after[0] not in rows, f"doubled: {change}"
            if change.op in "ud":
                old = change.before or change.after
                assert old is not None and str(old[0]) in rows, f"of a row that was lost: {change}"
                del rows[str(old[0])]
            if change.after is not None:
                rows[str(change.after[0])] = change.after
    return rows


async def held(conn: sessions.Connection) -> dict[str, tuple[Value, ...]]:
    """The table as the source has it."""
    rows = await sessions.fetch(conn, "SELECT id::text, sku, n::text FROM item")
    return {row[0]: tuple(row) for row in rows}
