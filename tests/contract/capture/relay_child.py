"""A capture through Debezium in a process of its own, for tests that kill it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import orjson

from stranglerfig.capture.capture import CaptureJob, run
from stranglerfig.capture.debezium import Through
from stranglerfig.changes.model import Direction
from stranglerfig.eventlog.postgres import PostgresLog
from tests.captures import QUICK


async def main() -> None:
    told = orjson.loads(sys.argv[1])
    through = Through(told["url"], told["servers"])
    job = CaptureJob(
        told["context"], Direction.FORWARD, told["dsn"], tuple(told["tables"]), pace=QUICK, through=through
    )
    log = PostgresLog(told["log"])

    async def say(report: dict[str, Any]) -> None:
        print(orjson.dumps(report).decode(), flush=True)

    await log.migrate()
    await run(job, log, say)


asyncio.run(main())
