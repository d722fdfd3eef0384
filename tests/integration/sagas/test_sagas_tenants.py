"""Sagas of several tenants in one service: each asks, waits, acts in time and ends in its tenant's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from stranglerfig.eventlog.model import Event as LogEvent
from stranglerfig.eventlog.model import Record
from stranglerfig.foundation import clock
from stranglerfig.kit import Aggregate, Service, Transaction
from stranglerfig.kit.testing import event_of
from stranglerfig.sagas import Retry, Saga, call, step
from stranglerfig.sagas.choreography import Flow
from stranglerfig.sagas.operating import courses
from stranglerfig.sagas.running import Sagas
from tests.conftest import Server
from tests.integration.sagas.test_sagas_running import Deaf, Scene
from tests.saga_shop import (
    SOON,
    TOPICS,
    ItemReserved,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    Release,
    Released,
    Reserve,
    SoldOut,
)

TENANTS = ("acme", "globex")
LEVEL = 'SELECT tenant_id, item_id, "left" FROM level ORDER BY 1, 2'
AT = datetime(2026, 11, 22, tzinfo=UTC)


class Level(Aggregate, table="level", id="item_id", tenant="tenant_id"):
    item_id: int
    left: int


def stock(service: Service) -> None:
    """What keeps each tenant's stock."""

    @service.on(Reserve, emits=[ItemReserved, SoldOut])
    async def reserve(command: Reserve, tx: Transaction) -> None:
        level = await tx.load(Level, command.item_id)
        if level.left < command.quantity:
            return tx.send(SoldOut(command.item_id, command.order_id))
        level.left -= command.quantity
        tx.send(ItemReserved(command.item_id, command.order_id, command.quantity))

    @service.on(Release, emits=[Released])
    async def release(command: Release, tx: Transaction) -> None:
        tx.send(Released(command.item_id, command.order_id))


@pytest.fixture
async def scene(postgres: Server, postgres_b: Server) -> AsyncIterator[Scene]:
    made = Scene(postgres.database(), postgres_b.database())
    made.log = Deaf()
    made.rows(
        'CREATE TABLE level (tenant_id text, item_id int, "left" int NOT NULL, PRIMARY KEY (tenant_id, item_id));'
        "INSERT INTO level SELECT t, i, 10 FROM unnest('{acme,globex}'::text[]) AS t, generate_series(1, 3) AS i",
        stock=True,
    )
    yield made
    await made.end()


async def begun(scene: Scene, kind: type[Saga], **more: Any) -> Service:
    service = Service("orders", database=scene.dsn, log=scene.log, **more)
    scene.services.append(service)
    scene.sagas = Sagas(service, [kind])
    stocks = Service("stock", database=scene.stock_dsn, log=scene.log, **more)
    stock(stocks)
    scene.services.append(stocks)
    await scene.begin(service, stocks)
    return service


async def place(scene: Scene, tenant: str | None, *orders: OrderPlaced) -> None:
    await scene.log.append("events.orders", [event_of(each, source="/shop", tenantid=tenant) for each in orders])


async def test_each_saga_stays_in_its_tenant(scene: Scene) -> None:
    calls: list[tuple[str | None, int]] = []

    async def paid(saga: Paying, key: str) -> None:
        calls.append((saga.tenant, saga.order_id))

    class Paying(
        Saga, type="orders.Paying", starts=OrderPlaced, lock="item_id", completed=OrderConfirmed,
        compensated=OrderRejected, within="60s",
    ):  # fmt: skip
        order_id: int
        item_id: int
        quantity: int
        reason: str = ""
        reserve = step(
            Reserve, ok=ItemReserved, fail=SoldOut, undo=Release, undone=Released, timeout="2s", retry=SOON,
            keep=["reason"],
        )  # fmt: skip
        pay = call(paid, timeout="5s", retry=SOON, pivot=True)

    deaf = scene.log
    assert isinstance(deaf, Deaf)
    await begun(scene, Paying)
    for tenant, quantity in zip(TENANTS, (4, 7), strict=True):
        # The same orders of the same item, under the same lock; of the second one's there is not enough.
        await place(scene, tenant, OrderPlaced(1, 1, quantity, 1), OrderPlaced(2, 1, quantity, 1))
    assert await scene.ended(4) == {"completed": 3, "compensated": 1}
    assert scene.rows("SELECT tenant, key, status FROM fig.saga ORDER BY 1, 2") == [
        ("acme", "1", "completed"), ("acme", "2", "completed"),
        ("globex", "1", "completed"), ("globex", "2", "compensated"),
    ]  # fmt: skip
    assert scene.rows("SELECT DISTINCT lock FROM fig.saga ORDER BY 1") == [
        ("@acme/orders.Paying/item_id/1",), ("@globex/orders.Paying/item_id/1",),
    ]  # fmt: skip
    assert scene.rows(LEVEL, stock=True)[::3] == [("acme", 1, 2), ("globex", 1, 3)]
    assert sorted(calls) == [("acme", 1), ("acme", 2), ("globex", 1)]

    # What time does is done in the tenant's name as well: the command is lost, and asked for again.
    deaf.losing = {"stock.Reserve"}
    await place(scene, "acme", OrderPlaced(3, 2, 1, 1))

    async def lost() -> bool:
        return "stock.Reserve" in deaf.lost

    await clock.until(lost, timeout=20, what="the command to be lost")
    deaf.losing = set()
    assert await scene.ended(5) == {"completed": 4, "compensated": 1}

    async def all_told() -> bool:
        return len([e for e in await scene.said("events.orders") if e.type != "orders.OrderPlaced"]) == 5

    await clock.until(all_told, timeout=20, what="the ends on the log")
    whose = Counter([(e.type, e.tenantid) for topic in TOPICS for e in await scene.said(topic)])
    assert {tenant for _, tenant in whose} == {*TENANTS}
    assert whose["stock.Reserve", "acme"] == 3 and whose["orders.OrderConfirmed", "acme"] == 3
    assert whose["orders.OrderRejected", "globex"] == whose["orders.OrderConfirmed", "globex"] == 1
    assert scene.rows(LEVEL, stock=True)[1] == ("acme", 2, 9)
    assert scene.rows("SELECT FROM fig.dead_letter") == scene.rows("SELECT FROM fig.dead_letter", stock=True) == []


class Simple(Saga, type="orders.Simple", starts=OrderPlaced):
    order_id: int
    item_id: int
    quantity: int
    reserve = step(Reserve, ok=ItemReserved, fail=SoldOut, timeout="60s", retry=Retry(attempts=3, first=30))


async def test_nobody_answers_in_another_tenants_name(scene: Scene) -> None:
    service = Service("orders", database=scene.dsn, log=scene.log)
    scene.services.append(service)
    Sagas(service, [Simple])
    await service.migrate()
    (consumer,) = service.consumers()
    await consumer.begin()
    at = iter(range(100))

    async def met(event: LogEvent) -> None:
        await consumer.handle([Record("events", 0, next(at), event, AT)])

    # Two tenants' orders have the same id: two sagas.
    order = event_of(OrderPlaced(1, 1, 4, 100), source="/shop")
    for tenant in (*TENANTS, None):
        await met(order._replace(tenantid=tenant))
    asked = dict(scene.rows("SELECT tenantid, id FROM fig.outbox"))
    assert len({*asked.values()}) == 3 and asked["acme"].startswith("@acme/saga:orders.Simple:")
    answer = event_of(ItemReserved(1, 1, 4), source="/stock", causationid=asked["acme"])
    for n, tenant in enumerate(("globex", None, "acme")):
        await met(answer._replace(id=str(n), tenantid=tenant, partitionkey=str(n)))
    ended = "SELECT tenant, status FROM fig.saga ORDER BY tenant"
    assert scene.rows(ended) == [("acme", "completed"), ("globex", "running"), (None, "running")]
    errors = [row[0] for row in scene.rows("SELECT error FROM fig.dead_letter ORDER BY id")]
    assert ["which is not known here" in each for each in errors] == [True, True]


async def test_sagas_of_a_tenants_own_service(scene: Scene) -> None:
    await begun(scene, Simple, tenant="acme")
    await place(scene, "globex", OrderPlaced(1, 1, 4, 100))
    await place(scene, None, OrderPlaced(1, 1, 4, 100))
    await place(scene, "acme", OrderPlaced(1, 1, 4, 100))
    assert await scene.ended(1) == {"completed": 1}
    assert scene.rows("SELECT tenant FROM fig.saga") == [("acme",)]
    assert scene.rows(LEVEL, stock=True)[::3] == [("acme", 1, 6), ("globex", 1, 10)]


async def test_a_flow_is_recorded_by_tenant(scene: Scene) -> None:
    """Clients number their requests as they like, and flows are told apart by that."""
    service = Service("orders", database=scene.dsn, log=scene.log)
    scene.services.append(service)
    flow = Flow("order", starts=[OrderPlaced], ends=[OrderConfirmed], within="1m")
    flow.elsewhere("orders", OrderPlaced, emits=[OrderConfirmed])
    flow.recorded_by(service)
    await service.migrate()
    (consumer,) = service.consumers()
    await consumer.begin()
    placed = event_of(OrderPlaced(1, 1, 1, 1), source="/shop", correlationid="1")._replace(id="1")
    confirmed = event_of(OrderConfirmed(1), source="/orders", correlationid="1", causationid="1")._replace(id="2")
    events = [placed._replace(tenantid="acme"), placed._replace(tenantid="globex"), confirmed._replace(tenantid="acme")]
    await consumer.handle([Record("events.orders", 0, n, event, AT) for n, event in enumerate(events)])
    async with service.session() as conn:
        found = await courses(conn, flow.drawing)
    assert {id: (course.state, len(course.path)) for id, course in found.items()} == {
        "@acme/1": ("done", 2), "@globex/1": ("running", 1),
    }  # fmt: skip
