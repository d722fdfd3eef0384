"""What a PostgreSQL knows: tables, foreign keys, views, routines with their triggers, and statements that ran."""

from __future__ import annotations

import re
from collections.abc import Iterable

import psycopg
from psycopg import sql

from stranglerfig.foundation import postgres
from stranglerfig.foundation.postgres import Connection
from stranglerfig.foundation.sql import load
from stranglerfig.seams.model import LONGEST, Column, Coverage, Evidence, Reference, Table, Use
from stranglerfig.seams.statements import Touched, looks_like_sql, table_name, touched

_sql = load(__package__ or "")
_MOST_STATEMENTS = 5000
_STATEMENT = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|PERFORM|TRUNCATE)\b[^;]*", re.IGNORECASE)
_INTO = re.compile(r"\bINTO\s+(?:STRICT\s+)?[\w.\s,]+?\s+(?=FROM\b)", re.IGNORECASE)


async def collect(dsn: str) -> Evidence:
    """The catalogue's evidence, and that of ``pg_stat_statements`` where it is installed and may be read.

    Raises:
        FigError: ``database_unreachable``.
    """
    async with postgres.session(dsn, what="seams") as conn:
        return await _catalogue(conn) + await _counted(conn)


async def _catalogue(conn: Connection) -> Evidence:
    tables = [
        Table(table_name(schema, name), tuple(Column(*column) for column in columns), tuple(key))
        for schema, name, columns, key in await postgres.fetch(conn, _sql.tables)
    ]
    references = [
        Reference(table_name(*row[:2]), table_name(*row[2:4]), f"{row[4]}: {row[5]}")
        for row in await postgres.fetch(conn, _sql.foreign_keys)
    ]
    uses, unparsed = list[Use](), 0
    rows = await postgres.fetch(conn, _sql.views)
    seen: dict[str, Touched] = {}
    for schema, name, text in rows:
        found = touched(text)
        if found is None:
            unparsed += 1
            continue
        view = table_name(schema, name)
        seen[view] = found
        uses.append(Use("view", view, f"view {view}", found.tables, excerpt=_shown(text)))
    routines = await postgres.fetch(conn, _sql.routines)
    for schema, name, language, text, triggers in routines:
        found = _routine(text) if language == "plpgsql" else touched(text)
        if found is None:
            unparsed += 1
            continue
        on = frozenset(table_name(*pair) for pair in triggers)
        where = f"function {table_name(schema, name)}" + (f", trigger on {', '.join(sorted(on))}" if on else "")
        uses.append(
            Use(
                "routine",
                table_name(schema, name),
                where,
                found.reads - on,
                found.writes | on,
                excerpt=_shown(text),
            )
        )
    said = f"{len(tables)} tables, {len(references)} foreign keys, {len(rows)} views, {len(routines)} routines"
    coverage = Coverage(
        "catalogue",
        "partly" if unparsed else "read",
        said + (f"; {unparsed} views or routines do not parse" if unparsed else ""),
    )
    return Evidence(tuple(tables), tuple(references), tuple(uses), coverage=(coverage,))


def _routine(text: str) -> Touched:
    """What a PL/pgSQL body touches: its statements one by one, as the language around them is not SQL."""
    whole = Touched()
    for match in _STATEMENT.finditer(text):
        statement = _INTO.sub("", re.sub(r"^PERFORM", "SELECT", match.group(), flags=re.IGNORECASE))
        if looks_like_sql(f"{statement} "):
            whole |= touched(statement) or Touched()
    return Touched(whole.reads - whole.writes, whole.writes)


async def _counted(conn: Connection) -> Evidence:
    schema = await postgres.value(conn, _sql.statistics)
    if schema is None:
        said = "pg_stat_statements is not installed in this database: which statements ran is not known"
        return Evidence(coverage=(Coverage("statements", "absent", said),))
    query = sql.SQL(
        "SELECT query, calls FROM {}.pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
        " WHERE d.datname = current_database() ORDER BY calls DESC LIMIT %s"
    ).format(sql.Identifier(schema))
    try:
        rows = await (await conn.execute(query, (_MOST_STATEMENTS,))).fetchall()
    except psycopg.Error as error:
        said = f"pg_stat_statements cannot be read: {str(error).splitlines()[0]}"
        return Evidence(coverage=(Coverage("statements", "absent", said),))
    return executed(rows)


def executed(rows: Iterable[tuple[str, int]]) -> Evidence:
    """The evidence of statements that were executed, each with how often; text that the role may not see is counted."""
    uses, unparsed, total = list[Use](), 0, 0
    for text, calls in rows:
        if not looks_like_sql(text):
            continue
        total += 1
        found = touched(text)
        if found is None:
            unparsed += 1
        elif len(found.tables) > 1:
            shown = _shown(text)
            uses.append(
                Use(
                    "statement", shown[:60], "pg_stat_statements", found.reads, found.writes, times=calls, excerpt=shown
                )
            )
    said = f"{total} statements, {len(uses)} of them over several tables"
    said += f"; {unparsed} do not parse" if unparsed else ""
    return Evidence(uses=tuple(uses), coverage=(Coverage("statements", "partly" if unparsed else "read", said),))


def _shown(text: str) -> str:
    return " ".join(text.split())[:LONGEST]
