"""A registry on a database of its own, and its server on a free port."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from stranglerfig.schemas.formats import Format
from stranglerfig.schemas.server import RegistryServer
from stranglerfig.schemas.store import SchemaStore
from stranglerfig.schemas.subjects import Given, Pointer

if TYPE_CHECKING:
    from tests.conftest import Server


def record(*fields: tuple[str, Any], name: str = "shop.Order") -> str:
    """An Avro record; a field is (name, type) or (name, type, default)."""
    keys = ("name", "type", "default")
    return json.dumps({"type": "record", "name": name, "fields": [dict(zip(keys, f, strict=False)) for f in fields]})


def avro(*fields: tuple[str, Any], references: tuple[Pointer, ...] = ()) -> Given:
    """The same as it is handed in."""
    return Given(Format.AVRO, record(*fields), references)


class Client:
    """Asks as any REST client would; answers are (status, JSON)."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def __call__(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None) -> tuple[int, Any]:
        data = io.BytesIO(raw) if raw is not None else None if body is None else json.dumps(body).encode()
        async with self._session.request(method, URL(self.url + path, encoded=True), data=data) as response:
            assert response.content_type == "application/vnd.schemaregistry.v1+json"
            return response.status, json.loads(await response.read())

    async def register(self, subject: str, text: str, kind: str = "AVRO", **more: Any) -> int:
        """Register; returns the id."""
        path = f"/subjects/{quote(subject, safe='')}/versions"
        status, found = await self("POST", path, {"schema": text, "schemaType": kind, **more})
        assert status == 200, found
        return int(found["id"])


@pytest.fixture
async def store(postgres: Server) -> AsyncIterator[SchemaStore]:
    store = SchemaStore(postgres.database())
    await store.prepare()
    yield store
    await store.close()


@pytest.fixture
async def server(store: SchemaStore) -> AsyncIterator[RegistryServer]:
    server = RegistryServer(store)
    await server.start("127.0.0.1", 0)
    yield server
    await server.stop()


@pytest.fixture
async def ask(server: RegistryServer) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(f"http://127.0.0.1:{server.port}", session)


@pytest.fixture
def texts() -> Iterator[tuple[str, str, str]]:
    """Three versions of one record, each backward compatible with the one before."""
    first, second = ("id", "long"), ("note", "string", "")
    yield record(first), record(first, second), record(first, second, ("paid", "boolean", False))
