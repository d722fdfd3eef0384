"""The service's HTTP API: a checkout is asked for, and looked at."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from examples.shop.checkout import adapter
from examples.shop.checkout.domain import Checkout, CheckoutRequested, PurchaseRequested, purchase
from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Cause, Service, Transaction
from stranglerfig.sagas.running import Sagas

TOPICS = ("events.checkout", "events.inventory", "events.shop", "commands.inventory")
STANDS = "SELECT status, data FROM fig.saga WHERE key = %s"


def answer(content: Any, status: int = 200) -> Response:
    """A Python value as JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def made(dsn: str, log: EventLog | None = None) -> Service:
    """The service: conducts checkouts, and keeps the record of those that nobody conducts."""
    # Two cores carry the whole estate here: fewer, larger transactions.
    service = Service("checkout", database=dsn, log=log, linger=0.05)
    Sagas(service, [Checkout])
    purchase.recorded_by(service)
    return service


class Api:
    """The routes."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.routes = [
            Route("/api/checkouts", self.ask, methods=["POST"]),
            Route("/api/checkouts/{key}", self.look, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
        ]

    async def ask(self, request: Request) -> Response:
        """Accept a checkout: ``{"customer_id", "item_id", "qty", "conducted": true}``."""
        key = request.headers.get("idempotency-key", "")
        try:
            content = orjson.loads(await request.body())
            wanted = [int(content[name]) for name in ("customer_id", "item_id", "qty")]
            conducted = bool(content.get("conducted", True))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            wanted = []
        if not wanted or not key or wanted[2] < 1:
            return answer({"error": "bad_request"}, 400)
        cls = CheckoutRequested if conducted else PurchaseRequested
        flow = key if conducted else f"{adapter.FLOW}{key}"

        async def accept(tx: Transaction) -> dict[str, str]:
            tx.send(cls(key, *wanted))
            return {"key": key, "flow": flow}

        cause = Cause(key, flow, request.headers.get("traceparent"))
        return answer(await self._service.execute(accept, key=key, cause=cause), 202)

    async def look(self, request: Request) -> Response:
        """Where one that is conducted stands."""
        async with self._service.session() as conn:
            found = await postgres.one(conn, STANDS, (request.path_params["key"],))
        return answer({"error": "unknown_checkout"}, 404) if found is None else answer({"status": found[0], **found[1]})

    async def health(self, _: Request) -> Response:
        """Whether the service can do its work."""
        async with self._service.session() as conn:
            await postgres.value(conn, "SELECT 1")
        return answer({"status": "ok", "pid": os.getpid()})


async def _unavailable(_: Request, error: Exception) -> Response:
    return answer({"error": "unavailable", "reason": str(error)}, 503)


def create_app() -> Starlette:
    """The application; settings from the environment: ``CHECKOUT_DSN``, ``CHECKOUT_LOG`` (with ``CHECKOUT_GROUPS``
    where that keeps no groups), and ``SHOP_URL``, where the monolith is.
    """
    log = open_log(os.environ["CHECKOUT_LOG"], state=os.environ.get("CHECKOUT_GROUPS"))
    service = made(os.environ["CHECKOUT_DSN"], log)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await log.migrate()
        for topic in TOPICS:
            await log.create_topic(topic)
        # What was said before there were checkouts is none of theirs.
        known = await log.groups("events.inventory")
        for group in ("checkout.sagas", "checkout.flow.purchase", adapter.GROUP):
            if group not in known:
                await log.seek("events.inventory", group, time=clock.now())
        running = [
            tasks.spawn(service.run(), name="checkouts"),
            tasks.spawn(tasks.supervise(lambda: adapter.run(log), name="the shop's part"), name="the shop's part"),
        ]
        yield
        for each in running:
            await tasks.stop(each)
        await service.close()
        await log.close()

    return Starlette(routes=Api(service).routes, exception_handlers={FigError: _unavailable}, lifespan=lifespan)
