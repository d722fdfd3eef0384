"""Events as rows of the log on PostgreSQL: a row holds many, so that each costs the server its id and its bytes alone.

A row has a header, JSON of what the events are by column, and their data one behind the other. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import accumulate, pairwise, repeat
from typing import Any, Final, NamedTuple

import orjson

from stranglerfig.eventlog import model
from stranglerfig.eventlog.model import Event, Record, event_of, record_of

_EVENTS: Final = 1000
_BYTES: Final = 1_000_000
"""Of a row: whoever reads a part of it reads it whole."""
_COLUMNS: Final = ("id", "source", "type", "time", *Event._fields[5:])
"""Of the header, before the sizes of the data. Ids are always a list; another column is its value where all have it."""
_FIRST: Final = _COLUMNS.index("causationid") + 1
"""The columns that each header has; of the later ones those at the end are left out where all their values are None."""


class Row(NamedTuple):
    """Events that follow each other in one partition."""

    events: int
    header: bytes
    data: bytes


def rows(events: Sequence[Event]) -> list[Row]:
    """The rows that hold ``events``, in order; an event that is larger than a row should be has one of its own."""
    cut = model.in_calls(events, lambda one: len(one.data), most=_EVENTS, most_bytes=_BYTES)
    return [_row(some) for some in cut]


def _row(events: Sequence[Event]) -> Row:
    ids, sources, kinds, times, datas, *others = zip(*events, strict=True)
    columns = [ids, *map(_short, (sources, kinds, times, *others))]
    while len(columns) > _FIRST and columns[-1] is None:
        columns.pop()
    header = [*columns, _short(tuple(map(len, datas)))]
    return Row(len(events), orjson.dumps(header), b"".join(datas))


def _short(column: tuple[Any, ...]) -> Any:
    """A column, or the one value that it has."""
    first = column[0]
    return first if column.count(first) == len(column) else column


def records(topic: str, partition: int, first: int, appended_at: datetime, header: bytes, data: bytes) -> list[Record]:
    """The records of a row whose first event is at ``first``."""
    ids, *columns, sizes = orjson.loads(header)
    columns += [None] * (len(_COLUMNS) - 1 - len(columns))
    sources, kinds, times, *others = (_long(column, len(ids)) for column in columns)
    ends = accumulate(_long(sizes, len(ids)), initial=0)
    datas = (data[begin:end] for begin, end in pairwise(ends))
    events = map(event_of, zip(ids, sources, kinds, map(datetime.fromisoformat, times), datas, *others, strict=True))
    places = range(first, first + len(ids))
    return list(map(record_of, zip(repeat(topic), repeat(partition), places, events, repeat(appended_at))))


def _long(column: Any, count: int) -> Iterable[Any]:
    return column if type(column) is list else repeat(column, count)
