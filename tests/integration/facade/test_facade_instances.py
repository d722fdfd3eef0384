"""A service of several instances behind a real Envoy: balanced, checked, changed while requests are under way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from facade_estate import Estates, Upstream

from stranglerfig.facade.upstreams import Upstream as Service
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError

READ, WRITE = "/api/inventory/7", "/api/inventory/adjust"


class Instances:
    """The instances, and what is led to them."""

    def __init__(self, estate: Estates) -> None:
        self.estate = estate
        self.all = [Upstream(f"instance {number}") for number in range(3)]

    def service(self, *wanted: int) -> Service:
        return Service(tuple(self.all[number].url for number in wanted), interval=0.2, timeout=2.0)

    async def lead(self, *wanted: int) -> None:
        routing = self.estate.routing(service=self.service(*wanted), reads=100.0, writes="service")
        await self.estate.control.apply([routing])

    async def serving(self, *wanted: int) -> None:
        """Wait until exactly these get requests."""
        expected = {f"127.0.0.1:{self.all[number].port}" for number in wanted}

        async def so() -> bool:
            found = await self.estate.control.instances("inventory")
            return {name for name, serving in found.items() if serving} == expected

        await clock.until(so, timeout=60, what=f"instances {wanted} to serve")

    async def answering(self, *names: str) -> None:
        """Wait until these and no others answer forty reads: Envoy's workers hear of a check a moment later."""

        async def so() -> bool:
            return {await self.estate.side_of(READ) for _ in range(40)} == set(names)

        await clock.until(so, timeout=60, what=f"answers of {names}")

    def asked(self, method: str) -> dict[str, int]:
        return {one.name: sum(asked[0] == method for asked in one.requests) for one in self.all}


@pytest.fixture
async def instances(estate: Estates) -> AsyncIterator[Instances]:
    made = Instances(estate)
    for one in made.all:
        await one.start()
    yield made
    for one in made.all:
        await one.stop()


async def test_one_goes_and_one_comes_without_a_failed_read(estate: Estates, instances: Instances) -> None:
    # The routes were made for one instance.
    await instances.lead(0)
    await estate.control.lead_to([estate.routing(service=instances.service(0, 1))])
    await instances.serving(0, 1)
    seen: Counter[tuple[str, int]] = Counter()
    failed: Counter[str] = Counter()
    stop = asyncio.Event()

    async def client(method: str, path: str) -> None:
        while not stop.is_set():
            async with estate.client.request(method, estate.url + path) as answer:
                side = (await answer.json())["side"] if answer.status == 200 else "none"
                seen[side, answer.status] += 1
                failed[method] += answer.status != 200

    clients = [tasks.spawn(client(*what), name="client") for what in [("GET", READ), ("POST", WRITE)] * 4]

    async def answers(name: str, more: int = 20) -> None:
        before = seen[name, 200]

        async def so() -> bool:
            return seen[name, 200] >= before + more

        await clock.until(so, timeout=60, what=f"answers of {name}")

    for name in ("instance 0", "instance 1"):
        await answers(name)
    # Nothing listens there any more.
    await instances.all[0].stop()
    await instances.serving(1)
    # Another one comes, while the first is still named and the routes stay as they are.
    version = estate.control.version()
    await estate.control.lead_to([estate.routing(service=instances.service(0, 1, 2))])
    await instances.serving(1, 2)
    await answers("instance 2")
    assert estate.control.version() == version
    stop.set()
    await asyncio.gather(*clients)
    # Only of a write that was on its way to an instance as it went is nobody sure: each client had at most one.
    assert failed["GET"] == 0 and failed["POST"] <= 4, seen


async def test_a_write_is_never_sent_twice_and_a_read_may_be(estate: Estates, instances: Instances) -> None:
    await instances.lead(0, 1)
    await instances.serving(0, 1)
    for one in instances.all:
        one.breaks = True  # reads the request, then resets the connection
    async with estate.client.post(estate.url + WRITE) as answer:
        assert answer.status == 503
    assert sum(instances.asked("POST").values()) == 1
    async with estate.client.get(estate.url + READ) as answer:
        assert answer.status == 503
    reads = instances.asked("GET")
    assert reads["instance 0"] and reads["instance 1"] and sum(reads.values()) == 3
    # One that answers again is let in again, and the other is passed over.
    instances.all[1].breaks = False
    await instances.serving(0, 1)
    for _ in range(10):
        assert (await estate.get(READ))[1]["side"] == "instance 1"


async def test_writes_under_way_are_counted_when_the_addresses_change(estate: Estates, instances: Instances) -> None:
    await instances.lead(0, 1)
    await instances.serving(0, 1)
    for one in instances.all:
        one.gate.clear()

    async def write() -> int:
        async with estate.client.post(estate.url + WRITE) as answer:
            return answer.status

    writes = [tasks.spawn(write(), name="write") for _ in range(6)]

    async def under_way() -> bool:
        return await estate.control.writes_in_flight("inventory", "service") == 6

    await clock.until(under_way, timeout=60, what="six writes")
    await estate.control.lead_to([estate.routing(service=instances.service(2))])
    await instances.serving(2)
    assert await under_way()
    for one in instances.all:
        one.gate.set()
    assert await asyncio.gather(*writes) == [200] * 6
    assert instances.asked("POST")["instance 2"] == 0
    async with estate.client.post(estate.url + WRITE) as answer:
        assert (await answer.json())["side"] == "instance 2"


async def test_checks_that_all_fail_are_not_believed(estate: Estates, instances: Instances) -> None:
    instances.all[0].healthy = False
    await instances.lead(0, 1)
    await instances.serving(1)
    await instances.answering("instance 1")
    instances.all[1].healthy = False
    await instances.serving()
    await instances.answering("instance 0", "instance 1")
    instances.all[0].healthy = True
    await instances.serving(0)
    await instances.answering("instance 0")


async def test_what_envoy_refuses_is_taken_back(estate: Estates, instances: Instances) -> None:
    await instances.lead(0)
    before = estate.control.clusters_file.read_bytes()
    wrong = Service(("http://127.0.0.1:1", "http://127.0.0.1:2"), interval=0.0)
    with pytest.raises(FigError) as caught:
        await estate.control.lead_to([estate.routing(service=wrong)])
    assert caught.value.code == "routes_rejected"
    assert estate.control.clusters_file.read_bytes() == before
    assert await estate.side_of(READ) == "instance 0"
