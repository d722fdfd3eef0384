"""The first draft of a model: what people get to correct, in a form that the lint reads."""

from __future__ import annotations

from itertools import combinations

import pytest

from stranglerfig.storming.board import SIZES, to_board
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


def test_a_draft_hangs_from_left_to_right_and_nothing_hangs_over_another() -> None:
    others = [Seed(f"notes_{number}_x") for number in range(6)]
    wishes = [
        *(Wish("POST", f"/inventory/{verb}", ["inventory"]) for verb in ("adjust", "count", "mark", "move")),
        Wish("PUT", "/order_lines", ["sales.order_lines"]),
    ]
    board = to_board(draft("stock", [others[0], STOCK, LINES, *others[1:], Seed("twice"), Seed("a.twice")], wishes))
    notes = list(board.notes.values())
    assert len(notes) == 21
    by_id = board.notes
    for edge in board.edges.values():
        source, target = by_id[edge.source], by_id[edge.target]
        if source.kind != "hotspot":
            assert source.x + SIZES[source.kind][0] < target.x
            assert abs(source.y - target.y) < 300
    flat = [note for note in notes if note.kind != "hotspot"]
    for one, other in combinations(flat, 2):
        (w1, h1), (w2, h2) = SIZES[one.kind], SIZES[other.kind]
        beside = one.x + w1 <= other.x or other.x + w2 <= one.x
        assert beside or one.y + h1 <= other.y or other.y + h2 <= one.y, (one.text, other.text)
    (home,) = board.contexts.values()
    for note in flat:
        width, height = SIZES[note.kind]
        assert home.x < note.x and note.x + width < home.x + home.width
        assert home.y < note.y and note.y + height < home.y + home.height
