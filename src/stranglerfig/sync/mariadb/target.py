"""A session into a monolith on MariaDB: the service's changes become its rows, position and markers in one commit.

Each transaction begins with our row of ``fig.applied``, by which forward capture knows it and leaves it out
(``docs/decisions/0020-mariadb.md``). What a row becomes is evaluated by the service's PostgreSQL.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import orjson
import psycopg

from stranglerfig.changes.mapping import Entry
from stranglerfig.changes.model import UNCHANGED, Barrier, Change, Row, SnapshotEdge, Transaction
from stranglerfig.databases.mariadb import catalogue, messages
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Answer
from stranglerfig.foundation.sql import load
from stranglerfig.sync import applied, isolation
from stranglerfig.sync.applied import Applied, Unit
from stranglerfig.sync.barriers import Place
from stranglerfig.sync.mariadb import refusals, statements
from stranglerfig.sync.mariadb.evaluate import Evaluator, Texts
from stranglerfig.sync.mariadb.rows import Batch
from stranglerfig.sync.mariadb.statements import Said, Table
from stranglerfig.sync.model import (
    Culprit,
    Folded,
    NeedsOrder,
    Placed,
    Rows,
    Step,
    Truncate,
    Work,
    as_json,
    check_shape,
    fold,
    key_places,
    plan,
)
from stranglerfig.sync.refusals import Stopped, stopped_error
from stranglerfig.sync.statements import carried
from stranglerfig.sync.target import SyncJob

_sql = load(__package__ or "")

_LOCK_SECONDS: Final = 5
# 0 is a key like any other here; and nobody's rows are locked because they lie beside ours.
_SETTINGS: Final = (
    f"SET SESSION sql_mode = concat(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO'), innodb_lock_wait_timeout = {_LOCK_SECONDS},"
    # Who stands still loses its place to who waits for it: the server ends a session that says nothing.
    f" foreign_key_checks = 1, unique_checks = 1, wait_timeout = {postgres.STILL}"
)
_ISOLATION: Final = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"


async def prepare(conn: mysql.Connection) -> None:
    """Create what sync keeps in a MariaDB, where it is not there yet.

    Raises:
        FigError: ``missing_privilege``.
    """
    await messages.prepare(conn)
    there = {row[0] for row in await conn.fetch(_sql.there)}
    if "marker" not in there:
        await conn.execute(_sql.marker)
    if "parked" not in there:
        await conn.execute(_sql.parked)


def _lock(origin: str) -> str:
    """What a worker holds while it applies."""
    return f"fig.sync.{origin}"


async def busy(conn: mysql.Connection, origins: Sequence[str]) -> bool:
    """Whether a worker applies one of the flows."""
    return any([await conn.value(_sql.holder, (_lock(origin),)) is not None for origin in origins])


@asynccontextmanager
async def open_target(job: SyncJob) -> AsyncIterator[MariaDBTarget]:
    """A session that nobody else has for this direction, with ``fig.applied`` read.

    Raises:
        FigError: ``database_unreachable``, ``origin_busy`` (another worker has it), ``missing_privilege``,
            ``partitions_unsupported``, ``bidirectional_unsupported``, ``reverse_key_type``.
        Stopped: when a change waits for a decision.
    """
    refusals.check_job(job)
    what = f"sync {job.context} {job.direction}"
    async with (
        mysql.session(job.dsn, what=what, several=True) as conn,
        postgres.session(job.evaluator, what=what, options="-c jit=off") as evaluating,
    ):
        await prepare(conn)
        if await conn.value(_sql.claim, (_lock(job.origin),)) != "1":
            raise FigError(
                "origin_busy",
                f"another worker applies '{job.origin}' to {mysql.describe(job.dsn)}",
                "Nothing to do: this one waits and takes over when the other ends.",
                origin=job.origin,
            )
        await conn.execute(_SETTINGS)
        await conn.execute(_ISOLATION)
        target = MariaDBTarget(
            job, conn, Evaluator(job.evaluator, evaluating), await tables(conn, job.mapping.entries(job.direction))
        )
        await target.read()
        yield target


async def tables(conn: mysql.Connection, entries: Iterable[Entry]) -> dict[str, Table]:
    """The output tables.

    Raises:
        FigError: what :func:`refusals.check_columns` raises.
    """
    found: dict[str, Table] = {}
    for entry in entries:
        if entry.target not in found:
            natives = {native.name: native for native, _ in await catalogue.natives(conn, entry.target)}
            found[entry.target] = Table(entry.target, tuple(a.column for a in entry.key), natives)
        refusals.check_columns(entry, found[entry.target])
    return found


class MariaDBTarget:
    """Applies units of the log; one session, one direction."""

    def __init__(self, job: SyncJob, conn: mysql.Connection, evaluator: Evaluator, tables: dict[str, Table]) -> None:
        self.job = job
        self.applied = Applied()
        self._conn = conn
        self._evaluator = evaluator
        self._tables = tables
        self._entries = job.mapping.entries(job.direction)
        self._by_source: dict[str, list[Entry]] = {}
        for entry in self._entries:
            self._by_source.setdefault(entry.source, []).append(entry)
        self._keys = {source: entries[0].source_key for source, entries in self._by_source.items()}
        self._place = (job.context, str(job.direction))
        self._skips: frozenset[tuple[int, int, int]] = frozenset()
        self._ownership = False
        self._open: Work | None = None
        self._last_statement = ""

    # -- what is known of the target

    async def read(self) -> None:
        """Read the position, and what a person decided about changes above it.

        Raises:
            Stopped: when a change waits for a decision.
        """
        await self._conn.execute(_sql.begin_applied, self._place)
        row = await self._conn.one(_sql.read_applied, self._place)
        assert row is not None
        generation, lsn, ordinal, log_position, activated, committed = (int(v) if v is not None else None for v in row)
        self.applied = Applied(
            generation or 0, lsn or 0, ordinal or 0, log_position or 0, activated or 0, source_committed_at=committed
        )
        waiting = await self._conn.one(_sql.waiting_error, self._place)
        if waiting is not None:
            number, body, said = int(waiting[0] or 0), orjson.loads(waiting[1] or b""), str(waiting[2])
            raise Stopped(number, stopped_error(body, said, number))
        rows = await self._conn.fetch(_sql.skips, (*self._place, self.applied.lsn))
        self._skips = frozenset((int(row[0] or 0), int(row[1] or 0), 0) for row in rows)

    async def touch(self) -> None:
        """Say something, where nothing else is to be said."""
        await self._conn.execute("DO 0")

    async def look_away(self) -> None:
        """Never: one partition is all there is.

        Raises:
            FigError: ``partitions_unsupported``.
        """
        raise refusals.partitioned()

    async def places(self) -> dict[int, Place]:
        """How far each partition is in."""
        return {0: Place(self.applied.generation, self.applied.position)}

    async def stand_at(self, barrier: Barrier, log_position: int) -> None:
        """As :meth:`look_away`."""
        raise refusals.partitioned()

    # -- transactions

    async def commit(self, units: Sequence[Unit]) -> None:
        """Apply whole transactions in one commit.

        Raises:
            FigError: ``overtaken`` when another worker moved the position: read it again; ``rows_busy`` when somebody
                holds rows: try again.
            Stopped: when a change cannot be applied; what came before it is in.
        """
        with refusals.waited(self.job.context):
            try:
                await self._transaction(units, careful=False)
            except Exception as error:
                await self._roll_back()
                if not refusals.about_data(error):
                    raise
                await self._commit_carefully(units)

    async def _commit_carefully(self, units: Sequence[Unit]) -> None:
        try:
            await self._transaction(units, careful=True)
        except Culprit as culprit:
            await self._roll_back()
            if before := applied.before(units, culprit.placed.at):
                await self._commit_carefully(before)
            await self._stop(culprit)
        except BaseException:
            await self._roll_back()
            raise

    async def _transaction(self, units: Sequence[Unit], *, careful: bool) -> None:
        state, epoch = await self._begin()
        items = (unit.item for unit in units)
        work = plan(items, self.job.context, state, epoch, self.applied.activated, self._skips)
        await self._steps(work.steps, careful=careful)
        await self._finish(work, units)

    async def _begin(self) -> tuple[str, int]:
        """Begin a transaction, with our row first; then the ownership row, locked until the transaction ends.

        Raises:
            FigError: ``overtaken``.
        """
        was = self.applied
        if not self._ownership:
            self._ownership = ("ownership",) in await self._conn.fetch(_sql.there)
        known = (*self._place, was.generation, was.lsn, was.ordinal, was.log_position)
        said: list[Said] = [("START TRANSACTION", ()), (_sql.touch, known)]
        if self._ownership:
            said.append((_sql.ownership, (self.job.context,)))
        answers = await self._exchange(said)
        if answers[1].touched != 1:
            raise FigError("overtaken", "another worker has moved the position meanwhile", "Nothing to do.")
        rows = answers[2].rows if self._ownership else []
        return (str(rows[0][0]), int(rows[0][1] or 0)) if rows else ("standby", 0)

    async def _finish(self, work: Work, units: Sequence[Unit]) -> None:
        after = applied.after(self.applied, units, work.activated)
        advanced = (
            *(after.generation, after.lsn, after.ordinal, after.log_position, after.activated),
            *(after.source_committed_at, *self._place),
        )
        await self._exchange([*self._recorded(work), (_sql.advance, advanced), ("COMMIT", ())])
        self.applied = after

    def _recorded(self, work: Work) -> list[Said]:
        marks: list[Said] = [
            (_sql.mark, (*self._place, mark.nonce, mark.prefix, mark.content, mark.lsn)) for mark in work.marks
        ]
        return marks + [(_sql.park, (*self._place, *placed.at, _body(placed))) for placed in work.parked]

    @property
    def waiting(self) -> None:
        """Nobody who keeps it out is looked for: it waits for a row as long as the server lets it."""
        return None

    async def begin_large(self) -> None:
        """Begin a transaction that arrives in parts; see :meth:`part`."""
        with refusals.waited(self.job.context):
            await self._begin()
        self._open = Work(activated=self.applied.activated)

    async def part(self, unit: Unit) -> None:
        """Apply one part of a large transaction; the one with its end commits, with the position.

        Raises:
            Stopped: when a change cannot be applied; nothing of the transaction is in then.
        """
        assert self._open is not None and isinstance(unit.item, Transaction)
        with refusals.waited(self.job.context):
            try:
                await self._apply_part(unit, unit.item, self._open)
            except Culprit as culprit:
                await self._roll_back()
                await self._stop(culprit)
            except BaseException:
                await self._roll_back()
                raise

    async def let_go(self) -> None:
        """Undo what came of a transaction whose end does not come."""
        await self._roll_back()

    async def _apply_part(self, unit: Unit, item: Transaction, whole: Work) -> None:
        state, epoch = await self._admission()
        work = plan((item,), self.job.context, state, epoch, whole.activated, self._skips)
        await self._say("SAVEPOINT fig_part")
        try:
            await self._steps(work.steps, careful=False)
        except Exception as error:
            if not refusals.about_data(error):
                raise
            await self._say("ROLLBACK TO SAVEPOINT fig_part")
            await self._steps(work.steps, careful=True)
        whole.activated = work.activated
        whole.marks += work.marks
        await self._exchange(self._recorded(Work(parked=work.parked)))
        if item.end:
            self._open = None
            await self._finish(whole, [unit])

    async def _admission(self) -> tuple[str, int]:
        row = await self._conn.one(_sql.ownership, (self.job.context,)) if self._ownership else None
        return ("standby", 0) if row is None else (str(row[0]), int(row[1] or 0))

    async def _roll_back(self) -> None:
        self._open = None
        if not self._conn.lost:
            await self._conn.execute("ROLLBACK")

    async def _stop(self, culprit: Culprit) -> None:
        placed = culprit.placed
        code, said = _said(culprit.error)
        error = f"{said} [{code}]"
        values = (*self._place, *placed.at, _body(placed), error, culprit.statement)
        await self._conn.execute(_sql.park_error, values)
        row = await self._conn.one(_sql.waiting_error, self._place)
        assert row is not None
        number = int(row[0] or 0)
        raise Stopped(number, stopped_error(as_json(placed), error, number)) from culprit.error

    # -- steps

    async def _say(self, statement: str) -> None:
        await self._exchange([(statement, ())])

    async def _exchange(self, said: Iterable[Said]) -> list[Answer]:
        """Statements in one exchange; the one that is refused is remembered."""
        listed = list(said)
        if not listed:
            return []
        try:
            return await self._conn.exchange(listed)
        except FigError as error:
            self._last_statement = listed[min(error.context["number"], len(listed) - 1)][0]
            raise

    async def _steps(self, steps: Sequence[Step], *, careful: bool) -> None:
        for kind, group in itertools.groupby(steps, key=type):
            if kind is Rows:
                rows = [cast(Rows, step) for step in group]
                if careful:
                    await isolation.carefully(self, rows)
                else:
                    await self._rows([change for step in rows for change in step.changes])
                continue
            for step in group:
                if isinstance(step, Truncate):
                    await self._truncate(step, careful=careful)
                elif isinstance(step, SnapshotEdge):
                    raise refusals.snapshot_backward()

    async def attempt(self, changes: Sequence[Placed], *, new_first: bool = False) -> bool:
        """Apply changes together, or nothing of them; whether they are in."""
        await self._say("SAVEPOINT fig")
        try:
            await self._rows([p.change for p in changes], new_first=new_first)
        except Exception as error:
            if not refusals.about_data(error):
                raise
            await self._say("ROLLBACK TO SAVEPOINT fig")
            return False
        return True

    async def in_order(self, changes: Sequence[Placed]) -> None:
        """As the source did it, one change after the other.

        Raises:
            Culprit: at the one that is refused.
        """
        for placed in changes:
            try:
                if not await self._moved(placed.change):
                    await self._rows([placed.change])
            except Exception as error:
                if not refusals.about_data(error):
                    raise
                raise Culprit(placed, error, self._last_statement) from error

    async def _truncate(self, step: Truncate, *, careful: bool) -> None:
        try:
            refusals.check_truncate(self.job.mapping, step.tables)
            truncated = [entry for entry in reversed(self._entries) if entry.source in step.tables]
            cleared = {entry.target for entry in truncated if entry.anchor}
            said = []
            for entry in truncated:
                table = self._tables[entry.target]
                if entry.anchor:
                    said.append(statements.clear(table))
                elif entry.columns and entry.target not in cleared:
                    said.append(statements.clear_columns(table, [a.column for a in entry.columns]))
            await self._exchange(said)
        except Exception as error:
            if not careful or not refusals.about_data(error):
                raise
            raise Culprit(step.placed[0], error, self._last_statement) from error

    # -- rows

    async def _rows(self, changes: Sequence[Change], *, new_first: bool = False) -> None:
        """Apply changes folded per key: deletions from the last table to the first, then the rest the other way.

        ``new_first`` turns the two around: needed where rows are pointed elsewhere before what they pointed to goes.
        """
        batches = {name: Batch(table) for name, table in self._tables.items()}
        for folded in fold(changes, self._keys):
            await self._evaluate(folded, batches)
        wanted = [batch for batch in batches.values() if batch.keys]
        there = {batch.table.name: await self._present(batch) for batch in wanted}
        removals = [said for batch in reversed(wanted) for said in batch.removals(there[batch.table.name])]
        puts = [said for batch in wanted for said in batch.puts(there[batch.table.name])]
        await self._exchange(puts + removals if new_first else removals + puts)

    async def _present(self, batch: Batch) -> set[Texts]:
        answers = await self._exchange(statements.present(batch.table, batch.keys))
        return {batch.table.key_of(row) for answer in answers for row in answer.rows}

    async def _evaluate(self, folded: Folded, batches: dict[str, Batch]) -> None:
        """Have a table's folded rows evaluated, and collect what they ask of the output tables."""
        relation = folded.relation
        entries = self._by_source[relation.qualified]
        check_shape(relation, entries)
        gone = [_keyed(folded, key) for key, row in folded.rows.items() if row is None]
        groups: dict[frozenset[str], list[Row]] = {}
        for row in folded.rows.values():
            if row is not None:
                absent = frozenset(c.name for c, v in zip(relation.columns, row, strict=True) if v is UNCHANGED)
                groups.setdefault(absent, []).append(row)
        for entry in entries:
            batch = batches[entry.target]
            if gone:
                batch.remove(entry, await self._asked(self._evaluator.keys(entry, relation, gone)))
            for unchanged, rows in groups.items():
                columns = carried(entry, unchanged)
                made = await self._asked(self._evaluator.rows(entry, columns, relation, rows))
                batch.put(entry, columns, made, unchanged & entry.needs)

    async def _asked(self, evaluation: Any) -> Any:
        try:
            return await evaluation
        except psycopg.Error:
            self._last_statement = self._evaluator.last_statement
            raise

    async def _moved(self, change: Change) -> bool:
        """Change a row's key in place, as the source did, so that what refers to it can follow."""
        relation, before, after = change.relation, change.before, change.after
        names = self._keys.get(relation.qualified)
        if names is None or before is None or after is None:
            return False
        places = key_places(relation, names)
        if UNCHANGED in [before[n] for n in places] or all(before[n] == after[n] for n in places):
            return False
        after = tuple(b if a is UNCHANGED else a for a, b in zip(after, before, strict=True))
        unchanged = frozenset(c.name for c, v in zip(relation.columns, after, strict=True) if v is UNCHANGED)
        entries = self._by_source[relation.qualified]
        check_shape(relation, entries)
        moved = True
        for entry in entries:
            moved = await self._move(entry, change, after, unchanged) and moved
        return moved

    async def _move(self, entry: Entry, change: Change, after: Row, unchanged: frozenset[str]) -> bool:
        table, columns = self._tables[entry.target], carried(entry, unchanged)
        assert change.before is not None
        batch = Batch(table)
        batch.remove(entry, await self._asked(self._evaluator.keys(entry, change.relation, [change.before])))
        [made] = await self._asked(self._evaluator.rows(entry, columns, change.relation, [after]))
        old = [key for key in batch.keys if key in await self._present(batch)]
        if not old:
            return False
        names = [a.column for a in (*entry.key, *columns)]
        row = dict(zip(names, (*made.key, *made.values), strict=True))
        await self._exchange([statements.update(table, old[0], row)])
        return True


def _keyed(folded: Folded, key: Row) -> Row:
    """A row of which only the key is known."""
    row: list[Any] = [None] * len(folded.relation.columns)
    for place, value in zip(folded.key, key, strict=True):
        row[place] = value
    return tuple(row)


def _body(placed: Placed) -> str:
    return orjson.dumps(as_json(placed)).decode()


def _said(error: Exception) -> tuple[str, str]:
    if isinstance(error, FigError):
        return refusals.code(error), error.message
    if isinstance(error, psycopg.Error):
        parts = [error.diag.message_primary or str(error), error.diag.message_detail, error.diag.context]
        return error.sqlstate or "error", "; ".join(p for p in parts if p)
    assert isinstance(error, NeedsOrder)
    return "error", "the row moved to another key and the source did not send all of it"
