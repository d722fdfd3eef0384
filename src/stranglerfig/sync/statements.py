"""The SQL with which staged rows become rows of the target: text from compiled mappings, no I/O.

A stage is a temporary table with the input table's columns and two of ours: ``fig_op`` (``u`` the row is so, ``d`` it
is gone, ``m`` it moved to another key) and ``fig_mask`` (which columns are *unchanged*, 0 for none).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stranglerfig.changes.mapping import Assignment, Entry, quote, quote_table
from stranglerfig.changes.model import Relation
from stranglerfig.foundation.errors import FigError

# Names and expressions come from the user's own configuration and from catalogues, quoted; never from data.
# ruff: noqa: S608


def create_stage(name: str, relation: Relation, types: Sequence[str]) -> str:
    """The stage of a relation; made once per session, so that the catalogues do not grow."""
    columns = "".join(f", {quote(c.name)} {t}" for c, t in zip(relation.columns, types, strict=True))
    return (
        f"CREATE TEMP TABLE {name} (fig_op \"char\" NOT NULL DEFAULT 'u', fig_mask int NOT NULL DEFAULT 0{columns})"
        " ON COMMIT DELETE ROWS"
    )


def copy_stage(name: str) -> str:
    """COPY of our own lines: operation, mask, all columns."""
    return f"COPY {name} FROM STDIN"


def copy_chunk(name: str, relation: Relation) -> str:
    """COPY of a snapshot's chunk as PostgreSQL wrote it."""
    return f"COPY {name} ({', '.join(quote(c.name) for c in relation.columns)}) FROM STDIN"


def copy_direct(entry: Entry, relation: Relation) -> str | None:
    """COPY of a chunk straight into the target, or None when the mapping does more than name columns."""
    if entry.where is not None or not entry.anchor:
        return None
    outputs: dict[str, Assignment] = {}
    for assignment in (*entry.key, *entry.columns):
        if not assignment.plain or len(assignment.needs) != 1:
            return None
        (column,) = assignment.needs
        if column in outputs:
            return None
        outputs[column] = assignment
    if outputs.keys() != {c.name for c in relation.columns}:
        return None
    if any(outputs[c.name].type != c.type for c in relation.columns):
        return None
    columns = ", ".join(quote(outputs[c.name].column) for c in relation.columns)
    return f"COPY {quote_table(entry.target)} ({columns}) FROM STDIN"


def _select(assignments: Sequence[Assignment], prefix: str) -> str:
    return ", ".join(f"{a.value} AS {prefix}{n}" for n, a in enumerate(assignments))


def _on(entry: Entry, alias: str = "s", prefix: str = "k") -> str:
    return " AND ".join(f"t.{quote(a.column)} = {alias}.{prefix}{n}" for n, a in enumerate(entry.key))


def _matches(entry: Entry, mask: int) -> str:
    where = f" AND ({entry.where})" if entry.where else ""
    return f"fig_op = 'u' AND fig_mask = {mask}{where}"


def _columns(assignments: Sequence[Assignment]) -> str:
    return ", ".join(quote(a.column) for a in assignments)


def delete(entry: Entry, stage: str, *, unmatched: bool) -> str:
    """Remove the output rows of what is gone; ``unmatched``: and of what no longer matches ``where``.

    An entry that is not the anchor does not own the row: its columns become null.
    """
    rows = "fig_op = 'd'"
    if unmatched:
        rows = f"({rows} OR (fig_op = 'u' AND ({entry.where}) IS NOT TRUE))"
    gone = f"(SELECT {_select(entry.key, 'k')} FROM {stage} WHERE {rows}) AS s"
    if entry.anchor:
        return f"DELETE FROM {quote_table(entry.target)} AS t USING {gone} WHERE {_on(entry)}"
    nulls = ", ".join(f"{quote(a.column)} = NULL" for a in entry.columns)
    return f"UPDATE {quote_table(entry.target)} AS t SET {nulls} FROM {gone} WHERE {_on(entry)}"


def insert(entry: Entry, stage: str, *, upsert: bool) -> str:
    """Put whole rows in place: over what is there when ``upsert``, else into a target without them."""
    every = (*entry.key, *entry.columns)
    conflict = ""
    if upsert:
        sets = ", ".join(f"{quote(a.column)} = excluded.{quote(a.column)}" for a in entry.columns)
        conflict = f" ON CONFLICT ({_columns(entry.key)}) DO " + (f"UPDATE SET {sets}" if sets else "NOTHING")
    return (
        f"INSERT INTO {quote_table(entry.target)} ({_columns(every)}) OVERRIDING SYSTEM VALUE"
        f" SELECT {', '.join(a.value for a in every)} FROM {stage} WHERE {_matches(entry, 0)}{conflict}"
    )


def carried(entry: Entry, unchanged: frozenset[str]) -> tuple[Assignment, ...]:
    """The columns that a row with ``unchanged`` values can give.

    Raises:
        FigError: ``unchanged_value_needed`` when an expression mixes values that were sent with one that was not.
    """
    kept = []
    mixed = set(entry.where_needs & unchanged)
    for assignment in entry.columns:
        absent = assignment.needs & unchanged
        if not absent:
            kept.append(assignment)
        elif absent != assignment.needs:
            mixed |= absent
    if mixed:
        raise unchanged_needed(entry, mixed)
    return tuple(kept)


def unchanged_needed(entry: Entry, columns: set[str] | frozenset[str]) -> FigError:
    """A value is needed that the source did not send."""
    return FigError(
        "unchanged_value_needed",
        f"{entry.source}: the value of {', '.join(sorted(columns)) or 'a large column'} did not change, so the database"
        f" did not send it, but {entry.target} needs it",
        f"Run ALTER TABLE {entry.source} REPLICA IDENTITY FULL at the source, and take the snapshot again.",
        table=entry.source,
        columns=sorted(columns),
    )


def update(entry: Entry, stage: str, mask: int, unchanged: frozenset[str]) -> str | None:
    """Change the columns that the rows with ``mask`` carry; None when none is of interest."""
    columns = carried(entry, unchanged)
    if not columns:
        return None
    sets = ", ".join(f"{quote(a.column)} = s.v{n}" for n, a in enumerate(columns))
    return (
        f"UPDATE {quote_table(entry.target)} AS t SET {sets}"
        f" FROM (SELECT {_select(entry.key, 'k')}, {_select(columns, 'v')} FROM {stage}"
        f" WHERE {_matches(entry, mask)}) AS s WHERE {_on(entry)}"
    )


def move(entry: Entry, stage: str, unchanged: frozenset[str]) -> str:
    """Change a row's key in place, with the columns it carries; the old key is given as parameters, as text."""
    columns = (*entry.key, *carried(entry, unchanged))
    sets = ", ".join(f"{quote(a.column)} = s.v{n}" for n, a in enumerate(columns))
    old = " AND ".join(f"t.{quote(a.column)} = %s::text::{a.type}" for a in entry.key)
    where = f" AND ({entry.where})" if entry.where else ""
    expressions = _select(columns, "v").replace("%", "%%")
    return (
        f"UPDATE {quote_table(entry.target)} AS t SET {sets}"
        f" FROM (SELECT {expressions} FROM {stage} WHERE fig_op = 'm'{where.replace('%', '%%')}) AS s WHERE {old}"
    )


def count_matching(entry: Entry, stage: str, mask: int) -> str:
    """How many rows with ``mask`` have an output row by right."""
    return f"SELECT count(*) FROM {stage} WHERE {_matches(entry, mask)}"


def insert_joined(anchor: Entry, others: Sequence[tuple[Entry, str]], stage: str) -> str:
    """Make output rows of the anchor's rows and what the other entries give to the same keys in the same batch."""
    columns = [*anchor.key, *anchor.columns]
    values = [f"a.k{n}" for n in range(len(anchor.key))] + [f"a.v{n}" for n in range(len(anchor.columns))]
    joins = ""
    for number, (entry, other_stage) in enumerate(others):
        alias = f"b{number}"
        places = {a.column: n for n, a in enumerate(entry.key)}
        on = " AND ".join(f"{alias}.k{places[a.column]} = a.k{n}" for n, a in enumerate(anchor.key))
        inner = ", ".join(filter(None, (_select(entry.key, "k"), _select(entry.columns, "v"))))
        joins += f" JOIN (SELECT {inner} FROM {other_stage} WHERE {_matches(entry, 0)}) AS {alias} ON {on}"
        columns += entry.columns
        values += [f"{alias}.v{n}" for n in range(len(entry.columns))]
    inner = ", ".join(filter(None, (_select(anchor.key, "k"), _select(anchor.columns, "v"))))
    return (
        f"INSERT INTO {quote_table(anchor.target)} ({_columns(columns)}) OVERRIDING SYSTEM VALUE"
        f" SELECT {', '.join(values)} FROM (SELECT {inner} FROM {stage} WHERE {_matches(anchor, 0)}) AS a{joins}"
        # Not ON CONFLICT: a row that is there may lack here what its columns demand, and that is checked first.
        f" WHERE NOT EXISTS (SELECT FROM {quote_table(anchor.target)} AS t WHERE {_on(anchor, 'a')})"
    )


def orphans(entry: Entry, stage: str) -> str:
    """How many rows of an entry that is not the anchor have no output row to fill in."""
    return (
        f"SELECT count(*) FROM (SELECT {_select(entry.key, 'k')} FROM {stage} WHERE fig_op = 'u') AS s"
        f" WHERE NOT EXISTS (SELECT FROM {quote_table(entry.target)} AS t WHERE {_on(entry)})"
    )


# -- where both sides write: one row at a time, its values as parameters


class Given(NamedTuple):
    """An input row as parameters: the columns that are read, with the types that they are given by."""

    columns: tuple[str, ...]
    types: tuple[str, ...]

    def row(self, selected: str, alias: str) -> str:
        """A subquery of one row: ``selected`` evaluated over the input row."""
        values = ", ".join(f"%s::{t} AS {quote(c)}" for c, t in zip(self.columns, self.types, strict=True))
        return f"(SELECT {selected.replace('%', '%%')} FROM (SELECT {values}) AS input) AS {alias}"


def _is(entry: Entry) -> str:
    return " AND ".join(f"t.{quote(a.column)} = %s::{a.type}" for a in entry.key)


def lock_rows(entry: Entry) -> str:
    """The keys, as text, of those output rows that are there, kept from being changed until the transaction ends.

    Its parameters are one array of texts per key column. Those who refer to the rows need not wait.
    """
    keys = ", ".join(f"t.{quote(a.column)}::text" for a in entry.key)
    order = ", ".join(f"t.{quote(a.column)}" for a in entry.key)
    wanted = ", ".join(f"u.k{n}::{a.type}" for n, a in enumerate(entry.key))
    arrays = ", ".join("%s::text[]" for _ in entry.key)
    names = ", ".join(f"k{n}" for n in range(len(entry.key)))
    return (
        f"SELECT {keys} FROM {quote_table(entry.target)} AS t"
        f" WHERE ({order}) IN (SELECT {wanted} FROM unnest({arrays}) AS u ({names})) ORDER BY {order}"
        " FOR NO KEY UPDATE"
    )


def change_row(entry: Entry, given: Given, put: Sequence[Assignment], added: Sequence[Assignment]) -> str | None:
    """Change one row: ``put`` in place, to ``added`` the difference; parameters: the row after, then (with any
    ``added``) the row before, then the key. None when there is nothing to change."""
    if not put and not added:
        return None
    sets = [f"{quote(a.column)} = n.v{number}" for number, a in enumerate(put)]
    sets += [f"{quote(a.column)} = t.{quote(a.column)} + (n.d{number} - o.d{number})" for number, a in enumerate(added)]
    new = ", ".join(filter(None, (_select(put, "v"), _select(added, "d"))))
    rows = given.row(new, "n") + (f", {given.row(_select(added, 'd'), 'o')}" if added else "")
    return f"UPDATE {quote_table(entry.target)} AS t SET {', '.join(sets)} FROM {rows} WHERE {_is(entry)}"


def make_row(parts: Sequence[tuple[Entry, Given]]) -> str:
    """Make one row of what one or several input rows give; the first is the anchor's. Parameters: the rows in order."""
    anchor = parts[0][0]
    columns, values, rows = list(anchor.key), [f"s0.k{n}" for n in range(len(anchor.key))], []
    for number, (entry, given) in enumerate(parts):
        columns += entry.columns
        values += [f"s{number}.v{n}" for n in range(len(entry.columns))]
        selected = ", ".join(filter(None, (_select(entry.key, "k"), _select(entry.columns, "v"))))
        rows.append(given.row(selected, f"s{number}"))
    return (
        f"INSERT INTO {quote_table(anchor.target)} ({_columns(columns)}) OVERRIDING SYSTEM VALUE"
        f" SELECT {', '.join(values)} FROM {', '.join(rows)}"
    )


def remove_row(entry: Entry) -> str | None:
    """Remove one row, or what the entry gives to it; parameters: the key. None when it gives nothing."""
    if entry.anchor:
        return f"DELETE FROM {quote_table(entry.target)} AS t WHERE {_is(entry)}"
    if not entry.columns:
        return None
    nulls = ", ".join(f"{quote(a.column)} = NULL" for a in entry.columns)
    return f"UPDATE {quote_table(entry.target)} AS t SET {nulls} WHERE {_is(entry)}"


def record_conflict(entry: Entry) -> str:
    """Keep what met, with the row as it is here now; parameters: see ``fig.conflict``, then the key."""
    return (
        "INSERT INTO fig.conflict"
        " (context, direction, pair, table_name, key, lsn, ordinal, rule, outcome, theirs, ours)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
        f" (SELECT to_jsonb(t) FROM {quote_table(entry.target)} AS t WHERE {_is(entry)}))"
        " ON CONFLICT (context, direction, lsn, pair, key) DO UPDATE SET rule = excluded.rule,"
        " outcome = excluded.outcome, ours = excluded.ours, at = now()"
    )
