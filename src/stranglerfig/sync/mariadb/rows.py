"""What a batch makes of one output table: rows that go, columns that become null, rows that are put. Pure.

Several entries may give to one row; what each gives is brought together here by the row's key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from stranglerfig.changes.mapping import Assignment, Entry
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import statements as shared
from stranglerfig.sync.mariadb import statements
from stranglerfig.sync.mariadb.evaluate import Made, Texts
from stranglerfig.sync.mariadb.statements import MOST_ROWS, Said, Table


@dataclass(slots=True)
class _Put:
    """What is given to one row.

    Attributes:
        columns: texts by output column.
        entry: one of those who give.
        anchored: whether the one who makes rows is among them.
        unchanged: input columns that the source did not send.
    """

    entry: Entry
    columns: dict[str, str | None] = field(default_factory=dict)
    anchored: bool = False
    unchanged: frozenset[str] = frozenset()


class Batch:
    """Collects what is asked of one table; then says it, given which rows are there."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._gone: dict[Texts, None] = {}
        self._emptied: list[tuple[tuple[str, ...], list[Texts]]] = []
        self._puts: dict[Texts, _Put] = {}

    def _key(self, entry: Entry, key: Texts) -> Texts:
        """A key in the table's order of its columns."""
        found = dict(zip((a.column for a in entry.key), key, strict=True))
        return tuple(found[name] for name in self.table.key)

    def remove(self, entry: Entry, keys: Sequence[Texts]) -> None:
        """Rows of an entry are gone: so are the output rows, or what the entry gave to them."""
        ordered = [self._key(entry, key) for key in keys]
        if entry.anchor:
            self._gone.update(dict.fromkeys(ordered))
        elif entry.columns and ordered:
            self._emptied.append((tuple(a.column for a in entry.columns), ordered))

    def put(self, entry: Entry, columns: Sequence[Assignment], rows: Sequence[Made], unchanged: frozenset[str]) -> None:
        """Rows of an entry are so, as far as ``columns`` say."""
        for made in rows:
            put = self._puts.setdefault(self._key(entry, made.key), _Put(entry))
            put.columns.update(zip((a.column for a in columns), made.values, strict=True))
            put.anchored |= entry.anchor
            if unchanged:
                put.entry, put.unchanged = entry, unchanged

    @property
    def keys(self) -> list[Texts]:
        """The keys of all rows that it is about."""
        emptied = (key for _, keys in self._emptied for key in keys)
        return list(dict.fromkeys([*self._gone, *emptied, *self._puts]))

    def removals(self, there: Collection[Texts]) -> Iterator[Said]:
        """Take away; rows that are not there, and those that only the collation takes for them, stay."""
        yield from statements.delete(self.table, [key for key in self._gone if key in there])
        for columns, keys in self._emptied:
            kept = [key for key in keys if key in there and key not in self._gone]
            yield from statements.empty(self.table, columns, kept)

    def puts(self, there: Collection[Texts]) -> Iterator[Said]:
        """Change rows that are there, make the others.

        Raises:
            FigError: ``unchanged_value_needed``, ``row_without_anchor``, ``value_refused``.
        """
        new: dict[tuple[str, ...], list[tuple[Texts, dict[str, str | None]]]] = {}
        for key, put in self._puts.items():
            if key in there and key not in self._gone:
                if put.columns:
                    yield statements.update(self.table, key, put.columns)
            elif put.unchanged:
                raise shared.unchanged_needed(put.entry, put.unchanged)
            elif not put.anchored:
                raise FigError(
                    "row_without_anchor",
                    f"a row of {put.entry.source} belongs to no row of {put.entry.target}",
                    "Write the row of the first mapped table in the same transaction.",
                    table=put.entry.source,
                    rows=1,
                )
            else:
                new.setdefault(tuple(put.columns), []).append((key, put.columns))
        for columns, rows in new.items():
            for first in range(0, len(rows), MOST_ROWS):
                yield statements.insert(self.table, columns, rows[first : first + MOST_ROWS])
