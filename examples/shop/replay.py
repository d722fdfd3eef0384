"""Stock levels replayed from the log alone, held against the service's table: the log is the source of truth."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from typing import Any

import orjson
import psycopg

from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.model import Capability
from stranglerfig.eventlog.ports import EventLog

TOPIC = "events.inventory"


async def levels(log: EventLog, topic: str = TOPIC) -> tuple[dict[int, tuple[int, int]], Counter[str]]:
    """Per item (on hand, reserved) after the last event that names it; and how many events of each type there were.

    An event that a log without idempotent appends has twice counts where it stands first.
    """
    twice = Capability.IDEMPOTENT_APPEND not in log.capabilities.has
    seen: set[str] = set()
    found: dict[int, tuple[int, int]] = {}
    types: Counter[str] = Counter()
    described = await log.topic(topic)
    if described is None:
        return found, types
    for partition in range(described.partitions):
        position = 0
        while batch := await log.read(topic, partition, position, max_records=5000):
            for record in batch:
                if twice:
                    if record.event.id in seen:
                        continue
                    seen.add(record.event.id)
                types[record.event.type] += 1
                fact = orjson.loads(record.event.data)
                if "item_id" in fact and "on_hand" in fact:
                    item = int(fact["item_id"])
                    _, reserved = found.get(item, (0, 0))
                    found[item] = (int(fact["on_hand"]), int(fact.get("reserved", reserved)))
            position = batch[-1].position + 1
    return found, types


async def compare(log: EventLog, service_dsn: str, topic: str = TOPIC) -> dict[str, Any]:
    """``items``, ``events`` (by type), ``differences`` and ``examples``: the replay against ``stock_level``."""
    replayed, types = await levels(log, topic)
    async with await psycopg.AsyncConnection.connect(service_dsn) as conn:
        cursor = await conn.execute("SELECT item_id, on_hand, reserved FROM stock_level")
        table = {item: (on_hand, reserved) for item, on_hand, reserved in await cursor.fetchall()}
    wrong = sorted(item for item in table.keys() | replayed.keys() if table.get(item) != replayed.get(item))
    return {
        "items": len(table),
        "events": dict(types),
        "differences": len(wrong),
        "examples": [{"item_id": i, "table": table.get(i), "replayed": replayed.get(i)} for i in wrong[:20]],
    }


async def main() -> int:
    """``python -m examples.shop.replay --log URL --service DSN``."""
    parser = argparse.ArgumentParser(prog="examples.shop.replay", description=__doc__)
    parser.add_argument("--log", required=True, help="the event log's address")
    parser.add_argument("--groups", help="database of the consumer groups, for a log that keeps none")
    parser.add_argument("--service", required=True, help="the service's database")
    args = parser.parse_args()
    log = open_log(args.log, state=args.groups)
    try:
        result = await compare(log, args.service)
    finally:
        await log.close()
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 1 if result["differences"] else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
