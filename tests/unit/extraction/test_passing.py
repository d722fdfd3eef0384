"""What passed, added up: kinds of request, not requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stranglerfig.extraction.passing import OTHERS, SHAPES, Shape, Tally, folded, shape
from stranglerfig.extraction.retirement import Look, Passed
from stranglerfig.facade.accesslog import Observation

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def line(
    path: str = "/api/orders/7", *, cluster: str | None = "monolith", at: float = 5.0, **more: object
) -> Observation:
    values = {
        "time": NOON.timestamp() + at,
        "method": "GET",
        "path": path,
        "route": "pass",
        "variant": "",
        "cluster": cluster,
        "status": 200,
        "flags": "-",
        "duration_us": 1_000_000,
        "upstream_us": 1,
        "request_id": None,
        "traceparent": None,
        "bytes_in": 0,
        "bytes_out": 0,
    }
    return Observation(**{**values, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "/"),
        ("/api/orders/4711?token=secret", "/api/orders/{}"),
        ("/api/orders/4711/cancelled", "/api/orders/{}/cancelled"),
        ("/7/8/9", "/{}/{}/{}"),
        ("/a/1b4e28ba-2fa1-11d2-883f-0016d3cca427/b", "/a/{}/b"),
        ("/a/deadbeef", "/a/{}"),
        ("/v2/items", "/v2/items"),
        ("/a/" + "x" * 48, "/a/{}"),
        ("/a\x00b\nc", "/a·b·c"),
        ("/" + "ab/" * 100, ("/" + "ab/" * 100)[:200]),
    ],
)
def test_what_names_one_thing_is_not_in_a_kind(path: str, kind: str) -> None:
    assert folded(path) == kind


def test_of_services_only_the_route_counts() -> None:
    assert shape(line(cluster="service_inventory", route="inventory:read:0")) == (
        *(NOON, "service", "inventory:read:0", "", ""),
    )
    assert shape(line()) == (NOON, "monolith", "pass", "GET", "/api/orders/{}")
    assert shape(line(cluster=None, status=410))[1] == "facade"


def test_each_kind_is_counted_with_its_last_end() -> None:
    found = Tally.of([line(at=5), line("/api/orders/8", at=3), line("/x")], set())
    assert found.counts[shape(line())] == (2, NOON.timestamp() + 6)
    assert found.first == NOON.timestamp() + 3 and len(found.counts) == 2
    assert Tally.of([], set()).first is None


def test_clients_choose_paths_but_not_how_many_kinds_there_are() -> None:
    known: set[Shape] = set()
    many = Tally.of([line(f"/p{''.join(chr(97 + int(d)) for d in str(n))}") for n in range(3 * SHAPES)], known)
    assert len(many.counts) == SHAPES + 1 and len(known) == SHAPES + 1
    assert many.counts[(NOON, "monolith", "pass", "GET", OTHERS)][0] == 2 * SHAPES
    later = Tally.of([line("/service", cluster="service_a", route="a:read:0"), line("/new", at=3600)], known)
    assert {key[2:] for key in later.counts} == {("a:read:0", "", ""), ("pass", "GET", "/new")}


def looked(**more: object) -> Look:
    now = NOON + timedelta(hours=1)
    values = {
        "contexts": {"inventory": "done"},
        "remaining": [],
        "quiet": 3600.0,
        "passing": [],
        "requests": 10,
        "since": NOON,
        "until": now,
        "in_flight": 0,
    }
    return Look(**{**values, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, None),
        ({"contexts": {"inventory": "writes"}, "remaining": ["inventory"]}, "contexts_remain"),
        ({"since": None, "until": None}, "not_watched"),
        ({"since": NOON + timedelta(seconds=1)}, "not_watched"),
        ({"until": NOON}, "not_watched"),
        ({"passing": [Passed("pass", "GET", "/a", 3, NOON)]}, "still_passing"),
        ({"in_flight": 2}, "still_passing"),
        ({"in_flight": None}, None),
    ],
)
def test_what_stands_between_the_monolith_and_its_end(more: dict[str, object], code: str | None) -> None:
    found = [reason.code for reason in looked(**more).reasons(NOON + timedelta(hours=1))]
    assert found == ([code] if code else [])
