"""What every backend of the log must do: one suite, run by each against its server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.model import Capabilities, Capability, Event, Record, require
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, ids
from stranglerfig.foundation.errors import FigError
from tests.contract.eventlog.backends import Backend

Name = Callable[[str], str]
PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "logs.md"
UNITS = {"MiB": 2**20, "MB": 10**6}


def event(data: bytes = b"{}", **attributes: Any) -> Event:
    return Event(
        **{"id": ids.new_id(), "source": "/test", "type": "x.Y", "time": clock.now(), "data": data, **attributes}
    )


def numbered(count: int, start: int = 0, **attributes: Any) -> list[Event]:
    return [event(str(number).encode(), **attributes) for number in range(start, start + count)]


async def all_of(log: EventLog, topic: str, partition: int = 0, position: int = 0) -> list[Record]:
    """All from a position on: a server that is slow sends them in several pages."""
    found: list[Record] = []
    while page := await log.read(topic, partition, position, max_records=300):
        found += page
        position = page[-1].position + 1
    return found


async def refused(work: Any) -> str:
    with pytest.raises(FigError) as error:
        await work
    return error.value.code


async def test_an_event_reads_back_whole(log: EventLog, t: str) -> None:
    full = event(
        b"\0\xff", datacontenttype="a/b", subject="s", dataschema="d", partitionkey="k", traceparent="tp",
        correlationid="c", causationid="e", tenantid="å/1",
    )  # fmt: skip
    before = clock.now()
    first, second = await log.append(t, [full, event(subject="ü€𝄞")])
    assert first < second
    [record, other] = await log.read(t, 0, 0)
    assert (record.event, record.topic, record.partition, record.position) == (full, t, 0, first)
    slack = timedelta(seconds=1)
    assert before - slack <= record.appended_at <= clock.now() + slack
    assert (other.event.subject, other.position) == ("ü€𝄞", second)


async def test_topics(log: EventLog, t: str, name: Name) -> None:
    many = name("many")
    await log.create_topic(many, partitions=3)
    await log.create_topic(many, partitions=3)
    assert await refused(log.create_topic(many, partitions=4)) == "topic_differs"
    [position] = await log.append(many, [event()], partition=2)
    found = await log.topic(many)
    assert found is not None
    assert (found.partitions, found.next_positions[:2], found.next_positions[2] > position) == (3, (0, 0), True)
    assert {many, t} <= {topic.name for topic in await log.topics()}
    await log.delete_topic(many)
    await log.delete_topic(many)
    assert await log.topic(many) is None
    assert await refused(log.append(many, [event()])) == "unknown_topic"
    assert await refused(log.read(many, 0, 0)) == "unknown_topic"
    assert await refused(log.read(t, 1, 0)) == "unknown_partition"
    assert await refused(log.append(t, [event()], partition=-1)) == "unknown_partition"


async def test_partitions_are_added(log: EventLog, backend: Backend, name: Name) -> None:
    topic = name("grows")
    await log.create_topic(topic)
    [before] = await log.append(topic, [event(b"before")])
    other = backend.open() if backend.name != "memory" else log
    assert (await other.topic(topic)).partitions == 1
    await log.add_partitions(topic, 1)
    if Capability.GROWTH not in log.capabilities.has:
        assert await refused(log.add_partitions(topic, 3)) == "log_lacks"
        assert await refused(log.add_partitions(name("none"), 2)) == "unknown_topic"
        return await other.close()
    await log.add_partitions(topic, 3)
    await log.add_partitions(topic, 2)
    found = await log.topic(topic)
    assert found is not None and (found.partitions, len(found.next_positions)) == (3, 3)
    await log.append(topic, [event(b"after")], partition=2)
    [record] = await all_of(log, topic, 2)
    assert record.event.data == b"after"
    # Another client that knew the topic as it was finds out by itself.
    assert [r.event.data for r in await all_of(other, topic, 2)] == [b"after"]
    assert [(r.position, r.event.data) for r in await all_of(log, topic)] == [(before, b"before")]
    assert await refused(log.read(topic, 3, 0)) == "unknown_partition"
    assert await refused(log.add_partitions(name("none"), 2)) == "unknown_topic"
    if other is not log:
        await other.close()


async def test_a_topic_made_anew_is_empty(log: EventLog, t: str) -> None:
    one = event(b"before")
    await log.append(t, [one])
    assert len(await log.read(t, 0, 0)) == 1
    await log.delete_topic(t)
    await log.create_topic(t)
    assert await log.read(t, 0, 0) == []
    await log.append(t, [one, event(b"after")])
    assert [record.event.data for record in await all_of(log, t)] == [b"before", b"after"]


async def test_an_append_whose_answer_was_lost_is_repeated(log: EventLog, t: str) -> None:
    """Once where the backend declares it, else consumers tell by the id."""
    batch = numbered(4)
    first = await log.append(t, batch[:3])
    again = await log.append(t, batch[:3])
    mixed = await log.append(t, [event(), *batch, batch[3]])
    assert await log.append(t, []) == []
    found = await all_of(log, t)
    assert len({record.event.id for record in found}) == 5
    if Capability.IDEMPOTENT_APPEND in log.capabilities.has:
        assert (again, mixed[1:4], mixed[4]) == (first, first, mixed[5])
        assert len(found) == 5
    seen: dict[str, bytes] = {}
    for record in found:
        assert seen.setdefault(record.event.id, record.event.data) == record.event.data
    assert [data for data in seen.values() if data != b"{}"] == [b"0", b"1", b"2", b"3"]


async def test_repeated_at_the_same_time_by_many(log: EventLog, name: Name) -> None:
    topic = name("p")
    await log.create_topic(topic, partitions=4)
    batch = [event(partitionkey=str(n)) for n in range(40)]
    answers = await asyncio.gather(*(log.append(topic, batch[n % 7 :]) for n in range(8)))
    found = [record.event.id for partition in range(4) for record in await all_of(log, topic, partition)]
    assert set(found) == {one.id for one in batch}
    if Capability.IDEMPOTENT_APPEND in log.capabilities.has:
        assert all(answer == answers[0][-len(answer) :] for answer in answers)
        assert len(found) == 40


async def test_order_per_key_with_producers_at_once(backend: Backend, log: EventLog, name: Name) -> None:
    topic = name("p")
    await log.create_topic(topic, partitions=3)

    async def produce(who: str) -> None:
        own = log if backend.name == "memory" else backend.open()
        for n in range(0, 100, 5):
            await own.append(topic, numbered(5, n, partitionkey=who))
        if own is not log:
            await own.close()

    await asyncio.gather(*(produce(f"key-{n}") for n in range(6)))
    seen: dict[str | None, list[int]] = {}
    for partition in range(3):
        records = await all_of(log, topic, partition)
        positions = [record.position for record in records]
        assert positions == sorted(set(positions))
        for record in records:
            seen.setdefault(record.event.partitionkey, []).append(int(record.event.data))
    assert seen == {f"key-{n}": list(range(100)) for n in range(6)}


async def test_a_page_is_bounded_but_never_empty(log: EventLog, t: str) -> None:
    positions = await log.append(t, [event(b"x" * 1000) for _ in range(10)])
    assert len(await log.read(t, 0, 0, max_records=3)) == 3
    assert len(await log.read(t, 0, positions[2], max_bytes=2500)) == 3
    assert len(await log.read(t, 0, 0, max_bytes=1)) == 1
    assert await log.read(t, 0, positions[-1] + 1) == []


async def test_a_reader_that_waits_is_woken(log: EventLog, t: str) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(log.read(t, 0, 0, wait=60))
        await asyncio.sleep(0.05)
        begun = clock.monotonic()
        [position] = await log.append(t, [event(b"1")])
    assert [record.event.data for record in waiting.result()] == [b"1"]
    assert clock.monotonic() - begun < 30
    assert await log.read(t, 0, position + 1, wait=0.01) == []


async def test_a_reader_that_was_cancelled_loses_nothing(log: EventLog, t: str) -> None:
    await log.append(t, numbered(2))
    position = (await log.read(t, 0, 0))[-1].position + 1
    waiting = asyncio.create_task(log.read(t, 0, position, wait=10))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await log.append(t, numbered(3, 2))
    found = await log.read(t, 0, position, wait=10)
    while len(found) < 3:
        found += await log.read(t, 0, found[-1].position + 1, wait=10)
    assert [record.event.data for record in found] == [b"2", b"3", b"4"]


async def test_size_limit(log: EventLog, t: str) -> None:
    limit = log.capabilities.max_event_bytes
    assert await refused(log.append(t, [event(), event(b"x" * (limit + 1))])) == "event_too_large"
    assert await log.read(t, 0, 0) == []
    await log.append(t, [event(b"x" * limit), event(b"small")])
    large, small = await all_of(log, t)
    assert (len(large.event.data), small.event.data) == (limit, b"small")


async def test_replay_from_a_time(log: EventLog, t: str) -> None:
    for number in range(5):
        await log.append(t, numbered(4, number * 4))
        await asyncio.sleep(0.005)  # clocks of logs have milliseconds
    records = await all_of(log, t)
    middle = records[11].appended_at
    expected = next(record.position for record in records if record.appended_at >= middle)
    at = await log.position_at(t, 0, middle)
    assert (await log.read(t, 0, at))[0].position == expected
    later = await log.position_at(t, 0, clock.now() + timedelta(hours=1))
    assert await log.read(t, 0, later) == []
    earlier = await log.position_at(t, 0, clock.now() - timedelta(hours=1))
    assert len(await all_of(log, t, position=earlier)) == 20


async def test_retention(backend: Backend, log: Any, name: Name) -> None:
    if not backend.short_retention:
        pytest.skip(f"{backend.name} keeps events for longer than a test lasts")
    short = name("short")
    await log.create_topic(short, retention_seconds=1.0)
    found = await log.topic(short)
    assert found is not None
    assert found.retention_seconds == 1.0
    kept = name("kept")
    await log.create_topic(kept)
    await log.append(short, [event(), event()])
    await log.append(kept, [event()])

    async def expired() -> bool:
        if hasattr(log, "enforce_retention"):
            await log.enforce_retention()
        if backend.expires_on_append:
            await log.append(short, [event(b"x" * 600_000)])
        try:
            await log.read(short, 0, 0)
        except FigError as error:
            assert error.code == "position_expired"
            return True
        return False

    await clock.until(expired, timeout=120, what="retention")
    [position] = await log.append(short, [event(b"new")])
    assert [record.event.data for record in await log.read(short, 0, position)] == [b"new"]
    assert len(await log.read(kept, 0, 0)) == 1


async def take(log: EventLog, topic: str, group: str, count: int, **options: Any) -> list[Record]:
    """A member that handles ``count`` records and leaves."""
    subscription = await log.subscribe([topic], group, **options)
    found: list[Record] = []
    async with asyncio.timeout(60):
        async for batch in subscription.batches():
            found += batch
            await subscription.commit(batch[-1])
            if len(found) >= count:
                break
    await subscription.close()
    return found


async def test_a_group_goes_on_where_it_was(log: EventLog, t: str, name: Name) -> None:
    positions = await log.append(t, numbered(5))
    assert len(await take(log, t, name("g"), 5)) == 5
    assert await log.committed(t, name("g")) == (positions[-1] + 1,)
    await log.append(t, [event(b"next")])
    assert [record.event.data for record in await take(log, t, name("g"), 1)] == [b"next"]
    assert len(await take(log, t, name("another"), 6)) == 6
    assert await log.committed(t, name("nobody")) == (0,)
    assert await log.groups(t) == sorted([name("g"), name("another")])


async def test_a_group_is_moved(log: EventLog, t: str, name: Name) -> None:
    positions = await log.append(t, numbered(5))
    await take(log, t, name("g"), 5)
    await log.seek(t, name("g"), position=positions[3])
    assert [record.position for record in await take(log, t, name("g"), 2)] == positions[3:]
    await log.seek(t, name("g"), time=clock.now() - timedelta(hours=1))
    assert len(await take(log, t, name("g"), 5)) == 5
    assert await refused(log.seek(t, name("g"))) == "bad_seek"


async def test_a_slow_consumer_keeps_what_it_has(log: EventLog, t: str, name: Name) -> None:
    """Slower than its lease: being at work is not being dead."""
    await log.append(t, numbered(2))
    slow = await log.subscribe([t], name("g"), lease=2.5)
    other = await log.subscribe([t], name("g"), lease=2.5)
    batches, others = slow.batches(), other.batches()
    async with asyncio.timeout(30):
        batch = await anext(batches)
    stolen = asyncio.create_task(anext(others))
    await asyncio.sleep(6)
    assert not stolen.done()
    await slow.commit(batch[-1])
    stolen.cancel()
    await asyncio.gather(stolen, return_exceptions=True)
    assert sum(await log.committed(t, name("g"))) == batch[-1].position + 1
    for one in (batches, others):
        await one.aclose()
    for member in (slow, other):
        await member.close()


async def test_members_share_the_partitions(log: Any, name: Name) -> None:
    topic = name("p")
    await log.create_topic(topic, partitions=4)
    for number in range(4):
        await log.append(topic, [event(str(number).encode())], partition=number)
    members = [await log.subscribe([topic], name("g"), lease=0.9) for _ in range(2)]
    seen: list[list[bytes]] = [[], []]

    async def consume(number: int) -> None:
        async for batch in members[number].batches():
            seen[number] += [record.event.data for record in batch]
            try:
                await members[number].commit(batch[-1])
            except FigError as error:  # it went to the other one meanwhile
                assert error.code == "lease_lost"

    async with asyncio.timeout(60):
        consumers = [asyncio.create_task(consume(number)) for number in range(2)]

        async def shared() -> bool:
            for partition in range(4):
                await log.append(topic, [event(b"more")], partition=partition)
            assert not any(consumer.done() for consumer in consumers)
            return all(seen) and all(await log.committed(topic, name("g")))

        await clock.until(shared, timeout=45, what="both members to have some")
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    for member in members:
        await member.close()


@pytest.mark.timeout(600)  # a cloud's answers are one request a topic, and its stand-in is slow
async def test_a_thousand_topics(backend: Backend, serve: Callable[..., Backend], log: EventLog, name: Name) -> None:
    names = [name(f"topic-{number}") for number in range(1000)]

    async def work(log: EventLog) -> None:
        for start in range(0, 1000, 20):
            await asyncio.gather(*(log.create_topic(one) for one in names[start : start + 20]))
        for number in range(0, 1000, 37):
            await log.append(names[number], [event(str(number).encode())])
        assert set(names) <= {topic.name for topic in await log.topics()}
        for number in range(0, 1000, 37):
            assert [record.event.data for record in await log.read(names[number], 0, 0)] == [str(number).encode()]

    if not backend.lists_dearly:
        return await work(log)
    with ExitStack() as own:
        alone = serve(backend.name, own=own).open()
        await alone.migrate()
        await work(alone)
        await alone.close()


def test_what_is_declared_is_what_the_page_says(backend: Backend, log: EventLog) -> None:
    lacks = set(Capability) - log.capabilities.has
    if backend.name == "memory":
        assert not lacks
        return
    [row] = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{backend.name}` |")]
    *_, idempotent, _, added, largest = (cell.strip() for cell in row.strip("|").split("|"))
    says = {Capability.IDEMPOTENT_APPEND: idempotent, Capability.GROWTH: added}
    assert lacks == {capability for capability, word in says.items() if word == "no"}
    amount, unit = largest.split()
    assert log.capabilities.max_event_bytes == pytest.approx(float(amount) * UNITS[unit], rel=0.01)


def test_what_a_log_lacks_is_refused() -> None:
    require(open_log("memory://").capabilities, Capability.RETENTION, log="memory", what="a test")
    with pytest.raises(FigError, match="needs 'retention'") as error:
        require(Capabilities(frozenset(), 1), Capability.RETENTION, log="x", what="the topic 'y'")
    assert error.value.code == "log_lacks"
    with pytest.raises(FigError, match="unknown_log_backend"):
        open_log("carrier-pigeon://x")
