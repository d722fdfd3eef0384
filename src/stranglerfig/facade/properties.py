"""What a message says of itself, read from its bytes and otherwise left alone.

AMQP 0-9-1 content headers (specification 4.2.6.1): sixteen flags, then the values of the flagged properties in order.
The router passes these bytes on as they came: decoding and encoding a header table would change the widths of its
numbers. Pure.
"""

from __future__ import annotations

import struct
from typing import Any

import orjson

from stranglerfig.facade.queues import Place

_SHORT, _TABLE, _OCTET, _TIME = "short", "table", "octet", "time"
_ORDER = (
    ("content_type", _SHORT),
    ("content_encoding", _SHORT),
    ("headers", _TABLE),
    ("delivery_mode", _OCTET),
    ("priority", _OCTET),
    ("correlation_id", _SHORT),
    ("reply_to", _SHORT),
    ("expiration", _SHORT),
    ("message_id", _SHORT),
    ("timestamp", _TIME),
    ("type", _SHORT),
    ("user_id", _SHORT),
    ("app_id", _SHORT),
    ("cluster_id", _SHORT),
)
_BIT = {name: 1 << (15 - number) for number, (name, _) in enumerate(_ORDER)}
_SIZES = {
    "V": 0,
    "t": 1,
    "b": 1,
    "B": 1,
    "s": 2,
    "u": 2,
    "I": 4,
    "i": 4,
    "f": 4,
    "D": 5,
    "l": 8,
    "L": 8,
    "d": 8,
    "T": 8,
}
"""Bytes of a field value by its tag, as RabbitMQ writes them (its table of types differs from the specification's)."""
_NUMBERS = {"b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q", "T": ">Q"}
USER_HEADER = b"x-fig-user-id"
"""Where ``user_id`` goes when it cannot pass: the broker lets nobody publish in another's name."""


def _spans(properties: bytes) -> dict[str, tuple[int, int]]:
    """Where each property's value lies, its length prefix included."""
    flags = int.from_bytes(properties[:2], "big")
    at = 2
    found = {}
    for name, kind in _ORDER:
        if not flags & _BIT[name]:
            continue
        if kind == _SHORT:
            end = at + 1 + properties[at]
        elif kind == _TABLE:
            end = at + 4 + int.from_bytes(properties[at : at + 4], "big")
        else:
            end = at + (1 if kind == _OCTET else 8)
        found[name] = (at, end)
        at = end
    return found


def short(properties: bytes, name: str) -> str | None:
    """The value of a property that is a short text, or None."""
    flags = int.from_bytes(properties[:2], "big")
    if not flags & _BIT[name]:
        return None
    at, end = _spans(properties)[name]
    return properties[at + 1 : end].decode("utf-8", "replace")


def header(properties: bytes, name: str) -> str | None:
    """The value of one entry of the header table as text: a text or a whole number; None for what else it is."""
    span = _spans(properties).get("headers")
    if span is None:
        return None
    at, end = span[0] + 4, span[1]
    wanted = name.encode()
    while at < end:
        key = properties[at + 1 : at + 1 + properties[at]]
        at += 1 + properties[at]
        kind = chr(properties[at])
        at += 1
        size = _SIZES.get(kind)
        if size is None:  # S, x, A and F say their length
            size = 4 + int.from_bytes(properties[at : at + 4], "big")
        if key == wanted:
            return _text(kind, properties[at : at + size])
        at += size
    return None


def _text(kind: str, value: bytes) -> str | None:
    if kind in "Sx":
        return value[4:].decode("utf-8", "replace")
    if kind in _NUMBERS:
        return str(struct.unpack(_NUMBERS[kind], value)[0])
    return None


def value(place: Place, properties: bytes, body: bytes, routing_key: str) -> str | None:
    """What stands at ``place`` in a message, as text; None when there is nothing that can be read."""
    match place.source:
        case "property":
            return short(properties, place.name)
        case "header":
            return header(properties, place.name)
        case "routing_key":
            return routing_key
    return _field(body, place.name)


def _field(body: bytes, path: str) -> str | None:
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    for part in path.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    if found is None or isinstance(found, dict | list):
        return None
    return found if isinstance(found, str) else orjson.dumps(found).decode()


def publishable(properties: bytes, user: str, *, impersonator: bool = False) -> bytes:
    """``properties`` as ``user`` may publish them: another's ``user_id`` moves into the header ``x-fig-user-id``.

    RabbitMQ closes the channel of whoever publishes with a ``user_id`` that is not the connection's.
    """
    said = short(properties, "user_id")
    if said is None or impersonator or said == user:
        return properties
    spans = _spans(properties)
    at, end = spans["user_id"]
    entry = bytes([len(USER_HEADER)]) + USER_HEADER + b"S" + len(said.encode()).to_bytes(4, "big") + said.encode()
    flags = int.from_bytes(properties[:2], "big") & ~_BIT["user_id"]
    rest = properties[2:at] + properties[end:]
    if "headers" in spans:
        start, stop = spans["headers"]
        table = properties[start + 4 : stop] + entry
        rest = rest[: start - 2] + len(table).to_bytes(4, "big") + table + rest[stop - 2 :]
    else:
        before = max((spans[name][1] for name in ("content_type", "content_encoding") if name in spans), default=2)
        rest = rest[: before - 2] + len(entry).to_bytes(4, "big") + entry + rest[before - 2 :]
    return (flags | _BIT["headers"]).to_bytes(2, "big") + rest
