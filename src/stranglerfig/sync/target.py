"""A session into the target database: changes become rows, position and markers in the same commit, under an origin.

What it is asked to apply it applies whole or not at all. A few rows go in one exchange with the server, more through a
stage; when the database refuses, in halves, then in the source's own order, so that the one change that cannot be
applied is found and named.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple, cast

import psycopg
from psycopg.types.json import Jsonb

from stranglerfig.changes.mapping import Entry, Mapping, quote, quote_table
from stranglerfig.changes.model import (
    UNCHANGED,
    Barrier,
    Change,
    Direction,
    Item,
    Relation,
    SnapshotChunk,
    SnapshotEdge,
    SourcePosition,
    Transaction,
    origin_of,
)
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.sql import load
from stranglerfig.sync import inline, origins, statements
from stranglerfig.sync.barriers import Place
from stranglerfig.sync.model import (
    Folded,
    NeedsOrder,
    Placed,
    Rows,
    Step,
    Truncate,
    Work,
    as_json,
    check_shape,
    chunk_rows,
    copy_line,
    fold,
    key_places,
    plan,
    position_of,
)

_sql = load(__package__ or "")

# SQLSTATE classes that speak of a row or a statement, not of the server: data, constraints, names, triggers' refusals.
_ABOUT_DATA = frozenset({"0A", "21", "22", "23", "42", "44", "P0", "FI"})

# Stages are never analyzed, so the planner must not be tempted to scan a large target for a small batch.
_SETTINGS = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off -c work_mem=32MB"


@dataclass(frozen=True, slots=True)
class SyncJob:
    """One direction of one context, to be applied.

    Attributes:
        dsn: the target database.
        topic: the change topic that is read.
        origin: what the target's own capture drops: the name this direction's rows are written under (with the
            partition's number, but for the first).
        partition: of the topic.
        parted: whether the topic has more than this partition.
    """

    context: str
    direction: Direction
    dsn: str
    topic: str
    origin: str
    mapping: Mapping
    partition: int = 0
    parted: bool = False

    @property
    def place(self) -> tuple[str, Direction, int]:
        """Which row of ``fig.applied`` is its own."""
        return self.context, self.direction, self.partition

    @property
    def own_origin(self) -> str:
        """What this partition's rows are written under."""
        return origin_of(self.origin, self.partition)


@dataclass(frozen=True, slots=True)
class Applied:
    """The row of ``fig.applied``: how far this direction is in, and where the log is read next."""

    generation: int = 0
    lsn: int = 0
    ordinal: int = 0
    log_position: int = 0
    activated: int = 0
    source_committed_at: int | None = None
    snapshot_rows: int = 0
    snapshot_total: int = 0
    snapshot_began_at: datetime | None = None
    snapshot_ended_at: datetime | None = None

    @property
    def position(self) -> SourcePosition:
        """The last change that is in."""
        return SourcePosition(self.lsn, self.ordinal)


_APPLIED = tuple(Applied.__slots__)


class Unit(NamedTuple):
    """An item of the log, and the log position to go on from once it is applied."""

    item: Item
    log_position: int


class Culprit(Exception):
    """A change that the target refuses."""

    def __init__(self, placed: Placed, error: Exception, statement: str) -> None:
        super().__init__(str(error))
        self.placed = placed
        self.error = error
        self.statement = statement


class Stopped(Exception):
    """The flow stands at a change until a person decides: ``parked`` is its row in ``fig.parked``."""

    def __init__(self, parked: int, error: FigError) -> None:
        super().__init__(error.message)
        self.parked = parked
        self.error = error


@dataclass(slots=True)
class _Stage:
    """A temporary table of this session, and what stands in it now."""

    name: str
    dirty: bool = False
    masks: dict[frozenset[int], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Staged:
    """A folded table in its stage: how many rows of which kind."""

    folded: Folded
    stage: _Stage
    gone: int
    counts: dict[int, int]
    unchanged: dict[int, frozenset[str]]


async def prepare(conn: postgres.Connection) -> None:
    """Create or bring forward what sync keeps in a target database."""
    await postgres.migrate(conn, "sync", __package__ or "", ["target.sql", "wide_positions.sql", "partitions.sql"])


def is_about_data(error: BaseException) -> bool:
    """Whether the target refused a row or a statement, rather than being away or busy."""
    if isinstance(error, psycopg.Error):
        return (error.sqlstate or "")[:2] in _ABOUT_DATA
    return isinstance(error, (NeedsOrder, FigError))


@contextlib.asynccontextmanager
async def open_target(job: SyncJob) -> AsyncIterator[Target]:
    """A session that owns the job's origin, with ``fig.applied`` read.

    Raises:
        FigError: ``database_unreachable``, ``origin_busy`` (another worker has it), ``missing_privilege``.
    """
    async with postgres.session(job.dsn, what=f"sync {job.context} {job.direction}", options=_SETTINGS) as conn:
        await prepare(conn)
        await origins.take(conn, job.dsn, job.own_origin)
        target = Target(job, conn)
        await target.read()
        yield target


class Target:
    """Applies units of the log; one session, one origin."""

    def __init__(self, job: SyncJob, conn: postgres.Connection) -> None:
        self.job = job
        self.applied = Applied()
        self._conn = conn
        self._entries = job.mapping.entries(job.direction)
        self._by_source: dict[str, list[Entry]] = {}
        self._by_target: dict[str, list[Entry]] = {}
        for entry in self._entries:
            self._by_source.setdefault(entry.source, []).append(entry)
            self._by_target.setdefault(entry.target, []).append(entry)
        self._keys = {source: entries[0].source_key for source, entries in self._by_source.items()}
        self._stages: dict[Relation, _Stage] = {}
        self._numbers = itertools.count()
        self._skips: frozenset[tuple[int, int, int]] = frozenset()
        self._ownership = False
        self._seen: tuple[str, int] | None = None
        self._types: dict[Relation, list[str]] = {}
        self._replica = False
        self._parted = False
        self._open: Work | None = None
        self._last_statement = ""
        self._put_off: list[str] = []

    # -- what is known of the target

    async def read(self) -> None:
        """Read the position, and what a person decided about changes above it.

        Raises:
            Stopped: when a change waits for a decision.
        """
        job, conn = self.job, self._conn
        await conn.execute(_sql.begin_applied, job.place)
        row = await postgres.one(conn, _sql.read_applied, job.place)
        assert row is not None
        self.applied = Applied(**dict(zip(_APPLIED, row, strict=True)) | {"log_position": int(row[3])})
        waiting = await postgres.one(conn, _sql.waiting_error, job.place)
        if waiting is not None:
            raise Stopped(waiting[0], stopped_error(waiting[1], waiting[2], waiting[0]))
        rows = await postgres.fetch(conn, _sql.skips, (*job.place, self.applied.lsn))
        self._skips = frozenset((row[0], row[1], row[2]) for row in rows)
        self._replica = await origins.may_replicate(conn)
        if job.parted:
            await self.look_away()

    async def look_away(self) -> None:
        """From here on rows may come before those they refer to: foreign keys look away, and triggers do not fire.

        Raises:
            FigError: ``partitions_need_replica_role``.
        """
        if self._parted:
            return
        if (role := await origins.lacks_replica_role(self._conn)) is not None:
            raise origins.no_replica_role(role)
        await self._conn.execute("SET session_replication_role = replica")
        self._parted = True

    async def places(self) -> dict[int, Place]:
        """How far each partition is in."""
        rows = await postgres.fetch(self._conn, _sql.places, (self.job.context, self.job.direction))
        return {row[0]: Place(row[1], SourcePosition(row[2], row[3])) for row in rows}

    async def stand_at(self, barrier: Barrier, log_position: int) -> None:
        """Say that this partition has come to ``barrier``; past a closing one it knows what the first one knows.

        Raises:
            FigError: ``overtaken``.
        """
        after = replace(
            self.applied,
            generation=max(self.applied.generation, barrier.generation),
            lsn=barrier.lsn,
            ordinal=barrier.ordinal,
            log_position=log_position,
        )
        if barrier.closes and self.job.partition:
            row = await postgres.one(self._conn, _sql.first_place, (self.job.context, self.job.direction))
            assert row is not None
            after = replace(
                after,
                activated=max(after.activated, row[0]),
                snapshot_began_at=row[1],
                snapshot_ended_at=row[2],
            )
        await self._conn.execute("BEGIN")
        try:
            await self._commit_at(Work(), after)
        except BaseException:
            await self._roll_back()
            raise

    async def _begin(self) -> tuple[str, int]:
        """Begin a transaction and look at the ownership row, in one exchange with the server."""
        if not self._ownership:
            await self._conn.execute("BEGIN")
            return await self._admission()
        async with self._conn.pipeline():
            await self._conn.execute("BEGIN")
            return await self._admission()

    async def _admission(self) -> tuple[str, int]:
        """The ownership row, locked against a change until this transaction ends; without one: a standby."""
        if not self._ownership:
            self._ownership = bool(await postgres.value(self._conn, "SELECT to_regclass('fig.ownership') IS NOT NULL"))
        if not self._ownership:
            return "standby", 0
        row = await postgres.one(self._conn, _sql.ownership, (self.job.context,))
        self._seen = (row[0], row[1]) if row is not None else ("standby", 0)
        return self._seen

    # -- transactions

    async def commit(self, units: Sequence[Unit]) -> None:
        """Apply whole transactions, chunks and edges in one commit.

        Raises:
            FigError: ``overtaken`` when another worker moved the position: read it again.
            Stopped: when a change cannot be applied; what came before it is in.
        """
        try:
            if not await self._in_one_exchange(units):
                await self._transaction(units, careful=False)
        except Exception as error:
            await self._roll_back()
            if not is_about_data(error) or _final(error):
                raise
            await self._commit_carefully(units)

    async def _commit_carefully(self, units: Sequence[Unit]) -> None:
        try:
            await self._transaction(units, careful=True)
        except Culprit as culprit:
            await self._roll_back()
            at = culprit.placed.at
            before = list(itertools.takewhile(lambda u: position_of(u.item) < at, units))
            if before:
                await self._transaction(before, careful=True)
            await self._stop(culprit)
        except BaseException:
            await self._roll_back()
            raise

    async def _transaction(self, units: Sequence[Unit], *, careful: bool) -> None:
        state, epoch = await self._begin()
        work = plan((u.item for u in units), self.job.context, state, epoch, self.applied.activated, self._skips)
        await self._steps(work.steps, careful=careful, last=True)
        await self._finish(work, units)

    async def _in_one_exchange(self, units: Sequence[Unit]) -> bool:
        """Apply a few ordinary rows, which nearly every commit is, without waiting for the server in between.

        The ownership is taken to be what it was last, and the exchange fails where it is not. False: these units want
        more, or the server refused something; nothing is done then.
        """
        if self._seen is None or not all(type(unit.item) is Transaction for unit in units):
            return False
        work = plan((u.item for u in units), self.job.context, *self._seen, self.applied.activated, self._skips)
        changes = inline.changes_of(work.steps)
        batch = inline.folded(changes, self._keys, self._by_source) if changes is not None else None
        if batch is None:
            return False
        types = {here.relation: await self._types_of(here.relation) for here in batch}
        wanted = inline.plan(batch, self._by_target, types)
        if wanted is None:
            return False
        after = self._after(work, units)
        try:
            async with self._conn.pipeline():
                await self._conn.execute("BEGIN")
                await self._conn.execute(_sql.still, (self.job.context, *self._seen))
                for statement, arrays in wanted:
                    await self._conn.execute(statement, arrays)
                await self._record(work)
                await self._advance(after)
                await self._conn.execute("COMMIT")
        except psycopg.Error as error:
            if not is_about_data(error):
                raise
            await self._roll_back()
            return False
        self.applied = after
        return True

    async def _finish(self, work: Work, units: Sequence[Unit]) -> None:
        await self._commit_at(work, self._after(work, units))

    async def _commit_at(self, work: Work, after: Applied) -> None:
        try:
            async with self._conn.pipeline():  # one exchange: what comes after a statement that fails is not done
                for statement in self._put_off:
                    await self._execute(statement)
                self._put_off = []
                await self._record(work)
                await self._advance(after)
                await self._conn.execute("COMMIT")
        except psycopg.errors.DivisionByZero as error:
            said = "another worker has moved the position meanwhile"
            raise FigError("overtaken", said, "Nothing to do.") from error
        self._settle()
        self.applied = after

    async def begin_large(self) -> None:
        """Begin a transaction that arrives in parts; see :meth:`part`."""
        await self._conn.execute("BEGIN")
        self._open = Work(activated=self.applied.activated)

    async def part(self, unit: Unit) -> None:
        """Apply one part of a large transaction; the one with its end commits, with the position.

        Raises:
            Stopped: when a change cannot be applied; nothing of the transaction is in then.
        """
        assert self._open is not None and isinstance(unit.item, Transaction)
        whole = self._open
        try:
            state, epoch = await self._admission()
            work = plan((unit.item,), self.job.context, state, epoch, whole.activated, self._skips)
            await self._savepoint()
            try:
                await self._steps(work.steps, careful=False)
            except Exception as error:
                if not is_about_data(error):
                    raise
                await self._undo()
                await self._steps(work.steps, careful=True)
            await self._conn.execute("RELEASE SAVEPOINT fig")
            whole.activated = work.activated
            whole.marks += work.marks
            await self._record(Work(parked=work.parked))
            if unit.item.end:
                self._open = None
                await self._finish(whole, [unit])
        except Culprit as culprit:
            self._open = None
            await self._roll_back()
            await self._stop(culprit)

    def _after(self, work: Work, units: Sequence[Unit]) -> Applied:
        last = units[-1]
        lsn, ordinal = position_of(last.item)
        after = replace(
            self.applied, lsn=lsn, ordinal=ordinal, log_position=last.log_position, activated=work.activated
        )
        for unit in units:
            item = unit.item
            if isinstance(item, Transaction):
                after = replace(after, source_committed_at=item.committed_at) if unit is last else after
            elif isinstance(item, SnapshotChunk):
                after = replace(after, snapshot_rows=after.snapshot_rows + item.rows)
            elif isinstance(item, SnapshotEdge) and item.begins:
                after = replace(
                    after,
                    generation=item.generation,
                    snapshot_rows=0,
                    snapshot_total=item.total_rows,
                    snapshot_began_at=clock.now(),
                    snapshot_ended_at=None,
                )
            elif isinstance(item, SnapshotEdge):
                after = replace(
                    after, snapshot_total=item.total_rows or after.snapshot_rows, snapshot_ended_at=clock.now()
                )
        return after

    async def _advance(self, after: Applied) -> None:
        was = self.applied
        values = (
            *(after.generation, after.lsn, after.ordinal, after.log_position, after.activated),
            *(after.source_committed_at, after.snapshot_rows, after.snapshot_total),
            *(after.snapshot_began_at, after.snapshot_ended_at),
            *self.job.place,
            *(was.generation, was.lsn, was.ordinal, was.log_position),
        )
        await self._conn.execute(_sql.advance, values)

    async def _record(self, work: Work) -> None:
        job = self.job
        for mark in work.marks:
            values = (job.context, job.direction, mark.nonce, mark.prefix, mark.content, mark.lsn)
            await self._conn.execute(_sql.mark, values)
        for placed in work.parked:
            await self._conn.execute(_sql.park, (*job.place, *placed.at, placed.row, Jsonb(as_json(placed))))

    async def _roll_back(self) -> None:
        self._open = None
        self._put_off = []
        if self._conn.closed or self._conn.broken:
            return
        await self._conn.execute("ROLLBACK")
        await self._forget_stages()

    def _settle(self) -> None:
        for stage in self._stages.values():
            stage.dirty = False

    async def _stop(self, culprit: Culprit) -> None:
        placed, job = culprit.placed, self.job
        code, said = _said(culprit.error)
        parked = await postgres.value(
            self._conn,
            _sql.park_error,
            (
                *(*job.place, *placed.at, placed.row),
                *(Jsonb(as_json(placed)), f"{said} [{code}]", culprit.statement),
            ),
        )
        raise Stopped(parked, stopped_error(as_json(placed), f"{said} [{code}]", parked)) from culprit.error

    # -- steps

    async def _savepoint(self) -> None:
        await self._conn.execute("SAVEPOINT fig")

    async def _undo(self) -> None:
        await self._conn.execute("ROLLBACK TO SAVEPOINT fig")
        await self._forget_stages()

    async def _forget_stages(self) -> None:
        """A stage that was made in what is rolled back is gone with it."""
        there = {row[0] for row in await postgres.fetch(self._conn, _sql.own_stages)}
        self._stages = {relation: stage for relation, stage in self._stages.items() if stage.name in there}

    async def _execute(self, statement: str, params: Sequence[Any] | None = None) -> psycopg.AsyncCursor[Any]:
        self._last_statement = statement
        return await self._conn.execute(statement, params)

    async def _steps(self, steps: Sequence[Step], *, careful: bool, last: bool = False) -> None:
        """Do the steps; with ``last``, what nobody waits for the outcome of may go along with the commit."""
        if last and not careful and all(type(step) is Rows for step in steps):
            await self._rows([change for step in steps for change in cast(Rows, step).changes], put_off=True)
            return
        for kind, group in itertools.groupby(steps, key=type):
            if kind is Rows:
                rows = [cast(Rows, step) for step in group]
                if careful:
                    await self._rows_carefully(rows)
                else:
                    await self._rows([change for step in rows for change in step.changes])
                continue
            for step in group:
                if isinstance(step, Truncate):
                    await self._truncate(step, careful=careful)
                elif isinstance(step, SnapshotChunk):
                    await self._chunk(step, careful=careful)
                elif isinstance(step, SnapshotEdge):
                    await self._edge(step)

    async def _rows_carefully(self, groups: Sequence[Rows]) -> None:
        changes = [placed for group in groups for placed in group.placed()]
        if await self._attempt(changes):
            return
        if len(groups) > 1:
            half = len(groups) // 2
            await self._rows_carefully(groups[:half])
            await self._rows_carefully(groups[half:])
        elif not await self._attempt(changes, new_first=True):
            await self._in_order(changes)

    async def _attempt(self, changes: Sequence[Placed], *, new_first: bool = False) -> bool:
        await self._savepoint()
        try:
            await self._rows([p.change for p in changes], new_first=new_first)
        except Exception as error:
            if not is_about_data(error):
                raise
            await self._undo()
            return False
        await self._conn.execute("RELEASE SAVEPOINT fig")
        return True

    async def _in_order(self, changes: Sequence[Placed]) -> None:
        """As the source did it, one change after the other."""
        for placed in changes:
            try:
                if not await self._moved(placed.change):
                    await self._rows([placed.change])
            except Exception as error:
                if not is_about_data(error):
                    raise
                raise Culprit(placed, error, self._last_statement) from error

    async def _moved(self, change: Change) -> bool:
        """Change a key in place, as the source did, so that what refers to it can follow."""
        relation, before, after = change.relation, change.before, change.after
        names = self._keys.get(relation.qualified)
        if names is None or before is None or after is None:
            return False
        places = key_places(relation, names)
        old = [before[i] for i in places]
        if UNCHANGED in old or old == [after[i] for i in places]:
            return False
        after = tuple(b if a is UNCHANGED else a for a, b in zip(after, before, strict=True))
        unchanged = frozenset(c.name for c, v in zip(relation.columns, after, strict=True) if v is UNCHANGED)
        check_shape(relation, self._by_source[relation.qualified])
        stage = await self._clean_stage(relation)
        await self._copy(statements.copy_stage(stage.name), [copy_line("m\t0\t", after)])
        moved = True
        for entry in self._by_source[relation.qualified]:
            cursor = await self._execute(statements.move(entry, stage.name, unchanged), old)
            moved = moved and cursor.rowcount == 1
        if not moved and unchanged:
            raise statements.unchanged_needed(self._by_source[relation.qualified][0], unchanged)
        return moved

    async def _truncate(self, step: Truncate, *, careful: bool) -> None:
        try:
            await self._truncate_tables(step.tables)
        except Exception as error:
            if not careful or not is_about_data(error):
                raise
            raise Culprit(step.placed[0], error, self._last_statement) from error

    async def _truncate_tables(self, tables: Sequence[str]) -> None:
        entries = [e for e in self._entries if e.source in tables]
        for entry in entries:
            if not entry.anchor and entry.columns:
                nulls = ", ".join(f"{quote(a.column)} = NULL" for a in entry.columns)
                anchor = self._by_target[entry.target][0]
                if anchor.source not in tables:
                    await self._execute(f"UPDATE {quote_table(entry.target)} SET {nulls}")  # noqa: S608
        await self._empty([e.target for e in entries if e.anchor])

    async def _empty(self, tables: Sequence[str]) -> None:
        if not tables:
            return
        await self._savepoint()
        try:
            await self._execute("TRUNCATE " + ", ".join(quote_table(t) for t in tables))
        except psycopg.Error as error:
            # A table outside the mapping refers to one of these, or the role may not truncate.
            if not isinstance(error, (psycopg.errors.FeatureNotSupported, psycopg.errors.InsufficientPrivilege)):
                raise
            await self._undo()
            for table in reversed(tables):
                await self._execute(f"DELETE FROM {quote_table(table)}")  # noqa: S608
        await self._conn.execute("RELEASE SAVEPOINT fig")

    # -- snapshots

    async def _edge(self, edge: SnapshotEdge) -> None:
        if self.job.direction is Direction.REVERSE:
            # Emptying the monolith's tables is nothing that a lost slot may cause.
            raise FigError(
                "snapshot_backward",
                "a snapshot of the service's tables is in the log, but the monolith's rows are never copied anew",
                "Start the reverse capture without a snapshot, and bring the rows together with fig verify --repair.",
            )
        if edge.begins:
            await self._empty(self.job.mapping.outputs(self.job.direction))
            return
        if not self._replica:
            return
        # Rows were copied with foreign keys looking away: what refers to nothing must not stay unnoticed.
        await self._execute("SET LOCAL enable_seqscan = on")
        await self._execute("SET LOCAL enable_hashjoin = on")
        tables = [quote_table(t) for t in self.job.mapping.outputs(self.job.direction)]
        for name, table, statement in await postgres.fetch(self._conn, _sql.foreign_keys, (tables,)):
            if count := await postgres.value(self._conn, statement):
                raise FigError(
                    "snapshot_orphans",
                    f"{count} row(s) of {table} refer to nothing by {name}",
                    "Add the table they refer to before it in the mapping, or drop the foreign key in the target.",
                    table=table,
                    constraint=name,
                    rows=count,
                )

    async def _chunk(self, chunk: SnapshotChunk, *, careful: bool) -> None:
        entries = self._by_source.get(chunk.relation.qualified)
        if not entries:
            return
        if self._replica and not self._parted:
            # Tables are copied side by side, so children may come before their parents.
            await self._conn.execute("SET LOCAL session_replication_role = replica")
        check_shape(chunk.relation, entries)
        skipped = {s[2] for s in self._skips if s[:2] == (chunk.lsn, chunk.ordinal)}
        if careful or skipped:
            await self._chunk_rows([p for p in chunk_rows(chunk) if p.row not in skipped])
        elif len(entries) == 1 and (direct := statements.copy_direct(entries[0], chunk.relation)):
            await self._copy(direct, [chunk.copy])
        else:
            stage = await self._clean_stage(chunk.relation)
            await self._copy(statements.copy_chunk(stage.name, chunk.relation), [chunk.copy])
            for entry in entries:
                await self._execute(statements.insert(entry, stage.name, upsert=False))
        if self._replica and not self._parted:
            await self._conn.execute("SET LOCAL session_replication_role = origin")

    async def _chunk_rows(self, rows: Sequence[Placed]) -> None:
        if not rows or await self._attempt(rows):
            return
        if len(rows) == 1:
            await self._in_order(rows)
            return
        half = len(rows) // 2
        await self._chunk_rows(rows[:half])
        await self._chunk_rows(rows[half:])

    # -- rows

    async def _types_of(self, relation: Relation) -> list[str]:
        """The types of a relation's columns, as far as they are read and this server knows them."""
        if (types := self._types.get(relation)) is None:
            wanted = {n for e in self._by_source[relation.qualified] for n in e.needs}
            names = [c.type if c.name in wanted else "text" for c in relation.columns]
            known = await postgres.value(self._conn, _sql.known_types, (names,))
            # A type that only the source has travels as text; the expression says what becomes of it.
            types = [name if there else "text" for name, there in zip(names, known, strict=True)]
            self._types[relation] = types
        return types

    async def _clean_stage(self, relation: Relation) -> _Stage:
        stage = self._stages.get(relation)
        if stage is None:
            stage = _Stage(f"fig_stage_{next(self._numbers)}")
            types = await self._types_of(relation)
            await self._execute(statements.create_stage(stage.name, relation, types))
            self._stages[relation] = stage
        if stage.dirty:
            await self._execute(f"TRUNCATE {stage.name}")
        stage.dirty = True
        return stage

    async def _copy(self, statement: str, parts: Sequence[str | bytes]) -> None:
        self._last_statement = statement
        async with self._conn.cursor() as cursor, cursor.copy(statement) as copy:
            for part in parts:
                await copy.write(part)

    async def _rows(self, changes: Sequence[Change], *, new_first: bool = False, put_off: bool = False) -> None:
        """Apply changes folded per key: deletions from the last table to the first, then the rest the other way.

        ``new_first`` turns the two around: needed where rows are pointed elsewhere before what they pointed to goes.
        """
        staged = {f.relation.qualified: await self._stage(f) for f in fold(changes, self._keys)}
        singly = all(len(entries) == 1 for entries in self._by_target.values())
        if put_off and singly and not any(here.unchanged for here in staged.values()):
            await self._delete(staged)
            self._put_off = [
                statements.insert(entry, here.stage.name, upsert=True)
                for (entry,) in self._by_target.values()
                if (here := staged.get(entry.source)) is not None and here.counts[0]
            ]
            return
        phases = [self._delete, self._put]
        for phase in reversed(phases) if new_first else phases:
            await phase(staged)

    async def _stage(self, folded: Folded) -> _Staged:
        relation = folded.relation
        check_shape(relation, self._by_source[relation.qualified])
        stage = await self._clean_stage(relation)
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
        await self._copy(statements.copy_stage(stage.name), ["".join(lines)])
        return _Staged(folded, stage, gone, counts, unchanged)

    async def _delete(self, staged: dict[str, _Staged]) -> None:
        for entries in reversed(self._by_target.values()):
            for entry in entries:  # the anchor first: a row that is gone need not be filled with nulls
                here = staged.get(entry.source)
                if here is None or not (here.gone or entry.where):
                    continue
                if entry.anchor or entry.columns:
                    unmatched = entry.where is not None
                    await self._execute(statements.delete(entry, here.stage.name, unmatched=unmatched))

    async def _put(self, staged: dict[str, _Staged]) -> None:
        for entries in self._by_target.values():
            present = [(e, staged[e.source]) for e in entries if e.source in staged]
            if len(entries) > 1:
                await self._put_joined(present)
                continue
            for entry, here in present:
                if here.counts[0]:
                    await self._execute(statements.insert(entry, here.stage.name, upsert=True))
                await self._put_partial(entry, here)

    async def _put_partial(self, entry: Entry, here: _Staged) -> None:
        """Rows with unchanged values: they are in the target, or what they lack cannot be known."""
        for mask, unchanged in here.unchanged.items():
            statement = statements.update(entry, here.stage.name, mask, unchanged)
            if statement is None:
                continue
            cursor = await self._execute(statement)
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
                changed = (await self._execute(statement)).rowcount
            if entry.anchor and changed < here.counts[0]:
                new = (entry, here)
        if new is not None:
            await self._execute("SET LOCAL enable_hashjoin = on")
            await self._execute("SET LOCAL enable_seqscan = on")
            others = [(e, s.stage.name) for e, s in present if not e.anchor and s.counts[0]]
            for size in range(len(others), -1, -1):
                for chosen in itertools.combinations(others, size):
                    await self._execute(statements.insert_joined(new[0], chosen, new[1].stage.name))
            await self._execute("SET LOCAL enable_hashjoin = off")
            await self._execute("SET LOCAL enable_seqscan = off")
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


def _final(error: BaseException) -> bool:
    return isinstance(error, FigError) and error.code in (
        "overtaken",
        "snapshot_on_owner",
        "snapshot_orphans",
        "snapshot_backward",
    )


def _said(error: Exception) -> tuple[str, str]:
    if isinstance(error, FigError):
        return error.code, error.message
    if isinstance(error, psycopg.Error):
        parts = [error.diag.message_primary or str(error), error.diag.message_detail, error.diag.context]
        return error.sqlstate or "error", "; ".join(p for p in parts if p)
    return "error", str(error)


def stopped_error(change: dict[str, Any], said: str, parked: int) -> FigError:
    """What a flow that stands says: the row, what the database said, and what to do."""
    row = change.get("after") or change.get("before")
    return FigError(
        "change_refused",
        f"a change of {change['table']} cannot be applied: {said}",
        f"Correct the target and run fig sync retry {parked}, or leave the change out with fig sync skip {parked}.",
        table=change["table"],
        operation=change["op"],
        row=row,
        parked=parked,
    )
