"""``python -m bench.client PORT RATE SECONDS``: an open loop of requests, timed from when each was due.

A client that waits for answers before it asks again would hide every stall; this one keeps to its schedule, and what an
overloaded server (or client) makes late counts as late. Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from time import perf_counter as now

import httptools
import uvloop

from bench.result import quantile

CONNECTIONS = 64
GRAIN = 0.001
"""The event loop's timer's: what it makes late is not charged to the server, anything beyond is."""


class Connection(asyncio.Protocol):
    """A kept-alive connection with at most one request on its way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def ask(self, due: float, request: bytes) -> None:
        self._due = due
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._load.answered(self, self._due, self._parser.get_status_code())

    def connection_lost(self, _: Exception | None) -> None:
        self._load.lost += 1


class Load:
    """The schedule, and what came of it."""

    def __init__(self, port: int, rate: float, seconds: float) -> None:
        self.port, self.rate, self.seconds = port, rate, seconds
        self.free: list[Connection] = []
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.times: list[float] = []
        self.failed = self.lost = 0

    def answered(self, connection: Connection, due: float, status: int) -> None:
        self.times.append((now() - due) * 1000)
        self.failed += status != 200
        if self.waiting:
            connection.ask(*self.waiting.popleft())
        else:
            self.free.append(connection)

    async def run(self) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, protocol = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.port)
            self.free.append(protocol)
        total = int(self.rate * self.seconds)
        begun = now()
        for number in range(total):
            due = begun + number / self.rate
            if due - now() > GRAIN:
                await asyncio.sleep(due - now() - GRAIN)
            late = now() - due
            request = b"GET /api/inventory/%d HTTP/1.1\r\nhost: shop\r\n\r\n" % (number % 1000)
            since = due if late > 2 * GRAIN else now()
            if self.free:
                self.free.pop().ask(since, request)
            else:
                self.waiting.append((since, request))
        sending = now() - begun
        deadline = now() + 10
        while len(self.times) < total and now() < deadline:
            await asyncio.sleep(0.01)
        return {
            "requests": total,
            "rate": total / sending,
            "failed": self.failed + total - len(self.times),
            "p50": quantile(self.times, 0.5),
            "p99": quantile(self.times, 0.99),
        }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(Load(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])).run())))
