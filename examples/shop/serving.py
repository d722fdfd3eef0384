"""How the shop's processes serve HTTP: uvicorn on a socket of their own or one inherited from whoever deployed them.

With an inherited socket (as under systemd) a new release accepts before the old one has gone. On SIGTERM the old one
stops accepting, answers what still arrives on open connections with ``Connection: close``, and leaves: nobody who is
connected meets a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from types import FrameType
from typing import Any

import uvicorn

from stranglerfig.telemetry import traces
from stranglerfig.telemetry.asgi import Traced


class _Draining(uvicorn.Server):
    """A uvicorn server that says goodbye before it closes."""

    def __init__(self, config: uvicorn.Config, app: Any, *, drain: float, inherited: bool) -> None:
        super().__init__(config)
        config.app = self._application
        self._app = app
        self._drain = drain
        self._inherited = inherited
        self._leaving = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self._loop = asyncio.get_running_loop()
        if not self._leaving or scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def closing(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, closing)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain, then leave. Second signal, or Ctrl-C: leave."""
        if self._leaving or sig != signal.SIGTERM or self._loop is None or not self._drain:
            self.should_exit = True
            return
        self._leaving = True
        self._loop.call_soon_threadsafe(self._begin_leaving)

    def _begin_leaving(self) -> None:
        assert self._loop is not None
        if self._inherited:
            for server in self.servers:
                server.close()
        self._loop.call_later(self._drain, setattr, self, "should_exit", True)


def serve(app: Any, *, port: int, fd: int | None = None, drain: float = 2.0) -> None:
    """Serve ``app`` until SIGTERM or SIGINT, on loopback ``port`` or the listening socket ``fd``."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        interface="asgi3",
        proxy_headers=False,
        lifespan="on",
        access_log=False,
        log_level="warning",
        # A server that closes idle connections races with the proxy that is about to use one: let the proxy close.
        timeout_keep_alive=3600,
        timeout_graceful_shutdown=30,
        server_header=False,
        date_header=False,
    )
    server = _Draining(config, app, drain=drain, inherited=fd is not None)
    sockets = None
    if fd is not None:
        sockets = [socket.socket(fileno=fd)]
        sockets[0].setblocking(False)
    gc.collect()
    gc.freeze()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=sockets)


def serve_from_environment(app: Any, *, prefix: str) -> None:
    """:func:`serve` with ``<prefix>_PORT``, ``<prefix>_FD`` and ``<prefix>_DRAIN`` (seconds).

    Its spans go where OpenTelemetry's variables say (``OTEL_EXPORTER_OTLP_ENDPOINT``); nowhere without them.
    """
    fd = os.environ.get(f"{prefix}_FD")
    traces.install_from(os.environ, prefix.lower())
    serve(
        Traced(app),
        port=int(os.environ.get(f"{prefix}_PORT", "0")),
        fd=int(fd) if fd else None,
        drain=float(os.environ.get(f"{prefix}_DRAIN", "2.0")),
    )
    traces.close()
