"""The change stream's bytes, made into changes: pgoutput, protocol version 1 (PostgreSQL's manual, "Logical Replication
Message Formats"). Pure: no I/O, no clock; whoever reads the socket feeds it.

It numbers what it keeps (the ordinals of source positions), so what it keeps must depend on the stream alone.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from stranglerfig.capture.model import Drift, compare
from stranglerfig.changes.model import (
    TRACE,
    UNCHANGED,
    Change,
    Column,
    Message,
    Relation,
    Row,
    SourcePosition,
    Transaction,
    Value,
    is_origin_of,
)
from stranglerfig.foundation.errors import FigError

EPOCH_2000 = 946_684_800_000_000
"""Microseconds between 1970, which we count from, and 2000, which PostgreSQL counts from."""
WHOLE = sys.maxsize
"""As an ordinal: after the last one of a transaction, whatever that is."""

_BEGIN = struct.Struct("!cqqi").unpack
_COMMIT = struct.Struct("!cbqqq").unpack
_MESSAGE = struct.Struct("!cbq").unpack_from
_INT = struct.Struct("!i").unpack_from
_UNSIGNED = struct.Struct("!I").unpack_from
_SHORT = struct.Struct("!H").unpack_from
_TYPE = struct.Struct("!bIi")

_K, _O, _NEW = b"KON"


class Part(NamedTuple):
    """A transaction or a part of one, with about how many bytes it had in the stream."""

    transaction: Transaction
    size: int


class Loose(NamedTuple):
    """A logical message outside transactions: it is in the stream even when its transaction was rolled back."""

    lsn: int
    prefix: str
    content: str


class Aside(NamedTuple):
    """A row put into a table that is not captured as changes (the outbox), from a transaction that committed."""

    lsn: int
    committed_at: int
    row: dict[str, Value]


class Drifted(NamedTuple):
    """A table no longer has the shape that it had. Nothing of its transaction came out, or only earlier parts."""

    lsn: int
    drift: Drift


Outcome = Part | Loose | Aside | Drifted


@dataclass(slots=True)
class _Table:
    relation: Relation
    keys: tuple[int, ...]
    kind: int
    checked: bool = False


_CHANGES, _ASIDE, _IGNORED = 0, 1, 2


def bad_stream(what: str) -> FigError:
    """The one error for bytes that make no sense."""
    return FigError(
        "bad_stream",
        f"the change stream cannot be read: {what}",
        "Capture reads PostgreSQL 15 or later with protocol version 1; a proxy that alters the stream must go.",
    )


def types_in(message: bytes) -> set[tuple[int, int]]:
    """The (type oid, modifier) pairs of a relation message, for whoever looks their names up."""
    try:
        return {(oid, modifier) for _, oid, modifier, _ in _relation(message)[3]}
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise bad_stream(str(error)) from error


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1


def _relation(data: bytes) -> tuple[int, str, str, list[tuple[str, int, int, bool]]]:
    (oid,) = _UNSIGNED(data, 1)
    schema, at = _text(data, 5)
    name, at = _text(data, at)
    (count,) = _SHORT(data, at + 1)
    at += 3
    columns = []
    for _ in range(count):
        flags = data[at]
        column, at = _text(data, at + 1)
        type_oid, modifier = struct.unpack_from("!Ii", data, at)
        at += 8
        columns.append((column, type_oid, modifier, bool(flags & 1)))
    if at != len(data):
        raise ValueError("a relation message has another length than it says")
    return oid, schema or "pg_catalog", name, columns


def _tuple(data: bytes, at: int) -> tuple[list[Value], int]:
    (count,) = _SHORT(data, at)
    at += 2
    row: list[Value] = []
    append = row.append
    for _ in range(count):
        kind = data[at]
        if kind == 116:  # t
            (length,) = _INT(data, at + 1)
            start = at + 5
            at = start + length
            if length < 0 or at > len(data):
                raise ValueError("a value is longer than its message")
            append(data[start:at].decode())
        elif kind == 110:  # n
            at += 1
            append(None)
        elif kind == 117:  # u
            at += 1
            append(UNCHANGED)
        else:
            raise ValueError(f"a value of the unknown kind {kind}")
    return row, at


class Decoder:
    """The state of one stream.

    Args:
        types: names by (type oid, modifier); filled by the caller before a relation message with others is fed.
        tables: ``schema.name`` of the tables whose changes are wanted.
        aside: the one whose inserted rows come out as :class:`Aside`.
        drop_origin: transactions that carry this origin, or that of a partition of its flow, are ours, made by the
            opposite direction.
        keep_message: whether a transactional message (prefix, content) is kept.
        after: what is at or below this position is durable already, and is passed over.
        baseline: the shapes that tables had at ``after``.
        most_changes, most_bytes: where a large transaction is cut into parts.
    """

    def __init__(
        self,
        *,
        types: Mapping[tuple[int, int], str],
        tables: Collection[str],
        aside: str | None = None,
        drop_origin: str = "",
        keep_message: Callable[[str, str], bool] = lambda prefix, content: True,
        after: SourcePosition = SourcePosition(0, 0),  # noqa: B008  immutable
        baseline: Mapping[str, Relation] | None = None,
        most_changes: int = 5000,
        most_bytes: int = 1_000_000,
    ) -> None:
        self._types = types
        self._wanted = frozenset(tables)
        self._aside = aside
        self._drop_origin = drop_origin
        self._keep_message = keep_message
        self._after = after
        self.baseline: dict[str, Relation] = dict(baseline or {})
        self._most_changes = most_changes
        self._most_bytes = most_bytes
        self._tables: dict[int, _Table] = {}
        self._out: list[Outcome] = []
        self.open = False
        """Whether the stream is inside a transaction."""
        self.acknowledge = 0
        """Where the last transaction that ended has its end: what may be acknowledged once all of it is durable."""
        self.drifted = False
        """Whether an incompatible change of a table's shape was met: nothing more is decoded."""
        self._skip = False
        self._lsn = self._xid = self._committed_at = 0
        self._ordinal = 0
        self._first = 1
        self._items: list[Change | Message] = []
        self._rows_aside: list[dict[str, Value]] = []
        self._size = 0
        self._trace: str | None = None

    def feed(self, messages: Iterable[bytes]) -> list[Outcome]:
        """What these messages complete, in order.

        Raises:
            FigError: ``bad_stream``.
        """
        out = self._out = []
        try:
            for data in messages:
                if self.drifted:
                    break
                kind = data[0]
                if kind == 73 or kind == 85 or kind == 68:  # I U D
                    self._change(kind, data)
                elif kind == 66:  # B
                    self._begin(data)
                elif kind == 67:  # C
                    self._commit(data)
                else:
                    self._rare(kind, data)
        except (struct.error, IndexError, UnicodeDecodeError, ValueError, KeyError) as error:
            raise bad_stream(f"{type(error).__name__}: {error}") from error
        self._out = []
        return out

    def _begin(self, data: bytes) -> None:
        if self.open:
            raise ValueError("a transaction begins inside another")
        _, self._lsn, committed_at, self._xid = _BEGIN(data)
        self._committed_at = committed_at + EPOCH_2000
        self.open = True
        self._skip = (self._lsn, WHOLE) <= self._after
        self._ordinal = 0
        self._first = 1
        self._items = []
        self._rows_aside = []
        self._size = 0
        self._trace = None

    def _commit(self, data: bytes) -> None:
        if not self.open:
            raise ValueError("a transaction ends that did not begin")
        _, _, lsn, end, _ = _COMMIT(data)
        if lsn != self._lsn:
            raise ValueError("a transaction ends at another place than it said")
        self._out.extend(Aside(lsn, self._committed_at, row) for row in self._rows_aside)
        self._rows_aside = []
        if self._items:
            self._cut(end=True)
        self.open = False
        self.acknowledge = end

    def _cut(self, *, end: bool) -> None:
        part = Transaction(self._lsn, self._xid, self._committed_at, self._first, tuple(self._items), end, self._trace)
        self._out.append(Part(part, self._size))
        self._items = []
        self._first = self._ordinal + 1
        self._size = 0

    def _add(self, item: Change | Message, size: int) -> None:
        items = self._items
        # Cut only when there is more to come, so that the part that ends the transaction is never empty.
        if items and (len(items) >= self._most_changes or self._size >= self._most_bytes):
            self._cut(end=False)
        self._ordinal += 1
        if (self._lsn, self._ordinal) <= self._after:
            self._first = self._ordinal + 1
            return
        self._items.append(item)
        self._size += size

    def _change(self, kind: int, data: bytes) -> None:
        if not self.open:
            raise ValueError("a change outside transactions")
        if self._skip:
            return
        (oid,) = _UNSIGNED(data, 1)
        table = self._tables[oid]
        if table.kind == _IGNORED or (not table.checked and not self._check(table)):
            return
        before, after = self._rows(table, kind, data)
        if table.kind == _ASIDE:
            if kind == 73 and after is not None:
                names = (column.name for column in table.relation.columns)
                row = dict(zip(names, after, strict=True))
                self._rows_aside.append(row)
                if isinstance(trace := row.get(TRACE), str):
                    self._trace = trace
            return
        op = "c" if kind == 73 else "u" if kind == 85 else "d"
        self._add(
            Change(op, table.relation, before, None if after is None else tuple(after)),  # type: ignore[arg-type]
            len(data),
        )

    def _rows(self, table: _Table, kind: int, data: bytes) -> tuple[Row | None, list[Value] | None]:
        """The old and the new row of a change."""
        mark = data[5]
        before: Row | None = None
        at = 6
        if mark in (_K, _O):
            old, at = _tuple(data, at)
            before = tuple(old) if mark == _O else self._key_only(table, old)
            if kind == 85:
                mark = data[at]
                at += 1
        after: list[Value] | None = None
        if kind != 68:
            if mark != _NEW:
                raise ValueError("a new row was expected")
            after, at = _tuple(data, at)
            if before is not None and UNCHANGED in after:
                # What was not sent anew is known from the old row, under REPLICA IDENTITY FULL or as part of the key.
                after = [
                    before[n] if value is UNCHANGED and n < len(before) else value for n, value in enumerate(after)
                ]
        if at != len(data):
            raise ValueError("a change has another length than it says")
        width = len(table.relation.columns)
        if (after is not None and len(after) != width) or (before is not None and len(before) != width):
            raise ValueError("a row has another number of columns than its table")
        return before, after

    @staticmethod
    def _key_only(table: _Table, old: list[Value]) -> Row:
        """Of a key tuple the other columns are sent as nulls, which they need not be."""
        row: list[Value] = [UNCHANGED] * len(old)
        for n in table.keys:
            row[n] = old[n]
        return tuple(row)

    def _check(self, table: _Table) -> bool:
        """Whether the table still has its shape; a new column is taken up (the caller looked whether it may be)."""
        table.checked = True
        if table.kind == _ASIDE:
            return True
        relation = table.relation
        known = self.baseline.get(relation.qualified)
        drift = None if known is None else compare(known, relation)
        if drift is not None and not drift.compatible:
            self._out.append(Drifted(self._lsn, drift))
            self.drifted = True
            return False
        self.baseline[relation.qualified] = relation
        return True

    def _rare(self, kind: int, data: bytes) -> None:
        if kind == 82:  # R
            self._take_relation(data)
        elif kind == 79:  # O
            if not self.open:
                raise ValueError("an origin outside transactions")
            name, _ = _text(data, 9)
            if self._drop_origin and is_origin_of(name, self._drop_origin):
                self._skip = True
        elif kind == 84:  # T
            self._truncate(data)
        elif kind == 77:  # M
            self._message(data)
        elif kind != 89:  # Y: names of types, which come from the catalogue instead
            raise ValueError(f"a message of the unknown kind {kind}")

    def _take_relation(self, data: bytes) -> None:
        oid, schema, name, packed = _relation(data)
        columns = tuple(Column(column, self._types[(t, modifier)], key) for column, t, modifier, key in packed)
        relation = Relation(schema, name, columns)
        kind = _IGNORED
        if relation.qualified == self._aside:
            kind = _ASIDE
        elif relation.qualified in self._wanted:
            kind = _CHANGES
        self._tables[oid] = _Table(relation, tuple(n for n, column in enumerate(columns) if column.key), kind)

    def _truncate(self, data: bytes) -> None:
        if not self.open:
            raise ValueError("a truncation outside transactions")
        (count,) = _UNSIGNED(data, 1)
        if len(data) != 6 + 4 * count:
            raise ValueError("a truncation has another length than it says")
        for oid in struct.unpack_from(f"!{count}I", data, 6):
            table = self._tables[oid]
            if not self._skip and table.kind == _CHANGES and (table.checked or self._check(table)):
                self._add(Change("t", table.relation, None, None), len(data))

    def _message(self, data: bytes) -> None:
        _, flags, lsn = _MESSAGE(data)
        prefix, at = _text(data, 10)
        (length,) = _INT(data, at)
        if length < 0 or at + 4 + length != len(data):
            raise ValueError("a logical message has another length than it says")
        body = data[at + 4 :]
        if not flags & 1:
            self._out.append(Loose(lsn, prefix, body.decode(errors="replace")))
        elif not self.open:
            raise ValueError("a transactional message outside transactions")
        elif not self._skip:
            content = body.decode(errors="replace")
            if prefix == TRACE:
                self._trace = content
            elif self._keep_message(prefix, content):
                self._add(Message(prefix, content), len(data))
