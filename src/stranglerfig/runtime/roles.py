"""What each process of ``fig up`` does, and ``fig run ROLE`` alone: the wiring of rooms that do not know each other.

Rooms are imported inside the role that needs them, so that each process loads only what it runs.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import stranglerfig
from stranglerfig.changes.flows import Flow, Flows
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation import postgres as postgres_sessions
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Kept
from stranglerfig.runtime import logs, processes, tables
from stranglerfig.runtime.certificate import Keeper
from stranglerfig.runtime.datadir import DataDirectory, port_is_free
from stranglerfig.runtime.embedded import EmbeddedPostgres, free_port
from stranglerfig.runtime.flowing import FlowsRole, Report
from stranglerfig.runtime.rereading import Rereading
from stranglerfig.runtime.secrets import ambient
from stranglerfig.runtime.settings import Project, host_and_port, load_project
from stranglerfig.runtime.supervise import MEASURED, control_dsn, roles_of
from stranglerfig.runtime.targets import Target, file_sd, further, reached, targets
from stranglerfig.runtime.wiring import (
    broker,
    capture_job,
    checked,
    context_parts,
    derive_job,
    envoy_control,
    fence_contexts,
    open_log,
    open_registry,
    router_client,
    router_table,
    sync_job,
    traces_to,
)
from stranglerfig.telemetry import metrics, traces

log = logging.getLogger(__name__)

NEEDS_CONTROL = frozenset({"shadow", "registry", "capture", "sync", "controller", "alerts", "console"})
KillPoint = Callable[[str], None]


@dataclass(frozen=True)
class Role:
    """What a role's work is given.

    Attributes:
        kill_point: called with the name of each point at which a fault test may want this process dead.
        ready: called once the role does its work.
    """

    name: str
    project: Project
    data: DataDirectory
    ports: dict[str, int]
    kill_point: KillPoint
    ready: Callable[[], None]

    @property
    def control(self) -> str:
        """The control database's address."""
        return control_dsn(self.project)


def killer(data: Path, point: str | None) -> KillPoint:
    """A fault on demand: this process kills itself at a point.

    ``FIG_KILL_AT=POINT`` means there, once per data directory; ``FIG_KILL_AT=@FILE`` wherever the file says at that
    moment, which is then removed.
    """
    file = Path(point[1:]) if point is not None and point.startswith("@") else None

    def wanted(name: str) -> bool:
        try:
            if file is None:
                (data / f"killed-{name.replace('/', '-')}").touch(exist_ok=False)
                return True
            if file.read_text() != name:
                return False
            file.unlink()
        except (FileExistsError, FileNotFoundError):
            return False
        return True

    def reached(name: str) -> None:
        if (file is not None or name == point) and wanted(name):
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def run(name: str, directory: Path, work: Callable[[Role], None] | None = None) -> None:
    """Be the role ``name`` until SIGTERM or Ctrl-C; ``work`` is what a role does that lies above this room.

    Raises:
        FigError: what the role's start was refused with.
    """
    project = load_project(directory)
    logs.install(project.environment)
    # A supervisor that dies takes its roles with it; one that died before we could ask had us started for nothing.
    parent = project.environment.get("FIG_PARENT")
    if parent is not None and not processes.follow(int(parent)):
        return
    data = DataDirectory(project.data_directory)
    data.prepare()
    role = Role(
        name=name,
        project=project,
        data=data,
        ports=data.ports(),
        kill_point=killer(data.path, project.environment.get("FIG_KILL_AT")),
        ready=lambda: data.say_ready(name),
    )
    log.info("role begins", extra={"action": "role_begins", "role": name, "pid": os.getpid()})
    stop_metrics = _serve_metrics(role, alone=parent is None)
    metrics.BUILD.labels(stranglerfig.__version__).set(1)
    if name in MEASURED:
        traces.install(f"{project.estate.name}-{name}", traces_to(project))
    try:
        if name in NEEDS_CONTROL:
            asyncio.run(_await_control(role.control))
        (work or ROLES[name])(role)
    except FigError as error:
        data.say_refused(name, error)
        raise
    finally:
        traces.close()
        if stop_metrics is not None:
            stop_metrics()
    log.info("role ends", extra={"action": "role_ends", "role": name})


def _serve_metrics(role: Role, *, alone: bool) -> Callable[[], None] | None:
    """On the role's port; where ``fig up``'s own one of that name has it, and this one was started beside it, on a free
    one."""
    port = role.ports.get(f"metrics_{role.name}")
    if port is None:
        return None
    host = role.project.metrics_host
    if not alone or port_is_free(host, port):
        return metrics.serve(port, host)
    port = free_port()
    log.warning("metrics are on port %d: another %s has the usual one", port, role.name, extra={"action": "port"})
    stop = metrics.serve(port, host)
    here = Target(role.name, f"{reached(host)}:{port}")
    told = role.data.say_further(role.name, os.getpid(), file_sd(role.project, [here]))

    def end() -> None:
        told.unlink(missing_ok=True)
        stop()

    return end


async def _await_control(dsn: str) -> None:
    """Wait for the control database, which is started beside us, and have its tables as this version wants them.

    Raises:
        FigError: ``newer_schema``, ``upgrade_blocked``.
    """

    async def there() -> bool:
        try:
            async with postgres_sessions.session(dsn, what="up"):
                return True
        except FigError:
            return False

    await clock.until(there, timeout=30, what="the control database", at_most=0.1)
    await tables.bring_forward(dsn)


def collect_rarely() -> None:
    """Look for cycles a hundred times less often than Python would: for a process whose many objects make none.

    A change is some ten objects that all live until its batch is in; looking at them again and again was half of what
    capture and sync cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(70_000, 20, 100)


def serve(role: Role, work: Awaitable[None], *, fast: bool = False) -> None:
    """Run ``work`` on an event loop of its own; uvloop where throughput or latency counts."""
    factory = None
    if fast:
        import uvloop

        factory = uvloop.new_event_loop
        collect_rarely()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(tasks.until_signal(work))


def postgres(role: Role) -> None:
    """Be the parent of the embedded control PostgreSQL; ends (and is restarted) when the server ends."""
    server = EmbeddedPostgres(role.data.path / "postgres", port=role.ports.get("control", 0), die_with_parent=True)
    asked = False

    def stop(*_: object) -> None:
        nonlocal asked
        asked = True

    # No event loop: the kernel's signal at our death is bound to the thread that starts the server, the main one.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        server.start()
        server.create_database("fig")
        role.ready()
        while server.alive() and not asked:
            clock.block(0.05)
        if not asked:
            raise FigError(
                "embedded_postgres_failed",
                "the control PostgreSQL has ended; it is started again",
                f"Look at {server.log_file} if it happens again.",
            )
    finally:
        server.stop()


def envoy(role: Role) -> None:
    """Be the parent of Envoy; ends (and is restarted) when it ends. Its tables are in files and survive it."""
    settings = role.project.estate.facade
    control = envoy_control(role.project, role.ports)
    keeper = Keeper(role.project, control.certificate_file)
    keeper.look()
    control.prepare(
        [],
        listen=settings.listen,
        max_header_kb=settings.max_header_kb,
        traces=traces_to(role.project),
        service=f"{role.project.estate.name}-facade",
        tls=settings.tls is not None,
        keep=True,
    )
    # Started from the main thread, before any other exists: see processes.die_with_parent.
    process = subprocess.Popen(  # noqa: S603
        control.command(envoy=settings.envoy, workers=settings.workers),
        stdin=subprocess.DEVNULL,
        env=ambient(role.project.environment),
        start_new_session=True,
        preexec_fn=processes.die_with_parent(signal.SIGTERM),
    )

    async def watch() -> None:
        try:
            said = False
            looked = clock.monotonic()
            while process.poll() is None:
                if clock.monotonic() - looked > 1:
                    await asyncio.to_thread(keeper.look)
                    looked = clock.monotonic()
                if not said and await control.ready():
                    role.ready()
                    said = True
                await asyncio.sleep(0.05)
        finally:
            await control.close()
        raise FigError(
            "envoy_ended",
            f"Envoy has ended with status {process.returncode}; it is started again",
            f"Look at {control.log_file} if it happens again.",
        )

    try:
        serve(role, watch())
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def fence(role: Role) -> None:
    """The fence server: holds writes during a cut-over."""
    from stranglerfig.facade.fence import serve_fence

    contexts = fence_contexts(role.project, role.project.extractions.values())
    serve(role, serve_fence("127.0.0.1", role.ports["fence"], contexts, ready=role.ready), fast=True)


def router(role: Role) -> None:
    """The router: leads messages of the inbound queues to the monolith or the service."""
    from stranglerfig.facade.messages import plans
    from stranglerfig.facade.routing_server import MessageRouter, serve_router

    project = role.project
    url, settings = broker(project)
    queued = [each for each in project.extractions.values() if each.queues]

    async def work() -> None:
        found = MessageRouter(
            plans((each.context, each.routes, each.queues) for each in queued),
            fence_contexts(project, queued),
            url,
            router_table(project),
            nodes=settings.metrics,
            impersonator="impersonator" in settings.tags,
        )
        await serve_router("127.0.0.1", role.ports["router"], found, ready=role.ready)

    serve(role, work(), fast=True)


def controller(role: Role) -> None:
    """Stages, gates, cut-overs: what acts on commands."""
    from stranglerfig.extraction.controller import run as control
    from stranglerfig.extraction.parts import Parts
    from stranglerfig.facade.fence import FenceClient

    project = role.project

    async def work() -> None:
        log_ = open_log(project)
        flows = Flows(role.control, keep=True)
        envoy = envoy_control(project, role.ports)
        client = FenceClient(f"http://127.0.0.1:{role.ports['fence']}")
        registry = open_registry(project)
        messages = router_client(project, role.ports)
        parts = Parts(
            name=project.estate.name,
            project=project.directory,
            data=role.data.path,
            control_dsn=role.control,
            monolith_url=project.estate.monolith.url,
            monolith_dsn=project.reveal(project.estate.monolith.database),
            contexts=context_parts(project),
            log=log_,
            registry=registry,
            flows=flows,
            envoy=envoy,
            fence=client,
            changed=Rereading(project),
            router=messages,
            access=project.estate.access is not None,
            policy=project.estate.policy,
            services={name: project.reveal(each) for name, each in project.estate.services.items()},
            quiet=project.estate.facade.quiet,
            kill_point=role.kill_point,
        )
        try:
            await log_.migrate()
            # A second controller waits for the first to go: it is at its work as well.
            role.ready()
            await control(parts)
        finally:
            await registry.close()
            await client.close()
            if messages is not None:
                await messages.close()
            await flows.close()
            await envoy.close()
            await log_.close()

    serve(role, work())


def shadow(role: Role) -> None:
    """The comparator: asks the other side what was read, and compares the answers."""
    from stranglerfig.verification.shadow import ShadowContext, ShadowServer, serve_shadow

    contexts = [
        ShadowContext(
            settings.context,
            role.project.estate.monolith.url,
            settings.service.addresses,
            settings.shadow,
            role.project.monolith_trust,
            settings.service.trust,
        )
        for settings in role.project.extractions.values()
    ]
    changed = Rereading(role.project)

    async def follow(server: ShadowServer) -> None:
        while True:
            for name, found in (await asyncio.to_thread(changed)).items():
                if not isinstance(found, FigError):
                    server.lead_to(name, found.service.addresses, found.service.trust)
            await asyncio.sleep(1.0)

    work = serve_shadow("127.0.0.1", role.ports["shadow"], contexts, role.control, ready=role.ready, beside=follow)
    serve(role, work, fast=True)


def registry(role: Role) -> None:
    """The schema registry's server."""
    from stranglerfig.schemas.server import serve_registry

    listen = role.project.estate.schemas.listen
    host, port = ("127.0.0.1", role.ports["registry"]) if listen is None else host_and_port(listen)
    serve(role, serve_registry(host, port, role.control, ready=lambda _: role.ready()))


def capture(role: Role) -> None:
    """Changes out of the databases into the log, for every flow that is wanted."""
    from stranglerfig.capture.capture import run as run_capture

    async def work() -> None:
        log_ = open_log(role.project)
        schemas = open_registry(role.project)
        flows = Flows(role.control, keep=True)
        try:
            await log_.migrate()
            await flows.migrate()
            contexts = context_parts(role.project)
            governed = checked(log_, schemas)

            async def one(flow: Flow, report: Report) -> None:
                await run_capture(await capture_job(role.project, contexts, flow, role.control), governed, report)

            await FlowsRole(flows, "capture", one).run(role.ready)
        finally:
            await schemas.close()
            await flows.close()
            await log_.close()

    serve(role, work(), fast=True)


def sync(role: Role) -> None:
    """Changes out of the log into the databases, and events derived from them, for every flow that is wanted."""
    from stranglerfig.eventlog.leases import Leases
    from stranglerfig.runtime.partitions import Partitions
    from stranglerfig.sync.workers import Share

    async def work() -> None:
        log_ = open_log(role.project)
        schemas = open_registry(role.project)
        flows = Flows(role.control, keep=True)
        leases = Kept(role.control, what="sync leases")
        contexts = context_parts(role.project)
        governed = checked(log_, schemas)

        async def one(flow: Flow, report: Report) -> None:
            job = await sync_job(role.project, contexts, flow, role.control)
            facts = derive_job(role.project, contexts, flow, role.control)
            partitions = Partitions(job, facts, log_, governed, report)
            share = Share(log_, job.topic, Leases(leases.session, "sync"), partitions.work)
            partitions.count = lambda: share.partitions
            await share.run()

        try:
            await log_.migrate()
            await flows.migrate()
            await FlowsRole(flows, "sync", one).run(role.ready)
        finally:
            await schemas.close()
            await flows.close()
            await leases.close()
            await log_.close()

    serve(role, work(), fast=True)


def alerts(role: Role) -> None:
    """Judges the metrics of all processes, and tells a webhook what fires."""
    from stranglerfig.runtime.alerting import Alerting, Book

    project, webhook = role.project, role.project.estate.alerts.webhook
    if webhook is None:
        raise FigError(
            "no_webhook", "fig.yaml names no webhook to be told of alerts", "Write alerts: {webhook: {env: NAME}}."
        )
    told = Alerting(
        project.estate.name,
        lambda: [*targets(project, role.ports, roles_of(project)), *further(role.data.path)],
        project.webhook(webhook),
        Book(role.control),
    )
    serve(role, told.run(role.ready))


ROLES: dict[str, Callable[[Role], None]] = {
    "postgres": postgres,
    "envoy": envoy,
    "fence": fence,
    "shadow": shadow,
    "registry": registry,
    "router": router,
    "capture": capture,
    "sync": sync,
    "controller": controller,
    "alerts": alerts,
}
