"""All evidence that can be had, each source of it optional, and what each of them covers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stranglerfig.foundation import mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.seams import history, mariadb, postgres, resolving, sources, traces, traffic, transactions
from stranglerfig.seams.java import evidence as java_evidence
from stranglerfig.seams.java import reading as java
from stranglerfig.seams.model import Coverage, Evidence, Table, Told, known, untold

_NOT_ASKED = {
    "catalogue": "tables and foreign keys are those that the sources name",
    "statements": "which statements ran is not known",
    "transactions": "--sample SECONDS reads which tables change in one transaction",
    "traces": "--statement-log FILE says which statements a request ran, where these carry its trace",
    "traffic": "--access-log FILE, or the façade's own, says which routes are called",
    "python": "--source DIR reads imports, models, SQL and routes, of Java as well",
    "git": "--git DIR reads which modules change together",
}


async def collect(
    database: str | None,
    source: Path | None,
    git: Path | None,
    sample: transactions.Bounds | None = None,
    access_logs: Sequence[Path] = (),
    statement_logs: Sequence[Path] = (),
    *,
    told: Told = untold,
) -> Evidence:
    """The evidence of a monolith's database (its DSN), a sample of its transactions, sources, history, traffic.

    Raises:
        FigError: ``no_evidence`` when there is no table in it; ``database_unreachable``, ``no_sources``, ``no_git``;
            ``access_log_unreadable``, ``statement_log_unreadable``.
    """
    found, dialect = Evidence(), "postgres"
    if database is not None and mysql.is_mysql(database):
        found, dialect = await mariadb.collect(database), "mysql"
    elif database is not None:
        found = await postgres.collect(database)
        if sample is not None and found.tables:
            found += await transactions.collect(database, sample, told)
    if sample is not None and (dialect == "mysql" or not found.tables):
        why = "not read: a PostgreSQL's change stream is sampled, and no table of one was read"
        found += Evidence(coverage=(Coverage(transactions.SOURCE, "absent", why),))
    tables = found.tables
    if source is not None:
        found += await asyncio.to_thread(_sources, source, [table.name for table in tables], dialect, told)
    if git is not None:
        found += await history.collect(git, await asyncio.to_thread((source or git).resolve))
    if statement_logs:
        found = await asyncio.to_thread(traces.joined, found, statement_logs, access_logs)
    if not tables:
        named = {table for use in found.uses for table in use.tables} - {table.name for table in found.tables}
        tables = (*found.tables, *(Table(name) for name in named))
    found = known(replace(found, tables=tuple(sorted(tables, key=lambda table: table.name))))
    if not found.tables:
        raise FigError(
            "no_evidence",
            "nothing of what was read speaks of a table",
            "Check that the monolith's database in fig.yaml is the right one, or name its sources with --source.",
        )
    if access_logs:
        found = traffic.joined(found, *await asyncio.to_thread(traffic.read, access_logs))
    asked = {each.source for each in found.coverage}
    if source is not None:
        asked.add("python")  # or another language
    missing = (Coverage(name, "not asked", said) for name, said in _NOT_ASKED.items() if name not in asked)
    return replace(found, coverage=(*found.coverage, *missing))


def _sources(folder: Path, tables: list[str], dialect: str, told: Told) -> Evidence:
    """What the sources in a folder say, in each language that it has files of."""
    found = Evidence()
    python = sources.read(folder, told)
    if python.modules or python.broken:
        found += resolving.evidence(python)
    if files := java.files(folder):
        try:
            found += java_evidence.evidence(java.read(folder, told), tables, dialect)
        except FigError as error:
            if error.code != "backend_not_installed" or not found.coverage:
                raise
            said = f"{len(files)} files are not read: {error.message} ({error.remedy})"
            found += Evidence(coverage=(Coverage(java_evidence.SOURCE, "absent", said),))
    if not found.coverage:
        raise FigError(
            "no_sources",
            f"there is no Python or Java file below {folder}",
            "Name the folder of the monolith's sources with --source.",
            folder=str(folder),
        )
    return found
