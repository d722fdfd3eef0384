"""One partition of a flow in this process: its rows applied, its events derived, and one report of both."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import ids
from stranglerfig.runtime.flowing import Report
from stranglerfig.sync import apply, derive


class Partitions:
    """What a sync worker does for each partition that is its own.

    Args:
        facts: what is derived; None for nothing.
        governed: the log as producers of business events see it.

    Attributes:
        count: asks for the topic's number of partitions.
    """

    def __init__(
        self,
        job: apply.SyncJob,
        facts: derive.DeriveJob | None,
        log: EventLog,
        governed: EventLog,
        report: Report,
    ) -> None:
        self._job = job
        self._facts = facts
        self._log = log
        self._governed = governed
        self._report = report
        self._worker = f"{socket.gethostname()}/{os.getpid()}"
        self.count: Callable[[], int] = lambda: 1

    async def work(self, partition: int) -> None:
        """Apply one partition, and derive from it, until cancelled."""
        job = replace(self._job, partition=partition, parted=self.count() > 1)
        run = ids.nonce()
        derived: dict[str, Any] = {}

        async def told(said: dict[str, Any]) -> None:
            count = self.count()
            whole = {**said, "derive": dict(derived)} if self._facts is not None else said
            if count > 1:
                whole = {
                    **whole,
                    "partition": partition,
                    "partitions": count,
                    "worker": self._worker,
                    "run": run,
                }
            await self._report(whole)

        if self._facts is None:
            await apply.run(job, self._log, told)
            return
        facts = replace(self._facts, partition=partition)
        urgent = asyncio.Event()

        async def keep(said: dict[str, Any]) -> None:
            derived.update(said)

        async with asyncio.TaskGroup() as group:
            group.create_task(apply.run(job, self._log, told, urgent=urgent))
            group.create_task(derive.run(facts, self._governed, keep, urgent=urgent))
