"""All evidence that can be had, each source of it optional, and what each of them covers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stranglerfig.foundation import mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.seams import history, postgres, resolving, sources, traffic, transactions
from stranglerfig.seams.model import Coverage, Evidence, Table, Told, known, untold

_NOT_ASKED = {
    "catalogue": "tables and foreign keys are those that the sources name",
    "statements": "which statements ran is not known",
    "transactions": "--sample SECONDS reads which tables change in one transaction",
    "traffic": "--access-log FILE, or the façade's own, says which routes are called",
    "python": "--source DIR reads imports, models, SQL and routes",
    "git": "--git DIR reads which modules change together",
}


async def collect(
    database: str | None,
    source: Path | None,
    git: Path | None,
    sample: transactions.Bounds | None = None,
    access_logs: Sequence[Path] = (),
    *,
    told: Told = untold,
) -> Evidence:
    """The evidence of a monolith's database (its DSN), a sample of its transactions, Python sources, history, traffic.

    Raises:
        FigError: ``no_evidence`` when there is no table in it; ``database_unreachable``, ``no_sources``, ``no_git``;
            ``access_log_unreadable``.
    """
    found = Evidence()
    if database is not None and mysql.is_mysql(database):
        said = "only PostgreSQL's catalogue is read, and this is a MariaDB"
        found += Evidence(coverage=(Coverage("catalogue", "absent", said),))
    elif database is not None:
        found += await postgres.collect(database)
        if sample is not None and found.tables:
            found += await transactions.collect(database, sample, told)
    if sample is not None and not found.tables:
        why = "not read: a PostgreSQL's change stream is sampled, and no table of one was read"
        found += Evidence(coverage=(Coverage(transactions.SOURCE, "absent", why),))
    tables = found.tables
    if source is not None:
        read = await asyncio.to_thread(sources.read, source, told)
        found += resolving.evidence(read)
    if git is not None:
        found += await history.collect(git, await asyncio.to_thread((source or git).resolve))
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
    missing = (Coverage(name, "not asked", said) for name, said in _NOT_ASKED.items() if name not in asked)
    return replace(found, coverage=(*found.coverage, *missing))
