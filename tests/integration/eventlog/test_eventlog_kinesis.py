"""What only Kinesis does: throttled shards, resharding, retention in hours; against the stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.servers.kinesis import Kinesis
from stranglerfig.eventlog.kinesis import KinesisLog
from stranglerfig.eventlog.model import Event, Record
from stranglerfig.foundation import clock, ids
from stranglerfig.foundation.errors import FigError
from tests.conftest import Server
from tests.contract.eventlog.backends import reshapes

Served = Callable[..., Any]


def event(data: bytes, key: str | None = None) -> Event:
    return Event(ids.new_id(), "/test", "x.Y", clock.now(), data, partitionkey=key)


@pytest.fixture
def serve(tmp_path: Path, postgres: Server) -> Served:
    @asynccontextmanager
    async def serving(patience: float = 30.0, **settings: Any) -> AsyncIterator[tuple[Kinesis, KinesisLog]]:
        server = Kinesis(tmp_path, **settings)
        await asyncio.to_thread(server.start)
        log = KinesisLog(f"{server.url}&poll=0.05", postgres.database(), patience=patience)
        try:
            await log.migrate()
            yield server, log
        finally:
            await log.close()
            server.stop()

    return serving


async def all_of(log: KinesisLog, topic: str, partition: int = 0) -> list[Record]:
    found: list[Record] = []
    while page := await log.read(topic, partition, found[-1].position + 1 if found else 0):
        found += page
    return found


async def refused(work: Any) -> str:
    with pytest.raises(FigError) as error:
        await work
    return error.value.code


async def test_a_throttled_shard_keeps_the_order_of_each_key(serve: Served) -> None:
    """Every call is refused in part: what was refused goes again before what comes after it in its key."""
    async with serve(records_per_second=40) as (_, log):
        await log.create_topic("t")
        large = 100_000  # three to a record, so that a key has several records on their way
        events = [
            event(f"{number:04}".encode() + bytes(large), key) for number in range(9) for key in map(str, range(30))
        ]
        positions = await log.append("t", events)
        records = await all_of(log, "t")
        assert len(records) == len(set(positions)) == len(events)
        assert {record.position: record.event.id for record in records} == dict(
            zip(positions, (one.id for one in events), strict=True)
        )
        for key in map(str, range(30)):
            numbers = [int(one.event.data[:4]) for one in records if one.event.partitionkey == key]
            assert numbers == list(range(9))


async def test_a_shard_that_takes_nothing_is_reported(serve: Served) -> None:
    async with serve(records_per_second=1, patience=0.3) as (_, log):
        await log.create_topic("t")
        many = [event(b"x", str(number)) for number in range(20)]
        assert await refused(log.append("t", many)) == "log_throttled"


async def test_single_puts_that_are_refused_go_again(serve: Served) -> None:
    async with serve(records_per_second=3) as (_, log):
        await log.create_topic("t")
        positions = [position for number in range(7) for position in await log.append("t", [event(b"%d" % number)])]
        assert positions == sorted(set(positions))
        assert [record.event.data for record in await all_of(log, "t")] == [b"%d" % number for number in range(7)]
        await log.delete_topic("t")
        await log.create_topic("t")  # what was before is of no use to the new one
        assert len(await log.append("t", [event(b"new")])) == 1


async def test_retention_is_in_hours_within_kinesis_bounds(serve: Served) -> None:
    async with serve(hour=0.25) as (_, log):  # a day passes in 6 s
        for seconds in (3600.0, 366 * 86400.0):
            assert await refused(log.create_topic("t", retention_seconds=seconds)) == "log_lacks"
        await log.create_topic("long")
        await log.create_topic("t", retention_seconds=86400.0)
        kept, expiring = await log.topic("long"), await log.topic("t")
        assert kept is not None
        assert expiring is not None
        assert (kept.retention_seconds, expiring.retention_seconds) == (365 * 86400.0, 86400.0)
        [first] = await log.append("t", [event(b"1")])

        async def gone() -> bool:
            return not await all_of(log, "t")

        await clock.until(gone, timeout=60, what="retention")
        [second] = await log.append("t", [event(b"2")])
        log._cursors.clear()  # as a reader that was away
        assert await refused(log.read("t", 0, first + 1)) == "position_expired"
        assert [record.event.data for record in await log.read("t", 0, second)] == [b"2"]
        assert await log.read("t", 0, second + 1) == []


async def test_a_position_that_was_never_given_is_refused(serve: Served) -> None:
    async with serve() as (_, log):
        await log.create_topic("t")
        positions = await log.append("t", [event(b"1"), event(b"2")])
        assert await refused(log.read("t", 0, 5 << 20)) == "position_expired"
        assert await log.read("t", 0, positions[-1] << 1) == []


async def test_partitions_after_a_split_and_a_merge(serve: Served) -> None:
    async with serve() as (server, log):
        await log.create_topic("t", partitions=2)
        await log.append("t", [event(b"before")], partition=0)
        for step in reshapes(server.endpoint):
            await asyncio.to_thread(step, "t")
        # What was known of partition 0 is old by now: where the event lands instead is noticed.
        assert await refused(log.append("t", [event(b"astray")], partition=0)) == "shard_closed"
        assert await refused(log.append("t", [event(b"never")], partition=0)) == "shard_closed"
        [position] = await log.append("t", [event(b"after")], partition=6)
        found = await log.topic("t")
        assert found is not None
        assert found.partitions == 7
        assert found.next_positions[6] == position + 1
        datas = [[record.event.data for record in await all_of(log, "t", number)] for number in range(7)]
        assert datas == [[b"before"], [], [b"astray"], [], [], [], [b"after"]]
        assert await refused(log.create_topic("t", partitions=2)) == "topic_differs"
        await log.create_topic("t", partitions=3)  # as many as are open
        begun = clock.monotonic()
        assert await log.read("t", 0, found.next_positions[0], wait=0.3) == []
        assert clock.monotonic() - begun >= 0.3
        # A group is not given the successors before it is through with what they come from.
        assert set(await log.places(["t"], "g")) == {("t", 0)}


async def test_time_on_shards(serve: Served) -> None:
    async with serve() as (_, log):
        await log.create_topic("t", partitions=2)
        assert await log.position_at("t", 1, clock.now()) == 0
        [position] = await log.append("t", [event(b"1")], partition=1)
        await log.topic("t")
        assert await log.position_at("t", 1, clock.now()) == position + 1


async def test_a_server_that_is_away_and_one_that_refuses(serve: Served) -> None:
    async with serve() as (server, log):
        await log.create_topic("t")
        assert await refused(log.create_topic("no spaces, please", partitions=0)) in ("log_refused", "topic_differs")
        server.stop()
        assert await refused(log.append("t", [event(b"1")])) == "log_unreachable"
