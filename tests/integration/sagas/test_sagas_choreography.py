"""A refund without a conductor: three services react to each other, and one keeps the record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Event, Service, Transaction
from stranglerfig.kit.testing import event_of
from stranglerfig.sagas import Flow, operating
from stranglerfig.sagas.instances import queries
from tests.conftest import Server


class RefundAsked(Event, type="orders.RefundAsked", key="order_id"):
    order_id: int


class Returned(Event, type="stock.Returned", key="order_id"):
    order_id: int


class Refunded(Event, type="money.Refunded", key="order_id"):
    order_id: int


class RefundRefused(Event, type="money.RefundRefused", key="order_id"):
    order_id: int


class Choreography:
    """The three services, of which money may be deaf."""

    def __init__(self, dsns: list[str]) -> None:
        self.log = MemoryLog()
        self.dsn = dsns[0]
        self.orders, self.stock, self.money = (
            Service(name, database=dsn, log=self.log)
            for name, dsn in zip(("orders", "stock", "money"), dsns, strict=True)
        )
        self.flow = flow = Flow("refund", starts=[RefundAsked], ends=[Refunded, RefundRefused], within="1s")

        @flow.reacts(self.stock, RefundAsked, emits=[Returned])
        async def take_back(event: RefundAsked, tx: Transaction) -> None:
            tx.send(Returned(event.order_id))

        @flow.reacts(self.money, Returned, emits=[Refunded, RefundRefused])
        async def pay_back(event: Returned, tx: Transaction) -> None:
            if event.order_id == 13:
                tx.send(RefundAsked(event.order_id))
            tx.send(Refunded(event.order_id) if event.order_id % 2 else RefundRefused(event.order_id))

        flow.recorded_by(self.orders)
        self.running: dict[str, asyncio.Task[None]] = {}

    async def begin(self, *services: Service) -> None:
        """Tables, topics, and these services running."""
        for topic in ("orders", "stock", "money"):
            await self.log.create_topic(f"events.{topic}")
        for each in services:
            await each.migrate()
            self.running[each.name] = asyncio.create_task(each.run())

    async def asked(self, *orders: int) -> list[str]:
        """The correlation ids of refunds that customers ask for."""
        made = [event_of(RefundAsked(number), source="/web") for number in orders]
        await self.log.append("events.orders", made)
        return [event.id for event in made]

    async def courses(self) -> dict[str, Any]:
        """What became of all that were asked for."""
        async with postgres.session(self.dsn, what="test") as conn:
            drawings = await operating.flow_drawings(conn)
            return await operating.courses(conn, drawings["refund"]) if drawings else {}

    async def until(self, **states: int) -> dict[str, Any]:
        """Wait until so many are in these states."""

        async def so() -> bool:
            found = [course.state for course in (await self.courses()).values()]
            return {state: found.count(state) for state in set(found)} == states

        await clock.until(so, timeout=20, what=f"flows to be {states}")
        return await self.courses()

    async def end(self) -> None:
        for task in self.running.values():
            await tasks.stop(task)
        for service in (self.orders, self.stock, self.money):
            await service.close()


@pytest.fixture
async def refunds(postgres: Server) -> AsyncIterator[Choreography]:
    made = Choreography([postgres.database() for _ in range(3)])
    yield made
    await made.end()


async def test_the_path_is_rebuilt_by_correlation(refunds: Choreography) -> None:
    await refunds.begin(refunds.orders, refunds.stock, refunds.money)
    first, second = await refunds.asked(1, 2)
    found = await refunds.until(done=2)
    assert [(event.type, hop) for event, hop in found[first].path] == [
        ("orders.RefundAsked", 0), ("stock.Returned", 1), ("money.Refunded", 2),
    ]  # fmt: skip
    assert found[first].ends == ["money.Refunded"] and found[second].ends == ["money.RefundRefused"]
    async with postgres.session(refunds.dsn, what="test") as conn:
        assert (await operating.ways(conn, "refund"))["orders.RefundAsked", "stock.Returned"] == 2


async def test_who_did_not_react_is_named_until_he_does(refunds: Choreography) -> None:
    await refunds.begin(refunds.orders, refunds.stock)
    await refunds.asked(1, 2, 3)
    found = await refunds.until(stopped=3)
    assert {reaction.service for course in found.values() for reaction, _ in course.missed} == {"money"}
    await refunds.begin(refunds.money)
    await refunds.until(done=3)


async def test_one_that_stopped_is_found_however_many_ended_since(
    refunds: Choreography, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating, "_PAGE", 2)
    await refunds.begin(refunds.orders, refunds.stock)
    missed, later = await refunds.asked(1, 2)
    await refunds.until(stopped=2)
    await refunds.begin(refunds.money)
    await refunds.until(done=2)
    newer = await refunds.asked(*range(3, 8))
    await refunds.until(done=7)
    async with postgres.session(refunds.dsn, what="test") as conn:
        await conn.execute("DELETE FROM fig.flow_event WHERE correlation = %s AND source = '/money'", (missed,))
        drawing = refunds.flow.drawing
        assert [*await operating.courses(conn, drawing, state="stopped")] == [missed]
        assert {*await operating.courses(conn, drawing, state="done")} == {later, *newer}
        assert {*await operating.courses(conn, drawing, state="done", last=5)} == {*newer}


async def test_what_is_not_declared_cannot_be_said(refunds: Choreography) -> None:
    await refunds.begin(refunds.orders, refunds.stock, refunds.money)
    await refunds.asked(13)
    found = await refunds.until(stopped=1)
    ((reaction, event),) = next(iter(found.values())).missed
    assert (reaction.service, event.type) == ("money", "stock.Returned")


def test_a_flow_in_circles_is_refused_before_it_runs(refunds: Choreography) -> None:
    refunds.flow.elsewhere("orders", Refunded, emits=[RefundAsked])
    with pytest.raises(FigError, match=r"runs in circles: .*stock\.Returned"):
        refunds.flow.recorded_by(refunds.stock)


async def test_what_belongs_to_no_flow_is_not_counted_and_not_kept(refunds: Choreography) -> None:
    await refunds.begin(refunds.orders)
    await refunds.log.append("events.stock", [event_of(Returned(7), source="/stock") for _ in range(3)])
    await refunds.asked(1)
    await refunds.until(stopped=1)
    async with refunds.orders.session() as conn:

        async def recorded() -> list[str]:
            return [row[0] for row in await postgres.fetch(conn, "SELECT type FROM fig.flow_event ORDER BY type")]

        await clock.until(lambda: _is(recorded, 4), timeout=20, what="all to be recorded")
        await conn.execute("UPDATE fig.flow_event SET at = at - interval '2 hours'")
        await conn.execute(queries.stray_flow_events, {"keep": timedelta(days=14), "most": 100})
        assert await recorded() == ["orders.RefundAsked"]


async def _is(recorded: Callable[[], Awaitable[list[str]]], count: int) -> bool:
    return len(await recorded()) == count
