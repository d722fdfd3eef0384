"""Catalogue: what the shop sells, and for how much."""

from __future__ import annotations

import psycopg
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .db import Pool
from .web import BadRequest, body, idempotency_key, integer, refusal, rendered

PRODUCT = "json_build_object('id', id, 'sku', sku, 'name', name, 'price_cents', price_cents, 'revision', revision)"
ONE = f"SELECT {PRODUCT}::text FROM products WHERE id = %s"
PAGE = f"""
SELECT coalesce(json_agg({PRODUCT}), '[]')::text
FROM (SELECT * FROM products WHERE id > %s ORDER BY id LIMIT %s) AS page
"""

# One statement, one transaction, as the inventory does it.
PRICE = """
WITH known AS (SELECT product_id, price_cents, revision FROM price_changes WHERE key = %(key)s),
changed AS (
    UPDATE products SET price_cents = %(price)s, revision = revision + 1
    WHERE id = %(product_id)s AND NOT EXISTS (SELECT FROM known)
    RETURNING id, price_cents, revision
), remembered AS (
    INSERT INTO price_changes (key, product_id, price_cents, revision)
    SELECT %(key)s, id, price_cents, revision FROM changed RETURNING product_id, price_cents, revision
)
SELECT json_build_object('id', product_id, 'price_cents', price_cents, 'revision', revision)::text, NULL FROM known
UNION ALL
SELECT json_build_object('id', product_id, 'price_cents', price_cents, 'revision', revision)::text,
    pg_logical_emit_message(true, 'traceparent', %(trace)s::text)::text FROM remembered
"""


class Catalogue:
    """The module's HTTP API over its tables."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.routes = [
            Route("/api/products", self.page, methods=["GET"]),
            Route("/api/products/{product_id:int}", self.read, methods=["GET"]),
            Route("/api/products/{product_id:int}/price", self.price, methods=["POST"]),
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

    async def price(self, request: Request) -> Response:
        """Set what a product costs."""
        product_id = request.path_params["product_id"]
        if product_id >= 2**63:
            return refusal("unknown_product", 404)  # no bigint, so no product
        params = {
            "key": idempotency_key(request),
            "product_id": product_id,
            "price": integer(await body(request), "price_cents", least=0),
            "trace": request.headers.get("traceparent"),
        }
        try:
            done = await self._pool.value(PRICE, params)
        except psycopg.errors.UniqueViolation:
            done = await self._pool.value(PRICE, params)
        return rendered(done) if done else refusal("unknown_product", 404)
