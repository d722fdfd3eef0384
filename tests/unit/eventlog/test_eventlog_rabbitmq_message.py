from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rstream import AMQPMessage, Properties, amqp_decoder

from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.rabbitmq_message import decode, encode

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PLACE = ("orders", 0, 7)
text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=400)
optional = st.none() | text


@given(
    st.builds(
        Event, text, text, text, st.just(AT), st.binary(max_size=300), text, optional, optional, optional, optional,
        optional, optional,
    )
)  # fmt: skip
def test_what_is_encoded_is_decoded(event: Event) -> None:
    """Attributes of more than 255 bytes take another path than short ones."""
    assert decode(encode(event), PLACE, AT) == event


def test_another_client_reads_it() -> None:
    """rstream's codec is not ours: both understand the same AMQP."""
    event = Event("1", "/shop", "shop.Ordered", AT, b"{}", subject="ü", partitionkey="k" * 300)
    message = amqp_decoder(encode(event))
    named = {key.decode(): value.decode() for key, value in message.application_properties.items()}
    assert named["cloudEvents:id"] == "1"
    assert named["cloudEvents:subject"] == "ü"
    assert named["cloudEvents:partitionkey"] == "k" * 300
    assert (message.properties.content_type, message.body) == (b"application/json", b"{}")


@pytest.mark.parametrize("prefix", ["cloudEvents:", "cloudEvents_"])
def test_another_client_writes_it(prefix: str) -> None:
    named = {"id": "1", "source": "/s", "type": "t", "time": "2026-01-02T03:04:05Z", "subject": 12, "more": True}
    message = AMQPMessage(
        body=b"data",
        properties=Properties(content_type="text/plain", message_id="m"),
        application_properties={f"{prefix}{name}": value for name, value in named.items()} | {"other": 1.5},
    )
    found = decode(bytes(message), PLACE, AT)
    assert found == Event("1", "/s", "t", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), b"data", "text/plain", "12")


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (bytes(AMQPMessage(body=b"x", application_properties={"a": -1, "b": 2**40, "c": None, "d": False})), b"x"),
        (bytes(AMQPMessage(value="text")), b"text"),
        (b"\x00\x53\x77\xa1\x02hi", b"hi"),
        (b"\x00\x53\x77\x56\x01", b"True"),
        (b"\x00\x53\x77\x98" + bytes(16), b"0" * 32),
        (b"\x00\x53\x77\x00\xa1\x01x\x43", b"0"),
        (b"\x00\x53\x77\xe0\x04\x02\x50\x01\x02", b"\x02\x50\x01\x02"),
        (b"\x00\x53\x73\x45\x00\x53\x75\xa0\x01d", b"d"),
        (b"no AMQP at all", b"no AMQP at all"),
        (b"\x00\x53\x75\xb0\x00\x00\x00\x09cut off", b"\x00\x53\x75\xb0\x00\x00\x00\x09cut off"),
        (b"\x00\x53\x75\x10", b"\x00\x53\x75\x10"),
        (b"", b""),
    ],
)
def test_what_is_no_event_is_shown(message: bytes, data: bytes) -> None:
    found = decode(message, PLACE, AT)
    assert (found.id, found.type, found.time, found.data) == ("orders-0-7", "message", AT, data)


@given(st.binary(max_size=200), st.integers(0, 150), st.binary(max_size=3))
def test_no_bytes_break_a_reader(tail: bytes, cut: int, put: bytes) -> None:
    whole = encode(Event("1", "/s", "t", AT, b"data", partitionkey="k"))
    for message in (tail, whole[:cut] + put + whole[cut + len(put) :], whole[:cut]):
        assert isinstance(decode(message, PLACE, AT), Event)


def test_a_time_that_is_none() -> None:
    named: dict[str, Any] = {"cloudEvents:id": "1", "cloudEvents:time": "yesterday"}
    found = decode(bytes(AMQPMessage(body=b"", application_properties=named)), PLACE, AT)
    assert (found.id, found.time) == ("1", AT)
