"""What only the log on PostgreSQL does: many events in a row, and rows of an earlier version brought forward."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.types.json import Jsonb

from stranglerfig.eventlog import postgres as room
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from tests.conftest import Server

BEFORE = ["tables.sql"]


@pytest.fixture
def dsn(postgres: Server) -> str:
    return postgres.database()


@pytest.fixture
async def log(dsn: str) -> AsyncIterator[Callable[[], PostgresLog]]:
    made: list[PostgresLog] = []

    def another() -> PostgresLog:
        made.append(PostgresLog(dsn))
        return made[-1]

    yield another
    for one in made:
        await one.close()


def event(number: int, data: bytes = b"") -> Event:
    return Event(f"e{number}", "/test", "x.Y", clock.now(), data or str(number).encode())


async def test_any_position_can_be_read_from_in_pages_of_any_size(log: Callable[[], PostgresLog]) -> None:
    """Rows hold as many events as came together; a page begins and ends within one."""
    ours, chance = log(), random.Random(5)
    await ours.migrate()
    await ours.create_topic("t")
    total = 0
    while total < 40_000:  # more than a smallint counts
        size = min(chance.choice([1, 7, 999, 1000, 1001, 5000]), 40_000 - total)
        assert await ours.append("t", [event(total + n) for n in range(size)]) == list(range(total, total + size))
        total += size
    places = [0, 999, 1000, 32_766, 32_767, 32_768, 39_999, *(chance.randrange(total) for _ in range(60))]
    for place in places:
        most = chance.choice([1, 2, 500, 1000, 3000])
        page = await ours.read("t", 0, place, max_records=most)
        expected = range(place, min(place + most, total))
        assert [(one.position, one.event.id) for one in page] == [(n, f"e{n}") for n in expected]
    assert await ours.read("t", 0, total) == []


async def test_a_page_has_no_more_bytes_than_asked_for_but_one_event(log: Callable[[], PostgresLog]) -> None:
    ours = log()
    await ours.migrate()
    await ours.create_topic("t")
    await ours.append("t", [event(n, bytes(100_000)) for n in range(25)])
    assert [one.position for one in await ours.read("t", 0, 3, max_bytes=350_000)] == [3, 4, 5, 6]
    assert [one.position for one in await ours.read("t", 0, 12, max_bytes=1)] == [12]


async def test_a_repeated_append_is_told_where_its_events_are(dsn: str, log: Callable[[], PostgresLog]) -> None:
    """Whichever of its rows is asked for, alone or in another company, and when retention has removed others."""
    ours = log()
    await ours.migrate()
    await ours.create_topic("t", retention_seconds=3600)
    await ours.append("t", [event(n) for n in range(10)])
    many = [event(n) for n in range(10, 2510)]
    await ours.append("t", many)
    repeated = [many[2200], event(9999), many[0], many[999], many[1000]]
    assert await ours.append("t", repeated) == [2210, 2510, 10, 1009, 1010]
    async with postgres.session(dsn, what="test") as conn:
        await conn.execute("UPDATE fig.log_batch SET appended_at = appended_at - interval '2 hours' WHERE first < 1010")
    await ours.enforce_retention()
    assert (await ours.read("t", 0, 1010))[0].event.id == "e1010"
    assert await ours.append("t", [many[2200], many[999]]) == [2210, 2511]


async def test_the_same_events_from_many_at_once_are_in_once(log: Callable[[], PostgresLog]) -> None:
    """In opposite orders, so that each has ids that the other waits for."""
    first, second = log(), log()
    await first.migrate()
    await first.create_topic("t")
    for turn in range(20):
        events = [event(turn * 300 + n) for n in range(300)]
        backwards = events[::-1]
        here, there = await asyncio.gather(first.append("t", events), second.append("t", backwards))
        assert here == there[::-1]
        assert sorted(here) == list(range(turn * 300, turn * 300 + 300))


async def test_nothing_stays_of_an_append_to_a_topic_that_is_gone(dsn: str, log: Callable[[], PostgresLog]) -> None:
    ours, other = log(), log()
    await ours.migrate()
    await ours.create_topic("t")
    await ours.append("t", [event(1)])
    await other.delete_topic("t")
    with pytest.raises(FigError, match="unknown_topic"):
        await ours.append("t", [event(2)])
    async with postgres.session(dsn, what="test") as conn:
        assert await postgres.value(conn, "SELECT count(*) FROM fig.log_event") == 0


async def test_rows_of_one_event_are_brought_forward(dsn: str, log: Callable[[], PostgresLog]) -> None:
    at = datetime(2026, 3, 29, 1, 59, 59, 123456, tzinfo=UTC)
    wanted = [
        Event("a", "/shop", "x.Made", at, b"\x00\xff{}", subject="17", partitionkey="k ü", traceparent="00-aa-bb-01"),
        Event('b"\\', "/shop", "x.Made", at + timedelta(days=1), b"", "text/plain", dataschema="s:1"),
    ]
    async with postgres.session(dsn, what="test") as conn:
        await postgres.migrate(conn, "eventlog", room.__package__, BEFORE)
        await conn.execute("INSERT INTO fig.log_topic (name, partitions) VALUES ('t', 1)")
        await conn.execute("INSERT INTO fig.log_partition (topic_id, partition, next) VALUES (1, 0, 2)")
        for position, one in enumerate(wanted):
            others = {"subject": one.subject, "dataschema": one.dataschema, "traceparent": one.traceparent}
            await conn.execute(
                "INSERT INTO fig.log_record (topic_id, partition, position, appended_at, time, event_id, source, type,"
                " content_type, key, attributes, data) VALUES (1, 0, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s)",
                (
                    *(position, at, one.time, one.id, one.source, one.type, one.datacontenttype, one.partitionkey),
                    *(Jsonb({name: value for name, value in others.items() if value is not None}), one.data),
                ),
            )
    ours = log()
    await ours.migrate()
    found = await ours.read("t", 0, 0)
    assert [(one.position, one.event, one.appended_at) for one in found] == [(n, e, at) for n, e in enumerate(wanted)]
    # An id that was there is known, and a new one goes behind.
    assert await ours.append("t", [wanted[1], event(9)]) == [1, 2]


async def test_a_member_that_has_nothing_to_do_follows_its_group_back(log: Callable[[], PostgresLog]) -> None:
    ours = log()
    await ours.migrate()
    await ours.create_topic("t")
    await ours.append("t", [event(n) for n in range(5)])
    feed = await ours.subscribe(["t"], "g", lease=3.0)
    batches = feed.batches()
    async with asyncio.timeout(20):
        first = await anext(batches)
        assert [one.position for one in first] == [0, 1, 2, 3, 4]
        await feed.commit(first[-1])
        following = asyncio.ensure_future(anext(batches))
        await ours.seek("t", "g", position=2)
        assert [one.position for one in await following] == [2, 3, 4]
        await ours.seek("t", "g", position=1)
        with pytest.raises(FigError, match="lease_lost"):
            await feed.commit(first[-1])  # what was in hand is not what the group was told to do
        assert [one.position for one in await anext(batches)] == [1, 2, 3, 4]
    await feed.close()
