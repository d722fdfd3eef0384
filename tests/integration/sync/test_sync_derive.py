"""Events derived from changes: in order, once, opening balances from a snapshot; refused where values are not sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import psycopg
import sync_scenario as s

from stranglerfig.changes import frames
from stranglerfig.changes.mapping import Mapping
from stranglerfig.changes.model import UNCHANGED, Barrier, Change, Transaction
from stranglerfig.changes.settings import DerivedEvent
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import clock, ids, tasks
from stranglerfig.sync import derive
from tests.conftest import Server

LEVEL = DerivedEvent.model_validate(
    {
        "event": "inventory.InventoryLevelChanged",
        "on": {"table": "public.inventory", "when": "new.quantity is distinct from old.quantity"},
        "key": "new.item_id",
        "data": {"item_id": "new.item_id", "on_hand": "new.quantity", "was": "old.quantity"},
    }
)
PLAIN = DerivedEvent.model_validate(
    {
        "event": "inventory.ItemSeen",
        "on": {"table": "public.inventory"},
        "key": "new.item_id",
        "data": {"item_id": "new.item_id", "name": "new.name"},
    }
)
GONE = DerivedEvent.model_validate(
    {
        "event": "inventory.ItemGone",
        "on": {"table": "public.inventory", "op": ["d"]},
        "key": "old.item_id",
        "data": {"sku": "old.sku"},
    }
)


def flow_and_job(dsn: str, *rules: DerivedEvent) -> tuple[s.Flow, derive.DeriveJob]:
    flow = s.Flow(Mapping((), (), {}, {}, {}), dsn)
    return flow, derive.DeriveJob("inventory", flow.job.topic, "events.inventory", rules, dsn, "/shop/inventory")


@asynccontextmanager
async def running(flow: s.Flow, job: derive.DeriveJob) -> AsyncIterator[None]:
    task = tasks.spawn(derive.run(job, flow.log, flow.report), name="test derive")
    try:
        yield
    finally:
        await tasks.stop(task)


async def events(flow: s.Flow, count: int) -> list[tuple[str, str, Any]]:
    async def there() -> bool:
        if flow.reports and flow.reports[-1]["state"] == "stopped":
            raise AssertionError(flow.reports[-1]["error"])
        topic = await flow.log.topic("events.inventory")
        return topic is not None and topic.next_positions[0] >= count

    await clock.until(there, timeout=10, what=f"{count} events")
    records = await flow.log.read("events.inventory", 0, 0)
    return [(r.event.id, str(r.event.partitionkey), json.loads(r.event.data)) for r in records]


async def test_events_in_order_and_once(postgres: Server) -> None:
    flow, job = flow_and_job(postgres.database(), LEVEL, GONE)
    await flow.snapshot((s.INVENTORY, [s.item(1, 5), s.item(2, 6)]))
    await flow.stream(
        [
            s.update(s.INVENTORY, s.item(1, 9), s.item(1, 5)),
            s.update(s.INVENTORY, s.item(1, 9, name="other"), s.item(1, 9)),
            s.create(s.RESERVATIONS, ("1", "1", None, "1", "f", s.NOON)),
            s.create(s.INVENTORY, s.item(3, 1)),
        ],
        [s.delete(s.INVENTORY, s.item(3, 1))],
    )
    async with running(flow, job):
        found = await events(flow, 5)
    level = "inventory.InventoryLevelChanged"
    assert found == [
        (f"1000-1-1-{level}", "1", {"item_id": 1, "on_hand": 5, "was": None}),
        (f"1000-1-2-{level}", "2", {"item_id": 2, "on_hand": 6, "was": None}),
        (f"1010-1-{level}", "1", {"item_id": 1, "on_hand": 9, "was": 5}),
        (f"1010-4-{level}", "3", {"item_id": 3, "on_hand": 1, "was": None}),
        ("1020-1-inventory.ItemGone", "3", {"sku": "S3"}),
    ]
    # died after appending, before it was remembered
    await s.run_sql(job.scratch_dsn, "UPDATE fig.derived SET log_position = 0, lsn = 0, ordinal = 0, generation = 0")
    async with running(flow, job):
        await flow.stream([s.update(s.INVENTORY, s.item(2, 7), s.item(2, 6))])
        again = await events(flow, 6)
    assert again[:5] == found and again[5][2] == {"item_id": 2, "on_hand": 7, "was": 6}


async def test_a_position_as_wide_as_kinesis_has_them_can_be_reported(postgres: Server) -> None:
    flow, job = flow_and_job(postgres.database(), LEVEL)
    await flow.snapshot((s.INVENTORY, [s.item(1, 5)]))
    async with running(flow, job):
        await events(flow, 1)
    await s.run_sql(job.scratch_dsn, f"UPDATE fig.derived SET log_position = {2**120}")
    flow.reports.clear()

    async def reported() -> bool:
        return bool(flow.reports)

    async with running(flow, job):
        await clock.until(reported, timeout=10, what="a report")
    assert orjson.loads(orjson.dumps(flow.reports[-1]))["position"] == str(2**120)


async def test_partitions_keep_the_order_over_a_barrier(postgres: Server) -> None:
    """What is alone is derived after all before it and before all after it, in whichever partition."""
    dsn = postgres.database()
    flow, first = flow_and_job(dsn, LEVEL)
    second = replace(first, partition=1)
    await flow.log.create_topic(flow.job.topic, partitions=2)

    async def put(partition: int, *items: Transaction | Barrier) -> None:
        for item in items:
            kind, data = (
                (frames.BARRIER, frames.encode_barrier(item))
                if isinstance(item, Barrier)
                else (frames.STREAM, frames.encode([item]))
            )
            event = Event(ids.new_id(), "/t", "fig.changes", clock.now(), data, kind)
            await flow.log.append(flow.job.topic, [event], partition=partition)

    def made(lsn: int, quantity: int) -> Transaction:
        return Transaction(lsn, 1, lsn, 1, (s.update(s.INVENTORY, s.item(1, quantity), s.item(1, quantity - 1)),))

    opens, closes = Barrier(20, 0, 2), Barrier(20, 1, 2, closes=True)
    await put(0, opens, made(20, 2), made(40, 4))
    async with running(flow, first):
        # The first partition's worker waits for the other one, which nobody works on yet.
        await clock.until(lambda: _place(dsn), timeout=10, what="the derivation to begin")
        await put(1, made(10, 1), opens, closes, made(30, 3))
        assert (await flow.log.topic("events.inventory")) is not None
        async with running(flow, second):
            found = await events(flow, 4)
    level = "inventory.InventoryLevelChanged"
    assert [one[0] for one in found][:2] == [f"10.1-1-{level}", f"20-1-{level}"]
    assert {one[0] for one in found} == {f"{lsn}-1-{level}" for lsn in ("10.1", "20", "30.1", "40")}
    # Died after appending: what it derives again has the ids that it had, and nobody is passed.
    await s.run_sql(dsn, "UPDATE fig.derived SET log_position = 0, lsn = 0, ordinal = 0")
    async with running(flow, second), running(flow, first):
        await put(1, made(50, 5))
        assert len(await events(flow, 5)) == 5


async def _place(dsn: str) -> bool:
    try:
        return bool(await s.rows(dsn, "SELECT true FROM fig.derived"))
    except psycopg.Error:
        return False


async def test_an_event_is_of_the_trace_of_its_change(postgres: Server) -> None:
    flow, job = flow_and_job(postgres.database(), LEVEL)
    changed = (s.update(s.INVENTORY, s.item(1, 9), s.item(1, 5)),)
    await flow.transactions(Transaction(50, 1, 1, 1, changed, trace="00-a"), Transaction(60, 2, 1, 1, changed))
    async with running(flow, job):
        await events(flow, 2)
    records = await flow.log.read("events.inventory", 0, 0)
    assert [record.event.traceparent for record in records] == ["00-a", None]


async def test_values_that_are_not_sent(postgres: Server) -> None:
    flow, job = flow_and_job(postgres.database(), LEVEL)
    await flow.stream([s.update(s.INVENTORY, s.item(1, 9))])
    async with running(flow, job):
        assert (await flow.stopped())["code"] == "derive_needs_full_identity"


async def test_a_large_value_that_did_not_change(postgres: Server) -> None:
    flow, job = flow_and_job(postgres.database(), PLAIN)
    toasted = ("1", "S1", UNCHANGED, "8", "0", "1", s.NOON)
    async with running(flow, job):
        await flow.stream([Change("u", s.INVENTORY, s.item(1, name="long"), toasted)])
        assert (await events(flow, 1))[0][2] == {"item_id": 1, "name": "long"}
        await flow.stream([s.update(s.INVENTORY, toasted)])
        assert (await flow.stopped())["code"] == "derive_needs_full_identity"


async def test_a_rule_that_is_wrong(postgres: Server) -> None:
    wrong = LEVEL.model_copy(update={"key": "new.nothing"})
    flow, job = flow_and_job(postgres.database(), wrong)
    async with running(flow, job):
        await asyncio.sleep(0)  # the topic is not there yet
        await flow.stream([s.create(s.INVENTORY, s.item(1, 9))])
        error = await flow.stopped()
        assert error["code"] == "derive_failed" and "new.nothing" in error["message"]
