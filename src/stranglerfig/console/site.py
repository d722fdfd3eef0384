"""What the console's web servers share: the built pages, headers that keep a page to itself, errors, the port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web

from stranglerfig.foundation import tasks
from stranglerfig.foundation.errors import FigError

STATIC = Path(__file__).parent / "static"
LARGEST = 16 * 1024 * 1024
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(page: str, statuses: Mapping[str, int]) -> web.Application:
    """An application whose ``/`` is a built page; ``statuses`` are those of errors by code, 400 of others."""

    @web.middleware
    async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except FigError as error:
            return web.json_response({"error": error.as_dict()}, status=statuses.get(error.code, 400))

    app = web.Application(middlewares=[errors], client_max_size=LARGEST)
    app.router.add_get("/", partial(_file, STATIC / page))
    app.on_response_prepare.append(_safe)
    return app


async def _file(file: Path, _: web.Request) -> web.StreamResponse:
    return web.FileResponse(file)


def same_origin(request: web.Request) -> None:
    """Refuse what a page of another site sends; it is told nothing else either.

    Raises:
        FigError: ``console_elsewhere``.
    """
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise FigError(
            "console_elsewhere", f"a page of {origin} asked, which is not this console's", "Open the console itself."
        )


async def _safe(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _SAFE.items():
        response.headers.setdefault(name, value)


async def listen(app: web.Application, host: str, port: int, before: int) -> tuple[web.AppRunner, int]:
    """Serve it, on ``port`` 0 where it was served ``before``, if that is free, else on any free port.

    Raises:
        FigError: ``port_in_use``.
    """
    for file in STATIC.iterdir():  # each by its name: what is below /api is not a file that might be there
        app.router.add_get(f"/{file.name}", partial(_file, file))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    for chosen in [port] if port else [before, 0]:
        try:
            await web.TCPSite(runner, host, chosen).start()
            break
        except OSError as error:
            if chosen == port:
                await runner.cleanup()
                raise FigError(
                    "port_in_use",
                    f"nothing can listen on {host}:{port}: {error.strerror}",
                    "Choose another --port.",
                ) from error
    return runner, int(runner.addresses[0][1])


class Server(Protocol):
    """One of the console's web servers."""

    async def start(self, host: str, port: int) -> None:
        """Listen."""
        ...

    async def stop(self) -> None:
        """Stop listening."""
        ...


async def serve(server: Server, host: str, port: int, ready: Callable[[], None]) -> None:
    """Serve until the process is asked to end; ``ready`` is called once it listens.

    Raises:
        FigError: what its ``start`` raises.
    """
    ended = asyncio.Event()
    tasks.on_signals(ended.set)
    await server.start(host, port)
    try:
        ready()
        await ended.wait()
    finally:
        await server.stop()


def address(host: str, port: int) -> str:
    """Where a server is, for browsers."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def link(host: str, port: int, token: str) -> str:
    """What to give to people: the token is in the part of the address that browsers do not send."""
    return f"{address(host, port)}#{token}"
