"""Changes that sync could not apply to a MariaDB, where they lie: in its database ``fig``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import orjson

from stranglerfig.foundation import mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Row
from stranglerfig.foundation.sql import load
from stranglerfig.sync.decisions import COLUMNS, Place

_sql = load(__package__ or "")


class MariaDBDecisions:
    """As :class:`stranglerfig.sync.decisions.Decisions`."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._conn: mysql.Connection | None = None

    async def waiting(self, place: Place) -> int | None:
        """The oldest change that waits for a decision."""
        async with self._session() as conn:
            found = await conn.value(_sql.waiting_error, _key(place))
        return None if found is None else int(found)

    async def count(self, place: Place) -> int:
        """How many changes are parked."""
        async with self._session() as conn:
            return int(await conn.value(_sql.count_parked, _key(place)) or 0)

    async def conflicts(self, place: Place) -> int:
        """None: only one side writes."""
        return 0

    async def blockers(self, waiting: int) -> list[dict[str, Any]]:
        """Nobody is looked for: sync waits for a row as long as the server lets it."""
        return []

    async def resolve(self, place: Place, parked: int, resolution: str) -> bool:
        """``skip`` or ``retry`` a change; whether it waited."""
        async with self._session() as conn:
            return await conn.execute(_sql.resolve, (resolution, *_key(place), parked)) == 1

    async def listed(self, place: Place) -> list[dict[str, Any]]:
        """The parked changes of a direction, oldest first, undecided ones and those that wait for sync."""
        async with self._session() as conn:
            try:
                rows = await conn.fetch(_sql.listed, _key(place))
            except FigError as error:
                if mysql.refused(error, *mysql.NOWHERE):
                    return []
                raise
        return [_shown(row) for row in rows]

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[mysql.Connection]:
        """The session that stays; made anew when the server was away."""
        if self._conn is not None and self._conn.lost:
            await self._end()
        if self._conn is None:
            self._conn = mysql.Connection(self._dsn, "sync decisions")
            await self._conn.open()
        yield self._conn

    async def _end(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()


def _key(place: Place) -> tuple[str, str]:
    return place.context, str(place.direction)


def _shown(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    numbers = {name: int(found[name]) for name in ("id", "lsn", "ordinal")}
    at = datetime.fromisoformat(found["at"]).replace(tzinfo=UTC)
    return found | numbers | {"change": orjson.loads(found["change"]), "at": at}
