"""The comparator between two real sides, writing to a real control database."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import free_port
from stranglerfig.verification import shadow
from stranglerfig.verification.settings import ShadowSettings
from stranglerfig.verification.shadow import Counts, ShadowContext, ShadowServer, forwarded


@dataclass
class Sides:
    """Monolith and service on one port each; ``answers`` says what a path gets."""

    control: str
    monolith_port: int = field(default_factory=free_port)
    service_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    differs: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    hung: asyncio.Event = field(default_factory=asyncio.Event)
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    server: ShadowServer | None = None
    runners: list[web.AppRunner] = field(default_factory=list)

    async def listen(self) -> None:
        for side, port in (("monolith", self.monolith_port), ("service", self.service_port)):
            app = web.Application()
            app.router.add_get("/{path:.*}", self._answer(side))
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            self.runners.append(runner)

    def _answer(self, side: str) -> Any:
        async def answer(request: web.Request) -> web.Response:
            self.asked.append((side, request.path_qs, dict(request.headers)))
            body: dict[str, Any] = {"path": request.path, "qty": 5, "owner": "ann@example.org"}
            if request.path == "/noise":
                body["nonce"] = next(self.numbers)
            if request.path == "/big":
                body["text"] = "x" * 5000
            if request.path == "/hang":
                await self.hung.wait()
            if side == "service":
                body |= self.differs
            return web.json_response(body)

        return answer

    async def start(self, **settings: Any) -> None:
        options = ShadowSettings(**{"baseline": 0, "lag": 0.5} | settings)
        context = ShadowContext(
            "inventory", f"http://127.0.0.1:{self.monolith_port}", (f"http://127.0.0.1:{self.service_port}",), options
        )
        self.server = ShadowServer([context], self.control)
        await self.server.start("127.0.0.1", self.port)

    async def mirror(self, path: str, times: int = 1, route: str = "inventory:read:0") -> None:
        async with aiohttp.ClientSession() as client:
            for _ in range(times):
                headers = {"x-fig-route": route, "x-request-id": "r-1", "x-tenant": "t"}
                async with client.get(f"http://127.0.0.1:{self.port}{path}", headers=headers) as answer:
                    assert answer.status == (204 if route.startswith("inventory") else 404)

    async def counted(self, wanted: int) -> Counts:
        """The sums in the database, once ``wanted`` copies have a verdict."""
        async with postgres.session(self.control, what="test") as conn:

            async def enough() -> Counts | None:
                found = await shadow.counts(conn, "inventory", clock.now().replace(year=2000))
                return found if found.compared + found.dropped + found.errors >= wanted else None

            return await clock.until(enough, timeout=15, what=f"{wanted} verdicts", at_most=0.1)  # type: ignore[arg-type]

    async def stop(self) -> None:
        self.hung.set()
        if self.server is not None:
            await self.server.stop()
        for runner in self.runners:
            await runner.cleanup()


@pytest.fixture
async def sides(postgres: Any) -> AsyncIterator[Sides]:
    made = Sides(postgres.database())
    await made.listen()
    yield made
    await made.stop()


async def test_equal_answers_and_pairs_of_latencies(sides: Sides) -> None:
    await sides.start(baseline=100)
    await sides.mirror("/api/inventory/1?a=%20b", times=20)
    await sides.mirror("/x", route="orders:read:0")
    found = await sides.counted(20)
    assert (found.compared, found.equal, found.mismatched) == (20, 20, 0)
    async with postgres.session(sides.control, what="test") as conn:
        pairs = await shadow.latencies(conn, "inventory", clock.now().replace(year=2000))
    assert len(pairs) == 20
    assert all(0 < monolith < 5_000_000 and 0 < service < 5_000_000 for monolith, service in pairs)
    by_side = {side: [path for asked, path, _ in sides.asked if asked == side] for side in ("monolith", "service")}
    assert set(by_side["service"]) == {"/api/inventory/1?a=%20b"}
    assert len(by_side["service"]) == 20
    assert len(by_side["monolith"]) == 40  # the baseline asked again each time
    assert sides.asked[0][2]["x-tenant"] == "t"
    assert "x-fig-route" not in sides.asked[0][2]


async def test_a_wrong_answer_is_a_mismatch_with_a_redacted_sample(sides: Sides) -> None:
    await sides.start()
    sides.differs = {"qty": 6, "owner": "bob@example.org"}
    await sides.mirror("/api/inventory/1?mail=ann@example.org")
    found = await sides.counted(1)
    assert (found.mismatched, found.lagged, found.noise) == (1, 0, 0)
    async with postgres.session(sides.control, what="test") as conn:
        (sample,) = await shadow.samples(conn, "inventory")
    assert {"path": "$.qty", "monolith": 5, "service": 6} in sample["differences"]
    assert (sample["verdict"], sample["request_id"], sample["path"]) == ("mismatched", "r-1", "/api/inventory/1")
    assert "example.org" not in str(sample)


async def test_what_is_equal_soon_was_only_late(sides: Sides) -> None:
    await sides.start(lag=2.0)
    sides.differs = {"qty": 4}
    await sides.mirror("/api/inventory/1")

    async def asked_again() -> bool:
        return len([1 for side, _, _ in sides.asked if side == "service"]) >= 2

    await clock.until(asked_again, timeout=5, what="the second asking", every=0.005)
    sides.differs = {}
    found = await sides.counted(1)
    assert (found.lagged, found.mismatched) == (1, 0)


async def test_noise_is_no_mismatch(sides: Sides) -> None:
    await sides.start()
    await sides.mirror("/noise", times=5)
    found = await sides.counted(5)
    assert (found.noise, found.mismatched) == (5, 0)


async def test_a_hung_side_drops_copies_and_counts_them(sides: Sides) -> None:
    await sides.start(queue=3, concurrency=2, timeout=60)
    await sides.mirror("/hang", times=2)

    async def both_busy() -> bool:
        return len(sides.asked) == 4

    await clock.until(both_busy, timeout=5, what="two comparisons under way")
    await sides.mirror("/hang", times=10)
    found = await sides.counted(7)
    assert (found.dropped, found.compared) == (7, 0)
    sides.hung.set()
    assert (await sides.counted(12)).equal == 5


async def test_counts_are_settled_up_to_the_oldest_copy_without_a_verdict(sides: Sides) -> None:
    await sides.start()
    await sides.mirror("/hang")
    arrived = clock.epoch()
    await sides.mirror("/x")
    await sides.counted(1)
    async with postgres.session(sides.control, what="test") as conn:

        async def settled() -> float:
            until = await postgres.value(conn, "SELECT extract(epoch FROM until)::float8 FROM fig.shadow_settled")
            return float(until)

        assert await settled() <= arrived
        sides.hung.set()
        await sides.counted(2)

        async def passed() -> bool:
            return await settled() > arrived

        await clock.until(passed, timeout=10, what="the copy that hung to be settled")


async def test_a_budget_per_second(sides: Sides) -> None:
    await sides.start(most_per_second=2)
    await sides.mirror("/a", times=30)
    found = await sides.counted(30)
    assert found.dropped > 0
    assert found.equal == 30 - found.dropped


async def test_sides_that_do_not_answer(sides: Sides) -> None:
    service = sides.runners[1]
    await service.cleanup()
    await sides.start(lag=0.1)
    await sides.mirror("/a")
    assert (await sides.counted(1)).mismatched == 1  # a service that is away is no equal answer
    await sides.runners[0].cleanup()
    await sides.mirror("/a")
    assert (await sides.counted(2)).errors == 1


async def test_a_body_too_large_to_compare(sides: Sides) -> None:
    await sides.start(max_body_kb=1)
    await sides.mirror("/big")
    assert (await sides.counted(1)).errors == 1


async def test_counts_outlive_a_control_database_that_is_away(sides: Sides) -> None:
    await sides.start()
    assert sides.server is not None
    server = sides.server
    kept = server._kept
    dsn, kept._dsn = kept._dsn, "postgresql://nobody@127.0.0.1:1/nothing"
    await kept.close()
    await sides.mirror("/a", times=3)
    with pytest.raises(FigError) as caught:
        await server.flush()
    assert caught.value.code == "database_unreachable"
    kept._dsn = dsn
    assert (await sides.counted(3)).equal == 3


async def test_serving_until_stopped(sides: Sides) -> None:
    ready = asyncio.Event()
    context = ShadowContext("inventory", "http://127.0.0.1:1", ("http://127.0.0.1:1",))
    task = tasks.spawn(
        shadow.serve_shadow("127.0.0.1", sides.port, [context], sides.control, ready=ready.set), name="shadow"
    )
    assert await clock.signalled(ready, timeout=10)
    await sides.mirror("/a")
    await tasks.stop(task)
    counts = await sides.counted(1)
    assert counts.errors + counts.dropped == 1, "dropped, when it was not refused in time"


def test_what_mirroring_added_is_taken_off() -> None:
    sent = {"X-Forwarded-For": "1.2.3.4, 192.0.2.2", "x-envoy-internal": "true", "Host": "shop", "If-None-Match": "x"}
    assert forwarded(sent) == {"X-Forwarded-For": "1.2.3.4", "Host": "shop", "x-fig-shadow": "1"}
    assert forwarded({"x-forwarded-for": "192.0.2.2"}) == {"x-fig-shadow": "1"}
