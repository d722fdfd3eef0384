"""Which rows either side touched since a moment, as each database itself knows; whether those are equal.

It does not rest on the stream that it is there to test. PostgreSQL numbers the rows (``xmin``); a MariaDB does not, so
a hash of each row is kept in a temporary table there, and compared by the server when it is asked. What is gone is told
from the keys that were there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stranglerfig.changes.mapping import Entry, canonical, quote, quote_table
from stranglerfig.changes.mapping import Mapping as TableMap
from stranglerfig.databases.mariadb import catalogue, types
from stranglerfig.databases.mariadb.types import Native
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.verification import across
from stranglerfig.verification.across_repair import condition
from stranglerfig.verification.model import Key

# Names and expressions come from the user's configuration and from catalogues, quoted.
# ruff: noqa: S608

MOST = 20_000
"""Rows touched since the whole comparison beyond which another look would hold requests too long: compare anew."""
_AT_ONCE = 500
_NAMED = 1_000


@dataclass
class Touched:
    """A look at both sides that began with :meth:`begin`; its sessions live as long.

    Args:
        monolith: a session of its own; what it keeps there goes with it.
        service: the same.
    """

    monolith: mysql.Connection
    service: postgres.Connection
    mapping: TableMap
    _since: str = ""
    _kept: dict[str, str] = field(default_factory=dict)
    _hashes: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _natives: dict[str, dict[str, Native]] = field(default_factory=dict)

    async def begin(self) -> None:
        """Remember what is there now: before the whole comparison.

        Raises:
            FigError: ``database_unreachable``, ``statement_refused``.
        """
        # Reading rows for a copy locks none of them so.
        await self.monolith.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        # All that may still be invisible to the comparison has this id or a later one.
        self._since = await postgres.value(
            self.service, "SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296)::text"
        )
        for number, entry in enumerate(self.mapping.forward):
            await self.service.execute(f"DROP TABLE IF EXISTS pg_temp.fig_were_{number}")
            keys = ", ".join(quote(a.column) for a in entry.key)
            await self.service.execute(
                f"CREATE TEMP TABLE fig_were_{number} AS SELECT {keys} FROM {quote_table(entry.target)}"
            )
            # What is filled while requests wait is made now.
            await self._make(f"fig_touched_{number}", entry, entry.source_key)
            await self._make(f"fig_rows_{number}", entry, sorted(entry.needs))
        for entry in self.mapping.forward:
            if entry.source not in self._kept:
                await self._keep(entry, len(self._kept))

    async def _make(self, name: str, entry: Entry, columns: Sequence[str]) -> None:
        """Make a temporary table for some of the columns of an entry's source."""
        kinds = self.mapping.source_types[entry.source]
        made = ", ".join(f"{quote(column)} {kinds[column]}" for column in columns)
        await self.service.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")
        await self.service.execute(f"CREATE TEMP TABLE {name} ({made})")

    async def _keep(self, entry: Entry, number: int) -> None:
        """Keep a hash of each of a table's rows."""
        natives = [native for native, _ in await catalogue.natives(self.monolith, entry.source)]
        self._natives[entry.source] = {native.name: native for native in natives}
        kept, made = f"fig.touched_{number}", f"md5(concat({', '.join(map(_part, natives))}))"
        keys = ", ".join(f"t.{mysql.quote(name)}" for name in entry.source_key)
        primary = ", ".join(mysql.quote(name) for name in entry.source_key)
        await self.monolith.execute(f"DROP TEMPORARY TABLE IF EXISTS {kept}")
        self._counts[entry.source] = await self.monolith.execute(
            f"CREATE TEMPORARY TABLE {kept} (PRIMARY KEY ({primary})) ENGINE=InnoDB"
            f" AS SELECT {keys}, {made} AS fig_hash FROM {mysql.quote_table(entry.source)} t"
        )
        self._kept[entry.source], self._hashes[entry.source] = kept, made

    async def unequal(self, moving: Mapping[str, Sequence[Key]] | None = None) -> dict[str, list[str]]:
        """The rows that were touched since, or are in ``moving``, and differ: table of the service → keys as texts.

        Of each table some at most; those that have none are not named. The monolith does not change meanwhile.

        Raises:
            FigError: ``too_much_touched``, ``database_unreachable``.
        """
        made = [f"fig_{kind}_{number}" for kind in ("touched", "rows") for number in range(len(self.mapping.forward))]
        await self.service.execute(f"TRUNCATE {', '.join(made)}")
        there = {
            source: await self._touched_there(entry)
            for source, entry in {entry.source: entry for entry in self.mapping.forward}.items()
        }
        found = {}
        for entry in self.mapping.forward:
            if keys := await self._unequal(entry, there[entry.source], (moving or {}).get(entry.target, ())):
                found[entry.target] = keys
        return found

    async def _unequal(self, entry: Entry, there: Sequence[mysql.Row], moving: Sequence[Key]) -> list[str]:
        keys = await self._gather(entry, there, moving)
        if not keys:
            return []
        if len(keys) > MOST:
            raise FigError(
                "too_much_touched",
                f"{len(keys)} rows of {entry.target} were touched since the whole comparison",
                "Try again: the comparison is made anew.",
            )
        ours = await self._ours(entry, keys)
        theirs = self._theirs(entry)
        return ["/".join(key) for key in sorted(await across.compare(self.service, entry, ours, theirs, _NAMED))]

    async def _gather(self, entry: Entry, found: Sequence[mysql.Row], moving: Sequence[Key]) -> list[Key]:
        """Put the keys of all that was touched, in the monolith's types, into a temporary table; the same as texts."""
        number = self.mapping.forward.index(entry)
        kinds, theirs = self.mapping.source_types[entry.source], self.mapping.target_types[entry.target]
        pairs = list(zip(entry.source_key, (a.column for a in entry.key), strict=True))
        listed = ", ".join(quote(name) for name, _ in pairs)
        cast = ", ".join(f"{quote(column)}::{kinds[name]}" for name, column in pairs)
        there = " AND ".join(f"input.{quote(column)} = w.{quote(column)}" for _, column in pairs)
        table = quote_table(entry.target)
        await self.service.execute(
            f"INSERT INTO fig_touched_{number} SELECT {cast} FROM {table} WHERE age(xmin) <= age('{self._since}'::xid)"
            f" UNION ALL SELECT {cast} FROM fig_were_{number} AS w"
            f" WHERE NOT EXISTS (SELECT FROM {table} AS input WHERE {there})"
        )
        if moving:
            unnested = ", ".join(f"unnest(%s::text[])::{theirs[column]}::{kinds[name]}" for name, column in pairs)
            columns = [[key[n] for key in moving] for n in range(len(pairs))]
            await self.service.execute(f"INSERT INTO fig_touched_{number} SELECT {unnested}", columns)
        readers = tuple(types.reader(self._natives[entry.source][name]) for name, _ in pairs)
        await self._copy(f"fig_touched_{number} ({listed})", found, readers)
        shown = ", ".join(f"{quote(name)}::text" for name, _ in pairs)
        rows = await postgres.fetch(self.service, f"SELECT DISTINCT {shown} FROM fig_touched_{number}")
        return [tuple(row) for row in rows]

    async def _copy(self, into: str, rows: Sequence[mysql.Row], readers: tuple[types.Reader, ...]) -> None:
        async with self.service.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
            await copy.write(b"".join([types.copy_line(row, readers) for row in rows]))

    async def _touched_there(self, entry: Entry) -> list[mysql.Row]:
        table, kept, made = mysql.quote_table(entry.source), self._kept[entry.source], self._hashes[entry.source]
        same = " AND ".join(f"t.{mysql.quote(name)} = p.{mysql.quote(name)}" for name in entry.source_key)
        first = mysql.quote(entry.source_key[0])
        new, gone = (", ".join(f"{alias}.{mysql.quote(name)}" for name in entry.source_key) for alias in "tp")
        found, made_since, width = [], 0, len(entry.source_key)
        for row in await self.monolith.fetch(
            f"SELECT {new}, {gone} FROM {table} t LEFT JOIN {kept} p ON {same}"
            f" WHERE p.fig_hash IS NULL OR NOT p.fig_hash <=> {made}"
        ):
            found.append(row[:width])
            if row[width] is None:
                made_since += 1
            elif row[:width] != row[width:]:
                found.append(row[width:])  # a collation takes both keys for one, the service does not
        count = int(await self.monolith.value(f"SELECT count(*) FROM {table}") or 0)
        if count - made_since < self._counts[entry.source]:
            found += await self.monolith.fetch(
                f"SELECT {gone} FROM {kept} p LEFT JOIN {table} t ON {same} WHERE t.{first} IS NULL"
            )
        return found

    async def _ours(self, entry: Entry, keys: Sequence[Key]) -> str:
        """Bring the monolith's rows of ``keys`` over; the query of what they become."""
        number, columns, natives = self.mapping.forward.index(entry), sorted(entry.needs), self._natives[entry.source]
        asked = ", ".join(types.expression(natives[column]) for column in columns)
        found: list[mysql.Row] = []
        for begin in range(0, len(keys), _AT_ONCE):
            where, params = condition(natives, entry.source_key, keys[begin : begin + _AT_ONCE])
            statement = f"SELECT {asked} FROM {mysql.quote_table(entry.source)} WHERE {where}"
            found += await self.monolith.fetch(statement, params)
        readers = tuple(types.reader(natives[column]) for column in columns)
        await self._copy(f"fig_rows_{number} ({', '.join(map(quote, columns))})", found, readers)
        # MariaDB's collations take some keys for one: those that were not asked for are left out again.
        same = " AND ".join(f"t.{quote(name)} = input.{quote(name)}" for name in entry.source_key)
        where = f"({entry.where})" if entry.where else "true"
        touched = f"EXISTS (SELECT FROM fig_touched_{number} AS t WHERE {same})"
        return f"{across.made_of(entry)} FROM fig_rows_{number} AS input WHERE {where} AND {touched}"

    def _theirs(self, entry: Entry) -> str:
        """The query of the service's rows of the keys that were gathered."""
        keys = ", ".join(f"({a.expression})::{canonical(a.type)} AS k{n}" for n, a in enumerate(entry.key))
        named = ", ".join(f"k{n}" for n in range(len(entry.key)))
        wanted = f"SELECT {keys} FROM fig_touched_{self.mapping.forward.index(entry)} AS input"
        return f"SELECT r.* FROM ({across.rows_of(entry)}) AS r WHERE ({named}) IN ({wanted})"


def _part(native: Native) -> str:
    """A column's part of what is hashed: length and bytes, so that null is no value and no two rows read alike."""
    quoted = mysql.quote(native.name)
    value = f"CAST({types.expression(native).replace(quoted, f't.{quoted}')} AS BINARY)"
    return f"ifnull(octet_length({value}), '-'), x'1f', ifnull({value}, '')"
