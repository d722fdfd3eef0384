"""Kafka's messages as records: ours column by column, another program's one by one, and both alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE

from stranglerfig.eventlog import kafka_records
from stranglerfig.eventlog.kafka_producer import headers
from stranglerfig.eventlog.model import Event, Record

AT = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
TAKEN = datetime(2026, 2, 3, 4, 5, 7, tzinfo=UTC)


@dataclass
class Message:
    """As ``confluent_kafka`` gives one."""

    found: Any
    data: bytes | None = b"{}"
    own_key: bytes | None = None
    place: int = 0
    stamp: tuple[int, int] = (TIMESTAMP_LOG_APPEND_TIME, int(TAKEN.timestamp() * 1000))

    def headers(self) -> Any:
        return self.found

    def value(self) -> bytes | None:
        return self.data

    def key(self) -> bytes | None:
        return self.own_key

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return self.place

    def timestamp(self) -> tuple[int, int]:
        return self.stamp


@pytest.fixture(autouse=True)
def _messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_records, "Message", Message)


def records(*messages: Message) -> list[Record]:
    return kafka_records.records(messages)  # type: ignore[arg-type]


def sent(event: Event, place: int = 0, key: bytes | None = None) -> Message:
    """As the producer writes it and the client reads it."""
    found = [(name, value.encode() if isinstance(value, str) else value) for name, value in headers(event)]
    return Message(found, event.data, key, place)


PLAIN = Event("a", "/shop", "x.Made", AT, b"1")
FULL = Event("b", "/shop", "x.Made", AT, b"2", "text/plain", "s", "schema:1", "ke y", "00-aa-bb-01", "c1", "c2")


@pytest.mark.parametrize("events", [[PLAIN], [PLAIN, FULL], [FULL, PLAIN, PLAIN]])
def test_what_was_written_is_read(events: list[Event]) -> None:
    found = records(*(sent(event, place) for place, event in enumerate(events)))
    assert found == [Record("t", 2, place, event, TAKEN) for place, event in enumerate(events)]


def test_the_key_is_the_messages_where_the_attributes_have_none() -> None:
    [one, other] = records(sent(PLAIN, key=b"k1"), sent(FULL, key=b"k2"))
    assert (one.event.partitionkey, other.event.partitionkey) == ("k1", "ke y")


STRANGE = {
    "without headers": Message(None, b"3", b"k"),
    "with none that we know": Message([("trace", b"1")], None),
    "with a null among them": Message([("ce_id", None), ("ce_type", b"y")]),
    "with bytes that are no text": Message([("ce_id", b"\xff\xfe"), ("ce_type", b"y")], b"4", b"\xff"),
    "without a time zone": Message([*sent(PLAIN).found[:-1], ("ce_time", b"2026-02-03T04:05:06.789012")]),
    "with a time in small letters": Message([*sent(PLAIN).found[:-1], ("ce_time", b"2026-02-03t04:05:06.789012z")]),
    "with a time that is none": Message([*sent(PLAIN).found[:-1], ("ce_time", b"yesterday")]),
    "with an empty id": Message([(n, b"" if n == "ce_id" else v) for n, v in sent(PLAIN).found], place=7),
    "whose time nobody knows": Message(None, stamp=(TIMESTAMP_NOT_AVAILABLE, 0)),
}


@pytest.mark.parametrize("name", STRANGE)
def test_another_programs_messages_are_events_too_and_change_nothing_of_ours(name: str) -> None:
    [before, found, after] = records(sent(PLAIN, 1), STRANGE[name], sent(FULL, 2))
    assert (before.event, after.event) == (PLAIN, FULL)
    event = found.event
    assert event.id and event.time.tzinfo is not None and event.type and event.source
    assert event.data == (STRANGE[name].data or b"")


def test_what_another_program_leaves_out_is_filled_in() -> None:
    [found] = records(STRANGE["without headers"])
    assert found.event == Event("t-2-0", "/", "message", TAKEN, b"3", "application/octet-stream", partitionkey="k")
    [found] = records(STRANGE["without a time zone"])
    assert found.event.time == AT
    [found] = records(STRANGE["with a time in small letters"])
    assert found.event.time == AT
    [found] = records(STRANGE["with a time that is none"])
    assert found.event.time == TAKEN
    [found] = records(STRANGE["with an empty id"])
    assert found.event.id == "t-2-7"
    [found] = records(STRANGE["whose time nobody knows"])
    assert found.appended_at == datetime.fromtimestamp(0, UTC)


def test_no_messages_are_no_records() -> None:
    assert records() == []
