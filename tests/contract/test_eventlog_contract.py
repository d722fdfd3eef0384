"""What every backend of the log must do: one suite, run by each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.model import Capability, Event, Record
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock, ids
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import EmbeddedPostgres


@pytest.fixture(params=["memory", "postgres"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("postgres").database()
    opened: Any = open_log(url)
    await opened.migrate()
    await opened.create_topic("t")
    yield opened
    await opened.close()


def event(data: bytes = b"{}", **attributes: Any) -> Event:
    return Event(
        **{"id": ids.new_id(), "source": "/test", "type": "x.Y", "time": clock.now(), "data": data, **attributes}
    )


async def all_of(log: EventLog, topic: str, partition: int = 0) -> list[Record]:
    found: list[Record] = []
    while page := await log.read(topic, partition, len(found), max_records=300):
        found += page
    return found


async def refused(work: Any) -> str:
    with pytest.raises(FigError) as error:
        await work
    return error.value.code


async def test_an_event_reads_back_whole(log: EventLog) -> None:
    full = event(
        b"\0\xff", datacontenttype="a/b", subject="s", dataschema="d", partitionkey="k", traceparent="tp",
        correlationid="c", causationid="e",
    )  # fmt: skip
    before = clock.now()
    assert await log.append("t", [full, event()]) == [0, 1]
    [record, _] = await log.read("t", 0, 0)
    assert (record.event, record.topic, record.partition, record.position) == (full, "t", 0, 0)
    assert abs((record.appended_at - before).total_seconds()) < 5


async def test_topics(log: EventLog) -> None:
    await log.create_topic("many", partitions=3, retention_seconds=60)
    await log.create_topic("many", partitions=3)
    assert await refused(log.create_topic("many", partitions=4)) == "topic_differs"
    await log.append("many", [event()], partition=2)
    found = await log.topic("many")
    assert found is not None
    assert (found.partitions, found.retention_seconds, found.next_positions) == (3, 60, (0, 0, 1))
    assert [topic.name for topic in await log.topics()] == ["many", "t"]
    await log.delete_topic("many")
    await log.delete_topic("many")
    assert await log.topic("many") is None
    assert await refused(log.append("many", [event()])) == "unknown_topic"
    assert await refused(log.read("many", 0, 0)) == "unknown_topic"
    assert await refused(log.read("t", 1, 0)) == "unknown_partition"
    assert await refused(log.append("t", [event()], partition=-1)) == "unknown_partition"


async def test_a_topic_made_anew_is_empty(log: EventLog) -> None:
    one = event()
    await log.append("t", [one])
    await log.delete_topic("t")
    await log.create_topic("t")
    assert await log.append("t", [one]) == [0]


async def test_two_hundred_topics(log: EventLog) -> None:
    for number in range(200):
        await log.create_topic(f"topic-{number}")
        await log.append(f"topic-{number}", [event(str(number).encode())])
    assert len(await log.topics()) == 201
    assert (await log.read("topic-150", 0, 0))[0].event.data == b"150"


async def test_an_append_whose_answer_was_lost_is_repeated_without_doubling(log: EventLog) -> None:
    batch = [event() for _ in range(4)]
    assert await log.append("t", batch[:3]) == [0, 1, 2]
    assert await log.append("t", batch[:3]) == [0, 1, 2]
    assert await log.append("t", [event(), *batch, batch[3]]) == [3, 0, 1, 2, 4, 4]
    assert len(await all_of(log, "t")) == 5
    assert await log.append("t", []) == []


async def test_repeated_at_the_same_time_by_many(log: EventLog) -> None:
    await log.create_topic("p", partitions=4)
    batch = [event(partitionkey=str(n)) for n in range(40)]
    answers = await asyncio.gather(*(log.append("p", batch[n % 7 :]) for n in range(8)))
    assert all(answer == answers[0][-len(answer) :] for answer in answers)
    assert sum([len(await all_of(log, "p", n)) for n in range(4)]) == 40


async def test_order_per_key_and_no_gaps_with_producers_at_once(log: EventLog) -> None:
    await log.create_topic("p", partitions=3)

    async def produce(who: str) -> None:
        for n in range(0, 100, 5):
            await log.append("p", [event(str(m).encode(), partitionkey=who) for m in range(n, n + 5)])

    await asyncio.gather(*(produce(f"key-{n}") for n in range(6)))
    seen: dict[str | None, list[int]] = {}
    for partition in range(3):
        records = await all_of(log, "p", partition)
        assert [record.position for record in records] == list(range(len(records)))
        for record in records:
            seen.setdefault(record.event.partitionkey, []).append(int(record.event.data))
    assert seen == {f"key-{n}": list(range(100)) for n in range(6)}


async def test_a_page_is_bounded_but_never_empty(log: EventLog) -> None:
    await log.append("t", [event(b"x" * 1000) for _ in range(10)])
    assert len(await log.read("t", 0, 0, max_records=3)) == 3
    assert len(await log.read("t", 0, 2, max_bytes=2500)) == 3
    assert len(await log.read("t", 0, 0, max_bytes=1)) == 1
    assert await log.read("t", 0, 10) == []


async def test_a_reader_that_waits_is_woken(log: EventLog) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(log.read("t", 0, 0, wait=10))
        await asyncio.sleep(0.05)
        begun = clock.monotonic()
        await log.append("t", [event(b"1")])
    assert [record.event.data for record in waiting.result()] == [b"1"]
    assert clock.monotonic() - begun < 5
    assert await log.read("t", 0, 1, wait=0.01) == []


async def test_size_limit(log: EventLog) -> None:
    limit = log.capabilities.max_event_bytes
    assert limit == 64 * 1024 * 1024
    assert await refused(log.append("t", [event(), event(b"x" * (limit + 1))])) == "event_too_large"
    assert await log.append("t", [event(b"x" * limit)]) == [0]
    assert len((await log.read("t", 0, 0))[0].event.data) == limit


async def test_replay_from_a_time(log: EventLog) -> None:
    await log.append("t", [event() for _ in range(20)])
    records = await all_of(log, "t")
    middle = records[11].appended_at
    expected = next(record.position for record in records if record.appended_at >= middle)
    assert await log.position_at("t", 0, middle) == expected
    assert await log.position_at("t", 0, clock.now() + timedelta(hours=1)) == 20
    assert await log.position_at("t", 0, clock.now() - timedelta(hours=1)) == 0


async def test_retention(log: Any) -> None:
    await log.create_topic("short", retention_seconds=0.0)
    await log.append("short", [event(), event()])
    await log.append("t", [event()])
    assert await log.enforce_retention() == 2
    assert await refused(log.read("short", 0, 0)) == "position_expired"
    assert await log.append("short", [event()]) == [2]
    assert [record.position for record in await log.read("short", 0, 2)] == [2]
    assert len(await log.read("t", 0, 0)) == 1


async def take(log: EventLog, group: str, count: int, **options: Any) -> list[Record]:
    """A member that handles ``count`` records and leaves."""
    subscription = await log.subscribe(["t"], group, **options)
    found: list[Record] = []
    async with asyncio.timeout(20):
        async for batch in subscription.batches():
            found += batch
            await subscription.commit(batch[-1])
            if len(found) >= count:
                break
    await subscription.close()
    return found


async def test_a_group_goes_on_where_it_was(log: EventLog) -> None:
    await log.append("t", [event(str(n).encode()) for n in range(5)])
    assert len(await take(log, "g", 5)) == 5
    assert await log.committed("t", "g") == (5,)
    await log.append("t", [event(b"next")])
    assert [record.event.data for record in await take(log, "g", 1)] == [b"next"]
    assert len(await take(log, "another", 6)) == 6
    assert await log.committed("t", "nobody") == (0,)


async def test_a_group_is_moved(log: EventLog) -> None:
    await log.append("t", [event() for _ in range(5)])
    await take(log, "g", 5)
    await log.seek("t", "g", position=3)
    assert [record.position for record in await take(log, "g", 2)] == [3, 4]
    await log.seek("t", "g", time=clock.now() - timedelta(hours=1))
    assert len(await take(log, "g", 5)) == 5
    assert await refused(log.seek("t", "g")) == "bad_seek"


async def test_a_member_that_dies_in_a_batch_is_followed_by_another(log: Any) -> None:
    await log.append("t", [event(str(n).encode()) for n in range(4)])
    dying = await log.subscribe(["t"], "g", lease=0.4)
    batches = dying.batches()
    batch = await anext(batches)
    await dying.commit(batch[1])
    if isinstance(log, PostgresLog):  # dies: its lease is not renewed any more
        dying._renewal.cancel()
    assert [record.position for record in await take(log, "g", 2, lease=0.4)] == [2, 3]
    assert await refused(dying.commit(batch[3])) == "lease_lost"
    await batches.aclose()
    await dying.close()


async def test_members_share_the_partitions(log: Any) -> None:
    await log.create_topic("p", partitions=4)
    for number in range(4):
        await log.append("p", [event(str(number).encode())], partition=number)
    members = [await log.subscribe(["p"], "g", lease=0.6) for _ in range(2)]
    seen: list[list[bytes]] = [[], []]

    async def consume(number: int) -> None:
        async for batch in members[number].batches():
            seen[number] += [record.event.data for record in batch]
            await members[number].commit(batch[-1])

    async with asyncio.timeout(20):
        consumers = [asyncio.create_task(consume(number)) for number in range(2)]

        async def shared() -> bool:
            for partition in range(4):
                await log.append("p", [event(b"more")], partition=partition)
            return all(seen) and sum(await log.committed("p", "g")) >= 8

        await clock.until(shared, timeout=15, what="both members to have some")
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    for member in members:
        await member.close()


def test_what_is_declared(tmp_path: Path) -> None:
    has = open_log("memory://").capabilities.has
    assert {Capability.IDEMPOTENT_APPEND, Capability.ORDERED_PER_KEY, Capability.CONSUMER_GROUPS} <= has
    assert Capability.COMPACTION not in has
    with pytest.raises(FigError, match="unknown_log_backend"):
        open_log("carrier-pigeon://x")


async def test_what_was_acknowledged_survives_kill_9(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("durable")
    for folder in (root, *root.parents[:2]):
        folder.chmod(0o755)
    server = EmbeddedPostgres(root / "data")
    server.start()
    log = PostgresLog(server.create_database("log"))
    try:
        await log.migrate()
        await log.create_topic("t")
        acknowledged: list[int] = []
        async with asyncio.TaskGroup() as group:

            async def produce() -> None:
                while True:
                    try:
                        acknowledged.extend(await log.append("t", [event(), event()]))
                    except FigError as error:
                        assert error.code == "log_unreachable"
                        return

            for _ in range(3):
                group.create_task(produce())

            async def enough() -> bool:
                return len(acknowledged) > 60

            await clock.until(enough, timeout=20, what="appends")
            server.kill()
        assert await refused(log.read("t", 0, 0)) == "log_unreachable"
        await server.start_async()
        positions = [record.position for record in await all_of(log, "t")]
        assert positions == list(range(len(positions)))
        assert set(acknowledged) <= set(positions)
    finally:
        await log.close()
        server.stop()
