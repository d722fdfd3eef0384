"""Events as AMQP 1.0 messages, which is what RabbitMQ's streams hold: CloudEvents in binary mode.

Sources: OASIS AMQP 1.0, part 1 (types) and part 3.2 (message format); CloudEvents 1.0.2, AMQP protocol binding. The
content type is a property of the message, each attribute an application property named ``cloudEvents:…``. Messages of
other programs are read as well: of any type, with sections that we do not write.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any, Final

from stranglerfig.eventlog import cloudevents
from stranglerfig.eventlog.model import Event

PREFIX: Final = "cloudEvents:"
_PREFIXES: Final = (PREFIX, "cloudEvents_")
"""The binding has a second spelling, for clients of JMS."""
_PREFIX_LENGTH: Final = len(PREFIX)
_DESCRIBED: Final = 0x00
_PROPERTIES: Final = 0x73
_APPLICATION_PROPERTIES: Final = 0x74
_DATA: Final = 0x75
_SEQUENCE: Final = 0x76
_VALUE: Final = 0x77
_SHORT_TEXT: Final = 0xA1
_CONTENT_TYPE_FIELD: Final = 6

_WIDTHS: Final = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}
"""Bytes of a value of fixed width, by the upper half of its type's code (part 1.2)."""
_NUMBERS: Final = {
    0x50: ">B", 0x51: ">b", 0x52: ">B", 0x53: ">B", 0x54: ">b", 0x55: ">b", 0x60: ">H", 0x61: ">h", 0x70: ">I",
    0x71: ">i", 0x72: ">f", 0x80: ">Q", 0x81: ">q", 0x82: ">d", 0x83: ">q",
}  # fmt: skip
_SIZE: Final = struct.Struct(">I")
_SIZES: Final = struct.Struct(">II")
_LONG: Final = struct.Struct(">BI")
_CONSTANTS: Final[dict[int, Any]] = {0x40: None, 0x41: True, 0x42: False, 0x43: 0, 0x44: 0, 0x45: []}


def _text(value: bytes, short: int, long: int) -> bytes:
    size = len(value)
    return bytes((short, size)) + value if size < 256 else _LONG.pack(long, size) + value


_LENGTHS: Final = [bytes((_SHORT_TEXT, size)) for size in range(256)]
_FULL: Final = Event("", "", "", datetime.min.replace(tzinfo=UTC), b"", *[""] * 8)
_KEYS: Final = {
    name: _LENGTHS[len(PREFIX + name)] + (PREFIX + name).encode() for name, _ in cloudevents.attributes(_FULL)
}
"""The names of all attributes as they are written."""
_NAMES: Final = {key: name for name, key in _KEYS.items()}
_PROPERTIES_HEAD: Final = bytes((0, 0x53, _PROPERTIES, 0xD0))
_NO_OTHER_PROPERTIES: Final = struct.pack(">I", _CONTENT_TYPE_FIELD + 1) + b"\x40" * _CONTENT_TYPE_FIELD
_ATTRIBUTES_HEAD: Final = bytes((0, 0x53, _APPLICATION_PROPERTIES, 0xD1))
_DATA_HEAD: Final = bytes((0, 0x53, _DATA, 0xB0))


def encode(event: Event) -> bytes:
    """The message that ``event`` makes."""
    named: list[bytes] = []
    attributes = cloudevents.attributes(event)
    for name, value in attributes:
        raw = value.encode()
        size = len(raw)
        named += (_KEYS[name], _LENGTHS[size] if size < 256 else _LONG.pack(0xB1, size), raw)
    found = b"".join(named)
    kind = _text(event.datacontenttype.encode(), 0xA3, 0xB3)
    return b"".join(
        (
            _PROPERTIES_HEAD,
            _SIZE.pack(len(_NO_OTHER_PROPERTIES) + len(kind)),
            _NO_OTHER_PROPERTIES,
            kind,
            _ATTRIBUTES_HEAD,
            _SIZES.pack(4 + len(found), 2 * len(attributes)),
            found,
            _DATA_HEAD,
            _SIZE.pack(len(event.data)),
            event.data,
        )
    )


def _as_encoded(message: bytes) -> tuple[str, dict[str, str], bytes] | None:
    """Content type, attributes and data of a message as :func:`encode` writes nearly all; None for any other.

    Four times as fast as looking at each type: reading is bound by this.
    """
    start = 8 + len(_NO_OTHER_PROPERTIES)
    if message[:4] != _PROPERTIES_HEAD or message[8:start] != _NO_OTHER_PROPERTIES or message[start] != 0xA3:
        return None
    offset = start + 2 + message[start + 1]
    kind = message[start + 2 : offset].decode()
    if message[offset : offset + 4] != _ATTRIBUTES_HEAD:
        return None
    count = _SIZES.unpack_from(message, offset + 4)[1] // 2
    offset += 12
    found: dict[str, str] = {}
    for _ in range(count):
        at = offset + 2 + message[offset + 1]
        name = _NAMES.get(message[offset:at])
        if name is None or message[at] != _SHORT_TEXT:
            return None
        offset = at + 2 + message[at + 1]
        found[name] = message[at + 2 : offset].decode()
    data = message[offset + 8 :]
    if message[offset : offset + 4] != _DATA_HEAD or _SIZE.unpack_from(message, offset + 4)[0] != len(data):
        return None
    return kind, found, data


def decode(message: bytes, otherwise: tuple[object, ...], at: datetime) -> Event:
    """The event that a message is; one that is no CloudEvent, or no AMQP at all, is shown as it is.

    Args:
        otherwise: the place in the log, which is the id of a message that has none.
        at: when the log took it.
    """
    try:
        kind, found, data = _as_encoded(message) or _any(message)
    except (struct.error, LookupError, ValueError, TypeError, RecursionError):
        kind, found, data = None, {}, message
    return cloudevents.event(found, data, content_type=kind, key=None, otherwise=otherwise, at=at)


def _any(message: bytes) -> tuple[str | None, dict[str, str], bytes]:
    """Content type, attributes and body of any AMQP message."""
    kind, named, data = _sections(message)
    found = {
        name[_PREFIX_LENGTH:]: value if isinstance(value, str) else str(value)
        for name, value in named.items()
        if isinstance(name, str) and name[:_PREFIX_LENGTH] in _PREFIXES and value is not None
    }
    return kind, found, data


def _sections(message: bytes) -> tuple[str | None, dict[Any, Any], bytes]:
    """Content type, application properties and body."""
    kind: str | None = None
    named: dict[Any, Any] = {}
    parts: list[bytes] = []
    offset = 0
    while offset < len(message):
        section, offset = _descriptor(message, offset)
        value, offset = _value(message, offset)
        if section == _PROPERTIES and isinstance(value, list):
            given = value[_CONTENT_TYPE_FIELD] if len(value) > _CONTENT_TYPE_FIELD else None
            kind = given if isinstance(given, str) else None
        elif section == _APPLICATION_PROPERTIES and isinstance(value, dict):
            named = value
        elif section in (_DATA, _SEQUENCE, _VALUE):
            parts.append(value if isinstance(value, bytes) else str(value).encode())
    return kind, named, b"".join(parts)


def _descriptor(message: bytes, offset: int) -> tuple[Any, int]:
    if message[offset] != _DESCRIBED:
        raise ValueError("a section begins with its descriptor")
    return _value(message, offset + 1)


def _value(message: bytes, offset: int) -> tuple[Any, int]:
    """The value that begins at ``offset``, and where the next one does."""
    code = message[offset]
    offset += 1
    if code == _DESCRIBED:
        _, offset = _value(message, offset)  # what it stands for is not ours to know
        return _value(message, offset)
    kind = code >> 4
    if kind in _WIDTHS:
        end = offset + _WIDTHS[kind]
        return _fixed(code, message[offset:end]), end
    wide = kind % 2 == 1
    size = struct.unpack_from(">I" if wide else ">B", message, offset)[0]
    offset += 4 if wide else 1
    end = offset + size
    if kind < 0xA or end > len(message):
        raise ValueError("no such type, or a value that is cut off")
    if kind in (0xA, 0xB):
        raw = message[offset:end]
        return (raw if code & 0xF == 0 else raw.decode(errors="replace")), end
    if kind in (0xC, 0xD):
        # Never beyond its own end: lists that overlap would be read as often as there are paths through them.
        return _compound(code, message[:end] if end < len(message) else message, offset, wide), end
    return message[offset:end], end  # an array: nothing of ours holds one


def _fixed(code: int, raw: bytes) -> Any:
    if code in _CONSTANTS:
        return _CONSTANTS[code]
    if code == 0x56:
        return raw == b"\x01"
    return struct.unpack(_NUMBERS[code], raw)[0] if code in _NUMBERS else raw.hex()


def _compound(code: int, message: bytes, offset: int, wide: bool) -> Any:
    count = struct.unpack_from(">I" if wide else ">B", message, offset)[0]
    offset += 4 if wide else 1
    items: list[Any] = []
    for _ in range(count):
        item, offset = _value(message, offset)
        items.append(item)
    return dict(zip(items[::2], items[1::2], strict=True)) if code & 0xF == 1 else items
