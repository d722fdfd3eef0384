"""Reading a message's properties out of its bytes; ``pamqp`` says what they mean."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from pamqp import commands, header

from stranglerfig.facade.properties import header as header_value
from stranglerfig.facade.properties import publishable, short, value
from stranglerfig.facade.queues import Place, place

FULL: dict[str, Any] = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "headers": {"item": 7, "text": "grün", "nested": {"a": [1, "b"]}, "flag": True, "none": None, "after": "x"},
    "delivery_mode": 2,
    "priority": 5,
    "correlation_id": "c-1",
    "reply_to": "amq.rabbitmq.reply-to.g2dk",
    "expiration": "60000",
    "message_id": "m-1",
    "timestamp": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "message_type": "AdjustStock",
    "app_id": "shop",
}


def encoded(**properties: Any) -> bytes:
    return header.ContentHeader(0, 0, commands.Basic.Properties(**properties)).marshal()[12:]


def decoded(properties: bytes) -> commands.Basic.Properties:
    found = commands.Basic.Properties()
    found.unmarshal(int.from_bytes(properties[:2], "big"), properties[2:])
    return found


def test_every_property_and_header_is_found() -> None:
    found = encoded(**FULL)
    assert short(found, "type") == "AdjustStock" and short(found, "message_id") == "m-1"
    assert short(found, "app_id") == "shop" and short(found, "user_id") is None
    assert header_value(found, "item") == "7" and header_value(found, "text") == "grün"
    assert header_value(found, "after") == "x"
    assert header_value(found, "nested") is None and header_value(found, "missing") is None
    assert header_value(encoded(message_id="m"), "item") is None


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("type", "AdjustStock"),
        ("header:item", "7"),
        ("routing_key", "rk"),
        ("body:item.id", "42"),
        ("body:$.name", "n"),
        ("body:item", None),
        ("body:item.id.more", None),
        ("body:none", None),
    ],
)
def test_a_value_is_found_in_its_place(where: str, found: str | None) -> None:
    body = b'{"item": {"id": 42}, "name": "n", "none": null}'
    assert value(place(where), encoded(**FULL), body, "rk") == found
    assert value(Place("body", "item"), encoded(), b"no json", "") is None


@pytest.mark.parametrize("text", ["", "header:", "body:", "body:a..b", "body:a[0]", "user", "header"])
def test_a_wrong_place_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: type, message_id"):
        place(text)


@pytest.mark.parametrize(
    "others",
    [{}, {"content_type": "text/plain"}, FULL, {"headers": {}, "message_type": "t"}],
    ids=["alone", "typed", "all", "empty"],
)
def test_anothers_user_id_moves_into_a_header_and_all_else_stays(others: dict[str, Any]) -> None:
    there = publishable(encoded(**others, user_id="alice"), "fig")
    found, plain = decoded(there), decoded(encoded(**others))
    assert found.user_id is None
    assert found.headers == {**(plain.headers or {}), "x-fig-user-id": "alice"}
    for name in (
        "content_type",
        "content_encoding",
        "delivery_mode",
        "message_type",
        "timestamp",
        "app_id",
        "reply_to",
    ):
        assert getattr(found, name) == getattr(plain, name)
    assert header_value(there, "x-fig-user-id") == "alice"


def test_what_may_pass_is_the_same_bytes() -> None:
    same = encoded(**FULL, user_id="fig")
    assert publishable(same, "fig") is same
    other = encoded(**FULL, user_id="alice")
    assert publishable(other, "fig", impersonator=True) is other
