"""What is done to rows that both sides may change, and that it did no more and no less than was meant.

The rows and their versions are locked by then (:mod:`~stranglerfig.sync.both`), so a row that is not met, or goes along
with another one, is the doing of this database's own foreign keys, triggers and rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import psycopg

from stranglerfig.changes.conflicts import Settlement
from stranglerfig.changes.mapping import Entry, quote_table
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.sql import load
from stranglerfig.sync.conflicts import Effect, row_missing
from stranglerfig.sync.model import Culprit

_sql = load(__package__ or "")


class Here(NamedTuple):
    """A place where an effect lands: the entry that says how, and the rules of its pair."""

    entry: Entry
    settlement: Settlement
    effect: Effect


class Does(StrEnum):
    """What a statement does, which says how many rows it must touch."""

    RECORDS = "records"
    MAKES = "makes"
    CHANGES = "changes"
    """One row, which is there."""
    REMOVES = "removes"
    """One row, which is there, unless it went along with another one that was removed before."""


class Do(NamedTuple):
    """A statement and its parameters, for one effect."""

    does: Does
    statement: str
    params: Sequence[Any]
    here: Here


class Writing:
    """Statements in the transaction of one session; ``tables`` are those of the mapping."""

    def __init__(self, conn: postgres.Connection, tables: Sequence[str]) -> None:
        self._conn = conn
        self._tables = [quote_table(table) for table in tables]

    async def together(self, todo: Sequence[Do]) -> None:
        """All in one exchange.

        Raises:
            FigError, psycopg.Error: that something of it cannot be done.
        """
        async with self._conn.pipeline():
            before = await self._gone(todo)
            done = [await self._conn.execute(do.statement, do.params) for do in todo]
            after = await self._gone(todo)
        for do, cursor in zip(todo, done, strict=True):
            _check_touched(do, cursor.rowcount)
        await self._check_gone(todo, before, after)

    async def attempt(self, todo: Sequence[Do]) -> None:
        """Do all or nothing of it."""
        await self._conn.execute("SAVEPOINT fig")
        try:
            before = await self._gone(todo)
            for do in todo:
                try:
                    cursor = await self._conn.execute(do.statement, do.params)
                    _check_touched(do, cursor.rowcount)
                except psycopg.OperationalError:
                    raise  # it speaks of the server, or of a writer who holds the row
                except (psycopg.Error, FigError) as error:
                    raise Culprit(do.here.effect.placed, error, do.statement) from error
            try:
                await self._check_gone(todo, before, await self._gone(todo))
            except FigError as error:
                [first, *_] = [do for do in todo if do.does is Does.REMOVES]
                raise Culprit(first.here.effect.placed, error, first.statement) from error
        except Culprit:
            await self._conn.execute("ROLLBACK TO SAVEPOINT fig")
            raise
        await self._conn.execute("RELEASE SAVEPOINT fig")

    async def _gone(self, todo: Sequence[Do]) -> psycopg.AsyncCursor[Any] | None:
        """Ask how many rows have gone from the mapped tables in this transaction, where some of them are to go."""
        if any(do.does is Does.REMOVES for do in todo):
            return await self._conn.execute(_sql.removed, (self._tables, self._tables))
        return None

    async def _check_gone(
        self, todo: Sequence[Do], before: psycopg.AsyncCursor[Any] | None, after: psycopg.AsyncCursor[Any] | None
    ) -> None:
        """As many rows went as were to go: what goes along with a row (ON DELETE CASCADE), the source removed as well.

        Raises:
            FigError: ``removal_differs``.
        """
        if before is None or after is None:
            return
        [was], [now] = await before.fetchone() or (0,), await after.fetchone() or (0,)
        wanted = [do for do in todo if do.does is Does.REMOVES]
        if was is not None and now - was != len(wanted):
            raise _removal_differs(sorted({do.here.entry.target for do in wanted}), len(wanted), now - was)


def _check_touched(do: Do, rows: int) -> None:
    """Sync has the rows and their versions locked, so who else would have been there?

    Raises:
        FigError: ``row_missing``.
    """
    if do.does is Does.CHANGES and rows != 1:
        raise row_missing(do.here.entry.target, do.here.effect.key)


def about_order(culprit: Culprit) -> bool:
    """Whether what was refused may be allowed after other statements."""
    if isinstance(culprit.error, FigError):
        return culprit.error.code in ("row_missing", "removal_differs")
    return isinstance(culprit.error, (psycopg.IntegrityError, psycopg.errors.RaiseException))


def _removal_differs(tables: Sequence[str], wanted: int, found: int) -> FigError:
    return FigError(
        "removal_differs",
        f"{wanted} row(s) of {', '.join(tables)} were to go, but {found} went from the mapped tables: a foreign key (ON"
        " DELETE CASCADE), a trigger or a rule of this database did more or less than the change",
        "Bring the rows that would go along to where they should be, then fig sync retry.",
        tables=list(tables),
    )
