"""The data of an event against its schema: the five-byte header of Kafka's serializers, and a check for each format.

Header: a zero byte, then the schema's id, four bytes big-endian. Protobuf's serializers add where in the file the
message stands: zigzag varints, their count first; a lone 0 is the first message.
Source: Confluent's "Wire format" (Schema Registry's documentation on serializers).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import fastavro
import orjson

from stranglerfig.schemas.checking import Checker
from stranglerfig.schemas.formats import Format, Text
from stranglerfig.schemas.protobuf.messages import Messages

MAGIC = 0
HEADER = 5
Found = tuple[str, str] | None
"""None when the data is as its schema says, else (path, what is wrong)."""
Check = Callable[[bytes], Found]

FORMATS: Mapping[str, Format] = {
    "application/avro": Format.AVRO,
    "application/vnd.confluent.avro": Format.AVRO,
    "avro/binary": Format.AVRO,
    "application/protobuf": Format.PROTOBUF,
    "application/x-protobuf": Format.PROTOBUF,
    "application/vnd.confluent.protobuf": Format.PROTOBUF,
}
"""What ``datacontenttype`` says of data that is no JSON."""


def framed(id: int, data: bytes) -> bytes:
    """``data`` behind the header that names its schema."""
    return bytes((MAGIC,)) + id.to_bytes(4, "big") + data


def framed_id(data: bytes) -> int | None:
    """The id that the header names, or None without a header (JSON cannot begin with a zero byte)."""
    if len(data) < HEADER or data[0] != MAGIC:
        return None
    return int.from_bytes(data[1:HEADER], "big")


def check(text: Text) -> Check:
    """What checks data (without its header) against a schema, compiled once."""
    match text.format:
        case Format.JSON:
            return _json(text)
        case Format.AVRO:
            return _avro(text)
        case Format.PROTOBUF:
            return _protobuf(text)


def _json(text: Text) -> Check:
    checker = Checker(json.loads(text.text), {each.name: json.loads(each.text) for each in text.references})

    def judge(data: bytes) -> Found:
        try:
            return checker.problem(orjson.loads(data))
        except orjson.JSONDecodeError as error:
            return "$", f"it is not JSON: {error}"

    return judge


def _avro(text: Text) -> Check:
    named: dict[str, dict[Any, Any]] = {}
    for reference in text.references:
        fastavro.parse_schema(json.loads(reference.text), named_schemas=named)
    schema = fastavro.parse_schema(json.loads(text.text), named_schemas=named)

    def judge(data: bytes) -> Found:
        source = io.BytesIO(data)
        try:
            fastavro.schemaless_reader(source, schema, None)
        except Exception as error:  # noqa: BLE001  the reader raises what its parts raise: IndexError, EOFError, …
            return "$", f"it cannot be read as Avro: {type(error).__name__} {error}".rstrip()
        left = len(data) - source.tell()
        return ("$", f"{left} bytes are left after the value") if left else None

    return judge


def _protobuf(text: Text) -> Check:
    found = Messages(text)

    def judge(data: bytes) -> Found:
        try:
            place, start = indexes(data)
            kind = found.at(place)
        except (IndexError, ValueError) as error:
            return "$", f"the header names no message of the schema: {error}"
        return found.problem(kind, data[start:])

    return judge


def indexes(data: bytes) -> tuple[tuple[int, ...], int]:
    """Where in its file the message stands, and where its bytes begin.

    Raises:
        IndexError: the data ends before. ValueError: the numbers cannot be.
    """
    count, at = _varint(data, 0)
    if count == 0:
        return (0,), at
    if not 0 < count <= len(data):
        raise ValueError(f"{count} indexes")
    found = []
    for _ in range(count):
        number, at = _varint(data, at)
        found.append(number)
    return tuple(found), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
