"""What changed between two models: meaning, compatibility, sign-offs; a change is what the hash sees."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given

from stranglerfig.storming.differences import differences
from stranglerfig.storming.model import Model, semantic_hash, sign
from stranglerfig.storming.text import parse, show
from tests.unit.storming.test_storming_text import INVENTORY, models

OLD = parse(INVENTORY)


def changed(old: str, new: str) -> Model:
    assert old in INVENTORY
    return parse(INVENTORY.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("delta: int, reason: str)", "reason: str)", "- field Inventory.AdjustStock.delta"),
        ("delta: int, reason", "delta: int?, reason", "~ field Inventory.AdjustStock.delta: int is int? now"),
        ("reason: str)", "reason: str, who: str personal)", "+ field Inventory.AdjustStock.who: str personal"),
        ("item_id: int, delta: int", "delta: int, item_id: int", "its fields stand in another order"),
        ("v1", "v2", "~ event Inventory.StockAdjusted: version 1 is 2 now"),
        (" key item_id", "", "~ event Inventory.StockAdjusted: its key was item_id, is none now"),
        ("context Inventory", "context Stock", "- context Inventory"),
        (
            "aggregate StockLevel",
            "aggregate Level",
            "~ event Inventory.StockAdjusted: of Level, no longer of StockLevel",
        ),
        ("    event", "    event StockLost v1\n    event", "+ event Inventory.StockLost: of StockLevel"),
        ("    event", "    event? X\n    event", "a line that is not understood: event? X"),
        (
            "OrderPlaced",
            "OrderPaid",
            '~ policy Inventory."Reserve on order": Orders.OrderPaid -> AdjustStock (was ',
        ),
        ("  readmodel StockByWarehouse <- StockAdjusted\n", "", "- read model Inventory.StockByWarehouse"),
    ],
)
def test_changes_of_meaning(old: str, new: str, line: str) -> None:
    found = differences(OLD, changed(old, new))
    assert any(line in said for said in found.lines()), found.lines()
    assert found.changes and not found.layout_only and not found.as_dict()["same_meaning"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("620 300", "1 2", "Only the layout changed; the meaning is the same."),
        ("# The first", "# One", "comments changed"),
        (' answered "nobody"', "", 'open again: the question "Who may adjust below zero?" on AdjustStock'),
        ('"nobody"', '"all"', 'answered: the question "Who may adjust below zero?" on AdjustStock: all'),
        ("Who may", "Who will", 'asked and answered: the question "Who will adjust below zero?" on AdjustStock'),
        (", architect", ", tester", "must sign: tester"),
        (", architect", "", "need no longer sign: architect"),
        (
            "\nlayout",
            '\nsignoff by "Bo" as architect on 2026-01-02 of ab\n\nlayout',
            "signed: Bo (architect, 2026-01-02)",
        ),
    ],
)
def test_what_has_no_part_in_the_meaning(old: str, new: str, line: str) -> None:
    found = differences(OLD, changed(old, new))
    assert line in found.lines() and not found.changes and not found.events and not found.void


@pytest.mark.parametrize(
    ("old", "new", "compatible"),
    [
        ("on_hand: int, reason: str)", "on_hand: int, reason: str, note: str?)", True),
        ("on_hand: int, reason: str)", "on_hand: int, reason: str, note: str)", False),
        ("on_hand: int, reason: str)", "on_hand: int)", False),
        ("on_hand: int, reason: str)", "on_hand: str, reason: str)", False),
    ],
)
def test_whether_an_events_readers_and_writers_get_on(old: str, new: str, compatible: bool) -> None:
    whole = differences(OLD, changed(old, new))
    (found,) = whole.events
    said = "stays compatible in both directions" if compatible else "is not compatible: $."
    assert any(line.startswith(f"inventory.StockAdjusted {said}") for line in whole.lines())
    assert (found.event, found.compatible) == ("inventory.StockAdjusted", compatible), found.problems
    assert compatible or all(problem.words for problem in found.problems)


def test_a_change_of_meaning_voids_the_sign_offs_that_held() -> None:
    signed = sign(OLD, "Ann", "architect", date(2026, 1, 2))
    new = parse(show(signed).replace("v1", "v2"))
    found = differences(signed, new)
    assert [s.name for s in found.void] == ["Ann"] and "Void now: Ann (architect)" in found.lines()
    assert found.missing == ("domain expert", "architect")
    moved = differences(signed, parse(show(signed).replace("620 300", "1 2")))
    assert moved.void == () and moved.missing == ("domain expert",)


@given(models, models)
def test_there_are_changes_exactly_when_the_hash_is_another(old: Model, new: Model) -> None:
    found = differences(old, new)
    assert bool(found.changes) == (semantic_hash(old) != semantic_hash(new))
    same = differences(new, new)
    assert not (same.changes or same.events or same.beside or same.layout or same.void)


def test_an_event_that_stands_twice_is_no_other_than_itself() -> None:
    model = parse("context A\n  aggregate B\n    event C() v1\n    event C(a: int) v1\n")
    assert len(list(model.events())) == 2
    assert not differences(model, model).events
