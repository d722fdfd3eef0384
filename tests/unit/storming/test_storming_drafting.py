"""The first draft of a model: what people get to correct, in a form that the lint reads."""

from __future__ import annotations

import pytest

from stranglerfig.storming.drafting import Seed, Wish, camel, draft, past, singular
from stranglerfig.storming.lint import errors
from stranglerfig.storming.text import parse, show

STOCK = Seed(
    "inventory",
    [("item_id", "bigint", False), ("level", "numeric(10,2)", True), ("tags", "text[]", False)],
    ["item_id"],
)
LINES = Seed("sales.order_lines", [("id", "uuid", False), ("at", "timestamp with time zone", False)], ["id"])


@pytest.mark.parametrize(
    ("wish", "command", "event"),
    [
        (Wish("POST", "/api/inventory/adjust", ["log", "inventory"]), "AdjustInventory", "InventoryAdjusted"),
        (Wish("POST", "/api/inventory/{id}/mark-down", ["inventory"]), "MarkDownInventory", "InventoryMarkedDown"),
        (Wish("DELETE", "/api/order-lines/{id}", ["sales.order_lines"]), "RemoveOrderLine", "OrderLineRemoved"),
        (Wish("PUT", "/api/order_lines", ["sales.order_lines"]), "SetOrderLine", "OrderLineSet"),
        (
            Wish("POST", "/api/order-lines/pending", ["sales.order_lines"]),
            "AddPendingOrderLine",
            "PendingOrderLineAdded",
        ),
        (Wish("POST", "/api/order-lines/notes", ["sales.order_lines"]), "AddOrderLineNote", "OrderLineNoteAdded"),
        (Wish("PATCH", "/things", ["inventory"]), "ChangeInventory", "InventoryChanged"),
    ],
)
def test_a_route_becomes_a_command_and_what_has_happened(wish: Wish, command: str, event: str) -> None:
    model = draft("stock", [STOCK, LINES], [wish])
    assert [each.name for _, _, each in model.commands()] == [command]
    assert [each.name for _, _, each in model.events()] == [event]
    assert [finding.code for finding in errors(model)] == ["open_hotspot"]


def test_tables_become_aggregates_with_fields_and_events_have_their_key() -> None:
    model = draft("stock", [STOCK, LINES], [Wish("POST", "/inventory/adjust", ["inventory"])])
    stock, line = model.contexts[0].aggregates
    assert (stock.name, line.name) == ("Inventory", "OrderLine")
    assert [(f.name, f.type, f.optional) for f in stock.fields] == [
        ("item_id", "int", False),
        ("level", "decimal", True),
        ("tags", "list[str]", False),
    ]
    assert [f.type for f in line.fields] == ["uuid", "timestamp"]
    assert stock.events[0].key == "item_id"


def test_a_draft_is_text_that_is_read_back_and_that_nobody_has_agreed_to() -> None:
    wishes = [Wish("POST", "/inventory/adjust", ["inventory"]), Wish("PUT", "/v2/inventory/adjust", ["inventory"])]
    model = draft("stock", [STOCK], [*wishes, Wish("POST", "/elsewhere", ["unknown"])])
    assert parse(show(model)) == model
    assert len(list(model.commands())) == 1
    assert model.required == ("domain expert", "architect") and not model.signatures


def test_a_table_of_which_no_column_is_known_is_an_aggregate_all_the_same() -> None:
    model = draft("stock", [Seed("boxes")], [Wish("POST", "/boxes", ["boxes"])])
    assert show(model).splitlines()[2:5] == ["  aggregate Box", "    command AddBox", "    event BoxAdded v1"]


VERBS = {
    "adjust": "adjusted",
    "release": "released",
    "send": "sent",
    "ship": "shipped",
    "try": "tried",
    "delay": "delayed",
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_in_the_past(verb: str) -> None:
    assert past(verb) == VERBS[verb]


def test_names() -> None:
    assert [singular(name) for name in ("categories", "boxes", "status", "lines", "address", "branches")] == [
        "category", "box", "status", "line", "address", "branch"
    ]  # fmt: skip
    assert camel("sales.order_lines") == "OrderLines"
