"""Inventory: what is on hand, what is reserved, for whom."""

from __future__ import annotations

from typing import Any

import psycopg
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .db import Pool
from .web import body, idempotency_key, integer, refusal, rendered

LEVEL = """json_build_object('item_id', item_id, 'sku', sku, 'name', name, 'on_hand', quantity, 'reserved', reserved,
    'available', quantity - reserved, 'reorder_level', reorder_level,
    'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))"""

READ = f"SELECT {LEVEL}::text FROM inventory WHERE item_id = %s"

# One statement, one transaction: the key's answer if it was given before, else the change with the key beside it.
# The message says in the change stream to which trace the transaction belongs (none is written for null).
# Two requests with one key at once: the later one fails on the key, changes nothing, and is asked again.
ADJUST = f"""
WITH known AS (SELECT response FROM inventory_requests WHERE key = %(key)s),
changed AS (
    UPDATE inventory SET quantity = quantity + %(delta)s, updated_at = clock_timestamp()
    WHERE item_id = %(item_id)s AND quantity + %(delta)s >= reserved AND NOT EXISTS (SELECT FROM known)
    RETURNING item_id, {LEVEL} AS level
), remembered AS (
    INSERT INTO inventory_requests (key, kind, item_id, delta, response)
    SELECT %(key)s, 'adjust', item_id, %(delta)s, level::jsonb FROM changed RETURNING response
)
SELECT response::text, NULL FROM known
UNION ALL
SELECT response::text, pg_logical_emit_message(true, 'traceparent', %(trace)s::text)::text FROM remembered
"""

RESERVE = f"""
WITH known AS (SELECT response FROM inventory_requests WHERE key = %(key)s),
changed AS (
    UPDATE inventory SET reserved = reserved + %(qty)s, updated_at = clock_timestamp()
    WHERE item_id = %(item_id)s AND quantity - reserved >= %(qty)s AND NOT EXISTS (SELECT FROM known)
    RETURNING item_id, {LEVEL} AS level
), held AS (
    INSERT INTO reservations (item_id, order_id, qty)
    SELECT item_id, %(order_id)s::bigint, %(qty)s FROM changed RETURNING id
), remembered AS (
    INSERT INTO inventory_requests (key, kind, item_id, delta, response)
    SELECT %(key)s, 'reserve', item_id, %(qty)s, level::jsonb || jsonb_build_object('reservation_id', held.id)
    FROM changed, held RETURNING response
)
SELECT response::text, NULL FROM known
UNION ALL
SELECT response::text, pg_logical_emit_message(true, 'traceparent', %(trace)s::text)::text FROM remembered
"""

RELEASE = f"""
WITH known AS (SELECT response FROM inventory_requests WHERE key = %(key)s),
freed AS (
    UPDATE reservations SET released = true
    WHERE id = %(reservation_id)s AND NOT released AND NOT EXISTS (SELECT FROM known)
    RETURNING id, item_id AS of_item, qty
), changed AS (
    UPDATE inventory SET reserved = reserved - freed.qty, updated_at = clock_timestamp()
    FROM freed WHERE item_id = of_item
    RETURNING item_id, freed.id AS reservation_id, freed.qty, {LEVEL} AS level
), remembered AS (
    INSERT INTO inventory_requests (key, kind, item_id, delta, response)
    SELECT %(key)s, 'release', item_id, -qty, level::jsonb || jsonb_build_object('reservation_id', reservation_id)
    FROM changed RETURNING response
)
SELECT response::text, NULL FROM known
UNION ALL
SELECT response::text, pg_logical_emit_message(true, 'traceparent', %(trace)s::text)::text FROM remembered
"""


class Inventory:
    """The module's HTTP API over its tables."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.routes = [
            Route("/api/inventory/adjust", self.adjust, methods=["POST"]),
            Route("/api/inventory/reserve", self.reserve, methods=["POST"]),
            Route("/api/inventory/release", self.release, methods=["POST"]),
            Route("/api/inventory/{item_id:int}", self.read, methods=["GET"]),
        ]

    async def read(self, request: Request) -> Response:
        """What is on hand of one item."""
        item_id = request.path_params["item_id"]
        if item_id >= 2**63:
            return refusal("unknown_item", 404)  # no bigint, so no item
        level = await self._pool.value(READ, (item_id,))
        return rendered(level) if level else refusal("unknown_item", 404, item_id=item_id)

    async def _once(self, request: Request, statement: str, params: dict[str, Any]) -> str | None:
        params |= {"trace": request.headers.get("traceparent")}
        try:
            found: str | None = await self._pool.value(statement, params)
        except psycopg.errors.UniqueViolation:
            found = await self._pool.value(statement, params)
        return found

    async def adjust(self, request: Request) -> Response:
        """Change what is on hand by ``delta``, never below what is reserved."""
        content = await body(request)
        item_id, delta = integer(content, "item_id"), integer(content, "delta")
        params = {"key": idempotency_key(request), "item_id": item_id, "delta": delta}
        done = await self._once(request, ADJUST, params)
        return rendered(done) if done else await self._refused(item_id)

    async def reserve(self, request: Request) -> Response:
        """Set ``qty`` aside, for an order or for whoever asks."""
        content = await body(request)
        item_id, qty = integer(content, "item_id"), integer(content, "qty", least=1)
        order_id = content.get("order_id")
        params = {"key": idempotency_key(request), "item_id": item_id, "qty": qty, "order_id": order_id}
        done = await self._once(request, RESERVE, params)
        return rendered(done) if done else await self._refused(item_id)

    async def release(self, request: Request) -> Response:
        """Give a reservation back."""
        reservation_id = integer(await body(request), "reservation_id")
        params = {"key": idempotency_key(request), "reservation_id": reservation_id}
        done = await self._once(request, RELEASE, params)
        if done:
            return rendered(done)
        known = await self._pool.value("SELECT 1 FROM reservations WHERE id = %s", (reservation_id,))
        return refusal(
            "already_released" if known else "unknown_reservation", 409 if known else 404, reservation_id=reservation_id
        )

    async def _refused(self, item_id: int) -> Response:
        known = await self._pool.value("SELECT 1 FROM inventory WHERE item_id = %s", (item_id,))
        return refusal("insufficient_stock" if known else "unknown_item", 409 if known else 404, item_id=item_id)
