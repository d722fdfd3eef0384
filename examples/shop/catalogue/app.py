"""The service: the same paths, fields and refusals as the monolith's catalogue, on the kit."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from examples.shop.answers import TROUBLES, Asked, BadRequest, command, integer, refusal, rendered
from examples.shop.catalogue.domain import PriceChange, Product
from stranglerfig.foundation import postgres
from stranglerfig.kit import Cause, Outbox, Refused, Service, Transaction

PRODUCT = """json_build_object('id', product_id, 'sku', sku, 'name', name, 'price_cents', price_cents,
    'revision', revision)"""
ONE = f"SELECT {PRODUCT}::text FROM product WHERE product_id = %s"
PAGE = f"""
SELECT coalesce(json_agg({PRODUCT}), '[]')::text
FROM (SELECT * FROM product WHERE product_id > %s ORDER BY product_id LIMIT %s) AS page
"""
CONTRACT = Path(__file__).with_name("openapi.yaml")


class Catalogue:
    """What is read, and the one command."""

    def __init__(self, dsn: str) -> None:
        # Its events go to the log by the extraction's capture, as the inventory's do.
        self.service = Service("catalogue", database=dsn, outbox=Outbox("public.outbox", data="jsonb", id="uuid"))
        self.routes = [
            Route("/api/products", self.page, methods=["GET"]),
            Route("/api/products/{product_id:int}", self.read, methods=["GET"]),
            Route("/api/products/{product_id:int}/price", self.price, methods=["POST"]),
            Route("/openapi.yaml", self.contract, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
        ]

    async def migrate(self) -> None:
        """Create or bring forward the kit's tables, for the roles that the service's own have."""
        await self.service.migrate(owner="catalogue_owner", users=["catalogue_app"])

    async def _value(self, statement: Any, *params: Any) -> Any:
        async with self.service.session() as conn:
            return await postgres.value(conn, statement, params)

    async def read(self, request: Request) -> Response:
        """One product."""
        product_id = request.path_params["product_id"]
        found = await self._value(ONE, product_id) if product_id < 2**63 else None
        return rendered(found) if found else refusal("unknown_product", 404)

    async def page(self, request: Request) -> Response:
        """Products after an id, at most 100."""
        try:
            after = int(request.query_params.get("after", "0"))
            limit = min(int(request.query_params.get("limit", "20")), 100)
        except ValueError as error:
            raise BadRequest("after and limit are whole numbers") from error
        return rendered(await self._value(PAGE, after, limit))

    async def price(self, request: Request) -> Response:
        """Set what a product costs."""
        content, asked = await command(request)
        try:
            change = await self._reprice(
                asked, request.path_params["product_id"], integer(content, "price_cents", least=0)
            )
        except Refused as refused:
            return refusal(refused.code, 404)
        answer = {"id": change.product_id, "price_cents": change.price_cents, "revision": change.revision}
        return rendered(orjson.dumps(answer))

    async def _reprice(self, asked: Asked, product_id: int, price_cents: int) -> PriceChange:
        async def known(tx: Transaction) -> PriceChange | None:
            return await tx.find(PriceChange, asked.key)

        async def work(tx: Transaction) -> PriceChange:
            product = await tx.find(Product, product_id) if product_id < 2**63 else None
            if product is None:
                raise Refused("unknown_product")
            event = product.reprice(price_cents)
            return await tx.add(PriceChange(asked.key, product_id, event.price_cents, event.revision))

        return await self.service.execute(work, known=known, cause=Cause(asked.key, asked.key, asked.trace))

    async def contract(self, _: Request) -> Response:
        """The contract that this API keeps."""
        return Response(CONTRACT.read_bytes(), media_type="application/yaml")

    async def health(self, _: Request) -> Response:
        """Whether the service can do its work."""
        await self._value("SELECT 1")
        return rendered(orjson.dumps({"status": "ok", "pid": os.getpid()}))


def create_app(dsn: str | None = None) -> Starlette:
    """The application; its database from the environment: ``CATALOGUE_DSN``."""
    catalogue = Catalogue(dsn or os.environ["CATALOGUE_DSN"])

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with catalogue.service.session():
            pass  # to fail early
        yield
        await catalogue.service.close()

    return Starlette(routes=catalogue.routes, exception_handlers=TROUBLES, lifespan=lifespan)
