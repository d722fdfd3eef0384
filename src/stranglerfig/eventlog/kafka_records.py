"""Kafka's messages as records: CloudEvents in binary mode, and what other programs wrote without them. Pure.

Source: CloudEvents 1.0.2, "Kafka Protocol Binding": a header ``ce_`` and the name for each attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import repeat
from operator import attrgetter
from typing import Final, cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from stranglerfig.eventlog import cloudevents
from stranglerfig.eventlog.model import Record, event_of, record_of

_ZONE: Final = attrgetter("tzinfo")

Headers = dict[str, bytes | None]

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_REQUIRED: Final = ("ce_id", "ce_source", "ce_type", "ce_time", cloudevents.CONTENT_TYPE)
_OPTIONAL: Final = tuple(f"ce_{name}" for name in cloudevents.OPTIONAL)


def records(messages: Sequence[Message]) -> list[Record]:
    """The records that messages (none of them an error) are, in order; one that is no CloudEvent included."""
    heads = [dict(found) if found else {} for found in map(Message.headers, messages)]
    try:
        return _alike(messages, cast("list[Headers]", heads))
    except (KeyError, TypeError, AttributeError, ValueError):  # a header is missing, or null, or no text
        return [_record(*one) for one in zip(messages, cast("list[Headers]", heads), strict=True)]


def _alike(messages: Sequence[Message], heads: list[Headers]) -> list[Record]:
    """Of messages that have each what ours have, column by column: Python's own work per event is nearly all of it.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: another program's are among them.
    """
    ids, sources, kinds, instants, contents = ([head[name] for head in heads] for name in _REQUIRED)
    times = list(map(datetime.fromisoformat, map(bytes.decode, instants)))  # type: ignore[arg-type]
    if not all(ids) or None in map(_ZONE, times):
        raise ValueError("an id is empty, or a time does not say where")
    events = map(
        event_of,
        zip(
            map(bytes.decode, ids),  # type: ignore[arg-type]
            map(_shared, sources),
            map(_shared, kinds),
            times,
            [value or b"" for value in map(Message.value, messages)],
            map(_shared, contents),
            *_optional(messages, heads),
            strict=True,
        ),
    )
    places = (map(field, messages) for field in (Message.topic, Message.partition, Message.offset))
    return list(map(record_of, zip(*places, events, map(_instant, map(Message.timestamp, messages)), strict=True)))


def _optional(messages: Sequence[Message], heads: list[Headers]) -> Iterable[Iterable[str | None]]:
    """The columns of :data:`cloudevents.OPTIONAL`."""
    keys = [None if key is None else key.decode() for key in map(Message.key, messages)]
    some = max(map(len, heads), default=0) > len(_REQUIRED) + 1  # the version of the specification
    for name in _OPTIONAL:
        if name == "ce_partitionkey":
            own = map(_text, [head.get(name) for head in heads]) if some else repeat(None)
            yield [key if mine is None else mine for key, mine in zip(keys, own, strict=False)]
        elif some:
            yield list(map(_text, [head.get(name) for head in heads]))
        else:
            yield [None] * len(heads)


def _record(message: Message, head: Headers) -> Record:
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


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


@lru_cache(maxsize=1024)
def _shared(value: bytes) -> str:
    """What many events have in common."""
    return value.decode()


@lru_cache(maxsize=16)
def _instant(stamp: tuple[int, int]) -> datetime:
    kind, milliseconds = stamp
    return _EPOCH if kind == TIMESTAMP_NOT_AVAILABLE else datetime.fromtimestamp(milliseconds / 1000, UTC)
