"""``python sync_worker.py JOB``: a sync worker as ``fig run sync`` runs it for one flow, so that it can be killed.

JOB is a pickle of the flow's job, the log's address and the control database's.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from pathlib import Path
from typing import Any

import uvloop

from stranglerfig.changes.flows import Flows
from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.leases import Leases
from stranglerfig.foundation import postgres, tasks
from stranglerfig.runtime.partitions import Partitions
from stranglerfig.runtime.roles import collect_rarely
from stranglerfig.sync.workers import Share


async def work(file: Path) -> None:
    job, url, control = pickle.loads(file.read_bytes())
    log = open_log(url, state=control)
    flows = Flows(control, keep=True)
    leases = postgres.Kept(control, what="sync leases")

    async def report(said: dict[str, Any]) -> None:
        if "partition" in said:
            await flows.report_part(job.context, job.direction, said["partition"], said["worker"], said)

    partitions = Partitions(job, None, log, log, report)
    share = Share(log, job.topic, Leases(leases.session, "sync"), partitions.work)
    partitions.count = lambda: share.partitions
    print("ready", flush=True)
    try:
        await share.run()
    finally:
        await flows.close()
        await leases.close()
        await log.close()


if __name__ == "__main__":
    collect_rarely()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(tasks.until_signal(work(Path(sys.argv[1]))))
