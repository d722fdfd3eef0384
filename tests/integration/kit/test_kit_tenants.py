"""Tenants on a real PostgreSQL: nobody sees, changes or is answered with what is another's."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import sys
import types
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stranglerfig.eventlog.model import Record
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Cause, Outbox, Refused, Service, Transaction, operating
from stranglerfig.kit.aggregates import whole_id_of
from stranglerfig.kit.consumer import event_told
from stranglerfig.kit.sealing import Destroyed
from stranglerfig.kit.states import Forms
from stranglerfig.kit.tenants import Within, checked, tenant_of
from stranglerfig.kit.testing import event_of
from tests.conftest import Server
from tests.integration.kit.conftest import Stock
from tests.kit_people import Customer
from tests.kit_shop import Ledger as SharedLedger
from tests.kit_shop import OrderPlaced, Restock, StockAdjusted, StockLevel
from tests.kit_tenants import TABLE, Demand, Ledger, Level, taking_orders

LEVELS = "SELECT tenant_id::text, item_id, on_hand FROM level ORDER BY 1, 2"
SAID = "SELECT tenantid, data ->> 'item_id', data ->> 'on_hand' FROM fig.outbox ORDER BY seq"
AT = datetime(2026, 11, 22, tzinfo=UTC)
ACME, GLOBEX = "acme", "globex"


@pytest.fixture
def shared(stock: Stock) -> Stock:
    """A service that tenants share: the same two items of each."""
    stock.rows(TABLE.format("text"))
    stock.rows(
        "INSERT INTO level SELECT t, i, 100 FROM unnest('{acme,globex}'::text[]) AS t, generate_series(1, 2) AS i"
    )
    taking_orders(stock.service)
    return stock


def adjusting(item: int, delta: int, *, cls: type[Any] = Level) -> Any:
    async def work(tx: Transaction) -> int:
        level = await tx.open(cls, item)
        (level.adjust if cls is Level else level.enter)(delta)
        return int(level.on_hand if cls is Level else level.total)

    return work


async def seen(service: Service, item: int, tenant: str, cls: type[Any] = Level) -> Any:
    async def work(tx: Transaction) -> Any:
        return await tx.find(cls, item)

    return await service.execute(work, tenant=tenant)


async def refused(work: Any) -> str:
    with pytest.raises(FigError) as caught:
        await work
    return caught.value.code


# Rows


@pytest.mark.parametrize(
    ("kind", "tenants"),
    [
        ("text", ("acme", "Acme", "globex")),
        ("varchar(6)", ("acme", "globex", "ACME")),
        ("uuid", tuple(f"5f1d7f0e-0e5b-4b53-8d2c-0f8c2f0a7a1{n}" for n in range(3))),
        ("bigint", ("1", "11", "-1")),
    ],
)
async def test_the_same_id_is_another_row_for_each_tenant(stock: Stock, kind: str, tenants: tuple[str, ...]) -> None:
    stock.rows(TABLE.format(kind))
    one, two, three = tenants
    await stock.service.execute(adjusting(1, 5), tenant=one)
    await stock.service.execute(adjusting(1, 7), tenant=two)
    assert stock.rows(LEVELS) == sorted([(one, 1, 5), (two, 1, 7)])
    before = stock.rows(f"SELECT xmin::text FROM level WHERE tenant_id::text = '{two}'")
    await stock.service.execute(adjusting(1, -2), tenant=one)
    assert stock.rows(LEVELS) == sorted([(one, 1, 3), (two, 1, 7)])
    assert await seen(stock.service, 1, three) is None

    async def gone(tx: Transaction) -> None:
        await tx.remove(await tx.load(Level, 1))

    with pytest.raises(Refused, match="unknown_level"):
        await stock.service.execute(gone, tenant=three)
    await stock.service.execute(gone, tenant=one)
    assert stock.rows(LEVELS) == [(two, 1, 7)]
    assert stock.rows("SELECT xmin::text FROM level") == before, "nobody else's row was written"
    assert stock.rows(SAID) == [(one, "1", "5"), (two, "1", "7"), (one, "1", "3")]


@pytest.mark.parametrize(
    ("kind", "tenant"), [("varchar(4)", "acme2"), ("uuid", "acme"), ("int", "007"), ("int", "7777777777")]
)
async def test_a_tenant_whom_the_column_cannot_hold_has_no_rows(stock: Stock, kind: str, tenant: str) -> None:
    stock.rows(TABLE.format(kind))
    if kind != "uuid":
        stock.rows(f"INSERT INTO level VALUES ('{'acme' if kind == 'varchar(4)' else 7}', 1, 5)")
    assert await seen(stock.service, 1, tenant) is None
    if kind == "varchar(4)":
        with pytest.raises(Exception, match="too long"):
            await stock.service.execute(adjusting(1, 1), tenant=tenant)
    else:
        assert await refused(stock.service.execute(adjusting(1, 1), tenant=tenant)) == "bad_tenant"


async def test_a_column_in_which_tenants_could_be_the_same_is_refused(stock: Stock) -> None:
    stock.rows(TABLE.format("char(10)"))
    assert await refused(seen(stock.service, 1, ACME)) == "table_differs"
    stock.rows("ALTER TABLE level DROP COLUMN tenant_id")
    assert await refused(seen(stock.service, 1, ACME)) == "table_differs"


async def test_what_is_kept_by_tenant_is_not_touched_without_one(shared: Stock) -> None:
    before = shared.rows(LEVELS)

    async def adds(tx: Transaction) -> None:
        await tx.add(Level(9, 1))

    async def finds(tx: Transaction) -> None:
        await tx.find(Ledger, 1)

    async def steals(tx: Transaction) -> None:
        await tx.remove(theirs)

    theirs = await seen(shared.service, 1, GLOBEX)
    for work in (adjusting(1, 1), adds, finds, steals):
        assert await refused(shared.service.execute(work)) == "tenant_missing"
    assert await refused(shared.service.execute(steals, tenant=ACME)) == "tenant_differs"

    async def takes(tx: Transaction) -> None:
        await tx.add(theirs)

    assert await refused(shared.service.execute(takes, tenant=ACME)) == "tenant_differs"
    assert await refused(shared.service.execute(adjusting(1, 1), tenant="")) == "bad_tenant"
    two = shared.service.execute(adjusting(1, 1), tenant=ACME, cause=Cause("c", tenant=GLOBEX))
    assert await refused(two) == "tenant_differs"
    assert shared.rows(LEVELS) == before and shared.rows(SAID) == []
    await shared.service.execute(adjusting(1, 1), cause=Cause("c", tenant=GLOBEX))
    assert shared.rows(SAID) == [(GLOBEX, "1", "101")]


async def test_tenants_do_not_hold_each_other_up(shared: Stock) -> None:
    """The same id is two rows, and no conflict."""
    rounds = Counter[str]()
    both = asyncio.Barrier(2)

    def meeting(tenant: str) -> Any:
        async def work(tx: Transaction) -> None:
            rounds[tenant] += 1
            level = await tx.load(Level, 1)
            async with asyncio.timeout(20):
                await both.wait()
            level.adjust(-1)

        return shared.service.execute(work, tenant=tenant)

    await asyncio.gather(meeting(ACME), meeting(GLOBEX))
    assert rounds == {ACME: 1, GLOBEX: 1}
    assert [row[2] for row in shared.rows(LEVELS)] == [99, 100, 99, 100]


async def test_what_is_another_tenants_is_not_even_read(shared: Stock) -> None:
    async with shared.service.session() as conn:
        form = await Forms().of(conn, Level)
        for wanted in ([Within(ACME, 1)], [Within(ACME, 1), Within(GLOBEX, 2)]):
            found = [whole_id_of(each.aggregate) for each in await form.load(conn, wanted)]
            assert sorted(found) == wanted


# Messages


async def test_one_batch_has_several_tenants_events_about_the_same_id(shared: Stock) -> None:
    await shared.placed(OrderPlaced(1, 1), OrderPlaced(2, 5), tenantid=ACME)
    await shared.placed(OrderPlaced(1, 20), tenantid=GLOBEX)
    await shared.placed(OrderPlaced(1, 3), tenantid=ACME)
    await shared.placed(OrderPlaced(1, 30), tenantid=GLOBEX)
    await shared.consumed()
    assert shared.rows(LEVELS) == [(ACME, 1, 96), (ACME, 2, 95), (GLOBEX, 1, 50), (GLOBEX, 2, 100)]
    assert shared.rows(SAID) == [
        (ACME, "1", "99"), (ACME, "2", "95"), (GLOBEX, "1", "80"), (ACME, "1", "96"), (GLOBEX, "1", "50"),
    ]  # fmt: skip
    assert shared.rows("SELECT count(DISTINCT xmin::text) FROM level WHERE on_hand < 100") == [(1,)]


async def test_whatever_the_order_each_tenant_has_what_it_would_have_alone(shared: Stock) -> None:
    chance = random.Random(4711)
    tenants = ["a", "b", "a/b", "@a"]
    wanted = Counter[tuple[str, int]]()
    for tenant in tenants:
        await shared.service.execute(adjusting(3, 1000, cls=Ledger), tenant=tenant)
    shared.rows("DELETE FROM level; TRUNCATE fig.outbox")
    shared.rows("INSERT INTO level SELECT t, i, 0 FROM unnest('{a,b,a/b,@a}'::text[]) AS t, generate_series(1, 3) AS i")
    for _ in range(300):
        tenant, item, delta = chance.choice(tenants), chance.randint(1, 3), chance.randint(1, 9)
        wanted[tenant, item] += delta
        await shared.placed(OrderPlaced(item, -delta), tenantid=tenant)
    consumer = shared.service.consumers()[0]
    await consumer.begin()
    records, at = await shared.log.read("events.orders", 0, 0, max_records=1000), 0
    while at < len(records):
        size = chance.randint(1, 40)
        await consumer.handle(records[at : at + size])
        at += size
    assert {(t, i): n for t, i, n in shared.rows(LEVELS)} == dict(wanted)
    totals = "SELECT tenantid, data ->> 'item_id', sum((data ->> 'delta')::int) FROM fig.outbox GROUP BY 1, 2"
    assert {(t, int(i)): n for t, i, n in shared.rows(totals)} == dict(wanted)


async def test_what_is_said_carries_the_tenant_to_the_log(shared: Stock) -> None:
    running = asyncio.create_task(shared.service.run())
    await shared.placed(OrderPlaced(1, 1), tenantid=ACME)
    await shared.service.execute(adjusting(1, 5), tenant=GLOBEX)

    async def there() -> bool:
        return len(await shared.log.read("events.stock", 0, 0)) == 2

    await shared.log.create_topic("commands.warehouse")
    await clock.until(there, timeout=20, what="both on the log")
    await tasks.stop(running)
    assert {r.event.tenantid for r in await shared.log.read("events.stock", 0, 0)} == {ACME, GLOBEX}


async def test_an_id_that_is_given_is_the_tenants(shared: Stock) -> None:
    """The log would take the second one for the first."""

    async def closes(tx: Transaction) -> None:
        tx.send(Restock(1), id="close-2026")

    for tenant in (None, ACME, GLOBEX, ACME):
        await shared.service.execute(closes, tenant=tenant)
    ids = [row[0] for row in shared.rows("SELECT id FROM fig.outbox ORDER BY seq")]
    assert ids == ["close-2026", "@acme/close-2026", "@globex/close-2026", "@acme/close-2026"]


async def test_the_same_id_of_two_tenants_is_two_messages(shared: Stock) -> None:
    """And who asks again is told again what was said to him, not to another."""
    consumer = shared.service.consumers()[1]
    await consumer.begin()

    places = itertools.count()

    def asked(tenant: str, id: str) -> Record:
        made = event_of(Restock(1), source="/orders", tenantid=tenant)
        return Record("commands.warehouse", 0, next(places), made._replace(id=id), AT)

    await consumer.handle([asked(ACME, "c"), asked(GLOBEX, "c")])
    await consumer.handle([asked(ACME, "c")])
    assert [row[2] for row in shared.rows(LEVELS)] == [110, 100, 110, 100]
    await shared.service.execute(adjusting(1, 30), tenant=GLOBEX)
    shared.rows("TRUNCATE fig.outbox")
    await consumer.handle([asked(GLOBEX, "c#2"), asked("initech", "c#2")])
    assert shared.rows(SAID) == [(GLOBEX, "1", "110"), ("initech", "1", "10")]


# Keys, streams, letters


async def test_each_tenant_has_idempotency_keys_of_its_own(shared: Stock) -> None:
    execute = shared.service.execute
    assert await execute(adjusting(1, 1), key="k", tenant=ACME) == 101
    assert await execute(adjusting(1, 9), key="k", tenant=GLOBEX) == 109
    assert await execute(adjusting(1, 5), key="k", tenant=ACME) == 101
    assert [row[2] for row in shared.rows(LEVELS)] == [101, 100, 109, 100]

    async def nobodys(tx: Transaction) -> str:
        return "nobody's"

    for key in ("k", "@acme/k"):
        assert await execute(nobodys, key=key) == "nobody's"
    assert shared.rows("SELECT correlationid FROM fig.outbox") == [("k",), ("k",)]


async def test_streams_and_snapshots_are_the_tenants(shared: Stock) -> None:
    for n in range(4):
        assert await shared.service.execute(adjusting(1, 1, cls=Ledger), tenant=ACME) == n + 1
        assert await shared.service.execute(adjusting(1, 10, cls=Ledger), tenant=GLOBEX) == 10 * (n + 1)
    # Of ids and tenants that look alike when they are put one behind the other.
    for tenant in ("a", "a-1", "a/1", "@a"):
        assert await shared.service.execute(adjusting(1, 1, cls=Ledger), tenant=tenant) == 1
    assert shared.rows("SELECT stream, state ->> 'total' FROM fig.snapshot ORDER BY 1") == [
        ("@acme/book-1", "3"), ("@globex/book-1", "30"),
    ]  # fmt: skip
    assert (await seen(shared.service, 1, ACME, Ledger)).total == 4
    assert await seen(shared.service, 1, "initech", Ledger) is None

    async def two(tx: Transaction) -> list[int]:
        return [(await tx.open(Ledger, 1)).total, (await tx.open(SharedLedger, 1)).total]

    assert await shared.service.execute(two, tenant=GLOBEX) == [40, 0]


async def test_what_one_tenant_has_parked_holds_up_nobody_else(shared: Stock) -> None:
    await shared.placed(OrderPlaced(1, 500), OrderPlaced(1, 1), tenantid=ACME)
    await shared.placed(OrderPlaced(1, 2), tenantid=GLOBEX)
    await shared.placed(OrderPlaced(1, 3))
    consumer = await shared.consumed()
    await shared.placed(OrderPlaced(1, 4), tenantid=ACME)
    await shared.placed(OrderPlaced(1, 5), tenantid=GLOBEX)
    await shared.consumed(consumer, from_=4)
    assert shared.rows(LEVELS) == [(ACME, 1, 100), (ACME, 2, 100), (GLOBEX, 1, 93), (GLOBEX, 2, 100)]
    async with shared.service.session() as conn:
        letters = await operating.parked(conn)
        told = [(each["error"][:30], each["tenant"], each["behind"]) for each in letters]
        assert told == [("refused: insufficient_stock", ACME, 2), ("Level is kept by tenant, and t", None, 0)]
        assert (await operating.inspect(conn, letters[0]["id"]))["attributes"]["tenantid"] == ACME
    shared.rows("UPDATE level SET on_hand = 1000 WHERE (tenant_id, item_id) = ('acme', 1)")
    async with shared.service.session() as conn:
        await operating.retry(conn, letters[0]["id"])
    retrying = asyncio.create_task(consumer._retry())

    async def handled() -> bool:
        return shared.rows("SELECT count(*) FROM fig.dead_letter") == [(1,)]

    await clock.until(handled, timeout=20, what="the tenant's letters")
    await tasks.stop(retrying)
    assert [row[2] for row in shared.rows(LEVELS)] == [495, 100, 93, 100]


async def test_a_tenant_that_cannot_be_is_parked(shared: Stock) -> None:
    await shared.placed(OrderPlaced(1, 1), tenantid="ac\0me")
    await shared.placed(OrderPlaced(1, 1), tenantid=ACME)
    await shared.placed(OrderPlaced(1, 1), tenantid="")
    await shared.consumed()
    assert [row[2] for row in shared.rows(LEVELS)] == [99, 100, 100, 100]
    errors = [row[0] for row in shared.rows("SELECT error FROM fig.dead_letter ORDER BY id")]
    assert ["is no tenant" in errors[0], "kept by tenant" in errors[1]] == [True, True]
    told = shared.rows("SELECT event, data FROM fig.dead_letter ORDER BY id LIMIT 1")[0]
    with pytest.raises(FigError, match="is no tenant"):  # nor when it is tried again
        checked(tenant_of(event_told(*told)))


async def test_personal_data_are_the_tenants(shared: Stock) -> None:
    def moving(street: str) -> Any:
        async def work(tx: Transaction) -> None:
            (await tx.open(Person, 7)).move(street)

        return work

    class Person(Customer, stream="person", id="customer_id", tenant=True):
        pass

    for tenant in (ACME, GLOBEX, None):
        if tenant is not None:
            await shared.service.execute(moving("Elm"), tenant=tenant)
    subjects = "SELECT subject, key IS NULL FROM fig.personal_key ORDER BY subject"
    assert shared.rows(subjects) == [("@acme/7", False), ("@globex/7", False)]
    await shared.service.destroy_key(7, tenant=ACME)
    assert [(await seen(shared.service, 7, each, Person)).street for each in (ACME, GLOBEX)] == [None, "Elm"]
    with pytest.raises(Destroyed):
        await shared.service.execute(moving("Oak"), tenant=ACME)
    await shared.service.execute(moving("Oak"), tenant=GLOBEX)

    async def forget(tx: Transaction) -> None:
        tx.destroy_key(7)

    await shared.service.execute(forget, tenant=GLOBEX)
    assert shared.rows(subjects) == [("@acme/7", True), ("@globex/7", True)]


async def test_a_projection_has_rows_of_each_tenant(shared: Stock) -> None:
    await shared.placed(OrderPlaced(7, 3), OrderPlaced(8, 1), tenantid=ACME)
    await shared.placed(OrderPlaced(7, 5), tenantid=GLOBEX)
    await shared.placed(OrderPlaced(7, 50))
    await shared.placed(OrderPlaced(7, 2), tenantid=ACME)
    shared.service.projection(Demand)
    (projector,) = shared.service.projectors()
    running = asyncio.create_task(projector.run())

    async def there() -> bool:
        return shared.rows("SELECT 1 FROM fig.projection WHERE state = 'serving'") != []

    await clock.until(there, timeout=20, what="the build to serve")
    await shared.placed(OrderPlaced(7, 1), tenantid=GLOBEX)

    async def followed() -> bool:
        return projector.applied == 5

    await clock.until(followed, timeout=20, what="the last order")
    await tasks.stop(running)
    assert shared.rows("SELECT tenant_id, item_id, ordered FROM demand ORDER BY 1, 2") == [
        (ACME, 7, 5), (ACME, 8, 1), (GLOBEX, 7, 6),
    ]  # fmt: skip


# By a database


@pytest.fixture
async def apart(stock: Stock, postgres: Server) -> AsyncIterator[list[Service]]:
    """Two tenants' services, each with its database, on one log."""
    made = []
    await stock.log.create_topic("commands.warehouse")
    for tenant in (ACME, GLOBEX):
        service = Service("stock", database=postgres.database(), log=stock.log, source="/shop/stock", tenant=tenant)
        await service.migrate()
        async with service.session() as conn:
            await conn.execute(TABLE.format("text"))
            await conn.execute("INSERT INTO level VALUES (%s, 1, 100)", (tenant,))
        taking_orders(service)
        service.projection(Demand)
        made.append(service)
    yield made
    for each in made:
        await each.close()


async def levels(service: Service) -> list[Any]:
    async with service.session() as conn:
        return await (await conn.execute(LEVELS)).fetchall()


async def test_services_of_two_tenants_have_one_log_and_nothing_else_in_common(
    stock: Stock, apart: list[Service]
) -> None:
    acme, globex = apart
    await stock.placed(OrderPlaced(1, 1), OrderPlaced(1, 2), tenantid=ACME)
    await stock.placed(OrderPlaced(1, 50), tenantid=GLOBEX)
    await stock.placed(OrderPlaced(1, 3))
    await stock.placed(OrderPlaced(1, 4), tenantid="initech")
    await stock.placed(Restock(1), tenantid=GLOBEX, topic="commands.warehouse")
    running = [asyncio.create_task(each.run()) for each in apart]
    assert await acme.execute(adjusting(1, 7), key="k") in (107, 106, 104)
    assert await globex.execute(adjusting(1, 7), key="k") > 50
    async with acme.session() as conn:
        await conn.execute(
            "INSERT INTO fig.outbox (id, topic, type, key, data) VALUES ('by-hand', 'events.stock', 'a.B', '1', '{}')"
        )

    async def all_said() -> bool:
        return len(await stock.log.read("events.stock", 0, 0)) == 7

    async def shown() -> list[Any]:
        found: list[Any] = []
        for each in apart:
            async with each.session() as conn:
                if await (await conn.execute("SELECT to_regclass('demand')")).fetchone() != (None,):
                    found += await (await conn.execute("SELECT tenant_id, ordered FROM demand")).fetchall()
        return found

    async def projected() -> bool:
        return sorted(await shown()) == [(ACME, 3), (GLOBEX, 50)]

    await clock.until(all_said, timeout=30, what="what both say")
    await clock.until(projected, timeout=30, what="the projections")
    assert await levels(acme) == [(ACME, 1, 104)] and await levels(globex) == [(GLOBEX, 1, 67)]
    said = Counter(r.event.tenantid for r in await stock.log.read("events.stock", 0, 0))
    assert said == {ACME: 4, GLOBEX: 3}
    (by_hand,) = [r.event for r in await stock.log.read("events.stock", 0, 0) if r.event.id == "by-hand"]
    assert by_hand.tenantid == ACME
    for each in running:
        await tasks.stop(each)
    assert [each.name for each in acme.consumers()] == ["stock@acme", "stock@acme.restock"]
    async with acme.session() as conn:
        assert await operating.subscriptions(conn) == ["stock@acme", "stock@acme.restock"]
        assert await operating.parked(conn) == []


async def test_a_tenants_service_does_nothing_for_others(stock: Stock, apart: list[Service]) -> None:
    acme, _ = apart
    assert await refused(acme.execute(adjusting(1, 1), tenant=GLOBEX)) == "tenant_differs"
    assert await refused(acme.execute(adjusting(1, 1), cause=Cause(tenant=GLOBEX))) == "tenant_differs"
    assert await refused(acme.destroy_key(7, tenant=GLOBEX)) == "tenant_differs"
    assert await acme.execute(adjusting(1, 1), tenant=ACME) == 101
    # What is not kept by tenant is its own by its database.
    async with acme.session() as conn:
        await conn.execute("CREATE TABLE stock_level (item_id int PRIMARY KEY, on_hand int NOT NULL, tags jsonb)")

    async def work(tx: Transaction) -> str | None:
        (await tx.open(StockLevel, 1)).adjust(5)
        return tx.tenant

    assert await acme.execute(work) == ACME
    async with acme.session() as conn:
        assert await (await conn.execute("SELECT DISTINCT tenantid FROM fig.outbox")).fetchall() == [(ACME,)]


# Without tenants


async def test_services_without_tenants_have_nothing_of_it(stock: Stock) -> None:
    """Their statements do not name the column; the relay alone looks at it."""
    stock.rows("ALTER TABLE fig.outbox DROP COLUMN tenantid")

    @stock.service.on(OrderPlaced)
    async def take(event: OrderPlaced, tx: Transaction) -> None:
        (await tx.load(StockLevel, event.item_id)).adjust(-event.quantity)

    await stock.placed(OrderPlaced(1, 1), OrderPlaced(2, 1))
    await stock.consumed()

    async def enters(tx: Transaction) -> int:
        return (await tx.open(SharedLedger, 5)).enter(2).on_hand

    assert await stock.service.execute(enters, key="k") == await stock.service.execute(enters, key="k") == 2
    assert stock.rows("SELECT key FROM fig.answer UNION ALL SELECT stream FROM fig.stream_event") == [
        ("k",), ("ledger-5",),
    ]  # fmt: skip


async def test_an_outbox_of_its_own_needs_the_column_only_for_tenants(stock: Stock) -> None:
    stock.rows("CREATE TABLE own (LIKE fig.outbox INCLUDING ALL); ALTER TABLE own DROP COLUMN tenantid")
    service = Service("stock", database=stock.dsn, outbox=Outbox("own"))

    async def says(tx: Transaction) -> None:
        tx.send(StockAdjusted(1, 1, 1))

    await service.execute(says)
    with pytest.raises(Exception, match="tenantid"):
        await service.execute(says, tenant=ACME)
    stock.rows("ALTER TABLE own ADD COLUMN tenantid text")
    await service.execute(says, tenant=ACME)
    assert stock.rows("SELECT tenantid FROM own ORDER BY seq") == [(None,), (ACME,)]
    await service.close()


async def test_the_how_to_does_what_it_says(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/tenants.md").read_text()
    codes = re.findall(r"^```python file=(\w+)\.py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (table,) = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for name in ("STOCK_DSN", "ACME_DSN", "GLOBEX_DSN"):
        monkeypatch.setenv(name, stock.dsn)
    told: dict[str, Any] = {}
    for name, code in codes:
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(code, f"{name}.py", "exec"), module.__dict__)
        told[name] = module
    shared, apart = told["shared"], told["apart"]
    stock.rows(f"DROP TABLE stock_level; {table}")
    assert await shared.delivered(1, 5, tenant=ACME, key="k") == 5
    assert await shared.delivered(1, 7, tenant=GLOBEX, key="k") == 7
    assert await shared.delivered(1, 9, tenant=ACME, key="k") == 5
    (consumer,) = shared.service.consumers()
    await consumer.begin()
    order = event_of(shared.OrderPlaced(1, 2), source="/orders", tenantid=ACME)
    await consumer.handle([Record("events.orders", 0, 0, order, AT)])
    levels_ = "SELECT tenant_id, on_hand FROM stock_level ORDER BY 1"
    assert stock.rows(levels_) == [(ACME, 3), (GLOBEX, 7)]
    service = apart.made(ACME, stock.log)
    assert (service.name, service.tenant) == ("stock", ACME)
    for each in (shared.service, service):
        await each.close()
