"""Kafka's messages as records: CloudEvents in binary mode, and what other programs wrote without them. Pure.

Source: CloudEvents 1.0.2, "Kafka Protocol Binding": a header ``ce_`` and the name for each attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final, cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from stranglerfig.eventlog import cloudevents
from stranglerfig.eventlog.model import Record, event_of, record_of

_ZONE: Final = attrgetter("tzinfo")

Headers = list[tuple[str, bytes | None]]

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def records(messages: Sequence[Message]) -> list[Record]:
    """The records that messages (none of them an error) are, in order; one that is no CloudEvent included."""
    heads = [cast("Headers", found) if found else [] for found in map(Message.headers, messages)]
    counts = list(map(len, heads))
    if len(set(counts)) < 2:
        return _records(messages, heads)
    found: list[Record | None] = [None] * len(messages)
    for count in set(counts):
        places = [place for place, number in enumerate(counts) if number == count]
        some = _records([messages[place] for place in places], [heads[place] for place in places])
        for place, record in zip(places, some, strict=True):
            found[place] = record
    return cast("list[Record]", found)


def _records(messages: Sequence[Message], heads: Sequence[Headers]) -> list[Record]:
    """Of messages that have as many headers each."""
    try:
        return _alike(messages, _columns(heads))
    except (KeyError, TypeError, ValueError):  # a header is missing, or null, or no text
        return [_record(message, dict(head)) for message, head in zip(messages, heads, strict=True)]


def _columns(heads: Sequence[Headers]) -> dict[str, list[str]]:
    """The values of headers by name, where all have the same ones in the same order, as those of one producer do.

    Raises:
        TypeError, ValueError: they do not; one is null, or no text.
    """
    columns: dict[str, list[str]] = {}
    for pairs in zip(*heads, strict=True):
        first = name, value = pairs[0]
        if first == pairs[-1] and pairs.count(first) == len(pairs):
            columns[name] = [bytes.decode(value)] * len(pairs)
            continue
        values = [value for other, value in pairs if other == name]
        if len(values) != len(pairs):
            raise ValueError("headers in another order")
        columns[name] = list(map(bytes.decode, values))
    return columns


def _alike(messages: Sequence[Message], columns: dict[str, list[str]]) -> list[Record]:
    """Of messages that have each what ours have, column by column: Python's own work per event is nearly all of it.

    Raises:
        KeyError, TypeError, ValueError: another program's are among them.
    """
    ids, times = columns["ce_id"], list(map(datetime.fromisoformat, columns["ce_time"]))
    if not all(ids) or None in map(_ZONE, times):
        raise ValueError("an id is empty, or a time does not say where")
    nothing: list[str | None] = [None] * len(ids)
    own = [None if key is None else key.decode() for key in map(Message.key, messages)]
    otherwise = dict.fromkeys(cloudevents.OPTIONAL, nothing) | {"partitionkey": own}
    optional: list[Sequence[str | None]] = [columns.get(f"ce_{name}", rest) for name, rest in otherwise.items()]
    events = map(
        event_of,
        zip(
            ids,
            columns["ce_source"],
            columns["ce_type"],
            times,
            [value or b"" for value in map(Message.value, messages)],
            columns[cloudevents.CONTENT_TYPE],
            *optional,
            strict=True,
        ),
    )
    places = (map(field, messages) for field in (Message.topic, Message.partition, Message.offset))
    stamps = list(map(Message.timestamp, messages))
    instants = {stamp: _instant(stamp) for stamp in set(stamps)}
    return list(map(record_of, zip(*places, events, map(instants.__getitem__, stamps), strict=True)))


def _record(message: Message, head: dict[str, bytes | None]) -> Record:
    topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
    at = _instant(message.timestamp())
    found = {name: value.decode(errors="replace") for name, value in head.items() if value is not None}
    key = message.key()
    event = cloudevents.event(
        found,
        message.value() or b"",
        prefix="ce_",
        content_type=found.get(cloudevents.CONTENT_TYPE),
        key=None if key is None else key.decode(errors="replace"),
        otherwise=(topic, partition, offset),
        at=at,
    )
    return Record(topic, partition, offset, event, at)


def _instant(stamp: tuple[int, int]) -> datetime:
    kind, milliseconds = stamp
    return _EPOCH if kind == TIMESTAMP_NOT_AVAILABLE else datetime.fromtimestamp(milliseconds / 1000, UTC)
