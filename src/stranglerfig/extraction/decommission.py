"""Taking the context out of the monolith's database: watched, taken away for a minute, put aside, archived, dropped.

Everything up to :func:`drop` is undone by its counterpart here. Routes and flows are the controller's business.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg import sql

from stranglerfig.databases import catalogue
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation import sql as sql_files
from stranglerfig.foundation.errors import FigError

TRIES = 100
"""How often a table that somebody holds is asked for; a long wait in its lock queue would stall everyone behind us."""

queries = sql_files.load(__package__ or "", "decommission.sql")


def holding(context: str) -> str:
    """The schema where retired tables wait before the drop."""
    return f"fig_holding_{context.replace('-', '_')}"


def held(table: str, context: str) -> str:
    """A table's name while it is retired."""
    return f"{holding(context)}.{table.split('.', 1)[1]}"


@dataclass(frozen=True, slots=True)
class Load:
    """The monolith's database load over a while: per second."""

    seconds: float
    transactions: float
    rows_read: float
    rows_written: float


async def sizes(dsn: str, tables: Sequence[str]) -> dict[str, dict[str, int]]:
    """Bytes and estimated rows of each of ``tables`` that exists."""
    async with postgres.session(dsn, what="decommission") as conn:
        rows = await postgres.fetch(conn, queries.sizes, {"tables": list(tables)})
    return {name: {"bytes": size, "rows": count} for name, size, count in rows}


async def load(dsn: str, seconds: float) -> Load:
    """Measure the load of a database for ``seconds``."""
    async with postgres.session(dsn, what="decommission") as conn:
        before = await postgres.one(conn, queries.load)
        await asyncio.sleep(seconds)
        # Within a transaction statistics stand still; between two statements of an autocommit session they do not.
        after = await postgres.one(conn, queries.load)
    assert before is not None and after is not None
    span = max(after[0] - before[0], 0.001)
    return Load(span, *((after[i] - before[i]) / span for i in (1, 2, 3)))


def code_size(project: Path, patterns: Sequence[str]) -> dict[str, int]:
    """Files, and lines that are not blank, of the code that ``patterns`` (globs) name."""
    files = sorted({path for pattern in patterns for path in project.glob(pattern) if path.is_file()})
    lines = sum(
        1 for path in files for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
    )
    return {"files": len(files), "lines": lines}


async def watch(dsn: str, tables: Sequence[str], seconds: float) -> dict[str, Any]:
    """Who uses the tables, other than we: sampled for ``seconds``, together with what depends on them."""
    users: dict[tuple[str, ...], int] = {}
    async with postgres.session(dsn, what="decommission") as conn:
        before = {
            name: (reads, writes)
            for name, reads, writes in await postgres.fetch(conn, queries.table_use, {"tables": list(tables)})
        }
        deadline = clock.monotonic() + seconds
        while clock.monotonic() < deadline:
            for row in await postgres.fetch(conn, queries.sessions_on, {"tables": list(tables)}):
                users[row] = users.get(row, 0) + 1
            await asyncio.sleep(0.05)
        after = await postgres.fetch(conn, queries.table_use, {"tables": list(tables)})
        dependents = await postgres.fetch(conn, queries.dependents, {"tables": list(tables)})
    return {
        "seconds": seconds,
        "users": [
            {"application": app, "role": role, "statement": statement, "table": table, "seen": seen}
            for (app, role, statement, table), seen in sorted(users.items())
        ],
        "use": {
            name: {"scans": reads - before.get(name, (0, 0))[0], "writes": writes - before.get(name, (0, 0))[1]}
            for name, reads, writes in after
        },
        "dependents": [{"kind": kind, "name": name, "on": on} for kind, name, on in dependents],
    }


# -- brown-out ---------------------------------------------------------------------------------------------------


async def take_away(dsn: str, tables: Sequence[str]) -> list[dict[str, Any]]:
    """Revoke everybody's privileges on ``tables`` but ours; returns what :func:`give_back` needs."""
    async with postgres.session(dsn, what="brownout", autocommit=False) as conn:
        rows = await postgres.fetch(conn, queries.privileges, {"tables": list(tables)})
        taken = [{"table": t, "role": r, "privilege": p, "grantable": g} for t, r, p, g in rows]
        for table, role in {(entry["table"], entry["role"]) for entry in taken}:
            await _run(conn, f"REVOKE ALL ON {table} FROM {role} CASCADE")
        await conn.commit()
    return taken


async def give_back(dsn: str, taken: Sequence[Mapping[str, Any]]) -> None:
    """Undo :func:`take_away`; does no harm when done twice."""
    async with postgres.session(dsn, what="brownout", autocommit=False) as conn:
        for entry in taken:
            grantable = " WITH GRANT OPTION" if entry["grantable"] and entry["role"] != "PUBLIC" else ""
            await _run(conn, f"GRANT {entry['privilege']} ON {entry['table']} TO {entry['role']}{grantable}")
        await conn.commit()


async def _run(conn: postgres.Connection, statement: str) -> None:
    # Identifiers come quoted from the catalogue, privileges from PostgreSQL's own list.
    await conn.execute(cast(Any, statement))


# -- retire and restore --------------------------------------------------------------------------------------------


async def retire(dsn: str, context: str, tables: Sequence[str]) -> None:
    """Move ``tables`` into the holding schema; those that are there already stay."""
    await _move(dsn, [(table, held(table, context)) for table in tables], create=holding(context))


async def restore(dsn: str, context: str, tables: Sequence[str]) -> None:
    """Move retired tables back to where they were."""
    await _move(dsn, [(held(table, context), table) for table in tables], create=None)
    async with postgres.session(dsn, what="decommission") as conn:
        await conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {}").format(sql.Identifier(holding(context))))


async def _move(dsn: str, moves: Sequence[tuple[str, str]], *, create: str | None) -> None:
    async with postgres.session(dsn, what="decommission") as conn:
        if create:
            await conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(create)))
            # Foreign keys are checked as the tables' owner, who must be able to pass.
            for (owner,) in await postgres.fetch(conn, queries.owners, {"tables": [old for old, _ in moves]}):
                await conn.execute(
                    sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(create), sql.Identifier(owner))
                )
        for attempt in range(TRIES):
            try:
                async with conn.transaction():
                    # A waiting ALTER TABLE makes everyone after it wait: give up soon and come back.
                    await conn.execute("SET LOCAL lock_timeout = '100ms'")
                    for old, new in moves:
                        if await postgres.value(conn, "SELECT to_regclass(%s)", (old,)) is None:
                            continue
                        await conn.execute(
                            sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                                sql.Identifier(*old.split(".", 1)), sql.Identifier(new.split(".", 1)[0])
                            )
                        )
                return
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                await asyncio.sleep(0.05 * (1 + attempt % 5))
    raise FigError(
        "tables_locked",
        f"the tables {', '.join(old for old, _ in moves)} could not be moved: somebody holds them",
        "Look for long transactions on them in pg_stat_activity, then try again.",
    )


# -- archive and drop ------------------------------------------------------------------------------------------------


async def archive(dsn: str, tables: Sequence[str], directory: Path) -> list[dict[str, Any]]:
    """Write each table as gzip-compressed COPY text with its columns in the first line; returns what was written.

    All tables are read under one snapshot. Files are written aside and renamed, so a file that is there is whole.
    """
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    written = []
    async with postgres.session(dsn, what="archive", autocommit=False) as conn:
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        found = await catalogue.tables(conn, list(tables))
        for name in tables:
            path = directory / f"{name}.copy.gz"
            partial = path.with_suffix(".partial")
            columns = [column.name for column in found[name].columns if not column.generated]
            digest, rows = hashlib.sha256(), 0
            with gzip.open(partial, "wb", compresslevel=3) as out:
                out.write(("\t".join(columns) + "\n").encode())
                statement = sql.SQL("COPY {} ({}) TO STDOUT").format(
                    sql.Identifier(*name.split(".", 1)), sql.SQL(", ").join(map(sql.Identifier, columns))
                )
                async with conn.cursor() as cursor, cursor.copy(statement) as copy:
                    async for block in _blocks(copy):
                        out.write(block)
                        digest.update(block)
                        rows += block.count(b"\n")
            partial.rename(path)
            written.append(
                {
                    "table": name,
                    "file": str(path),
                    "rows": rows,
                    "bytes": path.stat().st_size,
                    "sha256": digest.hexdigest(),
                }
            )
        await conn.rollback()
    return written


async def _blocks(copy: psycopg.AsyncCopy) -> AsyncIterator[bytes]:
    async for block in copy:
        yield bytes(block)


async def drop(dsn: str, context: str, tables: Sequence[str]) -> None:
    """Drop the retired ``tables`` and the holding schema. There is no way back but the archive.

    Raises:
        FigError: ``still_depended_on`` when something outside still stands on one of them (nothing is dropped).
    """
    async with postgres.session(dsn, what="decommission") as conn:
        try:
            async with conn.transaction():
                await conn.execute("SET LOCAL lock_timeout = '2s'")
                names = [sql.Identifier(*table.split(".", 1)) for table in tables]
                await conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.SQL(", ").join(names)))
                await conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {}").format(sql.Identifier(holding(context))))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise FigError(
                "still_depended_on",
                f"nothing was dropped: {str(error).splitlines()[0]}",
                "Drop or change what depends on the tables, then repeat the command.",
                detail=error.diag.message_detail,
            ) from error


def before_and_after(settings: ExtractionSettings, project: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the monolith lost, from the facts that the steps have kept."""
    routes = len(settings.routes.reads) + len(settings.routes.writes)
    old, new = facts.get("load_before", {}), facts.get("load_after", {})
    table_sizes = facts.get("sizes_before", {})
    before = {
        "code": code_size(project, settings.decommission.code),
        "routes": routes,
        "tables": len(settings.sources),
        "bytes": sum(entry["bytes"] for entry in table_sizes.values()),
        **old,
    }
    after = {"code": code_size(project, settings.decommission.code_after), "routes": 0, "tables": 0, "bytes": 0, **new}
    return {"before": before, "after": after}
