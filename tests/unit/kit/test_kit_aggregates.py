"""Aggregates: rules and what follows from what they record, without any database."""

from __future__ import annotations

from typing import Any

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Aggregate, Refused, evolves
from stranglerfig.kit import aggregates as kept
from tests.kit_shop import Ledger, OrderPlaced, StockAdjusted, StockLevel


def test_a_decision_is_an_event_and_the_state_follows() -> None:
    level = StockLevel(7, 10)
    assert level.adjust(-3) == StockAdjusted(7, -3, 7)
    assert level.on_hand == 7 and kept.news_of(level) == [StockAdjusted(7, -3, 7)]


def test_a_refusal_changes_nothing() -> None:
    level = StockLevel(7, 10)
    with pytest.raises(Refused) as caught:
        level.adjust(-11)
    assert (caught.value.code, caught.value.facts) == ("insufficient_stock", {"available": 10})
    assert level.on_hand == 10 and kept.news_of(level) == []


def test_what_has_happened_is_no_news() -> None:
    ledger = kept.evolve(Ledger(7), [StockAdjusted(7, 2, 2), StockAdjusted(7, 3, 5)])
    assert (ledger.total, ledger.entries, kept.version_of(ledger), kept.news_of(ledger)) == (5, 2, 2, [])
    assert kept.version_of(kept.evolve(Ledger(7, 5, 40), [StockAdjusted(7, 1, 6)], version=40)) == 41


def test_several_report_in_the_order_of_their_decisions() -> None:
    news: list[tuple[Aggregate, Any]] = []
    one, other = StockLevel(1, 5), StockLevel(2, 5)
    one.adjust(1)
    for each in (one, other):
        kept.report_to(each, news)
    other.adjust(-1)
    one.adjust(2)
    assert [(each.item_id, event.delta) for each, event in news] == [(1, 1), (2, -1), (1, 2)]  # type: ignore[attr-defined]


def test_an_event_that_changes_no_state_is_refused() -> None:
    with pytest.raises(FigError, match="does not say what becomes of its state"):
        StockLevel(7).record(OrderPlaced(7, 1))


def test_what_a_class_inherits_it_evolves_by() -> None:
    class Wide(StockLevel, table="wide", id="item_id"):
        seen: int = 0

        @evolves(OrderPlaced)
        def _seen(self, event: OrderPlaced) -> None:
            self.seen += event.quantity

    wide = Wide(1, 5)
    wide.adjust(1)
    wide.record(OrderPlaced(1, 2))
    assert (wide.on_hand, wide.seen, kept.form_of(wide).fields) == (6, 2, ("item_id", "on_hand", "tags", "seen"))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"id": "it", "table": "t"}, "no field 'it'"),
        ({"id": "id"}, "kept nowhere, or twice"),
        ({"id": "id", "table": "t", "stream": "s"}, "kept nowhere, or twice"),
        ({"id": "id", "stream": "s"}, r"\['size'\] have no default"),
    ],
)
def test_a_wrong_declaration_is_refused(form: dict[str, Any], said: str) -> None:
    with pytest.raises(FigError, match=said) as caught:
        type("Made", (Aggregate,), {"__annotations__": {"id": int, "size": int}, "__module__": __name__}, **form)
    assert caught.value.code == "message_misdeclared"
