"""``python -m examples.shop.lowstock --log DSN --state FILE``: levels and alerts out of ``events.inventory``.

State and log position are committed together, so an event that comes again changes nothing: it may be started late,
killed at any time, and catches up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import orjson

from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.model import Record
from stranglerfig.eventlog.ports import EventLog

TOPIC = "events.inventory"
GROUP = "low-stock"
PAUSE = 0.25
"""Seconds between two batches: an alert has no hurry, and a few large commits cost less than many small ones."""

TABLES = """
CREATE TABLE IF NOT EXISTS level (item_id INTEGER PRIMARY KEY, available INTEGER NOT NULL, low INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS alert (item_id INTEGER, partition INTEGER, position TEXT, available INTEGER NOT NULL,
    raised_at TEXT NOT NULL, PRIMARY KEY (partition, position));
CREATE TABLE IF NOT EXISTS position (partition INTEGER PRIMARY KEY, next TEXT NOT NULL);
"""


class LowStock:
    """Which items are low, and when each of them became so."""

    def __init__(self, state: Path, threshold: int) -> None:
        self._db = sqlite3.connect(state)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(TABLES)
        self._threshold = threshold

    def handle(self, records: Iterable[Record]) -> None:
        """Take a batch of one partition in, once: what was seen before is passed over."""
        with self._db:
            for record in records:
                if record.position < self._next(record.partition):
                    continue
                self._take(record)
                self._db.execute("REPLACE INTO position VALUES (?, ?)", (record.partition, str(record.position + 1)))

    def _next(self, partition: int) -> int:
        found = self._db.execute("SELECT next FROM position WHERE partition = ?", (partition,)).fetchone()
        return int(found[0]) if found else 0

    def _take(self, record: Record) -> None:
        fact = orjson.loads(record.event.data)
        if "item_id" not in fact or "on_hand" not in fact:
            return
        available = fact["on_hand"] - fact.get("reserved", 0)
        low = available < self._threshold
        before = self._db.execute("SELECT low FROM level WHERE item_id = ?", (fact["item_id"],)).fetchone()
        self._db.execute("REPLACE INTO level VALUES (?, ?, ?)", (fact["item_id"], available, int(low)))
        if low and not (before and before[0]):
            self._db.execute(
                "INSERT INTO alert VALUES (?, ?, ?, ?, ?)",
                (fact["item_id"], record.partition, str(record.position), available, record.event.time.isoformat()),
            )

    def close(self) -> None:
        """Let go of the state."""
        self._db.close()


def summary(state: Path) -> dict[str, int]:
    """Where the service stands: items seen, alerts raised, items low now, and the next log position."""
    with contextlib.closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as db:
        items, low = db.execute("SELECT count(*), coalesce(sum(low), 0) FROM level").fetchone()
        alerts = db.execute("SELECT count(*) FROM alert").fetchone()[0]
        position = sum(int(row[0]) for row in db.execute("SELECT next FROM position"))
    return {"items": items, "low": low, "alerts": alerts, "position": position}


async def consume(log: EventLog, low_stock: LowStock) -> None:
    """Follow the topic until cancelled."""
    subscription = await log.subscribe([TOPIC], GROUP)
    try:
        async for batch in subscription.batches():
            low_stock.handle(batch)
            await subscription.commit(batch[-1])
            await asyncio.sleep(PAUSE)
    finally:
        await subscription.close()


async def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="examples.shop.lowstock", description=__doc__.split("\n\n")[0])
    parser.add_argument("--log", required=True, help="the event log's address")
    parser.add_argument("--groups", help="database of the consumer groups, for a log that keeps none")
    parser.add_argument("--state", required=True, type=Path, help="SQLite file")
    parser.add_argument("--threshold", type=int, default=250, help="fewer available pieces than this are low")
    args = parser.parse_args()
    low_stock, log = LowStock(args.state, args.threshold), open_log(args.log, state=args.groups)
    work = asyncio.current_task()
    assert work is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        await consume(log, low_stock)
    except asyncio.CancelledError:
        pass
    finally:
        await log.close()
        low_stock.close()


if __name__ == "__main__":
    asyncio.run(main())
