"""Frames and envelopes: what is written is what is read, and the three states of a value stay apart."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.changes import envelope, frames
from stranglerfig.changes.model import (
    UNCHANGED,
    Barrier,
    Change,
    Column,
    Message,
    Relation,
    SnapshotChunk,
    SnapshotEdge,
    Transaction,
    lsn_number,
    lsn_text,
)
from stranglerfig.eventlog.model import Event, Record
from stranglerfig.foundation.errors import FigError

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
POSITION = st.integers(0, 2**62)


@given(st.builds(Barrier, POSITION, POSITION, st.integers(1, 99), st.booleans(), POSITION))
def test_a_barrier_reads_back_and_has_no_envelope(barrier: Barrier) -> None:
    found = frames.decode(frames.BARRIER, frames.encode_barrier(barrier))
    assert found == [barrier]
    assert list(envelope.expand(found, name="x", db="y")) == []


@st.composite
def relations(draw: st.DrawFn) -> Relation:
    columns = draw(st.lists(st.builds(Column, TEXT, TEXT, st.booleans()), min_size=1, max_size=4))
    return Relation(draw(TEXT), draw(TEXT), tuple(columns))


@st.composite
def changes(draw: st.DrawFn) -> Change:
    relation = draw(relations())
    size = len(relation.columns)
    row = st.lists(st.one_of(TEXT, st.none(), st.just(UNCHANGED)), min_size=size, max_size=size).map(tuple)
    op = draw(st.sampled_from(["c", "u", "d", "r", "t"]))
    return Change(op, relation, draw(st.none() | row), draw(st.none() | row))


TRANSACTIONS = st.builds(
    Transaction,
    POSITION,
    st.integers(0, 2**31),
    POSITION,
    st.integers(1, 10**9),
    st.lists(changes() | st.builds(Message, TEXT, TEXT), max_size=4).map(tuple),
    st.booleans(),
    st.none() | TEXT,
)


@given(st.lists(TRANSACTIONS, max_size=4))
def test_a_frame_reads_back_as_it_was_written(transactions: list[Transaction]) -> None:
    assert frames.decode(frames.STREAM, frames.encode(transactions)) == transactions


@given(POSITION, st.integers(0, 10**9), relations(), st.integers(0, 10**6), st.binary(max_size=200))
def test_a_chunk_reads_back_as_it_was_written(
    lsn: int, ordinal: int, relation: Relation, rows: int, copy: bytes
) -> None:
    chunk = SnapshotChunk(lsn, ordinal, relation, rows, copy)
    assert frames.decode(frames.CHUNK, frames.encode_chunk(chunk)) == [chunk]


@given(st.builds(SnapshotEdge, POSITION, POSITION, st.integers(1, 99), st.booleans(), st.lists(TEXT).map(tuple)))
def test_an_edge_reads_back_as_it_was_written(edge: SnapshotEdge) -> None:
    assert frames.decode(frames.EDGE, frames.encode_edge(edge)) == [edge]


@given(st.sampled_from([frames.STREAM, frames.CHUNK, frames.EDGE, "text/plain"]), st.binary(max_size=60))
def test_anything_else_is_refused(content_type: str, data: bytes) -> None:
    with pytest.raises(FigError) as refused:
        frames.decode(content_type, data)
    assert refused.value.code == "not_a_frame"


@given(st.integers(0, 2**64 - 1))
def test_an_lsn_reads_back(lsn: int) -> None:
    assert lsn_number(lsn_text(lsn)) == lsn


ITEM = Relation("public", "item", (Column("id", "integer", True), Column("note", "text")))


def envelopes(*items: Change | Message) -> list[dict[str, object]]:
    whole = Transaction(256, 7, 1_700_000_000_123_456, 1, items)
    return list(envelope.expand([whole], name="shop", db="shop"))


def test_an_envelope_is_debezium_s() -> None:
    [found] = envelopes(Change("u", ITEM, None, ("1", UNCHANGED)))
    assert found == {
        "before": None,
        "after": {"id": "1", "note": "__debezium_unavailable_value"},
        "source": {
            "version": envelope.VERSION,
            "connector": "postgresql",
            "name": "shop",
            "ts_ms": 1_700_000_000_123,
            "snapshot": "false",
            "db": "shop",
            "schema": "public",
            "table": "item",
            "txId": 7,
            "lsn": 256,
            "ordinal": 1,
        },
        "op": "u",
        "ts_ms": 1_700_000_000_123,
    }
    orjson.dumps(found)


def test_a_change_of_primary_key_is_one_change_with_both_keys() -> None:
    change = Change("u", ITEM, ("1", UNCHANGED), ("2", None))
    [found] = envelopes(Message("fig.marker", "{}"), change)
    assert found["before"] == {"id": "1", "note": envelope.PLACEHOLDER}
    assert found["after"] == {"id": "2", "note": None}
    assert found["source"]["ordinal"] == 2  # type: ignore[index]
    assert envelope.key_of(change) == {"id": "2"}


def test_keys_of_a_deletion_and_of_a_truncation() -> None:
    assert envelope.key_of(Change("d", ITEM, ("1", UNCHANGED), None)) == {"id": "1"}
    assert envelope.key_of(Change("t", ITEM, None, None)) is None
    [found] = envelopes(Change("t", ITEM, None, None))
    assert (found["before"], found["after"], found["op"]) == (None, None, "t")


def test_a_chunk_s_rows_are_read_changes() -> None:
    chunk = SnapshotChunk(9, 1, ITEM, 2, b"1\t\\N\n2\ta\\tb\\\\N\\nc\x0bd\n")
    edge = SnapshotEdge(9, 0, 1, True)
    found = list(envelope.expand([edge, chunk], name="shop", db="shop", read_at=5))
    assert [e["after"] for e in found] == [{"id": "1", "note": None}, {"id": "2", "note": "a\tb\\N\nc\x0bd"}]
    assert {e["op"] for e in found} == {"r"}
    assert found[0]["source"]["snapshot"] == "true"


def record(position: int, event: Event) -> Record:
    return Record("t", 0, position, event, datetime.now(UTC))


def event(data: bytes, identity: str = "x") -> Event:
    return Event(identity, "/s", "fig.Changes", datetime.now(UTC), data, frames.STREAM, subject=frames.URGENT)


def test_what_is_small_travels_whole() -> None:
    whole = event(b"12345")
    assert frames.split(whole, 5) == [whole]
    frame = frames.Assembler().take(record(7, whole))
    assert frame == frames.Frame(frames.STREAM, b"12345", 7, 7, whole)


def test_a_frame_too_large_for_the_log_travels_in_parts() -> None:
    parts = frames.split(event(b"1234567"), 3)
    assert [(part.id, part.data, part.datacontenttype) for part in parts] == [
        ("x.1", b"123", f"{frames.STREAM};part=1/3"),
        ("x.2", b"456", f"{frames.STREAM};part=2/3"),
        ("x.3", b"7", f"{frames.STREAM};part=3/3"),
    ]
    assembler = frames.Assembler()
    assert assembler.take(record(4, parts[0])) is None
    assert assembler.resume_at(5) == 4
    assert assembler.take(record(5, parts[1])) is None
    # Who wrote them was killed here, and its successor writes all of them again.
    assert [assembler.take(record(6 + n, part)) for n, part in enumerate(parts[:2])] == [None, None]
    frame = assembler.take(record(8, parts[2]))
    assert frame is not None
    assert (frame.content_type, frame.data, frame.begins, frame.ends) == (frames.STREAM, b"1234567", 6, 8)
    assert assembler.resume_at(9) == 9


def test_a_part_out_of_place_is_refused() -> None:
    parts = frames.split(event(b"1234567"), 3)
    with pytest.raises(FigError, match="does not follow") as error:
        frames.Assembler().take(record(0, parts[1]))
    assert error.value.code == "not_a_frame"
