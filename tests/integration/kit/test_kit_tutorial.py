"""The tutorial's service, as printed: it runs, does what the page says, and its types hold."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg

from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock
from tests.conftest import Server

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/tutorials/service.md"
PRINTED = re.compile(r"^```python(?P<file> file=\S+)?\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def written(folder: Path) -> tuple[Path, str]:
    """The page's service as a file, and its test."""
    service, check = [found["code"] for found in PRINTED.finditer(PAGE.read_text())]
    file = folder / "stock.py"
    file.write_text(service)
    return file, check


async def test_the_service_runs_as_printed(tmp_path: Path, postgres: Server) -> None:
    file, check = written(tmp_path)
    assert 45 < sum(bool(line.strip()) for line in file.read_text().splitlines()) <= 66
    dsn = postgres.database()
    log = PostgresLog(dsn)
    await log.migrate()
    for topic in ("events.orders", "events.stock"):
        await log.create_topic(topic)
    environment = dict(os.environ, STOCK_DSN=dsn)

    def rows(query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(dsn) as conn:
            return conn.execute(query.encode()).fetchall()

    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-u", file, env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"{'on_hand': 10}\n"

        async def there() -> bool:
            if rows("SELECT to_regclass('turnover')") == [(None,)]:
                return False
            return rows("SELECT * FROM turnover") == [(7, 10)]

        await clock.until(there, timeout=30, what="the turnover")
        process.kill()
        await process.wait()
    process = await asyncio.create_subprocess_exec(sys.executable, file, env=environment)
    for number, (item, quantity) in enumerate([(7, 4), (7, 500), (7, 1), (8, 0)]):
        data = f'{{"item_id": {item}, "quantity": {quantity}}}'.encode()
        order = Event(f"o{number}", "/orders", "orders.OrderPlaced", clock.now(), data, partitionkey=str(item))
        await log.append("events.orders", [order])

    async def handled() -> bool:
        parked = rows("SELECT 1 FROM fig.dead_letter")
        return rows("SELECT * FROM turnover ORDER BY 1") == [(7, 14), (8, 0)] and len(parked) == 2

    await clock.until(handled, timeout=30, what="the orders")
    process.kill()
    await process.wait()
    await log.close()
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, env=environment | {"PYTHONPATH": str(tmp_path)}, check=False
    )
    assert done.returncode == 0


def test_its_types_are_found_wrong_where_they_are(tmp_path: Path) -> None:
    file, _ = written(tmp_path)

    def judged() -> str:
        arguments = ["-m", "mypy", "--strict", "--config-file", "/dev/null", "--cache-dir", tmp_path / "cache", file]
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False).stdout

    assert "Success" in judged()
    file.write_text(file.read_text().replace('adjust(-event.quantity, "order")', 'adjust(-event.pieces, "order")'))
    assert '"OrderPlaced" has no attribute "pieces"' in judged()
    file.write_text(
        file.read_text().replace("event.pieces", "event.quantity").replace("+ delta, reason)", "+ delta, why=reason)")
    )
    assert 'Unexpected keyword argument "why"' in judged()
