"""Where requests wait, by Little's law; and what a change of a service's instances did."""

from __future__ import annotations

from typing import Any

import pytest

from stranglerfig.extraction import loads
from stranglerfig.extraction.loads import Window, bottleneck, effect, window


def second(requests: int, each_ms: float, **more: Any) -> dict[str, Any]:
    return {
        "reads": requests, "writes": 0, "errors": 0, "p50_ms": each_ms, "p99_ms": 2 * each_ms,
        "busy_ms": requests * each_ms, **more,
    }  # fmt: skip


def test_what_is_under_way_is_rate_times_time() -> None:
    found = window([second(40, 50)] * 9 + [{}])
    assert (found.seconds, found.rate, found.p50_ms, found.p99_ms, found.mean_ms) == (9, 36, 50, 100, 50)
    assert found.under_way == pytest.approx(1.8)
    assert window([]) == Window(0, 0, None, None, None, 0, 0)
    earlier = second(40, 50)
    del earlier["busy_ms"]
    assert window([earlier]).under_way == pytest.approx(2), "seconds of an earlier version count by their median"


def sides(**found: tuple[int, float, float]) -> list[loads.Load]:
    """Sides by requests a second, milliseconds each, and milliseconds when there is little to do."""
    return loads.loads(
        {name: (window([second(rate, ms)] * 10), least, ()) for name, (rate, ms, least) in found.items()}
    )


def test_the_bottleneck_is_where_most_wait_for_others() -> None:
    found = sides(monolith=(200, 20, 19), inventory=(40, 100, 10), catalogue=(30, 40, 10))
    name, words = bottleneck(found)
    assert name == "inventory"
    assert "10.0 times as long" in words and "of 4.0 requests under way there 3.6 wait" in words
    assert sum(each.share for each in found) == pytest.approx(1)
    assert bottleneck(sides(monolith=(200, 60, 20), inventory=(40, 5, 5)))[1].endswith("What leaves it relieves it.")


def test_who_is_busy_and_lets_nobody_wait_is_none() -> None:
    name, words = bottleneck(sides(monolith=(20, 5, 5), inventory=(200, 40, 30)))
    assert name is None and "99 % is at inventory" in words
    assert bottleneck(sides(inventory=(2, 3, 1)))[0] is None, "a few milliseconds now and then hold up nobody"
    assert bottleneck([]) == (None, "Nothing is asked of any side.")


def test_an_instance_that_gets_nothing_is_named() -> None:
    found = loads.loads({"inventory": (window([second(10, 5)]), 5, ["10.0.0.7:80"])})
    assert bottleneck(found)[1].endswith("10.0.0.7:80 of inventory gets no requests.")


@pytest.mark.parametrize(
    ("before", "after", "verdict", "said"),
    [
        ((40, 100), (41, 20), "faster", "answers take 80 % less time"),
        ((40, 20), (80, 50), "slower", "answers take 150 % more time, at 100 % more requests"),
        ((40, 20), (40, 19), "same", "the instances share"),
        ((40, 20), (80, 21), "same", "answers take as long as before, at 100 % more requests"),
    ],
)
def test_what_a_change_did(before: tuple[int, float], after: tuple[int, float], verdict: str, said: str) -> None:
    found = effect(window([second(*before)] * 30), window([second(*after)] * 30))
    assert found[0] == verdict and said in found[1]


def test_a_change_without_traffic_around_it_says_so() -> None:
    some, few = window([second(40, 20)] * 30), window([second(40, 20)] * 9)
    assert effect(some, few)[0] == effect(few, some)[0] == effect(window([]), some)[0] == "unknown"
