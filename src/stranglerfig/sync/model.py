"""What sync decides without a database: changes folded per key, COPY text, what is admitted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import orjson

from stranglerfig.changes.mapping import Entry
from stranglerfig.changes.model import (
    ACTIVATED,
    MARKER,
    UNCHANGED,
    VERSION,
    Admission,
    Barrier,
    Change,
    Column,
    Item,
    Message,
    Relation,
    Row,
    SnapshotChunk,
    SnapshotEdge,
    SourcePosition,
    Transaction,
    Unchanged,
    Value,
    admit,
    lsn_text,
)
from stranglerfig.foundation.errors import FigError


class Placed(NamedTuple):
    """A change at its place; ``row`` numbers the rows of a snapshot's chunk, and is 0 for streamed changes."""

    change: Change
    at: SourcePosition
    row: int = 0


class Culprit(Exception):
    """A change that the target refuses, with the statement; ``conflict``: a statement that records what it met."""

    def __init__(
        self, placed: Placed, error: Exception, statement: str, conflict: tuple[str, Sequence[Any]] | None = None
    ) -> None:
        super().__init__(str(error))
        self.placed = placed
        self.error = error
        self.statement = statement
        self.conflict = conflict


class Versioned(NamedTuple):
    """The version of a row's change, as its transaction says it (see :mod:`stranglerfig.sync.conflicts`)."""

    pair: str
    key: tuple[str, ...]
    local: int
    peer: int
    at: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A marker or an activation to be recorded."""

    prefix: str
    nonce: str
    content: str
    lsn: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Changes of one transaction that are applied together."""

    lsn: int
    ordinals: Sequence[int]
    changes: Sequence[Change]

    def placed(self) -> list[Placed]:
        """Each with its place."""
        return [
            Placed(change, SourcePosition(self.lsn, ordinal))
            for change, ordinal in zip(self.changes, self.ordinals, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Truncate:
    """Input tables that were truncated together."""

    placed: tuple[Placed, ...]

    @property
    def tables(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(p.change.relation.qualified for p in self.placed)


Step = Rows | Truncate | SnapshotChunk | SnapshotEdge


@dataclass(slots=True)
class Work:
    """What a batch asks for, in order."""

    steps: list[Step] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    parked: list[Placed] = field(default_factory=list)
    activated: int = 0
    versions: dict[int, list[Versioned]] = field(default_factory=dict)
    """By transaction; only where both sides write."""


def plan(
    items: Iterable[Item],
    context: str,
    state: str,
    epoch: int,
    activated: int,
    skips: frozenset[tuple[int, int, int]],
    *,
    writers_stay: bool = False,
) -> Work:
    """Decide what becomes of each item, given the target's ownership row and what the stream has activated so far.

    ``writers_stay``: the source is written whoever owns, so its transactions count; its snapshots only as ever.

    Raises:
        FigError: ``snapshot_on_owner``.
    """
    work = Work(activated=activated)
    written = "standby" if writers_stay else state
    for item in items:
        if isinstance(item, Transaction):
            if not skips and _ordinary(item) and admit(written, epoch, work.activated) is Admission.APPLY:
                ordinals = range(item.first, item.first + len(item.items))
                work.steps.append(Rows(item.lsn, ordinals, cast(tuple[Change, ...], item.items)))
            else:
                _transaction(item, context, written, epoch, skips, work)
        elif isinstance(item, Barrier):
            continue  # nothing to apply: it is stood at
        elif admit(state, epoch, work.activated) is Admission.APPLY:
            work.steps.append(item)
        elif isinstance(item, SnapshotChunk) or item.begins:
            what = item.relation.qualified if isinstance(item, SnapshotChunk) else ", ".join(item.tables)
            raise FigError(
                "snapshot_on_owner",
                f"a snapshot of {what or 'the tables'} arrives where '{context}' is not a standby",
                "Take the ownership back before copying again.",
            )
    return work


def _ordinary(item: Transaction) -> bool:
    """Whether there are rows' changes only: nearly always so, and then no change needs a look of its own."""
    return all([type(part) is Change and part.op != "t" for part in item.items])


def _transaction(
    item: Transaction, context: str, state: str, epoch: int, skips: frozenset[tuple[int, int, int]], work: Work
) -> None:
    rows = Rows(item.lsn, [], [])
    for ordinal, part in enumerate(item.items, start=item.first):
        at = SourcePosition(item.lsn, ordinal)
        change = _message(part, at, context, work) if isinstance(part, Message) else part
        if change is None:
            continue
        admission = admit(state, epoch, work.activated)
        if admission is Admission.PARK:
            work.parked.append(Placed(change, at))
        elif admission is Admission.APPLY and (item.lsn, ordinal, 0) not in skips:
            if change.op == "t":
                last = work.steps[-1] if work.steps and not rows.changes else None
                rows = _flush(rows, work)
                if isinstance(last, Truncate):
                    work.steps[-1] = Truncate((*last.placed, Placed(change, at)))
                else:
                    work.steps.append(Truncate((Placed(change, at),)))
            else:
                cast(list[int], rows.ordinals).append(ordinal)
                cast(list[Change], rows.changes).append(change)
    _flush(rows, work)


def _flush(rows: Rows, work: Work) -> Rows:
    if not rows.changes:
        return rows
    work.steps.append(rows)
    return Rows(rows.lsn, [], [])


def _message(message: Message, at: SourcePosition, context: str, work: Work) -> Change | None:
    """Note a marker, an activation or a version; returns the change that a marker of a repair stands for."""
    if message.prefix not in (MARKER, ACTIVATED, VERSION):
        return None
    try:
        content = orjson.loads(message.content)
        if content["context"] != context:
            return None
        if message.prefix == VERSION:
            numbers = (int(content["local"]), int(content["peer"]), int(content["at"]))
            version = Versioned(str(content["pair"]), tuple(map(str, content["key"])), *numbers)
            work.versions.setdefault(at.lsn, []).append(version)
            return None
        nonce = str(content.get("nonce") or f"{message.prefix}:{at.lsn}-{at.ordinal}")
        if message.prefix == ACTIVATED:
            work.activated = max(work.activated, int(content["epoch"]))
        change = repaired(content["repair"]) if content.get("repair") else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # anybody may write messages; only ours are read
    work.marks.append(Mark(message.prefix, nonce, message.content, at.lsn))
    return change


def repaired(body: dict[str, Any]) -> Change:
    """The change that a marker of a repair stands for: a row as it stood, locked, when its transaction committed.

    ``body`` has ``schema``, ``table``, ``columns`` [[name, type, key]…], and ``row`` (values as text), or ``key`` (all
    columns, null where not of the key) for a row that is not there.
    """
    relation = Relation(body["schema"], body["table"], tuple(Column(*c) for c in body["columns"]))
    if body.get("row") is not None:
        return Change("u", relation, None, tuple(body["row"]))
    values = (v if c.key else UNCHANGED for c, v in zip(relation.columns, body["key"], strict=True))
    return Change("d", relation, tuple(values), None)


class NeedsOrder(Exception):
    """Changes that cannot be folded: a row moved to another key and the source did not send all of it."""


@dataclass(slots=True)
class Folded:
    """The last state per key that a batch leaves in one input table.

    Attributes:
        key: where the key columns stand in a row.
        rows: key → row, or None when the row is gone (the key is then all that is known of it).
    """

    relation: Relation
    key: tuple[int, ...]
    rows: dict[tuple[Value, ...], Row | None] = field(default_factory=dict)

    @property
    def gone(self) -> int:
        """How many rows are gone."""
        return sum(row is None for row in self.rows.values())

    def add(self, change: Change) -> None:
        """Fold one more change in.

        Raises:
            NeedsOrder: when only the target knows the rest of the row.
        """
        rows, after, before = self.rows, change.after, change.before
        if after is None:
            assert before is not None
            rows[tuple([before[i] for i in self.key])] = None
            return
        if UNCHANGED in after and before is not None:
            after = tuple(old if new is UNCHANGED else new for new, old in zip(after, before, strict=True))
        key = tuple([after[i] for i in self.key])
        if before is not None and change.op == "u":
            old_key = tuple([before[i] for i in self.key])
            if old_key != key and UNCHANGED not in old_key:
                prior = rows.get(old_key)
                if prior is not None:
                    after = tuple(old if new is UNCHANGED else new for new, old in zip(after, prior, strict=True))
                if UNCHANGED in after:
                    raise NeedsOrder
                rows[old_key] = None
                rows[key] = after
                return
        if UNCHANGED in after:
            prior = rows.get(key)
            if prior is not None:
                after = tuple(old if new is UNCHANGED else new for new, old in zip(after, prior, strict=True))
        rows[key] = after


def fold(changes: Iterable[Change], keys: dict[str, tuple[str, ...]]) -> list[Folded]:
    """Fold ``changes`` per table and key; ``keys`` names the key columns of each mapped input table.

    Changes of tables that are not mapped are left out.

    Raises:
        NeedsOrder: as :meth:`Folded.add`.
        FigError: ``incompatible_ddl`` when a key column is gone.
    """
    found: dict[Relation, Folded] = {}
    seen: dict[int, Folded | None] = {}
    for change in changes:
        relation = change.relation
        number = id(relation)  # decoding makes one object per relation and record; hashing it each time would cost
        if number not in seen:
            folded = found.get(relation)
            if folded is None and relation.qualified in keys:
                folded = found[relation] = Folded(relation, key_places(relation, keys[relation.qualified]))
            seen[number] = folded
        target = seen[number]
        if target is not None:
            target.add(change)
    if len({f.relation.qualified for f in found.values()}) != len(found):
        raise NeedsOrder  # the table changed its shape within the batch
    return list(found.values())


def key_places(relation: Relation, names: tuple[str, ...]) -> tuple[int, ...]:
    """Where the key columns stand in the relation's rows."""
    places = {c.name: n for n, c in enumerate(relation.columns)}
    if missing := [n for n in names if n not in places]:
        raise incompatible(relation, missing)
    return tuple(places[n] for n in names)


def incompatible(relation: Relation, missing: Sequence[str]) -> FigError:
    """The source's table no longer has what the mapping reads."""
    return FigError(
        "incompatible_ddl",
        f"{relation.qualified} no longer has the mapped column(s) {', '.join(missing)}",
        "Bring the column back, or change the mapping in extraction.yaml and start the context's sync anew.",
        table=relation.qualified,
        columns=list(missing),
    )


def check_shape(relation: Relation, entries: Iterable[Entry]) -> None:
    """Refuse a relation that lacks a column that an entry reads; columns outside the mapping are ignored.

    Raises:
        FigError: ``incompatible_ddl``.
    """
    names = {c.name for c in relation.columns}
    missing = sorted({n for e in entries for n in e.needs} - names)
    # A word of an expression may only look like a column, but then it never was one of this table's.
    if missing:
        raise incompatible(relation, missing)


_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def _escape(value: Value) -> str:
    if value is None or isinstance(value, Unchanged):
        return "\\N"
    return _SPECIAL.sub(lambda m: _ESCAPES[m[0]], value)


def copy_line(prefix: str, row: Row) -> str:
    """A line of COPY text; null and unchanged values are both null there, told apart by the mask in ``prefix``."""
    try:
        line = "\t".join(cast(tuple[str, ...], row))  # the common case: text only, as the join itself finds out
    except TypeError:
        return prefix + "\t".join([_escape(v) for v in row]) + "\n"
    if "\\" in line or "\n" in line or "\r" in line or line.count("\t") != len(row) - 1:
        return prefix + "\t".join([_escape(v) for v in row]) + "\n"
    return f"{prefix}{line}\n"


_UNESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_UNESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _unescape_one(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8))
    return _UNESCAPES.get(code, code)


def parse_line(line: str) -> Row:
    """A line of COPY text (without its end) as values."""
    return tuple(None if v == "\\N" else _UNESCAPE.sub(_unescape_one, v) if "\\" in v else v for v in line.split("\t"))


def chunk_rows(chunk: SnapshotChunk) -> list[Placed]:
    """A chunk's rows as changes, numbered from 1."""
    lines = chunk.copy.decode().split("\n")
    if lines and not lines[-1]:
        lines.pop()
    at = SourcePosition(chunk.lsn, chunk.ordinal)
    return [Placed(Change("r", chunk.relation, None, parse_line(line)), at, n) for n, line in enumerate(lines, start=1)]


def as_json(placed: Placed) -> dict[str, Any]:
    """A change as ``fig.parked`` shows it: column → text; unchanged values left out."""
    change = placed.change
    names = [c.name for c in change.relation.columns]

    def row(values: Row | None) -> dict[str, Any] | None:
        if values is None:
            return None
        return {n: v for n, v in zip(names, values, strict=True) if v is not UNCHANGED}

    return {
        "op": change.op,
        "table": change.relation.qualified,
        "before": row(change.before),
        "after": row(change.after),
    }


def position_of(item: Item) -> SourcePosition:
    """The place of an item's last change."""
    if isinstance(item, Transaction):
        return SourcePosition(item.lsn, item.first + max(len(item.items), 1) - 1)
    return SourcePosition(item.lsn, item.ordinal)


def remaining(item: Item, generation: int, done: SourcePosition) -> Item | None:
    """What of ``item`` lies above what is applied; None when nothing does.

    A snapshot that begins counts by its generation: it starts everything over.
    """
    if isinstance(item, SnapshotEdge) and item.begins:
        return item if item.generation > generation else None
    if isinstance(item, Barrier) and not item.closes and item.generation > generation:
        return item
    last = position_of(item)
    if isinstance(item, Transaction):
        if item.lsn < done.lsn:
            return None
        if item.lsn > done.lsn:
            return item
        if last <= done:
            return None
        if item.first > done.ordinal:
            return item
        rest = item.items[done.ordinal - item.first + 1 :]
        return Transaction(item.lsn, item.xid, item.committed_at, done.ordinal + 1, rest, item.end)
    return item if last > done else None


def whole(parts: Sequence[Transaction]) -> Transaction:
    """A transaction that came in parts, as one.

    Raises:
        FigError: ``log_gap``.
    """
    if parts[0].first != 1:
        raise log_gap(parts[0])
    items = tuple(item for part in parts for item in part.items)
    return parts[-1]._replace(first=1, items=items, trace=parts[0].trace)


def follows(part: Transaction, before: Transaction) -> bool:
    """Whether ``part`` goes on where ``before``, a part of the same transaction, ended."""
    return (part.lsn, part.first) == (before.lsn, before.first + len(before.items))


def log_gap(part: Transaction) -> FigError:
    """What should have come before ``part`` is not in the log."""
    return FigError(
        "log_gap",
        f"a part of a transaction is not in the log, before {lsn_text(part.lsn)}",
        "Take the snapshot again (fig abort, then fig advance).",
    )
