"""The order in which contexts are moved: after those whose events they need, ready ones first, circles broken."""

from __future__ import annotations

from datetime import date

from stranglerfig.storming.model import sign
from stranglerfig.storming.roadmap import roadmap
from stranglerfig.storming.text import parse


def storm(name: str, event: str, *lines: str) -> str:
    body = f"context {name}\n  aggregate A{name}\n    command Do{name}(id: int)\n    event {event}(id: int) v1 key id\n"
    return body + "".join(f"  {line}\n" for line in lines) + "signoff required: architect\n"


INVENTORY = storm("Inventory", "StockTaken", 'policy "a": Orders.OrderPlaced -> DoInventory')
ORDERS = storm("Orders", "OrderPlaced", 'policy "b": Payments.MoneyPaid -> Shipping.ShipOrder')
PAYMENTS = storm("Payments", "MoneyPaid")


def test_a_context_comes_after_those_whose_events_it_hears() -> None:
    found = roadmap([parse(text) for text in (INVENTORY, ORDERS, PAYMENTS)])
    assert [step.context for step in found.steps] == ["payments", "orders", "inventory"]
    payments, orders, _ = found.steps
    assert "it hears no events of other contexts" in payments.reasons()
    assert "its events are heard by orders" in payments.reasons()
    assert "it hears MoneyPaid of payments, which has been moved by then" in orders.reasons()
    assert "its policies ask shipping for ShipOrder" in orders.reasons()
    assert found.unmodelled == {"shipping": ("orders",)}
    assert found.as_dict()["steps"][1]["needs"] == {"payments": ("MoneyPaid",)}


def test_of_those_that_need_nobody_the_ready_one_is_first() -> None:
    ready = sign(parse(storm("Zoo", "AnimalFed")), "Ann", "architect", date(2026, 1, 2))
    asked = parse(storm("Apes", "ApeFed") + 'hotspot "Who?" on DoApes\n')
    broken = parse(storm("Bees", "BeeFly"))
    found = roadmap([asked, broken, ready])
    assert found.steps[0].context == "zoo"
    before = {step.context: step.before for step in found.steps}
    assert before["zoo"] == () and before["apes"] == ('answer "Who?"', "have it signed: architect")
    assert before["bees"][0].startswith("mend 1 error(s) of the model, the first: ABees.BeeFly: ")


def test_a_circle_is_begun_somewhere_and_says_what_that_costs() -> None:
    one = storm("One", "OneDone", 'policy "a": Two.TwoDone -> DoOne')
    two = storm("Two", "TwoDone", 'policy "b": One.OneDone -> DoTwo', 'policy "c": Three.ThreeDone -> DoTwo')
    found = roadmap([parse(one), parse(two)])
    assert [(step.context, step.early) for step in found.steps] == [("one", ("two",)), ("two", ("three",))]
    assert any("still in the monolith then" in reason for reason in found.steps[0].reasons())


def test_contexts_of_one_file_are_told_apart() -> None:
    both = PAYMENTS.replace("signoff required: architect\n", "") + ORDERS.replace("Payments.MoneyPaid", "MoneyPaid")
    found = roadmap([parse(both)])
    assert [step.context for step in found.steps] == ["payments", "orders"]
    shown = found.markdown()
    assert shown.startswith("# Roadmap\n") and "## 1. payments" in shown and "- [ ] have it signed: architect" in shown
    assert "- shipping: named by orders" in shown


def test_an_estate_without_models_has_an_empty_roadmap() -> None:
    assert roadmap([]).as_dict() == {"steps": [], "unmodelled": {}}
