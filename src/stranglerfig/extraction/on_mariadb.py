"""A monolith on MariaDB: what stands in the way of moving a context from it, and what cannot be had there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stranglerfig.capture import relay
from stranglerfig.capture.debezium import connector_name
from stranglerfig.changes import mapping as mappings
from stranglerfig.changes.model import Direction
from stranglerfig.databases import catalogue, preflight
from stranglerfig.databases.mariadb import catalogue as mariadb_catalogue
from stranglerfig.databases.mariadb import preflight as mariadb_preflight
from stranglerfig.databases.model import Finding, Table
from stranglerfig.databases.preflight import Pair
from stranglerfig.extraction.parts import ContextParts
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync.mariadb import target

NEVER_ACCEPTED = frozenset(
    {
        *("debezium_needed", "partitions_unsupported", "bidirectional_unsupported", "not_mariadb"),
        *("binlog_off", "binlog_format", "binlog_row_image", "log_bin_compress", "cascade_not_logged"),
        *("not_transactional", "system_versioned", "undeliverable_types", "reverse_key_type"),
    }
)
"""What a flow stops at, whatever anybody accepts."""
_SECONDS_SHOWN = 2_000
"""Milliseconds from which on a limit can be held, where times have seconds."""


def configured(context: ContextParts) -> Iterator[Finding]:
    """What ``extraction.yaml`` asks for that a MariaDB cannot give."""
    settings = context.settings
    if context.through is None:
        yield Finding(
            "debezium_needed",
            "refuse",
            "the monolith is on a MariaDB, which only Debezium reads",
            "Write capture: debezium into extraction.yaml, and connect: into fig.yaml.",
        )
    if settings.partitions > 1:
        yield Finding(
            "partitions_unsupported",
            "refuse",
            "the changes of a MariaDB cannot be divided over several partitions yet",
            "Write partitions: 1 into extraction.yaml.",
        )
    if settings.both_write:
        yield Finding(
            "bidirectional_unsupported",
            "refuse",
            "remaining_writers: bidirectional: nothing in a MariaDB says which version a row's change was",
            "Write remaining_writers: refuse into extraction.yaml, and move the remaining writers with the context.",
        )
    if settings.gates.sync.cdc_latency.below < _SECONDS_SHOWN:
        yield Finding(
            "latency_in_seconds",
            "warn",
            "a commit has a time in whole seconds in MariaDB's binary log: the latency that is judged before sync is"
            " left is up to one second too long",
            "Write cdc_latency: {below: 2s} or more under gates.sync in extraction.yaml.",
        )
    yield Finding(
        "writers_unrecorded",
        "warn",
        "the guards in a MariaDB record nobody: who else writes the context's tables is not known before they refuse",
        "Look for other writers in the application's code and in the server's audit log before the writes move.",
    )


async def findings(
    monolith: str, context: ContextParts, pairs: Sequence[Pair], *, must_be_empty: bool
) -> list[Finding]:
    """What the preflight of both databases found, for both directions."""
    settings = context.settings
    found = list(configured(context))
    async with (
        mysql.session(monolith, what="preflight") as source,
        postgres.session(context.service_dsn, what="preflight") as service,
    ):
        found += await mariadb_preflight.source_findings(source, settings.sources, "forward")
        if any(finding.code == "not_mariadb" for finding in found):
            return found
        found += await preflight.target_findings(service, settings.targets, "forward", must_be_empty=must_be_empty)
        # The way back is checked before the way there is taken.
        found += await preflight.source_findings(service, settings.targets, "reverse")
        if context.through is not None:
            outbox = [settings.service.outbox] if settings.service.outbox else []
            found += await relay.findings(service, [*settings.targets, *outbox])
        here = await mariadb_catalogue.tables(source, settings.sources)
        there = await catalogue.tables(service, settings.targets)
        found += preflight.constraint_findings(here, there, pairs)
        if len(here) == len(set(settings.sources)) and len(there) == len(set(settings.targets)):
            found += await _mapping(settings, here, there, source, service)
    return found


async def _mapping(
    settings: ExtractionSettings,
    here: dict[str, Table],
    there: dict[str, Table],
    source: mysql.Connection,
    service: postgres.Connection,
) -> list[Finding]:
    """What the mapping is refused with: the service's database judges both directions, the monolith's its columns."""
    try:
        compiled = mappings.compile_mapping(settings.tables, here, there)
        await mappings.check(service, compiled, Direction.FORWARD)
        await mappings.check(service, compiled, Direction.REVERSE, elsewhere=True)
        await target.tables(source, compiled.reverse)
    except FigError as error:
        return [Finding(error.code, "refuse", error.message, error.remedy, dict(error.context))]
    return []


def capture_effects(settings: ExtractionSettings) -> tuple[str, ...]:
    """What beginning a capture does, in words."""
    name = connector_name(settings.context, Direction.FORWARD)
    return (
        f"create database fig in the monolith's server, and the connector {name} in Kafka Connect",
        "copy the tables as they are at one place of the binary log into the service's database, then follow every"
        " change from there",
    )


def refuse_decommission(monolith: str) -> None:
    """Refuse to take tables out of a MariaDB.

    Raises:
        FigError: ``decommission_unsupported``.
    """
    if mysql.is_mysql(monolith):
        raise FigError(
            "decommission_unsupported",
            "taking the context's tables out of a monolith on MariaDB is not built yet: they stay, kept equal by the"
            " reverse stream, and refuse every other writer",
            "Stay at writes: fig rollback still works from there.",
        )
