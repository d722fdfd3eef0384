"""A record as rows of a table, and as one line for a reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stranglerfig.cli.main import dumps_line

if TYPE_CHECKING:
    from stranglerfig.eventlog.model import Record
    from stranglerfig.eventlog.parquet import Row
    from stranglerfig.eventlog.windows import Filter


def rows(record: Record, wanted: Filter) -> Iterator[Row]:
    """A record as rows of a table: as ``lines`` of :mod:`stranglerfig.changes.reading`, bytes as they are."""
    from stranglerfig.changes.reading import documents
    from stranglerfig.eventlog.parquet import Row

    if not wanted.takes(record.event):
        return
    for ordinal, (name, document) in enumerate(documents(record)):
        if not wanted.holds(document):
            continue
        if name == "change":
            yield Row(record, ordinal, dumps_line(document), document=document)
        elif (found := _text(record.event.data, record.event.datacontenttype)) is not None:
            yield Row(record, ordinal, found, document=document)
        else:
            yield Row(record, ordinal, None, record.event.data)


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
