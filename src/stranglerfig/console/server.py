"""The wall's web server: the built page, its socket, and what it asks. Who has the link may use it, and nobody else.

A link's token is in the part of the address that browsers do not send; the page passes it on by a header or, for the
socket, as its subprotocol, so that it stands in no log. The page loads nothing from elsewhere (its policy says so).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from stranglerfig.console import site
from stranglerfig.console.room import Client
from stranglerfig.console.wall import SharedWall
from stranglerfig.foundation import tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.storming.lint import lint

_STATUSES = {"wall_link": 403, "wall_reads_only": 403, "wall_file_changed": 409}
_PROTOCOL = "fig-wall"
log = logging.getLogger(__name__)


class WallServer:
    """Serves one wall; ``host`` and ``port`` say where once it has started."""

    def __init__(self, wall: SharedWall) -> None:
        self.wall = wall
        storage = wall.room.storage
        self.writes, self.reads = storage.secret("writes"), storage.secret("reads")
        self.board = storage.secret("board")
        self.host, self.port = "", 0
        self._runner: web.AppRunner | None = None
        self._sockets: set[web.WebSocketResponse] = set()

    async def start(self, host: str, port: int) -> None:
        """Listen; on ``port`` 0 where it listened before, if that is free, else on any free port.

        Raises:
            FigError: ``port_in_use``.
        """
        app = site.application("index.html", _STATUSES)
        app.router.add_get("/wall", self._socket)
        app.router.add_get("/api/wall", self._about)
        app.router.add_get("/api/text", self._text)
        app.router.add_post("/api/text", self._import)
        app.router.add_post("/api/file", self._take_file)
        app.router.add_put("/api/file", self._write)
        app.router.add_get("/api/findings", self._findings)
        before = int(self.wall.room.storage.fact("port") or 0)
        self._runner, self.port = await site.listen(app, host, port, before)
        self.host = host
        self.wall.room.storage.say("port", str(self.port))

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)
        if self._runner is not None:
            await self._runner.cleanup()

    def link(self, *, reads_only: bool = False) -> str:
        """What to give to people."""
        return site.link(self.host, self.port, self.reads if reads_only else self.writes)

    def _may(self, token: str) -> bool:
        """Whether the token may write.

        Raises:
            FigError: ``wall_link`` when it is none.
        """
        if hmac.compare_digest(token.encode(), self.writes.encode()):
            return True
        if hmac.compare_digest(token.encode(), self.reads.encode()):
            return False
        raise FigError("wall_link", "this link is not, or no longer, valid", "Ask for the link that fig storm printed.")

    def _asked(self, request: web.Request, *, to_write: bool = False) -> bool:
        writes = self._may(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if to_write and not writes:
            raise FigError("wall_reads_only", "this link only reads", "Ask for the link that writes.")
        return writes

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """A client's connection: its updates in, everybody's out."""
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise FigError(
                "wall_link", f"a page of {origin} asked, which is not this server's", "Open the link itself."
            )
        offered = [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        reads_only = not self._may(offered[1] if offered[0] == _PROTOCOL and len(offered) == 2 else "")
        socket = web.WebSocketResponse(protocols=[_PROTOCOL], max_msg_size=site.LARGEST, heartbeat=20.0)
        await socket.prepare(request)
        client, room = Client(reads_only=reads_only), self.wall.room
        self._sockets.add(socket)
        sender = tasks.spawn(_send(client, socket), name="wall client")
        room.join(client)
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    room.take(client, message.data)
        except FigError as error:
            log.warning("a client was let go: %s", error, extra={"action": "wall_refused"})
            await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=error.code.encode())
        finally:
            room.leave(client)
            await tasks.stop(sender)
            self._sockets.discard(socket)
        return socket

    async def _about(self, request: web.Request) -> web.Response:
        writes = self._asked(request)
        wall = self.wall
        return web.json_response(
            {
                "board": self.board,
                "name": wall.name,
                "file": wall.file.name,
                "writes": writes,
                "file_changed": wall.file_changed(),
                "reads_link": self.reads,
            }
        )

    async def _text(self, request: web.Request) -> web.Response:
        self._asked(request)
        return web.Response(text=self.wall.text())

    async def _import(self, request: web.Request) -> web.Response:
        self._asked(request, to_write=True)
        return web.json_response({"touched": self.wall.take(await request.text())})

    async def _take_file(self, request: web.Request) -> web.Response:
        self._asked(request, to_write=True)
        return web.json_response({"touched": self.wall.take_file()})

    async def _write(self, request: web.Request) -> web.Response:
        self._asked(request, to_write=True)
        return web.json_response({"written": self.wall.write(), "file": str(self.wall.file)})

    async def _findings(self, request: web.Request) -> web.Response:
        self._asked(request)
        return web.json_response([finding.as_dict() for finding in lint(self.wall.model())])


async def _send(client: Client, socket: web.WebSocketResponse) -> None:
    try:
        while (message := await client.waiting.get()) is not None:
            await socket.send_bytes(message)
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
    except (ConnectionError, asyncio.CancelledError):
        return
