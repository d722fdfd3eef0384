"""The write fence: real Envoy, real fence server, the ownership rows in real PostgreSQL."""

from __future__ import annotations

import asyncio
import io
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from facade_estate import ROUTES, Estates

from stranglerfig.databases import ownership
from stranglerfig.facade.fence import FenceClient, FenceContext, FenceServer
from stranglerfig.facade.holding import FRESH
from stranglerfig.facade.settings import FenceSettings
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.telemetry import metrics

ADJUST = "/api/inventory/adjust"


@dataclass
class Fenced:
    estate: Estates
    monolith_dsn: str
    service_dsn: str
    client: FenceClient
    server: FenceServer | None = None
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)

    def context(self, **settings: object) -> FenceContext:
        return FenceContext(
            "inventory",
            ROUTES,
            self.monolith_dsn,
            self.service_dsn,
            FenceSettings(**settings),  # type: ignore[arg-type]
        )

    async def start(self, **settings: object) -> None:
        self.server = FenceServer([self.context(**{"budget": 30.0, **settings})])
        await self.server.start("127.0.0.1", self.estate.fence_port)
        await self.phase("open", "blind", "holding")

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop()
            self.server = None

    async def phase(self, *wanted: str) -> dict[str, object]:
        async def reached() -> dict[str, object] | None:
            found = (await self.client.state())["inventory"]
            return found if found["phase"] in wanted else None

        return await clock.until(reached, timeout=10, what=f"the fence to be {wanted}")  # type: ignore[arg-type]

    async def held(self, count: int) -> None:
        async def reached() -> bool:
            return bool((await self.client.state())["inventory"]["held"] >= count)

        await clock.until(reached, timeout=10, what=f"{count} held requests")

    async def row(self, side: str, state: str, epoch: int) -> None:
        """Set a row outright: what other participants would have done."""
        dsn = self.monolith_dsn if side == "monolith" else self.service_dsn
        async with postgres.session(dsn, what="test") as conn:
            await conn.execute(
                "UPDATE fig.ownership SET state = %s, epoch = %s WHERE context = 'inventory'", (state, epoch)
            )

    async def hold(self, state: str, *, budget: float) -> None:
        """Start with the monolith's row as a cut-over leaves it, and writes led to the fence."""
        await self.start(budget=budget)
        await self.row("monolith", state, 1)
        await self.phase("holding")
        await self.estate.control.apply([self.estate.routing(writes="fenced")])

    async def write(self) -> tuple[int, str]:
        async with self.estate.client.post(self.estate.url + ADJUST, data=b"x" * 100) as answer:
            body = await answer.json()
            return answer.status, body.get("side", "")

    async def writer(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.answers[await self.write()] += 1


@pytest.fixture
async def fenced(estate: Estates, postgres: object, postgres_b: object) -> AsyncIterator[Fenced]:
    made = Fenced(
        estate,
        postgres.database(),  # type: ignore[attr-defined]
        postgres_b.database(),  # type: ignore[attr-defined]
        FenceClient(f"http://127.0.0.1:{estate.fence_port}"),
    )
    for dsn, side in ((made.monolith_dsn, "monolith"), (made.service_dsn, "service")):
        await _install(dsn, side)
    yield made
    await made.stop()
    await made.client.close()


async def _install(dsn: str, side: str) -> None:
    async with postgres.session(dsn, what="test") as conn:
        await conn.execute("CREATE TABLE item (id int PRIMARY KEY)")
        await ownership.install(
            conn,
            "inventory",
            side=side,  # type: ignore[arg-type]
            owner=side == "monolith",
            tables=["public.item"],
            enforcing=True,
        )


@pytest.mark.parametrize("winner", ["service", "monolith"])
async def test_held_writes_go_to_who_owns_and_none_fails(fenced: Fenced, winner: str) -> None:
    estate, control = fenced.estate, fenced.estate.control
    await fenced.start()
    await fenced.phase("open")
    stop = asyncio.Event()
    writers = [tasks.spawn(fenced.writer(stop), name="writer") for _ in range(50)]

    async def some() -> bool:
        return sum(fenced.answers.values()) > 200

    await clock.until(some, timeout=10, what="writes")
    await fenced.row("monolith", "intent", 1)
    state = await fenced.client.close_fence("inventory", 1)
    assert state["phase"] == "holding"
    await control.apply([estate.routing(writes="fenced")])

    async def drained() -> bool:
        return await control.writes_in_flight("inventory", "monolith") == 0

    await clock.until(drained, timeout=5, what="no write in flight", every=0.005)
    await fenced.held(50)
    asked = len(estate.monolith.requests), len(estate.service.requests)
    await fenced.row("monolith", "fenced", 1)
    if winner == "service":
        await fenced.row("monolith", "ceded", 1)
        assert (await fenced.phase("holding"))["held"] == 50
        assert asked == (len(estate.monolith.requests), len(estate.service.requests))
        await fenced.row("service", "owner", 1)
    else:
        await fenced.row("monolith", "owner", 1)
    await fenced.phase("open")
    await control.apply([estate.routing(writes=winner)])
    count = sum(fenced.answers.values())

    async def more() -> bool:
        return sum(fenced.answers.values()) > count + 200

    await clock.until(more, timeout=10, what="more writes")
    stop.set()
    await asyncio.gather(*writers)
    assert {status for status, _ in fenced.answers} == {200}
    assert ("service" in {side for _, side in fenced.answers}) == (winner == "service")
    hold = await fenced.client.hold("inventory", 1)
    assert hold is not None
    assert hold.target == winner
    assert hold.held_requests == 50
    assert 0 < hold.hold_p50_ms <= hold.hold_p99_ms <= hold.hold_max_ms
    assert hold.refused == 0
    # What the fence said stays between it and Envoy.
    side = estate.service if winner == "service" else estate.monolith
    assert not [1 for _, _, headers in side.requests if "x-fig-target" in {name.lower() for name in headers}]


def measured(name: str) -> float:
    """What the fence server's metrics say of the context."""
    return metrics.REGISTRY.get_sample_value(name, {"context": "inventory"}) or 0.0


async def test_budget_over_gives_up_and_writes_go_back(fenced: Fenced) -> None:
    await fenced.start(budget=0.3)
    given_up = measured("fig_fence_given_up_total")
    await fenced.row("monolith", "intent", 1)
    await fenced.client.close_fence("inventory", 1)

    async def holds() -> bool:
        return measured("fig_fence_hold_seconds") > 0

    await clock.until(holds, timeout=30, what="the hold to be measured")
    await fenced.estate.control.apply([fenced.estate.routing(writes="fenced")])
    assert await fenced.write() == (200, "monolith")
    async with postgres.session(fenced.monolith_dsn, what="test") as conn:
        row = await ownership.read(conn, "inventory")
    assert row is not None
    assert (row.state, row.epoch) == ("owner", 1)
    assert measured("fig_fence_given_up_total") == given_up + 1

    async def reported() -> bool:
        hold = await fenced.client.hold("inventory", 1)
        return hold is not None and hold.given_up

    await clock.until(reported, timeout=5, what="the report of the hold")


async def test_after_ceding_there_is_only_forward(fenced: Fenced) -> None:
    await fenced.hold("ceded", budget=0.2)
    write = tasks.spawn(fenced.write(), name="write")
    await fenced.held(1)

    async def overdue() -> bool:
        return bool((await fenced.client.state())["inventory"]["oldest_ms"] > 400)

    await clock.until(overdue, timeout=5, what="twice the budget")
    assert not write.done()
    await fenced.row("service", "owner", 1)
    assert await write == (200, "service")


async def test_the_way_back(fenced: Fenced) -> None:
    await fenced.row("monolith", "ceded", 1)
    await fenced.row("service", "owner", 1)
    await fenced.start()
    await fenced.estate.control.apply([fenced.estate.routing(writes="fenced")])
    assert await fenced.write() == (200, "service")
    await fenced.row("service", "intent", 2)
    await fenced.client.close_fence("inventory", 2)
    write = tasks.spawn(fenced.write(), name="write")
    await fenced.held(1)
    await fenced.row("service", "ceded", 2)
    await fenced.row("monolith", "owner", 2)
    assert await write == (200, "monolith")


async def test_an_intent_not_seen_is_not_confirmed(fenced: Fenced) -> None:
    await fenced.start()
    with pytest.raises(FigError) as caught:
        await fenced.client.close_fence("inventory", 5, timeout=0.2)
    assert caught.value.code == "fence_not_closed"
    with pytest.raises(FigError) as caught:
        await fenced.client.close_fence("orders", 5, timeout=0.2)
    assert caught.value.code == "unknown_context"
    await fenced.stop()
    with pytest.raises(FigError) as caught:
        await fenced.client.state()
    assert caught.value.code == "fence_unreachable"


async def test_rejecting_rather_than_holding(fenced: Fenced) -> None:
    await fenced.start(mode="reject")
    await fenced.phase("open")
    await fenced.estate.control.apply([fenced.estate.routing(writes="fenced")])
    assert await fenced.write() == (200, "monolith")
    await fenced.row("monolith", "intent", 1)
    await fenced.client.close_fence("inventory", 1)
    async with fenced.estate.client.post(fenced.estate.url + ADJUST) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"


async def test_a_client_cannot_choose(fenced: Fenced) -> None:
    await fenced.start()
    await fenced.row("monolith", "intent", 1)
    await fenced.client.close_fence("inventory", 1)
    await fenced.estate.control.apply([fenced.estate.routing(writes="fenced")])
    forged = {"x-fig-target": "service"}
    async with asyncio.TaskGroup() as group:
        write = group.create_task(_forge(fenced, forged))
        await fenced.held(1)
        assert not fenced.estate.service.requests
        await fenced.row("monolith", "owner", 1)
    assert write.result() == "monolith"


async def _forge(fenced: Fenced, headers: dict[str, str]) -> str:
    async with fenced.estate.client.post(fenced.estate.url + ADJUST, headers=headers) as answer:
        return str((await answer.json())["side"])


async def test_who_goes_away_is_not_waited_for(fenced: Fenced) -> None:
    await fenced.hold("ceded", budget=0.5)
    with pytest.raises(TimeoutError):
        async with fenced.estate.client.post(fenced.estate.url + ADJUST, timeout=aiohttp.ClientTimeout(total=0.3)):
            pass

    async def nobody() -> bool:
        return (await fenced.client.state())["inventory"]["held"] == 0

    await clock.until(nobody, timeout=5, what="nobody held")


async def test_what_cannot_be_read_is_refused_after_the_budget(fenced: Fenced) -> None:
    fenced.monolith_dsn = "postgresql://nobody@127.0.0.1:1/nothing"
    await fenced.start(budget=0.3)
    refused = measured("fig_fence_refused_total")
    await fenced.estate.control.apply([fenced.estate.routing(writes="fenced")])
    async with fenced.estate.client.post(fenced.estate.url + ADJUST) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
    assert measured("fig_fence_refused_total") == refused + 1 and measured("fig_fence_blind") == 1
    assert (await fenced.phase("blind"))["rows"]["monolith"]["error"]  # type: ignore[index]


async def test_a_fence_that_stood_still_looks_again_before_it_refuses(fenced: Fenced) -> None:
    """Its looks are old then, and its budget over: neither says anything about the rows."""
    await fenced.hold("ceded", budget=0.5)
    write = tasks.spawn(fenced.write(), name="write")
    await fenced.held(1)
    for _ in range(3):
        clock.block(FRESH + 0.3)
        await asyncio.sleep(0.05)
    assert not write.done()
    await fenced.row("service", "owner", 1)
    assert await write == (200, "service")


PROGRAM = """
import asyncio, sys
from stranglerfig.facade.fence import FenceContext, serve_fence
from stranglerfig.facade.settings import Route, Routes
routes = Routes(writes=(Route(path="/api/inventory/adjust", methods=("POST",)),))
asyncio.run(serve_fence("127.0.0.1", int(sys.argv[1]), [FenceContext("inventory", routes, sys.argv[2], sys.argv[3])],
                        ready=lambda: print("ready", flush=True)))
"""


async def test_a_killed_fence_is_a_503_that_says_when_to_come_back(fenced: Fenced) -> None:
    async def spawn() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(fenced.estate.fence_port)),
            *(fenced.monolith_dsn, fenced.service_dsn),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return process

    await fenced.estate.control.apply([fenced.estate.routing(writes="fenced")])
    await fenced.row("monolith", "ceded", 1)
    process = await spawn()
    write = tasks.spawn(fenced.estate.client.post(fenced.estate.url + ADJUST), name="write")
    await fenced.held(1)
    process.kill()
    await process.wait()
    async with await write as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
    assert not fenced.estate.monolith.requests
    process = await spawn()
    try:
        write = tasks.spawn(fenced.estate.client.post(fenced.estate.url + ADJUST), name="write")
        await fenced.held(1)
        await fenced.row("service", "owner", 1)
        async with await write as answer:
            assert (await answer.json())["side"] == "service"
    finally:
        process.terminate()
        await process.wait()


async def test_a_large_body_waits_as_well(fenced: Fenced) -> None:
    await fenced.start()
    await fenced.row("monolith", "intent", 1)
    await fenced.client.close_fence("inventory", 1)
    await fenced.estate.control.apply([fenced.estate.routing(writes="fenced")])
    size = 8 << 20

    async def upload() -> str:
        async with fenced.estate.client.post(fenced.estate.url + ADJUST, data=io.BytesIO(b"x" * size)) as answer:
            return str((await answer.json())["size"])

    write = tasks.spawn(upload(), name="upload")
    await fenced.held(1)
    await fenced.row("monolith", "owner", 1)
    assert await write == str(size)


async def test_giving_up_that_does_not_succeed_opens_nothing(fenced: Fenced) -> None:
    await fenced.hold("fenced", budget=0.2)
    async with postgres.session(fenced.monolith_dsn, what="test", autocommit=False) as conn:
        # Another participant is at the row: it cedes while the fence server tries to give up.
        await conn.execute("SELECT 1 FROM fig.ownership FOR UPDATE")
        write = tasks.spawn(fenced.write(), name="write")

        async def long_over() -> bool:
            return bool((await fenced.client.state())["inventory"]["oldest_ms"] > 700)

        await clock.until(long_over, timeout=5, what="the budget to be long over")
        assert not write.done()
        await conn.execute("UPDATE fig.ownership SET state = 'ceded'")
        await conn.commit()
    assert not fenced.estate.monolith.requests
    await fenced.row("service", "owner", 1)
    assert await write == (200, "service")
