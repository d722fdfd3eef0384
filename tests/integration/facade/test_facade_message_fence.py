"""The fence for messages: real RabbitMQ, the ownership rows in real PostgreSQL, the router's own interface."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from broker_estate import Commands, Party, Routed
from test_facade_fence import _install

from examples.servers.rabbitmq import RabbitMQ
from stranglerfig.databases import ownership
from stranglerfig.facade.fence import FenceContext
from stranglerfig.facade.messages import ContextTable
from stranglerfig.facade.routing_client import RouterClient
from stranglerfig.facade.routing_server import MessageRouter, serve_router
from stranglerfig.facade.settings import FenceSettings, Routes
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import free_port

NONCE = "0123456789abcdef"


class Fenced(Routed):
    """The router's process, in this one, with its table, its interface and both databases."""

    def __init__(self, broker: RabbitMQ, folder: Path, monolith_dsn: str, service_dsn: str) -> None:
        super().__init__(broker, f"f{uuid.uuid4().hex[:8]}.")
        self.dsns = {"monolith": monolith_dsn, "service": service_dsn}
        self.port = free_port()
        self.table = folder / "router" / "table.json"
        self.client = RouterClient(f"http://127.0.0.1:{self.port}", self.table, [broker.metrics])
        self.nodes = [broker.metrics]
        self.budget = 30.0

    async def start(self) -> None:
        context = FenceContext(
            "inventory",
            Routes(),
            self.dsns["monolith"],
            self.dsns["service"],
            FenceSettings(budget=self.budget, mode="reject"),
        )
        self.routers = MessageRouter(
            {self.plan.name: self.plan}, [context], self.broker.amqp, self.table, nodes=self.nodes
        )
        begun = asyncio.Event()
        self.task = tasks.spawn(serve_router("127.0.0.1", self.port, self.routers, ready=begun.set), name="router")
        assert await clock.signalled(begun, timeout=20)
        self.router = self.routers.routers[0]

    async def lead(self, writes: str, reads: float = 0.0) -> None:
        await self.client.apply([ContextTable("inventory", writes, reads)])  # type: ignore[arg-type]

    async def move(self, epoch: int) -> None:
        """What a controller does in both databases after the fence has closed."""
        async with postgres.session(self.dsns["monolith"], what="test") as conn:
            await ownership.fence(conn, "inventory", epoch=epoch, nonce=NONCE, lock_timeout=1)
            await ownership.cede(conn, "inventory", epoch=epoch, nonce=NONCE, lock_timeout=1)
        async with postgres.session(self.dsns["service"], what="test") as conn:
            await conn.execute(
                "UPDATE fig.ownership SET state = 'owner', epoch = %s WHERE context = 'inventory'", (epoch,)
            )

    async def intend(self, epoch: int) -> None:
        async with postgres.session(self.dsns["monolith"], what="test") as conn:
            await ownership.intend(conn, "inventory", epoch=epoch, lock_timeout=1)

    async def state(self) -> str:
        async with postgres.session(self.dsns["monolith"], what="test") as conn:
            row = await ownership.read(conn, "inventory")
            assert row is not None
            return row.state

    async def stop(self) -> None:
        await super().stop()
        await self.client.close()


@pytest.fixture
async def fenced(broker: RabbitMQ, tmp_path: Path, postgres: object, postgres_b: object) -> AsyncIterator[Fenced]:
    made = Fenced(broker, tmp_path, postgres.database(), postgres_b.database())  # type: ignore[attr-defined]
    for side, dsn in made.dsns.items():
        await _install(dsn, side)
    await made.declare()
    yield made
    await made.stop()


async def _consumers(fenced: Fenced) -> tuple[Party, Party]:
    monolith, service = await fenced.party(), await fenced.party()
    await monolith.consume(f"{fenced.prefix}mono", prefetch=10)
    await service.consume(f"{fenced.prefix}svc", prefetch=10)
    return monolith, service


async def test_a_cutover_under_load_loses_doubles_and_overtakes_nothing(fenced: Fenced) -> None:
    await fenced.start()
    await fenced.lead("monolith")
    monolith, service = await _consumers(fenced)
    requester = await fenced.party()
    sent = Commands(requester, f"{fenced.prefix}in")
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            sent.send(5)
            await asyncio.sleep(0.005)

    loading = tasks.spawn(load(), name="load")
    await fenced.until(lambda: len(monolith.got) > 100, "traffic")
    await fenced.intend(1)
    await fenced.lead("fenced")
    await fenced.client.close_fence("inventory", 1, timeout=5)
    done = len(monolith.got)
    await fenced.until(lambda: fenced.routers.state()["contexts"]["inventory"]["held"] > 20, "commands to wait")
    assert len(monolith.got) == done and not service.got
    await fenced.move(1)
    await fenced.until(lambda: len(service.got) > 100, "the service to get them")
    await fenced.lead("service")
    stop.set()
    await loading
    await fenced.until(lambda: len(monolith.got) + len(service.got) == sent.sent, "the rest")
    sent.check(monolith, service)
    assert len(monolith.got) == done

    async def told() -> object:
        return await fenced.client.hold("inventory", 1)

    hold = await clock.until(told, timeout=5, what="the report")
    assert hold.held_requests > 20 and hold.target == "service" and hold.hold_max_ms > 10  # type: ignore[attr-defined]


async def test_it_waits_until_what_was_passed_on_is_acknowledged(fenced: Fenced) -> None:
    await fenced.start()
    await fenced.lead("monolith")
    monolith = await fenced.party()
    await monolith.consume(f"{fenced.prefix}mono", acking=False, prefetch=5)
    requester = await fenced.party()
    sent = Commands(requester, f"{fenced.prefix}in")
    sent.send(8)
    await fenced.until(lambda: len(monolith.got) == 5, "five to be with the monolith")
    await fenced.intend(1)
    await fenced.lead("fenced")
    with pytest.raises(FigError) as caught:
        await fenced.client.close_fence("inventory", 1, timeout=2)
    assert caught.value.code == "commands_in_flight" and "3 are waiting" in caught.value.message
    closing = tasks.spawn(fenced.client.close_fence("inventory", 1, timeout=10), name="close")
    for tag in monolith.unacked[:3]:
        monolith.conn.ack(monolith.channel, tag, multiple=False)
    monolith.conn.flush()
    await fenced.until(lambda: len(monolith.got) == 8, "all to be with the monolith")
    await asyncio.sleep(0.5)  # a stale zero would be believed by now
    assert not closing.done()
    monolith.unacked = monolith.unacked[3:]
    monolith.release()
    await closing
    assert not [content for content in monolith.got if b"probe" in content.properties]


@pytest.mark.parametrize("passed_on", [0, 3])
async def test_how_long_it_takes_to_know_that_nothing_is_in_flight(fenced: Fenced, passed_on: int) -> None:
    await fenced.start()
    await fenced.lead("monolith")
    monolith, _ = await _consumers(fenced)
    requester = await fenced.party()
    Commands(requester, f"{fenced.prefix}in").send(passed_on)
    await fenced.until(lambda: len(monolith.got) == passed_on, "what is passed on")
    await fenced.intend(1)
    await fenced.lead("fenced")
    begun = time.monotonic()
    await fenced.client.close_fence("inventory", 1, timeout=15)
    assert time.monotonic() - begun < 10, "two reports of the queue at 100 ms each, and then some"


async def test_other_types_wait_for_the_drain_only(fenced: Fenced) -> None:
    await fenced.start()
    await fenced.lead("monolith")
    monolith, service = await _consumers(fenced)
    requester = await fenced.party()
    await fenced.intend(1)
    await fenced.lead("fenced", reads=100)
    await fenced.client.close_fence("inventory", 1, timeout=5)
    for kind in ("CreateInvoice", "AdjustStock", "GetStock"):
        requester.put(
            f"{fenced.prefix}in", kind.encode(), message_type=kind, message_id=kind, headers={"item": len(kind)}
        )
    await fenced.until(lambda: len(monolith.got) + len(service.got) == 2, "what is not fenced")
    assert [content.body for content in monolith.got] == [b"CreateInvoice"]
    assert [content.body for content in service.got] == [b"GetStock"]


async def test_the_budget_gives_the_cutover_up_and_the_commands_go_to_the_monolith(fenced: Fenced) -> None:
    fenced.budget = 0.4
    await fenced.start()
    await fenced.lead("monolith")
    monolith, service = await _consumers(fenced)
    requester = await fenced.party()
    await fenced.intend(1)
    await fenced.lead("fenced")
    await fenced.client.close_fence("inventory", 1, timeout=5)
    sent = Commands(requester, f"{fenced.prefix}in")
    sent.send(50)
    await fenced.until(lambda: len(monolith.got) == 50, "the commands to go back to the monolith")
    assert await fenced.state() == "owner" and not service.got
    sent.check(monolith)


async def test_a_router_that_was_killed_holds_again(fenced: Fenced) -> None:
    await fenced.start()
    await fenced.lead("monolith")
    monolith, service = await _consumers(fenced)
    requester = await fenced.party()
    await fenced.intend(1)
    await fenced.lead("fenced")
    await fenced.client.close_fence("inventory", 1, timeout=5)
    sent = Commands(requester, f"{fenced.prefix}in")
    sent.send(40)
    await fenced.until(lambda: fenced.routers.state()["contexts"]["inventory"]["held"] == 40, "all to wait")
    assert fenced.task is not None
    await tasks.stop(fenced.task)
    sent.send(40)
    await fenced.start()
    await fenced.until(lambda: fenced.routers.state()["contexts"]["inventory"]["held"] == 80, "all to wait again")
    assert not monolith.got and not service.got
    await fenced.move(1)
    await fenced.until(lambda: len(service.got) == 80, "all to be with the service")
    sent.check(service)


async def test_what_cannot_be_known_is_refused(fenced: Fenced) -> None:
    fenced.nodes = []
    await fenced.start()
    await fenced.lead("monolith")
    with pytest.raises(FigError) as caught:
        await fenced.client.close_fence("inventory", 1, timeout=0.2)
    assert caught.value.code == "fence_not_closed"
    await fenced.intend(1)
    await fenced.lead("fenced")
    with pytest.raises(FigError) as caught:
        await fenced.client.close_fence("inventory", 1, timeout=2)
    assert caught.value.code == "in_flight_unknown"
    fenced.routers._figures._urls = ["http://127.0.0.1:1"]
    with pytest.raises(FigError) as caught:
        await fenced.client.close_fence("inventory", 1, timeout=2)
    assert caught.value.code == "in_flight_unknown" and "does not answer" in caught.value.message
    with pytest.raises(FigError) as caught:
        await fenced.client.close_fence("else", 1, timeout=2)
    assert caught.value.code == "unknown_context"


async def test_a_router_that_is_away_is_told_and_finds_its_table_when_back(fenced: Fenced) -> None:
    with pytest.raises(FigError) as caught:
        await fenced.client.apply([ContextTable("inventory", "service", 50.0)], timeout=0.2)
    assert caught.value.code == "router_unreachable"
    await fenced.start()
    found = (await fenced.client.state())["contexts"]["inventory"]
    assert (found["writes"], found["reads"]) == ("service", 50.0)
    # Written while it did not listen: it looks by itself.
    fenced.table.write_bytes(
        fenced.table.read_bytes().replace(b"50.0", b"60.0").replace(b'"version":"', b'"version":"x')
    )
    await fenced.until(lambda: fenced.routers.state()["contexts"]["inventory"]["reads"] == 60.0, "it to take the table")


async def test_a_first_start_tells_what_is_wrong_and_a_later_one_waits(fenced: Fenced) -> None:
    admin = await fenced.party()
    await admin.delete(f"{fenced.prefix}svc")
    first = MessageRouter({fenced.plan.name: fenced.plan}, [], fenced.broker.amqp, fenced.table)
    with pytest.raises(FigError) as caught:
        await first.run(lambda: None)
    assert caught.value.code == "queue_missing"
    with pytest.raises(FigError):
        await fenced.lead("monolith")  # nobody is there to take it; it is in the file all the same
    begun = asyncio.Event()
    later = MessageRouter({fenced.plan.name: fenced.plan}, [], fenced.broker.amqp, fenced.table)
    task = tasks.spawn(later.run(begun.set), name="later")
    await fenced.until(lambda: later.routers[0].alarm, "it to say what it waits for")
    assert not begun.is_set()
    await admin.declare(f"{fenced.prefix}svc")
    assert await clock.signalled(begun, timeout=10)
    await tasks.stop(task)
