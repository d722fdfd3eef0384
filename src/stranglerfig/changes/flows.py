"""Which flows should run, and what they last said of themselves: rows of the control database.

Capture and sync read what is wanted and report; the extraction says what is wanted and reads the reports. Neither
imports the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from stranglerfig.changes.merging import Said, merged
from stranglerfig.changes.model import Direction
from stranglerfig.foundation import postgres


@dataclass(frozen=True, slots=True)
class Flow:
    """One direction of one extraction. The reports' keys are those of ``CaptureReport`` and ``SyncReport``."""

    context: str
    direction: Direction
    capture_on: bool
    sync_on: bool
    snapshot: bool
    generation: int
    capture: dict[str, Any] = field(default_factory=dict)
    capture_at: datetime | None = None
    sync: dict[str, Any] = field(default_factory=dict)
    sync_at: datetime | None = None


TABLES = postgres.Tables("changes", __package__ or "", ("flows.sql", "flow_parts.sql"))
SILENT = timedelta(seconds=5)
"""Whoever said nothing for so long is not who works any more."""


class Flows:
    """The control database's flows.

    With ``keep`` one session is kept from call to call (who asks twice a second would else spend more on connecting
    than on asking); :meth:`close` ends it.
    """

    def __init__(self, dsn: str, *, keep: bool = False) -> None:
        self._dsn = dsn
        self._kept = postgres.Kept(dsn, what="flows") if keep else None

    async def close(self) -> None:
        """End the kept session."""
        if self._kept is not None:
            await self._kept.close()

    def _session(self) -> AbstractAsyncContextManager[postgres.Connection]:
        return self._kept.session() if self._kept is not None else postgres.session(self._dsn, what="flows")

    async def migrate(self) -> None:
        """Create or bring forward the table."""
        async with self._session() as conn:
            await postgres.migrate(conn, *TABLES)

    async def all(self) -> list[Flow]:
        """Every flow that was ever wanted."""
        async with self._session() as conn:
            rows = await postgres.fetch(
                conn,
                "SELECT context, direction, capture_on, sync_on, snapshot, generation, capture, capture_at, sync,"
                " sync_at FROM fig.flow ORDER BY context, direction",
            )
            parts = await postgres.fetch(
                conn, "SELECT context, direction, partition, worker, report, at FROM fig.flow_part"
            )
        said: dict[tuple[str, str], dict[int, Said]] = {}
        for context, direction, partition, *rest in parts:
            said.setdefault((context, direction), {})[partition] = Said(*rest)
        return [_flow(row, said.get((row[0], row[1]), {})) for row in rows]

    async def get(self, context: str, direction: Direction) -> Flow | None:
        """One flow, or None when it was never wanted."""
        return next((f for f in await self.all() if (f.context, f.direction) == (context, direction)), None)

    async def want(
        self, context: str, direction: Direction, *, capture: bool, sync: bool, snapshot: bool = False
    ) -> None:
        """Say what should run."""
        async with self._session() as conn:
            await conn.execute(
                "INSERT INTO fig.flow (context, direction, capture_on, sync_on, snapshot) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (context, direction) DO UPDATE SET capture_on = excluded.capture_on,"
                " sync_on = excluded.sync_on, snapshot = excluded.snapshot",
                (context, direction, capture, sync, snapshot),
            )

    async def again(self, context: str, direction: Direction) -> None:
        """Ask for another snapshot: the slot is made anew."""
        async with self._session() as conn:
            await conn.execute(
                "UPDATE fig.flow SET generation = generation + 1 WHERE (context, direction) = (%s, %s)",
                (context, direction),
            )

    async def forget(self, context: str) -> None:
        """Remove a context's flows: its extraction was aborted or is done."""
        async with self._session() as conn:
            await conn.execute("DELETE FROM fig.flow WHERE context = %s", (context,))
            await conn.execute("DELETE FROM fig.flow_part WHERE context = %s", (context,))

    async def report(self, context: str, direction: Direction, part: str, report: dict[str, Any]) -> None:
        """Keep what ``part`` (``capture`` or ``sync``) says of itself."""
        column = {"capture": "capture", "sync": "sync"}[part]
        async with self._session() as conn:
            await conn.execute(
                f"UPDATE fig.flow SET {column} = %s, {column}_at = now() WHERE (context, direction) = (%s, %s)"  # noqa: S608
                f" AND (%s OR {column}_at < now() - %s OR {column}_at IS NULL)",
                (Jsonb(report), context, direction, not _waits(report), SILENT),
            )

    async def report_part(
        self, context: str, direction: Direction, partition: int, worker: str, report: dict[str, Any]
    ) -> None:
        """Keep what ``worker`` says of one partition of a sync."""
        async with self._session() as conn:
            await conn.execute(
                "INSERT INTO fig.flow_part (context, direction, partition, worker, report)"
                " SELECT context, direction, %s, %s, %s FROM fig.flow WHERE (context, direction) = (%s, %s)"
                " ON CONFLICT (context, direction, partition) DO UPDATE"
                " SET worker = excluded.worker, report = excluded.report, at = now()"
                " WHERE %s OR flow_part.at < now() - %s",
                (partition, worker, Jsonb(report), context, direction, not _waits(report), SILENT),
            )


def _waits(report: dict[str, Any]) -> bool:
    """Whether a worker only waits for the place of another, which says how the flow is."""
    return (report.get("error") or {}).get("code") == "origin_busy"


def _flow(row: Sequence[Any], parts: dict[int, Said]) -> Flow:
    flow = Flow(row[0], Direction(row[1]), *row[2:])
    if not parts:
        return flow
    report, at = merged(parts)
    # A flow that cannot even begin (its mapping is refused, a database is away) says so as a whole.
    if flow.sync.get("state") == "failed" and flow.sync_at is not None and flow.sync_at > at:
        return flow
    return replace(flow, sync=report, sync_at=at)
