"""Rows of a batch through stages: temporary tables from which one statement per table brings them to where they go.

Whether the database takes them is for :mod:`~stranglerfig.sync.steps` to find out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from stranglerfig.changes.mapping import Entry
from stranglerfig.changes.model import UNCHANGED, Change, Relation
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.sql import load
from stranglerfig.sync import statements
from stranglerfig.sync.model import Folded, check_shape, copy_line, fold, key_places

_sql = load(__package__ or "")


@dataclass(slots=True)
class Stage:
    """A temporary table of this session, and what stands in it now."""

    name: str
    dirty: bool = False
    masks: dict[frozenset[int], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Staged:
    """A folded table in its stage: how many rows of which kind."""

    folded: Folded
    stage: Stage
    gone: int
    counts: dict[int, int]
    unchanged: dict[int, frozenset[str]]


class Staging:
    """Stages of one session; each is made once, and forgotten with what is rolled back.

    Attributes:
        by_source: the mapping's entries by input table; ``by_target``: by output table.
        keys: the key columns of each input table.
        put_off: statements that nobody waits for the outcome of: they go along with the commit.
        last_statement: what was asked of the server last.
    """

    def __init__(self, conn: postgres.Connection, entries: Sequence[Entry]) -> None:
        self._conn = conn
        self.by_source: dict[str, list[Entry]] = {}
        self.by_target: dict[str, list[Entry]] = {}
        for entry in entries:
            self.by_source.setdefault(entry.source, []).append(entry)
            self.by_target.setdefault(entry.target, []).append(entry)
        self.keys = {source: entries[0].source_key for source, entries in self.by_source.items()}
        self.put_off: list[str] = []
        self.last_statement = ""
        self._stages: dict[Relation, Stage] = {}
        self._numbers = itertools.count()
        self._types: dict[Relation, list[str]] = {}

    async def savepoint(self) -> None:
        """Where :meth:`undo` goes back to."""
        await self._conn.execute("SAVEPOINT fig")

    async def undo(self) -> None:
        """Go back to the last savepoint."""
        await self._conn.execute("ROLLBACK TO SAVEPOINT fig")
        await self.forget()

    async def forget(self) -> None:
        """A stage that was made in what is rolled back is gone with it."""
        there = {row[0] for row in await postgres.fetch(self._conn, _sql.own_stages)}
        self._stages = {relation: stage for relation, stage in self._stages.items() if stage.name in there}

    async def execute(self, statement: str, params: Sequence[Any] | None = None) -> psycopg.AsyncCursor[Any]:
        """One statement, kept as the last one."""
        self.last_statement = statement
        return await self._conn.execute(statement, params)

    async def types_of(self, relation: Relation) -> list[str]:
        """The types of a relation's columns, as far as they are read and this server knows them."""
        if (types := self._types.get(relation)) is None:
            wanted = {n for e in self.by_source[relation.qualified] for n in e.needs}
            names = [c.type if c.name in wanted else "text" for c in relation.columns]
            known = await postgres.value(self._conn, _sql.known_types, (names,))
            # A type that only the source has travels as text; the expression says what becomes of it.
            types = [name if there else "text" for name, there in zip(names, known, strict=True)]
            self._types[relation] = types
        return types

    async def clean_stage(self, relation: Relation) -> Stage:
        """A relation's stage, with nothing in it."""
        stage = self._stages.get(relation)
        if stage is None:
            stage = Stage(f"fig_stage_{next(self._numbers)}")
            types = await self.types_of(relation)
            await self.execute(statements.create_stage(stage.name, relation, types))
            self._stages[relation] = stage
        if stage.dirty:
            await self.execute(f"TRUNCATE {stage.name}")
        stage.dirty = True
        return stage

    async def copy(self, statement: str, parts: Sequence[str | bytes]) -> None:
        """COPY ``parts`` in."""
        self.last_statement = statement
        async with self._conn.cursor() as cursor, cursor.copy(statement) as copy:
            for part in parts:
                await copy.write(part)

    async def rows(self, changes: Sequence[Change], *, new_first: bool = False, put_off: bool = False) -> None:
        """Apply changes folded per key: deletions from the last table to the first, then the rest the other way.

        ``new_first`` turns the two around: needed where rows are pointed elsewhere before what they pointed to goes.
        """
        staged = {f.relation.qualified: await self._stage(f) for f in fold(changes, self.keys)}
        singly = all(len(entries) == 1 for entries in self.by_target.values())
        if put_off and singly and not any(here.unchanged for here in staged.values()):
            await self._delete(staged)
            self.put_off = [
                statements.insert(entry, here.stage.name, upsert=True)
                for (entry,) in self.by_target.values()
                if (here := staged.get(entry.source)) is not None and here.counts[0]
            ]
            return
        phases = [self._delete, self._put]
        for phase in reversed(phases) if new_first else phases:
            await phase(staged)

    async def _stage(self, folded: Folded) -> _Staged:
        relation = folded.relation
        check_shape(relation, self.by_source[relation.qualified])
        stage = await self.clean_stage(relation)
        counts: dict[int, int] = {0: 0}
        unchanged: dict[int, frozenset[str]] = {}
        lines: list[str] = []
        gone = 0
        nulls: list[Any] = [None] * len(relation.columns)
        for key, row in folded.rows.items():
            if row is None:
                gone += 1
                keyed = nulls.copy()
                for place, value in zip(folded.key, key, strict=True):
                    keyed[place] = value
                lines.append(copy_line("d\t0\t", tuple(keyed)))
            elif UNCHANGED in row:
                absent = frozenset(n for n, v in enumerate(row) if v is UNCHANGED)
                mask = stage.masks.setdefault(absent, len(stage.masks) + 1)
                counts[mask] = counts.get(mask, 0) + 1
                unchanged[mask] = frozenset(relation.columns[n].name for n in absent)
                lines.append(copy_line(f"u\t{mask}\t", row))
            else:
                counts[0] += 1
                lines.append(copy_line("u\t0\t", row))
        await self.copy(statements.copy_stage(stage.name), ["".join(lines)])
        return _Staged(folded, stage, gone, counts, unchanged)

    async def _delete(self, staged: dict[str, _Staged]) -> None:
        for entries in reversed(self.by_target.values()):
            for entry in entries:  # the anchor first: a row that is gone need not be filled with nulls
                here = staged.get(entry.source)
                if here is None or not (here.gone or entry.where):
                    continue
                if entry.anchor or entry.columns:
                    unmatched = entry.where is not None
                    await self.execute(statements.delete(entry, here.stage.name, unmatched=unmatched))

    async def _put(self, staged: dict[str, _Staged]) -> None:
        for entries in self.by_target.values():
            present = [(e, staged[e.source]) for e in entries if e.source in staged]
            if len(entries) > 1:
                await self._put_joined(present)
                continue
            for entry, here in present:
                if here.counts[0]:
                    await self.execute(statements.insert(entry, here.stage.name, upsert=True))
                await self._put_partial(entry, here)

    async def _put_partial(self, entry: Entry, here: _Staged) -> None:
        """Rows with unchanged values: they are in the target, or what they lack cannot be known."""
        for mask, unchanged in here.unchanged.items():
            statement = statements.update(entry, here.stage.name, mask, unchanged)
            if statement is None:
                continue
            cursor = await self.execute(statement)
            expected = here.counts[mask]
            if cursor.rowcount < expected and entry.where:
                expected = await postgres.value(self._conn, statements.count_matching(entry, here.stage.name, mask))
            if cursor.rowcount < expected:
                raise statements.unchanged_needed(entry, unchanged)

    async def _put_joined(self, present: Sequence[tuple[Entry, _Staged]]) -> None:
        """Several input tables make one row: change what is there, then make what is not from all they give."""
        new: tuple[Entry, _Staged] | None = None
        for entry, here in present:
            changed = 0
            if here.counts[0] and (statement := statements.update(entry, here.stage.name, 0, frozenset())):
                changed = (await self.execute(statement)).rowcount
            if entry.anchor and changed < here.counts[0]:
                new = (entry, here)
        if new is not None:
            await self.execute("SET LOCAL enable_hashjoin = on")
            await self.execute("SET LOCAL enable_seqscan = on")
            others = [(e, s.stage.name) for e, s in present if not e.anchor and s.counts[0]]
            for size in range(len(others), -1, -1):
                for chosen in itertools.combinations(others, size):
                    await self.execute(statements.insert_joined(new[0], chosen, new[1].stage.name))
            await self.execute("SET LOCAL enable_hashjoin = off")
            await self.execute("SET LOCAL enable_seqscan = off")
        for entry, here in present:
            await self._put_partial(entry, here)
            if not entry.anchor and (
                lost := await postgres.value(self._conn, statements.orphans(entry, here.stage.name))
            ):
                raise FigError(
                    "row_without_anchor",
                    f"{lost} row(s) of {entry.source} belong to no row of {entry.target}",
                    "Write the row of the first mapped table in the same transaction.",
                    table=entry.source,
                    rows=lost,
                )

    async def moved(self, change: Change) -> bool:
        """Change a key in place, as the source did, so that what refers to it can follow."""
        relation, before, after = change.relation, change.before, change.after
        names = self.keys.get(relation.qualified)
        if names is None or before is None or after is None:
            return False
        places = key_places(relation, names)
        old = [before[i] for i in places]
        if UNCHANGED in old or old == [after[i] for i in places]:
            return False
        after = tuple(b if a is UNCHANGED else a for a, b in zip(after, before, strict=True))
        unchanged = frozenset(c.name for c, v in zip(relation.columns, after, strict=True) if v is UNCHANGED)
        check_shape(relation, self.by_source[relation.qualified])
        stage = await self.clean_stage(relation)
        await self.copy(statements.copy_stage(stage.name), [copy_line("m\t0\t", after)])
        moved = True
        for entry in self.by_source[relation.qualified]:
            cursor = await self.execute(statements.move(entry, stage.name, unchanged), old)
            moved = moved and cursor.rowcount == 1
        if not moved and unchanged:
            raise statements.unchanged_needed(self.by_source[relation.qualified][0], unchanged)
        return moved

    def settle(self) -> None:
        """Note that the transaction has ended, and the stages are empty with it."""
        for stage in self._stages.values():
            stage.dirty = False
