"""A batch's steps, one after the other: rows, TRUNCATE, the edges and chunks of a snapshot.

When the database refuses, in halves, then in the source's own order, so that the one change that cannot be applied is
found and named.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import psycopg

from stranglerfig.changes.mapping import Mapping, quote, quote_table
from stranglerfig.changes.model import Direction, SnapshotChunk, SnapshotEdge
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.sql import load
from stranglerfig.sync import statements
from stranglerfig.sync.model import Culprit, Placed, Rows, Step, Truncate, check_shape, chunk_rows
from stranglerfig.sync.refusals import is_about_data
from stranglerfig.sync.staging import Staging

_sql = load(__package__ or "")


class Steps:
    """Does steps in the transaction of one session.

    Attributes:
        replica: whether the session's role may have foreign keys look away; ``parted``: whether they do all the time.
        skips: what a person left out: (LSN, ordinal, row).
    """

    def __init__(self, conn: postgres.Connection, staging: Staging, mapping: Mapping, direction: Direction) -> None:
        self._conn = conn
        self._staging = staging
        self._mapping = mapping
        self._direction = direction
        self.replica = False
        self.parted = False
        self.skips: frozenset[tuple[int, int, int]] = frozenset()

    async def do(self, steps: Sequence[Step], *, careful: bool, last: bool = False) -> None:
        """Do the steps; with ``last``, what nobody waits for the outcome of may go along with the commit."""
        if last and not careful and all(type(step) is Rows for step in steps):
            await self._staging.rows([change for step in steps for change in cast(Rows, step).changes], put_off=True)
            return
        for kind, group in itertools.groupby(steps, key=type):
            if kind is Rows:
                rows = [cast(Rows, step) for step in group]
                if careful:
                    await self._rows_carefully(rows)
                else:
                    await self._staging.rows([change for step in rows for change in step.changes])
                continue
            for step in group:
                if isinstance(step, Truncate):
                    await self._truncate(step, careful=careful)
                elif isinstance(step, SnapshotChunk):
                    await self._chunk(step, careful=careful)
                elif isinstance(step, SnapshotEdge):
                    await self._edge(step)

    async def _rows_carefully(self, groups: Sequence[Rows]) -> None:
        changes = [placed for group in groups for placed in group.placed()]
        if await self._attempt(changes):
            return
        if len(groups) > 1:
            half = len(groups) // 2
            await self._rows_carefully(groups[:half])
            await self._rows_carefully(groups[half:])
        elif not await self._attempt(changes, new_first=True):
            await self._in_order(changes)

    async def _attempt(self, changes: Sequence[Placed], *, new_first: bool = False) -> bool:
        await self._staging.savepoint()
        try:
            await self._staging.rows([p.change for p in changes], new_first=new_first)
        except Exception as error:
            if not is_about_data(error):
                raise
            await self._staging.undo()
            return False
        await self._conn.execute("RELEASE SAVEPOINT fig")
        return True

    async def _in_order(self, changes: Sequence[Placed]) -> None:
        """As the source did it, one change after the other."""
        for placed in changes:
            try:
                if not await self._staging.moved(placed.change):
                    await self._staging.rows([placed.change])
            except Exception as error:
                if not is_about_data(error):
                    raise
                raise Culprit(placed, error, self._staging.last_statement) from error

    async def _truncate(self, step: Truncate, *, careful: bool) -> None:
        try:
            await self._truncate_tables(step.tables)
        except Exception as error:
            if not careful or not is_about_data(error):
                raise
            raise Culprit(step.placed[0], error, self._staging.last_statement) from error

    async def _truncate_tables(self, tables: Sequence[str]) -> None:
        entries = [e for e in self._mapping.entries(self._direction) if e.source in tables]
        for entry in entries:
            if not entry.anchor and entry.columns:
                nulls = ", ".join(f"{quote(a.column)} = NULL" for a in entry.columns)
                anchor = self._staging.by_target[entry.target][0]
                if anchor.source not in tables:
                    await self._staging.execute(f"UPDATE {quote_table(entry.target)} SET {nulls}")  # noqa: S608
        await self._empty([e.target for e in entries if e.anchor])

    async def _empty(self, tables: Sequence[str]) -> None:
        if not tables:
            return
        await self._staging.savepoint()
        try:
            await self._staging.execute("TRUNCATE " + ", ".join(quote_table(t) for t in tables))
        except psycopg.Error as error:
            # A table outside the mapping refers to one of these, or the role may not truncate.
            if not isinstance(error, (psycopg.errors.FeatureNotSupported, psycopg.errors.InsufficientPrivilege)):
                raise
            await self._staging.undo()
            for table in reversed(tables):
                await self._staging.execute(f"DELETE FROM {quote_table(table)}")  # noqa: S608
        await self._conn.execute("RELEASE SAVEPOINT fig")

    # -- snapshots

    async def _edge(self, edge: SnapshotEdge) -> None:
        if self._direction is Direction.REVERSE:
            # Emptying the monolith's tables is nothing that a lost slot may cause.
            raise FigError(
                "snapshot_backward",
                "a snapshot of the service's tables is in the log, but the monolith's rows are never copied anew",
                "Start the reverse capture without a snapshot, and bring the rows together with fig verify --repair.",
            )
        if edge.begins:
            await self._empty(self._mapping.outputs(self._direction))
            return
        if not self.replica:
            return
        # Rows were copied with foreign keys looking away: what refers to nothing must not stay unnoticed.
        await self._staging.execute("SET LOCAL enable_seqscan = on")
        await self._staging.execute("SET LOCAL enable_hashjoin = on")
        tables = [quote_table(t) for t in self._mapping.outputs(self._direction)]
        for name, table, statement in await postgres.fetch(self._conn, _sql.foreign_keys, (tables,)):
            if count := await postgres.value(self._conn, statement):
                raise FigError(
                    "snapshot_orphans",
                    f"{count} row(s) of {table} refer to nothing by {name}",
                    "Add the table they refer to before it in the mapping, or drop the foreign key in the target.",
                    table=table,
                    constraint=name,
                    rows=count,
                )

    async def _chunk(self, chunk: SnapshotChunk, *, careful: bool) -> None:
        entries = self._staging.by_source.get(chunk.relation.qualified)
        if not entries:
            return
        if self.replica and not self.parted:
            # Tables are copied side by side, so children may come before their parents.
            await self._conn.execute("SET LOCAL session_replication_role = replica")
        check_shape(chunk.relation, entries)
        skipped = {s[2] for s in self.skips if s[:2] == (chunk.lsn, chunk.ordinal)}
        if careful or skipped:
            await self._chunk_rows([p for p in chunk_rows(chunk) if p.row not in skipped])
        elif len(entries) == 1 and (direct := statements.copy_direct(entries[0], chunk.relation)):
            await self._staging.copy(direct, [chunk.copy])
        else:
            stage = await self._staging.clean_stage(chunk.relation)
            await self._staging.copy(statements.copy_chunk(stage.name, chunk.relation), [chunk.copy])
            for entry in entries:
                await self._staging.execute(statements.insert(entry, stage.name, upsert=False))
        if self.replica and not self.parted:
            await self._conn.execute("SET LOCAL session_replication_role = origin")

    async def _chunk_rows(self, rows: Sequence[Placed]) -> None:
        if not rows or await self._attempt(rows):
            return
        if len(rows) == 1:
            await self._in_order(rows)
            return
        half = len(rows) // 2
        await self._chunk_rows(rows[:half])
        await self._chunk_rows(rows[half:])
