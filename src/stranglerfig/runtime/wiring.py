"""How the parts that several processes need are made from a project: the log, the façade's estate, where traces go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

from stranglerfig.changes.flows import Flow
from stranglerfig.changes.model import Direction, names
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.places import control_dsn
from stranglerfig.runtime.services import databases
from stranglerfig.runtime.settings import Project
from stranglerfig.telemetry.model import Destination
from stranglerfig.telemetry.traces import destination

if TYPE_CHECKING:
    from stranglerfig.capture.capture import CaptureJob
    from stranglerfig.capture.debezium import Through
    from stranglerfig.changes.spread import Spread
    from stranglerfig.eventlog.ports import EventLog
    from stranglerfig.extraction.parts import ContextParts
    from stranglerfig.extraction.settings import ExtractionSettings
    from stranglerfig.facade.envoy import EnvoyControl
    from stranglerfig.facade.fence import FenceContext
    from stranglerfig.facade.queues import BrokerSettings
    from stranglerfig.facade.routing_client import RouterClient
    from stranglerfig.schemas.ports import Registry
    from stranglerfig.sync.derive import DeriveJob
    from stranglerfig.sync.target import SyncJob


def envoy_control(project: Project, ports: Mapping[str, int]) -> EnvoyControl:
    """The façade's Envoy, in the data directory."""
    from stranglerfig.facade.envoy import EnvoyControl
    from stranglerfig.facade.model import Estate

    estate = Estate(
        monolith_url=project.estate.monolith.url,
        fence_url=f"http://127.0.0.1:{ports['fence']}",
        shadow_url=f"http://127.0.0.1:{ports['shadow']}",
        upstream_idle=project.estate.facade.upstream_idle,
        monolith_trust=project.monolith_trust,
    )
    admin = project.estate.facade.admin or f"127.0.0.1:{ports['envoy_admin']}"
    return EnvoyControl(project.data_directory / "envoy", admin, estate)


def broker(project: Project) -> tuple[str, BrokerSettings]:
    """The message broker's address and settings.

    Raises:
        FigError: ``no_broker``, ``secret_missing``, ``bad_address``.
    """
    settings = project.estate.broker
    if settings is None:
        raise FigError(
            "no_broker",
            "a context takes commands from a queue, and fig.yaml names no broker",
            "Write broker: {url: {env: NAME}, metrics: [http://host:15692]} into fig.yaml.",
        )
    return project.reveal(settings.url), settings


def router_table(project: Project) -> Path:
    """The file from which the router has its table."""
    return project.data_directory / "router" / "table.json"


def router_client(project: Project, ports: Mapping[str, int]) -> RouterClient | None:
    """How the controller speaks to the router; None where no context takes commands from a queue."""
    if not any(settings.queues for settings in project.extractions.values()):
        return None
    from stranglerfig.facade.routing_client import RouterClient

    _, settings = broker(project)
    return RouterClient(f"http://127.0.0.1:{ports['router']}", router_table(project), settings.metrics)


def fence_contexts(project: Project, settings: Iterable[ExtractionSettings]) -> list[FenceContext]:
    """What a fence knows of each context, for those who hold its writes back: the fence server and the router."""
    from stranglerfig.facade.fence import FenceContext

    return [
        FenceContext(
            context=each.context,
            routes=each.routes,
            monolith_dsn=project.reveal(project.estate.monolith.database),
            service_dsn=project.reveal(each.service.database),
            settings=each.facade.fence,
        )
        for each in settings
    ]


def traces_to(project: Project) -> Destination | None:
    """Where traces go: the environment's word comes before the file's."""
    settings = project.estate.telemetry
    if project.environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    return destination(project.environment, sampling=settings.sampling) or settings.destination


def open_log(project: Project) -> EventLog:
    """The event log that ``fig.yaml`` names; call inside the loop that uses it.

    What is ours alone (what capture remembers, the history of extractions, refusals) stays in the control database:
    it is small, and may not expire when a log keeps its events for a while only.
    """
    from stranglerfig.eventlog import open_log as open_at
    from stranglerfig.eventlog.model import Capability, require
    from stranglerfig.eventlog.postgres import PostgresLog
    from stranglerfig.eventlog.through import RoutedLog

    control = control_dsn(project)
    if (url := project.log_url) is None:
        return PostgresLog(control)
    estate = open_at(url, state=control)
    for wanted in (Capability.ORDERED_PER_KEY, Capability.REPLAY_FROM_POSITION):
        require(estate.capabilities, wanted, log=url.partition(":")[0], what="moving a context")
    return RoutedLog(estate, PostgresLog(control), ours=is_ours)


def is_ours(topic: str) -> bool:
    """Whether a topic holds neither changes nor business events."""
    return topic.startswith("fig.") and not topic.startswith("fig.changes.")


def open_registry(project: Project) -> Registry:
    """The schema registry that ``fig.yaml`` names: ours in the control database, or another one by its URL."""
    named = project.estate.schemas
    if named.url is None:
        from stranglerfig.schemas.store import SchemaStore

        return SchemaStore(control_dsn(project))
    from stranglerfig.schemas.remote import RemoteRegistry

    return RemoteRegistry(named.url, None if named.credentials is None else project.secret(named.credentials))


def checked(log: EventLog, registry: Registry) -> EventLog:
    """The log as producers see it: an event on ``events.<context>`` that is not as its schema says is refused."""
    from stranglerfig.schemas.checked import CheckedLog

    return CheckedLog(log, registry, governed=is_governed)


def is_governed(topic: str) -> bool:
    """Whether a topic holds business events, which are as their schemas say."""
    return topic.startswith("events.")


def context_parts(project: Project) -> dict[str, ContextParts]:
    """Each context with its folder and its service's database, by name."""
    from stranglerfig.extraction.parts import ContextParts

    return {
        name: ContextParts(
            settings,
            project.folder(name),
            project.reveal(settings.service.database),
            through(project) if settings.capture == "debezium" else None,
            sagas=saga_database(project, name, settings),
        )
        for name, settings in project.extractions.items()
    }


def saga_database(project: Project, context: str, settings: ExtractionSettings) -> str:
    """The DSN of the database whose sagas the context's gate looks at.

    Raises:
        FigError: ``unknown_service``.
    """
    wanted = settings.gates.writes.saga_success
    name = context if wanted is None or wanted.service is None else wanted.service
    return project.reveal(settings.service.database) if name == context else databases(project, name)[name]


def through(project: Project) -> Through | None:
    """The Kafka Connect that ``fig.yaml`` names, or None."""
    from stranglerfig.capture.debezium import Through

    connect = project.estate.connect
    if connect is None:
        return None
    told = {Direction.FORWARD: connect.passwords.monolith, Direction.REVERSE: connect.passwords.service}
    return Through(
        connect.url,
        connect.kafka,
        project.kafka_client(),
        {direction: reference for direction, reference in told.items() if reference is not None},
    )


def _wanted(contexts: Mapping[str, ContextParts], flow: Flow) -> ContextParts:
    found = contexts.get(flow.context)
    if found is None:
        raise FigError(
            "unknown_context",
            f"a flow of '{flow.context}' is wanted, but no extraction.yaml has this context",
            "Put its extraction.yaml back and restart fig, or abort the extraction.",
            context=flow.context,
        )
    return found


async def capture_job(project: Project, contexts: Mapping[str, ContextParts], flow: Flow, control: str) -> CaptureJob:
    """What capture reads for a flow: the monolith's tables, or the service's with its outbox.

    Once the monolith's tables are dropped nobody needs the service's rows any more: its outbox stays.
    """
    from stranglerfig.capture.capture import CaptureJob
    from stranglerfig.capture.job import Pace

    found = _wanted(contexts, flow)
    forward = flow.direction is Direction.FORWARD
    done = await _extraction(control, flow.context, "stage = 'done'")
    spread = await forward_spread(project, found, control) if forward else None
    return CaptureJob(
        pace=Pace(linger=project.estate.linger / 1000),
        context=flow.context,
        direction=flow.direction,
        dsn=project.reveal(project.estate.monolith.database) if forward else found.service_dsn,
        tables=found.settings.sources if forward else () if done else found.settings.targets,
        outbox=None if forward else found.settings.service.outbox,
        snapshot=flow.snapshot,
        generation=flow.generation,
        through=found.through,
        spread=spread,
    )


async def forward_spread(project: Project, found: ContextParts, control: str) -> Spread | None:
    """How the monolith's changes are divided over the partitions that ``extraction.yaml`` asks for; None for one.

    The reverse flow has one partition: it is applied to the monolith, whose triggers and foreign keys must not look
    away.

    Raises:
        FigError: what the mapping is refused with; ``partitions_unsupported``, ``database_unreachable``.
    """
    from stranglerfig.changes.spread import Spread
    from stranglerfig.extraction.parting import divided
    from stranglerfig.sync.mariadb.refusals import partitioned

    if found.settings.partitions == 1:
        return None
    monolith = project.reveal(project.estate.monolith.database)
    if mysql.is_mysql(monolith):
        raise partitioned()
    retired = await _extraction(control, found.settings.context, "(facts ->> 'retired')::boolean")
    tables = await divided(monolith, found, retired=retired)
    return Spread(found.settings.partitions, tables.keys)


async def _extraction(control: str, context: str, expression: LiteralString) -> bool:
    """Whether ``expression`` holds for the context's row in the control database."""
    async with postgres.session(control, what="wiring") as conn:
        if await postgres.value(conn, "SELECT to_regclass('fig.extraction')") is None:
            return False
        return bool(
            await postgres.value(conn, f"SELECT {expression} FROM fig.extraction WHERE context = %s", (context,))  # noqa: S608
        )


def derive_job(project: Project, contexts: Mapping[str, ContextParts], flow: Flow, control: str) -> DeriveJob | None:
    """What is derived from a flow: of forward changes, the events that ``extraction.yaml`` declares; else None."""
    from stranglerfig.sync.derive import DeriveJob

    found = _wanted(contexts, flow)
    if flow.direction is not Direction.FORWARD or not found.settings.derive:
        return None
    return DeriveJob(
        context=flow.context,
        changes=names(flow.context, flow.direction).topic,
        events=f"events.{flow.context}",
        rules=found.settings.derive,
        scratch_dsn=control,
        source=f"/{project.estate.name}/{flow.context}",
    )


async def sync_job(project: Project, contexts: Mapping[str, ContextParts], flow: Flow, control: str) -> SyncJob:
    """What sync writes for a flow, its mapping compiled against both databases as they are now.

    Raises:
        FigError: ``database_unreachable``, ``configuration_changed``, or what the mapping is refused with.
    """
    from stranglerfig.changes.conflicts import compile_conflicts
    from stranglerfig.changes.mapping import compile_mapping
    from stranglerfig.databases import sides
    from stranglerfig.extraction.made import require_same
    from stranglerfig.sync.target import SyncJob

    found = _wanted(contexts, flow)
    monolith = project.reveal(project.estate.monolith.database)
    retired = await _extraction(control, flow.context, "(facts ->> 'retired')::boolean")
    async with (
        sides.session(monolith, what="sync") as source,
        sides.session(found.service_dsn, what="sync") as target,
    ):
        here = await source.tables(found.sources(retired))
        there = await target.tables(found.settings.targets)
        require_same(found.settings, await target.made_with(found.settings.context))
    tables = found.tables(retired)
    mapping = compile_mapping(tables, here, there)
    own = names(flow.context, flow.direction)
    return SyncJob(
        context=flow.context,
        direction=flow.direction,
        dsn=found.service_dsn if flow.direction is Direction.FORWARD else monolith,
        topic=own.topic,
        origin=own.origin,
        mapping=mapping,
        rules=compile_conflicts(tables, mapping, here, there) if found.settings.both_write else None,
        evaluator=found.service_dsn,
    )
