"""What PostgreSQL's catalogues say of the tables that an extraction names, and of what hangs on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from stranglerfig.databases import model
from stranglerfig.databases.model import Check, Column, Dependent, ForeignKey, Table, Trigger, Unique
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.foundation.sql import load

_sql = load(__package__ or "", "catalogue.sql")


async def tables(conn: Connection, names: Sequence[str]) -> dict[str, Table]:
    """The tables of ``names`` (``schema.table``) that exist, by the name they were asked for."""
    rows = await postgres.fetch(conn, _sql.tables, {"names": list(names)})
    oids = [row[1] for row in rows]
    columns = await _by_table(conn, _sql.columns, oids, Column)
    uniques = await _by_table(conn, _sql.uniques, oids, lambda name, cols, *rest: Unique(name, tuple(cols), *rest))
    checks = await _by_table(conn, _sql.checks, oids, Check)
    found: dict[str, Table] = {}
    for asked, oid, schema, name, kind, partition, root, leaves, owner, identity, key, count, size, security in rows:
        found[asked] = Table(
            schema=schema,
            name=name,
            oid=oid,
            kind="partition" if partition else "partitioned" if kind == "p" else "table",
            root=root,
            leaves=tuple(leaves),
            owner=owner,
            replica_identity=identity,
            columns=tuple(columns[oid]),
            uniques=tuple(uniques[oid]),
            checks=tuple(checks[oid]),
            identity_columns=tuple(column.name for column in columns[oid]) if identity == "f" else tuple(key),
            rows=count,
            bytes=size,
            row_security=security,
        )
    return {name: found[name] for name in names if name in found}


async def excluding(conn: Connection, names: Sequence[str]) -> frozenset[str]:
    """Those of the tables that have an exclusion constraint, ``schema.table``."""
    rows = await postgres.fetch(conn, _sql.exclusions, {"oids": await _oids(conn, names)})
    return frozenset(row[0] for row in rows)


async def foreign_keys(conn: Connection, names: Sequence[str]) -> list[ForeignKey]:
    """Every foreign key from or to one of the tables."""
    rows = await postgres.fetch(conn, _sql.foreign_keys, {"oids": await _oids(conn, names)})
    return [
        ForeignKey(name, table, tuple(columns), target, tuple(target_columns), definition)
        for name, table, columns, target, target_columns, definition in rows
    ]


def crossing(keys: Iterable[ForeignKey], names: Sequence[str]) -> list[ForeignKey]:
    """Those that cross the boundary of the tables ``names``, in or out."""
    inside = {".".join(model.split_name(name)) for name in names}
    return [key for key in keys if (key.table in inside) != (key.refers_to in inside)]


async def triggers(conn: Connection, names: Sequence[str]) -> list[Trigger]:
    """The users' triggers on the tables (ours are left out)."""
    return [Trigger(*row) for row in await postgres.fetch(conn, _sql.triggers, {"oids": await _oids(conn, names)})]


async def sequences(conn: Connection, names: Sequence[str]) -> list[model.Sequence]:
    """The sequences that the tables' columns take their values from, owned and unowned ones."""
    rows = await postgres.fetch(conn, _sql.sequences, {"oids": await _oids(conn, names)})
    return [model.Sequence(*row) for row in rows]


async def dependents(conn: Connection, names: Sequence[str]) -> list[Dependent]:
    """Views that use the tables, and functions that name them in their text (best effort: text may lie)."""
    oids = {"oids": await _oids(conn, names)}
    rows = await postgres.fetch(conn, _sql.views, oids) + await postgres.fetch(conn, _sql.functions, oids)
    return [Dependent(*row) for row in rows]


async def last_given(conn: Connection, name: str) -> tuple[int, int, int, int]:
    """The last value that ``name`` has given out, how many a session takes at once, the step, and how many sessions
    there may be. Of a sequence that was never used it is the value before its first: that one may be given out any
    moment.

    Raises:
        FigError: ``missing_privilege``.
    """
    row = await postgres.one(conn, _sql.last_given, {"name": _quoted(name)})
    if row is None:
        raise FigError("unknown_sequence", f"there is no sequence {name}", "Create it, and try again.", sequence=name)
    last, cache, increment, sessions = row
    if last is None:
        # The catalogue's function says null where nothing was given out: where it begins is in the sequence alone.
        try:
            found = await conn.execute(sql.SQL("SELECT last_value FROM {}").format(_identifier(name)))
            [(first,)] = await found.fetchall()
        except psycopg.errors.InsufficientPrivilege as error:
            raise _not_ours(name, "read", "GRANT SELECT ON SEQUENCE {} TO our role.") from error
        last = int(first) - increment
    return int(last), int(cache), int(increment), int(sessions)


async def advance_sequence(conn: Connection, name: str, start: int) -> None:
    """Let ``name`` go on after ``start``, unless it is beyond already.

    A sequence that is narrower than the column that it fills (a ``serial`` whose column became a ``bigint``) is widened
    when ``start`` asks for it; beyond the column's own type it stops at its end.

    Raises:
        FigError: ``missing_privilege`` when it must be widened and is not ours.
    """
    if wider := await postgres.value(conn, _sql.wider_type, {"name": _quoted(name), "start": start}):
        try:
            await conn.execute(sql.SQL("ALTER SEQUENCE {} AS {}").format(_identifier(name), sql.SQL(wider)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise _not_ours(
                name, "widen", f"ALTER SEQUENCE {{}} AS {wider}, or grant its owner to our role."
            ) from error
    await conn.execute(_sql.advance, {"name": _quoted(name), "start": start})


def _identifier(name: str) -> sql.Identifier:
    return sql.Identifier(*model.split_name(name))


def _quoted(name: str) -> str:
    """A sequence's name as ``regclass`` reads it."""
    return _identifier(name).as_string()


def _not_ours(name: str, what: str, remedy: str) -> FigError:
    return FigError(
        "missing_privilege",
        f"this role may not {what} the sequence {name}",
        remedy.format(_quoted(name)),
        sequence=name,
    )


async def _oids(conn: Connection, names: Sequence[str]) -> list[int]:
    rows = await postgres.fetch(
        conn, "SELECT to_regclass(name)::oid::bigint FROM unnest(%s::text[]) AS w(name)", (list(names),)
    )
    return [row[0] for row in rows if row[0] is not None]


async def _by_table(conn: Connection, query: LiteralString, oids: list[int], make: Any) -> dict[int, list[Any]]:
    grouped: dict[int, list[Any]] = defaultdict(list)
    for oid, *rest in await postgres.fetch(conn, query, {"oids": oids}):
        grouped[oid].append(make(*rest))
    return grouped
