"""Which rows differ for sure, told from two looks at both sides."""

from __future__ import annotations

from stranglerfig.verification.across import _left, _Seen
from stranglerfig.verification.model import Key, Sighting


def seen(monolith: str | None, service: str | None) -> _Seen:
    return _Seen(
        None if monolith is None else Sighting((monolith,)),
        None if service is None else Sighting((service,)),
    )


def test_a_row_that_differs_twice_and_did_not_change_meanwhile_differs() -> None:
    settled: dict[Key, _Seen] = {}
    before: dict[Key, _Seen] = {
        ("1",): seen("a", "b"),
        ("2",): seen("a", None),
        ("3",): seen(None, "x"),
        ("4",): seen("a", "b"),
    }
    now: dict[Key, _Seen] = {
        ("1",): seen("a", "b"),
        ("2",): seen("b", "a"),
        ("3",): seen(None, "x"),
        ("5",): seen("new", None),
    }
    again = _left(before, now, settled)
    assert set(settled) == {("1",), ("3",)}  # what the monolith has stood still, and is not there
    assert set(again) == {("2",)}  # which changed meanwhile; 4 is equal now, and 5 had no marker behind it yet


def test_a_row_that_sync_touched_meanwhile_is_looked_at_again() -> None:
    settled: dict[Key, _Seen] = {}
    one, two = Sighting(("a",)), Sighting(("a",))
    before: dict[Key, _Seen] = {("1",): _Seen(one, Sighting(("b",), "701"))}
    now: dict[Key, _Seen] = {("1",): _Seen(two, Sighting(("b",), "702"))}
    assert set(_left(before, now, settled)) == {("1",)} and not settled  # it was b, then a, and is b again


def test_where_the_stream_begins_in_the_service_its_versions_tell() -> None:
    settled: dict[Key, _Seen] = {}
    before: dict[Key, _Seen] = {
        ("1",): _Seen(Sighting(("a",)), Sighting(("b",), "701")),
        ("2",): _Seen(Sighting(("a",)), Sighting(("b",), "701")),
        ("3",): _Seen(Sighting(("a",)), None),
    }
    now: dict[Key, _Seen] = {
        ("1",): _Seen(Sighting(("c",)), Sighting(("b",), "701")),
        ("2",): _Seen(Sighting(("a",)), Sighting(("b",), "702")),
        ("3",): _Seen(Sighting(("a",)), None),
    }
    assert set(_left(before, now, settled, forward=False)) == {("2",)}
    assert set(settled) == {("1",), ("3",)}


def test_nothing_is_left_when_all_came_over() -> None:
    settled: dict[Key, _Seen] = {}
    assert _left({("1",): seen("a", "b")}, {}, settled) == {} == settled
