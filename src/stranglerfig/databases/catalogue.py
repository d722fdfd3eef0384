"""What PostgreSQL's catalogues say of the tables that an extraction names, and of what hangs on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

from stranglerfig.databases import model
from stranglerfig.databases.model import Check, Column, Dependent, ForeignKey, Table, Trigger, Unique
from stranglerfig.foundation import postgres
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


async def advance_sequence(conn: Connection, name: str, start: int) -> None:
    """Let ``name`` go on after ``start``, unless it is beyond already."""
    await conn.execute(
        "SELECT setval(%(name)s::regclass, CASE WHEN s.seqincrement > 0"
        " THEN least(greatest(coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart), %(start)s), s.seqmax)"
        " ELSE greatest(least(coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart), %(start)s), s.seqmin) END)"
        " FROM pg_sequence s WHERE s.seqrelid = %(name)s::regclass",
        {"name": name, "start": start},
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
