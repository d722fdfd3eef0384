"""The initial snapshot of a MariaDB: its tables read one after the other in one transaction, as COPY text.

Bounded memory: the server waits while the log is busy. It is not resumed but begun again, with a new generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace

from stranglerfig.capture import pack
from stranglerfig.capture.facts import Facts
from stranglerfig.capture.memory import Memory
from stranglerfig.capture.model import Progress
from stranglerfig.changes.model import Column, Relation, SnapshotChunk, SnapshotEdge
from stranglerfig.databases.mariadb import types
from stranglerfig.databases.mariadb.catalogue import Described
from stranglerfig.foundation import clock, mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Connection, quote_table

CHUNK_ROWS = 5_000
CHUNK_BYTES = 1_000_000
_CHANGED = 1412
"""Of an error: the table's definition is younger than the transaction (``ER_TABLE_DEF_CHANGED``)."""


def relation(found: Described) -> Relation:
    """A table as the change stream would describe it."""
    pairs = zip(found.native, found.table.columns, strict=True)
    columns = (Column(native.name, column.type, native.key) for native, column in pairs if not native.generated)
    return Relation(found.table.schema, found.table.name, tuple(columns))


async def take(
    conn: Connection, described: Mapping[str, Described], lsn: int, generation: int, memory: Memory, facts: Facts
) -> list[Relation]:
    """Read the tables in the transaction of ``conn`` into the log; returns their shapes.

    Args:
        conn: in a transaction that reads one state of the database.
        described: the tables, by name.
        lsn: what the chunks carry; below every streamed transaction.
        generation: what the edges carry.
        memory: where to.
        facts: where progress is told; the number of rows is InnoDB's estimate until all are read.

    Raises:
        FigError: ``zero_date``; ``table_changed`` when a table's definition changed meanwhile.
    """
    begun = clock.monotonic()
    tables = tuple(described)
    estimate = sum(found.table.rows for found in described.values())
    facts.progress = Progress(pages_total=estimate, estimate=estimate)
    edge = SnapshotEdge(lsn, 0, generation, True, tables, estimate)
    await memory.append([pack.edge(edge, source=memory.source, now=clock.now())])
    ordinal = rows = 0
    shapes = []
    for found in described.values():
        shape = relation(found)
        shapes.append(shape)
        columns = [column for column in found.native if not column.generated]
        readers = tuple(types.reader(column) for column in columns)
        asked = ", ".join(types.expression(column) for column in columns)
        statement = f"SELECT {asked} FROM {quote_table(found.table.qualified)}"  # noqa: S608  quoted names
        try:
            async with aclosing(conn.stream(statement, rows=CHUNK_ROWS)) as batches:
                async for batch in batches:
                    lines = [types.copy_line(row, readers) for row in batch]
                    events = []
                    for some in _cut(lines):
                        ordinal += 1
                        chunk = SnapshotChunk(lsn, ordinal, shape, len(some), b"".join(some))
                        events.append(pack.chunk(chunk, source=memory.source, generation=generation, now=clock.now()))
                    await memory.append(events)
                    rows += len(batch)
                    seconds = clock.monotonic() - begun
                    facts.progress = Progress(rows, rows, max(estimate, rows), estimate, seconds)
        except FigError as error:
            if not mysql.refused(error, _CHANGED):
                raise
            raise FigError(
                "table_changed",
                f"the definition of {found.table.qualified} changed while it was about to be read",
                "Nothing: the snapshot begins again. Let nobody change the tables meanwhile.",
                table=found.table.qualified,
            ) from error
    last = SnapshotEdge(lsn, ordinal + 1, generation, False, tables, rows)
    await memory.append([pack.edge(last, source=memory.source, now=clock.now())])
    facts.progress = replace(facts.progress, rows=rows, pages=1, pages_total=1, seconds=clock.monotonic() - begun)
    return shapes


def _cut(lines: list[bytes]) -> list[list[bytes]]:
    """Lines in groups of about a megabyte."""
    groups: list[list[bytes]] = [[]]
    size = 0
    for line in lines:
        if size + len(line) > CHUNK_BYTES and groups[-1]:
            groups.append([])
            size = 0
        groups[-1].append(line)
        size += len(line)
    return groups
