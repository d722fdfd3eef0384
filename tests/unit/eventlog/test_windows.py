"""Parts of a topic: windows, filters, following; on the log in memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stranglerfig.eventlog import windows
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.eventlog.model import Event, Record
from stranglerfig.eventlog.windows import Filter, Window, tailed, where
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError

TIME = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)


def event(number: int, **more: Any) -> Event:
    return Event(f"e{number}", "/shop", "inventory.StockAdjusted", TIME, b"{}", **more)


@pytest.fixture
async def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    """Two partitions with three events each, an event per second and partition."""
    found = MemoryLog()
    await found.create_topic("t", partitions=2)
    for number in range(6):
        monkeypatch.setattr(clock, "now", lambda at=TIME + timedelta(seconds=number // 2): at)
        await found.append("t", [event(number)], partition=number % 2)
    return found


async def taken(log: MemoryLog, window: Window) -> list[str]:
    topic = await log.topic("t")
    assert topic is not None
    return [record.event.id async for page in window.pages(log, topic) for record in page]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(), ["e0", "e2", "e4", "e1", "e3", "e5"]),
        (Window(position=2), ["e4", "e5"]),
        (Window(position=7), []),
        (Window(since=TIME + timedelta(seconds=1)), ["e2", "e4", "e3", "e5"]),
        (Window(until=TIME + timedelta(seconds=1)), ["e0", "e1"]),
        (Window(since=TIME + timedelta(seconds=1), until=TIME + timedelta(seconds=2)), ["e2", "e3"]),
        (Window(position=1, until=TIME + timedelta(seconds=2)), ["e2", "e3"]),
    ],
)
async def test_a_window_is_what_lies_between(log: MemoryLog, window: Window, expected: list[str]) -> None:
    assert await taken(log, window) == expected


async def test_a_window_is_read_page_by_page_and_ends_where_it_began(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "PAGE", 2)
    topic = await log.topic("t")
    assert topic is not None
    await log.append("t", [event(6)], partition=0)  # after the topic was looked at
    pages = [[record.event.id for record in page] async for page in Window().pages(log, topic)]
    assert pages == [["e0", "e2"], ["e4"], ["e1", "e3"], ["e5"]]


async def test_what_retention_gave_up_is_passed_by_unless_it_is_asked_for(log: MemoryLog) -> None:
    log._topics["t"].retention = 1.0
    assert await log.enforce_retention() == 2
    assert await taken(log, Window()) == ["e2", "e4", "e3", "e5"]
    with pytest.raises(FigError, match="no longer kept"):
        await taken(log, Window(position=0))
    topic = await log.topic("t")
    assert topic is not None
    assert len([one async for one in tailed(log, topic, Window(), last=10, follow=False)]) == 4


async def test_the_newest_come_first_then_those_that_come(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = await log.topic("t")
    assert topic is not None
    end = TIME + timedelta(seconds=10)
    seen: list[Record] = []

    async def follow() -> None:
        async for record in tailed(log, topic, Window(until=end), last=1, follow=True):
            seen.append(record)

    task = asyncio.get_running_loop().create_task(follow())

    async def until(count: int) -> None:
        async def there() -> bool:
            return len(seen) >= count

        await clock.until(there, timeout=5, what="records")

    await until(2)
    monkeypatch.setattr(clock, "now", lambda: TIME + timedelta(seconds=3))
    await log.append("t", [event(6)], partition=0)
    await until(3)
    monkeypatch.setattr(clock, "now", lambda: end)
    await log.append("t", [event(7)], partition=1)  # at `until`: outside, and the end of its partition
    async with asyncio.timeout(5):
        await task
    assert [record.event.id for record in seen] == ["e4", "e5", "e6"]


async def test_without_following_it_ends(log: MemoryLog) -> None:
    topic = await log.topic("t")
    assert topic is not None
    since = Window(since=TIME + timedelta(seconds=2))
    assert [one.event.id async for one in tailed(log, topic, since, last=99, follow=False)] == ["e4", "e5"]
    before = Window(until=TIME + timedelta(seconds=2))
    assert [one.event.id async for one in tailed(log, topic, before, last=2, follow=False)] == ["e2", "e3"]


DOCUMENT = {
    "item_id": 7, "sku": "7", "price": 1.5, "open": True, "none": None, "zero": 0, "text": "true",
    "lines": [{"sku": "A", "qty": 1}, {"sku": "B", "qty": 2}], "after": {"item_id": "7"}, "tags": ["x", "y"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("item_id=7", True), ("item_id=7.0", True), ("item_id=8", False), ('item_id="7"', False),
        ("sku=7", True), ('sku="7"', True), ("price=1.5", True), ("open=true", True), ("open=1", False),
        ("zero=0", True), ("zero=false", False), ("none=null", True), ("missing=null", False), ("text=true", True),
        ("$.lines[*].sku=B", True), ("$.lines[0].sku=B", False), ("$..qty=2", True), ("after.item_id=7", True),
        ("lines[1].qty=2", True), ('tags=["x","y"]', True), ("$['sku']=7", True), ("sku.deeper=1", False),
    ],
)  # fmt: skip
def test_conditions_on_the_data(condition: str, holds: bool) -> None:
    assert where(condition).holds(DOCUMENT) is holds
    assert Filter(wheres=(where(condition), where("item_id=7"))).holds(DOCUMENT) is holds


@pytest.mark.parametrize("text", ["item_id", "=7", "a b=7", "$.[=1"])
def test_conditions_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(FigError) as refused:
        where(text)
    assert refused.value.code == "usage"


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Filter(), True),
        (Filter(types=("inventory.*",)), True),
        (Filter(types=("orders.*", "*Adjusted")), True),
        (Filter(types=("inventory",)), False),
        (Filter(types=("inventory?StockAdjusted",)), False),
        (Filter(keys=("k7",)), True),
        (Filter(keys=("k",)), False),
        (Filter(subjects=("*",)), False),  # it has none
        (Filter(sources=("/shop",), keys=("k*",)), True),
        (Filter(sources=("/shop",), keys=("x",)), False),
    ],
)
def test_filters_on_the_attributes(wanted: Filter, takes: bool) -> None:
    assert wanted.takes(event(1, partitionkey="k7")) is takes
