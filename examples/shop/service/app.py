"""The service's HTTP API: the same paths, fields and refusals as the monolith's inventory module."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import psycopg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from examples.shop.service.service import TOPICS, Answer, Asked, Inventory
from stranglerfig.eventlog import open_log
from stranglerfig.foundation import postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Refused

CONTRACT = Path(__file__).with_name("openapi.yaml")


class BadRequest(Exception):
    """The request cannot be understood."""


def rendered(text: str | bytes, status: int = 200) -> Response:
    """JSON text."""
    return Response(text, status, media_type="application/json")


def refusal(code: str, status: int, **facts: Any) -> Response:
    """A refusal."""
    return rendered(orjson.dumps({"error": code, **facts}), status)


def integer(content: dict[str, Any], name: str, *, least: int | None = None) -> int:
    """A whole number out of the body."""
    value = content.get(name)
    if type(value) is not int or (least is not None and value < least) or abs(value) >= 2**31:
        raise BadRequest(f"{name} is missing or not a whole number in range")
    return value


async def command(request: Request) -> tuple[dict[str, Any], Asked]:
    """Body of a write, and who asks."""
    try:
        content = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest("the body is not JSON") from error
    key = request.headers.get("idempotency-key", "")
    if not isinstance(content, dict) or not key or len(key) > 200:
        raise BadRequest("a JSON object and the header Idempotency-Key are wanted")
    return content, Asked(key, request.headers.get("traceparent"))


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


async def _unavailable(_: Request, error: Exception) -> Response:
    """What the database refused or could not do; the client may ask again with the same key."""
    return refusal("database", 503, reason=str(error).strip().split("\n", 1)[0])


async def _bad_request(_: Request, error: Exception) -> Response:
    return refusal("bad_request", 400, reason=str(error))


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
        exception_handlers={psycopg.Error: _unavailable, FigError: _unavailable, BadRequest: _bad_request},
        lifespan=lifespan,
    )
