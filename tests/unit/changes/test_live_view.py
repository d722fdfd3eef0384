"""A live view of a log: the newest of what is asked for, and how many were passed over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stranglerfig.changes import live
from stranglerfig.changes.live import Asked, Live
from stranglerfig.eventlog.figures import RATE_OVER, Figures
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.windows import Filter
from stranglerfig.foundation.errors import FigError

AT = datetime(2026, 3, 1, tzinfo=UTC)


def event(number: int, type: str = "orders.OrderPlaced", **more: str) -> Event:
    data = b'{"order_id": %d, "town": "M\xc3\x9cnchen"}' % number
    key = more.pop("key", str(number % 7))
    return Event(f"e{number}-{type}", "/orders", type, AT + timedelta(seconds=number), data, partitionkey=key, **more)


@pytest.fixture
async def log() -> MemoryLog:
    made = MemoryLog()
    await made.create_topic("events.orders", partitions=2)
    return made


async def test_it_begins_with_the_newest_and_goes_on_with_what_comes(log: MemoryLog) -> None:
    await log.append("events.orders", [event(number) for number in range(500)])
    view = Live(log, Asked())
    first = await view.look()
    assert first.passed == first.matched == len(first.lines) == live.LAST and first.unread == 0
    assert (await view.look()).passed == 0
    await log.append("events.orders", [event(500), event(501)])
    seen = await view.look()
    assert sorted(line["data"]["order_id"] for line in seen.lines) == [500, 501] and seen.passed == 2


async def test_of_many_the_newest_are_told_and_the_rest_is_counted(log: MemoryLog) -> None:
    view = Live(log, Asked(("events.orders",)))
    await view.look()
    await log.append("events.orders", [event(number) for number in range(3_000)])
    seen = await view.look()
    assert (seen.passed, seen.unread, seen.matched, len(seen.lines)) == (3_000, 0, 3_000, live.SHOWN)
    many = live.READ + 400
    await log.append("events.orders", [event(number, "orders.Many") for number in range(many)], partition=1)
    seen = await view.look()
    assert (seen.passed, seen.unread, seen.matched) == (many, 400, live.READ)
    assert [line["data"]["order_id"] for line in seen.lines] == [*range(many - live.SHOWN, many)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Asked(attributes=Filter(("orders.*",))), {1, 3}),
        (Asked(attributes=Filter((), ("k3",))), {3}),
        (Asked(text="mÜNCHEN"), {1, 2, 3}),
        (Asked(text='"order_id": 2'), {2}),
        (Asked(("events.stock",)), {4}),
    ],
)  # fmt: skip
async def test_it_shows_what_is_asked_for(log: MemoryLog, asked: Asked, expected: set[int]) -> None:
    await log.create_topic("events.stock")
    view = Live(log, asked)
    await view.look()
    await log.append("events.orders", [event(1), event(2, "stock.Adjusted"), event(3, key="k3")])
    await log.append("events.stock", [event(4)._replace(data=b'{"order_id": 4}', type="stock.Adjusted")])
    seen = await view.look()
    assert {line["data"]["order_id"] for line in seen.lines} == expected and seen.matched == len(expected)


async def test_a_topic_that_is_made_anew_is_seen_from_its_beginning(log: MemoryLog) -> None:
    view = Live(log, Asked(("events.orders",)))
    await log.append("events.orders", [event(number) for number in range(9)])
    assert (await view.look()).passed == 9
    await log.delete_topic("events.orders")
    with pytest.raises(FigError, match="unknown_topic"):
        await view.look()
    await log.create_topic("events.orders")
    await log.append("events.orders", [event(1)])
    assert (await view.look()).passed == 1


async def test_figures_say_what_is_held_how_fast_it_grows_and_who_is_behind(log: MemoryLog) -> None:
    figures = Figures(log)
    await log.append("events.orders", [event(number) for number in range(100)])
    await log.subscribe(["events.orders"], "stock")
    await log.seek("events.orders", "stock", position=10)
    (held,) = await figures.look()
    assert held.retained == 100 and held.rate is None
    (group,) = held.groups
    assert group.name == "stock" and sum(group.lag or ()) == 80
    await log.append("events.orders", [event(number) for number in range(100, 150)])
    (held,) = await figures.look()
    assert held.retained == 150 and held.rate is not None and held.rate > 50 / RATE_OVER


async def test_positions_that_count_nothing_are_no_figures(log: MemoryLog) -> None:
    figures = Figures(log, counted=False)
    await log.append("events.orders", [event(1)])
    await log.subscribe(["events.orders"], "stock")
    await figures.look()
    (held,) = await figures.look()
    assert (held.retained, held.rate, held.groups[0].lag) == (None, None, None)
