"""The low-stock service and the replay over a real log: late, killed, caught up, nothing counted twice."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import psycopg

from examples.shop import replay
from examples.shop.lowstock.__main__ import summary
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock

REPOSITORY = Path(__file__).parents[3]


def level(number: int, item: int, on_hand: int) -> Event:
    data = orjson.dumps({"item_id": item, "on_hand": on_hand, "reserved": 1})
    return Event(f"e{number}", "/shop", "inventory.StockAdjusted", clock.now(), data, partitionkey=str(item))


async def test_low_stock_is_told_once_whatever_dies(postgres: Any, tmp_path: Path) -> None:
    dsn, state = postgres.database(), tmp_path / "lowstock.sqlite"
    log = PostgresLog(dsn)
    await log.migrate()
    await log.create_topic(replay.TOPIC)
    await log.append(replay.TOPIC, [level(n, n % 10, 300 - n) for n in range(100)])

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "examples.shop.lowstock", "--log", dsn, "--state", str(state)]
        return subprocess.Popen(command, cwd=REPOSITORY)

    async def caught_up(position: int) -> None:
        async def there() -> bool:
            try:
                return summary(state)["position"] == position
            except sqlite3.Error:
                return False  # not there yet

        await clock.until(there, timeout=30, what=f"position {position}")

    late = start()
    try:
        await caught_up(100)
        before = summary(state)
        assert before == {"items": 10, "low": 10, "alerts": 10, "position": 100}
    finally:
        late.kill()
        late.wait()
    await log.append(replay.TOPIC, [level(100, 3, 900), level(101, 3, 10), level(102, 4, 5)])
    # The group may be asked to begin again: what was counted stays counted once.
    again = start()
    try:
        await caught_up(103)
        assert summary(state)["alerts"] == 11 and summary(state)["low"] == 10
    finally:
        again.terminate()
        assert again.wait() == 0

    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE stock_level (item_id bigint, on_hand int, reserved int)")
        for item, (on_hand, reserved) in (await replay.levels(log))[0].items():
            conn.execute("INSERT INTO stock_level VALUES (%s, %s, %s)", (item, on_hand, reserved))
        result = await replay.compare(log, dsn)
        assert (result["items"], result["differences"], result["events"]) == (10, 0, {"inventory.StockAdjusted": 103})
        conn.execute("UPDATE stock_level SET on_hand = 0 WHERE item_id = 4")
    assert (await replay.compare(log, dsn))["examples"] == [{"item_id": 4, "table": (0, 1), "replayed": (5, 1)}]
    await log.close()
