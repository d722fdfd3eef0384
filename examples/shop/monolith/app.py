"""The monolith's application: every module's routes in one process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .catalogue import Catalogue
from .customers import Customers
from .db import Pool
from .inventory import Inventory
from .orders import Orders
from .payments import Payments
from .reservations import InventoryApi
from .web import BadRequest, answer, refusal


async def _unavailable(_: Request, error: Exception) -> Response:
    """What the database refused or could not do; the client may ask again with the same key."""
    return refusal("database", 503, reason=str(error).strip().split("\n", 1)[0])


async def _bad_request(_: Request, error: Exception) -> Response:
    return refusal("bad_request", 400, reason=str(error))


def create_app() -> Starlette:
    """The application; settings from the environment: ``SHOP_DSN``, ``SHOP_RESERVE``, ``SHOP_INVENTORY_URL``."""
    dsn = os.environ["SHOP_DSN"]
    api = InventoryApi(os.environ["SHOP_INVENTORY_URL"]) if os.environ.get("SHOP_RESERVE") == "api" else None
    pools = {name: Pool(dsn, name, size) for name, size in (("catalogue", 3), ("orders", 8), ("inventory", 8))}

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        for pool in pools.values():
            await pool.open()
        yield
        if api:
            await api.close()
        for pool in pools.values():
            await pool.close()

    async def health(_: Request) -> Response:
        await pools["catalogue"].value("SELECT 1")
        return answer({"status": "ok", "reserve": "api" if api else "table", "pid": os.getpid()})

    return Starlette(
        routes=[
            *Inventory(pools["inventory"]).routes,
            *Orders(pools["orders"], api).routes,
            *Payments(pools["orders"]).routes,
            *Catalogue(pools["catalogue"]).routes,
            *Customers(pools["catalogue"]).routes,
            Route("/health", health),
        ],
        exception_handlers={psycopg.Error: _unavailable, BadRequest: _bad_request},
        lifespan=lifespan,
    )
