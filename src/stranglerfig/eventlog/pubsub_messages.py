"""Events as messages of Google Cloud Pub/Sub, and the place that each carries.

Binary mode of the Pub/Sub binding of CloudEvents (source: ``docs/spec/pubsub.md`` in googleapis/google-cloudevents):
attributes with the prefix ``ce-``, the content type in ``content-type``, the data verbatim. Three attributes of ours
say which message it is: ``figpartition``, ``figbatch`` (the append) and ``figplace`` (in that append's partition).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stranglerfig.eventlog import cloudevents, model
from stranglerfig.eventlog.model import Event, Record
from stranglerfig.foundation.errors import FigError

MAX_EVENT_BYTES: Final = 9_900_000
"""Pub/Sub takes 10 MB a request; the rest is for the attributes."""
ATTRIBUTE_BYTES: Final = 1024
PARTITION: Final = "figpartition"
BATCH: Final = "figbatch"
PLACE: Final = "figplace"
_CALL_BYTES: Final = 9_990_000
_CALL_MESSAGES: Final = 1000
_MESSAGE_BYTES: Final = 64
_ATTRIBUTE_EXTRA: Final = 8


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published."""

    data: bytes
    attributes: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes of it in a request, not less than the truth."""
        attributes = sum(len(name) + len(value.encode()) + _ATTRIBUTE_EXTRA for name, value in self.attributes.items())
        return len(self.data) + attributes + _MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that was delivered: its batch's, or nobody's until the batch has its positions."""

    data: bytes
    attributes: Mapping[str, str]
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages with consecutive positions, as the sequencer knows them."""

    first: int
    count: int
    name: str
    published_at: datetime
    appended_at: datetime

    @property
    def end(self) -> int:
        """The position after its last."""
        return self.first + self.count


def outgoing(event: Event, partition: int, batch: str, place: int) -> Outgoing:
    """The message that an event is.

    Raises:
        FigError: ``attribute_too_large``: Pub/Sub takes 1,024 bytes for each.
    """
    attributes = {f"ce-{name}": value for name, value in cloudevents.attributes(event)}
    attributes[cloudevents.CONTENT_TYPE] = event.datacontenttype
    for name, value in attributes.items():
        if len(value) * 4 > ATTRIBUTE_BYTES and len(value.encode()) > ATTRIBUTE_BYTES:
            raise FigError(
                "attribute_too_large",
                f"the event {event.id[:80]} ({event.type[:80]}) has {len(value.encode())} bytes in '{name}', Pub/Sub "
                f"takes {ATTRIBUTE_BYTES}",
                "Put long values into the data.",
                attribute=name,
                bytes=len(value.encode()),
                limit=ATTRIBUTE_BYTES,
            )
    attributes |= {PARTITION: str(partition), BATCH: batch, PLACE: str(place)}
    return Outgoing(event.data, attributes)


def record(topic: str, partition: int, position: int, message: Incoming, at: datetime) -> Record:
    """The record that a message is, once its position is known."""
    found = {name[3:]: value for name, value in message.attributes.items() if name.startswith("ce-")}
    event = cloudevents.event(
        found,
        message.data,
        content_type=message.attributes.get(cloudevents.CONTENT_TYPE),
        key=None,
        otherwise=(topic, partition, position),
        at=at,
    )
    return Record(topic, partition, position, event, at)


def by_partition(events: Sequence[Event], partitions: int, partition: int | None) -> dict[int, list[int]]:
    """Partition → the numbers of the events that go there, in order."""
    found: dict[int, list[int]] = {}
    for number, event in enumerate(events):
        to = model.partition_of(event.partitionkey, partitions) if partition is None else partition
        found.setdefault(to, []).append(number)
    return found


def calls_of(messages: Sequence[Outgoing]) -> list[list[Outgoing]]:
    """The messages in requests that Pub/Sub takes."""
    return model.in_calls(messages, lambda one: one.size, most=_CALL_MESSAGES, most_bytes=_CALL_BYTES)
