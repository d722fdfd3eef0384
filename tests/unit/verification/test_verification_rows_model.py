"""How ranges are cut, and what counts as a difference."""

from __future__ import annotations

from stranglerfig.verification.model import (
    Key,
    Range,
    RowResult,
    Sighting,
    difference,
    divide,
    judge,
    unlike,
)


def test_parts_of_a_range_are_the_range() -> None:
    assert divide(Range(None, ("9",)), [("3",), ("9",)]) == [Range(None, ("3",)), Range(("3",), ("9",))]
    assert divide(Range(("1",), None), []) == [Range(("1",), None)]


def test_rows_that_are_unlike() -> None:
    here: dict[Key, Sighting] = {("1",): Sighting(("a",), "v"), ("2",): Sighting(("b",)), ("3",): Sighting(("c",))}
    there: dict[Key, Sighting] = {("1",): Sighting(("a",), "w"), ("2",): Sighting(("x",)), ("4",): Sighting(("d",))}
    assert unlike(here, there) == [("2",), ("3",), ("4",)]


def test_traffic_is_told_from_difference() -> None:
    still = Sighting(("a",), "1")
    before: dict[Key, Sighting] = {("same",): still, ("bad",): still, ("moving",): still, ("lost",): still}
    after = before | {("moving",): Sighting(("a",), "2")}
    target: dict[Key, Sighting] = {
        ("same",): Sighting(("a",), "9"),
        ("bad",): Sighting(("b",)),
        ("extra",): Sighting(("e",)),
    }
    keys: list[Key] = [("same",), ("bad",), ("moving",), ("lost",), ("extra",), ("nowhere",)]
    verdict = judge(keys, before, target, after)
    assert verdict.equal == {("same",), ("nowhere",)}
    assert verdict.different == {("bad",), ("lost",), ("extra",)}
    assert verdict.again == {("moving",)}


def test_where_both_sides_write_a_target_that_moved_is_looked_at_again() -> None:
    still = {("row",): Sighting(("a",), "1")}
    beside = {("row",): Sighting(("b",), "5")}
    moved = {("row",): Sighting(("b",), "6")}
    assert judge([("row",)], still, moved, still, beside).again == {("row",)}
    assert judge([("row",)], still, beside, still, beside).different == {("row",)}


def test_differences_say_where_and_what() -> None:
    names = (["id"], ["a", "b"])
    row = Sighting(("1", None))
    assert difference(("m", "s"), names, ("7",), row, None, forward=True).kind == "missing"
    assert difference(("m", "s"), names, ("7",), row, None, forward=False).kind == "extra"
    assert difference(("m", "s"), names, ("7",), None, row, forward=True).kind == "extra"
    found = difference(("m", "s"), names, ("7",), row, Sighting(("1", "x")), forward=True)
    assert found.as_dict() == {
        "table": "m",
        "service_table": "s",
        "key": {"id": "7"},
        "kind": "differs",
        "columns": {"b": {"monolith": None, "service": "x"}},
    }


def test_a_result_is_equal_only_without_doubt() -> None:
    result = RowResult("c", "forward", "n", 1, 10, 1, 0.5, ())
    assert result.equal and result.rate == 20
    assert not RowResult("c", "forward", "n", 1, 10, 1, 0.0, (), unsettled=1).equal
    assert RowResult("c", "forward", "n", 1, 10, 1, 0.0, (), truncated=True).as_dict()["equal"] is False
