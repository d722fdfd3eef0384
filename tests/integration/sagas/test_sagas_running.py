"""Sagas on real PostgreSQL databases: two services, a log between them, and what may go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from stranglerfig.eventlog import model as log
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Refused, Service, consumer
from stranglerfig.kit.consumer import LOOK
from stranglerfig.kit.messages import Event
from stranglerfig.kit.testing import event_of
from stranglerfig.sagas import Retry, Saga, call, operating, step
from stranglerfig.sagas.instances import Place, key_of_step, place_of, saga_id
from stranglerfig.sagas.model import Broke
from stranglerfig.sagas.running import Sagas
from tests.conftest import Server
from tests.saga_shop import (
    SOON,
    STOCK,
    TOPICS,
    Charge,
    Charged,
    Checkout,
    Declined,
    ItemReserved,
    OrderPlaced,
    OrderRejected,
    Release,
    Released,
    Reserve,
    SoldOut,
    orders,
    stock,
)


class Scene:
    """Both services, run as two processes of each would run them."""

    def __init__(self, dsn: str, stock_dsn: str) -> None:
        self.dsn = dsn
        self.stock_dsn = stock_dsn
        self.log = MemoryLog()
        self.services: list[Service] = []
        self.running: list[asyncio.Task[None]] = []
        self.sagas: Sagas | None = None

    def orders(self) -> Service:
        service = Service("orders", database=self.dsn, log=self.log)
        self.services.append(service)
        return service

    def stock(self) -> Service:
        service = Service("stock", database=self.stock_dsn, log=self.log)
        stock(service)
        self.services.append(service)
        return service

    async def begin(self, *services: Service) -> None:
        for topic in TOPICS:
            await self.log.create_topic(topic)
        for each in services:
            await each.migrate()
            self.running.append(asyncio.create_task(each.run()))

    async def end(self) -> None:
        for each in self.running:
            await tasks.stop(each)
        for service in self.services:
            await service.close()

    async def placed(self, *events: Event) -> list[log.Event]:
        made = [event_of(event, source="/shop") for event in events]
        await self.log.append("events.orders", made)
        return made

    def rows(self, query: str, *, stock: bool = False) -> list[Any]:
        with psycopg.connect(self.stock_dsn if stock else self.dsn, autocommit=True) as conn:
            done = conn.execute(query.encode())
            return done.fetchall() if done.description else []

    async def ended(self, count: int, timeout: float = 30) -> dict[str, int]:
        """Once so many sagas have ended: how."""

        async def all_of_them() -> bool:
            return self.rows("SELECT count(*) FROM fig.saga WHERE ended_at IS NOT NULL") == [(count,)]

        await clock.until(all_of_them, timeout=timeout, what=f"{count} sagas to end")
        return dict(self.rows("SELECT status, count(*) FROM fig.saga GROUP BY 1"))

    async def said(self, topic: str) -> list[log.Event]:
        return [record.event for record in await self.log.read(topic, 0, 0, max_records=100_000)]


@pytest.fixture
async def scene(postgres: Server, postgres_b: Server) -> AsyncIterator[Scene]:
    made = Scene(postgres.database(), postgres_b.database())
    made.rows(STOCK, stock=True)
    made.rows("INSERT INTO level SELECT i, 10 FROM generate_series(1, 20) AS i", stock=True)
    yield made
    await made.end()


def conserved(scene: Scene) -> None:
    """Stock and money are where they belong, whatever happened."""
    held = "SELECT item_id, sum(quantity) FROM reservation WHERE state = 'held' GROUP BY 1"
    assert not scene.rows(
        f'SELECT l.item_id FROM level l LEFT JOIN ({held}) h USING (item_id) WHERE l."left" + coalesce(h.sum, 0) <> 10',
        stock=True,
    )
    done = {row[0] for row in scene.rows("SELECT key FROM fig.saga WHERE status = 'completed'")}
    paid = {str(row[0]) for row in scene.rows("SELECT order_id FROM payment", stock=True)}
    kept = {str(row[0]) for row in scene.rows("SELECT order_id FROM reservation WHERE state = 'held'", stock=True)}
    assert done == paid == kept


PARKED = "SELECT error FROM fig.dead_letter"


def early(order: log.Event, execution: int = 1) -> log.Event:
    """The answer to the reserving of an order's saga."""
    place = Place("orders.Checkout", saga_id("orders.Checkout", order.source, order.id), "reserve", execution, False)
    return event_of(ItemReserved(1, 1, 4), source="/stock", causationid=key_of_step(place))


async def test_an_answer_that_comes_before_its_saga_waits_for_it(scene: Scene) -> None:
    service = scene.orders()
    orders(service)
    await scene.begin(service)
    order = event_of(OrderPlaced(1, 1, 4, 100), source="/shop")
    await scene.log.append("events.stock", [early(order)])

    async def waits() -> bool:
        return scene.rows(PARKED) == [(None,)]

    await clock.until(waits, timeout=20, what="the answer to wait")
    await asyncio.sleep(3 * LOOK)  # it is tried some times, and none of them counts
    assert scene.rows(PARKED) == [(None,)] and scene.rows("SELECT count(*) FROM fig.saga") == [(0,)]
    await scene.log.append("events.orders", [order])
    at_charge = "SELECT course -> 'steps' -> 'charge' ->> 0 FROM fig.saga"

    async def goes_on() -> bool:
        return scene.rows(PARKED) == [] and scene.rows(at_charge) == [("asked",)]

    await clock.until(goes_on, timeout=20, what="the saga to take its answer")
    await scene.begin(scene.stock())
    assert await scene.ended(1) == {"completed": 1}

    async def held() -> bool:  # the answer was there before the command was handled
        return scene.rows("SELECT state FROM reservation", stock=True) == [("held",)]

    await clock.until(held, timeout=20, what="the command to be handled as well")
    conserved(scene)


async def test_an_answer_whose_saga_never_comes_is_a_persons_after_a_minute(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "AWAITED", 1.0)
    service = scene.orders()
    orders(service)
    await scene.begin(service)
    order = event_of(OrderPlaced(1, 1, 4, 100), source="/shop")
    foreign = place_of(early(order).causationid)
    assert foreign is not None
    passed_over = early(order)._replace(causationid=key_of_step(foreign._replace(saga="somebody.Else")))
    await scene.log.append("events.stock", [passed_over, early(order), early(order, 2)])

    async def given_up() -> bool:
        first, second = scene.rows("SELECT error FROM fig.dead_letter ORDER BY id")
        return second == (None,) and "which is not known here" in str(first[0])

    async def both_wait() -> bool:
        return scene.rows(PARKED) == [(None,)] * 2

    await clock.until(both_wait, timeout=20, what="the answers to wait")
    await clock.until(given_up, timeout=20, what="the answer to be given up")


async def test_orders_are_confirmed_sold_out_or_declined_and_nothing_is_left_over(scene: Scene) -> None:
    service = scene.orders()
    orders(service)
    await scene.begin(service, scene.stock())
    await scene.placed(
        OrderPlaced(1, 1, 4, 100), OrderPlaced(2, 1, 7, 100), OrderPlaced(3, 2, 1, 700), OrderPlaced(4, 3, 10, 1)
    )
    assert await scene.ended(4) == {"completed": 2, "compensated": 2}
    conserved(scene)

    async def told() -> bool:
        return len(await scene.said("events.orders")) == 8

    await clock.until(told, timeout=20, what="the ends on the log")
    ends = {event.subject: (event.type, event.data) for event in (await scene.said("events.orders"))[4:]}
    assert ends["1"] == ("orders.OrderConfirmed", b'{"order_id":1}')
    assert ends["2"] == ("orders.OrderRejected", b'{"order_id":2,"reason":"sold out"}')
    assert ends["3"] == ("orders.OrderRejected", b'{"order_id":3,"reason":"declined"}')
    ((history, revision),) = scene.rows("SELECT history, revision FROM fig.saga WHERE key = '3'")
    assert [each[1:] for each in history] == [
        ["look", "skipped", 1, 0], ["reserve", "asked", 1, 1], ["running"],
        ["reserve", "done", 1, 1], ["charge", "asked", 1, 1],
        ["reserve", "undoing", 1, 1], ["charge", "failed", 1, 1], ["compensating"],
        ["reserve", "undone", 1, 1], ["compensated"],
    ]  # fmt: skip
    assert revision == 5


async def test_one_flow_runs_through_all_that_is_said(scene: Scene) -> None:
    service = scene.orders()
    orders(service)
    await scene.begin(service, scene.stock())
    (order,) = await scene.placed(OrderPlaced(1, 1, 1, 100))
    await scene.ended(1)
    events = [event for topic in TOPICS for event in await scene.said(topic)]
    assert {event.correlationid for event in events if event is not order and event.id != order.id} == {order.id}
    ((command,), (reply,)) = (await scene.said("commands.stock"), await scene.said("events.stock"))
    assert command.id.startswith("saga:orders.Checkout:") and command.id.endswith(":reserve:1")
    assert command.causationid == order.id and reply.causationid == command.id


async def test_the_same_order_twice_is_one_saga(scene: Scene) -> None:
    service = scene.orders()
    orders(service)
    await scene.begin(service, scene.stock())
    (order,) = await scene.placed(OrderPlaced(1, 1, 1, 100))
    await scene.log.create_topic("again")
    await scene.ended(1)
    await scene.log.append("events.orders", [order])
    await scene.placed(OrderPlaced(2, 1, 1, 100))
    await scene.ended(2)
    conserved(scene)


class Deaf(MemoryLog):
    """A log on which some messages get lost, and others arrive twice."""

    def __init__(self) -> None:
        super().__init__()
        self.losing: set[str] = set()
        self.lost: list[str] = []

    async def append(self, topic: str, events: Any, *, partition: int | None = None) -> list[int]:
        self.lost += [event.type for event in events if event.type in self.losing]
        kept = [event for event in events if event.type not in self.losing]
        await super().append(topic, kept, partition=partition)
        return [0] * len(events)


async def test_a_lost_command_and_a_lost_answer_are_asked_for_again(scene: Scene) -> None:
    scene.log = deaf = Deaf()
    service = scene.orders()
    orders(service)
    deaf.losing = {"stock.Reserve"}
    await scene.begin(service, scene.stock())
    await scene.placed(OrderPlaced(1, 1, 4, 100))

    async def lost(type_: str) -> bool:
        return type_ in deaf.lost

    await clock.until(lambda: lost("stock.Reserve"), timeout=20, what="the command to be lost")
    deaf.losing = {"stock.ItemReserved"}
    await clock.until(lambda: lost("stock.ItemReserved"), timeout=20, what="the answer to be lost")
    deaf.losing = set()
    assert await scene.ended(1) == {"completed": 1}
    conserved(scene)
    ids_ = [event.id.rpartition(":")[2] for event in await scene.said("commands.stock")]
    assert ids_ == ["1#2", "1#3"], "the first was lost, and the answer to the second"


async def test_a_service_that_never_answers_has_the_order_turned_back(scene: Scene) -> None:
    scene.log = deaf = Deaf()
    deaf.losing = {"stock.ItemReserved", "stock.SoldOut"}
    service = scene.orders()
    orders(service)
    await scene.begin(service, scene.stock())
    await scene.placed(OrderPlaced(1, 1, 4, 100))
    assert await scene.ended(1) == {"compensated": 1}
    assert scene.rows("SELECT state FROM reservation", stock=True) == [("released",)]
    conserved(scene)


async def test_several_workers_share_the_work(scene: Scene) -> None:
    workers = [scene.orders() for _ in range(3)]
    for each in workers:
        orders(each)
    await scene.begin(*workers, scene.stock(), scene.stock())
    await scene.placed(*[OrderPlaced(n, n % 20 + 1, n % 3 + 1, n) for n in range(1, 201)])
    ends = await scene.ended(200, 60)
    assert ends["completed"] + ends["compensated"] == 200
    conserved(scene)


async def test_a_pivot_that_nobody_knows_of_is_an_operators(scene: Scene) -> None:
    scene.log = deaf = Deaf()
    deaf.losing = {"money.Charge"}

    class Hasty(Saga, type="orders.Hasty", starts=OrderPlaced):
        order_id: int
        cents: int

        charge = step(
            Charge, ok=Charged, fail=Declined, timeout="100ms", retry=Retry(attempts=2, first=0.01), pivot=True
        )

    service = scene.orders()
    sagas = Sagas(service, [Hasty])
    await scene.begin(service, scene.stock())
    await scene.placed(OrderPlaced(1, 1, 1, 100), OrderPlaced(2, 1, 1, 100))

    async def stands() -> bool:
        asked = deaf.lost.count("money.Charge") == 4  # no attempt is on its way any more
        return asked and scene.rows("SELECT status, blocked FROM fig.saga") == [("needs operator", "charge")] * 2

    await clock.until(stands, timeout=20, what="the sagas to need an operator")
    deaf.losing = set()
    first, second = (row[0] for row in scene.rows("SELECT id FROM fig.saga ORDER BY key"))
    await sagas.retry(first)
    await sagas.resolve(second)
    assert await scene.ended(2) == {"completed": 2}
    assert scene.rows("SELECT order_id FROM payment", stock=True) == [(1,)]
    with pytest.raises(FigError, match="there is no saga"):
        await sagas.retry("nobody")


async def test_sagas_on_one_thing_run_one_after_the_other(scene: Scene) -> None:
    running: list[int] = []
    seen: list[int] = []

    async def pack(saga: Any, key: str) -> None:
        running.append(saga.order_id)
        assert len(running) == 1, "two at once"
        await asyncio.sleep(0.02)
        running.remove(saga.order_id)
        seen.append(saga.order_id)

    class Packing(Saga, type="orders.Packing", starts=OrderPlaced, lock="item_id"):
        order_id: int
        item_id: int

        pack_it = call(pack)

    service = scene.orders()
    Sagas(service, [Packing])
    await scene.begin(service)
    await scene.placed(*[OrderPlaced(n, 1, 1, 1) for n in range(1, 7)])
    assert await scene.ended(6) == {"completed": 6}
    assert sorted(seen) == [1, 2, 3, 4, 5, 6] and scene.rows("SELECT * FROM fig.saga_lock") == []


async def test_a_saga_that_does_not_wait_for_its_lock_is_refused_at_once(scene: Scene) -> None:
    may_end = asyncio.Event()

    async def pack(saga: Any, key: str) -> None:
        await may_end.wait()

    class Packing(
        Saga, type="orders.Packing", starts=OrderPlaced, lock="item_id", when_held="refuse", compensated=OrderRejected
    ):
        order_id: int
        item_id: int
        reason: str = "somebody else is at it"

        pack_it = call(pack)

    service = scene.orders()
    Sagas(service, [Packing])
    await scene.begin(service)
    await scene.placed(OrderPlaced(1, 1, 1, 1))
    await clock.until(lambda: holds(scene), timeout=20, what="the first to hold its item")
    await scene.placed(OrderPlaced(2, 1, 1, 1), OrderPlaced(3, 2, 1, 1))
    assert await scene.ended(1) == {"refused": 1, "running": 2}
    may_end.set()
    assert await scene.ended(3) == {"refused": 1, "completed": 2}
    await scene.placed(OrderPlaced(4, 1, 1, 1))
    assert await scene.ended(4) == {"refused": 1, "completed": 3}
    assert scene.rows("SELECT key FROM fig.saga WHERE status = 'refused'") == [("2",)]
    assert scene.rows("SELECT * FROM fig.saga_lock") == []

    async def told() -> bool:
        return any(event.type == "orders.OrderRejected" for event in await scene.said("events.orders"))

    await clock.until(told, timeout=20, what="the refusal on the log")


async def holds(scene: Scene) -> bool:
    return scene.rows("SELECT count(*) FROM fig.saga_lock") == [(1,)]


async def test_a_call_outward_has_one_key_for_all_attempts_and_may_be_refused(scene: Scene) -> None:
    keys: dict[int, list[str]] = {1: [], 2: [], 3: []}
    undone: list[int] = []

    async def pays(saga: Any, key: str) -> dict[str, Any]:
        keys[saga.order_id].append(key)
        if saga.order_id == 2:
            raise Refused("declined", reason="no cover", unknown="fact")
        if len(keys[saga.order_id]) < 3:
            raise OSError("no answer")
        if saga.order_id == 3:
            raise OSError("never")
        return {"receipt": "r1"}

    async def pay_back(saga: Any, key: str) -> None:
        undone.append(saga.order_id)
        if undone.count(saga.order_id) <= 10:
            raise OSError("not yet")

    class Paying(Saga, type="orders.Paying", starts=OrderPlaced):
        order_id: int
        reason: str = ""
        receipt: str = ""

        pay = call(pays, undo=pay_back, timeout="5s", retry=SOON, undo_retry=Retry(attempts=20, first=0.01, most=0.05))

    service = scene.orders()
    Sagas(service, [Paying])
    await scene.begin(service)
    await scene.placed(*[OrderPlaced(n, 1, 1, 1) for n in (1, 2, 3)])
    assert await scene.ended(3) == {"completed": 1, "compensated": 2}
    assert [len(keys[n]) for n in (1, 2, 3)] == [3, 1, 3] and {len({*keys[n]}) for n in (1, 2, 3)} == {1}
    assert undone == [3] * 11, "what was refused was never done; of the third nobody knew"
    data = dict(scene.rows("SELECT key, data FROM fig.saga"))
    assert data["1"]["receipt"] == "r1" and data["2"]["reason"] == "no cover" and "unknown" not in data["2"]


async def test_what_one_saga_cannot_do_is_not_the_others_fault(scene: Scene) -> None:
    """Its property fails: when an answer is told, and whenever time passes for it."""

    async def asks(saga: Any, key: str) -> dict[str, Any]:
        return {"country": None if saga.order_id == 1 else "CH", "fee": Decimal("1.50")}

    async def pays(saga: Any, key: str) -> None:
        raise Refused("declined", fee=saga.fee + 1)

    class Shipping(Saga, type="orders.Shipping", starts=OrderPlaced):
        order_id: int
        country: str | None = None
        fee: Decimal = Decimal(0)

        ask = call(asks, timeout="300ms", retry=SOON)
        pay = call(pays, when="is_abroad")

        @property
        def is_abroad(self) -> bool:
            assert self.country is not None or self.order_id == 1
            return self.country.lower() != "de"  # type: ignore[union-attr]

    service = scene.orders()
    Sagas(service, [Shipping])
    await scene.begin(service)
    await scene.placed(*[OrderPlaced(n, 1, 1, 1) for n in range(1, 6)])
    await scene.ended(4)
    await asyncio.sleep(1)
    await scene.placed(*[OrderPlaced(n, 1, 1, 1) for n in range(6, 9)])
    assert await scene.ended(7) == {"running": 1, "compensated": 7}
    assert scene.rows("SELECT key FROM fig.saga WHERE ended_at IS NULL") == [("1",)]
    assert scene.rows("SELECT DISTINCT data ->> 'fee' FROM fig.saga WHERE ended_at IS NOT NULL") == [("2.50",)]


async def test_a_call_that_takes_too_long_is_made_again_under_the_same_key(scene: Scene) -> None:
    calls: list[str] = []

    async def slow(saga: Any, key: str) -> dict[str, Any]:
        calls.append(key)
        if len(calls) == 1:
            await asyncio.sleep(60)
        return {"note": f"from call {len(calls)}"}

    class Calling(Saga, type="orders.Calling", starts=OrderPlaced):
        order_id: int
        note: str = ""

        ring = call(slow, timeout="300ms", retry=SOON)

    service = scene.orders()
    Sagas(service, [Calling])
    await scene.begin(service)
    await scene.placed(OrderPlaced(1, 1, 1, 1))
    assert await scene.ended(1) == {"completed": 1}
    assert calls[0] == calls[1] and scene.rows("SELECT data ->> 'note' FROM fig.saga") == [("from call 2",)]


async def test_what_comes_of_a_call_late_leaves_an_operators_word(scene: Scene) -> None:
    calls: list[str] = []

    async def slow(saga: Any, key: str) -> None:
        calls.append(key)
        if len(calls) == 1:
            await asyncio.sleep(60)

    class Calling(Saga, type="orders.Calling", starts=OrderPlaced):
        order_id: int

        ring = call(slow, timeout="50ms", retry=Retry(attempts=1), pivot=True)

    service = scene.orders()
    sagas = Sagas(service, [Calling])
    await scene.begin(service)
    await scene.placed(OrderPlaced(1, 1, 1, 1))

    async def stands() -> bool:
        return scene.rows("SELECT status FROM fig.saga") == [("needs operator",)]

    await clock.until(stands, timeout=20, what="the saga to need an operator")
    await tasks.stop(scene.running.pop())
    ((id,),) = scene.rows("SELECT id FROM fig.saga")
    async with service.session() as conn:
        await operating.ask(conn, id, "retry", "me")
    await sagas._told([(id, Broke("ring", 1))])  # its time was up, and it is heard of afterwards
    await scene.begin(service)
    assert await scene.ended(1) == {"completed": 1} and len({*calls}) == 1


async def test_each_saga_keeps_the_version_that_it_began_with(scene: Scene) -> None:
    scene.log = deaf = Deaf()
    deaf.losing = {"stock.ItemReserved"}

    class Old(Saga, type="orders.Growing", starts=OrderPlaced):
        order_id: int
        item_id: int
        quantity: int

        reserve = step(Reserve, ok=ItemReserved, fail=SoldOut, undo=Release, undone=Released, timeout="2s", retry=SOON)

    class New(Saga, type="orders.Growing", starts=OrderPlaced, version=2):
        order_id: int
        item_id: int
        quantity: int
        cents: int

        reserve = step(Reserve, ok=ItemReserved, fail=SoldOut, undo=Release, undone=Released, timeout="2s", retry=SOON)
        charge = step(Charge, ok=Charged, fail=Declined, pivot=True)

    class Other(Saga, type="orders.Other", starts=OrderPlaced):
        order_id: int
        cents: int

        charge = step(Charge, ok=Charged, fail=Declined, pivot=True)

    before = scene.orders()
    Sagas(before, [Old])
    await scene.begin(before, scene.stock())
    await scene.placed(*[OrderPlaced(n, n, 1, 100) for n in range(1, 6)])

    async def begun() -> bool:
        return scene.rows("SELECT count(*) FROM fig.saga") == [(5,)]

    await clock.until(begun, timeout=20, what="five sagas")
    await tasks.stop(scene.running.pop(0))
    without = Sagas(scene.orders(), [New])
    with pytest.raises(FigError, match=r"5 of orders\.Growing version 1") as caught:
        await without.check()
    assert caught.value.code == "saga_version_missing"
    none_left = Sagas(scene.orders(), [Other])
    with pytest.raises(FigError, match=r"5 of orders\.Growing version 1"):
        await none_left.check()
    deaf.losing = set()
    after = scene.orders()
    Sagas(after, [New, Old])
    await scene.begin(after)
    await scene.placed(*[OrderPlaced(n, n, 1, 100) for n in range(6, 9)])
    assert await scene.ended(8) == {"completed": 8}
    assert scene.rows("SELECT version, count(*) FROM fig.saga GROUP BY 1 ORDER BY 1") == [(1, 5), (2, 3)]
    assert scene.rows("SELECT count(*) FROM payment", stock=True) == [(3,)]


async def test_two_releases_side_by_side_with_thousands_in_flight(scene: Scene) -> None:
    """The older release meets sagas of a version that it lacks: it stands back, and parks and puts off nothing."""

    class Old(Saga, type="orders.Growing", starts=OrderPlaced):
        order_id: int
        item_id: int
        quantity: int
        cents: int

        reserve = step(Reserve, ok=ItemReserved, fail=SoldOut, undo=Release, undone=Released, timeout="60s")

    class New(Saga, type="orders.Growing", starts=OrderPlaced, version=2):
        order_id: int
        item_id: int
        quantity: int
        cents: int

        reserve = step(Reserve, ok=ItemReserved, fail=SoldOut, undo=Release, undone=Released, timeout="60s")
        charge = step(Charge, ok=Charged, fail=Declined, timeout="60s", pivot=True)

    scene.rows('UPDATE level SET "left" = 1000', stock=True)
    before, after = scene.orders(), scene.orders()
    Sagas(before, [Old])
    Sagas(after, [New, Old])

    async def begun(count: int) -> None:
        async def there() -> bool:
            return scene.rows("SELECT count(*) FROM fig.saga") == [(count,)]

        await clock.until(there, timeout=60, what=f"{count} sagas")

    await scene.begin(before)
    older = scene.running[-1]
    await scene.placed(*[OrderPlaced(n, n % 20 + 1, 1, 100) for n in range(1, 2001)])
    await begun(2000)
    await tasks.stop(older)
    await scene.begin(after)
    await scene.placed(*[OrderPlaced(n, n % 20 + 1, 1, 100) for n in range(2001, 3001)])
    await begun(3000)
    await scene.begin(before)  # some process of the older release is still there
    await scene.begin(scene.stock())
    assert await scene.ended(3000, timeout=300) == {"completed": 3000}
    assert scene.rows("SELECT version, count(*) FROM fig.saga GROUP BY 1 ORDER BY 1") == [(1, 2000), (2, 1000)]
    assert scene.rows("SELECT count(*) FROM fig.dead_letter") == [(0,)]
    assert scene.rows("SELECT count(*) FROM payment", stock=True) == [(1000,)]


async def test_two_classes_of_one_version_are_refused(scene: Scene) -> None:
    class Twin(Saga, type="orders.Checkout", starts=OrderPlaced):
        order_id: int
        cents: int

        charge = step(Charge, ok=Charged)

    with pytest.raises(FigError, match="two classes of version 1"):
        Sagas(scene.orders(), [Checkout, Twin])
