"""Records of other programs that once stopped a reader, or held it for ever; each was found by fuzzing."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from datetime import UTC, datetime

import pytest

from stranglerfig.eventlog import kinesis_records, postgres_batch, rabbitmq_message, rabbitmq_wire
from stranglerfig.foundation.errors import FigError

AT = datetime(2026, 2, 3, tzinfo=UTC)


def aggregate(message: bytes) -> bytes:
    return b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message, usedforsecurity=False).digest()


@pytest.mark.parametrize("message", [b"\x80" * 1_000_000, b"\x1a\x7f", b"\x08", b"\x1a\x02\x1a\x09"])
def test_an_aggregate_that_is_none_is_one_record(message: bytes) -> None:
    data = aggregate(message)
    answer = {"ApproximateArrivalTimestamp": AT, "SequenceNumber": "1", "PartitionKey": "k", "Data": data}
    [record] = kinesis_records.records_of("t", 0, answer)
    assert record.event.data == data


def test_lists_that_overlap_are_not_read_once_for_each_path_through_them() -> None:
    message = b"\x00Sw" + b"\xc0\x01\x02" * 200 + b"\x40" * 400
    assert rabbitmq_message.decode(message, ("t", 0, 1), AT).data == message


@pytest.mark.parametrize("message", [b"\x00St\x50\x07", b"\x00Ss\xc1\x01\x00\x00Su\xa0\x01a"])
def test_sections_of_another_type_are_left_out(message: bytes) -> None:
    assert rabbitmq_message.decode(message, ("t", 0, 1), AT).datacontenttype == "application/octet-stream"


def chunk(entries: int, records: int, data: bytes) -> rabbitmq_wire.Chunk:
    head = struct.pack(">BBBHIqQQIIII", 0, 0, 0, entries, records, 0, 1, 9, zlib.crc32(data), len(data), 0, 0)
    return rabbitmq_wire.chunk(b"\x00\x08\x00\x01" + head + data)


def together(plain: bytes, said: int) -> bytes:
    packed = gzip.compress(plain)
    return struct.pack(">BHII", 0x90, 1, said, len(packed)) + packed


def test_messages_compressed_together_unfold_to_what_they_say_and_no_further() -> None:
    plain = b"\x00\x00\x00\x03abc"
    assert chunk(1, 1, together(plain, len(plain))).messages == [b"abc"]
    for data in (together(bytes(10_000_000), 7), together(plain, 1 << 31), b"\x00\x00\x00\x09abc"):
        with pytest.raises(ValueError, match=r"damaged|compressed|longer"):
            chunk(1, 1, data)


def test_a_row_of_the_log_that_fig_did_not_write_is_named() -> None:
    for header, data in (
        (b"{}", b""),
        (b"[[1],2,3]", b""),
        (b"x", b""),
        (b'[["a"],"/","t","2026-02-03","c",9]', b"abc"),
    ):
        with pytest.raises(FigError, match="log_row_unreadable"):
            postgres_batch.records("t", 0, 5, AT, header, data)
