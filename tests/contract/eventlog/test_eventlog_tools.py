"""What ``fig events`` does with a log, on every backend: measured, exported, copied, followed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from pyarrow import parquet

from stranglerfig.cli.events.export import to_file
from stranglerfig.cli.events.replay import to_topic
from stranglerfig.eventlog.choosing.measure import PREFIX, measure
from stranglerfig.eventlog.choosing.model import Ask, Outcome
from stranglerfig.eventlog.choosing.survival import survives
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.windows import Filter, Window, tailed, where
from stranglerfig.foundation import clock
from tests.contract.eventlog.backends import Backend

TIME = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)


async def test_a_log_is_measured_and_nothing_stays(log: Any) -> None:
    found = await measure(log, Ask(size=200, rate=100, seconds=2), lambda _: None)
    # How much of it a busy machine sends in the time is not the contract; that all of it is read, is.
    assert 0 < found.latency.sent <= found.latency.asked == 100 and found.latency.unseen == 0
    assert found.latency.p99 is not None and all(one.per_second > 0 for one in found.throughput)
    trials = (found.ordering, found.replay_position, found.replay_time, found.largest)
    assert all(trial.outcome in (Outcome.HELD, Outcome.NOT_TESTED) for trial in trials), trials
    assert not [topic for topic in await log.topics() if topic.name.startswith(PREFIX)]


async def test_what_is_acknowledged_survives_kills(serve: Callable[..., Backend]) -> None:
    with ExitStack() as own:
        server = serve("postgres", own=own)
        assert server.kill is not None
        assert server.start is not None
        found = await survives(server.open, kill=server.kill, start=server.start, size=50, say=lambda _: None)
    assert found.outcome is Outcome.HELD, found


def event(number: int) -> Event:
    data = orjson.dumps({"item_id": number % 5, "qty": number})
    return Event(f"e{number}", "/shop", "inventory.Counted", TIME, data, partitionkey=str(number % 5))


async def test_a_part_is_exported_copied_and_followed(log: Any, name: Callable[[str], str], tmp_path: Path) -> None:
    source, copy = name("source"), name("copy")
    await log.create_topic(source, partitions=2)
    await log.append(source, [event(number) for number in range(60)])
    middle = clock.now()

    async def past() -> bool:  # a server's clock may have milliseconds only
        return (clock.now() - middle).total_seconds() > 0.01

    await clock.until(past, timeout=1, what="the clock")
    await log.append(source, [event(number) for number in range(60, 100)])
    topic = await log.topic(source)
    of_three = Filter(wheres=(where("item_id=3"),))

    lines = tmp_path / "all.jsonl"
    assert await to_file(log, topic, Window(), Filter(), lines, form="jsonl") == 100
    by_key: dict[str, list[int]] = {}
    for line in map(orjson.loads, lines.read_text().splitlines()):
        by_key.setdefault(line["partitionkey"], []).append(line["data"]["qty"])
    assert by_key == {str(key): list(range(key, 100, 5)) for key in range(5)}

    table = tmp_path / "three.parquet"
    assert await to_file(log, topic, Window(until=middle), of_three, table, form="parquet", flatten=True) == 12
    assert [row["data.qty"] for row in parquet.read_table(table).to_pylist()] == list(range(3, 60, 5))

    assert await to_topic(log, topic, Window(), of_three, copy) == 20
    copied = await log.topic(copy)
    assert copied.partitions == 2
    seen = [record async for record in tailed(log, copied, Window(), last=100, follow=False)]
    assert [orjson.loads(record.event.data)["qty"] for record in seen] == list(range(3, 100, 5))
    assert {(record.event.type, record.event.time) for record in seen} == {("inventory.Counted", TIME)}
    await log.delete_topic(copy)
