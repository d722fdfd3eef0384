"""Rows and derived events of several partitions in one process, as ``fig run sync`` has them."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

from sync_scenario import rows, run_sql
from test_sync_partitions import estate

from stranglerfig.changes.settings import DerivedEvent
from stranglerfig.foundation import clock, tasks
from stranglerfig.runtime.partitions import Partitions
from stranglerfig.sync.derive import DeriveJob
from tests.conftest import Server

LEVEL = DerivedEvent.model_validate(
    {
        "event": "inventory.InventoryLevelChanged",
        "on": {"table": "public.inventory"},
        "key": "new.item_id",
        "data": {"on_hand": "new.quantity"},
    }
)


async def test_every_change_has_its_event_once_and_in_order(postgres: Server, postgres_b: Server) -> None:
    async with estate(postgres, postgres_b) as made, AsyncExitStack() as stack:
        await run_sql(
            made.source,
            "INSERT INTO inventory SELECT n, 's' || n, 'thing', 0, 0, 1, now() FROM generate_series(1, 20) n",
        )
        facts = DeriveJob("inventory", made.topic, "events.inventory", (LEVEL,), made.target, "/shop/inventory")
        said: dict[int, dict[str, Any]] = {}

        async def report(told: dict[str, Any]) -> None:
            said[told["partition"]] = told

        partitions = Partitions(made.sync_job, facts, made.log, made.log, report)
        partitions.count = lambda: 3
        made.capture(3)
        await clock.until(made.streaming, timeout=20, what="the stream to begin")
        for number in range(3):
            stack.push_async_callback(tasks.stop, tasks.spawn(partitions.work(number), name=f"test {number}"))
        for quantity in range(1, 6):
            await run_sql(
                made.source,
                *(f"UPDATE inventory SET quantity = {quantity} WHERE item_id = {item}" for item in range(1, 21)),
                *(["UPDATE inventory SET item_id = 21 WHERE item_id = 20"] if quantity == 5 else []),
            )
        await made.equal()

        async def derived() -> bool:
            topic = await made.log.topic("events.inventory")
            return topic is not None and topic.next_positions[0] >= 20 * 6 + 1

        await clock.until(derived, timeout=20, what="all events")
        found: dict[str, list[int]] = {}
        for record in await made.log.read("events.inventory", 0, 0):
            found.setdefault(str(record.event.partitionkey), []).append(json.loads(record.event.data)["on_hand"])
        assert found == {str(item): list(range(6)) for item in range(1, 21)} | {"21": [5]}

        async def told() -> bool:
            states = {n: (each["partitions"], each["derive"].get("state")) for n, each in said.items()}
            return states == {n: (3, "deriving") for n in range(3)}

        await clock.until(told, timeout=10, what="every partition to say that it derives")
        topic = await made.log.topic(made.topic)
        assert topic is not None
        everything = list(topic.next_positions)

        async def passed() -> bool:
            ends = await rows(made.target, "SELECT log_position FROM fig.derived ORDER BY partition")
            return [int(end) for (end,) in ends] == everything

        # What a cut-over waits for: no partition is behind in deriving.
        await clock.until(passed, timeout=10, what="every partition to be derived to its end")
