"""Personal data under destroyable keys, on a real PostgreSQL: sealed, read by who has the key, and then by nobody."""

from __future__ import annotations

import asyncio
import re
import sys
import types
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from stranglerfig.eventlog import model as log
from stranglerfig.foundation import clock, ids, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Service, Transaction, keys, operating
from stranglerfig.kit.keys import KeyStore
from stranglerfig.kit.messages import decode, kind_of
from stranglerfig.kit.projections import Projector
from stranglerfig.kit.sealing import Destroyed
from stranglerfig.kit.testing import event_of
from tests.integration.kit.conftest import Stock
from tests.kit_people import Card, Customer, CustomerMoved, GiftSent, Move
from tests.kit_shop import Ledger, OrderPlaced

PLANTED = "Elm-Street-4711"
KEYS = "SELECT subject, key IS NULL, destroyed_at IS NULL FROM fig.personal_key ORDER BY subject"


@dataclass
class Crm(Stock):
    """A service that keeps customers."""

    processes: list[Service] = field(default_factory=list)

    def other(self) -> Service:
        """Another process of the service: it remembers keys of its own."""
        self.processes.append(Service("stock", database=self.dsn, log=self.log, source="/shop/stock"))
        return self.processes[-1]


@pytest.fixture
async def crm(stock: Stock) -> AsyncIterator[Crm]:
    """A service that keeps customers."""
    for topic in ("events.crm", "commands.crm"):
        await stock.log.create_topic(topic)
    made = Crm(stock.dsn, stock.log)
    yield made
    for each in (made.service, *made.processes):
        await each.close()


async def move(service: Service, customer: int, street: str | None = PLANTED, born: date | None = None) -> None:
    async def work(tx: Transaction) -> None:
        (await tx.open(Customer, customer)).move(street, born)

    await service.execute(work)


async def street(service: Service, customer: int) -> str | None:
    async def work(tx: Transaction) -> str | None:
        return (await tx.load(Customer, customer)).street

    return await service.execute(work)


def found_in(crm: Crm, text: str) -> list[str]:
    """The tables of ours in which a text is, as text or as bytes."""
    hits = []
    with psycopg.connect(crm.dsn, autocommit=True) as conn:
        tables = "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        for schema, table in conn.execute(f"{tables} WHERE n.nspname = 'fig' AND relkind IN ('r', 'p')").fetchall():
            counted = "SELECT count(*) FROM {} AS t WHERE t::text ~ %s"
            query = sql.SQL(counted).format(sql.Identifier(schema, table))
            if conn.execute(query, (f"{text}|{text.encode().hex()}",)).fetchone() != (0,):
                hits.append(table)
    return hits


async def relayed(crm: Crm) -> list[log.Record]:
    """All that the service has said, on the log."""
    running = tasks.spawn(crm.other().run(), name="relay")
    try:

        async def empty() -> bool:
            return crm.rows("SELECT count(*) FROM fig.outbox") == [(0,)]

        await clock.until(empty, timeout=20, what="the outbox to be empty")
    finally:
        await tasks.stop(running)
    return list(await crm.log.read("events.crm", 0, 0))


async def test_it_is_written_sealed_and_read_opened(crm: Crm) -> None:
    await move(crm.service, 7, born=date(1990, 5, 17))
    await move(crm.service, 7)
    assert crm.rows(KEYS) == [("7", False, True)]
    assert crm.rows("SELECT octet_length(key) FROM fig.personal_key") == [(32,)]
    assert found_in(crm, PLANTED) == found_in(crm, "1990-05-17") == []
    sealed = "SELECT count(*) FROM {} WHERE data ->> 'street' LIKE 'fig:sealed:1:%'"
    assert crm.rows(sealed.format("fig.outbox")) == crm.rows(sealed.format("fig.stream_event")) == [(2,)]
    for service in (crm.service, crm.other()):
        assert await street(service, 7) == PLANTED


async def test_after_destruction_nothing_of_it_is_left(crm: Crm) -> None:
    """Streams long enough for snapshots, parked events, answers to commands: all that the kit keeps."""

    @crm.service.on(Move, subscription="moves")
    async def on_move(command: Move, tx: Transaction) -> None:
        (await tx.open(Customer, command.customer_id)).move(command.street)

    @crm.service.on(CustomerMoved)
    async def on_moved(event: CustomerMoved, tx: Transaction) -> None:
        assert event.street is None, f"nobody lives in {event.street}"
        tx.send(OrderPlaced(event.customer_id, 1))

    for number in range(120):
        await move(crm.service, 7, f"{PLANTED} {number}")
    await move(crm.service, 8, "Oak Lane 1")
    before = await relayed(crm)
    moves, moved = crm.service.consumers()
    await moved.begin()
    await moved.handle(before[-2:])
    assert [each["error"] for each in await parked(crm)] == [
        f"AssertionError, in on_moved (line {on_moved.__code__.co_firstlineno + 2} of test_kit_personal.py)"
    ] * 2
    await crm.placed(Move(7, PLANTED))
    await moves.begin()
    await moves.handle(await crm.log.read("commands.crm", 0, 0))
    assert crm.rows("SELECT count(*) FROM fig.reply") == [(1,)]
    assert crm.rows("SELECT count(*) FROM fig.snapshot") == [(0,)]
    assert found_in(crm, PLANTED) == [], "not even before"
    assert await street(crm.service, 7) == PLANTED

    key = crm.rows("SELECT encode(key, 'hex') FROM fig.personal_key WHERE subject = '7'")[0][0]
    await crm.service.destroy_key(7)
    assert crm.rows(KEYS) == [("7", True, False), ("8", False, True)]
    assert found_in(crm, PLANTED) == found_in(crm, key) == []
    assert await street(crm.service, 7) is None and await street(crm.service, 8) == "Oak Lane 1"
    records = await relayed(crm)
    assert len(records) == 122 and not any(PLANTED.encode() in each.event.data for each in records)


async def parked(crm: Crm) -> list[dict[str, Any]]:
    async with crm.service.session() as conn:
        return await operating.parked(conn)


async def test_first_uses_at_once_end_with_one_key(crm: Crm) -> None:
    processes = [crm.other() for _ in range(4)]

    async def give(tx: Transaction) -> None:
        tx.send(GiftSent("g", 1, "2", "hello", ["Elm"]))
        tx.send(GiftSent("h", 2, "1", "hello", ["Elm"]))

    await asyncio.gather(*(each.execute(give) for each in processes for _ in range(8)))
    assert crm.rows(KEYS) == [("1", False, True), ("2", False, True)]
    events = [decode(GiftSent, each.event, await opening(crm)) for each in await relayed(crm)]
    assert len(events) == 64 and {(each.words, *(each.to or ())) for each in events} == {("hello", "Elm")}


async def opening(crm: Crm) -> Any:
    async with crm.service.session() as conn:
        return await KeyStore().of_ids(conn, [str(id) for (id,) in crm.rows("SELECT id FROM fig.personal_key")])


async def test_a_key_made_meanwhile_is_waited_for(crm: Crm) -> None:
    """And of a transaction that is undone nothing is used."""
    for done in ("COMMIT", "ROLLBACK"):
        subject = 100 + len(done)
        with psycopg.connect(crm.dsn) as conn:
            conn.execute("INSERT INTO fig.personal_key (subject) VALUES (%s)", (str(subject),))
            moving = tasks.spawn(move(crm.service, subject), name="waits")

            async def waits() -> bool:
                return bool(crm.rows("SELECT 1 FROM pg_locks WHERE NOT granted"))

            await clock.until(waits, timeout=20, what="it to wait")
            conn.execute(done)
            await moving
        assert await street(crm.other(), subject) == PLANTED
    assert len(crm.rows(KEYS)) == 2


async def test_a_key_of_what_was_undone_is_not_remembered(crm: Crm) -> None:
    async def work(tx: Transaction) -> None:
        (await tx.open(Customer, 7)).move(PLANTED)
        tx.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(psycopg.errors.UndefinedTable):
        await crm.service.execute(work)
    assert crm.rows(KEYS) == []
    await move(crm.service, 7)
    assert await street(crm.service, 7) == await street(crm.other(), 7) == PLANTED


async def test_who_writes_of_one_that_was_destroyed_is_refused(crm: Crm) -> None:
    async def work(tx: Transaction) -> str:
        (await tx.open(Customer, 7)).move(PLANTED)
        return "moved"

    assert await crm.service.execute(work, key="k") == "moved"
    reader = crm.other()
    assert await street(reader, 7) == PLANTED
    await crm.service.destroy_key("7")
    await crm.service.destroy_key(7)
    for service in (crm.service, reader):
        with pytest.raises(Destroyed, match="personal data of '7' were to be written") as caught:
            await service.execute(work)
        assert (caught.value.code, caught.value.context) == ("personal_key_destroyed", {"subject": "7"})
    assert await crm.service.execute(work, key="k") == "moved", "that was answered before"
    await move(crm.service, 7, None)
    assert crm.rows("SELECT count(*) FROM fig.stream_event") == crm.rows("SELECT count(*) FROM fig.outbox") == [(2,)]
    assert await street(crm.service, 7) is None
    await crm.service.destroy_key(9)
    with pytest.raises(Destroyed):
        await move(crm.service, 9)


async def test_a_handler_destroys_with_what_it_writes(crm: Crm) -> None:
    await move(crm.service, 7)

    async def erase(tx: Transaction, *, fails: bool) -> None:
        tx.destroy_key(7)
        tx.send(OrderPlaced(7, 0))
        tx.execute("INSERT INTO nowhere VALUES (1)" if fails else "DELETE FROM stock_level WHERE item_id = 7")

    with pytest.raises(psycopg.errors.UndefinedTable):
        await crm.service.execute(lambda tx: erase(tx, fails=True))
    assert await street(crm.service, 7) == PLANTED
    await crm.service.execute(lambda tx: erase(tx, fails=False))
    assert await street(crm.other(), 7) is None


PROCESS = """
import asyncio, sys
from stranglerfig.kit import Service
from tests.integration.kit.test_kit_personal import street

async def main():
    service = Service("stock", database=sys.argv[1])
    for _ in sys.stdin:
        print(await street(service, 7), flush=True)

asyncio.run(main())
"""


async def test_another_process_forgets_within_its_time(crm: Crm) -> None:
    await move(crm.service, 7)
    script = PROCESS.replace(
        "async def main", "from stranglerfig.kit import keys\nkeys.REMEMBERED = 4.0\n\nasync def main"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, crm.dsn, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None

    async def asked() -> str:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"\n")
        return (await process.stdout.readline()).decode().strip()

    try:
        assert await asked() == PLANTED
        at = clock.monotonic()
        await crm.service.destroy_key(7)
        said = await asked()
        if clock.monotonic() - at < 3:
            assert said == PLANTED, "it remembers the key"

        async def forgotten() -> bool:
            return await asked() == "None"

        await clock.until(forgotten, timeout=20, what="the key to be forgotten")
    finally:
        process.stdin.close()
        await process.wait()


async def test_keys_are_remembered_and_not_for_ever(crm: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(keys, "MOST", 3)
    asked: list[list[str]] = []
    fetch = postgres.fetch

    async def counted(conn: Any, query: str, params: Any = None) -> Any:
        asked.append(sorted(params["ids"]))
        return await fetch(conn, query, params)

    crm.rows("INSERT INTO fig.personal_key (subject) SELECT i::text FROM generate_series(1, 4) AS i")
    a, b, c, d = sorted(str(id) for (id,) in crm.rows("SELECT id FROM fig.personal_key"))
    nobody = "00000000-0000-4000-8000-000000000000"
    store = KeyStore()
    async with crm.service.session() as conn:
        monkeypatch.setattr(postgres, "fetch", counted)
        assert set(await store.of_ids(conn, [a, nobody])) == {a}
        assert set(await store.of_ids(conn, [a, nobody])) == {a}
        assert asked == [[nobody, a]]
        now[0] += keys.REMEMBERED - 0.01
        assert set(await store.of_ids(conn, [a, b])) == {a, b} and asked[1:] == [[b]]
        now[0] += 0.02
        assert set(await store.of_ids(conn, [a, b])) == {a, b} and asked[2:] == [[a]]
        assert set(await store.of_ids(conn, [a, b, c, d])) == {a, b, c, d} and asked[3:] == [[c, d]]
        await store.of_ids(conn, [b])
        assert asked[4:] == [[b]], "three are remembered, the last ones"


async def test_what_was_moved_does_not_open(crm: Crm) -> None:
    for customer in (7, 8):
        await move(crm.service, customer)
    crm.rows(
        "UPDATE fig.stream_event SET data = (SELECT jsonb_set(data::jsonb, '{customer_id}', '8') FROM fig.stream_event"
        " WHERE stream = 'customer-7') WHERE stream = 'customer-8'"
    )
    assert await street(crm.service, 7) == PLANTED
    with pytest.raises(FigError, match="was changed, or belongs to another event"):
        await street(crm.service, 8)


async def test_events_and_snapshots_of_before_are_read_and_the_snapshots_go(crm: Crm) -> None:
    kind = kind_of(CustomerMoved)
    old = f"'customer-7', 1, '{kind.type}', 'fig:schemas/{kind.type}/1', '{{\"who\": 7, \"road\": \"Old Road 1\"}}'"
    crm.rows(f"INSERT INTO fig.stream_event (stream, version, type, dataschema, data) VALUES ({old})")
    crm.rows(f"INSERT INTO fig.snapshot VALUES ('customer-7', 1, 'x', '{{\"street\": \"{PLANTED}\"}}')")
    assert await street(crm.service, 7) == "Old Road 1"
    await move(crm.service, 7, "New Road 2")
    assert await street(crm.service, 7) == "New Road 2"
    assert crm.rows("SELECT count(*) FROM fig.snapshot") == [(0,)]
    await crm.service.destroy_key(7)
    assert found_in(crm, "Old Road 1") == ["stream_event"], "what was written plain is plain: the docs say so"
    assert found_in(crm, "New Road 2") == []


async def test_consumers_and_projections_open_and_then_read_none(crm: Crm) -> None:
    seen: list[str | None] = []

    @crm.service.on(CustomerMoved)
    async def on_moved(event: CustomerMoved, tx: Transaction) -> None:
        seen.append(event.street)

    crm.service.projection(Card)
    for customer in (7, 8):
        await move(crm.service, customer)
    records = await relayed(crm)
    await crm.service.destroy_key(8)
    (consumer,), (projector,) = crm.service.consumers(), crm.service.projectors()
    await consumer.begin()
    await consumer.handle(records)
    assert seen == [PLANTED, None]
    await built(crm, projector)
    assert crm.rows("SELECT * FROM card ORDER BY 1") == [(7, PLANTED, 1), (8, None, 1)]


async def built(crm: Crm, projector: Projector) -> None:
    running = tasks.spawn(projector.run(), name="projector")
    try:

        async def serves() -> bool:
            return bool(crm.rows("SELECT 1 FROM fig.projection WHERE state = 'serving'"))

        await clock.until(serves, timeout=20, what="the projection")
    finally:
        await tasks.stop(running)


async def test_a_service_without_the_keys_reads_none(crm: Crm) -> None:
    """Also where it has a key of its own for a subject of that name."""
    await move(crm.service, 7)
    records = await relayed(crm)
    theirs = Stock(conninfo.make_conninfo(crm.dsn, dbname=await _database(crm)), crm.log)
    await theirs.service.migrate()
    await move(theirs.service, 7, "Another 7")
    seen: list[tuple[int, str | None]] = []

    @theirs.service.on(CustomerMoved)
    async def on_moved(event: CustomerMoved, tx: Transaction) -> None:
        seen.append((event.customer_id, event.street))

    (consumer,) = theirs.service.consumers()
    await consumer.begin()
    await consumer.handle(records)
    assert seen == [(7, None)] and theirs.rows("SELECT count(*) FROM fig.dead_letter") == [(0,)]
    await theirs.service.close()


async def _database(crm: Crm) -> str:
    name = f"t_{ids.nonce()}"
    crm.rows(f"CREATE DATABASE {name}")
    return name


async def test_what_cannot_be_written_is_the_events_fault_alone(crm: Crm) -> None:
    """One about somebody who was forgotten is parked with that reason; the others of its batch are handled."""

    @crm.service.on(OrderPlaced)
    async def on_placed(event: OrderPlaced, tx: Transaction) -> None:
        (await tx.open(Customer, event.item_id)).move(PLANTED if event.quantity < 9 else "ä" * limit)

    limit = crm.log.capabilities.max_event_bytes
    await crm.service.destroy_key(7)
    await crm.placed(OrderPlaced(6, 1), OrderPlaced(7, 1), OrderPlaced(8, 9), OrderPlaced(9, 1))
    await crm.consumed()
    assert crm.rows("SELECT stream FROM fig.stream_event ORDER BY 1") == [("customer-6",), ("customer-9",)]
    assert [(each["key"], each["error"].rpartition("[")[2]) for each in await parked(crm)] == [
        ("7", "personal_key_destroyed]"),
        ("8", "event_too_large]"),
    ]
    assert found_in(crm, PLANTED) == []


async def test_a_parked_event_is_opened_when_it_is_tried_again(crm: Crm) -> None:
    await move(crm.service, 7)
    records = await relayed(crm)
    seen: list[str | None] = []

    @crm.service.on(CustomerMoved)
    async def on_moved(event: CustomerMoved, tx: Transaction) -> None:
        seen.append(event.street)
        if len(seen) < 4:
            raise ValueError(event.street)

    (consumer,) = crm.service.consumers()
    await consumer.begin()
    await consumer.handle(records)
    (letter,) = await parked(crm)
    assert found_in(crm, PLANTED) == []
    async with crm.service.session() as conn:
        await operating.retry(conn, letter["id"])
    running = tasks.spawn(consumer.run(), name="consumer")
    try:

        async def handled() -> bool:
            return not await parked(crm)

        await clock.until(handled, timeout=20, what="the letter to be handled")
    finally:
        await tasks.stop(running)
    assert seen == [PLANTED] * len(seen)


async def test_services_without_personal_fields_pay_nothing(crm: Crm) -> None:
    """Neither a statement nor an import."""
    crm.rows("DROP TABLE fig.personal_key")

    async def work(tx: Transaction) -> None:
        (await tx.open(Ledger, 5)).enter(2)

    await crm.service.execute(work)
    await crm.service.execute(work)
    code = "import sys, stranglerfig.kit, stranglerfig.kit.testing; print('cryptography' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0] == b"False\n"


async def test_an_event_from_the_harness_is_handled_as_it_is(crm: Crm) -> None:
    seen: list[str | None] = []

    @crm.service.on(CustomerMoved)
    async def on_moved(event: CustomerMoved, tx: Transaction) -> None:
        seen.append(event.street)

    made = event_of(CustomerMoved(7, PLANTED), source="/crm")
    await crm.log.append("events.crm", [made])
    (consumer,) = crm.service.consumers()
    await consumer.begin()
    await consumer.handle(await crm.log.read("events.crm", 0, 0))
    assert seen == [PLANTED] and crm.rows(KEYS) == []


async def test_the_how_to_does_what_it_says(crm: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[3] / "docs/how-to/personal-data.md"
    (code,) = re.findall(r"^```python file=\S+\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("CRM_DSN", crm.dsn)
    told = types.ModuleType("customers")
    monkeypatch.setitem(sys.modules, "customers", told)
    exec(compile(code, "customers.py", "exec"), told.__dict__)
    crm.processes.append(told.service)
    crm.rows("CREATE TABLE newsletter AS SELECT 7 AS customer_id")

    async def moved(tx: Transaction) -> None:
        (await tx.open(told.Customer, 7)).move(PLANTED)

    await told.service.execute(moved)
    assert await street(told.service, 7) == PLANTED
    await crm.log.append("events.crm", [event_of(told.CustomerErased(7), source="/crm")])
    (consumer,) = told.service.consumers()
    await consumer.begin()
    await consumer.handle(await crm.log.read("events.crm", 0, 0))
    assert await street(crm.service, 7) is None and crm.rows("SELECT * FROM newsletter") == found_in(crm, PLANTED) == []
