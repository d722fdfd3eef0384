"""TLS at the façade and toward its upstreams: a real Envoy, certificates made by openssl."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web
from facade_estate import Estates

from stranglerfig.extraction.facts import service_healthy
from stranglerfig.extraction.parts import ContextParts
from stranglerfig.facade.upstreams import Upstream as Service
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.tls import Trust
from stranglerfig.runtime import certificate
from stranglerfig.runtime.certificate import Keeper
from stranglerfig.runtime.embedded import free_port
from stranglerfig.runtime.settings import load_project
from tests.authority import Authority

READ = "/api/inventory/7"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def project(folder: Path, *, key: str = "site.key") -> Path:
    """A project with ``facade.tls``."""
    folder.mkdir(exist_ok=True)
    (folder / "fig.yaml").write_text(
        "name: shop\nmonolith: {url: http://127.0.0.1:1, database: {env: X}}\n"
        f"facade: {{tls: {{certificate: site.pem, key: {key}}}}}\n"
    )
    return folder


def put(authority: Authority, name: str, folder: Path, *, key: str | None = None) -> None:
    """Make ``name`` the site's pair."""
    for suffix, source in (("pem", name), ("key", key or name)):
        (folder / f"site.{suffix}").write_bytes((authority.folder / f"{source}.{suffix}").read_bytes())


@pytest.fixture
async def secured(estate: Estates, authority: Authority, tmp_path: Path) -> AsyncIterator[Keeper]:
    """The façade's Envoy started again, with TLS, and what watches its pair."""
    authority.issue("first", 1001)
    put(authority, "first", project(tmp_path / "project"))
    keeper = Keeper(load_project(tmp_path / "project", {}), estate.control.certificate_file)
    keeper.look()
    await estate.stop_envoy()
    estate.control.prepare([estate.routing()], listen=f"127.0.0.1:{estate.port}", tls=True)
    await estate.start_envoy()
    yield keeper


def trusting(authority: Authority, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.ca))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


async def shaken(port: int, context: ssl.SSLContext) -> tuple[int, str | None, str]:
    """Serial number, protocol by ALPN and TLS version of a new connection."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="shop.test")
    found: ssl.SSLObject = writer.get_extra_info("ssl_object")
    peer = found.getpeercert()
    assert peer is not None
    said = int(str(peer["serialNumber"]), 16), found.selected_alpn_protocol(), found.version() or ""
    writer.close()
    return said


async def test_certificates_are_exchanged_under_open_connections(
    estate: Estates, secured: Keeper, authority: Authority, tmp_path: Path
) -> None:
    context = trusting(authority, "http/1.1")
    assert await shaken(estate.port, trusting(authority, "h2", "http/1.1")) == (1001, "h2", "TLSv1.3")
    seen: Counter[tuple[int, int]] = Counter()
    stop = asyncio.Event()

    async def client(requests: int) -> None:
        """So many requests on each of its connections; as many as there is time for when it is 0."""
        while not stop.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", estate.port, ssl=context)
            serial = int(writer.get_extra_info("ssl_object").getpeercert()["serialNumber"], 16)
            number = 0
            while not stop.is_set() and (number < requests or not requests):
                number += 1
                writer.write(f"GET {READ} HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = head.partition("content-length: ")[2].partition("\r")[0]
                await reader.readexactly(int(length))
                seen[serial, int(head.split()[1])] += 1
            writer.close()

    kept = tasks.spawn(client(0), name="kept")
    anew = tasks.spawn(client(1), name="anew")

    async def old_seen() -> bool:
        return seen[1001, 200] > 20

    await clock.until(old_seen, timeout=60, what="the first certificate")
    authority.issue("second", 2002)
    put(authority, "second", tmp_path / "project")
    secured.look()

    async def new_seen() -> bool:
        return seen[2002, 200] > 20

    await clock.until(new_seen, timeout=60, what="the second certificate")
    before = seen[1001, 200]

    async def still_old() -> bool:
        return seen[1001, 200] > before + 5

    await clock.until(still_old, timeout=60, what="answers on the connection that was open")
    stop.set()
    await asyncio.gather(kept, anew)
    assert set(seen) == {(1001, 200), (2002, 200)}
    assert estate.control.certificate_file.stat().st_mode & 0o077 == 0
    forwarded = estate.monolith.requests[-1][2]
    assert {name.lower(): value for name, value in forwarded.items()}["x-forwarded-proto"] == "https"


async def test_http_2_passes(estate: Estates, secured: Keeper, authority: Authority) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", estate.port, ssl=trusting(authority, "h2"))

    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    # RFC 9113, section 3.4: preface and settings; RFC 7541: indexed GET and https, literal path and authority.
    path, host = READ.encode(), b"shop.test"
    headers = b"\x82\x87\x04" + bytes([len(path)]) + path + b"\x01" + bytes([len(host)]) + host
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 0x05, 1, headers))
    async with asyncio.timeout(60):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == 0 and int.from_bytes(head[5:], "big") == 1:
                break
    assert orjson.loads(payload) == {"side": "monolith", "path": READ, "size": 0}
    writer.close()


async def test_what_is_wrong_is_refused_and_the_former_stays(
    estate: Estates, secured: Keeper, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority.issue("second", 2002)
    authority.issue("gone", 3003, days=-1)
    folder = tmp_path / "project"
    for name, key, word in (("second", "first", "another key"), ("gone", None, "expired")):
        put(authority, name, folder, key=key)
        secured.look()
        assert word in caplog.text
        with pytest.raises(FigError) as caught:
            certificate.load(load_project(folder, {}))
        assert caught.value.code == "bad_certificate" and word in caught.value.message
    (folder / "site.pem").write_text("nothing")
    secured.look()
    assert "no certificate in PEM" in caplog.text
    assert (await shaken(estate.port, trusting(authority)))[0] == 1001
    put(authority, "second", folder)
    secured.look()

    async def exchanged() -> bool:
        return (await shaken(estate.port, trusting(authority)))[0] == 2002

    await clock.until(exchanged, timeout=60, what="the second certificate")
    assert "PRIVATE" not in caplog.text


def test_a_key_from_the_environment_is_not_told(authority: Authority, tmp_path: Path) -> None:
    authority.issue("first", 1001)
    folder = project(tmp_path / "project", key="{env: SITE_KEY}")
    (folder / "site.pem").write_bytes((authority.folder / "first.pem").read_bytes())
    secret = (authority.folder / "first.key").read_text()
    found = certificate.load(load_project(folder, {"SITE_KEY": secret}))
    assert found is not None and found.serial == 1001 and found.names == ("shop.test", "127.0.0.1")
    assert "PRIVATE" not in repr(found)
    for wrong in ("s3cret", secret[:-200]):
        with pytest.raises(FigError) as caught:
            certificate.load(load_project(folder, {"SITE_KEY": wrong}))
        assert caught.value.code == "bad_certificate" and wrong[:40] not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_older_versions_and_plain_text_are_turned_away(
    estate: Estates, secured: Keeper, authority: Authority
) -> None:
    old = trusting(authority)
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shaken(estate.port, old)
    twelve = trusting(authority)
    twelve.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await shaken(estate.port, twelve))[2] == "TLSv1.2"
    with pytest.raises(aiohttp.ClientError):
        await estate.get(READ)


async def test_an_upstream_must_prove_who_it_is(estate: Estates, authority: Authority, tmp_path: Path) -> None:
    authority.issue("service", 7, names="DNS:stock.test")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.folder / "service.pem", authority.folder / "service.key")
    asked: list[str | None] = []
    context.sni_callback = lambda _tls, name, _context: asked.append(name)

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"side": "secured"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    url = f"https://127.0.0.1:{port}"
    other = Authority(tmp_path / "other")
    cases = [
        (Trust(str(authority.ca), "stock.test"), 200),
        (Trust(str(other.ca), "stock.test"), 503),
        (Trust(str(authority.ca), "other.test"), 503),
        (Trust(str(authority.ca)), 503),  # made out to no address
    ]
    for trust, status in cases:
        await estate.control.apply([estate.routing(service=Service((url,), trust=trust), reads=100.0)])

        async def led(status: int = status) -> bool:
            async with estate.client.get(estate.url + READ) as found:
                return found.status == status

        await clock.until(led, timeout=60, what=f"{trust} to lead to {status}")
        # The gates' own questions believe the same.
        settings = load(tmp_path / "asking", url, trust)
        assert (await service_healthy(settings))[0] is (status == 200)
    assert "stock.test" in asked
    await runner.cleanup()


def load(folder: Path, url: str, trust: Trust) -> ContextParts:
    """A context whose service is at ``url``."""
    file = folder / "contexts" / "inventory" / "extraction.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    name = "" if trust.server_name is None else f", server_name: {trust.server_name}"
    file.write_text(
        f"context: inventory\nservice: {{url: '{url}', database: {{env: X}}, tls: {{ca: {trust.ca}{name}}}}}\n"
        "routes: {}\ntables: [{from: public.a, to: b, key: {id: id}}]\n"
    )
    project(folder)
    return ContextParts(load_project(folder, {}).load_extraction(file), file.parent, "")
