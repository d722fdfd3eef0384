"""The monolith as a process on a database: the one that SHOP_TEST_DSN names, else one made for the tests.

Orders that the tests place carry keys that begin with ``test:`` and stay: an order is never deleted.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

PACKAGE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The shop's database, as its application."""
    if given := os.environ.get("SHOP_TEST_DSN"):
        yield given
        return
    from stranglerfig.runtime.embedded import EmbeddedPostgres

    root = Path(tmp_path_factory.mktemp("shop"))
    for folder in (root, *root.parents[:2]):
        folder.chmod(0o755)
    server = EmbeddedPostgres(root / "data", settings={"fsync": "off"})
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute((PACKAGE / "roles.sql").read_bytes())
    server.create_database("shop", owner="shop_owner")
    with psycopg.connect(server.dsn("shop"), autocommit=True) as conn:
        conn.execute("SET ROLE shop_owner")
        conn.execute((PACKAGE / "schema.sql").read_bytes())
        for statement in (PACKAGE / "seed.sql").read_text().split("-- name: ")[1:]:
            conn.execute(statement.partition("\n")[2].encode(), {"items": 200, "seed": 1})
    yield server.dsn("shop", "shop_app")
    server.stop()


class Shop:
    """The running monolith."""

    def __init__(self, url: str, dsn: str) -> None:
        self.url, self.dsn = url, dsn

    def call(self, method: str, path: str, content: Any = None, key: str | None = None) -> tuple[int, Any]:
        """Status and JSON of one request."""
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        if content is not None:
            request.data = json.dumps(content).encode()
        if key is not None:
            request.add_header("Idempotency-Key", key)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def one(self, query: str, *params: Any) -> Any:
        """One row out of the database."""
        with psycopg.connect(self.dsn) as conn:
            return conn.execute(query.encode(), params).fetchone()


@pytest.fixture
def key() -> str:
    """An idempotency key of the tests' own."""
    return f"test:{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def start(dsn: str) -> Iterator[Callable[..., Shop]]:
    """Start the monolith with settings; it ends with the tests."""
    running = []

    def begin(**settings: str) -> Shop:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        environment = dict(os.environ) | {"SHOP_DSN": dsn, "SHOP_PORT": str(port), "SHOP_DRAIN": "0"} | settings
        environment.pop("SHOP_FD", None)
        path = [environment.get("PYTHONPATH", ""), *sys.path]
        environment["PYTHONPATH"] = os.pathsep.join(p for p in path if p)
        process = subprocess.Popen([sys.executable, "-m", PACKAGE.name], cwd=PACKAGE.parent, env=environment)
        running.append(process)
        shop = Shop(f"http://127.0.0.1:{port}", dsn)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if shop.call("GET", "/health")[0] == 200:
                    return shop
            except OSError:
                threading.Event().wait(0.05)
        raise AssertionError("the monolith did not start")

    yield begin
    for process in running:
        process.terminate()
        process.wait()


class Inventory(BaseHTTPRequestHandler):
    """An inventory API that orders can be tried against: items above 100 are sold out."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a reservation or a release."""
        content = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, self.headers["idempotency-key"], content))  # type: ignore[attr-defined]
        if content.get("item_id", 0) > 100:
            self._answer(409, {"error": "insufficient_stock"})
        else:
            self._answer(200, {"reservation_id": len(self.server.seen)})  # type: ignore[attr-defined]

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def inventory_api() -> Iterator[ThreadingHTTPServer]:
    """The API above on a free port; ``seen`` lists its requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Inventory)
    server.daemon_threads = True
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def shop_by_api(start: Callable[..., Shop], inventory_api: ThreadingHTTPServer) -> Shop:
    """The monolith whose orders reserve through the inventory's API."""
    return start(SHOP_RESERVE="api", SHOP_INVENTORY_URL=f"http://127.0.0.1:{inventory_api.server_port}")
