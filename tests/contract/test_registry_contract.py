"""What every registry does behind the port: ours in the control database, and another one reached by its URL.

The other one is our own server: its dialect is tested with clients that we did not write (tests/integration/schemas).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas.formats import Format, Level
from stranglerfig.schemas.ports import Registry
from stranglerfig.schemas.remote import RemoteRegistry
from stranglerfig.schemas.server import RegistryServer
from stranglerfig.schemas.store import SchemaStore
from stranglerfig.schemas.subjects import Given, Pointer

if TYPE_CHECKING:
    from tests.conftest import Server


def record(name: str, **fields: str) -> Given:
    """An Avro record."""
    listed = [{"name": key, "type": kind} for key, kind in fields.items()]
    return Given(Format.AVRO, json.dumps({"type": "record", "name": name, "fields": listed}))


@pytest.fixture(params=["store", "remote"])
async def registry(request: pytest.FixtureRequest, postgres: Server) -> AsyncIterator[Registry]:
    store = SchemaStore(postgres.database())
    await store.prepare()
    server = RegistryServer(store)
    await server.start("127.0.0.1", 0)
    remote = RemoteRegistry(f"http://127.0.0.1:{server.port}/")
    found: Registry = store if request.param == "store" else remote
    await found.prepare()
    yield found
    await remote.close()
    await server.stop()
    await store.close()


async def test_a_schema_is_registered_once(registry: Registry) -> None:
    subject = "a/b 100%: größe"
    assert await registry.subjects() == [] and await registry.versions(subject) == []
    first = await registry.register(subject, record("shop.Order", id="long"), by="Ann", level=Level.FULL)
    assert (first.subject, first.version) == (subject, 1) and first.id > 0
    assert await registry.level(subject) is Level.FULL and await registry.level("other") is Level.BACKWARD
    again = await registry.register(subject, record("shop.Order", id="long"), by="Bo", level=Level.NONE)
    assert (again.version, again.id) == (1, first.id) and await registry.level(subject) is Level.FULL
    elsewhere = await registry.register("other", record("shop.Order", id="long"), by="Bo")
    assert (elsewhere.version, elsewhere.id) == (1, first.id)
    assert await registry.subjects() == sorted([subject, "other"])
    assert [(each.version, each.id) for each in await registry.versions(subject)] == [(1, first.id)]


async def test_what_is_not_compatible_is_refused_with_the_reason(registry: Registry) -> None:
    broken = record("shop.Order", id="string")
    assert await registry.problems("orders", broken) == []
    await registry.register("orders", record("shop.Order", id="long"), by="Ann")
    found = await registry.problems("orders", broken)
    assert found and any("id" in f"{each.path} {each.words}" for each in found)
    with pytest.raises(FigError) as refused:
        await registry.register("orders", broken, by="Ann")
    assert refused.value.code == "schema_incompatible" and "id" in refused.value.message
    for bad in (Given(Format.AVRO, "{"), Given(Format.JSON, '{"type": 7}'), Given(Format.PROTOBUF, "nonsense")):
        with pytest.raises(FigError) as invalid:
            await registry.register("orders", bad, by="Ann")
        assert invalid.value.code == "schema_invalid"
    assert len(await registry.versions("orders")) == 1


async def test_references_are_resolved(registry: Registry) -> None:
    unknown = Given(Format.AVRO, record("shop.Order", total="shop.Money").text, (Pointer("shop.Money", "money", 1),))
    with pytest.raises(FigError) as refused:
        await registry.register("orders", unknown, by="Ann")
    assert refused.value.code == "schema_invalid"
    await registry.register("currency", record("shop.Currency", code="string"), by="Ann")
    money = Given(
        Format.AVRO, record("shop.Money", unit="shop.Currency").text, (Pointer("shop.Currency", "currency", 1),)
    )
    await registry.register("money", money, by="Ann")
    await registry.register("orders", unknown, by="Ann")
    latest = (await registry.versions("orders"))[-1]
    assert latest.schema.references == unknown.references
    text = await registry.text(latest.schema)
    assert [each.name for each in text.references] == ["shop.Currency", "shop.Money"], "what is needed comes first"


async def test_normalised_schemas_are_one(registry: Registry) -> None:
    one = Given(Format.JSON, '{"type": "object", "properties": {"a": {"type": "integer"}}}')
    other = Given(Format.JSON, '{"properties": {"a": {"type": "integer"}}, "type": "object"}')
    first = await registry.register("s", one, by="Ann", normalize=True)
    assert (await registry.register("s", other, by="Ann", normalize=True)).id == first.id


async def test_a_registry_that_is_no_registry_is_named() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>hello</html>")

    async def broken(_: web.Request) -> web.Response:
        return web.json_response({"error_code": 50001, "message": "its store is gone"}, status=500)

    async def odd(_: web.Request) -> web.Response:
        return web.json_response({"is_compatible": False})

    app = web.Application()
    app.add_routes([web.get("/subjects", page), web.get("/subjects/s/versions", broken)])
    app.add_routes([web.post("/compatibility/subjects/s/versions", odd)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    registry = RemoteRegistry(f"http://127.0.0.1:{runner.addresses[0][1]}", "ann:secret")
    try:
        for work, words in ((registry.prepare(), "no JSON"), (registry.versions("s"), "its store is gone")):
            with pytest.raises(FigError, match=words) as refused:
                await work
            assert refused.value.code == "registry_unreachable" and "secret" not in str(refused.value.as_dict())
        assert "not why" in (await registry.problems("s", record("x.Y", id="long")))[0].words
        await runner.cleanup()
        with pytest.raises(FigError) as away:
            await registry.subjects()
        assert away.value.code == "registry_unreachable"
    finally:
        await registry.close()


async def test_credentials_are_sent_and_needed() -> None:
    async def closed(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Basic YW5uOnM6ZWNyZXQ=":
            return web.json_response({"error_code": 401, "message": "Unauthorized"}, status=401)
        return web.json_response(["orders"])

    app = web.Application()
    app.add_routes([web.get("/subjects", closed)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    known, unknown = RemoteRegistry(url, "ann:s:ecret"), RemoteRegistry(url)
    try:
        assert await known.subjects() == ["orders"]
        with pytest.raises(FigError, match="Unauthorized") as refused:
            await unknown.subjects()
        assert refused.value.code == "registry_unreachable"
    finally:
        await asyncio.gather(known.close(), unknown.close())
        await runner.cleanup()
