"""What is read ahead: merged by partition, bounded, and let go of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from stranglerfig.eventlog import ahead as module
from stranglerfig.eventlog.ahead import ahead
from stranglerfig.eventlog.model import Event, Record

AT = datetime(2026, 1, 1, tzinfo=UTC)


def record(partition: int, position: int, size: int = 1) -> Record:
    return Record("t", partition, position, Event(f"{partition}/{position}", "/", "t.T", AT, b"x" * size), AT)


class Feed:
    """Batches as a test gives them; each is read when there is room for it."""

    def __init__(self, *batches: list[Record], failure: Exception | None = None) -> None:
        self.left = list(batches)
        self.failure = failure
        self.is_closed = False

    async def batches(self) -> AsyncIterator[list[Record]]:
        try:
            while self.left:
                await asyncio.sleep(0)
                yield self.left.pop(0)
            if self.failure is not None:
                raise self.failure
        finally:
            self.is_closed = True


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_comes_while_a_batch_is_in_hand_is_one_batch_of_its_partition() -> None:
    feed = Feed([record(0, 0)], [record(0, 1), record(0, 2)], [record(1, 0)], [record(0, 3)], [record(1, 1)])
    taken: list[list[tuple[int, int]]] = []
    async for batch in ahead(feed.batches(), name="test"):
        taken.append([(each.partition, each.position) for each in batch])
        await settle()
    assert taken == [[(0, 0)], [(0, 1), (0, 2), (0, 3)], [(1, 0), (1, 1)]]


@pytest.mark.parametrize(("most", "most_bytes"), [(3, 1000), (1000, 30)])
async def test_no_more_is_held_than_there_is_room_for(
    most: int, most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", most)
    monkeypatch.setattr(module, "MOST_BYTES", most_bytes)
    feed = Feed(*[[record(0, number, 10)] for number in range(20)])
    taken: list[int] = []
    async with aclosing(ahead(feed.batches(), name="test")) as batches:
        async for batch in batches:
            await settle()
            assert len(feed.left) >= 20 - len(taken) - len(batch) - 3
            taken += [each.position for each in batch]
    assert taken == list(range(20))


async def test_a_failure_is_raised_when_what_was_read_before_it_is_taken() -> None:
    feed = Feed([record(0, 0)], [record(0, 1)], failure=ValueError("gone"))
    taken: list[int] = []
    with pytest.raises(ValueError, match="gone"):
        async for batch in ahead(feed.batches(), name="test"):
            taken += [each.position for each in batch]
            await settle()
    assert taken == [0, 1]


async def test_who_stops_stops_the_reading() -> None:
    is_over = False

    async def batches() -> AsyncIterator[list[Record]]:
        nonlocal is_over
        try:
            yield [record(0, 0)]
            await asyncio.Event().wait()
        finally:
            is_over = True

    async with aclosing(ahead(batches(), name="test")) as taken:
        async for _ in taken:
            break
        await settle()
        assert not is_over
    assert is_over and "test" not in [task.get_name() for task in asyncio.all_tasks()]
