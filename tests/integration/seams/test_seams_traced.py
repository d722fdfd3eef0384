"""A traced monolith behind a real Envoy, on a real PostgreSQL that logs its statements: what its requests touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psycopg
import pytest
from aiohttp import web

from stranglerfig.facade.envoy import EnvoyControl
from stranglerfig.facade.model import Estate
from stranglerfig.foundation import clock
from stranglerfig.runtime.embedded import EmbeddedPostgres, free_port
from stranglerfig.seams.collect import collect
from stranglerfig.seams.model import Evidence, Use
from stranglerfig.telemetry.model import Destination
from tests.conftest import passable

SCHEMA = """
CREATE TABLE stock (id bigint PRIMARY KEY, n int);
CREATE TABLE orders (id bigserial PRIMARY KEY, item bigint);
CREATE TABLE audit (said text);
INSERT INTO stock VALUES (7, 100), (8, 100);
"""
FORMATS = ("jsonlog", "csvlog", "stderr")
FILES = {"jsonlog": "*.json", "csvlog": "*.csv", "stderr": "*.log"}


@pytest.fixture(scope="module")
def logging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server that logs every statement, in each of its formats."""
    settings = {"fsync": "off", "logging_collector": "on", "log_destination": ",".join(FORMATS), "log_statement": "all"}
    server = EmbeddedPostgres(passable(tmp_path_factory.mktemp("logging")) / "data", settings=settings)
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute(SCHEMA)
    yield server
    server.stop()


class Monolith:
    """Two routes; its driver's instrumentation writes the trace of the request behind each statement."""

    def __init__(self, dsn: str) -> None:
        self.port = free_port()
        self._dsn = dsn
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/stock/{id}", self._stock)
        app.router.add_post("/orders", self._order)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _run(self, request: web.Request, *statements: tuple[str, tuple[object, ...]]) -> web.Response:
        comment = f" /*framework='aiohttp',traceparent='{request.headers['traceparent']}'*/"
        async with await psycopg.AsyncConnection.connect(self._dsn) as conn:
            for text, values in statements:
                await conn.execute((text + comment).encode(), values)
        return web.Response()

    async def _stock(self, request: web.Request) -> web.Response:
        return await self._run(request, ("SELECT n\nFROM stock WHERE id = %s", (int(request.match_info["id"]),)))

    async def _order(self, request: web.Request) -> web.Response:
        return await self._run(
            request,
            ("INSERT INTO orders (item) VALUES (%s)", (7,)),
            ("UPDATE Stock SET n = n - 1 WHERE id = %s", (7,)),
            ("INSERT INTO audit SELECT 'ordered ' || n FROM stock WHERE id = %s", (7,)),
        )


@asynccontextmanager
async def facade(folder: Path, monolith: Monolith) -> AsyncIterator[tuple[str, Path]]:
    """An Envoy that traces (to nobody) in front of a monolith: its address and its access log."""
    port, nobody = free_port(), f"http://127.0.0.1:{free_port()}"
    estate = Estate(f"http://127.0.0.1:{monolith.port}", nobody, nobody)
    control = EnvoyControl(folder, f"127.0.0.1:{free_port()}", estate)
    control.prepare([], listen=f"127.0.0.1:{port}", traces=Destination("otlp", nobody))
    process = await asyncio.create_subprocess_exec(
        *control.command(workers=1), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await clock.until(control.ready, timeout=60, what="Envoy")
        yield f"http://127.0.0.1:{port}", control.access_log
    finally:
        await control.close()
        process.kill()
        await process.wait()


async def asked(logging: EmbeddedPostgres, folder: Path) -> Path:
    """Some requests through the façade, and as many statements that are nobody's; returns the access log."""
    monolith = Monolith(logging.dsn())
    await monolith.start()
    try:
        async with facade(folder, monolith) as (url, log), aiohttp.ClientSession() as client:
            for number in range(4):
                for method, path in (("GET", f"/stock/{7 + number % 2}?all=1"), ("POST", "/orders")):
                    async with client.request(method, url + path) as answer:
                        assert answer.status == 200
            with psycopg.connect(logging.dsn()) as conn:
                conn.execute("DELETE FROM audit WHERE said = 'a job at night'")

            async def written() -> bool:
                return log.exists() and len(log.read_bytes().splitlines()) == 8

            await clock.until(written, timeout=20, what="the access log")
            return log
    finally:
        await monolith.stop()


def route(found: Evidence, name: str) -> Use:
    return next(each for each in found.of("route") if each.name == name)


async def test_requests_and_statements_of_one_trace_say_what_routes_touch(
    logging: EmbeddedPostgres, tmp_path: Path
) -> None:
    access = await asked(logging, tmp_path / "facade")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "app.py").write_text(
        "app.add_api_route('/orders', order, methods=['POST'])\n"
        "def order(conn):\n    conn.execute('INSERT INTO orders (item) VALUES (1)')\n"
    )
    for format in FORMATS:
        (log,) = (logging.directory / "log").glob(FILES[format])
        found = await collect(logging.dsn(), None, None, None, [access], [log])
        assert {each.name for each in found.of("route")} == {"GET /stock/{id}", "POST /orders"}, format
        stock, order = route(found, "GET /stock/{id}"), route(found, "POST /orders")
        assert (stock.reads, stock.writes, stock.times) == ({"stock"}, frozenset(), 4)
        assert (order.reads, order.writes, order.times) == (frozenset(), {"orders", "stock", "audit"}, 4)
        assert order.places["stock"].startswith(f"{log.name}:") and found.requests == 8
        both = await collect(logging.dsn(), tmp_path / "source", None, None, [access], [log])
        order = route(both, "POST /orders")
        assert order.writes == {"orders", "stock", "audit"} and order.where == "app.py:1"
        assert order.places["orders"] == "app.py:3" or order.places["orders"].startswith(log.name)
        (said,) = (each for each in both.coverage if each.source == "traces")
        assert said.state == "read", said.said
        assert "16 of " in said.said
        assert "8 traces are of requests in the access log, to 1 routes of the sources and 1 others" in said.said
