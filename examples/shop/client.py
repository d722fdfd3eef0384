"""A small HTTP/1.1 client for the load: keep-alive, cheap, and without a single retry of its own.

A request that is not answered is reported as such: whoever counts lost and doubled writes must know of each one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

IDLE = 1.0
"""Seconds after which an unused connection is closed: before any server that is leaving closes it."""


class Unanswered(Exception):
    """The request may or may not have been handled: no complete answer came."""


@dataclass(slots=True)
class Answer:
    """One complete answer."""

    status: int
    body: bytes
    cookies: list[str] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._body: list[bytes] = []
        self._cookies: list[str] = []
        self.open = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._fail(f"connection lost: {exc or 'closed by the peer'}")

    def _fail(self, why: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Unanswered(why))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, AttributeError) as error:
            self._fail(f"unreadable answer: {error}")
            self.close()

    # httptools' callbacks
    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"set-cookie":
            self._cookies.append(value.decode("latin-1"))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.open = False
        answer = Answer(self._parser.get_status_code(), b"".join(self._body), self._cookies)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    async def request(self, message: bytes, timeout: float) -> Answer:
        assert self.transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._body, self._cookies = [], []
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(timeout, self._fail, f"no answer within {timeout:g} s")
        self.transport.write(message)
        try:
            return await self._waiting
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
            self._waiting = None

    def close(self) -> None:
        self.open = False
        if self.transport is not None:
            self.transport.close()


class Client:
    """Connections to one origin, reused last in, first out."""

    def __init__(self, url: str, *, timeout: float = 15.0) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._authority = f"{self._host}:{self._port}"
        self._timeout = timeout
        self._idle: list[_Connection] = []

    async def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """Send one request, once.

        Raises:
            Unanswered: no connection, a reset, a timeout, or an unreadable answer.
        """
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._authority}"]
        if headers:
            lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        message = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
        connection = await self._connection()
        answer = await connection.request(message, self._timeout)
        if connection.open:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open and asyncio.get_running_loop().time() - connection.idle_since < IDLE:
                return connection
            connection.close()
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(self._timeout):
                _, connection = await loop.create_connection(_Connection, self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise Unanswered(f"no connection: {error}") from error
        return connection

    def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
