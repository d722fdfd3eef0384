"""Alerts by webhook: real processes' endpoints, a real receiver that fails at first, a restart between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from stranglerfig.foundation import clock, tasks
from stranglerfig.runtime import alerting
from stranglerfig.runtime.alerting import Alerting, Book
from stranglerfig.runtime.targets import Target
from stranglerfig.telemetry import metrics


class Endpoint:
    """An HTTP server of a test: what it was posted, and what it answers."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.posted: list[dict[str, Any]] = []
        self.accepted: list[dict[str, Any]] = []
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.registry = CollectorRegistry()
        self.runner: web.AppRunner | None = None
        self.address = ""

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_post("/hook", self._post)
        app.router.add_get("/metrics", self._metrics)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", port).start()
        self.address = f"127.0.0.1:{self.runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.posted.append(body)
        await self.hangs.wait()
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.accepted.append(body)
        return web.Response(status=status)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), content_type="text/plain")

    def said(self) -> list[tuple[str, str]]:
        """The alerts that were accepted, in order."""
        return [(each["labels"]["alertname"], each["status"]) for body in self.accepted for each in body["alerts"]]


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    monkeypatch.setattr(alerting, "FIRST_PAUSE", 0.05)
    found = Endpoint()
    await found.start()
    yield found
    await found.stop()


@asynccontextmanager
async def running(endpoint: Endpoint, dsn: str) -> AsyncIterator[None]:
    ready = asyncio.Event()
    targets = [Target("sync", endpoint.address)]
    told = Alerting("shop", lambda: targets, f"http://{endpoint.address}/hook?token=s3cret", Book(dsn), every=0.05)
    task = tasks.spawn(told.run(ready.set), name="alerting")
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        yield
    finally:
        await tasks.stop(task)


async def until(condition: Callable[[], Any], what: str) -> None:
    async def so() -> bool:
        return bool(condition())

    await clock.until(so, timeout=60, what=what, at_most=0.05)


async def kept(book: Book, told: list[str]) -> None:
    """Wait until the book says that so much was told."""

    async def so() -> bool:
        return [notice.told for notice in await book.load()] == told

    await clock.until(so, timeout=60, what=f"{told} to be kept", at_most=0.05)


async def test_it_tells_once_though_the_receiver_fails_and_we_are_restarted(
    endpoint: Endpoint, postgres: Any, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = postgres.database()
    book = Book(dsn)
    parked = metrics.gauge("fig_sync_parked_changes", endpoint.registry).labels("inventory", "forward")
    parked.set(0)
    endpoint.statuses = [500, 503, 429]
    async with running(endpoint, dsn):
        parked.set(2)
        await until(endpoint.said, "the alert, after three refusals")
        assert len(endpoint.posted) == 4 and not endpoint.statuses
        assert {str(body["alerts"]) for body in endpoint.posted} == {str(endpoint.posted[0]["alerts"])}
        # A process that ends before it has the answer in its book tells again, for it cannot know.
        await kept(book, ["firing"])
    assert endpoint.said() == [("FigChangesParked", "firing")]
    (body,) = endpoint.accepted
    assert body["version"] == "4" and body["groupLabels"] == {"estate": "shop"}
    assert body["alerts"][0]["labels"]["context"] == "inventory"
    (notice,) = await book.load()
    assert notice.told == "firing" and notice.ended is None

    # Another process: what still fires is not told again; another alert is; then both are over.
    refused = metrics.gauge("fig_saga_blocked_instances", endpoint.registry).labels("billing")
    refused.set(1)
    async with running(endpoint, dsn):
        await until(lambda: len(endpoint.said()) == 2, "the other alert")
        assert endpoint.said()[1] == ("FigSagaBlocked", "firing")
        parked.set(0)
        refused.set(0)
        await until(lambda: len(endpoint.said()) == 4, "both to be over")
        assert sorted(endpoint.said()[2:]) == [("FigChangesParked", "resolved"), ("FigSagaBlocked", "resolved")]
        first = next(a for body in endpoint.accepted[1:] for a in body["alerts"] if a["status"] == "resolved")
        assert first["endsAt"] > first["startsAt"]
        await kept(book, [])

    async with running(endpoint, dsn):
        pass
    assert len(endpoint.said()) == 4 and await book.load() == []
    assert "s3cret" not in caplog.text


async def test_a_receiver_that_hangs_holds_up_no_look(endpoint: Endpoint, postgres: Any) -> None:
    parked = metrics.gauge("fig_sync_parked_changes", endpoint.registry).labels("inventory", "forward")
    endpoint.hangs.clear()
    parked.set(1)
    dsn = postgres.database()
    async with running(endpoint, dsn):
        await until(lambda: endpoint.posted, "the first call")

        # While it hangs: the alert is over, which is seen and kept.
        parked.set(0)
        book = Book(dsn)

        async def over() -> bool:
            return [notice.status for notice in await book.load()] == ["resolved"]

        await clock.until(over, timeout=60, what="that it is over, to be kept", at_most=0.1)
        assert endpoint.accepted == []
        endpoint.hangs.set()
        await until(lambda: len(endpoint.said()) == 2, "both to be told")
    assert [status for _, status in endpoint.said()] == ["firing", "resolved"]


async def test_a_process_that_does_not_answer_is_told_of(
    endpoint: Endpoint, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerting, "PATIENCE", 0.5)
    target = Target("capture", "127.0.0.1:1")
    told = Alerting("shop", lambda: [target], "http://127.0.0.1:1/", Book(postgres.database()))
    async with aiohttp.ClientSession() as session:
        seen = await told._samples(session)
        assert [(each.name, each.value, each.labels["role"]) for each in seen] == [("up", 0.0, "capture")]
        healthy = await told._ask(session, Target("sync", endpoint.address))
        assert [(each.name, each.value) for each in healthy] == [("up", 1.0)]
