"""``fig up``: a process per role, each restarted with backoff when it dies, all ended in order, none left behind.

Every child runs in a session of its own (so that a terminal's Ctrl-C reaches only us) and asks the kernel to be ended
with us. A role is ready when it says so in ``run/<role>.ready``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stranglerfig
from stranglerfig.databases import sides
from stranglerfig.eventlog import describe
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import certificate, processes
from stranglerfig.runtime.datadir import PORTS, DataDirectory, port_is_free
from stranglerfig.runtime.nursery import Born, Nursery
from stranglerfig.runtime.settings import Project, host_and_port
from stranglerfig.runtime.targets import file_sd, reached, targets
from stranglerfig.telemetry import metrics

log = logging.getLogger(__name__)

ROLES = ("fence", "shadow", "envoy", "registry", "capture", "sync", "controller", "console")
MEASURED = ("up", "fence", "shadow", "router", "registry", "capture", "sync", "controller", "alerts", "console")
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
STEADY = 3.0
"""Seconds of work after which a role's end is not the continuation of the one before: while the controller is away
after the point of no return, requests wait for it."""


def roles_of(project: Project) -> tuple[str, ...]:
    """The roles that ``project`` wants: the router only where a context takes commands from a queue; no registry of
    ours where another is named, for it would only be a second truth; alerts are judged where a webhook is told."""
    queues = any(settings.queues for settings in project.extractions.values())
    theirs = project.estate.schemas.url is not None
    wanted = tuple(role for role in ROLES if not (theirs and role == "registry"))
    alerts = ("alerts",) if project.estate.alerts.webhook is not None else ()
    return (*(("router",) if queues else ()), *wanted, *alerts)


@dataclass
class Child:
    """A role's process, as ``fig ps`` shows it.

    Attributes:
        state: ``starting``, ``ready``, ``restarting`` or ``ended``.
        quick_ends: how often it has ended without having been ready since.
    """

    role: str
    pid: int | None = None
    restarts: int = 0
    state: str = "ended"
    since: float = 0.0
    quick_ends: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The row of ``fig ps``."""
        return {
            "role": self.role,
            "pid": self.pid,
            "restarts": self.restarts,
            "state": self.state,
            "since": self.since,
        }


class Supervisor:
    """Runs ``roles`` of a project until it is told to stop."""

    def __init__(self, project: Project, data: DataDirectory, roles: tuple[str, ...] | None = None) -> None:
        self._project = project
        self._data = data
        self._roles = roles_of(project) if roles is None else roles
        self._children: dict[str, Child] = {}
        self._born: dict[str, Born] = {}
        self._nursery = Nursery(project, data.log_file("nursery"))
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._ports: dict[str, int] = {}
        self._begun = clock.monotonic()
        self._started_at = clock.epoch()
        self._ready = False

    @property
    def embedded(self) -> bool:
        """Whether the control database is ours."""
        return self._project.estate.control is None

    @property
    def addresses(self) -> dict[str, str]:
        """What was started, and where it answers; without passwords."""
        host, port = self._project.estate.listen
        control = control_dsn(self._project, self._ports)
        scheme = "http" if self._project.estate.facade.tls is None else "https"
        found = {"façade": f"{scheme}://{host}:{port}"}
        if "envoy" in self._roles:
            found["envoy admin"] = f"http://127.0.0.1:{self._ports['envoy_admin']}"
        found["control database"] = control if self.embedded else postgres.describe(control)
        log = self._project.log_url
        found["log"] = found["control database"] if log is None else describe(log)
        if (registry := registry_url(self._project, self._ports)) is not None:
            found["schema registry"] = registry
        if "console" in self._roles:
            found["console"] = f"http://127.0.0.1:{self._ports['console']}/"
        for role in ("up", *self._roles):
            if role in MEASURED:
                host = reached(self._project.metrics_host)
                found[f"metrics of {role}"] = f"http://{host}:{self._ports[f'metrics_{role}']}/metrics"
        found["logs"] = str(self._data.logs)
        return found

    async def run(self, *, stop: asyncio.Event, ready: Callable[[float], None], check: bool = True) -> None:
        """Start everything, call ``ready`` with the seconds it took, wait for ``stop``, end everything.

        The data directory must be prepared and locked by the caller.

        Raises:
            FigError: ``port_in_use``, ``database_unreachable``, ``role_failed``, ``secret_missing``, …
        """
        await self._clear_leftovers()
        self._check_listen()
        certificate.load(self._project)
        _check_authorities(self._project)
        estate = self._project.estate
        listens = [estate.listen] + ([host_and_port(estate.schemas.listen)] if estate.schemas.listen else [])
        self._ports = self._data.choose_ports(
            (*PORTS, *(f"metrics_{role}" for role in MEASURED)),
            configured=[port for _, port in listens],
            fixed=self._project.metrics_ports(MEASURED),
        )
        self._data.say_targets(file_sd(self._project, targets(self._project, self._ports, self._roles)))
        if check:
            await self._check_monolith()
        stop_metrics = metrics.serve(self._ports["metrics_up"], self._project.metrics_host)
        metrics.BUILD.labels(stranglerfig.__version__).set(1)
        stopped = tasks.spawn(stop.wait(), name="stop asked")
        started = tasks.spawn(self._try_start(), name="start")
        try:
            await asyncio.wait([stopped, started], return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                return
            if (failure := started.result()) is not None:
                raise failure
            self._ready = True
            self._say()
            ready(clock.monotonic() - self._begun)
            await stop.wait()
        finally:
            await tasks.stop(stopped)
            await tasks.stop(started)
            await self._end()
            stop_metrics()

    async def _try_start(self) -> FigError | None:
        try:
            await self._start()
        except FigError as error:
            return error
        return None

    async def _start(self) -> None:
        # All at once: the roles load their programs while PostgreSQL starts, and wait for it by themselves.
        if self.embedded:
            await self._launch(("postgres", *self._roles))
        else:
            async with postgres.session(control_dsn(self._project, self._ports), what="up"):
                pass
            await self._launch(self._roles)

    async def _launch(self, roles: tuple[str, ...]) -> None:
        for role in roles:
            self._children[role] = Child(role)
            metrics.PROCESS_RESTARTS.labels(role)
            self._data.rotate(role)
            for said in ("ready", "refused"):
                (self._data.run / f"{role}.{said}").unlink(missing_ok=True)
            self._keepers[role] = tasks.spawn(self._keep(self._children[role]), name=f"keep {role}")
        for role in roles:
            child = self._children[role]

            async def settled(child: Child = child) -> bool:
                return child.state == "ready" or child.quick_ends >= 3

            await clock.until(settled, timeout=60, what=f"the role {role}", at_most=0.05)
            if child.state != "ready":
                raise self._why_not(role)

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
        self._say()

    def _say(self) -> None:
        self._data.say(
            {
                "pid": os.getpid(),
                "started_at": self._started_at,
                "ready": self._ready,
                "addresses": self.addresses,
                "roles": [child.as_dict() for child in self._children.values()],
            }
        )

    async def _end(self) -> None:
        """End the roles, then Envoy, then PostgreSQL: each may still need the one after it."""
        for keeper in self._keepers.values():
            await tasks.stop(keeper)
        last = ("envoy", "postgres")
        await asyncio.gather(*(self._end_one(role) for role in self._born if role not in last))
        for role in last:
            await self._end_one(role)
        await self._nursery.close()
        self._ready = False
        self._say()

    async def _end_one(self, role: str) -> None:
        born = self._born.get(role)
        if born is None:
            return
        for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
            if born.ended.done():
                break
            with suppress(ProcessLookupError):
                os.kill(born.pid, number)
            await asyncio.wait([born.ended], timeout=patience)
        self._children[role].pid = None
        self._mark(self._children[role], "ended")

    async def _clear_leftovers(self) -> None:
        """Wait for the children of a killed predecessor: the kernel has told them to end, they may need a moment."""
        for row in self._data.state().get("roles", []):
            pid = row.get("pid")
            # Envoy is started with the data directory's file in its command line, our own roles with the project.
            words = processes.command_line(pid) if pid else ""
            if str(self._project.directory) in words or str(self._data.path) in words:
                await asyncio.to_thread(processes.end, pid)

    def _check_listen(self) -> None:
        host, port = self._project.estate.listen
        if not port_is_free(host, port):
            raise FigError(
                "port_in_use",
                f"the façade cannot listen on {host}:{port} (facade.listen in fig.yaml): the port is taken",
                "End what listens there, or choose another port for facade.listen.",
                port=port,
                host=host,
            )

    async def _check_monolith(self) -> None:
        dsn = self._project.reveal(self._project.estate.monolith.database)
        async with sides.session(dsn, what="up"):
            pass


def _check_authorities(project: Project) -> None:
    trusts = {"monolith.tls.ca": project.monolith_trust}
    trusts |= {f"service.tls.ca of {name}": found.service.trust for name, found in project.extractions.items()}
    for key, trust in trusts.items():
        if trust.ca is None:
            continue
        try:
            trust.client()
        except OSError as error:  # ssl.SSLError is one
            raise FigError(
                "bad_certificate",
                f"{trust.ca}, which {key} names, holds no authority's certificate: {error.strerror or error}",
                "Write the certificates of the authorities there in PEM.",
                file=trust.ca,
            ) from error


def control_dsn(project: Project, ports: dict[str, int] | None = None) -> str:
    """The address of the control database.

    Raises:
        FigError: ``not_running`` when it is embedded and was never started.
    """
    if project.estate.control is not None:
        return project.reveal(project.estate.control)
    port = (DataDirectory(project.data_directory).ports() if ports is None else ports).get("control")
    if port is None:
        raise FigError(
            "not_running",
            f"fig has not been started on {project.data_directory}",
            "Start it: fig up (or fig up --detach).",
            directory=str(project.data_directory),
        )
    return f"postgresql://postgres@127.0.0.1:{port}/fig"


def registry_url(project: Project, ports: dict[str, int]) -> str | None:
    """Where schemas are registered, or None when ours has no port yet."""
    named = project.estate.schemas
    if named.url is not None:
        return named.url
    if named.listen is not None:
        return f"http://{named.listen}"
    return f"http://127.0.0.1:{ports['registry']}" if "registry" in ports else None
