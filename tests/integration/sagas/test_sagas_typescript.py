"""A saga with a participant in another language: the example's service in TypeScript, on real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from examples.servers import fetch
from examples.servers.kafka import Kafka
from examples.servers.process import Child
from stranglerfig.eventlog import model as log
from stranglerfig.eventlog.kafka import KafkaLog
from stranglerfig.foundation import clock, ids, tasks
from stranglerfig.kit import Command, Event, Refused, Service
from stranglerfig.kit.messages import data_of, kind_of
from stranglerfig.kit.testing import event_of
from stranglerfig.sagas import Retry, Saga, call, step
from stranglerfig.sagas.running import Sagas
from tests.conftest import Server, required

pytestmark = pytest.mark.timeout(300)  # what comes first installs and builds
EXAMPLE = Path(__file__).parents[3] / "examples" / "typescript"
TOPICS = ("events.orders", "events.shipping", "commands.shipping")
PARTITIONS = 3
ROOM = 30


class OrderPlaced(Event, type="orders.OrderPlaced", key="order_id"):
    order_id: int
    country: str
    cents: int


class OrderConfirmed(Event, type="orders.OrderConfirmed", key="order_id"):
    order_id: int


class OrderRejected(Event, type="orders.OrderRejected", key="order_id"):
    order_id: int
    reason: str


class ArrangeShipping(Command, type="shipping.ArrangeShipping", key="order_id"):
    order_id: int
    country: str


class CancelShipping(Command, type="shipping.CancelShipping", key="order_id"):
    order_id: int


class ShippingArranged(Event, type="shipping.ShippingArranged", key="order_id"):
    order_id: int


class ShippingRefused(Event, type="shipping.ShippingRefused", key="order_id"):
    order_id: int
    reason: str


class ShippingCancelled(Event, type="shipping.ShippingCancelled", key="order_id"):
    order_id: int


async def charge(saga: Delivery, key: str) -> None:
    """Outside: a card that is declined now and then."""
    if saga.cents % 7 == 0:
        raise Refused("declined", reason="declined")


class Delivery(
    Saga, type="orders.Delivery", starts=OrderPlaced, completed=OrderConfirmed, compensated=OrderRejected
):  # fmt: skip
    order_id: int
    country: str
    cents: int
    reason: str = ""

    arrange = step(
        ArrangeShipping,
        ok=ShippingArranged,
        fail=ShippingRefused,
        undo=CancelShipping,
        undone=ShippingCancelled,
        timeout="1s",
        retry=Retry(attempts=60, most=2),
        keep=["reason"],
    )
    charge = call(charge, pivot=True)


class Program(NamedTuple):
    """The example, built in a folder of its own, and what it is run in."""

    folder: Path
    environment: dict[str, str]


class Estate:
    """The broker, the saga's service in this process, and shipping in its own."""

    def __init__(self, program: Program, kafka: Kafka, dsn: str, shipping_dsn: str) -> None:
        self.log = KafkaLog(kafka.url)
        self.service = Service("orders", database=dsn, log=self.log)
        Sagas(self.service, [Delivery])
        self.dsn = dsn
        self.shipping_dsn = shipping_dsn
        self.program = program
        self.kafka = kafka
        self.shipping = Child("shipping", kafka.directory / f"{ids.new_id()}.log")
        self.starts = 0

    async def start(self) -> None:
        """Begin shipping, and return when it handles commands."""
        self.shipping.start(
            ["node", "dist/main.js"],
            lambda: True,  # awaited below: what runs in this process goes on meanwhile
            environment={
                **self.program.environment, "SHIPPING_DSN": self.shipping_dsn, "KAFKA": self.kafka.servers,
            },
            cwd=self.program.folder,
        )  # fmt: skip
        self.starts += 1

        async def handles() -> bool:
            return self.shipping.log.read_text().count("handles commands") == self.starts

        await clock.until(handles, timeout=30, what=f"shipping to handle commands, see {self.shipping.log}")

    def rows(self, query: str, *, shipping: bool = False) -> list[Any]:
        with psycopg.connect(self.shipping_dsn if shipping else self.dsn, autocommit=True) as conn:
            done = conn.execute(query.encode())
            return done.fetchall() if done.description else []

    async def killed_when_it_waits(self) -> None:
        """kill -9 while shipping waits for a lock; its sessions end now, not when they have something to tell."""
        waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        await self.until(f"SELECT count(*) {waiting}", 1, shipping=True)
        self.shipping.kill()
        self.rows(f"SELECT pg_terminate_backend(pid) {waiting}", shipping=True)

    @contextmanager
    def held(self, query: str) -> Iterator[psycopg.Connection[Any]]:
        """What a query locks in shipping's database, for as long."""
        with psycopg.connect(self.shipping_dsn) as conn:
            conn.execute(query.encode())
            yield conn

    async def placed(self, *orders: OrderPlaced) -> dict[str, log.Event]:
        """Orders on the log, each in a trace of its own; their events by key."""
        events = [
            event_of(order, source="/shop", traceparent=f"00-{order.order_id:032x}-{order.order_id:016x}-01")
            for order in orders
        ]
        await self.log.append("events.orders", events)
        return {event.partitionkey or "": event for event in events}

    async def records(self, topic: str) -> list[log.Record]:
        """All that is on a topic, each partition's in order."""
        found: list[log.Record] = []
        for partition in range(PARTITIONS):
            position = 0
            while some := await self.log.read(topic, partition, position):
                found += some
                position = some[-1].position + 1
        return found

    async def until(self, query: str, least: int, *, shipping: bool = False) -> None:
        async def reached() -> bool:
            return bool(self.rows(query, shipping=shipping)[0][0] >= least)

        await clock.until(reached, timeout=120, what=f"{query} to be {least}")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Installed from its lock file and built; its own tests pass."""
    folder = tmp_path_factory.mktemp("shipping")
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "dist"), dirs_exist_ok=True)
    try:
        environment = fetch.npm_ci(folder)
    except fetch.Missing as missing:
        required(str(missing))
    for script in ("build", "test"):
        done = subprocess.run(
            ["npm", "run", script], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    return Program(folder, environment)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """What one test leaves on its topics the other passes over, by key."""
    kafka = Kafka(tmp_path_factory.mktemp("kafka"), memory="384m")
    try:
        kafka.start()
    except fetch.Missing as missing:
        required(str(missing))
    yield kafka
    kafka.stop()


@pytest.fixture
async def estate(program: Program, broker: Kafka, postgres: Server, postgres_b: Server) -> AsyncIterator[Estate]:
    made = Estate(program, broker, postgres.database(), postgres_b.database())
    made.rows((EXAMPLE / "schema.sql").read_text(), shipping=True)
    made.rows(f"INSERT INTO carrier VALUES ('DE', {ROOM}), ('FR', {ROOM}), ('AT', 1)", shipping=True)
    for topic in TOPICS:
        await made.log.create_topic(topic, partitions=PARTITIONS)
    await made.service.migrate()
    running = asyncio.create_task(made.service.run())
    await made.start()
    yield made
    made.shipping.stop()
    await tasks.stop(running)
    await made.service.close()
    await made.log.close()


def order(number: int) -> OrderPlaced:
    """Of six orders one goes to where nothing is delivered; of seven one is not paid for."""
    country = "MARS" if number % 6 == 0 else ("DE", "FR")[number % 2]
    return OrderPlaced(number, country, number)


async def test_sagas_end_however_often_a_participant_in_typescript_is_killed(estate: Estate) -> None:
    numbers = range(1, 61)
    with estate.held("SELECT FROM carrier WHERE country = 'FR' FOR UPDATE"):
        placed = await estate.placed(*map(order, numbers[:25]))
        await estate.killed_when_it_waits()  # in the middle of a transaction
    with estate.held("SELECT pg_advisory_lock(hashtext('outbox'))") as turn:
        placed |= await estate.placed(*map(order, numbers[25:50]))
        await estate.start()
        await estate.until("SELECT count(*) FROM outbox WHERE causationid LIKE '%#2'", 1, shipping=True)
        with estate.held("SELECT FROM outbox FOR UPDATE"):
            turn.close()
            await estate.killed_when_it_waits()  # before what is published is deleted
    placed |= await estate.placed(*map(order, numbers[50:]))
    await estate.start()
    await estate.until("SELECT count(*) FROM fig.saga WHERE ended_at IS NOT NULL", 60)

    # Each saga ended as it should have, and what it did or took back happened once.
    refused = {n for n in numbers if n % 6 == 0}
    declined = {n for n in numbers if n % 7 == 0} - refused
    completed = set(numbers) - refused - declined
    ends = {int(key): status for key, status in estate.rows("SELECT key, status FROM fig.saga")}
    assert {n for n, status in ends.items() if status == "completed"} == completed
    assert {n for n, status in ends.items() if status == "compensated"} == refused | declined
    shipments = dict(estate.rows("SELECT order_id, state FROM shipment", shipping=True))
    assert shipments == dict.fromkeys(completed, "arranged") | dict.fromkeys(declined, "cancelled")
    taken = Counter(order(n).country for n in completed)
    left = dict(estate.rows("SELECT country, room FROM carrier WHERE country <> 'AT'", shipping=True))
    assert left == {country: ROOM - taken[country] for country in ("DE", "FR")}
    assert estate.rows("SELECT event, error FROM fig.dead_letter") == []

    # What was said belongs to the order's flow and trace, is where the kit would have put it, and in order.
    home = {record.event.partitionkey: record.partition for record in await estate.records("commands.shipping")}
    answers: dict[str, list[str]] = defaultdict(list)
    records = [each for each in await estate.records("events.shipping") if each.event.partitionkey in placed]
    assert len({record.event.id for record in records}) < len(records), "some were published again"
    for partition, event in [(record.partition, record.event) for record in records]:
        key = event.partitionkey or ""
        assert (event.correlationid, event.traceparent) == (placed[key].id, placed[key].traceparent)
        assert (event.source, event.subject, partition) == ("/shipping", key, home[key])
        assert event.dataschema == f"fig:schemas/{event.type}/1"
        if event.type not in answers[key]:
            answers[key].append(event.type)
    for n in numbers:
        first = ShippingRefused if n in refused else ShippingArranged
        expected = [first, ShippingCancelled] if n in declined else [first]
        assert answers[str(n)] == [kind_of(each).type for each in expected]
    told = {(event := record.event).subject: event for record in await estate.records("events.orders")}
    assert b"nothing is delivered to MARS" in told["6"].data and b"declined" in told["7"].data
    assert told["1"].type == kind_of(OrderConfirmed).type and told["1"].traceparent == placed["1"].traceparent


async def test_a_command_that_comes_again_has_one_effect_and_who_asks_again_is_answered_again(estate: Estate) -> None:
    command = ArrangeShipping(1001, "AT")
    first = event_of(command, source="/shop", correlationid="a flow")._replace(id="some command")
    again = first._replace(id="some command#2")
    full = first._replace(id="another", data=data_of(ArrangeShipping(1002, "AT")))
    await estate.log.append("commands.shipping", [first, first, again, first, full])

    async def answered() -> list[log.Event] | None:
        found = [each.event for each in await estate.records("events.shipping") if each.event.partitionkey == "1001"]
        return found if len(found) == 3 else None

    found = await clock.until(answered, timeout=20, what="three answers")
    assert [(event.type, event.causationid) for event in found] == [
        ("shipping.ShippingArranged", "some command"),
        ("shipping.ShippingArranged", "some command#2"),
        ("shipping.ShippingRefused", "another"),
    ]
    assert len({event.id for event in found}) == 3 and {event.correlationid for event in found} == {"a flow"}
    assert estate.rows("SELECT room FROM carrier WHERE country = 'AT'", shipping=True) == [(0,)]

    process = estate.shipping.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 10) == 0
