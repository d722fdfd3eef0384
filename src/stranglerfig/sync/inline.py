"""A few rows as statements that bring their rows along, one array per column, so that a commit is one exchange with the
server and needs no stage: text and values, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, cast

from stranglerfig.changes.mapping import Entry, quote
from stranglerfig.changes.model import UNCHANGED, Change, Relation
from stranglerfig.sync import statements
from stranglerfig.sync.model import Folded, NeedsOrder, Rows, Step, check_shape, fold, key_places

# Names and expressions come from the user's own configuration and from catalogues, quoted; never from data.
# ruff: noqa: S608

MOST_ROWS = 500
"""For more, COPY into a stage is cheaper."""

BATCH = "fig_batch"
"""What a statement calls the rows that it brings along."""
# Whose arrays may be unnested as they are: an array would be flattened, a composite type be expanded.
_SCALAR = re.compile(
    r"(bigint|integer|smallint|boolean|text|numeric|real|double precision|uuid|date|time|timestamp|interval|jsonb?"
    r'|bytea|character|inet|cidr)\b[^\]]*$|"char"$'
)


class Inline(NamedTuple):
    """A statement and its parameters: array literals, one per column that it reads."""

    statement: str
    arrays: list[str]


def changes_of(steps: Sequence[Step]) -> list[Change] | None:
    """The changes of steps that are rows' changes and few; else None."""
    found: list[Change] = []
    for step in steps:
        if type(step) is not Rows:
            return None
        found += step.changes
        if len(found) > MOST_ROWS:
            return None
    return found


def folded(
    changes: Sequence[Change], keys: dict[str, tuple[str, ...]], by_source: Mapping[str, Collection[Entry]]
) -> list[Folded] | None:
    """Changes folded per key; None when they want more than rows put in place and rows removed.

    Args:
        keys: the key columns of each mapped input table, as :func:`~stranglerfig.sync.model.fold` wants them.

    Raises:
        FigError: ``incompatible_ddl``.
    """
    try:
        found = fold(changes, keys)
    except NeedsOrder:
        return None
    for here in found:
        entries = by_source[here.relation.qualified]
        check_shape(here.relation, entries)
        if any(entry.where for entry in entries):
            return None
        if any(row is not None and UNCHANGED in row for row in here.rows.values()):
            return None
    return found


def plan(
    batch: Sequence[Folded], by_target: dict[str, list[Entry]], types: Mapping[Relation, Sequence[str]]
) -> list[Inline] | None:
    """Deletions from the last table to the first, then the rest the other way; None when a row has to be made of what
    several tables give.

    A statement whose rows lack what they belong to fails with 22012 (division by zero).

    Args:
        types: of each relation's columns, as the target names them.
    """
    by_source = {here.relation.qualified: here for here in batch}
    found: list[Inline] = []
    for entries in reversed(by_target.values()):
        for entry in entries:  # the anchor first: a row that is gone need not be filled with nulls
            here = by_source.get(entry.source)
            if here is None or not (entry.anchor or entry.columns):
                continue
            gone = [key for key, row in here.rows.items() if row is None]
            if gone:
                columns = [(here.key.index(place), place) for place in _places(here, _needs_of_key(entry))]
                text = statements.delete(entry, BATCH, unmatched=False)
                found.append(_inline(text, "d", here.relation, types, columns, gone))
    for entries in by_target.values():
        for entry in entries:
            here = by_source.get(entry.source)
            rows = [row for row in here.rows.values() if row is not None] if here is not None else []
            if here is None or not rows:
                continue
            columns = [(place, place) for place in _places(here, sorted(entry.needs))]
            texts: list[str | None] = [statements.insert(entry, BATCH, upsert=True)]
            if len(entries) > 1:
                if entry.anchor:
                    return None
                lost = f"SELECT 1 / (({statements.orphans(entry, BATCH)}) = 0)::int"
                texts = [statements.update(entry, BATCH, 0, frozenset()), lost]
            found += [_inline(text, "u", here.relation, types, columns, rows) for text in texts if text is not None]
    return found


def _needs_of_key(entry: Entry) -> list[str]:
    return sorted(frozenset().union(*(a.needs for a in entry.key)))


def _places(here: Folded, names: Sequence[str]) -> tuple[int, ...]:
    return key_places(here.relation, tuple(names))


def _inline(
    text: str,
    op: str,
    relation: Relation,
    types: Mapping[Relation, Sequence[str]],
    columns: Sequence[tuple[int, int]],
    rows: Sequence[Sequence[object]],
) -> Inline:
    """``columns``: where each stands in ``rows``, and where in the relation."""
    named = tuple((relation.columns[place].name, types[relation][place]) for _, place in columns)
    arrays = [array_literal([cast("str | None", row[at]) for row in rows]) for at, _ in columns]
    return Inline(with_batch(text, op, named), arrays)


def with_batch(text: str, op: str, columns: Sequence[tuple[str, str]]) -> str:
    """A statement over :data:`BATCH`: rows whose columns (name, type) are its parameters, an array each."""
    direct = [_SCALAR.match(kind) is not None for _, kind in columns]
    arrays = ", ".join(f"%s::{kind}[]" if direct[n] else "%s::text[]" for n, (_, kind) in enumerate(columns))
    selected = "".join(
        f", c{n} AS {quote(name)}" if direct[n] else f", c{n}::{kind} AS {quote(name)}"
        for n, (name, kind) in enumerate(columns)
    )
    names = ", ".join(f"c{n}" for n in range(len(columns)))
    rows = f"SELECT '{op}'::\"char\" AS fig_op, 0 AS fig_mask{selected} FROM unnest({arrays}) AS u ({names})"
    return f"WITH {BATCH} AS ({rows}) {text.replace('%', '%%')}"


def array_literal(values: Sequence[str | None]) -> str:
    """Values as PostgreSQL's text form of an array of them (manual, "Array Input and Output Syntax")."""
    try:
        joined = '","'.join(cast("Sequence[str]", values))
    except TypeError:
        return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"
    if "\\" in joined or joined.count('"') != 2 * (len(values) - 1):
        return "{" + ",".join([_quoted(cast("str", value)) for value in values]) + "}"
    return '{"' + joined + '"}'


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
