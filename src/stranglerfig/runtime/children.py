"""The roles' processes: begun, begun again with backoff when they die, begun anew when that is asked, ended."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.datadir import DataDirectory
from stranglerfig.runtime.nursery import Born, Nursery
from stranglerfig.runtime.settings import Project
from stranglerfig.telemetry import metrics

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
STEADY = 3.0
"""Seconds of work after which a role's end is not the continuation of the one before: while the controller is away
after the point of no return, requests wait for it."""


@dataclass
class Child:
    """A role's process, as ``fig ps`` shows it.

    Attributes:
        state: ``starting``, ``ready``, ``restarting`` or ``ended``.
        quick_ends: how often it has ended without having been ready since.
        renewed: whether its next end was asked for, so that another begins at once.
    """

    role: str
    pid: int | None = None
    restarts: int = 0
    state: str = "ended"
    since: float = 0.0
    quick_ends: int = 0
    renewed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The row of ``fig ps``."""
        return {
            "role": self.role,
            "pid": self.pid,
            "restarts": self.restarts,
            "state": self.state,
            "since": self.since,
        }


class Children:
    """The processes of one project.

    Args:
        changed: called whenever one's state is another.
    """

    def __init__(self, project: Project, data: DataDirectory, changed: Callable[[], None]) -> None:
        self._data = data
        self._changed = changed
        self._children: dict[str, Child] = {}
        self._born: dict[str, Born] = {}
        self._nursery = Nursery(project, data.log_file("nursery"))
        self._keepers: dict[str, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children.values())

    async def launch(self, roles: tuple[str, ...]) -> None:
        """Begin ``roles``, and wait until each does its work.

        Raises:
            FigError: what the first one that did not start was refused with; ``role_failed``.
        """
        for role in roles:
            self._children[role] = Child(role)
            metrics.PROCESS_RESTARTS.labels(role)
            self._data.rotate(role)
            for said in ("ready", "refused"):
                (self._data.run / f"{role}.{said}").unlink(missing_ok=True)
            self._keepers[role] = tasks.spawn(self._keep(self._children[role]), name=f"keep {role}")
        for role in roles:
            await self._settled(self._children[role], timeout=60)

    async def renew(self, roles: Iterable[str], *, timeout: float) -> None:
        """End ``roles`` and have others in their place, all at once; waits until each does its work.

        Raises:
            FigError: as :meth:`launch`; it is begun again and again all the same.
        """
        await asyncio.gather(*(self._renew(role) for role in roles))
        for role in roles:
            await self._settled(self._children[role], timeout=timeout)

    async def _renew(self, role: str) -> None:
        child, born = self._children[role], self._born.get(role)
        if born is None or born.ended.done():
            return  # it is being begun anew as it is
        child.renewed, child.quick_ends = True, 0
        await self._ask_to_end(born)

        async def another() -> bool:
            return self._born[role] is not born

        await clock.until(another, timeout=20, what=f"another {role}", at_most=0.05)

    async def _settled(self, child: Child, *, timeout: float) -> None:
        async def settled() -> bool:
            return child.state == "ready" or child.quick_ends >= 3

        await clock.until(settled, timeout=timeout, what=f"the role {child.role}", at_most=0.05)
        if child.state != "ready":
            raise self._why_not(child.role)

    def _why_not(self, role: str) -> FigError:
        if (refused := self._data.refusal(role)) is not None:
            return FigError(
                refused["code"],
                f"the role {role} does not start: {refused['message']}",
                refused["remedy"],
                **refused["context"] | {"role": role, "log": str(self._data.log_file(role))},
            )
        said, file = self._last_words(role)
        message = f"the role {role} does not start: {said}"
        return FigError("role_failed", message, f"Look at {file}.", role=role, log=str(file))

    def _last_words(self, role: str) -> tuple[str, Path]:
        """What the role's log says last, and its file; the nursery's where the role was never born."""
        for file in (self._data.log_file(role), self._data.log_file("nursery")):
            lines = file.read_text(errors="replace").strip().splitlines() if file.exists() else []
            refusals = [line.removeprefix("fig: ") for line in lines if line.startswith("fig: ")]
            if said := [*refusals[-1:], *lines[-1:]]:
                return said[0][-600:], file
        return "it has written nothing", self._data.log_file(role)

    async def _keep(self, child: Child) -> None:
        """Run a role's process again and again."""
        pause = FIRST_PAUSE
        while True:
            begun = clock.monotonic()
            was_ready = await self._once(child)
            if child.renewed:
                child.renewed = False
                continue
            child.quick_ends = 0 if was_ready else child.quick_ends + 1
            if was_ready and clock.monotonic() - begun > STEADY:
                pause = FIRST_PAUSE
            child.restarts += 1
            metrics.PROCESS_RESTARTS.labels(child.role).inc()
            self._mark(child, "restarting")
            log.warning("role ended, restarting in %.1f s", pause, extra={"action": "role_restart", "role": child.role})
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _once(self, child: Child) -> bool:
        """One life of a role's process; returns whether it was ever ready."""
        born = await self._nursery.birth(child.role, self._data.log_file(child.role))
        self._born[child.role] = born
        child.pid = born.pid
        self._mark(child, "starting")
        while not born.ended.done() and self._data.ready(child.role) != born.pid:
            await asyncio.wait([born.ended], timeout=0.02)
        if not born.ended.done():
            self._mark(child, "ready")
            await asyncio.wait([born.ended])
        return child.state == "ready"

    def _mark(self, child: Child, state: str) -> None:
        child.state, child.since = state, clock.epoch()
        metrics.PROCESS_UP.labels(child.role).set(state == "ready")
        self._changed()

    async def end(self) -> None:
        """End the roles, then Envoy, then PostgreSQL: each may still need the one after it."""
        for keeper in self._keepers.values():
            await tasks.stop(keeper)
        last = ("envoy", "postgres")
        await asyncio.gather(*(self._end_one(role) for role in self._born if role not in last))
        for role in last:
            await self._end_one(role)
        await self._nursery.close()

    async def dismiss(self, role: str) -> None:
        """End a role for which there is no work any more."""
        await tasks.stop(self._keepers.pop(role))
        await self._end_one(role)
        del self._children[role], self._born[role]
        self._changed()

    async def _end_one(self, role: str) -> None:
        born = self._born.get(role)
        if born is None:
            return
        await self._ask_to_end(born)
        self._children[role].pid = None
        self._mark(self._children[role], "ended")

    async def _ask_to_end(self, born: Born) -> None:
        for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
            if born.ended.done():
                break
            with suppress(ProcessLookupError):
                os.kill(born.pid, number)
            await asyncio.wait([born.ended], timeout=patience)
