"""Changes as Debezium writes them, one object each, for whoever reads a change topic singly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stranglerfig.changes.model import (
    UNCHANGED,
    Change,
    Item,
    Message,
    Relation,
    Row,
    SnapshotChunk,
    SnapshotEdge,
    Transaction,
    lsn_text,
)

UNAVAILABLE = "__debezium_unavailable_value"
"""What Debezium puts in the place of a value that the database did not send."""
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def expand(item: Item) -> Iterator[dict[str, Any]]:
    """The envelopes of an item; a message and a snapshot's edge are objects of their own kind."""
    if isinstance(item, Transaction):
        yield from _transaction(item)
    elif isinstance(item, SnapshotChunk):
        source = _source(item.relation, item.lsn, None, None, snapshot=True)
        for number, line in enumerate(item.copy.decode().removesuffix("\n").split("\n")):
            values = map(_copied, line.split("\t"))
            after = dict(zip((c.name for c in item.relation.columns), values, strict=True))
            at = {**source, "ordinal": item.ordinal, "row": number}
            yield {"op": "r", "before": None, "after": after, "source": at}
    elif isinstance(item, SnapshotEdge):
        yield {
            "snapshot": "begins" if item.begins else "ends",
            "generation": item.generation,
            "tables": list(item.tables),
            "total_rows": item.total_rows,
            "source": {"lsn": item.lsn, "lsn_text": lsn_text(item.lsn)},
        }


def _transaction(item: Transaction) -> Iterator[dict[str, Any]]:
    for ordinal, change in enumerate(item.items, start=item.first):
        if isinstance(change, Message):
            yield {
                "op": "m",
                "message": {"prefix": change.prefix, "content": change.content},
                "source": {"lsn": item.lsn, "txId": item.xid, "ts_ms": item.committed_at // 1000, "ordinal": ordinal},
            }
        else:
            source = _source(change.relation, item.lsn, item.xid, item.committed_at // 1000, snapshot=False)
            yield {**_rows(change), "source": {**source, "ordinal": ordinal}}


def _rows(change: Change) -> dict[str, Any]:
    return {
        "op": change.op,
        "before": _row(change.relation, change.before),
        "after": _row(change.relation, change.after),
    }


def _row(relation: Relation, row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        column.name: UNAVAILABLE if value is UNCHANGED else value
        for column, value in zip(relation.columns, row, strict=True)
    }


def _source(relation: Relation, lsn: int, xid: int | None, ts_ms: int | None, *, snapshot: bool) -> dict[str, Any]:
    return {
        "schema": relation.schema,
        "table": relation.name,
        "lsn": lsn,
        "lsn_text": lsn_text(lsn),
        "txId": xid,
        "ts_ms": ts_ms,
        "snapshot": "true" if snapshot else "false",
    }


def _copied(field: str) -> str | None:
    """A value of COPY's text format (the documented escapes; others do not occur in what PostgreSQL writes)."""
    if field == r"\N":
        return None
    if "\\" not in field:
        return field
    out, rest = [], iter(field)
    for letter in rest:
        if letter == "\\":
            follower = next(rest, "\\")
            out.append(_ESCAPES.get(follower, follower))
        else:
            out.append(letter)
    return "".join(out)
