"""Changes that sync could not apply, where they lie: in the target. A person decides what becomes of each.

Here for a PostgreSQL; :func:`stranglerfig.sync.ends.decisions` has it for any target.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from stranglerfig.changes.model import Direction
from stranglerfig.foundation import postgres
from stranglerfig.foundation.sql import load

COLUMNS: Final = ("id", "direction", "lsn", "ordinal", "reason", "change", "error", "statement", "resolution", "at")
"""Of a parked change as :meth:`Decisions.listed` gives it."""

_sql = load(__package__ or "")


class Place(NamedTuple):
    """Whose changes."""

    context: str
    direction: Direction
    partition: int = 0


class Decisions:
    """A session with a target that stays from call to call; leave its block to end it."""

    def __init__(self, dsn: str) -> None:
        self._kept = postgres.Kept(dsn, what="sync decisions")

    async def waiting(self, place: Place) -> int | None:
        """The oldest change that waits for a decision."""
        async with self._kept.session() as conn:
            row = await postgres.one(conn, _sql.waiting_error, place)
        return None if row is None else int(row[0])

    async def count(self, place: Place) -> int:
        """How many changes are parked."""
        async with self._kept.session() as conn:
            row = await postgres.one(conn, _sql.count_parked, place)
        return sum(row) if row else 0

    async def conflicts(self, place: Place) -> int:
        """How many conflicts are recorded."""
        async with self._kept.session() as conn:
            return int(await postgres.value(conn, _sql.count_conflicts, place[:2]))

    async def blockers(self, waiting: int) -> list[dict[str, Any]]:
        """Who keeps the session ``waiting`` out: process id, application, and seconds that its transaction is open."""
        async with self._kept.session() as conn:
            rows = await postgres.fetch(conn, _sql.blockers, (waiting,))
        return [
            {"pid": pid, "application": application, "seconds": None if seconds is None else round(seconds, 1)}
            for pid, application, seconds in rows
        ]

    async def resolve(self, place: Place, parked: int, resolution: str) -> bool:
        """``skip`` or ``retry`` a change; whether it waited."""
        async with self._kept.session() as conn:
            return (await conn.execute(_sql.resolve, (resolution, *place[:2], parked))).rowcount == 1

    async def listed(self, place: Place) -> list[dict[str, Any]]:
        """The parked changes of a direction, oldest first, undecided ones and those that wait for sync."""
        async with self._kept.session() as conn:
            if await postgres.value(conn, "SELECT to_regclass('fig.parked')") is None:
                return []
            rows = await postgres.fetch(conn, _sql.listed, place[:2])
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._kept.close()
