"""Read models from a log: exactly once, rebuilt beside the one that serves, swapped without a gap."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.eventlog.model import Capabilities, Capability
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Event, Projection, evolves, operating
from stranglerfig.kit.projections import Build, Projector
from tests.integration.kit.conftest import Stock
from tests.kit_shop import OrderCancelled, OrderPlaced, StockAdjusted

SUMS = "SELECT item_id, ordered, orders FROM demand ORDER BY item_id"
STATES = "SELECT version, generation, state FROM fig.projection ORDER BY version, generation"


class Demand(Projection, name="demand", id="item_id", indexes=["ordered"]):
    item_id: int
    ordered: int = 0
    orders: int = 0

    @evolves(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self.ordered += event.quantity
        self.orders += 1

    @evolves(OrderCancelled)
    def _cancelled(self, event: OrderCancelled) -> None:
        self.ordered -= event.quantity


class Demand2(Projection, name="demand", id="quantity", version=2):
    quantity: int
    times: int = 0

    @evolves(OrderPlaced, by="quantity")
    def _placed(self, event: OrderPlaced) -> None:
        self.times += 1


async def serving(stock: Stock, projector: Projector, version: int, generation: int = 1) -> asyncio.Task[None]:
    """The projector, running, once this build serves and has all."""
    running = asyncio.create_task(projector.run())

    async def there() -> bool:
        assert not running.done(), running.exception()
        return (version, generation, "serving") in stock.rows(STATES)

    await clock.until(there, timeout=20, what="the build to serve")
    return running


async def wanted(stock: Stock) -> int:
    """One more build, as an operator asks for it."""
    async with stock.service.session() as conn:
        return (await operating.rebuild(conn, "demand"))["generation"]


async def test_rows_follow_from_events_and_are_read_by_name(stock: Stock) -> None:
    await stock.placed(OrderPlaced(7, 3), OrderPlaced(8, 1), OrderPlaced(7, 2), OrderCancelled(7, 3))
    stock.service.projection(Demand)
    (projector,) = stock.service.projectors()
    running = await serving(stock, projector, 1)
    assert stock.rows(SUMS) == [(7, 2, 2), (8, 1, 1)]
    await stock.placed(OrderPlaced(9, 5))

    async def followed() -> bool:
        return (9, 5, 1) in stock.rows(SUMS) and projector.applied == 5

    await clock.until(followed, timeout=20, what="the new order")
    await tasks.stop(running)
    assert stock.rows("SELECT count(*) FROM pg_indexes WHERE tablename = 'demand_v1_1'") == [(2,)]


async def test_a_new_version_is_built_beside_the_old_one_and_the_rights_stay(stock: Stock) -> None:
    await stock.placed(*[OrderPlaced(item, item % 3) for item in range(1, 31)])
    (first,) = (Projector(Demand, stock.service._sessions, stock.log, group="stock"),)
    running = await serving(stock, first, 1)
    stock.rows("GRANT SELECT ON demand TO PUBLIC")
    second = Projector(Demand2, stock.service._sessions, stock.log, group="stock")
    other = await serving(stock, second, 2)
    assert stock.rows("SELECT * FROM demand ORDER BY 1") == [(0, 10), (1, 10), (2, 10)]
    assert stock.rows("SELECT relacl::text LIKE '%=r/%' FROM pg_class WHERE relname = 'demand'") == [(True,)]
    assert stock.rows(STATES) == [(1, 1, "retired"), (2, 1, "serving")]
    await stock.placed(OrderPlaced(1, 1))

    async def old_one_goes_on() -> bool:
        return stock.rows("SELECT sum(orders) FROM projections.demand_v1_1") == [(31,)]

    await clock.until(old_one_goes_on, timeout=20, what="the older release's rows")
    assert stock.rows("SELECT * FROM demand WHERE quantity = 1")[0][1] in (10, 11), (
        "the newer one stays what people see"
    )
    for each in (running, other):
        await tasks.stop(each)


async def test_a_rebuild_replaces_what_went_wrong(stock: Stock) -> None:
    await stock.placed(*[OrderPlaced(item, 1) for item in range(1, 11)])
    projector = Projector(Demand, stock.service._sessions, stock.log, group="stock")
    running = await serving(stock, projector, 1)
    stock.rows("UPDATE projections.demand_v1_1 SET ordered = 99")
    assert await wanted(stock) == 2
    await tasks.stop(running)
    running = await serving(stock, Projector(Demand, stock.service._sessions, stock.log, group="stock"), 1, 2)
    assert stock.rows("SELECT DISTINCT ordered FROM demand") == [(1,)]
    await wanted(stock)
    await tasks.stop(running)
    running = await serving(stock, Projector(Demand, stock.service._sessions, stock.log, group="stock"), 1, 3)
    await tasks.stop(running)
    assert stock.rows(STATES) == [(1, 2, "retired"), (1, 3, "serving")]
    assert stock.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'projections' ORDER BY 1") == [
        ("demand_v1_2",), ("demand_v1_3",),
    ]  # fmt: skip


async def test_it_is_rebuilt_under_load_and_no_reader_goes_back(lasting: Stock) -> None:
    """On a log that grows all the time, so that a build is never at its end."""
    stock = lasting
    await stock.placed(*[OrderPlaced(n % 50 + 1, 1) for n in range(500)])
    projector = Projector(Demand, stock.service._sessions, stock.log, group="stock")
    running = await serving(stock, projector, 1)
    stop = asyncio.Event()
    placed, looks = 500, 0

    async def load() -> None:
        nonlocal placed
        while not stop.is_set():
            for n in range(20):
                await stock.placed(OrderPlaced(n % 50 + 1, 1))
                placed += 1

    async def read() -> None:
        nonlocal looks
        last = 0
        while not stop.is_set():
            async with stock.service.session() as conn:
                ((count, total),) = await (await conn.execute("SELECT count(*), sum(orders) FROM demand")).fetchall()
            assert count == 50 and total >= last
            last, looks = total, looks + 1
            await asyncio.sleep(0)

    work = [asyncio.create_task(load()), asyncio.create_task(read())]
    for generation in (2, 3):
        await wanted(stock)

        async def swapped(generation: int = generation) -> bool:
            assert not any(each.done() for each in work)
            return (1, generation, "serving") in stock.rows(STATES)

        await clock.until(swapped, timeout=30, what="the rebuilt one to serve")
    stop.set()
    await asyncio.gather(*work)

    async def all_in() -> bool:
        return stock.rows("SELECT sum(orders) FROM demand") == [(placed,)]

    await clock.until(all_in, timeout=20, what="the last orders")
    await tasks.stop(running)
    assert looks > 20


class Forgetful(MemoryLog):
    """A log that takes an event twice."""

    @property
    def capabilities(self) -> Capabilities:
        found = super().capabilities
        return Capabilities(found.has - {Capability.IDEMPOTENT_APPEND}, found.max_event_bytes)


async def test_an_event_that_is_in_the_log_twice_counts_once(stock: Stock) -> None:
    stock.log = Forgetful()
    await stock.log.create_topic("events.orders")
    events = await stock.placed(*[OrderPlaced(7, 1) for _ in range(5)])
    for place in stock.log._topics["events.orders"].partitions:
        place.records += [r._replace(position=r.position + 5) for r in place.records]
    projector = Projector(Demand, stock.service._sessions, stock.log, group="stock")
    running = await serving(stock, projector, 1)
    assert len(events) == 5 and stock.rows(SUMS) == [(7, 5, 5)]
    for place in stock.log._topics["events.orders"].partitions:
        place.records.append(place.records[4]._replace(position=10))
    await stock.placed(OrderPlaced(8, 1))

    async def followed() -> bool:
        return (8, 1, 1) in stock.rows(SUMS)

    await clock.until(followed, timeout=20, what="the new order")
    await tasks.stop(running)
    assert stock.rows(SUMS)[0] == (7, 5, 5)


async def test_thousands_that_are_sent_again_count_once(stock: Stock) -> None:
    stock.log = Forgetful()
    await stock.log.create_topic("events.orders")
    await stock.placed(*[OrderPlaced(7, 1) for _ in range(3000)])
    for place in stock.log._topics["events.orders"].partitions:
        place.records += [r._replace(position=r.position + 3000) for r in place.records]
    projector = Projector(Demand, stock.service._sessions, stock.log, group="stock")
    running = await serving(stock, projector, 1)
    await tasks.stop(running)
    assert stock.rows(SUMS) == [(7, 3000, 3000)]


async def test_it_goes_on_after_a_failure(stock: Stock) -> None:
    projector = Projector(Demand, stock.service._sessions, stock.log, group="stock")
    running = await serving(stock, projector, 1)
    await tasks.stop(running)
    await stock.placed(OrderPlaced(7, 3))
    again = asyncio.create_task(projector.run())  # as its supervisor does

    async def followed() -> bool:
        return stock.rows(SUMS) == [(7, 3, 1)]

    await clock.until(followed, timeout=20, what="the order after the failure")
    await tasks.stop(again)


async def test_who_rests_on_the_view_holds_up_the_swap_alone(stock: Stock) -> None:
    projector = Projector(Demand, stock.service._sessions, stock.log, group="stock")
    running = await serving(stock, projector, 1)
    stock.rows("CREATE VIEW on_top AS SELECT * FROM demand")
    await wanted(stock)
    await stock.placed(OrderPlaced(7, 3))

    async def followed() -> bool:
        return stock.rows("SELECT * FROM on_top") == [(7, 3, 1)]

    await clock.until(followed, timeout=20, what="the order")
    stock.rows("DROP VIEW on_top")

    async def swapped() -> bool:
        return (1, 2, "serving") in stock.rows(STATES)

    await clock.until(swapped, timeout=20, what="the swap")
    await tasks.stop(running)


async def test_several_members_share_the_partitions(stock: Stock) -> None:
    await stock.log.delete_topic("events.orders")
    await stock.log.create_topic("events.orders", partitions=4)
    await stock.placed(*[OrderPlaced(n % 50 + 1, 1) for n in range(300)])
    members = [Projector(Demand, stock.service._sessions, stock.log, group="stock") for _ in range(3)]
    running = [asyncio.create_task(each.run()) for each in members]

    async def all_in() -> bool:
        return (1, 1, "serving") in stock.rows(STATES) and stock.rows("SELECT sum(orders) FROM demand") == [(300,)]

    await clock.until(all_in, timeout=20, what="all orders")
    for each in running:
        await tasks.stop(each)
    assert sum(each.applied for each in members) == 300


async def test_a_member_that_was_away_adds_nothing_twice(stock: Stock) -> None:
    await stock.placed(*[OrderPlaced(7, 1) for _ in range(10)])
    projector = Projector(Demand, stock.service._sessions, stock.log, group="stock")
    running = await serving(stock, projector, 1)
    await tasks.stop(running)
    from stranglerfig.kit.states import Rows

    build = Build(Demand.__shape__, 1)
    types_ = {"item_id": "bigint", "ordered": "bigint", "orders": "bigint"}
    rows = Rows(
        Demand, Demand.__form__.__class__("item_id", ("item_id", "ordered", "orders"), build.table, None, 0), types_
    )
    records = await stock.log.read("events.orders", 0, 0)
    await asyncio.gather(*(projector.apply(build, rows, records[start:]) for start in (0, 3, 9)))
    assert stock.rows(SUMS) == [(7, 10, 10)]
    await stock.placed(*[OrderPlaced(7, 1) for _ in range(10)])
    more = await stock.log.read("events.orders", 0, 10)
    # It had read on, lost its place for a moment, and is given all of it again from where it had committed.
    await projector.apply(build, rows, [*more[:4], *records[5:], *more])
    await projector.apply(build, rows, [*more[8:], *records])
    assert stock.rows(SUMS) == [(7, 20, 20)]
    assert stock.rows("SELECT position FROM fig.projection_position") == [(20,)]


async def test_a_table_of_the_views_name_is_left_alone(stock: Stock) -> None:
    stock.rows("CREATE TABLE demand (mine int)")
    await stock.placed(OrderPlaced(7, 1))
    projector = Projector(Demand, stock.service._sessions, stock.log, group="stock")
    ((build, _),) = await projector.builds()
    with pytest.raises(FigError, match="a table has that name"):
        await projector.serve(build)


class Odd(Event, type="odd.Odd", key="id"):
    id: UUID


async def test_columns_of_all_kinds(stock: Stock) -> None:
    class Wide(Projection, name="wide", id="id"):
        id: UUID
        price: Decimal = Decimal("1.50")
        at: datetime | None = None
        day: date = date(2026, 1, 2)
        ratio: float = 0.5
        words: list[str] | None = None
        is_on: bool = False

        @evolves(Odd)
        def _odd(self, event: Odd) -> None:
            self.at = datetime(2026, 1, 2, tzinfo=UTC)
            self.words = [*(self.words or []), "x"]

    await stock.log.create_topic("events.odd")
    id = UUID(int=7)
    await stock.placed(Odd(id), Odd(id))
    projector = Projector(Wide, stock.service._sessions, stock.log, group="stock")
    running = await serving(stock, projector, 1)
    await tasks.stop(running)
    assert stock.rows("SELECT id, price, at, day, ratio, words, is_on FROM wide") == [
        (id, Decimal("1.50"), datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2), 0.5, ["x", "x"], False)
    ]


@pytest.mark.parametrize(
    ("fields", "more", "said"),
    [
        ({"id": int}, {"id": "it"}, "no field 'it'"),
        ({"id": int, "size": int}, {}, r"\['size'\] have no default"),
        ({"id": int}, {"indexes": ["size"]}, "indexes on"),
        ({"id": int}, {}, "nothing changes it"),
    ],
)
def test_a_wrong_declaration_is_refused(fields: dict[str, Any], more: dict[str, Any], said: str) -> None:
    with pytest.raises(FigError, match=said):
        type(
            "Made",
            (Projection,),
            {"__annotations__": fields, "__module__": __name__},
            name="made",
            **{"id": "id", **more},
        )


def test_a_change_needs_to_know_its_row() -> None:
    with pytest.raises(FigError, match="has no field 'id'"):

        class Lost(Projection, name="lost", id="id"):
            id: int

            @evolves(StockAdjusted)
            def _adjusted(self, event: StockAdjusted) -> None: ...
