"""Payments: what orders cost. Called by orders, inside their transaction, or by who sees to an order from outside."""

from __future__ import annotations

from typing import Any

import psycopg
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .db import Pool
from .web import answer, body, integer, refusal

DECLINED = 20
"""The card of every so manieth customer is declined, as a payment provider's test cards are."""

CHARGE = """
WITH wanted AS (
    SELECT id, total_cents, status, customer_id %% %(declined)s = 0 AS declined FROM orders WHERE id = %(order_id)s
), made AS (
    INSERT INTO payments (order_id, amount_cents, state)
    SELECT id, total_cents, 'authorised' FROM wanted WHERE status = 'pending' AND NOT declined
    ON CONFLICT DO NOTHING RETURNING amount_cents
)
SELECT status, declined, coalesce((SELECT amount_cents FROM made),
    (SELECT amount_cents FROM payments WHERE order_id = wanted.id AND state = 'authorised')) FROM wanted
"""


async def authorise(conn: psycopg.AsyncConnection[Any], order_id: int, amount_cents: int) -> None:
    """Authorise an order's amount."""
    await conn.execute(
        "INSERT INTO payments (order_id, amount_cents, state) VALUES (%s, %s, 'authorised')", (order_id, amount_cents)
    )


class Payments:
    """The module's HTTP API."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.routes = [Route("/api/payments", self.charge, methods=["POST"])]

    async def charge(self, request: Request) -> Response:
        """Authorise what a pending order costs, once however often it is asked; or the card is declined."""
        order_id = integer(await body(request), "order_id")
        order = await self._pool.row(CHARGE, {"order_id": order_id, "declined": DECLINED})
        if order is None:
            return refusal("unknown_order", 404)
        status, declined, cents = order
        if cents is None and status != "pending":
            return refusal("not_pending", 409, is_now=status)
        if cents is None and declined:
            return refusal("declined", 402)
        if cents is None:
            return refusal("asked_twice", 503)  # another request makes it: who asks again is told what came of it
        return answer({"order_id": order_id, "amount_cents": cents})
