"""What MariaDB's catalogue says of the tables that an extraction names, in the words of PostgreSQL's.

A column's type is the PostgreSQL type that holds its values; ``unknown`` where there is none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from stranglerfig.databases.mariadb import types
from stranglerfig.databases.mariadb.types import Native
from stranglerfig.databases.model import Check, Column, Dependent, ForeignKey, Table, Trigger, Unique
from stranglerfig.databases.model import Sequence as Counter
from stranglerfig.foundation.mysql import Connection, Row, Value
from stranglerfig.foundation.sql import load

_sql = load(__package__ or "", "catalogue.sql")


@dataclass(frozen=True, slots=True)
class Described:
    """A table, with what only MariaDB says of it.

    Attributes:
        native: its columns as MariaDB has them, in the same order.
        engine: ``InnoDB`` …
        versioned: whether it keeps its rows' history.
        counter: the column that the server counts up, and the value it gives next.
    """

    table: Table
    native: tuple[Native, ...]
    engine: str
    versioned: bool
    counter: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a foreign key does to the rows that refer, besides refusing: nothing of it is in the binary log."""

    key: ForeignKey
    on_delete: str
    on_update: str

    @property
    def silent(self) -> bool:
        """Whether it changes rows."""
        return bool({self.on_delete, self.on_update} & {"CASCADE", "SET NULL", "SET DEFAULT"})


def _number(value: Value) -> int | None:
    return None if value is None else int(value)


def _text(value: Value) -> str:
    assert isinstance(value, str)
    return value


async def describe(conn: Connection, names: Sequence[str]) -> dict[str, Described]:
    """The tables of ``names`` (``database.table``) that exist, by name."""
    found = {}
    for name in names:
        if (described := await _describe(conn, name)) is not None:
            found[name] = described
    return found


async def _describe(conn: Connection, name: str) -> Described | None:
    asked = name.partition(".")[::2]
    row = await conn.one(_sql.one_table, asked)
    if row is None or row[0] not in ("BASE TABLE", "SYSTEM VERSIONED"):
        return None
    kind, engine, rows, size, counter = row
    columns = [_column(each) for each in await conn.fetch(_sql.columns, asked)]
    counted = next((native.name for native, _, counts in columns if counts), None)
    uniques = await _uniques(conn, asked)
    checks = [
        Check(_text(label), _text(clause).replace("`", '"')) for label, clause in await conn.fetch(_sql.checks, asked)
    ]
    table = Table(
        schema=asked[0],
        name=asked[1],
        oid=0,
        kind="table",
        root=None,
        leaves=(),
        owner="",
        replica_identity="f",  # binlog_row_image=FULL: every old row is in the stream whole
        columns=tuple(column for _, column, _ in columns),
        uniques=uniques,
        checks=tuple(checks),
        identity_columns=next((unique.columns for unique in uniques if unique.primary), ()),
        rows=_number(rows) or 0,
        bytes=_number(size) or 0,
    )
    return Described(
        table,
        tuple(native for native, _, _ in columns),
        "" if engine is None else _text(engine),
        kind == "SYSTEM VERSIONED",
        None if counted is None else (counted, _number(counter) or 1),
    )


def _column(row: Sequence[Value]) -> tuple[Native, Column, bool]:
    name, kind, full, length, precision, scale, fraction, key, generated, not_null, default, counts = row
    native = Native(
        _text(name),
        _text(kind),
        _text(full),
        _number(length),
        _number(precision),
        _number(scale),
        _number(fraction),
        key == "1",
        generated == "1",
    )
    column = Column(
        native.name,
        types.postgres_type(native) or "unknown",
        not_null == "1",
        None if default is None else _text(default),
        generated=native.generated,
        identity=counts == "1",
    )
    return native, column, counts == "1"


async def _uniques(conn: Connection, asked: Sequence[str]) -> tuple[Unique, ...]:
    parts: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for index, column, whole in await conn.fetch(_sql.uniques, asked):
        parts[_text(index)].append((_text(column), whole == "1"))
    return tuple(
        Unique(
            index, tuple(column for column, _ in listed), index == "PRIMARY", plain=all(whole for _, whole in listed)
        )
        for index, listed in parts.items()
    )


async def natives(conn: Connection, name: str) -> list[tuple[Native, Column]]:
    """The columns of a table, those that the server computes left out; none where there is no such table."""
    rows = await conn.fetch(_sql.columns, name.partition(".")[::2])
    return [(native, column) for native, column, _ in map(_column, rows) if not native.generated]


async def tables(conn: Connection, names: Sequence[str]) -> dict[str, Table]:
    """The tables of ``names`` that exist, as the mapping is compiled against them."""
    return {name: described.table for name, described in (await describe(conn, names)).items()}


async def foreign_keys(conn: Connection, names: Sequence[str]) -> list[Rules]:
    """Every foreign key from or to one of the tables."""
    if not names:
        return []
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in await conn.fetch(_sql.foreign_keys, {"names": tuple(names)}):
        grouped[_text(row[1]), _text(row[0])].append(row)
    found = []
    for (table, name), rows in grouped.items():
        target, on_delete, on_update = _text(rows[0][3]), _text(rows[0][5]), _text(rows[0][6])
        columns = tuple(_text(row[2]) for row in rows)
        theirs = tuple(_text(row[4]) for row in rows)
        definition = (
            f"FOREIGN KEY ({', '.join(columns)}) REFERENCES {target} ({', '.join(theirs)})"
            f" ON DELETE {on_delete} ON UPDATE {on_update}"
        )
        found.append(Rules(ForeignKey(name, table, columns, target, theirs, definition), on_delete, on_update))
    return found


async def triggers(conn: Connection, names: Sequence[str]) -> list[Trigger]:
    """The users' triggers on the tables (ours are left out)."""
    rows = await conn.fetch(_sql.triggers, [tuple(names)]) if names else []
    return [Trigger(_text(table), _text(name), _text(definition), "O") for table, name, definition in rows]


def counters(found: Sequence[Described]) -> list[Counter]:
    """The tables' AUTO_INCREMENT columns, as sequences that they own."""
    return [
        Counter(f"{d.table.qualified}.{d.counter[0]}", d.table.qualified, d.counter[0], True, 1, 1, d.counter[1] - 1)
        for d in found
        if d.counter is not None
    ]


async def dependents(conn: Connection, names: Sequence[str]) -> list[Dependent]:
    """Views that use the tables, and routines that name them (best effort: text may lie)."""
    found = []
    for table in names:
        schema, _, name = table.partition(".")
        asked = {
            "schema": schema,
            "quoted": f"%`{schema}`.`{name}`%",
            "word": rf"\b{re.escape(name)}\b",
            # A routine of another database names the table's.
            "elsewhere": rf"\b{re.escape(schema)}`?\s*\.\s*`?{re.escape(name)}\b",
        }
        for kind, dependent in await conn.fetch(_sql.dependents, asked):
            found.append(Dependent(_text(kind), _text(dependent), table))
    return found
