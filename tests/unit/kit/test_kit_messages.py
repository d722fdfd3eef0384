"""Events and commands: declared once, on the wire as JSON, brought forward from older versions."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.eventlog import model as log
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Event
from stranglerfig.kit.messages import Command, data_of, decode, key_of, kind_of, schema_of
from tests.kit_shop import OrderPlaced, Restock, StockAdjusted

AT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)


class Everything(Event, type="test.Everything", key="id", topic="facts"):
    id: UUID
    at: datetime
    price: Decimal
    words: list[str]
    maybe: int | None = None


def on_the_log(data: Any, schema: str | None = None, type: str = "stock.StockAdjusted") -> log.Event:
    return log.Event("e1", "/stock", type, AT, orjson.dumps(data), dataschema=schema)


def test_what_a_class_declares() -> None:
    kind = kind_of(StockAdjusted)
    assert (kind.type, kind.version, kind.key, kind.topic) == ("stock.StockAdjusted", 2, "item_id", "events.stock")
    assert kind.dataschema == "fig:schemas/stock.StockAdjusted/2"
    assert kind_of(Restock).topic == "commands.warehouse" and kind_of(Everything).topic == "facts"
    assert key_of(OrderPlaced(7, 2)) == "7"


@given(
    st.uuids(),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.lists(st.text()),
    st.none() | st.integers(-(2**70), 2**70),
)
def test_what_is_written_is_read(id: UUID, price: Decimal, words: list[str], maybe: int | None) -> None:
    message = Everything(id, AT, price, words, maybe)
    assert decode(Everything, on_the_log(orjson.loads(b"{}"))._replace(data=data_of(message))) == message


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        OrderPlaced(1, 2).quantity = 3  # type: ignore[misc]


def test_older_versions_are_brought_forward() -> None:
    old = on_the_log({"item_id": 7, "delta": 3}, "fig:schemas/stock.StockAdjusted/1")
    assert decode(StockAdjusted, old) == StockAdjusted(7, 3, 0)


def test_a_newer_versions_fields_are_left_out() -> None:
    new = on_the_log({"item_id": 7, "delta": 3, "on_hand": 4, "who": "Ann"}, "fig:schemas/stock.StockAdjusted/3")
    assert decode(StockAdjusted, new) == StockAdjusted(7, 3, 4)


def test_without_a_version_it_is_the_classs() -> None:
    assert decode(StockAdjusted, on_the_log({"item_id": 7, "delta": 3, "on_hand": 4})) == StockAdjusted(7, 3, 4)


@pytest.mark.parametrize(
    ("data", "schema", "said"),
    [
        ({"item_id": "seven", "delta": 3, "on_hand": 4}, None, "item_id: "),
        ({"delta": 3, "on_hand": 4}, None, "item_id: Field required"),
        ([1], None, "data: "),
        ({"item_id": 7}, "fig:schemas/stock.StockAdjusted/0", "no upcaster from version 0"),
        ([1], "fig:schemas/stock.StockAdjusted/1", "is not a stock.StockAdjusted"),
    ],
)
def test_what_cannot_be_read_says_where(data: Any, schema: str | None, said: str) -> None:
    with pytest.raises(FigError) as caught:
        decode(StockAdjusted, on_the_log(data, schema))
    assert caught.value.code == "message_unreadable" and said in caught.value.message


def test_the_schema_is_closed_for_writers() -> None:
    schema = schema_of(OrderPlaced)
    assert schema["required"] == ["item_id", "quantity"] and schema["additionalProperties"] is False


def _declared(base: type[Event] | type[Command] = Event, **kind: Any) -> None:
    type("Made", (base,), {"__annotations__": {"id": int}, "__module__": __name__}, **kind)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({}, "no type"),
        ({"type": "a.B"}, "no type or no key"),
        ({"type": "NoContext", "key": "id"}, "is not a type"),
        ({"type": "a.B", "key": "it"}, "no field 'it'"),
    ],
)
def test_a_wrong_declaration_is_refused(kind: dict[str, Any], said: str) -> None:
    with pytest.raises(FigError, match=said) as caught:
        _declared(**kind)
    assert caught.value.code == "message_misdeclared" and caught.value.remedy


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_an_upcaster_needs_an_older_version_without_one(version: int) -> None:
    with pytest.raises(FigError, match="has no place"):
        StockAdjusted.upcast(version)(lambda old: old)
