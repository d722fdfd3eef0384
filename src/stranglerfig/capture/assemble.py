"""A raw topic's records, made into what native capture's decoder makes of the same transactions.

Pure: records in, outcomes out. Debezium names a transaction's end only in its END record, and never its commit LSN. So
records are held until then; of a transaction too large to be held only the END is looked for, and its records are read
again once it is known (:attr:`Assembler.again`).
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from stranglerfig.capture.decode import WHOLE, Aside, Drifted, Loose, Outcome, Part
from stranglerfig.capture.model import compare
from stranglerfig.capture.texts import Reader, Shape, reader
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
)
from stranglerfig.foundation.errors import FigError

NEW_KEY: Final = "__debezium.newkey"
_STATUS = b'{"status":'
# Without reading the rest, which is long: where a transaction begins (LSN of its first change) or ends (after its end).
_EDGE = re.compile(rb'\{"status":"(BEGIN|END)","id":"(\d+):(\d+)","event_count":(\d+|null)')
_MESSAGE = b'{"op":"m"'
_ABOUT = 450
"""Bytes by which each record says where it is from, which are in no frame."""


class Raw(NamedTuple):
    """A record of the raw topic; ``moved`` says that it is the first of the two that a change of key becomes."""

    offset: int
    value: bytes
    moved: bool = False


def broken(what: str) -> FigError:
    """The raw topic does not hold whole transactions in order: the connector begins again at the slot."""
    return FigError(
        "raw_topic_broken",
        f"the connector's records do not make a whole transaction: {what}",
        "Capture makes the connector begin again where the slot stands. If it stays, take a new snapshot of this flow.",
    )


@dataclass(slots=True)
class _Table:
    relation: Relation
    names: tuple[str, ...]
    readers: tuple[Reader, ...]
    keys: tuple[bool, ...]
    whole: bool
    kind: int


_CHANGES, _ASIDE, _IGNORED = 0, 1, 2


@dataclass(slots=True)
class _Open:
    """The transaction whose records are being read."""

    xid: int
    offset: int
    lsn: int = 0
    """Its position, when it is known before its end is met."""
    held: list[Raw] = field(default_factory=list)
    last: Raw | None = None
    size: int = 0
    order: int = 0
    committed_at: int = 0
    ordinal: int = 0
    first: int = 1
    items: list[Change | Message] = field(default_factory=list)
    items_size: int = 0
    aside: list[dict[str, Value]] = field(default_factory=list)
    trace: str | None = None
    moved: Row | None = None


class Assembler:
    """The state of one reading of a raw topic.

    Args:
        tables: ``schema.name`` of the tables whose changes are wanted.
        aside: the one whose inserted rows come out as :class:`Aside`.
        keep_message: whether a transactional message (prefix, content) is kept.
        after: what is at or below this position is durable already, and is passed over.
        baseline: the shapes that tables had at ``after``.
        until: transactions that end beyond this LSN are passed over: they come once more. None: none are.
        most_held: bytes of records of one transaction that are held.
        most_changes, most_bytes: where a large transaction is cut into parts.
    """

    def __init__(
        self,
        *,
        tables: Collection[str],
        aside: str | None = None,
        keep_message: Callable[[str, str], bool] = lambda prefix, content: True,
        after: SourcePosition = SourcePosition(0, 0),  # noqa: B008  immutable
        baseline: Mapping[str, Relation] | None = None,
        until: int | None = None,
        most_held: int = 16_000_000,
        most_changes: int = 5000,
        most_bytes: int = 1_000_000,
    ) -> None:
        self._wanted = frozenset(tables)
        self._aside = aside
        self._keep_message = keep_message
        self._after = after
        self.baseline: dict[str, Relation] = dict(baseline or {})
        self._until = until
        self._most_held = most_held
        self._most_changes = most_changes
        self._most_bytes = most_bytes
        self._shapes: dict[str, tuple[Shape, ...]] = {}
        self._whole: frozenset[str] = frozenset()
        self._tables: dict[tuple[str, tuple[str, ...]], _Table] = {}
        self._open: _Open | None = None
        self._known: dict[int, int] = {}
        self._out: list[Outcome] = []
        self.drifted = False
        self.again: int | None = None
        """The offset to read on from, when a large transaction is to be read once more; the caller takes it back."""
        self.next_offset = 0
        self.acknowledge = 0
        """Where the last transaction that ended has its end at the source."""
        self._seen = 0

    @property
    def offset(self) -> int:
        """Where to read on after a death, once all that came out is durable."""
        return self._open.offset if self._open is not None else self.next_offset

    @property
    def newest(self) -> int:
        """The newest LSN in the records: the connector cannot have acknowledged a later one."""
        last = self._open.last if self._open is not None else None
        return self._seen if last is None else max(self._seen, orjson.loads(last.value)["source"]["lsn"])

    def doubt(self, *, until: int) -> None:
        """The records that follow may break off and begin again; what ends beyond ``until`` comes once more."""
        self._until = until

    def close(self) -> None:
        """From here on the records are those of a connector that began anew, with whole transactions."""
        self._open = None
        self._until = None

    def learn(self, shapes: Mapping[str, tuple[Shape, ...]], whole: Collection[str]) -> None:
        """What the catalogue says of the tables now; ``whole`` have REPLICA IDENTITY FULL."""
        if (dict(shapes), frozenset(whole)) != (self._shapes, self._whole):
            self._shapes, self._whole = dict(shapes), frozenset(whole)
            self._tables = {}

    def feed(self, records: Iterable[Raw]) -> list[Outcome]:
        """What these records complete, in order.

        Raises:
            FigError: ``raw_topic_broken``, ``bad_raw_record``.
        """
        out = self._out = []
        for raw in records:
            if self.drifted or self.again is not None:
                break
            try:
                self._take(raw)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise FigError(
                    "bad_raw_record",
                    f"a record of the raw topic cannot be read (offset {raw.offset}): {type(error).__name__}: {error}",
                    "Nothing but the connector that fig made may write there, and its settings are fig's; "
                    "take a new snapshot of this flow.",
                    offset=raw.offset,
                ) from error
            if not self.drifted and self.again is None:
                self.next_offset = raw.offset + 1
        self._out = []
        return out

    def _take(self, raw: Raw) -> None:
        value = raw.value
        if value.startswith(_STATUS):
            edge = _EDGE.match(value)
            if edge is None:
                raise ValueError("an edge of a transaction in another form")
            if edge[1] == b"BEGIN":
                self._begin(raw.offset, int(edge[2]))
            else:
                self._end(int(edge[2]), int(edge[3]), int(edge[4]))
            return
        if value.startswith(_MESSAGE) and (loose := orjson.loads(value))["transaction"] is None:
            self._out.append(_loose(loose))
            self._seen = max(self._seen, loose["source"]["lsn"])
            return
        current = self._open
        if current is None:
            if self._until is None:
                raise broken("a change outside transactions")
            return  # the rest of a transaction that was interrupted, which is known whole or comes again
        current.last = raw
        if current.lsn:
            self._one(current, raw)
            return
        current.size += len(value)
        if current.size <= self._most_held:
            current.held.append(raw)
        else:
            current.held.clear()

    def _begin(self, offset: int, xid: int) -> None:
        if self._open is not None and self._until is None:
            raise broken("one begins inside another")
        self._open = _Open(xid, offset, self._known.pop(offset, 0))

    def _end(self, xid: int, end: int, count: int) -> None:
        self._seen = max(self._seen, end)
        current = self._open
        if current is None or current.xid != xid:
            if self._until is None:
                raise broken(f"{xid} ends and did not begin")
            return
        # Within its commit record: beyond the commit LSN, which Debezium does not say, and before the next one's.
        lsn = end - 1
        if self._until is not None and end > self._until:
            self._open = None
            return
        if (lsn, WHOLE) <= self._after:
            self._open = None
        elif current.size > self._most_held and not current.lsn:
            self._known[current.offset] = lsn
            self.again = self.next_offset = current.offset
            self._open = None
            return
        else:
            current.lsn = lsn
            for raw in current.held:
                self._one(current, raw)
                if self.drifted:
                    return
            self._finish(current, count)
        self.acknowledge = max(self.acknowledge, end)

    def _finish(self, current: _Open, count: int) -> None:
        if current.order != count or current.moved is not None:
            raise broken(f"{current.xid} has {current.order} of {count} changes")
        self._out.extend(Aside(current.lsn, current.committed_at, row) for row in current.aside)
        if current.items:
            self._cut(current, end=True)
        self._open = None

    def _cut(self, current: _Open, *, end: bool) -> None:
        part = Transaction(
            current.lsn, current.xid, current.committed_at, current.first, tuple(current.items), end, current.trace
        )
        self._out.append(Part(part, current.items_size))
        current.items = []
        current.first = current.ordinal + 1
        current.items_size = 0

    def _add(self, current: _Open, item: Change | Message, size: int) -> None:
        if current.items and (len(current.items) >= self._most_changes or current.items_size >= self._most_bytes):
            self._cut(current, end=False)
        current.ordinal += 1
        if (current.lsn, current.ordinal) <= self._after:
            current.first = current.ordinal + 1
            return
        current.items.append(item)
        current.items_size += max(size - _ABOUT, 40)

    def _one(self, current: _Open, raw: Raw) -> None:
        """One change or message of a transaction whose position is known."""
        record = orjson.loads(raw.value)
        source, order = record["source"], record["transaction"]["total_order"]
        if self._until is not None and (order <= current.order or source["txId"] != current.xid):
            return  # met before: the connector was interrupted and began again a little before where it was
        if order != current.order + 1 or source["txId"] != current.xid:
            raise broken(f"{current.xid} goes on with change {order} of {source['txId']} after {current.order}")
        current.order = order
        current.committed_at = source["ts_us"]
        if record["op"] == "m":
            self._message(current, record["message"], len(raw.value))
        else:
            self._change(current, record, source, raw)

    def _message(self, current: _Open, message: dict[str, str], size: int) -> None:
        prefix, content = message["prefix"], _content(message)
        if prefix == TRACE:
            current.trace = content
        elif self._keep_message(prefix, content):
            self._add(current, Message(prefix, content), size)

    def _change(self, current: _Open, record: dict[str, Any], source: dict[str, Any], raw: Raw) -> None:
        op, before, after = record["op"], record["before"], record["after"]
        name = f"{source['schema']}.{source['table']}"
        fields = tuple(after if after is not None else before) if op != "t" else ()
        table = self._tables.get((name, fields)) or self._table(name, fields)
        if table.kind == _IGNORED or self.drifted:
            return
        if op == "t":
            if table.kind == _CHANGES:
                self._add(current, Change("t", table.relation, None, None), len(raw.value))
            return
        new = None if after is None else _row(table, after)
        if table.kind == _ASIDE:
            if op == "c" and new is not None:
                row = dict(zip(table.names, new, strict=True))
                current.aside.append(row)
                if isinstance(trace := row.get(TRACE), str):
                    current.trace = trace
            return
        old = None if before is None else _old(table, before)
        if raw.moved:
            current.moved = old  # its other half follows: the row with its new key
            return
        if current.moved is not None:
            old, current.moved, op = current.moved, None, "u"
        if new is not None and old is not None and UNCHANGED in new:
            new = tuple(o if n is UNCHANGED else n for n, o in zip(new, old, strict=True))
        self._add(current, Change(op, table.relation, old, new), len(raw.value))

    def _table(self, name: str, fields: tuple[str, ...]) -> _Table:
        """How rows of a table that have these columns are read; looks whether the shape is still taken."""
        kind = _ASIDE if name == self._aside else _CHANGES if name in self._wanted else _IGNORED
        schema, _, short = name.partition(".")
        here = {shape.column.name: shape for shape in self._shapes.get(name, ())}
        shapes = [here[column] for column in (fields or here) if column in here]
        relation = Relation(schema, short, tuple(shape.column for shape in shapes))
        made = _Table(
            relation,
            tuple(shape.column.name for shape in shapes),
            tuple(reader(shape) for shape in shapes),
            tuple(shape.column.key for shape in shapes),
            name in self._whole,
            kind,
        )
        if kind == _CHANGES:
            known = self.baseline.get(name)
            drift = None if known is None else compare(known, relation)
            if drift is not None and not drift.compatible:
                assert self._open is not None
                self._out.append(Drifted(self._open.lsn, drift))
                self.drifted = True
                return made
            self.baseline[name] = relation
        self._tables[name, fields] = made
        return made


def _content(message: dict[str, str]) -> str:
    return b64decode(message["content"]).decode(errors="replace")


def _loose(record: dict[str, Any]) -> Loose:
    return Loose(record["source"]["lsn"], record["message"]["prefix"], _content(record["message"]))


def _row(table: _Table, found: dict[str, Any]) -> Row:
    return tuple(
        [
            None if (value := found[name]) is None else read(value)
            for name, read in zip(table.names, table.readers, strict=True)
        ]
    )


def _old(table: _Table, found: dict[str, Any]) -> Row:
    """Of an old row that is not whole only the key is true: the other columns are nulls, or zeros."""
    if table.whole:
        return _row(table, found)
    return tuple(
        (None if (value := found[name]) is None else read(value)) if key else UNCHANGED
        for name, read, key in zip(table.names, table.readers, table.keys, strict=True)
    )


def shapes_of(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[str, Shape, bool]]:
    """The catalogue's rows (``shapes`` of ``queries.sql``): table, column, whether it has REPLICA IDENTITY FULL."""
    for schema, table, name, type_, key, base, kind, array, dimensions, modifier, storage, builtin, identity in rows:
        column = Column(name, type_, key)
        yield (
            f"{schema}.{table}",
            Shape(column, base, kind, array, dimensions, modifier, storage, builtin),
            identity == "f",
        )
