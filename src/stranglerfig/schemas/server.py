"""The registry's server: what Kafka's clients ask, answered from the store. Decisions are the store's.

Dialect: see ``dialect``. There are no contexts but the default one, no rules and no metadata of schemas; what is asked
of those is refused, not ignored. The server knows no accounts: it belongs on loopback or behind a proxy that does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

import stranglerfig
from stranglerfig.foundation import clock
from stranglerfig.schemas import http
from stranglerfig.schemas.routes import SchemaRoutes
from stranglerfig.schemas.routes_settings import SettingsRoutes
from stranglerfig.schemas.store import SchemaStore
from stranglerfig.telemetry import metrics


@web.middleware
async def _measured(request: web.Request, handler: http.Handler) -> web.StreamResponse:
    begun, status = clock.monotonic(), 500
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        took = clock.monotonic() - begun
        metrics.REGISTRY_REQUESTS.labels(_method(request.method), status).observe(took)


def _method(named: str) -> str:
    """As it is labelled: whoever asks must not be able to make series without end."""
    return named if named in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS") else "other"


class RegistryServer:
    """The registry behind one port; several of them may serve one database.

    Args:
        store: where everything is.
    """

    def __init__(self, store: SchemaStore) -> None:
        self._store = store
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; ``port`` 0 takes a free one, which ``self.port`` then says."""
        app = web.Application(middlewares=[_measured, http.errors], client_max_size=http.LARGEST_BODY)
        app.add_routes([*SchemaRoutes(self._store).routes(), *SettingsRoutes(self._store).routes()])
        app.router.add_get("/", self._root)
        app.router.add_get("/health", self._health)
        app.router.add_get("/contexts", self._contexts)
        app.router.add_get("/v1/metadata/id", self._cluster)
        app.router.add_get("/v1/metadata/version", self._version)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening; a registration under way is finished first."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _root(self, _: web.Request) -> web.Response:
        return http.answer({})

    async def _health(self, _: web.Request) -> web.Response:
        """200 when the database answers; else the error's own status."""
        return http.answer({"status": "ok", "maxId": await self._store.greatest_id()})

    async def _contexts(self, _: web.Request) -> web.Response:
        return http.answer(["."])

    async def _cluster(self, _: web.Request) -> web.Response:
        clusters = {"kafka-cluster": "", "schema-registry-cluster": "stranglerfig"}
        return http.answer({"id": "", "scope": {"path": [], "clusters": clusters}})

    async def _version(self, _: web.Request) -> web.Response:
        return http.answer({"version": f"stranglerfig {stranglerfig.__version__}", "commitId": ""})


async def serve_registry(host: str, port: int, dsn: str, *, ready: Callable[[int], None] | None = None) -> None:
    """Run the registry's server until cancelled; ``ready`` is called with the port once it listens."""
    store = SchemaStore(dsn)
    server = RegistryServer(store)
    try:
        await store.prepare()
        await server.start(host, port)
        if ready is not None:
            ready(server.port)
        await asyncio.Event().wait()
    finally:
        await server.stop()
        await store.close()
