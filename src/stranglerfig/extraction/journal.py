"""The journal of cut-overs in the control database."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.types.json import Jsonb

from stranglerfig.extraction.ports import Entry
from stranglerfig.foundation import postgres
from stranglerfig.foundation.postgres import Connection

TABLES = postgres.Tables("extraction_journal", __package__ or "", ("journal.sql",))
_INSERT = "INSERT INTO fig.journal (context, epoch, direction, step, phase, detail) VALUES (%s, %s, %s, %s, %s, %s)"


class Journal:
    """Keeps one session open between appends: no connection is made while requests are held."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._conn: Connection | None = None

    async def migrate(self) -> None:
        """Create or bring forward the table."""
        await postgres.migrate(await self._session(), *TABLES)

    async def append(self, entries: Sequence[Entry]) -> None:
        """Append in order, in one transaction, on disk when it returns."""
        conn = await self._session()
        rows = [(e.context, e.epoch, e.direction, e.step, e.phase, Jsonb(dict(e.detail))) for e in entries]
        async with conn.transaction(), conn.cursor() as cursor:
            for row in rows:
                await cursor.execute(_INSERT, row)

    async def entries(self, context: str, epoch: int | None = None) -> list[Entry]:
        """The entries of a context (of one epoch), oldest first."""
        rows = await postgres.fetch(
            await self._session(),
            "SELECT context, epoch, direction, step, phase, detail, id, at FROM fig.journal"
            " WHERE context = %(context)s AND (%(epoch)s::bigint IS NULL OR epoch = %(epoch)s) ORDER BY id",
            {"context": context, "epoch": epoch},
        )
        return [Entry(*row) for row in rows]

    async def close(self) -> None:
        """Let go of the session."""
        if self._conn is not None:
            await self._conn.close()
            self._conn = None

    async def _session(self) -> Connection:
        if self._conn is None or self._conn.closed or self._conn.broken:
            await self.close()
            self._conn = await postgres.connect(self._dsn, what="journal", options="-c synchronous_commit=on")
        return self._conn
