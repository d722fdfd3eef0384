"""An extraction whose changes are divided over three partitions and applied by two processes, one of which is killed:
to the writes and back, by the installed command, under traffic."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from shop_driver import CONTEXT, READS, WRITES, Shop, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
PARTITIONS = 3


@pytest.fixture(scope="module")
def divided() -> Iterator[Shop]:
    root = Path(tempfile.mkdtemp(prefix="fig-partitions-"))
    root.chmod(0o755)
    found = Shop(root)

    def change(settings: dict[str, Any]) -> None:
        settings["partitions"] = PARTITIONS

    try:
        found.start(change=change)
        yield found
    finally:
        found.stop()
        if "FIG_KEEP" not in os.environ:
            shutil.rmtree(root, ignore_errors=True)


def workers(shop: Shop) -> Counter[str]:
    """How many partitions each process works on, as ``fig status`` tells it."""
    parts = shop.status()["flows"]["forward"]["sync"].get("parts", [])
    return Counter(part["worker"] for part in parts if part["state"] == "applying")


def of(pid: int, found: Counter[str]) -> int:
    return sum(count for worker, count in found.items() if worker.endswith(f"/{pid}"))


def rows(dsn: str, statement: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute(statement.encode()).fetchall()


def test_two_workers_over_three_partitions_to_the_writes_and_back(divided: Shop) -> None:
    shop = divided
    plan = shop.fig("plan", CONTEXT)
    assert not [finding for finding in plan["findings"] if finding["severity"] == "refuse"]
    shop.go(("sync", ""))
    applied = "SELECT partition, lsn > 0 FROM fig.applied WHERE direction = 'forward' ORDER BY 1"
    until(lambda: rows(shop.estate.service_dsn, applied) == [(n, True) for n in range(PARTITIONS)], "all partitions")

    first, second = shop.pid("sync"), shop.ask("run", "sync")
    shares = until(
        lambda: found if sorted((found := workers(shop)).values()) == [1, 2] else None,
        "both workers to have their share",
        30,
    )
    assert of(second.process.pid, shares) and of(first, shares)
    assert "partition" in shop.text("status", CONTEXT)
    os.kill(second.process.pid, signal.SIGKILL)
    second.process.wait()
    until(lambda: of(first, workers(shop)) == PARTITIONS, "the first to take all over", 30)
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    third = shop.ask("run", "sync")
    until(lambda: of(third.process.pid, workers(shop)), "another worker to have its share", 30)
    shop.back("sync", shop.kill("sync"))
    shop.sound("monolith")

    shop.go(WRITES)
    shop.sound("service")
    shop.rollback("--reason", "to show the way back")
    assert shop.place() == READS and shop.owner() == "monolith"
    shop.sound("monolith")
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    assert rows(shop.control, "SELECT count(DISTINCT partition) FROM fig.derived") == [(PARTITIONS,)]

    third.process.terminate()
    third.process.wait(20)
    shop.go(("build", ""))
    assert shop.left_behind() == {"monolith": [], "service": []}
    assert rows(shop.estate.service_dsn, "SELECT roname FROM pg_replication_origin") == []
