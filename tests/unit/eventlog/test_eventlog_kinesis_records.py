"""Frames, packing and the KPL's format: pure bytes."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.eventlog.kinesis_records import (
    PACKED_BYTES,
    PLACES,
    RECORD_BYTES,
    Lane,
    frame,
    lane_of,
    pack,
    records_of,
    unframe,
)
from stranglerfig.eventlog.kinesis_writer import calls_of, lanes_of
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation.errors import FigError

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(data: bytes = b"{}", **attributes: Any) -> Event:
    return Event(**{"id": "1", "source": "/s", "type": "t", "time": AT, "data": data, **attributes})


def answer(data: bytes, key: str = "k", sequence: int = 7) -> dict[str, Any]:
    return {"SequenceNumber": str(sequence), "PartitionKey": key, "Data": data, "ApproximateArrivalTimestamp": AT}


@given(st.binary(max_size=300), st.none() | st.text(max_size=30), st.none() | st.text(min_size=1, max_size=300))
def test_an_event_survives_its_frame(data: bytes, subject: str | None, key: str | None) -> None:
    one = event(data, subject=subject, partitionkey=key)
    assert unframe(frame(one), key="-", otherwise=("x",), at=AT) == one


def test_the_frame_is_one_line_of_json_and_the_data() -> None:
    head, _, data = frame(event(b"a\nb", datacontenttype="text/plain")).partition(b"\n")
    assert data == b"a\nb"
    assert orjson.loads(head) == {
        "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t",
        "ce-time": "2026-01-02T03:04:05+00:00", "content-type": "text/plain",
    }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [b"", b"plain", b'{"specversion":"1.0","id":"x"}\n', b'{"ce-specversion":"1.0"', b"\xf3\x89\x9a\xc2no digest"],
)
def test_what_others_wrote_is_an_event_too(data: bytes) -> None:
    [record] = records_of("t", 3, answer(data))
    assert (record.event.data, record.event.partitionkey) == (data, "k")
    assert (record.event.id, record.event.time) == (f"t-3-{7 * PLACES}", AT)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=40), st.booleans())
def test_what_is_packed_comes_apart(datas: list[bytes], given_shard: bool) -> None:
    lane = Lane("key", "123") if given_shard else Lane("key")
    frames = [(number, frame(event(data, id=str(number)))) for number, data in enumerate(datas)]
    [packed] = pack(lane, frames)
    assert packed.numbers == tuple(range(len(datas)))
    records = records_of("t", 0, answer(packed.data))
    assert [record.event.data for record in records] == datas
    assert [record.position for record in records] == [7 * PLACES + place for place in range(len(datas))]


def test_the_kpl_s_own_message() -> None:
    """By the field numbers of its aggregation-format.md: keys, hash keys, records with tags."""
    inner = b"\x08\x01\x10\x00\x1a\x03abc\x22\x04\x0a\x02tt"
    message = b"\x0a\x02k0\x0a\x02k1\x12\x010\x1a" + bytes([len(inner)]) + inner
    data = b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message, usedforsecurity=False).digest()
    [record] = records_of("t", 0, answer(data))
    assert (record.event.data, record.event.partitionkey) == (b"abc", "k1")


def test_packing_stops_in_time() -> None:
    frames = [(number, bytes(PACKED_BYTES // 2 - 10)) for number in range(5)]
    assert [packed.numbers for packed in pack(Lane("k"), frames)] == [(0, 1), (2, 3), (4,)]


def test_lanes() -> None:
    assert lane_of(None) == Lane("-", "0")
    assert lane_of("k") == Lane("k")
    assert len(lane_of("x" * 300).key) == len(lane_of("").key) == 64
    events = [event(id=str(number), partitionkey="ab"[number % 2]) for number in range(5)]
    assert [lane[0].numbers for lane in lanes_of(events, None)] == [(0, 2, 4), (1, 3)]
    assert [lane[0].numbers for lane in lanes_of(events, Lane("-", "9"))] == [(0, 1, 2, 3, 4)]


def test_attributes_that_leave_no_room_are_refused() -> None:
    with pytest.raises(FigError, match="event_too_large"):
        lanes_of([event(b"x" * 1_000_000, subject="s" * 60_000)], None)


def test_calls_keep_to_kinesis_limits() -> None:
    many = [next(pack(Lane(str(number)), [(number, b"x")])) for number in range(1001)]
    assert [len(call) for call in calls_of(many)] == [500, 500, 1]
    large = [next(pack(Lane(str(number)), [(number, bytes(RECORD_BYTES - 10))])) for number in range(6)]
    assert [len(call) for call in calls_of(large)] == [5, 1]
