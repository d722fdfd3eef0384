"""Catalogue: what the shop sells."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .db import Pool
from .web import BadRequest, refusal, rendered

PRODUCT = "json_build_object('id', id, 'sku', sku, 'name', name, 'price_cents', price_cents)"
ONE = f"SELECT {PRODUCT}::text FROM products WHERE id = %s"
PAGE = f"""
SELECT coalesce(json_agg({PRODUCT}), '[]')::text
FROM (SELECT * FROM products WHERE id > %s ORDER BY id LIMIT %s) AS page
"""


class Catalogue:
    """The module's HTTP API over its table."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.routes = [
            Route("/api/products", self.page, methods=["GET"]),
            Route("/api/products/{product_id:int}", self.read, methods=["GET"]),
        ]

    async def read(self, request: Request) -> Response:
        """One product."""
        product = await self._pool.value(ONE, (request.path_params["product_id"],))
        return rendered(product) if product else refusal("unknown_product", 404)

    async def page(self, request: Request) -> Response:
        """Products after an id, at most 100."""
        try:
            after = int(request.query_params.get("after", "0"))
            limit = min(int(request.query_params.get("limit", "20")), 100)
        except ValueError as error:
            raise BadRequest("after and limit are whole numbers") from error
        return rendered(await self._pool.value(PAGE, (after, limit)))
