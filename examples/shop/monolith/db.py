"""Sessions into the shop's database: a small pool per module, named after it."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg


def _ended(conn: psycopg.AsyncConnection[Any]) -> bool:
    """Whether an idle session is over: its server has said something, and to an idle session that is goodbye."""
    return conn.closed or bool(select.select([conn.fileno()], [], [], 0)[0])


class Pool:
    """A few sessions named ``shop:<module>``, so that a DBA sees which module does what."""

    def __init__(self, dsn: str, module: str, size: int) -> None:
        self._dsn = dsn
        self._module = module
        self._size = size
        self._idle: asyncio.LifoQueue[psycopg.AsyncConnection[Any] | None] = asyncio.LifoQueue()

    async def open(self) -> None:
        """Connect once, to fail early; the rest connect when they are needed."""
        for _ in range(self._size - 1):
            self._idle.put_nowait(None)
        self._idle.put_nowait(await self._connect())

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        conn = await psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, application_name=f"shop:{self._module}", connect_timeout=5
        )
        conn.prepare_threshold = 2
        return conn

    @asynccontextmanager
    async def session(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Borrow a session; one that broke is replaced the next time."""
        conn = await self._idle.get()
        try:
            if conn is not None and _ended(conn):
                await conn.close()
                conn = None
            if conn is None:
                conn = await self._connect()
            yield conn
        finally:
            self._idle.put_nowait(conn)

    async def close(self) -> None:
        """Close what is idle."""
        while not self._idle.empty():
            conn = self._idle.get_nowait()
            if conn is not None:
                await conn.close()

    async def row(self, statement: Any, params: Any = None) -> Any:
        """The first row of a statement in a transaction of its own, or None."""
        async with self.session() as conn:
            return await (await conn.execute(statement, params)).fetchone()

    async def value(self, statement: Any, params: Any = None) -> Any:
        """The first column of the first row, or None."""
        found = await self.row(statement, params)
        return None if found is None else found[0]
