"""``remaining_writers: bidirectional``: what it asks of the estate, and the triggers that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stranglerfig.changes import mapping as mappings
from stranglerfig.changes.conflicts import Settlement, compile_conflicts
from stranglerfig.changes.mapping import compile_mapping, quote_table
from stranglerfig.changes.model import Direction
from stranglerfig.databases import catalogue, ownership, versions
from stranglerfig.databases.model import Finding, Table
from stranglerfig.databases.versions import Versioned
from stranglerfig.extraction.parts import ContextParts
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection

APART = 1_000_000_000
"""How far above the monolith's the service's sequences go on: both give out keys, and none may be given out twice."""


async def findings(monolith: str, context: ContextParts) -> list[Finding]:
    """What stands in the way of both sides writing; nothing where one does."""
    settings = context.settings
    if not settings.both_write:
        return []
    async with (
        postgres.session(monolith, what="preflight") as source,
        postgres.session(context.service_dsn, what="preflight") as service,
    ):
        here = await catalogue.tables(source, settings.sources)
        there = await catalogue.tables(service, settings.targets)
        leaves = [*await _leaves(source, here), *await _leaves(service, there)]
        sequences = [
            *await catalogue.sequences(source, settings.sources),
            *await catalogue.sequences(service, settings.targets),
        ]
    found = [finding for table in (*here.values(), *there.values(), *leaves) for finding in identity_findings(table)]
    for sequence in sequences:
        table = here.get(sequence.table) or there.get(sequence.table)
        column = table.column(sequence.column) if table is not None else None
        if column is not None and column.type != "bigint":
            found.append(
                Finding(
                    "sequence_too_narrow",
                    "refuse",
                    f"{sequence.table}.{sequence.column} is {column.type}: both sides give out keys, the service's"
                    f" {APART:,} above the monolith's",
                    "Make the column a bigint on both sides.",
                    {"table": sequence.table, "column": sequence.column},
                )
            )
    try:
        compile_conflicts(settings.tables, compile_mapping(settings.tables, here, there), here, there)
    except FigError as error:
        found.append(Finding(error.code, "refuse", error.message, error.remedy, dict(error.context)))
    found += [
        Finding(
            "conflict_stops",
            "warn",
            f"{table.target} has no conflict rule: a row of it that both sides change stops the flows until somebody"
            " decides",
            "Give the entry conflicts: {rule: …} in extraction.yaml, or let it stop.",
            {"table": table.target},
        )
        for table in settings.tables
        if table.conflicts is None or table.conflicts.rule is None
    ]
    return found


async def _leaves(conn: Connection, tables: Mapping[str, Table]) -> list[Table]:
    """The leaves of partitioned tables: rows are written to the WAL as these say, whatever the root is set to."""
    names = [quote_table(leaf) for table in tables.values() for leaf in table.leaves]
    return list((await catalogue.tables(conn, names)).values())


def identity_findings(table: Table) -> Iterable[Finding]:
    """Old rows are needed of every table that both sides write, and of the leaves of a partitioned one."""
    if table.replica_identity != "f":
        statement = f"ALTER TABLE {quote_table(table.qualified)} REPLICA IDENTITY FULL"
        yield Finding(
            "replica_identity_not_full",
            "refuse",
            f"{table.qualified} does not send old rows, which both sides writing needs",
            f"Run: {statement}",
            {"table": table.qualified},
            (statement,),
        )


async def require(monolith: str, context: ContextParts) -> None:
    """Refuse what :func:`findings` refuses.

    Raises:
        FigError: ``bidirectional_refused`` with the findings.
    """
    refused = [finding for finding in await findings(monolith, context) if finding.severity == "refuse"]
    if refused:
        raise FigError(
            "bidirectional_refused",
            "both sides cannot write yet: " + "; ".join(f"{f.message} ({f.code})" for f in refused),
            " ".join(dict.fromkeys(finding.remedy for finding in refused)),
            findings=[finding.as_dict() for finding in refused],
        )


async def prepare(monolith: str, context: ContextParts) -> None:
    """Have every change of the context's tables say its version from here on, or none where one side writes alone.

    What either side knows of versions is forgotten first, on both: an end that was interrupted may have left it on one
    side alone, which would then take every change of the other for a conflict. Nothing is lost by it, as the service
    is not written yet; and it can be done again after being killed at any point.

    Raises:
        FigError: ``bidirectional_refused``, ``table_busy``, ``missing_privilege``.
    """
    settings = context.settings
    if not settings.both_write:
        await end(monolith, context)
        return
    await require(monolith, context)
    async with (
        postgres.session(monolith, what="versions") as source,
        postgres.session(context.service_dsn, what="versions") as service,
    ):
        here = await catalogue.tables(source, settings.sources)
        there = await catalogue.tables(service, settings.targets)
        mapping = compile_mapping(settings.tables, here, there)
        left, right = versioned(mapping, compile_conflicts(settings.tables, mapping, here, there))
        owned = await ownership.read(service, settings.context)
        if owned is not None and owned.state == "owner":
            return  # the cut-over was made already, and what is known since is needed
        # The service's first: what is changed in the monolith after its own are forgotten is known there again.
        await versions.forget(service, settings.context)
        await versions.forget(source, settings.context)
        # The service's first: once the monolith's changes have versions, what is told of them must have a place.
        await versions.install(service, settings.context, right)
        await versions.install(source, settings.context, left)


async def end(monolith: str, context: ContextParts) -> None:
    """Take the triggers off both sides; a MariaDB never has any."""
    for dsn in (dsn for dsn in (monolith, context.service_dsn) if not mysql.is_mysql(dsn)):
        async with postgres.session(dsn, what="versions") as conn:
            await versions.remove(conn, context.settings.context)


def versioned(mapping: mappings.Mapping, settled: dict[str, Settlement]) -> tuple[list[Versioned], list[Versioned]]:
    """What is versioned in the monolith, and in the service."""
    backward = {entry.source: entry for entry in mapping.reverse}
    left: list[Versioned] = []
    right: list[Versioned] = []
    for entry in mapping.forward:
        pair, back = settled[entry.target], backward[entry.target]
        keys = (entry.source_key, tuple(a.column for a in entry.key))
        for found, table, key, needs, counted in (
            (left, entry.source, keys[0], entry.needs, pair.delta[Direction.REVERSE]),
            (right, entry.target, keys[1], back.needs, pair.delta[Direction.FORWARD]),
        ):
            columns = tuple(sorted(needs - set(key)))
            found.append(Versioned(table, entry.target, key, columns, tuple(sorted(counted))))
    return left, right
