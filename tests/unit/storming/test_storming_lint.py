"""Lint: each rule finds what it is for, says where, why and what to do; a good model has no findings."""

from __future__ import annotations

import pytest

from stranglerfig.storming.lint import errors, is_past, lint, words
from stranglerfig.storming.text import parse

GOOD = """\
context Inventory
  aggregate StockLevel(on_hand: int)
    command AdjustStock(item_id: int, delta: int, reason: str)
    event StockAdjusted(item_id: int, delta: int, on_hand: int, reason: str) v1 key item_id
  policy "Reserve on order": Orders.OrderPlaced -> AdjustStock
  readmodel StockByWarehouse <- StockAdjusted

hotspot "Who may adjust below zero?" on AdjustStock answered "nobody"
signoff required: domain expert, architect
"""

COMMAND = "    command AdjustStock(item_id: int, delta: int, reason: str)\n"


def test_a_good_model_has_no_findings() -> None:
    assert lint(parse(GOOD)) == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("StockAdjusted", "StockAdjust", "event_not_past"),
        ("StockAdjusted", "StockUpdated", "technical_name"),
        ("AdjustStock", "AdjustedStock", "command_not_imperative"),
        ("AdjustStock", "AdjustingStock", "command_not_imperative"),
        (COMMAND, "", "event_without_producer"),
        (COMMAND, COMMAND + COMMAND, "duplicate_name"),
        ("  policy", "  aggregate StockLevel\n  policy", "aggregate_twice"),
        (
            "  policy",
            "  aggregate Shelf\n    command ClearShelf\n    event StockAdjusted(item_id: int) v1 key item_id\n  policy",
            "event_with_two_producers",
        ),
        ("delta: int, reason: str)\n", "delta: money, reason: str)\n", "unknown_type"),
        ("delta: int, reason: str)\n", "delta: int, delta: int, reason: str)\n", "duplicate_field"),
        ("key item_id", "key warehouse", "key_not_a_field"),
        ("v1", "v0", "bad_version"),
        ("Orders.OrderPlaced ->", "->", "policy_without_event"),
        ("-> AdjustStock", "->", "policy_without_command"),
        ("Orders.OrderPlaced", "OrderPlaced", "unknown_event"),
        ("-> AdjustStock", "-> ShipOrder", "unknown_command"),
        ("-> AdjustStock", "-> StockAdjusted", "edge_outside_grammar"),
        ("<- StockAdjusted", "<- AdjustStock", "edge_outside_grammar"),
        (" <- StockAdjusted", "", "readmodel_without_source"),
        (' answered "nobody"', "", "open_hotspot"),
        ("signoff required: domain expert, architect\n", "", "nobody_must_sign"),
        (' on AdjustStock answered "nobody"', " on Inventory.AdjustStock", "open_hotspot"),
        (' on AdjustStock answered "nobody"', " on Inventory", "open_hotspot"),
        ("Orders.OrderPlaced ->", "Inventory.OrderPlaced ->", "unknown_event"),
        ("signoff", "sticker Blue\nsignoff", "line_not_understood"),
        ("context Inventory", "context Inventory\n  event Lost", "line_not_understood"),
    ],
)
def test_errors(old: str, new: str, code: str) -> None:
    found = errors(parse(GOOD.replace(old, new)))
    assert code in {finding.code for finding in found}
    assert all(finding.reason and finding.remedy and finding.place for finding in found)
    assert all(finding.as_dict()["severity"] == "error" for finding in found)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("(on_hand: int)", "", "field_from_nowhere"),
        (" key item_id", "", "event_without_key"),
        ("<- StockAdjusted", "<- Orders.OrderPlaced", "orphan_event"),
        ("Orders.OrderPlaced ->", "StockAdjusted ->", "policy_cycle"),
        ("reason: str", "email: str", "untagged_personal_data"),
        ("reason: str", "customer_email: str", "untagged_personal_data"),
        ("reason: str", "customerEmail: str", "untagged_personal_data"),
        ("Orders.OrderPlaced ->", "Inventory.StockAdjusted ->", "policy_cycle"),
        ("hotspot", "context Sales\n  readmodel Stock <- Inventory.StockAdjusted\nhotspot", "edge_across_contexts"),
        ("on AdjustStock answered", "on Nothing answered", "hotspot_on_nothing"),
        ("hotspot", "context Empty\nhotspot", "empty_context"),
        ("hotspot", "context Sales\n  readmodel Stock <- StockAdjusted\nhotspot", "edge_across_contexts"),
        ("hotspot", 'signoff by "Bo" as tester on 2026-01-02 of abc\nhotspot', "signature_not_required"),
    ],
)
def test_warnings_do_not_shut_the_gate(old: str, new: str, code: str) -> None:
    model = parse(GOOD.replace(old, new))
    assert code in {finding.code for finding in lint(model)}
    assert errors(model) == []


def test_findings_say_where() -> None:
    (finding,) = errors(parse(GOOD.replace("key item_id", "key warehouse")))
    assert (finding.line, finding.place) == (4, "StockLevel.StockAdjusted")


def test_policies_are_followed_to_their_end_once() -> None:
    text = GOOD.replace(
        "  policy",
        "  aggregate Purchase\n    command OrderMore(item_id: int)\n"
        "    event MoreOrdered(item_id: int) v1 key item_id\n"
        '  policy "Buy": StockAdjusted -> OrderMore\n  policy "Book": MoreOrdered -> AdjustStock\n  policy',
    )
    cycles = [finding.place for finding in lint(parse(text)) if finding.code == "policy_cycle"]
    assert cycles == ['Inventory."Buy"', 'Inventory."Book"']


def test_a_policy_can_only_give_what_the_event_brings() -> None:
    text = GOOD.replace(
        "  policy",
        "  aggregate Purchase\n    command OrderMore(item_id: int, amount: int, note: str?)\n"
        "    event MoreOrdered(item_id: int) v1 key item_id\n"
        '  policy "Buy": StockAdjusted -> OrderMore\n  policy "Tell": MoreOrdered -> Mail.SendLetter\n  policy',
    )
    (found,) = [f for f in lint(parse(text)) if f.code == "field_from_nowhere"]
    assert (found.place, found.reason) == (
        'Inventory."Buy"',
        "OrderMore wants amount, and StockAdjusted does not bring it",
    )
    assert errors(parse(text)) == []


WALL = """
wall
  sticky actor "Clerk" 0 100
  sticky external "Carrier" 900 100
  sticky event "Parcel sent" 800 100 in "Shipping"
  sticky aggregate "Parcel" 700 100 in "Shipping"
  sticky hotspot "Why?" 0 0
"""


@pytest.mark.parametrize(
    ("link", "code"),
    [
        ('"Clerk" -> "AdjustStock"', ""),
        ('"StockByWarehouse" -> "Clerk"', ""),
        ('"AdjustStock" -> "Carrier"', ""),
        ('"Why?" -> "Clerk"', ""),
        ('"Clerk" -> "Nobody"', ""),
        ('"Parcel" -> "Parcel sent"', ""),
        ('"Clerk" -> "StockAdjusted"', "edge_outside_grammar"),
        ('"StockAdjusted" -> "Clerk"', "edge_outside_grammar"),
        ('"AdjustStock" -> "StockAdjusted"', "edge_outside_grammar"),
        ('"AdjustStock" -> "Parcel"', "edge_across_contexts"),
        ('"Carrier" -> "Parcel sent"', "right_to_left"),
    ],
)
def test_arrows_on_the_wall(link: str, code: str) -> None:
    model = parse(f"{GOOD}{WALL}  link {link}\n")
    found = lint(model)
    assert [finding.code for finding in found] == ([code] if code else []), found
    assert all(finding.place == link and finding.reason and finding.remedy for finding in found)
    assert errors(model) == []  # nobody signs the wall


def test_an_arrow_outside_the_grammar_says_what_may_follow() -> None:
    (found,) = lint(parse(f'{GOOD}{WALL}  link "AdjustStock" -> "StockAdjusted"\n'))
    assert found.reason == "an arrow on the wall leads from a command to an event"
    assert found.remedy == "A command leads to an aggregate or an external system: ask what comes between."


def test_time_goes_from_left_to_right() -> None:
    layout = "\nlayout\n  StockAdjusted 600 0\n  StockByWarehouse 700 0\n  StockLevel 900 0\n  AdjustStock 100 0\n"
    assert lint(parse(GOOD + layout)) == []
    (found,) = lint(parse(GOOD + layout.replace("StockByWarehouse 700", "StockByWarehouse 500")))
    assert (found.code, found.line, found.severity) == ("right_to_left", 6, "warning")
    assert found.place == '"StockAdjusted" -> "StockByWarehouse"'


def test_an_empty_text_has_no_context() -> None:
    assert {finding.code for finding in errors(parse(""))} == {"no_context", "nobody_must_sign"}


def test_a_hotspot_on_a_read_model_keeps_nothing_shut() -> None:
    assert errors(parse(GOOD.replace('on AdjustStock answered "nobody"', "on StockByWarehouse"))) == []


@pytest.mark.parametrize("word", ["adjusted", "sold", "paid", "reserved", "withdrawn"])
def test_past_participles(word: str) -> None:
    assert is_past(word)


@pytest.mark.parametrize("word", ["need", "adjust", "speed", "stock"])
def test_other_words(word: str) -> None:
    assert not is_past(word)


def test_words_of_a_name() -> None:
    assert words("StockAdjustedByHTTPCall2") == ["stock", "adjusted", "by", "http", "call", "2"]
