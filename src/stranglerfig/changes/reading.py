"""A record for its readers: an event as one object, a frame of changes as one per change, in Debezium's form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from stranglerfig.changes import envelope, frames
from stranglerfig.eventlog.model import Record, shown
from stranglerfig.eventlog.windows import Filter

_ATTRIBUTES = (
    *("id", "source", "type", "time", "subject", "dataschema", "datacontenttype", "partitionkey"),
    *("traceparent", "correlationid", "causationid", "tenantid"),
)


def lines(record: Record, wanted: Filter | None = None) -> Iterator[dict[str, Any]]:
    """A record as objects; of these, those that are ``wanted``."""
    if wanted is not None and not wanted.takes(record.event):
        return
    place = {"topic": record.topic, "partition": record.partition, "position": shown(record.position)}
    known = {key: value for key in _ATTRIBUTES if (value := getattr(record.event, key)) is not None}
    for name, document in documents(record):
        if wanted is None or wanted.holds(document):
            yield place | (
                {"change": document} if name == "change" else {**known, "specversion": "1.0", name: document}
            )


def documents(record: Record) -> Iterator[tuple[str, Any]]:
    """What a record holds, decoded: each ``change`` of a frame, else the event's ``data``."""
    event = record.event
    if event.datacontenttype not in frames.KINDS:
        yield "data", _data(event.data, event.datacontenttype)
        return
    items = frames.decode(event.datacontenttype, event.data)
    read_at = int(event.time.timestamp() * 1000)
    for change in envelope.expand(items, name=event.source.strip("/"), db=event.source, read_at=read_at):
        yield "change", change


def _data(data: bytes, kind: str) -> Any:
    if kind.endswith("json"):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    return data.decode("utf-8", errors="replace")
