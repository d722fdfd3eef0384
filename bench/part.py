"""``python -m bench.part capture|sync|worker JOB``: one of the processes as ``fig up`` runs them, for one flow.

Reads a pickled job and the log's address from the file JOB, says ``ready``, waits for a line on standard input, then
works until SIGTERM. Its reports go to JOB.report, the most memory that it held to JOB.peak.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import uvloop

from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import tasks
from stranglerfig.runtime.flowing import Report
from stranglerfig.runtime.partitions import Partitions
from stranglerfig.runtime.roles import collect_rarely
from stranglerfig.sync.target import SyncJob
from stranglerfig.telemetry import traces


def peak_megabytes(pid: int | str = "self") -> float:
    """The most memory that a process has held (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


async def _several(part: str, job: SyncJob, log: EventLog, report: Report) -> None:
    """A worker of the partitions that its name ends with: ``worker01`` has two. (Who has which is not measured.)"""
    partitions = Partitions(job, None, log, log, report)
    partitions.count = lambda: 2
    async with asyncio.TaskGroup() as group:
        for number in part.removeprefix("worker"):
            group.create_task(partitions.work(int(number)))


async def _work(part: str, file: Path) -> None:
    job, url = pickle.loads(file.read_bytes())
    log = open_log(url)
    reported = file.with_suffix(".report")

    async def report(said: dict[str, Any]) -> None:
        temporary = file.with_suffix(".tmp")
        temporary.write_bytes(orjson.dumps(said))
        temporary.replace(reported)
        file.with_suffix(".peak").write_text(f"{peak_megabytes():.1f}")

    if part.startswith("capture"):
        from stranglerfig.capture.capture import run
    elif part.startswith("worker"):
        run = partial(_several, part)
    else:
        from stranglerfig.sync.apply import run  # type: ignore[assignment]
    await log.migrate()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    try:
        await run(job, log, report)
    finally:
        file.with_suffix(".peak").write_text(f"{peak_megabytes():.1f}")
        await log.close()


def main() -> None:
    part, file = sys.argv[1], Path(sys.argv[2])
    traces.install_from(os.environ, part)
    collect_rarely()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(tasks.until_signal(_work(part, file)))
    traces.close()


if __name__ == "__main__":
    main()
