"""A database for the service's integration tests, and its application called in process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import conninfo

from examples.shop.database import create_inventory
from examples.shop.service.app import create_app
from examples.shop.service.service import Inventory
from stranglerfig.runtime.embedded import EmbeddedPostgres

OWN = "inventory_item, stock_level, reservation, order_hold, processed_request, outbox"
ITEMS = """
INSERT INTO inventory_item SELECT i, 'SKU-' || i, 'Item ' || i, 5 FROM generate_series(1, 40) AS i;
INSERT INTO stock_level SELECT i, 100, 0 FROM generate_series(1, 40) AS i;
"""


@pytest.fixture(scope="session")
def service_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service's tables in a database of their own."""
    if given := os.environ.get("INVENTORY_TEST_DSN"):
        with psycopg.connect(given, autocommit=True) as conn:
            conn.execute((Path(__file__).parents[1] / "schema.sql").read_bytes())
        asyncio.run(Inventory(given).migrate())
        yield given
        return
    root = Path(tmp_path_factory.mktemp("inventory"))
    for folder in (root, *root.parents[:2]):
        folder.chmod(0o755)
    server = EmbeddedPostgres(root / "data", settings={"fsync": "off"})
    server.start()
    create_inventory(server)
    yield server.dsn("inventory")
    server.stop()


class Api:
    """The application, called without a socket."""

    def __init__(self, app: Any, dsn: str) -> None:
        self.app = app
        self.dsn = dsn

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON (or text) of one request."""
        content = body if isinstance(body, bytes) else orjson.dumps(body) if body is not None else b""
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        text = b"".join(m.get("body", b"") for m in sent)
        try:
            return sent[0]["status"], orjson.loads(text)
        except orjson.JSONDecodeError:
            return sent[0]["status"], text.decode()

    async def post(self, what: str, key: str, **content: Any) -> tuple[int, Any]:
        """A write under an idempotency key."""
        headers = {"Idempotency-Key": key, "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
        return await self.call("POST", f"/api/inventory/{what}", content, headers)

    def rows(self, query: str) -> list[Any]:
        """What the database says."""
        with psycopg.connect(self.dsn) as conn:
            return conn.execute(query.encode()).fetchall()


@pytest.fixture
async def api(service_database: str, request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """The application on 40 items of 100 pieces each."""
    with psycopg.connect(service_database, autocommit=True) as conn:
        conn.execute(f"TRUNCATE {OWN}, fig.inbox, fig.reply RESTART IDENTITY")
        conn.execute(ITEMS)
    app = create_app(
        conninfo.make_conninfo(service_database, user="inventory_app"), release=getattr(request, "param", "good")
    )
    async with app.router.lifespan_context(app):
        yield Api(app, service_database)
