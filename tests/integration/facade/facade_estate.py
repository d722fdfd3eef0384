"""A real Envoy in front of tiny upstreams, as the façade's tests need it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
from aiohttp import web

from stranglerfig.facade.envoy import EnvoyControl
from stranglerfig.facade.model import ContextRouting, Estate
from stranglerfig.facade.settings import ContextFacade, ReadRoute, Route, Routes
from stranglerfig.facade.upstreams import Upstream as FacadeUpstream
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import free_port

ROUTES = Routes(
    reads=(ReadRoute(path="/api/inventory/{itemId}", methods=("GET", "HEAD")),),
    writes=(
        Route(path="/api/inventory/adjust", methods=("POST",)),
        Route(path="/api/inventory/reserve", methods=("POST",)),
    ),
    retired=(Route(path="/old/inventory/{rest=**}"),),
)


class Upstream:
    """A side that says its name and remembers what it was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.healthy = True
        self.breaks = False
        self.gate = asyncio.Event()
        self.gate.set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/stream", self._stream)
        app.router.add_post("/upload", self._upload)
        app.router.add_get("/health", self._health)
        app.router.add_route("*", "/{path:.*}", self._any)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024).start()

    async def stop(self) -> None:
        self.gate.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"side": self.name}, status=200 if self.healthy else 503)

    async def _any(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path_qs, dict(request.headers.items())))
        await self.gate.wait()
        size = len(await request.read())
        if self.breaks and request.transport is not None:
            request.transport.abort()
        return web.json_response({"side": self.name, "path": request.path_qs, "size": size})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{self.name}:{message.data}")
        return socket

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"first\n")
        await self.gate.wait()
        await answer.write(b"last\n")
        await answer.write_eof()
        return answer

    async def _upload(self, request: web.Request) -> web.Response:
        size = 0
        async for piece in request.content.iter_chunked(1 << 16):
            size += len(piece)
        return web.json_response({"size": size})


class Estates:
    """A monolith, a service, a stand-in for fence and comparator, and an Envoy before them."""

    def __init__(self, directory: Path) -> None:
        self.monolith = Upstream("monolith")
        self.service = Upstream("service")
        self.shadow = Upstream("shadow")
        self.fence_port = free_port()
        self.port = free_port()
        self.control = EnvoyControl(
            directory,
            f"127.0.0.1:{free_port()}",
            Estate(self.monolith.url, f"http://127.0.0.1:{self.fence_port}", self.shadow.url),
        )
        self.process: asyncio.subprocess.Process | None = None
        self.client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def routing(self, context: str = "inventory", **changes: object) -> ContextRouting:
        options = changes.pop("options", ContextFacade())
        routes = changes.pop("routes", ROUTES)
        service = changes.pop("service", FacadeUpstream((self.service.url,)))
        return ContextRouting(context, routes, service, options=options, **changes)  # type: ignore[arg-type]

    async def start(self) -> None:
        for side in (self.monolith, self.service, self.shadow):
            await side.start()
        self.control.prepare([self.routing()], listen=f"127.0.0.1:{self.port}")
        await self.start_envoy()
        self.client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def start_envoy(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.control.command(workers=2), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )

        async def serving() -> bool:
            assert self.process is not None
            if self.process.returncode is not None:
                raise FigError("envoy_ended", self.control.log_file.read_text()[-2000:])
            return await self.control.ready()

        await clock.until(serving, timeout=60, what="Envoy")

    async def stop_envoy(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        await self.stop_envoy()
        await self.client.close()
        await self.control.close()
        for side in (self.monolith, self.service, self.shadow):
            await side.stop()

    async def get(self, path: str, **options: object) -> tuple[int, dict[str, str]]:
        async with self.client.get(self.url + path, **options) as answer:  # type: ignore[arg-type]
            return answer.status, await answer.json()

    async def side_of(self, path: str, **options: object) -> str:
        status, body = await self.get(path, **options)
        assert status == 200
        return body["side"]
