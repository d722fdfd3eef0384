"""Orders: lines, stock and payment together.

Stock is reserved in the inventory's tables inside the order's own transaction, as it always was, or (``SHOP_RESERVE``
is ``api``) through the inventory's HTTP API, which then may be answered by anyone.
"""

from __future__ import annotations

from typing import Any

import psycopg
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import payments
from .db import Pool
from .reservations import InventoryApi, Refused, Unanswered
from .web import BadRequest, answer, body, idempotency_key, integer, refusal, rendered

READ = """
SELECT json_build_object('id', o.id, 'customer_id', o.customer_id, 'status', o.status, 'total_cents', o.total_cents,
    'lines', (SELECT json_agg(json_build_object('item_id', item_id, 'qty', qty) ORDER BY line)
              FROM order_lines WHERE order_id = o.id))::text, o.status
FROM orders AS o WHERE {condition}
"""
BY_ID = READ.format(condition="o.id = %s")
BY_KEY = READ.format(condition="o.request_key = %s")

OPEN = """
WITH wanted AS (
    SELECT * FROM unnest(%(items)s::bigint[], %(quantities)s::integer[]) WITH ORDINALITY AS w (item_id, qty, line)
), opened AS (
    INSERT INTO orders (request_key, customer_id, status, total_cents)
    SELECT %(key)s, %(customer_id)s, 'pending', (SELECT sum(p.price_cents::bigint * w.qty)
                                                 FROM wanted AS w JOIN products AS p ON p.id = w.item_id)
    RETURNING id, total_cents
), lines AS (
    INSERT INTO order_lines (order_id, line, item_id, qty)
    SELECT opened.id, w.line, w.item_id, w.qty FROM opened, wanted AS w
)
SELECT id, total_cents FROM opened
"""

# Straight into another module's tables: what a monolith makes easy.
RESERVE = """
WITH changed AS (
    UPDATE inventory SET reserved = reserved + %(qty)s, updated_at = clock_timestamp()
    WHERE item_id = %(item_id)s AND quantity - reserved >= %(qty)s RETURNING item_id
)
INSERT INTO reservations (item_id, order_id, qty) SELECT item_id, %(order_id)s, %(qty)s FROM changed RETURNING id
"""

# What is confirmed is paid for.
END = """
UPDATE orders SET status = %(status)s
WHERE id = %(order_id)s AND status IN ('pending', %(status)s)
  AND (%(status)s = 'confirmed') = EXISTS (SELECT FROM payments WHERE order_id = %(order_id)s AND state = 'authorised')
RETURNING id
"""
ENDS = {"confirm": "confirmed", "reject": "rejected"}

Line = tuple[int, int]


class Orders:
    """The module's HTTP API over its tables."""

    def __init__(self, pool: Pool, inventory: InventoryApi | None) -> None:
        self._pool = pool
        self._inventory = inventory
        self.routes = [
            Route("/api/orders", self.place, methods=["POST"]),
            Route("/api/orders/pending", self.open, methods=["POST"]),
            Route("/api/orders/{order_id:int}", self.read, methods=["GET"]),
            Route("/api/orders/{order_id:int}/{outcome}", self.end, methods=["POST"]),
        ]

    async def read(self, request: Request) -> Response:
        """One order."""
        order = await self._pool.row(BY_ID, (request.path_params["order_id"],))
        return rendered(order[0]) if order else refusal("unknown_order", 404)

    async def place(self, request: Request) -> Response:
        """Place an order: its stock is reserved and its payment authorised, or it is refused."""
        content = await body(request)
        key = idempotency_key(request)
        lines = self._lines(content)
        customer_id = integer(content, "customer_id")
        trace = {"traceparent": value} if (value := request.headers.get("traceparent")) else {}
        try:
            if self._inventory is None:
                await self._place_by_table(key, customer_id, lines)
            else:
                await self._place_by_api(self._inventory, key, customer_id, lines, trace)
        except psycopg.errors.UniqueViolation:
            pass  # placed before, under this key: answer what became of it
        except psycopg.errors.ForeignKeyViolation:
            return refusal("unknown_customer_or_product", 422)
        except psycopg.errors.NotNullViolation:
            return refusal("unknown_customer_or_product", 422)
        except Refused as refused:
            return refusal(refused.answer.get("error", "refused"), 409)
        except Unanswered as unanswered:
            return refusal("inventory_unavailable", 503, reason=str(unanswered))
        text, status = await self._pool.row(BY_KEY, (key,))
        return rendered(text, {"confirmed": 200, "rejected": 409}.get(status, 503))

    async def open(self, request: Request) -> Response:
        """Keep an order as pending: its stock and its payment are seen to by who asks."""
        content = await body(request)
        key = idempotency_key(request)
        lines = self._lines(content)
        try:
            async with self._pool.session() as conn:
                order_id, _ = await self._open(conn, key, integer(content, "customer_id"), lines)
        except psycopg.errors.UniqueViolation:  # opened before, under this key
            order_id = await self._pool.value("SELECT id FROM orders WHERE request_key = %s", (key,))
        except (psycopg.errors.ForeignKeyViolation, psycopg.errors.NotNullViolation):
            return refusal("unknown_customer_or_product", 422)
        return answer({"id": order_id})

    async def end(self, request: Request) -> Response:
        """Confirm or reject a pending order, once and for all."""
        order_id, outcome = request.path_params["order_id"], request.path_params["outcome"]
        if outcome not in ENDS:
            return refusal("not_found", 404)
        if await self._pool.row(END, {"order_id": order_id, "status": ENDS[outcome]}) is None:
            known = await self._pool.row(BY_ID, (order_id,))
            return refusal("ended_otherwise", 409, is_now=known[1]) if known else refusal("unknown_order", 404)
        return answer({"id": order_id, "status": ENDS[outcome]})

    @staticmethod
    def _lines(content: dict[str, Any]) -> list[Line]:
        lines = content.get("lines")
        if not isinstance(lines, list) or not 1 <= len(lines) <= 50:
            raise BadRequest("an order has 1 to 50 lines")
        if not all(isinstance(line, dict) for line in lines):
            raise BadRequest("a line is an object with item_id and qty")
        # In the order of their items, so that two orders never wait for each other.
        return sorted((integer(line, "item_id"), integer(line, "qty", least=1)) for line in lines)

    async def _open(
        self, conn: psycopg.AsyncConnection[Any], key: str, customer_id: int, lines: list[Line]
    ) -> tuple[int, int]:
        params: dict[str, Any] = {"key": key, "customer_id": customer_id}
        params |= {"items": [line[0] for line in lines], "quantities": [line[1] for line in lines]}
        row = await (await conn.execute(OPEN, params)).fetchone()
        assert row is not None
        return row[0], row[1]

    async def _place_by_table(self, key: str, customer_id: int, lines: list[Line]) -> None:
        async with self._pool.session() as conn, conn.transaction():
            order_id, total = await self._open(conn, key, customer_id, lines)
            for item_id, qty in lines:
                done = await conn.execute(RESERVE, {"item_id": item_id, "qty": qty, "order_id": order_id})
                if await done.fetchone() is None:
                    raise Refused(409, {"error": "insufficient_stock"})
            await payments.authorise(conn, order_id, total)
            await conn.execute("UPDATE orders SET status = 'confirmed' WHERE id = %s", (order_id,))

    async def _place_by_api(
        self, inventory: InventoryApi, key: str, customer_id: int, lines: list[Line], trace: dict[str, str]
    ) -> None:
        """The order is kept as pending first, so that a reservation never speaks of an order that nobody knows."""
        async with self._pool.session() as conn, conn.transaction():
            order_id, total = await self._open(conn, key, customer_id, lines)
        held: list[tuple[int, int]] = []
        try:
            for number, (item_id, qty) in enumerate(lines, start=1):
                held.append((number, await inventory.reserve(order_id, number, item_id, qty, trace)))
        except Refused:
            for number, reservation_id in held:
                await inventory.release(order_id, number, reservation_id, trace)
            async with self._pool.session() as conn:
                await conn.execute("UPDATE orders SET status = 'rejected' WHERE id = %s", (order_id,))
            raise
        async with self._pool.session() as conn, conn.transaction():
            await payments.authorise(conn, order_id, total)
            await conn.execute("UPDATE orders SET status = 'confirmed' WHERE id = %s", (order_id,))
