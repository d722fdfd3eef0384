"""How changes travel through the log: many transactions, or one chunk of a snapshot, in one record.

An envelope per row would bound everything by Python's cost per record; a frame carries thousands and is expanded into
Debezium-compatible envelopes (``changes.envelope``) only for whoever reads them singly. JSON, so that every consumer
can read it; a chunk is a JSON header line followed by COPY text as PostgreSQL wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from stranglerfig.changes.model import (
    UNCHANGED,
    Barrier,
    Change,
    Column,
    Item,
    Message,
    Relation,
    Row,
    SnapshotChunk,
    SnapshotEdge,
    Transaction,
)
from stranglerfig.eventlog.model import Event, Record
from stranglerfig.foundation.errors import FigError

STREAM = "application/vnd.stranglerfig.changes+json"
CHUNK = "application/vnd.stranglerfig.copy"
EDGE = "application/vnd.stranglerfig.snapshot+json"
BARRIER = "application/vnd.stranglerfig.barrier+json"
KINDS = frozenset({STREAM, CHUNK, EDGE, BARRIER})
"""Content types of the records of a change topic."""
PART = ";part="
"""What the content type of a record ends with that holds one part of a frame: ``;part=2/3``."""
_TEXT = frozenset({str})
_SENT = frozenset({str, type(None)})
_OPERATIONS = frozenset("cudrt")
URGENT = "urgent"
"""Subject of a record with a marker or an activation in it: somebody waits for it."""


def encode(items: Sequence[Transaction]) -> bytes:
    """A frame. An unchanged value is ``false``, a message ``["m", prefix, content]``; a transaction's trace is last."""
    relations: dict[Relation, int] = {}
    transactions = []
    for item in items:
        changes: list[Any] = []
        for change in item.items:
            if isinstance(change, Message):
                changes.append(["m", change.prefix, change.content])
            else:
                number = relations.setdefault(change.relation, len(relations))
                changes.append([change.op, number, _pack(change.before), _pack(change.after)])
        packed: list[Any] = [item.lsn, item.xid, item.committed_at, item.first, item.end, changes]
        transactions.append(packed if item.trace is None else [*packed, item.trace])
    return orjson.dumps(
        {
            "relations": [[r.schema, r.name, [[c.name, c.type, c.key] for c in r.columns]] for r in relations],
            "transactions": transactions,
        }
    )


def _pack(row: Row | None) -> Any:
    if row is None or UNCHANGED not in row:
        return row
    return [False if value is UNCHANGED else value for value in row]


def _unpack(row: Any, width: int) -> Row | None:
    if row is None:
        return None
    if type(row) is not list or len(row) != width:
        raise ValueError("a row has not the columns of its table")
    if _SENT.issuperset(map(type, row)):
        return tuple(row)
    if not all(value is False or type(value) in _SENT for value in row):
        raise ValueError("a value is neither text, nor null, nor unchanged")
    return tuple(UNCHANGED if value is False else value for value in row)


def encode_chunk(chunk: SnapshotChunk) -> bytes:
    """A record with one chunk of a snapshot."""
    relation = chunk.relation
    header = {
        "lsn": chunk.lsn,
        "ordinal": chunk.ordinal,
        "relation": [relation.schema, relation.name, [[c.name, c.type, c.key] for c in relation.columns]],
        "rows": chunk.rows,
    }
    return orjson.dumps(header) + b"\n" + chunk.copy


def encode_edge(edge: SnapshotEdge) -> bytes:
    """A record that a snapshot begins or ends with."""
    return orjson.dumps(
        {
            "lsn": edge.lsn,
            "ordinal": edge.ordinal,
            "generation": edge.generation,
            "begins": edge.begins,
            "tables": edge.tables,
            "total_rows": edge.total_rows,
        }
    )


def encode_barrier(barrier: Barrier) -> bytes:
    """A record with a barrier."""
    return orjson.dumps(
        {
            "lsn": barrier.lsn,
            "ordinal": barrier.ordinal,
            "partitions": barrier.partitions,
            "closes": barrier.closes,
            "generation": barrier.generation,
        }
    )


def decode(content_type: str, data: bytes) -> list[Item]:
    """The items of one record of a change topic.

    Raises:
        FigError: ``not_a_frame`` for anything that this version does not read.
    """
    try:
        if content_type == STREAM:
            return _decode_stream(data)
        if content_type == CHUNK:
            end = data.index(b"\n")
            header = orjson.loads(data[:end])
            lsn, ordinal, rows = _fields(header, lsn=int, ordinal=int, rows=int)
            return [SnapshotChunk(lsn, ordinal, _relation(header["relation"]), rows, data[end + 1 :])]
        if content_type == EDGE:
            body = orjson.loads(data)
            [tables, *facts] = _fields(
                body, tables=list, lsn=int, ordinal=int, generation=int, begins=bool, total_rows=int
            )
            if not _TEXT.issuperset(map(type, tables)):
                raise ValueError("a table's name is no text")
            lsn, ordinal, generation, begins, total_rows = facts
            return [SnapshotEdge(lsn, ordinal, generation, begins, tuple(tables), total_rows)]
        if content_type == BARRIER:
            body = orjson.loads(data)
            return [Barrier(*_fields(body, lsn=int, ordinal=int, partitions=int, closes=bool, generation=int))]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise not_a_frame(f"a record of a change topic cannot be read: {error}") from error
    raise not_a_frame(f"a record of a change topic has the type {content_type}")


def not_a_frame(what: str) -> FigError:
    """A change topic has something that capture did not write."""
    return FigError("not_a_frame", what, "Do not write to change topics.")


def _fields(body: Any, **types: type) -> list[Any]:
    """The fields of a JSON object, each of its type (and true is no number); others are left to later versions."""
    found = [body[name] for name in types]
    for (name, wanted), value in zip(types.items(), found, strict=True):
        if type(value) is not wanted:
            raise ValueError(f"'{name}' is no {wanted.__name__}")
    return found


def split(event: Event, limit: int) -> list[Event]:
    """``event`` as records of at most ``limit`` bytes of data: itself, or parts that :class:`Assembler` joins."""
    if len(event.data) <= limit:
        return [event]
    pieces = [event.data[start : start + limit] for start in range(0, len(event.data), limit)]
    return [
        event._replace(
            id=f"{event.id}.{number}",
            data=piece,
            datacontenttype=f"{event.datacontenttype}{PART}{number}/{len(pieces)}",
        )
        for number, piece in enumerate(pieces, start=1)
    ]


class Frame(NamedTuple):
    """A frame as it was before it was split; ``begins`` and ``ends`` are the log positions of its records."""

    content_type: str
    data: bytes
    begins: int
    ends: int
    event: Event


class Assembler:
    """Joins the parts of frames; whatever is whole passes through. One for each reader of a partition."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._begins = 0

    def take(self, record: Record) -> Frame | None:
        """The frame that ``record`` completes; None while parts are missing.

        A first part begins anew: whoever wrote the ones before was killed and wrote all of them again.

        Raises:
            FigError: ``not_a_frame`` for a part that does not follow the one before.
        """
        event = record.event
        content_type, found, place = event.datacontenttype.partition(PART)
        if not found:
            self._parts = []
            return Frame(content_type, event.data, record.position, record.position, event)
        try:
            number, total = (int(text) for text in place.split("/"))
        except ValueError as error:
            raise not_a_frame(
                f"the record at position {record.position} is the part '{place[:40]}' of a frame"
            ) from error
        if number == 1:
            self._parts, self._begins = [], record.position
        if number != len(self._parts) + 1 or number > total:
            raise not_a_frame(
                f"part {number} of {total} of a frame at position {record.position} does not follow part "
                f"{len(self._parts)}"
            )
        self._parts.append(event.data)
        if number < total:
            return None
        data, self._parts = b"".join(self._parts), []
        return Frame(content_type, data, self._begins, record.position, event)

    def resume_at(self, position: int) -> int:
        """Where a reader that has taken everything below ``position`` goes on after its death."""
        return self._begins if self._parts else position


def _relation(packed: Any) -> Relation:
    schema, name, columns = packed
    made = tuple(Column(*column) for column in columns)
    for column in made:
        if type(column.name) is not str or type(column.type) is not str or type(column.key) is not bool:
            raise ValueError("a column is not described by name, type and key")
    if type(schema) is not str or type(name) is not str:
        raise ValueError("a table's name is no text")
    return Relation(schema, name, made)


def _decode_stream(data: bytes) -> list[Item]:
    body = orjson.loads(data)
    relations = [(one, len(one.columns)) for one in map(_relation, body["relations"])]
    items: list[Item] = []
    for lsn, xid, committed_at, first, end, packed, *trace in body["transactions"]:
        if not (type(lsn) is type(xid) is type(committed_at) is type(first) is int and type(end) is bool):
            raise ValueError("a transaction's place is not of numbers")
        if len(trace) > 1 or not _SENT.issuperset(map(type, trace)):
            raise ValueError("a transaction's trace is no text")
        changes: list[Change | Message] = []
        for entry in packed:
            op, of, before, after = entry if len(entry) == 4 else (*entry, None)
            if op in _OPERATIONS and type(of) is int and of >= 0:
                relation, width = relations[of]
                changes.append(Change(op, relation, _unpack(before, width), _unpack(after, width)))
            elif op == "m" and type(of) is type(before) is str:
                changes.append(Message(of, before))
            else:
                raise ValueError(f"a change of the unknown kind {op!r}, or of what it cannot be of")
        items.append(Transaction(lsn, xid, committed_at, first, tuple(changes), end, *trace))
    return items
