"""Events as each log keeps them: what another program wrote is an event too, and stops no reader.

An input is a log's kind and its record, made by our writers, by others' (AMQP of other types, Amazon's aggregates) and
altered; where a format has a sum over itself, the sum is made right again, or nothing behind it would be reached.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson
from confluent_kafka import TIMESTAMP_CREATE_TIME, Message

from stranglerfig.eventlog import (
    cloudevents,
    kafka_records,
    kinesis_records,
    postgres_batch,
    pubsub_messages,
    rabbitmq_message,
    rabbitmq_wire,
)
from stranglerfig.eventlog.kafka_producer import headers
from stranglerfig.eventlog.model import Event, Record
from stranglerfig.foundation.errors import FigError
from tests.fuzz import mutate
from tests.fuzz.harness import Target

AT = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
EVENTS = [
    Event("1", "/shop", "shop.StockAdjusted", AT, b'{"item": 7}'),
    Event("2", "/shop/é", "x", AT, b"", "application/octet-stream", "7", "http://r/1", "k", None, "c", "d", "t"),
    Event("3" * 300, "/", "y", AT, b"\x00\x01" * 40, "text/plain", partitionkey="", traceparent="00-" + "a" * 50),
]
ODD_AMQP = [
    # Application properties, then a value, each of a type that we do not write (OASIS AMQP 1.0, part 1.6).
    b"\x00St\xc1\x1b\x04\xa1\x10cloudEvents:type\x71\x00\x00\x00\x07\xa1\x01a\x40" + b"\x00Sw\xc0\x04\x03\x41\x50\x07",
    b"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x70\xc0\x02\x01\x42" + b"\x00Sw\xe0\x06\x02\x50\x01\x02" + b"\x00Sv\x45",
    b"\x00Ss\xc0\x05\x02\x40\xa1\x01u" + b"\x00Su\xa0\x03abc" + b"\x00Su\xb0\x00\x00\x00\x01d",
    b"\x00Sw\x00\xa3\x03x:y\xd0\x00\x00\x00\x06\x00\x00\x00\x02\x43\x44" + b"\x00Sw\x98" + b"u" * 16,
    # What nests: lists whose ends lie before what they hold.
    b"\x00Sw" + b"\xc0\x01\x02" * 40 + b"\x40" * 80,
]
Reading = Callable[[Any], list[Record] | list[Event]]


def _is_event(it: Event) -> None:
    ident, source, kind, time, data, content_type, *optional = it
    assert type(ident) is type(source) is type(kind) is type(content_type) is str, it
    assert type(data) is bytes and time.tzinfo is not None, it
    time.astimezone(UTC) if 2 < time.year < 9998 else None
    for value in optional:
        assert value is None or type(value) is str, it
    # Whoever shows or forwards it writes it as JSON, and texts of JSON are Unicode.
    orjson.dumps([ident, source, kind, content_type, *optional])


def _headers(event: Event) -> list[tuple[str, bytes | None]]:
    """A consumer gives as bytes what the producer gave as text."""
    return [(name, str(value).encode()) for name, value in headers(event)]


def _kafka(given: tuple[list[tuple[str, bytes | None]], bytes | None, bytes | None]) -> list[Record]:
    head, value, key = given
    stamp = (TIMESTAMP_CREATE_TIME, 1_770_000_000_000)
    one = Message(topic="t", partition=1, offset=5, key=key, value=value, headers=head, timestamp=stamp)
    ours = Message(topic="t", partition=1, offset=6, value=b"{}", headers=_headers(EVENTS[0]), timestamp=stamp)
    return kafka_records.records([one, ours] if value and value[0] % 2 else [one])


def _kinesis(data: bytes) -> list[Record]:
    answer = {"ApproximateArrivalTimestamp": AT, "SequenceNumber": "77", "PartitionKey": "k", "Data": data}
    return kinesis_records.records_of("t", 0, answer)


def _aggregate(message: bytes) -> list[Record]:
    return _kinesis(b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message, usedforsecurity=False).digest())


def _pubsub(given: tuple[bytes, dict[str, str]]) -> list[Record]:
    data, attributes = given
    return [pubsub_messages.record("t", 0, 5, pubsub_messages.Incoming(data, attributes, AT), AT)]


def _rows(given: tuple[bytes, bytes]) -> list[Record]:
    return postgres_batch.records("t", 0, 5, AT, *given)


def _rabbitmq(message: bytes) -> list[Event]:
    return [rabbitmq_message.decode(message, ("t", 0, 5), AT)]


def _chunk(given: tuple[int, int, bytes]) -> list[Event]:
    """A frame with a chunk whose sum is right: osiris_log.erl writes it over the data alone."""
    entries, records, data = given
    head = struct.pack(
        ">BBBHIqQQIIII", 0, 0, 0, entries, records, 1_770_000_000_000, 1, 9, zlib.crc32(data), len(data), 0, 0
    )
    found = rabbitmq_wire.chunk(b"\x00\x08\x00\x01" + head + data)
    return [rabbitmq_message.decode(message, ("t", 0, at), AT) for at, message in enumerate(found.messages)]


def events() -> Target:
    """Records of Kafka, RabbitMQ, Kinesis, Pub/Sub and PostgreSQL, altered."""
    amqp = [*map(rabbitmq_message.encode, EVENTS), *ODD_AMQP]
    kinesis = [*map(kinesis_records.frame, EVENTS), b"plain", b'{"ce-specversion":"1.0"}\n']
    lane = kinesis_records.lane_of("k")
    aggregates = [
        packed.data[4:-16]
        for some in ([0, 1], [0, 1, 2])
        for packed in kinesis_records.pack(lane, [(at, kinesis_records.frame(EVENTS[at])) for at in some])
    ]
    rows = postgres_batch.rows(EVENTS) + postgres_batch.rows(EVENTS[:1]) + postgres_batch.rows([EVENTS[0]] * 3)
    names = [f"ce-{name}" for name in ("id", "source", "type", "time", *cloudevents.OPTIONAL)]
    texts = [
        "",
        "x",
        "é",
        "\0",
        "2026-02-30T00:00:00Z",
        "2026-02-03t04:05:06z",
        "9999-12-31T23:59:59-12:00",
        "a" * 2000,
    ]
    chunks = [
        (len(some), b"".join(len(one).to_bytes(4, "big") + one for one in some)) for some in (amqp[:2], amqp[:1] * 3)
    ]
    # Three messages that a client compressed together (0: not at all, 1: gzip).
    together = b"".join(len(one).to_bytes(4, "big") + one for one in amqp[:3])
    chunks.append((1, b"\x80\x00\x03" + struct.pack(">II", len(together), len(together)) + together))

    raw = [_headers(each) for each in EVENTS]

    def make(rng: Random) -> tuple[Reading, Any]:
        below = rng.random
        kind = int(below() * 8)
        if kind < 2:
            return _rabbitmq, mutate.of_bytes(rng, amqp[int(below() * len(amqp))], amqp)
        if kind == 2:
            head = raw[int(below() * 3)].copy()
            at = int(below() * len(head))
            name, value = head[at]
            if below() < 0.2:
                del head[at]
            elif below() < 0.2:
                head.append((name, None if below() < 0.3 else value))
            else:
                head[at] = (name, mutate.of_bytes(rng, value or b""))
            return _kafka, (head, rng.choice((None, b"", b"\1x", b"{}")), rng.choice((None, b"", b"\xff", b"k")))
        if kind == 3:
            return _kinesis, mutate.of_bytes(rng, kinesis[int(below() * len(kinesis))], kinesis)
        if kind == 4:
            if below() < 0.5:
                return _aggregate, mutate.of_bytes(rng, aggregates[int(below() * len(aggregates))], aggregates)
            head_, _, data = kinesis[int(below() * 3)].partition(b"\n")
            return _kinesis, b'{"ce-specversion":"' + orjson.dumps(mutate.of_tree(rng, orjson.loads(head_)))[
                19:
            ] + b"\n" + data
        if kind == 5:
            some = {names[int(below() * len(names))]: texts[int(below() * len(texts))] for _ in range(int(below() * 6))}
            return _pubsub, (b"x", some)
        if kind == 6:
            row = rows[int(below() * len(rows))]
            if below() < 0.5:
                return _rows, (mutate.of_bytes(rng, row.header), row.data)
            return _rows, (_json(mutate.of_tree(rng, orjson.loads(row.header))), row.data)
        count, data = chunks[int(below() * len(chunks))]
        records = max(0, count + int(below() * below() * 4))
        return _chunk, (count, records, mutate.of_bytes(rng, data, amqp))

    def take(given: tuple[Reading, Any]) -> bool:
        reading, record = given
        try:
            found = reading(record)
        except FigError as error:
            assert reading is _rows and error.code == "log_row_unreadable", error
            return False
        except ValueError:
            assert reading is _chunk  # as rabbitmq_wire.chunk says
            return False
        for each in found:
            event = each.event if isinstance(each, Record) else each
            assert event.id or reading is _rows  # which gives what was appended; others' messages have their place
            _is_event(event)
        return True

    return Target("events", make, take, lambda given: f"{given[0].__name__} {given[1]!r}")


def _json(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
