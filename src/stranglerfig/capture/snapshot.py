"""The initial snapshot: tables read in parallel as COPY text under the slot's exported snapshot, appended by one hand.

Bounded memory: workers wait while the log is busy. It is not resumed but begun again, with a new slot and generation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from psycopg import sql as statements

from stranglerfig.capture import pack, wire
from stranglerfig.capture.facts import Facts
from stranglerfig.capture.memory import Memory
from stranglerfig.capture.model import Progress
from stranglerfig.changes.model import Barrier, Column, Relation, SnapshotChunk, SnapshotEdge
from stranglerfig.foundation import clock, postgres, sql

_queries = sql.load(__package__ or "")
WORKERS = 2
CHUNK_BYTES = 1_000_000
CHUNK_ROWS = 20_000
_PIECE_PAGES = 4096
_QUEUED = 4


class Piece(NamedTuple):
    """A stretch of pages of one physical table; ``until`` None: to its end."""

    relation: Relation
    leaf: tuple[str, str]
    start: int
    until: int | None
    pages: int


@dataclass
class _Plan:
    pieces: list[Piece] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    pages: int = 0
    rows: int = 0


class _Rows(NamedTuple):
    relation: Relation
    rows: int
    copy: bytes


async def relation(conn: postgres.Connection, table: str) -> Relation:
    """A table as the change stream would describe it."""
    rows = await postgres.fetch(conn, _queries.columns, (table,))
    return Relation(rows[0][0], rows[0][1], tuple(Column(row[2], row[3], row[4]) for row in rows))


def cut(found: Relation, leaf: tuple[str, str], pages: int) -> Iterator[Piece]:
    """Pieces of at most 4096 pages (32 MB), so that two workers end together and progress is honest."""
    start = 0
    while pages - start > _PIECE_PAGES:
        yield Piece(found, leaf, start, start + _PIECE_PAGES, _PIECE_PAGES)
        start += _PIECE_PAGES
    # Rows may live beyond the pages that were counted a moment ago.
    yield Piece(found, leaf, start, None, pages - start)


def statement(piece: Piece) -> str:
    """The COPY that reads a piece: a range of tuple ids is a sequential read of just those pages (PostgreSQL 14+)."""
    columns = statements.SQL(", ").join(statements.Identifier(column.name) for column in piece.relation.columns)
    until: statements.Composable = statements.SQL("")
    if piece.until is not None:
        until = statements.SQL(" AND ctid < {}").format(statements.Literal(f"({piece.until},0)"))
    return (
        statements.SQL("COPY (SELECT {} FROM ONLY {} WHERE ctid >= {}{}) TO STDOUT")
        .format(columns, statements.Identifier(*piece.leaf), statements.Literal(f"({piece.start},0)"), until)
        .as_string()
    )


async def _plan(conn: postgres.Connection, tables: tuple[str, ...]) -> _Plan:
    plan = _Plan()
    for table in tables:
        found = await relation(conn, table)
        plan.relations.append(found)
        for schema, name, pages, rows in await postgres.fetch(conn, _queries.leaves, {"table": table}):
            plan.pieces += cut(found, (schema, name), pages)
            plan.pages += pages
            plan.rows += rows
    return plan


async def take(
    dsn: str,
    what: str,
    tables: tuple[str, ...],
    snapshot: str,
    lsn: int,
    generation: int,
    memory: Memory,
    facts: Facts,
    *,
    partitions: int = 1,
) -> list[Relation]:
    """Read ``tables`` as of ``snapshot`` into the log; returns their shapes.

    Args:
        dsn: the source.
        what: how the sessions name themselves.
        tables: ``schema.name`` each.
        snapshot: the exported snapshot's name; its exporting session must stay as it is meanwhile.
        lsn: what the chunks carry; below every streamed transaction.
        generation: what the edges carry.
        memory: where to.
        facts: where progress is told.
        partitions: of the topic; the snapshot is in the first one, between two barriers where there are more.
    """
    begun = clock.monotonic()
    async with postgres.session(dsn, what=what) as conn:
        await _enter(conn, snapshot)
        plan = await _plan(conn, tables)
        await conn.execute("COMMIT")
    facts.progress = Progress(pages_total=plan.pages, estimate=plan.rows)
    await memory.fence(Barrier(lsn, 0, partitions, generation=generation))
    first = SnapshotEdge(lsn, 0, generation, True, tables, plan.rows)
    await memory.append([pack.edge(first, source=memory.source, now=clock.now())])

    copying = _Copying(dsn, what, snapshot, iter(plan.pieces))
    written = Progress(pages_total=plan.pages, estimate=plan.rows)
    ordinal = 0

    async def write() -> None:
        nonlocal written, ordinal
        while batch := await copying.next():
            events = []
            rows = written.rows
            for item in batch:
                ordinal += 1
                rows += item.rows
                chunk = SnapshotChunk(lsn, ordinal, item.relation, item.rows, item.copy)
                events.append(pack.chunk(chunk, source=memory.source, generation=generation, now=clock.now()))
            await memory.append(events)
            written = Progress(rows, copying.pages, plan.pages, plan.rows, clock.monotonic() - begun)
            facts.progress = written

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            for _ in range(WORKERS):
                group.create_task(copying.work())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    last = SnapshotEdge(lsn, ordinal + 1, generation, False, tables, written.rows)
    await memory.append([pack.edge(last, source=memory.source, now=clock.now())])
    await memory.fence(Barrier(lsn, ordinal + 1, partitions, closes=True, generation=generation))
    facts.progress = replace(written, pages=plan.pages, seconds=clock.monotonic() - begun)
    return plan.relations


class _Copying:
    """Workers that read pieces into a short queue."""

    def __init__(self, dsn: str, what: str, snapshot: str, pieces: Iterator[Piece]) -> None:
        self._dsn = dsn
        self._what = what
        self._snapshot = snapshot
        self._pieces = pieces
        self._queue: asyncio.Queue[_Rows | None] = asyncio.Queue(_QUEUED)
        self._working = WORKERS
        self.pages = 0

    async def work(self) -> None:
        """Read pieces until there are none left."""
        async with postgres.session(self._dsn, what=self._what, client_encoding="utf8") as conn:
            await _enter(conn, self._snapshot)
            for piece in self._pieces:
                async for lines in wire.rows(conn, statement(piece), most_bytes=CHUNK_BYTES):
                    for start in range(0, len(lines), CHUNK_ROWS):
                        some = lines[start : start + CHUNK_ROWS]
                        await self._queue.put(_Rows(piece.relation, len(some), b"".join(some)))
                self.pages += piece.pages
            await conn.execute("COMMIT")
        await self._queue.put(None)

    async def next(self) -> list[_Rows]:
        """What has been read, at least one; nothing when all is."""
        batch: list[_Rows] = []
        while self._working and (not batch or not self._queue.empty()):
            item = await self._queue.get()
            if item is None:
                self._working -= 1
            else:
                batch.append(item)
        return batch


async def _enter(conn: postgres.Connection, snapshot: str) -> None:
    await conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await conn.execute(statements.SQL("SET TRANSACTION SNAPSHOT {}").format(statements.Literal(snapshot)))
