"""Changes applied where this side writes too: each row is looked at first, in the order of the source's transactions.

The shell around :mod:`~stranglerfig.sync.conflicts`: it locks the rows and what is known of their versions, has each
change judged, and writes rows, versions and conflicts in the transaction of the position.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from stranglerfig.changes.conflicts import Settlement
from stranglerfig.changes.mapping import Assignment, Entry
from stranglerfig.changes.model import UNCHANGED, Direction, Relation, Row, SourcePosition
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.sql import load
from stranglerfig.sync import statements
from stranglerfig.sync.conflicts import (
    BEFORE_ALL,
    Effect,
    Judgement,
    Key,
    Lane,
    Outcome,
    Stamp,
    Standing,
    changed,
    judge,
    net_rows,
    no_rule,
    patience,
    row_missing,
    unversioned,
)
from stranglerfig.sync.model import Culprit, Rows, Truncate, Versioned, key_places
from stranglerfig.sync.statements import Given
from stranglerfig.sync.writing import Do, Does, Here, Writing, about_order

_sql = load(__package__ or "")

BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
"""What passes when a writer on this side has ended: it is tried again."""

TOGETHER = 50
"""Transactions of the source per commit: writers of this side wait for the rows of all of them."""

TypesOf = Callable[[Relation], Awaitable[Sequence[str]]]


@dataclass(slots=True)
class _Known:
    """What was found here when the rows were locked."""

    there: set[tuple[str, Key]] = field(default_factory=set)
    lanes: dict[Lane, Standing] = field(default_factory=dict)

    def of(self, pair: str, key: Key) -> tuple[Standing, Standing]:
        """What is known of a row's values and of its counters."""
        return (
            self.lanes.setdefault((pair, key), Standing()),
            self.lanes.setdefault((f"{pair}+", key), Standing()),
        )


class _Judged(NamedTuple):
    """What makes one row, and what becomes of it."""

    wanted: Sequence[tuple[Here, Judgement]]
    records: Sequence[Do]

    @property
    def target(self) -> tuple[str, Key]:
        """Which row."""
        here = self.wanted[0][0]
        return here.entry.target, here.effect.key

    @property
    def last(self) -> SourcePosition:
        """Where the last change of it is."""
        return max(here.effect.placed.at for here, _ in self.wanted)


class _Step(NamedTuple):
    """A transaction's rows, judged; ``there``: the rows that are here before it."""

    rows: Rows
    stamps: Mapping[Lane, Stamp]
    judged: Sequence[_Judged]
    there: frozenset[tuple[str, Key]]


class Both:
    """Applies one direction's changes to a side that writes too; on a session that owns its transaction.

    Attributes:
        busy: how often in a row a writer had what was to be applied.
    """

    def __init__(
        self,
        conn: postgres.Connection,
        context: str,
        direction: Direction,
        entries: Sequence[Entry],
        rules: Mapping[str, Settlement],
        types_of: TypesOf,
    ) -> None:
        self._conn = conn
        self._context = context
        self._direction = direction
        self._rules = rules
        self._types_of = types_of
        self._deadlock: float | None = None
        self._since = 0.0
        self.busy = 0
        self._by_source: dict[str, list[Entry]] = {}
        for entry in entries:
            self._by_source.setdefault(entry.source, []).append(entry)
        self._writing = Writing(conn, list(dict.fromkeys(entry.target for entry in entries)))
        self._order = {table: n for n, table in enumerate(dict.fromkeys(e.target for e in entries))}

    def got_in(self) -> None:
        """What was to be applied is in."""
        self.busy = 0

    def was_kept_out(self, *, grow: bool) -> None:
        """A writer had a row of what was to be applied; ``grow``: wait longer for it next time."""
        if not self.busy:
            self._since = clock.monotonic()
        self.busy = max(1, self.busy + grow)

    async def apply(self, steps: Sequence[tuple[Rows, Sequence[Versioned]]], *, untouched: bool, careful: bool) -> None:
        """Apply the rows of some transactions, each with the versions that it says.

        All rows are locked before any is written: what is held while another is waited for is held as shortly as can
        be, so that a writer who waits for us in a circle is not the one whom the server ends.

        Args:
            untouched: whether no change of this side's own is counted: changes from before the triggers have no
                versions, and need none.
            careful: statement by statement, so that what is refused can be named.

        Raises:
            Culprit: a change that cannot be applied, when ``careful``.
            FigError, psycopg.Error: that there is one, when not.
        """
        stamped = [_stamps(versions) for _, versions in steps]
        found = [
            self._found(step, stamps, untouched=untouched, careful=careful)
            for (step, _), stamps in zip(steps, stamped, strict=True)
        ]
        lanes = dict.fromkeys(lane for stamps in stamped for lane in stamps)
        known = await self._look([here for effects in found for here in effects], lanes)
        todo: list[Do] = []
        for effects, stamps, (step, _) in zip(found, stamped, steps, strict=True):
            judged = [self._judge(group, known, careful=careful) for group in self._groups(effects)]
            there = frozenset(known.there) if careful else frozenset()
            try:
                planned = await self._by_row(judged, known.there)
            except Culprit as culprit:
                if not careful:
                    raise culprit.error from None
                raise
            if careful:
                await self._carefully(_Step(step, stamps, judged, there), planned, untouched=untouched)
            todo += planned
            for lane, stamp in stamps.items():
                # What was left out by a person, or came to nothing, has been taken in as well.
                known.lanes.setdefault(lane, Standing()).take(stamp, stands=False)
        if not careful:
            await self._writing.together(todo)
        await self._remember(known, lanes)

    def _found(self, step: Rows, stamps: Mapping[Lane, Stamp], *, untouched: bool, careful: bool) -> list[Here]:
        try:
            return list(self._effects(step, stamps, untouched=untouched))
        except FigError as error:
            if not careful:
                raise
            raise Culprit(step.placed()[0], error, "") from error

    def refuse(self, step: Truncate, *, careful: bool) -> None:
        """A TRUNCATE removes rows without saying which the other side had seen."""
        change = step.placed[0].change
        error = FigError(
            "truncate_where_both_write",
            f"{', '.join(step.tables)} was truncated, but rows of it may have been written on both sides",
            "Leave it out (fig sync skip), and DELETE the rows where they should go.",
            table=change.relation.qualified,
        )
        if not careful:
            raise error
        raise Culprit(step.placed[0], error, "TRUNCATE") from error

    # -- what came

    def _pair(self, entry: Entry) -> str:
        return entry.target if self._direction is Direction.FORWARD else entry.source

    def _effects(self, step: Rows, stamps: Mapping[Lane, Stamp], *, untouched: bool) -> Iterable[Here]:
        by_table: dict[str, list[Any]] = {}
        for placed in step.placed():
            by_table.setdefault(placed.change.relation.qualified, []).append(placed)
        for table, changes in by_table.items():
            for entry in self._by_source.get(table, []):
                for key, net in net_rows(changes, entry.source_key, sorted(entry.needs)).items():
                    relation = net.placed.change.relation
                    settlement = self._rules[self._pair(entry)]
                    value, count = stamps.get((settlement.pair, key)), stamps.get((f"{settlement.pair}+", key))
                    counted = settlement.delta[self._direction.opposite]
                    values = entry.needs - counted - set(entry.source_key)
                    lacks = [columns for columns, stamp in ((values, value), (counted, count)) if stamp is None]
                    unsaid = frozenset().union(*lacks)
                    if changed(net, key_places(relation, tuple(unsaid))) and (net.lives or value is None):
                        if not untouched:
                            raise unversioned(table)
                        value, count = value or BEFORE_ALL, count or (BEFORE_ALL if counted else None)
                    if value is not None or count is not None:
                        effect = Effect(settlement.pair, key, net.before, net.after, value, count, net.placed)
                        yield Here(entry, settlement, effect)

    def _groups(self, found: Iterable[Here]) -> list[list[Here]]:
        """Effects by the row that they make."""
        rows: dict[tuple[str, Key], list[Here]] = {}
        for here in found:
            rows.setdefault((here.entry.target, here.effect.key), []).append(here)
        return [sorted(group, key=lambda here: not here.entry.anchor) for group in rows.values()]

    # -- what is here

    async def _look(self, found: Sequence[Here], lanes: Collection[Lane]) -> _Known:
        """Lock the rows, then their versions: in the order in which a writer on this side comes by them.

        What is not there cannot be locked: so a version is put where none is, and once the versions are ours the rows
        are read again. Nobody can commit a change of them from then on that the versions do not say.
        """
        known = _Known()
        by_target: dict[str, tuple[Entry, set[Key]]] = {}
        for here in found:
            by_target.setdefault(here.entry.target, (here.entry, set()))[1].add(here.effect.key)
        rows = [
            (table, statements.lock_rows(entry), [list(column) for column in zip(*keys, strict=True)])
            for table, (entry, keys) in sorted(by_target.items())
        ]
        kept_out = clock.monotonic() - self._since if self.busy else 0.0
        wait = patience(self.busy, kept_out, await self._looks_for_deadlocks())
        values = (self._context, [pair for pair, _ in lanes], [json.dumps(key) for _, key in lanes])
        async with self._conn.pipeline():
            await self._conn.execute(_sql.give_way, (f"{wait:.0f}ms",))
            for _, statement, columns in rows:
                await self._conn.execute(statement, columns)
            await self._conn.execute(_sql.place_versions, values)
            versions = await self._conn.execute(_sql.versions, values)
            again = [(table, await self._conn.execute(statement, columns)) for table, statement, columns in rows]
            for pair, key, *numbers in await versions.fetchall():
                known.lanes[pair, tuple(key)] = Standing(*numbers)
            for table, cursor in again:
                known.there |= {(table, tuple(row)) for row in await cursor.fetchall()}
        return known

    async def _looks_for_deadlocks(self) -> float:
        """Milliseconds after which the server looks whether those who wait, wait in a circle."""
        if self._deadlock is None:
            self._deadlock = float(await postgres.value(self._conn, _sql.deadlock_timeout))
        return self._deadlock

    # -- what becomes of it

    def _judge(self, group: Sequence[Here], known: _Known, *, careful: bool) -> _Judged:
        """Judge what makes one row."""
        records: list[Do] = []
        wanted: list[tuple[Here, Judgement]] = []
        for here in group:
            table, key = here.entry.target, here.effect.key
            value, count = known.of(here.settlement.pair, key)
            there = (table, key) in known.there
            judged = judge(here.settlement, self._direction, here.effect, value, count, there=there)
            if judged.outcome is not None:
                record = self._record(here, judged.outcome)
                if judged.outcome is Outcome.STOPPED:
                    error = no_rule(here.effect, here.settlement, table)
                    if not careful:
                        raise error
                    raise Culprit(here.effect.placed, error, "", (record.statement, record.params)) from error
                records.append(record)
            if here.effect.value is not None:
                value.take(here.effect.value, stands=judged.put)
            if here.effect.counted is not None:
                count.take(here.effect.counted, stands=judged.put)
            wanted.append((here, judged))
        return _Judged(wanted, records)

    # -- in which order

    async def _by_row(
        self, judged: Iterable[_Judged], there: set[tuple[str, Key]], *, gone_first: bool = True
    ) -> list[Do]:
        """Row by row: rows that go from the last table to the first, and the rest the other way."""
        gone: list[_Judged] = []
        rest: list[_Judged] = []
        for one in judged:
            (gone if one.wanted[0][0].effect.after is None else rest).append(one)
        gone.sort(key=lambda one: -self._order[one.target[0]])
        rest.sort(key=lambda one: self._order[one.target[0]])
        todo: list[Do] = []
        for one in (*gone, *rest) if gone_first else (*rest, *gone):
            todo += [*one.records, *await self._row(one.wanted, there)]
        return todo

    async def _as_written(self, step: _Step, there: set[tuple[str, Key]], *, untouched: bool) -> list[Do]:
        """Change by change, as the source's statements made them.

        A row that several tables make, or that is not what came, is written once, at the last change of it.
        """
        one_by_one = {
            one.target: one.wanted[0][1] for one in step.judged if len(one.wanted) == 1 and one.wanted[0][1].put
        }
        at_once = deque(sorted((one for one in step.judged if one.target not in one_by_one), key=lambda one: one.last))
        todo = [record for one in step.judged for record in one.records]
        for placed in step.rows.placed():
            change = Rows(step.rows.lsn, (placed.at.ordinal,), (placed.change,))
            for here in self._effects(change, step.stamps, untouched=untouched):
                if (judged := one_by_one.get((here.entry.target, here.effect.key))) is not None:
                    todo += await self._row([(here, judged)], there)
            while at_once and at_once[0].last <= placed.at:
                todo += await self._row(at_once.popleft().wanted, there)
        return todo

    # -- statements

    async def _row(self, wanted: Sequence[tuple[Here, Judgement]], known: set[tuple[str, Key]]) -> list[Do]:
        """What brings one row to what was judged; ``known``: the rows that are here, kept up.

        Raises:
            Culprit: when that cannot be said.
        """
        table, key = wanted[0][0].entry.target, wanted[0][0].effect.key
        try:
            return await self._statements(table, key, wanted, known)
        except FigError as error:
            raise Culprit(wanted[0][0].effect.placed, error, "") from error

    async def _statements(
        self, table: str, key: Key, wanted: Sequence[tuple[Here, Judgement]], known: set[tuple[str, Key]]
    ) -> list[Do]:
        there = (table, key) in known
        putting = [here for here, judged in wanted if judged.put]
        gone = [here for here in putting if here.effect.after is None]
        if any(here.entry.anchor for here in gone):
            known.discard((table, key))
            return [Do(Does.REMOVES, statements.remove_row(gone[0].entry) or "", key, gone[0])] if there else []
        if there:
            todo = []
            for here, judged in wanted:
                todo += await self._changed(here, put=judged.put)
            return todo
        if any(here.effect.lives and not here.settlement.existence for here, _ in wanted):
            raise row_missing(table, key)
        made = [here for here in putting if here.effect.after is not None]
        if not made:
            return []  # what is not here was to go, or lost
        if not made[0].entry.anchor:
            raise row_missing(table, key)
        known.add((table, key))
        given = [(here.entry, await self._given(here)) for here in made]
        params = [
            value for here, (_, g) in zip(made, given, strict=True) for value in _values(here, g, here.effect.after)
        ]
        return [Do(Does.MAKES, statements.make_row(given), params, made[0])]

    async def _changed(self, here: Here, *, put: bool) -> list[Do]:
        """What changes a row that is there: values that stand, and the differences of its counters."""
        entry, effect = here.entry, here.effect
        if effect.after is None:
            statement = statements.remove_row(entry) if put else None
            return [Do(Does.CHANGES, statement, effect.key, here)] if statement else []
        counted = here.settlement.delta[self._direction]
        values = [a for a in entry.columns if a.column not in counted] if put and effect.value is not None else []
        counters: list[Assignment] = [a for a in entry.columns if a.column in counted]
        if effect.before is None:
            values, counters = (list(entry.columns) if put else []), []
        elif effect.counted is None:
            counters = []
        given = await self._given(here)
        statement = statements.change_row(entry, given, values, counters)
        if statement is None:
            return []
        before = _values(here, given, effect.before) if counters else []
        params = [*_values(here, given, effect.after), *before, *effect.key]
        return [Do(Does.CHANGES, statement, params, here)]

    async def _given(self, here: Here) -> Given:
        relation = here.effect.placed.change.relation
        types = await self._types_of(relation)
        columns = tuple(sorted(here.entry.needs))
        return Given(columns, tuple(types[place] for place in key_places(relation, columns)))

    def _record(self, here: Here, outcome: Outcome) -> Do:
        effect, relation = here.effect, here.effect.placed.change.relation
        theirs = {"before": _shown(relation, effect.before), "after": _shown(relation, effect.after)}
        values = (
            *(self._context, self._direction, effect.pair, here.entry.target, list(effect.key)),
            *(*effect.placed.at, here.settlement.rule, outcome, Jsonb(theirs)),
            *effect.key,
        )
        return Do(Does.RECORDS, statements.record_conflict(here.entry), values, here)

    # -- writing

    async def _carefully(self, step: _Step, planned: Sequence[Do], *, untouched: bool) -> None:
        """One transaction of the source, statement by statement; in another order when foreign keys, or other
        constraints between rows, do not allow the usual one.

        Raises:
            Culprit: what cannot be done in any order, as the last of them met it.
        """
        try:
            await self._writing.attempt(planned)
            return
        except Culprit as culprit:
            if not about_order(culprit):
                raise
        try:
            await self._writing.attempt(await self._by_row(step.judged, set(step.there), gone_first=False))
        except Culprit:
            await self._writing.attempt(await self._as_written(step, set(step.there), untouched=untouched))

    async def _remember(self, known: _Known, lanes: Iterable[Lane]) -> None:
        taken = [(pair, json.dumps(key), known.lanes[pair, key]) for pair, key in lanes]
        values = (
            *([pair for pair, _, _ in taken], [key for _, key, _ in taken]),
            *([s.peer for _, _, s in taken], [s.at for _, _, s in taken], [s.theirs for _, _, s in taken]),
        )
        await self._conn.execute(_sql.take_versions, (self._context, *values))


def _stamps(versions: Iterable[Versioned]) -> dict[Lane, Stamp]:
    """The versions of one transaction; the last of each row is its last change's."""
    return {(v.pair, v.key): Stamp(v.local, v.peer, v.at) for v in versions}


def _values(here: Here, given: Given, row: Row | None) -> list[Any]:
    assert row is not None
    return [row[place] for place in key_places(here.effect.placed.change.relation, given.columns)]


def _shown(relation: Relation, row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {c.name: v for c, v in zip(relation.columns, row, strict=True) if v is not UNCHANGED}
