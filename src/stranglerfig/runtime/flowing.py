"""Capture and sync as roles: what the control database wants is started, what it no longer wants is stopped.

A flow that fails says so in its report and is tried again with backoff; others are not touched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple

from stranglerfig.changes.flows import SILENT, Flow, Flows
from stranglerfig.changes.merging import Said, merged, rank
from stranglerfig.changes.model import Direction
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.telemetry import metrics

log = logging.getLogger(__name__)

Part = Literal["capture", "sync"]
Report = Callable[[dict[str, Any]], Awaitable[None]]
LOOK = 0.5


class Wanted(NamedTuple):
    """A flow as it shall run; another value means that it is started anew."""

    context: str
    direction: Direction
    snapshot: bool
    generation: int


class FlowsRole:
    """Runs ``work(flow, report)`` for each flow that is wanted of ``part``."""

    def __init__(self, flows: Flows, part: Part, work: Callable[[Flow, Report], Awaitable[None]]) -> None:
        self._flows = flows
        self._part = part
        self._work = work
        self._running: dict[Wanted, asyncio.Task[None]] = {}
        self._states: dict[tuple[str, str], str] = {}
        self._parts: dict[tuple[str, str], dict[int, Said]] = {}

    async def run(self, ready: Callable[[], None]) -> None:
        """Look every ``LOOK`` seconds until cancelled. While the control database is away, what runs goes on."""
        said = False
        try:
            while True:
                try:
                    await self._look()
                    if not said:
                        ready()
                        said = True
                except FigError as error:
                    log.warning("the wanted flows cannot be read: %s", error, extra={"action": "flows_unread"})
                await asyncio.sleep(LOOK)
        finally:
            await asyncio.gather(*(tasks.stop(task) for task in self._running.values()))

    async def _look(self) -> None:
        flows = {
            Wanted(flow.context, flow.direction, flow.snapshot, flow.generation): flow
            for flow in await self._flows.all()
            if (flow.capture_on if self._part == "capture" else flow.sync_on)
        }
        for wanted in [wanted for wanted in self._running if wanted not in flows or self._running[wanted].done()]:
            await tasks.stop(self._running.pop(wanted))
            self._forget(wanted)
            log.info("flow stopped", extra={"action": "flow_stopped", **_named(wanted)})
        for wanted, flow in flows.items():
            if wanted not in self._running:
                log.info("flow started", extra={"action": "flow_started", **_named(wanted)})
                self._running[wanted] = tasks.spawn(
                    tasks.supervise(
                        lambda flow=flow: self._work(flow, self._reporter(flow)),  # type: ignore[misc]
                        name=f"{self._part} {flow.context} {flow.direction}",
                        failed=lambda error, flow=flow: self._failed(flow, error),  # type: ignore[misc]
                    ),
                    name=f"{self._part} {flow.context} {flow.direction}",
                )

    def _reporter(self, flow: Flow) -> Report:
        async def report(said: dict[str, Any]) -> None:
            self._measure(flow, said)
            try:
                if "partition" in said:
                    place = (flow.context, flow.direction, int(said["partition"]), str(said["worker"]))
                    await self._flows.report_part(*place, said)
                else:
                    await self._flows.report(flow.context, flow.direction, self._part, said)
            except FigError as error:
                # A report is for people: a control database that is away must not stop the flow.
                log.warning("the report is lost: %s", error, extra={"action": "report_lost"})

        return report

    def _measure(self, flow: Flow, said: dict[str, Any]) -> None:
        """Tell the metrics; of several partitions, what those of this process come to."""
        key = (flow.context, flow.direction.value)
        source = f"{said.get('partition', '')}/{said.get('run', '')}"
        metrics.counted(*key, self._part, said, source=source)
        if "partition" in said:
            own = self._parts.setdefault(key, {})
            own[int(said["partition"])] = Said(str(said["worker"]), said, clock.now())
            # A partition that went to another process is not ours to tell of.
            oldest = clock.now() - SILENT
            self._parts[key] = own = {number: part for number, part in own.items() if part.at > oldest}
            said, _ = merged({number: part for number, (_, part) in enumerate(sorted(own.items()))})
            said["state"] = min((str(part.report.get("state")) for part in own.values()), key=rank)
        state = str(said.get("state", "running"))
        if self._states.get(key) != state:
            metrics.state(*key, self._part, state, self._states.get(key))
            self._states[key] = state
        metrics.flow(*key, self._part, said)

    def _forget(self, wanted: Wanted) -> None:
        """What is no longer wanted is told of no longer."""
        key = (wanted.context, wanted.direction.value)
        metrics.forget(*key, self._part)
        self._states.pop(key, None)
        self._parts.pop(key, None)

    async def _failed(self, flow: Flow, error: Exception) -> None:
        told = error if isinstance(error, FigError) else FigError("unexpected", f"{type(error).__name__}: {error}")
        await self._reporter(flow)({"state": "failed", "error": told.as_dict()})


def _named(wanted: Wanted) -> dict[str, Any]:
    return {"context": wanted.context, "direction": wanted.direction.value}
