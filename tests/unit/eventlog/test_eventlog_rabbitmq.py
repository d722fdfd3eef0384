from __future__ import annotations

import gzip
import struct
import zlib

import orjson
import pytest

from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.rabbitmq_cluster import Cluster, Settings
from stranglerfig.eventlog.rabbitmq_topics import DELETED, MADE, Known, arguments_of, fold
from stranglerfig.eventlog.rabbitmq_wire import ACCESS_REFUSED, NOT_AVAILABLE, Lost, Refused, chunk
from stranglerfig.foundation import clock


def said(kind: str, topic: str, source: str = "/stranglerfig/eventlog", **more: object) -> Event:
    data = orjson.dumps({"topic": topic, "retention_seconds": None, "arguments": {}, **more})
    return Event("1", source, kind, clock.now(), data)


def test_the_first_that_makes_a_topic_wins() -> None:
    known: dict[str, Known] = {}
    fold(known, 3, said(MADE, "a b", partitions=2))
    fold(known, 4, said(MADE, "a b", partitions=9))
    assert known["a b"] == Known("a b", 3, 2, None, {})
    assert known["a b"].streams == ["a%20b.3-0", "a%20b.3-1"]


def test_a_topic_made_anew_has_other_streams() -> None:
    known: dict[str, Known] = {}
    fold(known, 0, said(MADE, "a", partitions=1))
    fold(known, 1, said(DELETED, "a", made=0))
    fold(known, 2, said(DELETED, "a", made=0))
    fold(known, 3, said(MADE, "a", partitions=1))
    fold(known, 4, said(DELETED, "a", made=0))  # a deletion of the former one, twice by two
    assert known["a"].stream(0) == "a.3-0"


def test_what_others_write_among_the_topics_is_passed_over() -> None:
    known: dict[str, Known] = {}
    fold(known, 0, said(MADE, "a", source="/other", partitions=1))
    fold(known, 1, said("fig.Something", "b"))
    assert known == {}


@pytest.mark.parametrize(
    ("retention", "segment", "expected"),
    [
        (None, None, {}),
        (None, 500, {"stream-max-segment-size-bytes": "500"}),
        (1.0, None, {"max-age": "1s", "stream-max-segment-size-bytes": "16000000"}),
        (0.2, 500, {"max-age": "1s", "stream-max-segment-size-bytes": "500"}),
        (60.5, None, {"max-age": "61s", "stream-max-segment-size-bytes": "16000000"}),
    ],
)
def test_arguments_of_a_stream(retention: float | None, segment: int | None, expected: dict[str, str]) -> None:
    """Kept for at least as long as asked: seconds are whole, and rounded up."""
    assert arguments_of(retention, segment) == {"queue-leader-locator": "least-leaders"} | expected


def test_an_address() -> None:
    plain = Settings.of("rabbitmq://broker")
    assert (plain.brokers, plain.login, plain.tls) == ((("broker", 5552),), ("guest", "guest", "/"), None)
    full = Settings.of("rabbitmq://u%40x:p%2Fw@a:1,b:2,c/shop?tls=true&segment_bytes=500")
    assert full.brokers == (("a", 1), ("b", 2), ("c", 5551))
    assert full.login == ("u@x", "p/w", "shop")
    assert full.segment_bytes == 500
    assert full.tls is not None
    assert full.shown == "a:1,b:2,c:5551"
    assert "p/w" not in f"{full.shown}"


def test_errors_are_ours() -> None:
    cluster = Cluster(Settings.of("rabbitmq://broker"))
    assert cluster.translated(Lost("x")).code == "log_unreachable"
    assert cluster.translated(Refused(NOT_AVAILABLE, "x")).code == "log_unreachable"
    assert cluster.translated(Refused(ACCESS_REFUSED, "x")).code == "log_refused"


def delivered(data: bytes, entries: int, records: int, crc: int | None = None, first: int = 5) -> bytes:
    head = struct.pack(
        ">BBBHIqQQIIII", 1, 0x50, 0, entries, records, 1000, 1, first, zlib.crc32(data) if crc is None else crc,
        len(data), 0, 0,
    )  # fmt: skip
    return struct.pack(">HH", 8, 1) + head + data


def entry(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message


def test_a_chunk() -> None:
    found = chunk(delivered(entry(b"a") + entry(b"bc"), 2, 2))
    assert (found.first, found.next, found.milliseconds, found.messages) == (5, 7, 1000, [b"a", b"bc"])


def test_a_chunk_with_compressed_messages() -> None:
    inner = entry(b"b") + entry(b"c")
    packed = gzip.compress(inner)
    together = struct.pack(">BHII", 0x80 | 1 << 4, 2, len(inner), len(packed)) + packed
    found = chunk(delivered(entry(b"a") + together + entry(b"d"), 3, 4))
    assert found.messages == [b"a", b"b", b"c", b"d"]
    assert found.next == 9


@pytest.mark.parametrize(
    "frame",
    [
        delivered(entry(b"a"), 1, 1, crc=1),
        delivered(entry(b"a"), 1, 1)[:-1],
        delivered(entry(b"a"), 1, 2),
    ],
)
def test_a_chunk_that_is_damaged(frame: bytes) -> None:
    with pytest.raises(ValueError, match="the chunk at offset 5"):
        chunk(frame)
