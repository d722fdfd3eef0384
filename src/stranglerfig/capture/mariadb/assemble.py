"""A raw topic's records of a MariaDB, made into whole transactions of frames.

Pure: records in, outcomes out. What the binary log has is committed, and every change names its place, so nothing is
held: a large transaction goes out in parts as it comes. Numbers and counts must join; what does not makes the
connector begin again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from stranglerfig.capture.assembling import Assembling, OpenTransaction, Raw, broken
from stranglerfig.capture.decode import WHOLE
from stranglerfig.capture.mariadb.values import Reader, reader
from stranglerfig.changes.model import Change, Column, Direction, Relation, Row, SourcePosition
from stranglerfig.databases.mariadb.binlog import domain_of, domains, number, sequence
from stranglerfig.databases.mariadb.messages import APPLIED, MESSAGES
from stranglerfig.databases.mariadb.types import Native

_STATUS: Final = b'{"status":'
_EDGE: Final = re.compile(rb'\{"status":"(BEGIN|END)","id":"([^"]+)","event_count":(\d+|null)')
_ABOUT: Final = 600
"""Bytes by which each record says where it is from, which are in no frame."""

Shapes = Mapping[str, tuple[tuple[Native, Column], ...]]


@dataclass(slots=True)
class _Table:
    relation: Relation
    names: tuple[str, ...]
    readers: tuple[Reader, ...]


@dataclass(slots=True)
class _Open(OpenTransaction):
    """The transaction whose records are being read; its xid is the last number of its GTID."""

    gtid: str = ""
    skip: bool = False
    truncated: bool = False


class Assembler(Assembling):
    """The state of one reading of a raw topic, from where a connector begins.

    Args:
        tables: ``database.table`` of the tables whose changes are wanted.
        context, direction: whose flow it is: what the opposite one's sync wrote here is left out.
        keep_message: whether a message (prefix, content) is kept.
        after: what is at or below this position is durable already, and is passed over.
        gtid: the place that the connector begins at.
        baseline: the shapes that tables had there.
        most_changes, most_bytes: where a large transaction is cut into parts.
    """

    def __init__(
        self,
        *,
        tables: Collection[str],
        context: str,
        direction: Direction,
        keep_message: Callable[[str, str], bool] = lambda prefix, content: True,
        after: SourcePosition = SourcePosition(0, 0),  # noqa: B008  immutable
        gtid: str = "",
        baseline: Mapping[str, Relation] | None = None,
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
        self._foreign = (context, str(direction.opposite))
        self._shapes: Shapes = {}
        self._tables: dict[tuple[str, tuple[str, ...]], _Table] = {}
        self._open: _Open | None = None
        self._gtids = domains(gtid)
        self._newest = 0

    @property
    def gtid(self) -> str:
        """The place behind the last transaction that ended."""
        return ",".join(self._gtids[domain] for domain in sorted(self._gtids, key=int))

    def learn(self, shapes: Shapes) -> None:
        """What the catalogue says of the tables now."""
        if shapes != self._shapes:
            self._shapes = dict(shapes)
            self._tables = {}

    def _take(self, raw: Raw) -> None:
        if raw.value.startswith(_STATUS):
            edge = _EDGE.match(raw.value)
            if edge is None:
                raise ValueError("an edge of a transaction in another form")
            if edge[1] == b"BEGIN":
                self._begin(edge[2].decode())
            else:
                self._end(edge[2].decode(), int(edge[3]))
            return
        record = orjson.loads(raw.value)
        transaction, current = record["transaction"], self._open
        if current is None or transaction is None or transaction["id"] != current.gtid:
            raise broken("a change outside its transaction")
        if transaction["total_order"] != current.order + 1:
            raise broken(f"{current.gtid} goes on with change {transaction['total_order']} after {current.order}")
        current.order += 1
        self._one(current, record, raw)

    def _begin(self, gtid: str) -> None:
        # DDL begins, and never ends; so does TRUNCATE, whose one change has come out.
        if self._open is not None and self._open.order and not self._open.truncated:
            raise broken("one begins inside another")
        self._open = _Open(sequence(gtid), gtid=gtid)

    def _end(self, gtid: str, count: int) -> None:
        current = self._open
        if current is None or current.gtid != gtid:
            raise broken(f"{gtid} ends and did not begin")
        if current.order != count or current.moved is not None:
            raise broken(f"{gtid} has {current.order} of {count} changes")
        self._finish(current)

    def _finish(self, current: _Open) -> None:
        if current.items:
            self._cut(current, end=True)
        self._gtids[domain_of(current.gtid)] = current.gtid
        self.acknowledge = max(self.acknowledge, current.lsn)
        self._open = None

    def _one(self, current: _Open, record: dict[str, Any], raw: Raw) -> None:
        source = record["source"]
        name = f"{source['db']}.{source['table']}"
        if current.order == 1:
            self._place(current, source)
            current.skip = (current.lsn, WHOLE) <= self._after or self._is_ours(name, record["after"])
        if not current.skip:
            if name == MESSAGES:
                if record["op"] == "c":
                    row = record["after"]
                    self._message(current, row["prefix"], row["content"], len(raw.value))
            elif name in self._wanted:
                self._change(current, name, record, raw)
        if record["op"] == "t" and not self.drifted:
            current.truncated = True
            self._finish_truncate(current)

    def _place(self, current: _Open, source: dict[str, Any]) -> None:
        current.lsn = number(source["file"], source["pos"])
        current.committed_at = source["ts_us"]
        if current.lsn <= self._newest:
            raise broken(f"{current.gtid} comes after what it was before")
        self._newest = current.lsn

    def _is_ours(self, name: str, after: dict[str, Any] | None) -> bool:
        return name == APPLIED and after is not None and (after["context"], after["direction"]) == self._foreign

    def _finish_truncate(self, current: _Open) -> None:
        """A TRUNCATE is a transaction of its own, which no record ends."""
        self._finish(current)
        self._open = current

    def _change(self, current: _Open, name: str, record: dict[str, Any], raw: Raw) -> None:
        op, before, after = record["op"], record["before"], record["after"]
        fields = tuple(after if after is not None else before) if op != "t" else ()
        table = self._tables.get((name, fields)) or self._table(current, name, fields)
        if self.drifted:
            return
        if op == "t":
            self._add(current, Change("t", table.relation, None, None), len(raw.value))
            return
        new, old = _row(table, after), _row(table, before)
        if raw.moved:
            current.moved = old  # its other half follows: the row with its new key
            return
        if current.moved is not None:
            old, current.moved, op = current.moved, None, "u"
        self._add(current, Change(op, table.relation, old, new), len(raw.value))

    def _table(self, current: _Open, name: str, fields: tuple[str, ...]) -> _Table:
        """How rows of a table that have these columns are read; looks whether the shape is still taken."""
        here = {native.name: (native, column) for native, column in self._shapes.get(name, ())}
        shapes = [here[field] for field in (fields or here) if field in here]
        schema, _, short = name.partition(".")
        relation = Relation(schema, short, tuple(column for _, column in shapes))
        made = _Table(
            relation,
            tuple(native.name for native, _ in shapes),
            tuple(reader(native) for native, _ in shapes),
        )
        if self._is_taken(name, relation, current.lsn):
            self._tables[name, fields] = made
        return made


def _row(table: _Table, found: dict[str, Any] | None) -> Row | None:
    if found is None:
        return None
    return tuple(
        [
            None if (value := found[name]) is None else read(value)
            for name, read in zip(table.names, table.readers, strict=True)
        ]
    )
