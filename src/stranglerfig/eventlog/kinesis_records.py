"""What is in a record of Kinesis: events in a frame of ours, several of one key in one record as Amazon's KPL does it.

Kinesis has no headers and no official binding of CloudEvents. The frame is the HTTP binding's headers as one line of
JSON (``{"ce-specversion":"1.0","ce-id":…,"content-type":…}``), a newline, and the data verbatim: a person can read it,
no byte of the data is changed, and it cannot be taken for a CloudEvent in structured mode, whose attributes have no
prefix.

Several events of one key travel in one record in the format of the Kinesis Producer Library, which Amazon's consumers
take apart by themselves (source: ``aggregation-format.md`` in awslabs/amazon-kinesis-producer). A log position is a
record's sequence number and the event's place in the record: ``sequence number * 2**20 + place``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from stranglerfig.eventlog import cloudevents
from stranglerfig.eventlog.model import Event, Record

PLACES: Final = 1 << 20
"""More events than fit into one record of 1 MiB."""
RECORD_BYTES: Final = 1024 * 1024
"""What a record may have, its key included."""
KEY_CHARACTERS: Final = 256
PACKED_BYTES: Final = 256 * 1024
"""Where packing stops: a shard takes 1 MB a second, and a refused record is refused whole."""

_FRAME = b'{"ce-specversion":"'
_MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST = 16


@dataclass(frozen=True, slots=True)
class Lane:
    """Where an event goes: events of one lane go to one shard and keep their order.

    Attributes:
        key: Kinesis' partition key.
        hash: what stands for the key's MD5, where the shard is given.
    """

    key: str
    hash: str | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """A record to be put: its lane, its bytes, and which events of the append are in it, in order."""

    lane: Lane
    data: bytes
    numbers: tuple[int, ...]

    @property
    def size(self) -> int:
        """What counts towards Kinesis' limits."""
        return len(self.data) + len(self.lane.key.encode())


def lane_of(key: str | None) -> Lane:
    """The lane of a key's events. No key goes to the shard that has the hash 0: the first, unless it was split."""
    if key is None:
        return Lane("-", "0")
    if 0 < len(key) <= KEY_CHARACTERS:
        return Lane(key)
    return Lane(hashlib.sha256(key.encode()).hexdigest())  # Kinesis takes 1 to 256 characters


def frame(event: Event) -> bytes:
    """The event as bytes."""
    head = {f"ce-{name}": value for name, value in cloudevents.attributes(event)}
    head[cloudevents.CONTENT_TYPE] = event.datacontenttype
    return orjson.dumps(head) + b"\n" + event.data


def unframe(data: bytes, *, key: str, otherwise: tuple[object, ...], at: datetime) -> Event:
    """The event in ``data``; whatever another program wrote is one too."""
    found: dict[str, str] = {}
    content_type = None
    if data.startswith(_FRAME):
        head, _, body = data.partition(b"\n")
        try:
            attributes: dict[str, Any] = orjson.loads(head)
        except orjson.JSONDecodeError:
            attributes = {}
        if attributes:
            found = {name[3:]: str(value) for name, value in attributes.items() if name.startswith("ce-")}
            said = attributes.get(cloudevents.CONTENT_TYPE)
            content_type = said if isinstance(said, str) else None
            # What routed it is in the attributes or was not the event's key.
            return cloudevents.event(found, body, content_type=content_type, key=None, otherwise=otherwise, at=at)
    return cloudevents.event(found, data, content_type=content_type, key=key, otherwise=otherwise, at=at)


def pack(lane: Lane, frames: Iterable[tuple[int, bytes]]) -> Iterator[Packed]:
    """The records that a lane's events make, in order.

    Args:
        frames: each event's number in the append, and its frame.
    """
    numbers: list[int] = []
    waiting: list[bytes] = []
    size = 0
    for number, one in frames:
        if waiting and size + len(one) > PACKED_BYTES:
            yield Packed(lane, _together(lane, waiting), tuple(numbers))
            numbers, waiting, size = [], [], 0
        numbers.append(number)
        waiting.append(one)
        size += len(one)
    if waiting:
        yield Packed(lane, _together(lane, waiting), tuple(numbers))


def _together(lane: Lane, frames: Sequence[bytes]) -> bytes:
    """One frame as it is, several as the KPL's ``AggregatedRecord``."""
    if len(frames) == 1:
        return frames[0]
    parts = [_field(1, lane.key.encode())]
    head = b"\x08\x00"  # partition_key_index = 0
    if lane.hash is not None:
        parts.append(_field(2, lane.hash.encode()))
        head += b"\x10\x00"  # explicit_hash_key_index = 0
    parts += [_field(3, head + _field(3, one)) for one in frames]
    message = b"".join(parts)
    return _MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


def records_of(topic: str, partition: int, answer: dict[str, Any]) -> list[Record]:
    """The events in one record of ``GetRecords``."""
    at: datetime = answer["ApproximateArrivalTimestamp"]
    base = int(answer["SequenceNumber"]) * PLACES
    found = []
    for place, (key, data) in enumerate(_apart(answer["PartitionKey"], answer["Data"])):
        event = unframe(data, key=key, otherwise=(topic, partition, base + place), at=at)
        found.append(Record(topic, partition, base + place, event, at))
    return found


def _apart(key: str, data: bytes) -> list[tuple[str, bytes]]:
    """Key and data of what is in a record; a record that only looks like an aggregate is one of its own."""
    message, digest = data[len(_MAGIC) : -_DIGEST], data[-_DIGEST:]
    if not data.startswith(_MAGIC) or hashlib.md5(message, usedforsecurity=False).digest() != digest:
        return [(key, data)]
    try:
        return _members(key, message)
    except (IndexError, ValueError):
        return [(key, data)]


def _members(key: str, message: bytes) -> list[tuple[str, bytes]]:
    keys: list[str] = []
    found: list[tuple[str, bytes]] = []
    for number, value in _fields(message):
        if number == 1 and isinstance(value, bytes):
            keys.append(value.decode(errors="replace"))
        elif number == 3 and isinstance(value, bytes):
            inner = dict(_fields(value))
            index, body = inner.get(1, 0), inner.get(3, b"")
            if isinstance(index, int) and isinstance(body, bytes):
                found.append((keys[index] if index < len(keys) else key, body))
    return found


# Protocol Buffers' wire format, as far as the KPL's message goes: varints and what has a length.


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field.

    Raises:
        IndexError, ValueError: it is cut off, or a number is longer than ten bytes.
    """
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if tag & 7 == 2:
            if at + value > len(data):
                raise ValueError("a field is longer than its message")
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            yield tag >> 3, value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
