"""A service out of a model: what follows from it, what is noted and refused, and files that can be read."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.storming.service import derive, render
from stranglerfig.storming.service.derive import Plan
from stranglerfig.storming.text import parse

SHOP = Path(__file__).parents[3] / "examples/shop/estate/contexts/inventory/model.storm"
PARTS = {
    "command": "AdjustStock(item_id: int, delta: int)",
    "event": "StockAdjusted(item_id: int, delta: int) v1 key item_id",
    "more": "",
}


def planned(name: str = "stock", **parts: str) -> Plan:
    """The plan of a small model; ``parts`` take the place of its own."""
    said = PARTS | parts
    model = parse(
        f"context Stock\n  aggregate Level(item_id: int, on_hand: int)\n    command {said['command']}\n"
        f"    event {said['event']}\n{said['more']}"
        "context Orders\n  aggregate Order\n    command PlaceOrder(order_id: int)\n"
        "    event OrderPlaced(order_id: int, item_id: int, delta: int) v1 key order_id\n"
    )
    context = model.context(name)
    assert context is not None
    return derive.plan(model, context)


def whole(plan: Plan, path: str) -> str:
    """A file of the service."""
    return render.project(plan)[path]


@pytest.mark.parametrize("name", ["billing", "b2", "a" * 30])
def test_a_name_that_a_service_can_have(name: str) -> None:
    render.check_name(name)


@pytest.mark.parametrize("name", ["", "b", "Billing", "2b", "my-service", "my_service", "a" * 31, "../up", "é1"])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(FigError, match="2 to 30 lower-case letters and digits") as refused:
        render.check_name(name)
    assert refused.value.code == "bad_service_name" and "such as billing" in refused.value.remedy


@pytest.mark.parametrize("name", ["json", "email", "class", "tests", "stranglerfig", "uvicorn"])
def test_a_name_that_somebody_else_has_is_refused(name: str) -> None:
    with pytest.raises(FigError, match="has that name"):
        render.check_name(name)


@pytest.mark.parametrize("source", ["nothing", "shop"])
def test_the_files_can_be_read(source: str) -> None:
    model = render.starter("inventory") if source == "nothing" else parse(SHOP.read_text())
    made = render.project(derive.plan(model, model.contexts[0]))
    for path, text in made.items():
        assert "$name" not in text and "${" not in text and text.endswith("\n"), path
        if path.endswith(".py"):
            ast.parse(text, path)
    assert tomllib.loads(made["pyproject.toml"])["project"]["name"] == "inventory"
    assert {"Makefile", "Dockerfile", "README.md", ".gitignore", "inventory/schema.sql", "inventory/__main__.py"} < {
        *made
    }
    assert "$(PYTHON) -m pytest" in made["Makefile"] and "INVENTORY_DSN" in made["README.md"]


def test_a_command_records_the_event_of_its_words_from_its_fields() -> None:
    more = "    command CountStock(item_id: int)\n    event StockCounted(item_id: int, on_hand: int) v1 key item_id\n"
    plan = planned(more=more)
    adjust, count = plan.decisions
    assert adjust.event is not None and (adjust.event.name, adjust.open, adjust.lost) == ("StockAdjusted", "", "")
    assert (count.open, count.lost) == ("what StockCounted says of on_hand", "")
    domain = whole(plan, "stock/domain.py")
    assert "return self.record(StockAdjusted(item_id=self.item_id, delta=command.delta))" in domain
    assert 'raise Refused("not_decided", what="what StockCounted says of on_hand")' in domain
    assert '"on_hand" bigint NOT NULL' in whole(plan, "stock/schema.sql")


@pytest.mark.parametrize(
    ("command", "event", "of"),
    [
        ("PayOrder", "OrderPaid", "OrderPaid"),
        ("StopShip", "ShipStopped", "ShipStopped"),
        ("CarryBox", "BoxCarried", "BoxCarried"),
        ("ReserveItem", "ItemReleased", None),
        ("ReserveItem", "OrderReserved", None),
    ],
)
def test_words_tell_which_event_is_a_commands(command: str, event: str, of: str | None) -> None:
    plan = planned(more=f"    command {command}(item_id: int)\n    event {event}(item_id: int) v1 key item_id\n")
    found = plan.decisions[1].event if plan.decisions[1].command.name == command else plan.decisions[0].event
    assert (found.name if found else None) == of


def test_a_command_that_does_not_say_for_what_it_is_is_noted_and_refused() -> None:
    plan = planned(command="AdjustStock(delta: int)")
    assert ("AdjustStock", "which Level it is for (item_id)") in plan.notes
    assert 'raise Refused("not_decided", what="which Level it is for (item_id)")' in whole(plan, "stock/service.py")
    assert "- `AdjustStock`: which Level it is for (item_id)" in whole(plan, "README.md")


def test_a_policy_becomes_a_handler() -> None:
    service = whole(planned(more='  policy "Ship it": OrderPlaced -> AdjustStock\n'), "stock/service.py")
    assert "# Ship it\n    await adjust_stock(AdjustStock(item_id=event.item_id, delta=event.delta), tx)" in service
    assert "service.on(OrderPlaced, emits=[StockAdjusted])(whenever_order_placed)" in service
    assert 'TOPICS = ["events.orders", "events.stock"]' in service


def test_a_policy_sends_what_another_context_takes() -> None:
    plan = planned("stock", more='  policy "Order more": Stock.StockAdjusted -> PlaceOrder\n')
    assert ("Order more", "where order_id of PlaceOrder comes from") in plan.notes
    event = "StockAdjusted(item_id: int, delta: int, order_id: int) v1 key item_id"
    plan = planned(event=event, more='  policy "Order more": StockAdjusted -> Orders.PlaceOrder\n')
    service = whole(plan, "stock/service.py")
    assert "tx.send(PlaceOrder(order_id=event.order_id))" in service and '"commands.orders"' in service
    assert 'class PlaceOrder(Command, type="orders.PlaceOrder", key="order_id")' in whole(plan, "stock/messages.py")


def test_an_event_of_an_unknown_context_carries_what_is_asked_of_it_and_says_so() -> None:
    plan = planned(more='  policy "Ship it": Shops.Sold -> AdjustStock, Shops.Thank\n')
    assert ("Sold", "what it carries, which shops says; taken: item_id, delta") in plan.notes
    assert ("Ship it", "what Shops.Thank carries, and who takes it") in plan.notes
    assert 'class Sold(Event, type="shops.Sold", key="item_id")' in whole(plan, "stock/messages.py")
    assert "parked: list[Event] = [SOLD]" in whole(plan, "tests/examples.py")


def test_a_read_model_becomes_a_projection_where_its_events_have_something_in_common() -> None:
    plan = planned(more="  readmodel Moves <- StockAdjusted\n  readmodel Sales <- StockAdjusted, Orders.OrderPlaced\n")
    service = whole(plan, "stock/service.py")
    assert 'class Moves(Projection, name="moves", id="item_id")' in service and "self.delta = event.delta" in service
    assert "class Sales" not in service and "# Sales is left out: not in the model is" in service


def test_what_is_declared_of_fields_is_kept_to() -> None:
    fields = "at: date?, item_id: int, tags: list[str], rates: list[decimal], name: str personal"
    made = parse(
        f"context Stock\n  aggregate Level({fields})\n    command AdjustStock({fields})\n"
        f"    event StockAdjusted({fields}) v2 key item_id\n"
    )
    plan = derive.plan(made, made.contexts[0])
    assert ("Level", "how rates is kept (list[decimal])") in plan.notes
    assert ("StockAdjusted", "what it was like before version 2") in plan.notes
    messages, domain = whole(plan, "stock/messages.py"), whole(plan, "stock/domain.py")
    assert 'type="stock.StockAdjusted", key="item_id", version=2' in messages
    assert messages.rstrip().endswith("name: str  # personal data\n    at: dt.date | None = None")
    assert "tags: list[str] = field(default_factory=list)" in domain and "self.rates" not in domain
    assert '"at" date,\n    "tags" jsonb NOT NULL' in whole(plan, "stock/schema.sql")


def test_open_and_answered_questions_stand_where_they_are_decided() -> None:
    plan = planned(more='hotspot "May it be less than nothing?" on AdjustStock answered "never"\n')
    assert "# May it be less than nothing? never" in whole(plan, "stock/domain.py")


@pytest.mark.parametrize(
    "parts",
    [
        {"event": "StockAdjusted(item_id: int, delta: int)"},
        {"event": "StockAdjusted(item_id: list[int], delta: int) v1 key item_id"},
        {"command": "_(item_id: int)", "more": "    event LevelClosed(item_id: int) v1 key item_id\n"},
        {"event": "StockAdjusted(item_id: int, class: int) v1 key item_id"},
        {"command": "Import(item_id: int)"},
        {"command": "adjust_stock(item_id: int)"},
        {"command": "Level(item_id: int)"},
        {"command": "OnHand(item_id: int)"},
        {"command": "AdjustStock"},
        {"more": "  readmodel StockAdjusted <- StockAdjusted\n"},
        {"more": '  policy "Again": Shops.AdjustStock -> AdjustStock\n'},
    ],
)
def test_a_model_of_which_no_code_can_be_made_is_refused(parts: dict[str, str]) -> None:
    with pytest.raises(FigError) as refused:
        planned(**parts)
    assert refused.value.code == "model_unusable" and refused.value.remedy.endswith("in the model.")


def test_long_calls_are_laid_out_as_the_formatter_does() -> None:
    inner = render.Call("inner(", ["a" * 60, "b" * 60])
    assert render.Call("outer(", ["c", inner]).at(4).splitlines() == [
        "    outer(",
        "        c,",
        "        inner(",
        f"            {'a' * 60},",
        f"            {'b' * 60},",
        "        ),",
        "    )",
    ]
    assert render.Call("f(", ["a", "b"]).at() == "f(a, b)"
