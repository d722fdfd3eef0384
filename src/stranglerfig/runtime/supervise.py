"""``fig up``: a process per role, each restarted with backoff when it dies, all ended in order, none left behind.

Every child runs in a session of its own (so that a terminal's Ctrl-C reaches only us) and asks the kernel to be ended
with us. A role is ready when it says so in ``run/<role>.ready``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

import stranglerfig
from stranglerfig.changes.flows import Flows
from stranglerfig.databases import sides
from stranglerfig.eventlog import describe
from stranglerfig.extraction.turns import between_cut_overs
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import certificate, expiry, processes
from stranglerfig.runtime.children import Children
from stranglerfig.runtime.datadir import PORTS, DataDirectory, port_is_free
from stranglerfig.runtime.places import control_dsn, registry_url
from stranglerfig.runtime.renewal import Renewal
from stranglerfig.runtime.settings import Project, host_and_port
from stranglerfig.runtime.targets import file_sd, reached, targets
from stranglerfig.telemetry import metrics

log = logging.getLogger(__name__)

ROLES = ("fence", "shadow", "envoy", "registry", "capture", "sync", "controller", "console")
MEASURED = ("up", "fence", "shadow", "router", "registry", "capture", "sync", "controller", "alerts", "console")
RENEWED = ("fence", "router", "shadow", "capture", "sync", "alerts", "console")
"""Who knows the contexts, but for the controller: it speaks to the others, and comes after them."""
LOOK_EVERY = 1.0
"""Seconds between two looks at the files."""


def roles_of(project: Project) -> tuple[str, ...]:
    """The roles that ``project`` wants: the router only where a context takes commands from a queue; no registry of
    ours where another is named, for it would only be a second truth; alerts are judged where a webhook is told."""
    queues = any(settings.queues for settings in project.extractions.values())
    theirs = project.estate.schemas.url is not None
    wanted = tuple(role for role in ROLES if not (theirs and role == "registry"))
    alerts = ("alerts",) if project.estate.alerts.webhook is not None else ()
    return (*(("router",) if queues else ()), *wanted, *alerts)


class Supervisor:
    """Runs the roles of a project until it is told to stop."""

    def __init__(self, project: Project, data: DataDirectory) -> None:
        self._project = project
        self._data = data
        self._roles = roles_of(project)
        self._children = Children(project, data, self._say)
        self._renewal = Renewal(project)
        self._told: FigError | None = None
        self._taken_up: float | None = None
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
        beside: list[asyncio.Task[None]] = []
        try:
            await asyncio.wait([stopped, started], return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                return
            if (failure := started.result()) is not None:
                raise failure
            self._ready = True
            self._say()
            ready(clock.monotonic() - self._begun)
            for name, work in (("extraction.yaml", self._follow), ("certificates", self._expiries)):
                beside.append(tasks.spawn(tasks.supervise(work, name=name), name=name))
            await stop.wait()
        finally:
            for task in beside:
                await tasks.stop(task)
            await tasks.stop(stopped)
            await tasks.stop(started)
            await self._children.end()
            self._ready = False
            self._say()
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
            await self._children.launch(("postgres", *self._roles))
        else:
            async with postgres.session(control_dsn(self._project, self._ports), what="up"):
                pass
            await self._children.launch(self._roles)

    def _say(self) -> None:
        self._data.say(
            {
                "pid": os.getpid(),
                "started_at": self._started_at,
                "ready": self._ready,
                "addresses": self.addresses,
                "roles": [child.as_dict() for child in self._children],
                "taken_up": self._taken_up,
                "refused": None if self._told is None else self._told.as_dict(),
            }
        )

    async def _follow(self) -> None:
        """Start the processes anew whenever an ``extraction.yaml`` says something new, between two cut-overs."""
        renewal = self._renewal
        control = control_dsn(self._project, self._ports)
        flows = Flows(control, keep=True)

        async def streaming() -> set[str]:
            return {flow.context for flow in await flows.all() if flow.capture_on or flow.sync_on}

        try:
            while True:
                await asyncio.sleep(LOOK_EVERY)
                found = await renewal.look(streaming)
                self._tell(renewal.refused)
                if found is None:
                    continue
                async with between_cut_overs(control) as free:
                    if free:
                        await self._renew(found)
        finally:
            await flows.close()

    async def _expiries(self) -> None:
        """Say how long each certificate is valid still."""
        shown: set[str] = set()
        while True:
            found = await asyncio.to_thread(expiry.left, self._project)
            for name in shown - found.keys():
                metrics.CERTIFICATE_LEFT.remove(name)
            for name, seconds in found.items():
                metrics.CERTIFICATE_LEFT.labels(name).set(seconds)
            shown = set(found)
            await asyncio.sleep(expiry.EVERY)

    async def _renew(self, project: Project) -> None:
        """Run ``project`` instead: what knows the contexts is begun anew, the controller last; Envoy stays."""
        log.warning("extraction.yaml is taken up", extra={"action": "taken_up", "contexts": [*project.extractions]})
        self._project = project
        wanted = roles_of(project)
        new = tuple(role for role in wanted if role not in self._roles)
        gone, self._roles = [role for role in self._roles if role not in wanted], wanted
        self._data.say_targets(file_sd(project, targets(project, self._ports, wanted)))
        failed = None
        try:
            for role in gone:
                await self._children.dismiss(role)
            await self._children.renew([role for role in RENEWED if role in wanted and role not in new], timeout=20)
            await self._children.launch(new)
            await self._children.renew(["controller"], timeout=20)
        except FigError as error:
            log.warning("with the new extraction.yaml: %s", error, extra={"action": "refused"})
            failed = error
        self._renewal.taken(project, failed)
        self._taken_up, self._told = clock.epoch(), failed
        self._say()

    def _tell(self, refused: FigError | None) -> None:
        if refused == self._told:
            return
        self._told = refused
        if refused is not None:
            log.warning("extraction.yaml is not in force: %s", refused, extra={"action": "refused"})
        self._say()

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
