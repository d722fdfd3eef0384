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
from typing import Any, Final

import orjson

from stranglerfig.capture.assembling import Assembling, OpenTransaction, Raw, broken
from stranglerfig.capture.decode import WHOLE, Aside, Loose
from stranglerfig.capture.texts import Reader, Shape, reader
from stranglerfig.changes.model import TRACE, UNCHANGED, Change, Column, Relation, Row, SourcePosition, Value

NEW_KEY: Final = "__debezium.newkey"
_STATUS = b'{"status":'
# Without reading the rest, which is long: where a transaction begins (LSN of its first change) or ends (after its end).
_EDGE = re.compile(rb'\{"status":"(BEGIN|END)","id":"(\d+):(\d+)","event_count":(\d+|null)')
_MESSAGE = b'{"op":"m"'
_ABOUT = 450
"""Bytes by which each record says where it is from, which are in no frame."""


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
class _Open(OpenTransaction):
    """The transaction whose records are being read; ``lsn`` may be known before its end is met.

    Attributes:
        offset: of its first record.
        held, held_size: its records so far, and their bytes: counted on when they are too many to be held.
        aside: the rows that come out as :class:`Aside`.
    """

    offset: int = 0
    held: list[Raw] = field(default_factory=list)
    held_size: int = 0
    last: Raw | None = None
    aside: list[dict[str, Value]] = field(default_factory=list)


class Assembler(Assembling):
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
        super().__init__(
            keep_message=keep_message,
            after=after,
            baseline=baseline,
            about=_ABOUT,
            most_changes=most_changes,
            most_bytes=most_bytes,
        )
        self._wanted = frozenset(tables)
        self._aside = aside
        self._until = until
        self._most_held = most_held
        self._shapes: dict[str, tuple[Shape, ...]] = {}
        self._whole: frozenset[str] = frozenset()
        self._tables: dict[tuple[str, tuple[str, ...]], _Table] = {}
        self._open: _Open | None = None
        self._known: dict[int, int] = {}
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
        current.held_size += len(value)
        if current.held_size <= self._most_held:
            current.held.append(raw)
        else:
            current.held.clear()

    def _begin(self, offset: int, xid: int) -> None:
        if self._open is not None and self._until is None:
            raise broken("one begins inside another")
        self._open = _Open(xid, self._known.pop(offset, 0), offset=offset)

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
        elif current.held_size > self._most_held and not current.lsn:
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
            message = record["message"]
            self._message(current, message["prefix"], _content(message), len(raw.value))
        else:
            self._change(current, record, source, raw)

    def _change(self, current: _Open, record: dict[str, Any], source: dict[str, Any], raw: Raw) -> None:
        op, before, after = record["op"], record["before"], record["after"]
        name = f"{source['schema']}.{source['table']}"
        fields = tuple(after if after is not None else before) if op != "t" else ()
        table = self._tables.get((name, fields)) or self._table(current, name, fields)
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

    def _table(self, current: _Open, name: str, fields: tuple[str, ...]) -> _Table:
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
        if kind != _CHANGES or self._is_taken(name, relation, current.lsn):
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
