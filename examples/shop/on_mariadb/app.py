"""Inventory over a MariaDB: what is on hand, what is reserved. The same HTTP API as the monolith on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import queue
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import pymysql
from pymysql.cursors import Cursor
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from examples.shop.monolith.web import BadRequest, answer, body, idempotency_key, integer, refusal, rendered

_SESSIONS: Final = 8
_AGAIN: Final = (1062, 1213)
"""Somebody else was faster with the same key; a deadlock. Both are asked once more, from the start."""
LEVEL = """SELECT item_id, sku, name, quantity, reserved, reorder_level,
    date_format(updated_at, '%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ')
FROM inventory WHERE item_id = %s"""
REMEMBER = "INSERT INTO inventory_requests (`key`, kind, item_id, delta, response) VALUES (%s, %s, %s, %s, %s)"

Work = Callable[[Cursor], str | None]


class Refused(Exception):
    """The business says no; carries the answer."""

    def __init__(self, code: str, status: int, **facts: Any) -> None:
        super().__init__(code)
        self.answer = refusal(code, status, **facts)


def as_jsonb(content: dict[str, Any]) -> str:
    """JSON as PostgreSQL's jsonb shows it: shorter keys first (its manual, "jsonb Type")."""
    ordered = dict(sorted(content.items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode())))
    return json.dumps(ordered, ensure_ascii=False)


def connect(dsn: str) -> pymysql.Connection[Cursor]:
    """A session in UTC."""
    to = urlsplit(dsn)
    return pymysql.connect(
        host=str(to.hostname), port=to.port or 3306, user=str(to.username), password=to.password or "",
        database=to.path.strip("/"), charset="utf8mb4", init_command="SET time_zone = '+00:00'", connect_timeout=5,
    )  # fmt: skip


def _lives(conn: pymysql.Connection[Cursor]) -> bool:
    """Whether an idle session was not ended meanwhile, as by a server that was started again."""
    try:
        conn.ping(reconnect=False)
    except pymysql.Error:
        return False
    return True


class Database:
    """A few sessions, each used by one thread at a time."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._threads = ThreadPoolExecutor(_SESSIONS)
        self._idle: queue.LifoQueue[pymysql.Connection[Cursor] | None] = queue.LifoQueue()
        for _ in range(_SESSIONS):
            self._idle.put(None)

    async def run(self, work: Work) -> str | None:
        """Do ``work`` in one transaction; what is about to fail for another's sake is tried once more."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def _run(self, work: Work) -> str | None:
        conn = self._idle.get()
        try:
            if conn is None or not _lives(conn):
                conn = connect(self._dsn)
            for last in (False, False, True):
                try:
                    conn.begin()
                    with conn.cursor() as cursor:
                        done = work(cursor)
                    conn.commit()
                    return done
                except pymysql.Error as error:
                    conn.rollback()
                    if last or error.args[0] not in _AGAIN:
                        raise
                except Refused:
                    conn.rollback()
                    raise
            return None
        except (pymysql.OperationalError, pymysql.InterfaceError):
            if conn is not None:
                conn.close()
            conn = None
            raise
        finally:
            self._idle.put(conn)

    def close(self) -> None:
        """Close what is idle."""
        self._threads.shutdown()
        while not self._idle.empty():
            if (conn := self._idle.get()) is not None:
                conn.close()


def level(cursor: Cursor, item_id: int) -> dict[str, Any] | None:
    """What is on hand of an item."""
    cursor.execute(LEVEL, (item_id,))
    row = cursor.fetchone()
    if row is None:
        return None
    number, sku, name, quantity, reserved, reorder, at = row
    return {
        "item_id": number, "sku": sku, "name": name, "on_hand": quantity, "reserved": reserved,
        "available": quantity - reserved, "reorder_level": reorder, "updated_at": at,
    }  # fmt: skip


def known(cursor: Cursor, key: str) -> str | None:
    """The answer that a key was given."""
    cursor.execute("SELECT response FROM inventory_requests WHERE `key` = %s", (key,))
    row = cursor.fetchone()
    return None if row is None else str(row[0])


def remember(cursor: Cursor, key: str, kind: str, item_id: int, delta: int, **more: Any) -> str:
    """Keep the answer beside what it says, in the same transaction."""
    found = level(cursor, item_id)
    assert found is not None
    text = as_jsonb(found | more)
    cursor.execute(REMEMBER, (key, kind, item_id, delta, text))
    return text


class Inventory:
    """The module's HTTP API over its tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.routes = [
            Route("/api/inventory/adjust", self.adjust, methods=["POST"]),
            Route("/api/inventory/reserve", self.reserve, methods=["POST"]),
            Route("/api/inventory/release", self.release, methods=["POST"]),
            Route("/api/inventory/{item_id:int}", self.read, methods=["GET"]),
        ]

    async def read(self, request: Request) -> Response:
        """What is on hand of one item."""
        item_id = request.path_params["item_id"]

        def work(cursor: Cursor) -> str:
            found = level(cursor, item_id) if item_id < 2**63 else None
            if found is None:
                raise Refused("unknown_item", 404, item_id=item_id)
            return json.dumps(found, ensure_ascii=False)

        return await self._answered(work)

    async def adjust(self, request: Request) -> Response:
        """Change what is on hand by ``delta``, never below what is reserved."""
        content, key = await body(request), idempotency_key(request)
        item_id, delta = integer(content, "item_id"), integer(content, "delta")
        change = (
            "UPDATE inventory SET quantity = quantity + %s, updated_at = now(6)"
            " WHERE item_id = %s AND quantity + %s >= reserved"
        )

        def work(cursor: Cursor) -> str:
            if (told := known(cursor, key)) is not None:
                return told
            if not cursor.execute(change, (delta, item_id, delta)):
                raise _refused(cursor, item_id)
            return remember(cursor, key, "adjust", item_id, delta)

        return await self._answered(work)

    async def reserve(self, request: Request) -> Response:
        """Set ``qty`` aside, for an order or for whoever asks."""
        content, key = await body(request), idempotency_key(request)
        item_id, qty = integer(content, "item_id"), integer(content, "qty", least=1)
        change = (
            "UPDATE inventory SET reserved = reserved + %s, updated_at = now(6)"
            " WHERE item_id = %s AND quantity - reserved >= %s"
        )

        def work(cursor: Cursor) -> str:
            if (told := known(cursor, key)) is not None:
                return told
            if not cursor.execute(change, (qty, item_id, qty)):
                raise _refused(cursor, item_id)
            cursor.execute(
                "INSERT INTO reservations (item_id, order_id, qty, created_at) VALUES (%s, %s, %s, now(6))",
                (item_id, content.get("order_id"), qty),
            )
            return remember(cursor, key, "reserve", item_id, qty, reservation_id=cursor.lastrowid)

        return await self._answered(work)

    async def release(self, request: Request) -> Response:
        """Give a reservation back."""
        reservation_id, key = integer(await body(request), "reservation_id"), idempotency_key(request)

        def work(cursor: Cursor) -> str:
            if (told := known(cursor, key)) is not None:
                return told
            cursor.execute(
                "SELECT item_id, qty, released FROM reservations WHERE id = %s FOR UPDATE", (reservation_id,)
            )
            row = cursor.fetchone()
            if row is None:
                raise Refused("unknown_reservation", 404, reservation_id=reservation_id)
            item_id, qty, released = row
            if released:
                raise Refused("already_released", 409, reservation_id=reservation_id)
            cursor.execute("UPDATE reservations SET released = true WHERE id = %s", (reservation_id,))
            cursor.execute(
                "UPDATE inventory SET reserved = reserved - %s, updated_at = now(6) WHERE item_id = %s", (qty, item_id)
            )
            return remember(cursor, key, "release", item_id, -qty, reservation_id=reservation_id)

        return await self._answered(work)

    async def _answered(self, work: Work) -> Response:
        try:
            return rendered(await self._database.run(work) or "")
        except Refused as refused:
            return refused.answer


def _refused(cursor: Cursor, item_id: int) -> Refused:
    if level(cursor, item_id) is None:
        return Refused("unknown_item", 404, item_id=item_id)
    return Refused("insufficient_stock", 409, item_id=item_id)


async def _unavailable(_: Request, error: Exception) -> Response:
    """What the database refused or could not do; the client may ask again with the same key."""
    return refusal("database", 503, reason=str(error).strip().split("\n", 1)[0])


async def _bad_request(_: Request, error: Exception) -> Response:
    return refusal("bad_request", 400, reason=str(error))


def create_app() -> Starlette:
    """The application; its database's address is ``SHOP_DSN`` in the environment."""
    database = Database(os.environ["SHOP_DSN"])

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        database.close()

    async def health(_: Request) -> Response:
        def work(cursor: Cursor) -> str:
            cursor.execute("SELECT 1")
            return "ok"

        return answer({"status": await database.run(work), "pid": os.getpid()})

    return Starlette(
        routes=[*Inventory(database).routes, Route("/health", health)],
        exception_handlers={pymysql.Error: _unavailable, BadRequest: _bad_request},
        lifespan=lifespan,
    )
