"""What a MariaDB knows: tables, foreign keys, views, routines, triggers, and statements that it counted."""

from __future__ import annotations

import re
from collections.abc import Iterable

from stranglerfig.foundation import mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Connection, Value
from stranglerfig.foundation.sql import load
from stranglerfig.seams.executed import executed, shown
from stranglerfig.seams.model import Column, Coverage, Evidence, Reference, Table, Use
from stranglerfig.seams.statements import Parse, Touched, body, touched

_sql = load(__package__ or "", "mariadb.sql")
# What a digest has in place of values: of a list of them, of several in brackets, of a text that syntax wants.
_DIGESTED = (
    (re.compile(r"\?\s*,\s*\.\.\."), "?"),
    (re.compile(r"\(\s*\.\.\.\s*\)"), "(NULL)"),
    (re.compile(r"\bSEPARATOR\s*\?"), "SEPARATOR ','"),
)


async def collect(dsn: str) -> Evidence:
    """The evidence of the database that an address names, and that of ``performance_schema`` where that is on.

    Tables are called by their name alone; those of other databases on the server are left out.

    Raises:
        FigError: ``database_unreachable``, ``backend_not_installed``, ``bad_address``.
    """
    async with mysql.session(dsn, what="seams") as conn:
        found = await _tables(conn)
        parse = _parser(mysql.parse(dsn).database, [table.name for table in found])
        return await _catalogue(conn, found, parse) + await _counted(conn, parse)


def _text(value: Value) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _parser(database: str, tables: Iterable[str]) -> Parse:
    """What parses SQL of a database: its own name is left away, and tables are called as its catalogue does."""
    by_name = {table.lower(): table for table in tables}

    def local(names: frozenset[str]) -> frozenset[str]:
        bare = (re.sub(f"^{re.escape(database)}[.]", "", name, flags=re.IGNORECASE) for name in names)
        return frozenset(by_name.get(name.lower(), name) for name in bare)

    def parse(text: str) -> Touched | None:
        for pattern, plain in _DIGESTED:
            text = pattern.sub(plain, text)
        found = touched(text, dialect="mysql")
        return found and Touched(local(found.reads), local(found.writes))

    return parse


async def _tables(conn: Connection) -> list[Table]:
    columns: dict[str, list[tuple[Column, bool]]] = {}
    for row in await conn.fetch(_sql.columns):
        table, name, kind, optional, key = map(_text, row)
        columns.setdefault(table, []).append((Column(name, kind, optional == "1"), key == "1"))
    return [
        Table(name, tuple(column for column, _ in each), tuple(column.name for column, key in each if key))
        for name, each in columns.items()
    ]


async def _catalogue(conn: Connection, tables: list[Table], parse: Parse) -> Evidence:
    references, abroad = list[Reference](), 0
    for row in await conn.fetch(_sql.foreign_keys):
        table, here, target, name, ours, theirs = map(_text, row)
        if here == "1":
            definition = f"{name}: FOREIGN KEY ({ours}) REFERENCES {target}({theirs})"
            references.append(Reference(table, target, definition))
        else:
            abroad += 1
    uses, unparsed, hidden = list[Use](), 0, 0
    views = [(_text(name), _text(text)) for name, text in await conn.fetch(_sql.views)]
    for view, text in views:
        found = parse(text)
        if found is not None and text:
            uses.append(Use("view", view, f"view {view}", found.tables, excerpt=shown(text)))
        else:
            hidden, unparsed = hidden + (not text), unparsed + bool(text)
    routines = [tuple(map(_text, row)) for row in await conn.fetch(_sql.routines)]
    for name, kind, text in routines:
        hidden += not text
        found = body(text, parse)
        uses.append(Use("routine", name, f"{kind} {name}", found.reads, found.writes, excerpt=shown(text)))
    triggers = [tuple(map(_text, row)) for row in await conn.fetch(_sql.triggers)]
    for name, table, text in triggers:
        found = body(text, parse)
        where = f"trigger {name} on {table}"
        uses.append(Use("routine", name, where, found.reads - {table}, found.writes | {table}, excerpt=shown(text)))
    said = (
        f"{len(tables)} tables, {len(references)} foreign keys, {len(views)} views, {len(routines)} routines, "
        f"{len(triggers)} triggers of a MariaDB"
    )
    said += f"; {unparsed} views do not parse" if unparsed else ""
    said += f"; of {hidden} views or routines the account may not see the text" if hidden else ""
    said += f"; {abroad} foreign keys lead to other databases" if abroad else ""
    state = "partly" if unparsed or hidden or abroad else "read"
    return Evidence(tuple(tables), tuple(references), tuple(uses), coverage=(Coverage("catalogue", state, said),))


async def _counted(conn: Connection, parse: Parse) -> Evidence:
    if _text(await conn.value(_sql.counts)) != "1":
        said = "performance_schema is off in this server: which statements ran is not known"
        return Evidence(coverage=(Coverage("statements", "absent", said),))
    try:
        rows = await conn.fetch(_sql.statements)
    except FigError as error:
        if error.code != "statement_refused":
            raise
        said = f"performance_schema cannot be read: {error.message.rpartition(': ')[2]}"
        return Evidence(coverage=(Coverage("statements", "absent", said),))
    return executed(((_text(text), int(_text(count))) for text, count in rows), "performance_schema", parse)
