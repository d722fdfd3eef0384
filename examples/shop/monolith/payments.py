"""Payments: what orders cost. Called by orders, inside their transaction."""

from __future__ import annotations

from typing import Any

import psycopg


async def authorise(conn: psycopg.AsyncConnection[Any], order_id: int, amount_cents: int) -> None:
    """Authorise an order's amount."""
    await conn.execute(
        "INSERT INTO payments (order_id, amount_cents, state) VALUES (%s, %s, 'authorised')", (order_id, amount_cents)
    )


async def cancel(conn: psycopg.AsyncConnection[Any], order_id: int) -> None:
    """Take an authorisation back."""
    await conn.execute("UPDATE payments SET state = 'cancelled' WHERE order_id = %s", (order_id,))
