"""Events as rows of the log on PostgreSQL: a row holds many, so that each costs the server its id and its bytes alone.

A row has a header, JSON of what the events are by column, and their data one behind the other. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import accumulate, pairwise, repeat
from operator import attrgetter
from typing import Any, Final, NamedTuple

import orjson

from stranglerfig.eventlog import model
from stranglerfig.eventlog.model import Event, Record, event_of, record_of
from stranglerfig.foundation.errors import FigError

_EVENTS: Final = 1000
_BYTES: Final = 1_000_000
"""Of a row: whoever reads a part of it reads it whole."""
_COLUMNS: Final = ("id", "source", "type", "time", *Event._fields[5:])
"""Of the header, before the sizes of the data. Ids are always a list; another column is its value where all have it."""
_FIRST: Final = _COLUMNS.index("causationid") + 1
"""The columns that each header has; of the later ones those at the end are left out where all their values are None."""


_TEXT: Final[frozenset[type]] = frozenset({str})
_TYPES: Final[list[frozenset[type]]] = [_TEXT] * 4 + [frozenset({str, type(None)})] * (len(_COLUMNS) - 5)
"""What the columns after the ids may hold: source, type, time and content type are there in each event."""
_ZONE: Final = attrgetter("tzinfo")
_TIME: Final = attrgetter("time")


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
    """The records of a row whose first event is at ``first``.

    Raises:
        FigError: ``log_row_unreadable`` when it is none that :func:`rows` made.
    """
    try:
        ids, *columns, sizes = orjson.loads(header)
        if len(columns) >= len(_COLUMNS):
            raise ValueError("it has more columns than this version knows")
        columns += [None] * (len(_COLUMNS) - 1 - len(columns))
        if not all(map(_fits, columns, _TYPES)) or set(map(type, ids)) != _TEXT:
            raise ValueError("a column has another type")
        sources, kinds, times, *others = (_long(column, len(ids)) for column in columns)
        ends = list(accumulate(_long(sizes, len(ids)), initial=0))
        if ends[-1] != len(data) or ends != sorted(ends):
            raise ValueError("the data have another size")
        datas = (data[begin:end] for begin, end in pairwise(ends))
        instants = map(datetime.fromisoformat, times)
        events = list(map(event_of, zip(ids, sources, kinds, instants, datas, *others, strict=True)))
        if None in map(_ZONE, map(_TIME, events)):
            raise ValueError("a time does not say where")
    except (ValueError, TypeError, IndexError) as error:
        raise FigError(
            "log_row_unreadable",
            f"the row of '{topic}' (partition {partition}) at position {first} cannot be read: {error}",
            "Only fig writes to the log's tables; restore the row from a backup, or move the group beyond it.",
            topic=topic,
            partition=partition,
            position=first,
        ) from error
    places = range(first, first + len(ids))
    return list(map(record_of, zip(repeat(topic), repeat(partition), places, events, repeat(appended_at))))


def _fits(column: Any, types: frozenset[type]) -> bool:
    return types.issuperset(map(type, column)) if type(column) is list else type(column) in types


def _long(column: Any, count: int) -> Iterable[Any]:
    return column if type(column) is list else repeat(column, count)
