"""The service's database: read, decide on what was read, write if it is still so. Two round trips, no open transaction.

The decision is made outside the database by :mod:`.domain`; the write is one statement that carries the state, the
idempotency key with its answer, and the event for the log: all or nothing.
"""

from __future__ import annotations

import asyncio
import select
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import orjson
import psycopg

from examples.shop.service.domain import Event, Refused, StockLevel
from stranglerfig.foundation.sql import load

SQL = load("examples.shop.service")
EVENTS = uuid.UUID("6f0b7a52-6d0c-4b43-9a53-3f9c7f2f4a10")


Session = psycopg.AsyncConnection[Any]


class Unknown(Exception):
    """There is no such item or reservation."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def _ended(conn: Session) -> bool:
    """Whether an idle session is over: its server has said something, and to an idle session that is goodbye."""
    return conn.closed or bool(select.select([conn.fileno()], [], [], 0)[0])


class Store:
    """Sessions named ``inventory:api`` and the service's statements."""

    def __init__(self, dsn: str, size: int = 10) -> None:
        self._dsn = dsn
        self._idle: asyncio.LifoQueue[Session | None] = asyncio.LifoQueue()
        self._size = size

    async def open(self) -> None:
        """Connect once, to fail early; the rest connect when they are needed."""
        for _ in range(self._size - 1):
            self._idle.put_nowait(None)
        self._idle.put_nowait(await self._connect())

    async def _connect(self) -> Session:
        conn = await psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, application_name="inventory:api", connect_timeout=5
        )
        conn.prepare_threshold = 2
        return conn

    async def close(self) -> None:
        """Close what is idle."""
        while not self._idle.empty():
            if (conn := self._idle.get_nowait()) is not None:
                await conn.close()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
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

    async def row(self, statement: Any, params: Any = None) -> Any:
        """The first row of a statement, or None."""
        async with self._session() as conn:
            return await _row(conn, statement, params)

    async def read(self, item_id: int) -> str:
        """One item as JSON text.

        Raises:
            Unknown: ``unknown_item``.
        """
        found = await self.row(SQL.read, (item_id,))
        if found is None:
            raise Unknown("unknown_item")
        return str(found[0])

    async def adjust(self, key: str, item_id: int, delta: int, reason: str, trace: str | None) -> str:
        """Change what is on hand; returns the answer's JSON text, the same for a repeated key."""

        async def load_level(conn: Session) -> tuple[str | None, StockLevel | None, dict[str, Any]]:
            known, *level = await _row(conn, SQL.level, {"key": key, "item_id": item_id})
            return known, StockLevel(*level) if level[0] is not None else None, {"delta": delta}

        return await self._decide(SQL.adjust, key, trace, load_level, lambda level, _: level.adjust(delta, reason))

    async def reserve(self, key: str, item_id: int, quantity: int, order_ref: int | None, trace: str | None) -> str:
        """Promise pieces; the answer has ``reservation_id``."""

        async def load_level(conn: Session) -> tuple[str | None, StockLevel | None, dict[str, Any]]:
            known, *level = await _row(conn, SQL.level, {"key": key, "item_id": item_id})
            facts = {"delta": quantity, "quantity": quantity, "order_ref": order_ref}
            return known, StockLevel(*level) if level[0] is not None else None, facts

        return await self._decide(
            SQL.reserve, key, trace, load_level, lambda level, _: level.reserve(quantity, order_ref)
        )

    async def release(self, key: str, reservation_id: int, trace: str | None) -> str:
        """Take a promise back."""

        async def load_level(conn: Session) -> tuple[str | None, StockLevel | None, dict[str, Any]]:
            params = {"key": key, "reservation_id": reservation_id}
            known, item_id, on_hand, reserved, quantity, state = await _row(conn, SQL.reservation, params)
            facts = {"delta": -(quantity or 0), "quantity": quantity, "state": state, "reservation_id": reservation_id}
            return known, StockLevel(item_id, on_hand, reserved) if item_id is not None else None, facts

        return await self._decide(
            SQL.release,
            key,
            trace,
            load_level,
            lambda level, facts: level.release(reservation_id, facts["quantity"], facts["state"]),
        )

    async def _decide(
        self,
        statement: Any,
        key: str,
        trace: str | None,
        load_level: Callable[[Session], Any],
        decide: Callable[[StockLevel, dict[str, Any]], Event],
    ) -> str:
        """Read, decide, write; again when somebody else was faster.

        All on one session: waiting for another one between reading and writing would make what was read old, and what
        is old has to be done again, the more so the more there is to do.

        Raises:
            Refused: a rule says no.
            Unknown: there is nothing to decide on.
        """
        async with self._session() as conn:
            while True:
                known, level, facts = await load_level(conn)
                if known is not None:
                    return str(known)
                if level is None:
                    raise Unknown("unknown_reservation" if "state" in facts else "unknown_item")
                event = decide(level, facts)
                params = facts | {
                    "key": key,
                    "item_id": level.item_id,
                    "old_on_hand": level.on_hand,
                    "old_reserved": level.reserved,
                    "on_hand": event.on_hand,
                    "reserved": event.reserved,
                    "event_id": uuid.uuid5(EVENTS, key),
                    "type": f"inventory.{type(event).__name__}",
                    "event": orjson.dumps(asdict(event)).decode(),
                    "traceparent": trace,
                }
                try:
                    done = await _row(conn, statement, params)
                except psycopg.errors.UniqueViolation:
                    continue  # the same key, at the same time: its answer is there now
                if done is not None:
                    return str(done[0])


async def _row(conn: Session, statement: Any, params: Any = None) -> Any:
    return await (await conn.execute(statement, params)).fetchone()


__all__ = ["Refused", "Store", "Unknown"]
