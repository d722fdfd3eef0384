"""The service's HTTP API: the same paths, fields and refusals as the monolith's inventory module."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from examples.shop.answers import TROUBLES, command, integer, refusal, rendered
from examples.shop.service.service import TOPICS, Answer, Inventory
from stranglerfig.eventlog import open_log
from stranglerfig.foundation import postgres, tasks
from stranglerfig.kit import Refused

CONTRACT = Path(__file__).with_name("openapi.yaml")


class Api:
    """The routes. ``bad`` is the release that the demonstration has to catch."""

    def __init__(self, inventory: Inventory, *, bad: bool = False) -> None:
        self._inventory = inventory
        self._bad = bad
        self.routes = [
            Route("/api/inventory/adjust", self.adjust, methods=["POST"]),
            Route("/api/inventory/reserve", self.reserve, methods=["POST"]),
            Route("/api/inventory/release", self.release, methods=["POST"]),
            Route("/api/inventory/{item_id:int}", self.read, methods=["GET"]),
            Route("/openapi.yaml", self.contract, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
        ]

    async def read(self, request: Request) -> Response:
        """One item's level."""
        item_id = request.path_params["item_id"]
        if item_id >= 2**63:
            return refusal("unknown_item", 404)  # no bigint, so no item
        try:
            level = await self._inventory.read(item_id)
        except Refused as refused:
            return refusal(refused.code, 404, item_id=item_id)
        if self._bad and item_id % 20 == 0:
            return await self._spoiled(level)
        return rendered(level)

    @staticmethod
    async def _spoiled(level: str) -> Response:
        """What a bad release does: a wrong figure, late."""
        await asyncio.sleep(0.1)
        content = orjson.loads(level)
        content["on_hand"] += 1
        return rendered(orjson.dumps(content))

    async def adjust(self, request: Request) -> Response:
        """Change what is on hand."""
        content, asked = await command(request)
        item_id, delta = integer(content, "item_id"), integer(content, "delta")
        reason = str(content.get("reason", ""))[:200]
        return await self._answer(self._inventory.adjust(asked, item_id, delta, reason), item_id=item_id)

    async def reserve(self, request: Request) -> Response:
        """Promise pieces of an item."""
        content, asked = await command(request)
        item_id, quantity = integer(content, "item_id"), integer(content, "qty", least=1)
        order_ref = None if content.get("order_id") is None else integer(content, "order_id")
        return await self._answer(self._inventory.reserve(asked, item_id, quantity, order_ref), item_id=item_id)

    async def release(self, request: Request) -> Response:
        """Take a promise back."""
        content, asked = await command(request)
        reservation_id = integer(content, "reservation_id")
        return await self._answer(self._inventory.release(asked, reservation_id), reservation_id=reservation_id)

    @staticmethod
    async def _answer(work: Awaitable[Answer], **facts: Any) -> Response:
        try:
            return rendered(orjson.dumps(await work))
        except Refused as refused:
            return refusal(refused.code, 404 if refused.code.startswith("unknown") else 409, **facts)

    async def contract(self, _: Request) -> Response:
        """The contract that this API keeps."""
        return Response(CONTRACT.read_bytes(), media_type="application/yaml")

    async def health(self, _: Request) -> Response:
        """Whether the service can do its work."""
        async with self._inventory.service.session() as conn:
            await postgres.value(conn, "SELECT 1")
        return rendered(orjson.dumps({"status": "ok", "release": "bad" if self._bad else "good", "pid": os.getpid()}))


def create_app(dsn: str | None = None, *, release: str | None = None) -> Starlette:
    """The application; settings from the environment: ``INVENTORY_DSN``, ``INVENTORY_RELEASE`` (good, bad), and for
    what it does on command ``INVENTORY_LOG``, with ``INVENTORY_GROUPS`` where that log keeps no groups.
    """
    url = os.environ.get("INVENTORY_LOG")
    log = open_log(url, state=os.environ.get("INVENTORY_GROUPS")) if url else None
    inventory = Inventory(dsn or os.environ["INVENTORY_DSN"], log)
    api = Api(inventory, bad=(release or os.environ.get("INVENTORY_RELEASE", "good")) == "bad")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with inventory.service.session():
            pass  # to fail early
        running = None
        if log is not None:
            await log.migrate()
            for topic in TOPICS:
                await log.create_topic(topic)
            running = tasks.spawn(inventory.service.run(), name="commands")
        yield
        if running is not None:
            await tasks.stop(running)
        await inventory.service.close()
        if log is not None:
            await log.close()

    return Starlette(
        routes=api.routes,
        exception_handlers=TROUBLES,
        lifespan=lifespan,
    )
