"""Pass-through, shares, pins and mirrors, by a real Envoy."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import pytest
from facade_estate import Estates

from stranglerfig.facade.settings import ContextFacade, ReadRoute, Routes, StickySettings
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError


async def test_what_is_not_named_passes_untouched(estate: Estates) -> None:
    sent = {
        "X-Forwarded-For": "10.1.2.3",
        "X-Fig-Target": "service",
        "traceparent": "00-1-2-01",
        "X-CamelCase": "kept",
        "Host": "shop.example",
        "x-envoy-retry-on": "5xx",
    }
    async with estate.client.get(estate.url + "/a//b/%2F/c?q=1%20", headers=sent) as answer:
        assert answer.status == 200
        assert "python" in answer.headers["Server"].lower()
    _, path, got = estate.monolith.requests[-1]
    assert path == "/a//b/%2F/c?q=1%20"
    assert got["X-Forwarded-For"] == "10.1.2.3"
    assert got["Host"] == "shop.example"
    assert got["traceparent"] == "00-1-2-01"
    assert "X-CamelCase" in got
    lower = {name.lower() for name in got}
    assert "x-fig-target" not in lower
    assert "x-request-id" in lower
    assert not [name for name in lower if name.startswith("x-envoy")]


async def test_websocket(estate: Estates) -> None:
    async with estate.client.ws_connect(estate.url + "/ws") as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "monolith:hello"


async def test_streams_as_they_come(estate: Estates) -> None:
    estate.monolith.gate.clear()
    async with estate.client.get(estate.url + "/stream") as answer:
        async with asyncio.timeout(5):
            assert await answer.content.readline() == b"first\n"
        estate.monolith.gate.set()
        assert await answer.content.readline() == b"last\n"


async def test_large_upload(estate: Estates) -> None:
    async def body():  # type: ignore[no-untyped-def]
        for _ in range(320):
            yield b"x" * 65536

    async with estate.client.post(estate.url + "/upload", data=body()) as answer:
        assert await answer.json() == {"size": 320 * 65536}


async def test_one_connection_serves_many_requests(estate: Estates) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as client:
        for number in range(20):
            async with client.get(f"{estate.url}/{number}") as answer:
                await answer.read()
    seen = await estate.control.stats("downstream_cx_total$")
    assert int(seen["http.fig.downstream_cx_total"]) == 1


async def test_reads_by_share_and_back(estate: Estates) -> None:
    assert await estate.side_of("/api/inventory/1") == "monolith"
    await estate.control.apply([estate.routing(reads=100)])
    assert await estate.side_of("/api/inventory/1?x=1") == "service"
    assert await estate.side_of("/api/inventory/1/more") == "monolith"
    await estate.control.apply([estate.routing(reads=50)])
    sides = Counter([await estate.side_of("/api/inventory/1") for _ in range(200)])
    assert 60 < sides["service"] < 140
    await estate.control.apply([estate.routing(reads=0)])
    assert await estate.side_of("/api/inventory/1") == "monolith"


async def test_who_is_moved_stays_moved(estate: Estates) -> None:
    options = ContextFacade(sticky=StickySettings(header="x-tenant"))

    async def moved(share: float) -> set[int]:
        await estate.control.apply([estate.routing(reads=share, options=options)])
        found = set()
        for tenant in range(100):
            sides = {await estate.side_of("/api/inventory/1", headers={"x-tenant": f"t{tenant}"}) for _ in range(2)}
            assert len(sides) == 1
            if sides == {"service"}:
                found.add(tenant)
        return found

    few, many = await moved(20), await moved(60)
    assert few
    assert few < many < set(range(100))


async def test_pins_of_testers(estate: Estates) -> None:
    pin = {"x-fig-pin": "orders=monolith, inventory=service"}
    assert await estate.side_of("/api/inventory/1", headers=pin) == "service"
    await estate.control.apply([estate.routing(reads=100)])
    assert await estate.side_of("/api/inventory/1", headers={"x-fig-pin": "inventory=monolith"}) == "monolith"
    await estate.control.apply([estate.routing(reads=0, options=ContextFacade(pins=False))])
    assert await estate.side_of("/api/inventory/1", headers=pin) == "monolith"


async def test_who_wrote_reads_where_it_wrote(estate: Estates) -> None:
    await estate.control.apply([estate.routing(reads=100)])
    async with estate.client.post(estate.url + "/api/inventory/adjust") as answer:
        cookie = answer.cookies["fig-pin-inventory"]
    assert cookie.value == "monolith"
    assert cookie["max-age"] == "3"
    own = {"cookie": f"a=b; fig-pin-inventory={cookie.value}; c=d"}
    assert await estate.side_of("/api/inventory/1", headers=own) == "monolith"
    assert await estate.side_of("/api/inventory/1", headers={"cookie": "not-fig-pin-inventory=monolith"}) == "service"
    # Writes at the service, all reads there as well: nobody needs a pin, and an old one counts no more.
    await estate.control.apply([estate.routing(reads=100, writes="service")])
    assert await estate.side_of("/api/inventory/1", headers=own) == "service"
    async with estate.client.post(estate.url + "/api/inventory/adjust") as answer:
        assert not answer.cookies
        assert (await answer.json())["side"] == "service"


async def test_retired_routes(estate: Estates) -> None:
    assert await estate.side_of("/old/inventory/a/b") == "monolith"
    await estate.control.apply([estate.routing(gone=True)])
    async with estate.client.get(estate.url + "/old/inventory/a/b") as answer:
        assert answer.status == 410
    assert await estate.side_of("/api/inventory/1") == "monolith"


async def test_mirror_joins_by_request_id(estate: Estates) -> None:
    await estate.control.apply([estate.routing(shadow=True)])
    assert await estate.side_of("/api/inventory/7?q=1") == "monolith"

    async def copied() -> bool:
        return bool(estate.shadow.requests)

    await clock.until(copied, timeout=5, what="the copy")
    _, path, headers = estate.shadow.requests[0]
    assert path == "/api/inventory/7?q=1"
    assert headers["X-Request-ID"] == estate.monolith.requests[-1][2]["X-Request-ID"]
    assert headers["x-fig-route"] == "inventory:read:0"
    assert "x-fig-route" not in estate.monolith.requests[-1][2]
    assert headers["Host"] == f"127.0.0.1:{estate.port}"


async def test_a_hung_shadow_hurts_nobody(estate: Estates) -> None:
    await estate.control.apply([estate.routing(shadow=True)])
    estate.shadow.gate.clear()
    answers = await asyncio.gather(*(estate.side_of(f"/api/inventory/{n}") for n in range(400)))
    assert set(answers) == {"monolith"}
    seen = await estate.control.stats("^cluster.shadow.upstream_rq_(active|pending_active)$")
    assert sum(map(int, seen.values())) <= 96


async def test_a_table_that_envoy_refuses_changes_nothing(estate: Estates) -> None:
    before = await estate.control.apply([estate.routing(reads=100)])
    # A name that is too long for a cluster of Envoy's is none; a path that RE2 cannot hold is.
    wrong = Routes(reads=(ReadRoute(path="/" + "a/{b}/" * 6000),))
    with pytest.raises(FigError) as caught:
        await estate.control.apply([estate.routing(routes=wrong)])
    assert caught.value.code == "routes_rejected"
    assert "regex" in str(caught.value).lower() or "pattern" in str(caught.value).lower()
    assert estate.control.version() == before
    assert await estate.side_of("/api/inventory/1") == "service"
    await estate.control.apply([estate.routing(reads=0)])
    assert await estate.side_of("/api/inventory/1") == "monolith"


async def test_a_flip_is_quick_and_survives_a_restart(estate: Estates) -> None:
    took = []
    for number in range(10):
        begun = clock.monotonic()
        await estate.control.apply([estate.routing(reads=100 * (number % 2))])
        took.append(clock.monotonic() - begun)
    assert min(took) < 0.5
    assert await estate.side_of("/api/inventory/1") == "service"
    await estate.stop_envoy()
    await estate.start_envoy()
    assert await estate.side_of("/api/inventory/1") == "service"
    # The same again is no new version; a second context brings its clusters along, and takes them away.
    version = estate.control.version()
    assert await estate.control.apply([estate.routing(reads=100)]) == version
    more = estate.routing("orders", routes=Routes(reads=(ReadRoute(path="/api/orders"),)), reads=100)
    await estate.control.apply([estate.routing(reads=100), more])
    assert await estate.side_of("/api/orders") == "service"
    await estate.control.apply([estate.routing(reads=100)])
    assert await estate.side_of("/api/orders") == "monolith"
