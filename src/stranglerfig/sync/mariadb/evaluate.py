"""What a mapping makes of the service's rows for a MariaDB: evaluated by the service's PostgreSQL, which reads nothing.

The rows go there as parameters and come back as texts of the output columns' types, so neither a stage nor a right
is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import psycopg

from stranglerfig.changes.mapping import Assignment, Entry, canonical
from stranglerfig.changes.model import Relation, Row
from stranglerfig.foundation import postgres
from stranglerfig.foundation.sql import load
from stranglerfig.sync import inline
from stranglerfig.sync.model import key_places
from stranglerfig.sync.refusals import is_about_data

_MOST_ROWS = 2_000
_sql = load("stranglerfig.sync")

Texts = tuple[str | None, ...]


class Made(NamedTuple):
    """An output row, or what an entry gives to one: texts, as PostgreSQL shows values of the columns' types."""

    key: Texts
    values: Texts


def statement(entry: Entry, columns: Sequence[Assignment], named: Sequence[tuple[str, str]]) -> str:
    """The evaluation of an entry's key and ``columns`` over input rows, whose columns ``named`` are parameters."""
    wanted = ", ".join(f"(({a.expression})::{canonical(a.type)})::text" for a in (*entry.key, *columns))
    return inline.with_batch(f"SELECT {wanted} FROM {inline.BATCH} AS input", "u", named)  # noqa: S608  quoted names


class Evaluator:
    """A session on the service's database, for the length of a worker's life."""

    def __init__(self, dsn: str, conn: postgres.Connection) -> None:
        self._dsn = dsn
        self._conn = conn
        self._types: dict[Relation, tuple[str, ...]] = {}
        self.last_statement = ""

    async def keys(self, entry: Entry, relation: Relation, rows: Sequence[Row]) -> list[Texts]:
        """The output keys of input rows of which only the key is known; ``rows`` are whole, the rest of any value."""
        return [made.key for made in await self._evaluate(entry, (), relation, rows)]

    async def rows(
        self, entry: Entry, columns: Sequence[Assignment], relation: Relation, rows: Sequence[Row]
    ) -> list[Made]:
        """What ``columns`` of the entry are for each of ``rows``, in no order.

        Raises:
            psycopg.Error: what an expression is refused with.
            FigError: ``database_unreachable``, ``incompatible_ddl``.
        """
        return await self._evaluate(entry, columns, relation, rows)

    async def _evaluate(
        self, entry: Entry, columns: Sequence[Assignment], relation: Relation, rows: Sequence[Row]
    ) -> list[Made]:
        names = tuple(sorted(frozenset().union(*(a.needs for a in (*entry.key, *columns)))))
        places = key_places(relation, names)
        try:
            types = await self._types_of(relation)
            text = statement(entry, columns, [(relation.columns[n].name, types[n]) for n in places])
            self.last_statement = text
            found = []
            for some in _cut(rows):
                arrays = [inline.array_literal([cast("str | None", row[n]) for row in some]) for n in places]
                found += await postgres.fetch(self._conn, text, arrays)
        except psycopg.Error as error:
            if is_about_data(error):
                raise
            raise postgres.unreachable(self._dsn, error) from error
        width = len(entry.key)
        return [Made(tuple(row[:width]), tuple(row[width:])) for row in found]

    async def _types_of(self, relation: Relation) -> tuple[str, ...]:
        """The types of the relation's columns; one that is gone meanwhile travels as text."""
        if (types := self._types.get(relation)) is None:
            names = [column.type for column in relation.columns]
            known = await postgres.value(self._conn, _sql.known_types, (names,))
            types = tuple(name if there else "text" for name, there in zip(names, known, strict=True))
            self._types[relation] = types
        return types


def _cut(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for first in range(0, len(rows), _MOST_ROWS):
        yield rows[first : first + _MOST_ROWS]
