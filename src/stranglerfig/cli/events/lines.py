"""A record as its readers get it: an event as one object, a frame of changes as one per change, in Debezium's form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from stranglerfig.cli.main import dumps_line
from stranglerfig.eventlog.model import shown

if TYPE_CHECKING:
    from stranglerfig.eventlog.model import Record
    from stranglerfig.eventlog.parquet import Row
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
    for name, document in _documents(record):
        if wanted is None or wanted.holds(document):
            yield place | (
                {"change": document} if name == "change" else {**known, "specversion": "1.0", name: document}
            )


def rows(record: Record, wanted: Filter) -> Iterator[Row]:
    """A record as rows of a table: as :func:`lines`, with bytes that are no text as they are."""
    from stranglerfig.eventlog.parquet import Row

    if not wanted.takes(record.event):
        return
    for ordinal, (name, document) in enumerate(_documents(record)):
        if not wanted.holds(document):
            continue
        if name == "change":
            yield Row(record, ordinal, dumps_line(document), document=document)
        elif (found := _text(record.event.data, record.event.datacontenttype)) is not None:
            yield Row(record, ordinal, found, document=document)
        else:
            yield Row(record, ordinal, None, record.event.data)


def _documents(record: Record) -> Iterator[tuple[str, Any]]:
    """What a record holds, decoded: each ``change`` of a frame, else the event's ``data``."""
    from stranglerfig.changes import frames

    event = record.event
    if event.datacontenttype not in frames.KINDS:
        yield "data", _data(event.data, event.datacontenttype)
        return
    from stranglerfig.changes import envelope

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


def _text(data: bytes, kind: str) -> str | None:
    """The data as text, where its type says that it is some and it is; else None."""
    if not (kind.endswith(("json", "xml")) or kind.startswith("text/")):
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def text(line: dict[str, Any]) -> str:
    """One object as one line for a reader."""
    at = f"{line['partition']}/{line['position']}"
    if "change" in line:
        return f"{at}  {dumps_line(line['change'])}"
    time = f"{line['time']:%Y-%m-%dT%H:%M:%S.%fZ}"
    return "  ".join((at, time, line["type"], line.get("subject", ""), dumps_line(line["data"])))
