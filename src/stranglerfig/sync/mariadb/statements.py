"""What is said to a MariaDB about rows of one of its tables: text and parameters, no I/O.

Never ``ON DUPLICATE KEY UPDATE`` nor ``REPLACE``: any unique index counts for them, so another row would be changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stranglerfig.databases.mariadb import types, values
from stranglerfig.databases.mariadb.types import Native
from stranglerfig.databases.mariadb.values import Param
from stranglerfig.foundation.mysql import Row, quote, quote_table
from stranglerfig.sync.mariadb.evaluate import Texts

# Names come from the user's own configuration and from catalogues, quoted; never from data.
# ruff: noqa: S608

MOST_ROWS = 500
"""Rows of one statement: above a thousand the server makes a table of a list of keys."""

Said = tuple[str, Sequence[Param | None]]


@dataclass(frozen=True, slots=True)
class Table:
    """An output table.

    Attributes:
        name: ``database.table``.
        key: its primary key's columns, in the order in which keys are given here.
        natives: its columns by name, generated ones left out.
    """

    name: str
    key: tuple[str, ...]
    natives: Mapping[str, Native]

    def param(self, column: str, text: str | None) -> Param | None:
        """A value as a parameter.

        Raises:
            FigError: ``value_refused``.
        """
        return None if text is None else values.writer(self.natives[column])(text)

    def key_of(self, row: Row) -> Texts:
        """The key as PostgreSQL shows it, of a row that :func:`present` gave."""
        return tuple(
            None if value is None else types.reader(self.natives[name])(value)
            for name, value in zip(self.key, row, strict=True)
        )


def _name(name: str) -> str:
    return quote(name).replace("%", "%%")


def _table(table: Table) -> str:
    return quote_table(table.name).replace("%", "%%")


def _columns(names: Sequence[str]) -> str:
    return ", ".join(map(_name, names))


def _are(table: Table, keys: Sequence[Texts]) -> Said:
    params = [table.param(name, text) for key in keys for name, text in zip(table.key, key, strict=True)]
    if len(table.key) == 1:
        return f"{_name(table.key[0])} IN ({', '.join(['%s'] * len(keys))})", params
    one = "(" + " AND ".join(f"{_name(name)} = %s" for name in table.key) + ")"
    return " OR ".join([one] * len(keys)), params


def _some(keys: Sequence[Texts]) -> Iterator[Sequence[Texts]]:
    for first in range(0, len(keys), MOST_ROWS):
        yield keys[first : first + MOST_ROWS]


def present(table: Table, keys: Sequence[Texts]) -> Iterator[Said]:
    """The keys of those rows that are there, kept from being changed until the transaction ends.

    What the table's collation takes for the same comes along: compare.
    """
    asked = ", ".join(types.expression(table.natives[name]).replace("%", "%%") for name in table.key)
    for some in _some(keys):
        where, params = _are(table, some)
        yield f"SELECT {asked} FROM {_table(table)} WHERE {where} FOR UPDATE", params


def delete(table: Table, keys: Sequence[Texts]) -> Iterator[Said]:
    """Remove rows."""
    for some in _some(keys):
        where, params = _are(table, some)
        yield f"DELETE FROM {_table(table)} WHERE {where}", params


def empty(table: Table, columns: Sequence[str], keys: Sequence[Texts]) -> Iterator[Said]:
    """Let columns of rows be null."""
    nulls = ", ".join(f"{_name(name)} = NULL" for name in columns)
    for some in _some(keys):
        where, params = _are(table, some)
        yield f"UPDATE {_table(table)} SET {nulls} WHERE {where}", params


def update(table: Table, key: Texts, row: Mapping[str, str | None]) -> Said:
    """Change columns of one row (its key may be among them)."""
    sets = ", ".join(f"{_name(name)} = %s" for name in row)
    where, params = _are(table, [key])
    return f"UPDATE {_table(table)} SET {sets} WHERE {where}", [
        *(table.param(name, text) for name, text in row.items()),
        *params,
    ]


def insert(table: Table, columns: Sequence[str], rows: Sequence[tuple[Texts, Mapping[str, str | None]]]) -> Said:
    """Make rows: key and columns of each."""
    names = [*table.key, *columns]
    one = "(" + ", ".join(["%s"] * len(names)) + ")"
    params = [
        table.param(name, text)
        for key, row in rows
        for name, text in zip(names, (*key, *(row[column] for column in columns)), strict=True)
    ]
    return f"INSERT INTO {_table(table)} ({_columns(names)}) VALUES {', '.join([one] * len(rows))}", params


def clear(table: Table) -> Said:
    """Remove every row. (TRUNCATE would commit what came before it.)"""
    return f"DELETE FROM {_table(table)}", ()


def clear_columns(table: Table, columns: Sequence[str]) -> Said:
    """Let columns of every row be null."""
    return f"UPDATE {_table(table)} SET {', '.join(f'{_name(name)} = NULL' for name in columns)}", ()
