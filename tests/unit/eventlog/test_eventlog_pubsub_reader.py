"""A reader of Pub/Sub against a service that delivers late, twice, in any order, or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stranglerfig.eventlog.pubsub_messages import Batch, Incoming
from stranglerfig.eventlog.pubsub_reader import Reader
from stranglerfig.foundation.errors import FigError

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def message(batch: str, place: int, at: datetime = AT) -> Incoming:
    return Incoming(f"{batch}{place}".encode(), {"figbatch": batch, "figplace": str(place)}, at)


def batch(name: str, first: int, count: int, at: datetime = AT) -> Batch:
    return Batch(first, count, name, at, at)


class Service:
    """Delivers what a test puts into ``pages``, then waits."""

    def __init__(self) -> None:
        self.pages: asyncio.Queue[list[Incoming] | FigError] = asyncio.Queue()
        self.sought: list[datetime] = []
        self.again: list[Incoming] = []
        self.subscriptions: list[str] = []

    async def subscribe(self, name: str, topic: str, partition: int) -> str:
        self.subscriptions.append(name)
        return name

    async def unsubscribe(self, path: str) -> None:
        self.subscriptions.remove(path)

    async def seek(self, path: str, time: datetime, *, topic: str) -> None:
        if path not in self.subscriptions:
            raise FigError("unknown_topic", "gone")
        self.sought.append(time)
        if self.again:
            self.pages.put_nowait(self.again)

    async def pull(self, path: str, most: int, *, topic: str) -> list[Incoming]:
        page = await self.pages.get()
        if isinstance(page, FigError):
            raise page
        return page


@pytest.fixture
async def service() -> Service:
    return Service()


@pytest.fixture
async def reader(service: Service) -> AsyncIterator[Reader]:
    calls: Any = service
    made = Reader(calls, "t", 0, overdue=0.2, patience=5.0)
    yield made
    await made.close()
    assert service.subscriptions == []


async def read(reader: Reader, batches: list[Batch], position: int, records: int = 100, size: int = 10**6) -> list[str]:
    return [one.event.data.decode() for one in await reader.read(batches, position, records, size)]


async def test_out_of_order_and_twice(service: Service, reader: Reader) -> None:
    service.pages.put_nowait([message("b", 1), message("a", 2), message("a", 0)])
    service.pages.put_nowait([message("a", 0), message("never sequenced", 0), message("b", 0), message("a", 1)])
    batches = [batch("a", 0, 3), batch("b", 3, 2)]
    assert await read(reader, batches, 0) == ["a0", "a1", "a2", "b0", "b1"]
    assert reader.next == 5
    assert service.sought == [AT - timedelta(seconds=5)]


async def test_pages_are_bounded_and_go_on(service: Service, reader: Reader) -> None:
    service.pages.put_nowait([message("a", place) for place in range(4)])
    batches = [batch("a", 10, 4)]
    assert await read(reader, batches, 11, records=2) == ["a1", "a2"]
    assert await read(reader, batches, 13, size=1) == ["a3"]
    assert len(service.sought) == 1


async def test_a_batch_that_is_not_whole_waits(service: Service, reader: Reader) -> None:
    service.pages.put_nowait([message("a", 0), message("b", 1)])
    batches = [batch("a", 0, 1), batch("b", 1, 2)]
    assert await read(reader, batches, 0) == ["a0"]
    waiting = asyncio.ensure_future(read(reader, batches[1:], 1))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    service.pages.put_nowait([message("b", 0)])
    assert await waiting == ["b0", "b1"]


async def test_what_does_not_come_is_asked_for_again(service: Service, reader: Reader) -> None:
    service.pages.put_nowait([message("a", 1)])
    service.again = []
    waiting = asyncio.ensure_future(read(reader, [batch("a", 0, 2)], 0))
    await asyncio.sleep(0.05)
    service.again = [message("a", 0), message("a", 1)]
    assert await waiting == ["a0", "a1"]
    assert len(service.sought) == 2


async def test_what_never_comes_is_reported(service: Service, reader: Reader) -> None:
    with pytest.raises(FigError, match="log_gap"):
        await read(reader, [batch("a", 0, 2)], 0)


async def test_a_failure_reaches_who_waits_and_is_got_over(service: Service, reader: Reader) -> None:
    service.pages.put_nowait(FigError("log_unreachable", "away"))
    with pytest.raises(FigError, match="log_unreachable"):
        await read(reader, [batch("a", 0, 1)], 0)
    assert len(service.subscriptions) == 1
    service.pages.put_nowait([message("a", 0)])
    assert await read(reader, [batch("a", 0, 1)], 0) == ["a0"]
    assert len(service.sought) == 2


async def test_a_subscription_that_is_gone_is_made_anew(service: Service, reader: Reader) -> None:
    service.pages.put_nowait(FigError("unknown_topic", "gone"))
    waiting = asyncio.ensure_future(read(reader, [batch("a", 0, 1)], 0))
    await asyncio.sleep(0.05)
    [gone] = service.subscriptions[:1]
    service.subscriptions.remove(gone)
    service.pages.put_nowait([message("a", 0)])
    assert await waiting == ["a0"]
    assert len(service.subscriptions) == 1


async def test_one_that_was_deleted_for_disuse_is_made_anew(service: Service, reader: Reader) -> None:
    service.pages.put_nowait([message("a", 0)])
    assert await read(reader, [batch("a", 0, 1)], 0) == ["a0"]
    service.subscriptions.clear()
    service.pages.put_nowait([message("a", 0)])
    assert await read(reader, [batch("a", 0, 1)], 0) == ["a0"]
    assert len(service.subscriptions) == 1


async def test_a_batch_that_got_its_positions_late_is_gone_back_for(service: Service, reader: Reader) -> None:
    service.pages.put_nowait([message("a", 0)])
    assert await read(reader, [batch("a", 0, 1)], 0) == ["a0"]
    early = AT - timedelta(seconds=30)
    service.again = [message("b", 0, early)]
    assert await read(reader, [batch("b", 1, 1, early)], 1) == ["b0"]
    assert service.sought[-1] == early - timedelta(seconds=5)


async def test_strays_are_forgotten_in_time(service: Service, reader: Reader) -> None:
    later = AT + timedelta(minutes=11)
    service.pages.put_nowait([message("stray", 0), Incoming(b"foreign", {"figbatch": "x"}, AT), message("a", 0, later)])
    assert await read(reader, [batch("a", 0, 1, later)], 0) == ["a0"]
    assert reader._waiting == {}
    assert reader._bytes == 0
