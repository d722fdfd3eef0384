"""Customers: who buys."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .db import Pool
from .web import refusal, rendered

ONE = "SELECT json_build_object('id', id, 'name', name, 'email', email)::text FROM customers WHERE id = %s"


class Customers:
    """The module's HTTP API over its table."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.routes = [Route("/api/customers/{customer_id:int}", self.read, methods=["GET"])]

    async def read(self, request: Request) -> Response:
        """One customer."""
        customer = await self._pool.value(ONE, (request.path_params["customer_id"],))
        return rendered(customer) if customer else refusal("unknown_customer", 404)
