"""Single changes in Debezium's envelope, for whoever reads them one by one: as Debezium's own capture writes them.

Values stay PostgreSQL's text. An unchanged TOASTed value is Debezium's placeholder, never null. A change of primary key
is one change: ``before`` carries the old key, ``after`` the new one. Field by field after Debezium's manual,
"PostgreSQL connector, data change events".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from stranglerfig.changes.frames import not_a_frame
from stranglerfig.changes.model import (
    Barrier,
    Change,
    Item,
    Message,
    Relation,
    Row,
    SnapshotChunk,
    SnapshotEdge,
    Unchanged,
    Value,
)

VERSION: Final = "0.1.0"
PLACEHOLDER: Final = "__debezium_unavailable_value"
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def expand(
    items: Iterable[Item], *, name: str, db: str, read_at: int = 0, version: str = VERSION
) -> Iterator[dict[str, Any]]:
    """The envelopes of ``items``, in order; messages, barriers and a snapshot's edges have none.

    Args:
        items: as ``frames.decode`` returns them.
        name: the source's logical name (Debezium's ``topic.prefix``).
        db: the source database's name.
        read_at: milliseconds since 1970, for ``ts_ms`` of a snapshot's rows, which have no commit of their own.
        version: of the connector.

    Raises:
        FigError: ``not_a_frame`` for a chunk whose text is not rows of its table.
    """
    base = {"version": version, "connector": "postgresql", "name": name}
    for item in items:
        if isinstance(item, (SnapshotEdge, Barrier)):
            continue
        if isinstance(item, SnapshotChunk):
            source = {**base, "ts_ms": read_at, "snapshot": "true", "db": db, **_place(item.relation)}
            for row in _rows(item):
                yield {
                    "before": None,
                    "after": _named(item.relation, row),
                    "source": {**source, "txId": None, "lsn": item.lsn},
                    "op": "r",
                    "ts_ms": read_at,
                }
            continue
        milliseconds = item.committed_at // 1000
        for number, change in enumerate(item.items):
            if isinstance(change, Message):
                continue
            yield {
                "before": _named(change.relation, change.before),
                "after": _named(change.relation, change.after),
                "source": {
                    **base,
                    "ts_ms": milliseconds,
                    "snapshot": "false",
                    "db": db,
                    **_place(change.relation),
                    "txId": item.xid,
                    "lsn": item.lsn,
                    # Not in Debezium, whose sequence is (last commit, this LSN): our source position's second half.
                    "ordinal": item.first + number,
                },
                "op": change.op,
                "ts_ms": milliseconds,
            }


def key_of(change: Change) -> dict[str, Value] | None:
    """The key by which the envelope is sent: the new one, of a deletion the old one; None without a key."""
    row = change.after if change.after is not None else change.before
    columns = change.relation.columns
    if row is None or not any(column.key for column in columns):
        return None
    return {column.name: value for column, value in zip(columns, row, strict=True) if column.key}


def _place(relation: Relation) -> dict[str, str]:
    return {"schema": relation.schema, "table": relation.name}


def _named(relation: Relation, row: Row | None) -> dict[str, str | None] | None:
    if row is None:
        return None
    return {
        column.name: PLACEHOLDER if isinstance(value, Unchanged) else value
        for column, value in zip(relation.columns, row, strict=True)
    }


def _rows(chunk: SnapshotChunk) -> Iterator[Row]:
    width = len(chunk.relation.columns)
    try:
        for row in copy_rows(chunk.copy):
            if len(row) != width:
                raise not_a_frame(f"a row of {chunk.relation.qualified} has {len(row)} columns, not {width}")
            yield row
    except UnicodeDecodeError as error:
        raise not_a_frame(f"a row of {chunk.relation.qualified} is not UTF-8: {error}") from error


def copy_rows(copy: bytes) -> Iterator[Row]:
    """The rows of COPY text: tab-separated, ``\\N`` is null, backslash escapes (PostgreSQL's manual, "COPY")."""
    # Only line feeds end a row: in text, str.splitlines would also cut at form feeds and the like.
    for line in copy.decode().split("\n")[:-1]:
        yield tuple(None if value == "\\N" else _unescape(value) for value in line.split("\t"))


def _unescape(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), value)
