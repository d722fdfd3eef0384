"""A service's instances as the page of its extraction shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from stranglerfig.console import instances

AT = datetime(2026, 7, 1, 12, tzinfo=UTC)


def point(**found: dict[str, Any]) -> dict[str, Any]:
    return {"at": AT, "instances": {name: figures for name, figures in found.items()}}


def figures(requests: int, *, serving: bool = True) -> dict[str, Any]:
    return {"reads": requests, "writes": 0, "errors": 0, "p50_ms": 4.0, "p99_ms": 9.0, "serving": serving}


def test_each_instance_has_its_state_its_share_and_a_value_per_second() -> None:
    series = [point(a=figures(30), b=figures(10)), point(b=figures(10), c={"serving": False})]
    a, b, c = instances.rows(series, AT)
    assert [(each.name, each.state) for each in (a, b, c)] == [("a", "gone"), ("b", "serving"), ("c", "out")]
    assert (a.rate, a.share, b.rate, b.share, c.rate) == (15, 0.6, 10, 0.4, 0)
    assert (a.rates, a.p99s, c.rates) == ([30, None], [9, None], [None, 0])
    assert instances.rows([], AT) == []
    long_ago = instances.rows(series, AT + timedelta(hours=1))
    assert [each.rate for each in long_ago] == [0, 0, 0] and long_ago[1].state == "serving"
    assert instances.out(series[-1]) == ["c"]
    assert instances.out(point(a=figures(1, serving=False))) == [], "one alone is not checked"


def change(before: list[str], urls: list[str]) -> dict[str, Any]:
    return {"kind": "configuration", "at": AT, "before": before, "urls": urls}


def test_a_change_has_both_sides_of_it_and_its_effect() -> None:
    slow = {"service": {"reads": 40, "writes": 0, "errors": 1, "p50_ms": 80.0, "p99_ms": 200.0, "busy_ms": 3200.0}}
    quick = {"service": {"reads": 40, "writes": 0, "errors": 0, "p50_ms": 8.0, "p99_ms": 20.0, "busy_ms": 320.0}}
    found = instances.change(change(["http://a:1"], ["http://a:1", "https://b:1"]), [slow] * 20, [quick] * 20)
    assert (found.added, found.removed, found.verdict) == (["b:1"], [], "faster")
    assert (found.before.p50_ms, found.after.p50_ms, found.before.errors) == (80, 8, 20)
    assert instances.change(change(["http://a:1"], ["http://b:1"]), [], []).verdict == "unknown"


def test_what_is_compared_ends_where_something_else_began() -> None:
    def later(seconds: float) -> dict[str, Any]:
        return {"at": AT + timedelta(seconds=seconds)}

    def seconds(found: tuple[instances.Span, instances.Span]) -> list[float]:
        return [(moment - AT).total_seconds() for span in found for moment in span]

    assert seconds(instances.spans([later(0)], 0)) == [-60, 0, 5, 65]
    events = [later(-20), later(0), later(30)]
    assert seconds(instances.spans(events, 1)) == [-15, 0, 5, 30]
    events = [later(-2), later(0), later(3)]
    assert seconds(instances.spans(events, 1)) == [0, 0, 5, 5], "nothing, and not the other way round"


def test_what_moved_no_address_or_was_refused_is_no_change() -> None:
    assert instances.moved(change(["http://a:1"], ["http://b:1"]))
    assert not instances.moved(change(["http://a:1"], ["http://a:1"]))
    assert not instances.moved({"kind": "configuration", "refused": "not readable"})


def test_marks_are_what_happened_in_the_time_of_the_charts() -> None:
    said = [
        {"kind": "switch", "at": AT - timedelta(hours=1), "what": "reads at 10 %"},
        {"kind": "switch", "at": AT, "what": "reads at 50 %"},
        {"kind": "cutover", "at": AT, "direction": "forward"},
        {"kind": "rollback", "at": AT, "to": "reads at 100 %"},
        {"kind": "configuration", "at": AT, "refused": "not readable"},
        change(["http://a:1"], ["http://a:1", "http://b:1"]),
    ]
    assert [each.text for each in instances.marks(said, AT)] == [
        "switched: reads at 50 %", "cut-over to the service", "taken back to reads at 100 %", "leads to a:1, b:1",
    ]  # fmt: skip
