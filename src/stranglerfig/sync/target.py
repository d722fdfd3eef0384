"""A session into the target database: changes become rows, position and markers in the same commit, under an origin.

What it is asked to apply it applies whole or not at all: a few rows in one exchange with the server, more through a
stage (:mod:`~stranglerfig.sync.steps`), and where this side writes too, row by row (:mod:`~stranglerfig.sync.both`).
When the database refuses, the one change that cannot be applied is found, and named.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import psycopg
from psycopg.types.json import Jsonb

from stranglerfig.changes.conflicts import Settlement
from stranglerfig.changes.mapping import Mapping
from stranglerfig.changes.model import (
    VERSION,
    Barrier,
    Direction,
    Message,
    SourcePosition,
    Transaction,
    origin_of,
)
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.sql import load
from stranglerfig.sync import applied, both, inline, origins
from stranglerfig.sync.applied import Applied, Unit
from stranglerfig.sync.barriers import Place
from stranglerfig.sync.both import Both
from stranglerfig.sync.model import (
    Culprit,
    Rows,
    Step,
    Truncate,
    Work,
    as_json,
    plan,
)
from stranglerfig.sync.refusals import Stopped, final, is_about_data, said, stopped_error
from stranglerfig.sync.staging import Staging
from stranglerfig.sync.steps import Steps

_sql = load(__package__ or "")

# Stages are never analyzed, so the planner must not be tempted to scan a large target for a small batch.
_SETTINGS = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off -c work_mem=32MB"


_GIVE_WAY = 0.02
"""Seconds before rows are asked for again that a writer held."""
_LET_PASS = 0.2
"""Seconds for a writer that waited for us while we waited for him. That he does is no reason to wait longer for him."""


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
        rules: how conflicts are settled, by pair, where both sides write; None where one does.
        evaluator: the PostgreSQL that evaluates the mapping, where the target is none: the service's.
    """

    context: str
    direction: Direction
    dsn: str
    topic: str
    origin: str
    mapping: Mapping
    partition: int = 0
    parted: bool = False
    rules: dict[str, Settlement] | None = None
    evaluator: str = ""

    @property
    def place(self) -> tuple[str, Direction, int]:
        """Which row of ``fig.applied`` is its own."""
        return self.context, self.direction, self.partition

    @property
    def own_origin(self) -> str:
        """What this partition's rows are written under."""
        return origin_of(self.origin, self.partition)


_APPLIED = tuple(Applied.__slots__)


TABLES = postgres.Tables(
    "sync", __package__ or "", ("target.sql", "wide_positions.sql", "partitions.sql", "conflicts.sql")
)


async def prepare(conn: postgres.Connection) -> None:
    """Create or bring forward what sync keeps in a target database."""
    await postgres.migrate(conn, *TABLES)


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
        entries = job.mapping.entries(job.direction)
        self._staging = Staging(conn, entries)
        self._steps = Steps(conn, self._staging, job.mapping, job.direction)
        self._numbers = itertools.count()
        self._ownership = False
        self._seen: tuple[str, int] | None = None
        self._counted: tuple[tuple[str, int], bool] | None = None
        self._open: Work | None = None
        self._both = (
            Both(conn, job.context, job.direction, entries, job.rules, self._staging.types_of)
            if job.rules is not None
            else None
        )

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
        self._steps.skips = frozenset((row[0], row[1], row[2]) for row in rows)
        self._steps.replica = await origins.may_replicate(conn)
        if job.parted:
            await self.look_away()

    async def look_away(self) -> None:
        """From here on rows may come before those they refer to: foreign keys look away, and triggers do not fire.

        Raises:
            FigError: ``partitions_need_replica_role``.
        """
        if self._steps.parted:
            return
        if (role := await origins.lacks_replica_role(self._conn)) is not None:
            raise origins.no_replica_role(role)
        await self._conn.execute("SET session_replication_role = replica")
        self._steps.parted = True

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
        if self._gave_back() and (self._counted is None or self._counted[0] != self._seen):
            there = await postgres.value(self._conn, "SELECT to_regclass('fig.row_version') IS NOT NULL")
            own = there and await postgres.value(self._conn, _sql.own_changes, (self.job.context,))
            self._counted = (self._seen, bool(own))
        return self._seen

    def _gave_back(self) -> bool:
        """Whether this is a service that has owned: its guards let nobody write until it owns again."""
        return self.job.direction is Direction.FORWARD and self._seen is not None and self._seen[0] == "ceded"

    def _untouched(self) -> bool:
        """Whether no change of this side's own is counted, so that what comes without a version met none."""
        if self._seen is not None and self._gave_back():
            return self._counted == (self._seen, False)
        return self._seen is None or self._seen[0] == "standby"

    @property
    def waiting(self) -> int | None:
        """The process id of this session at its server while writers keep it out."""
        return self._conn.info.backend_pid if self._both is not None and self._both.busy else None

    async def touch(self) -> None:
        """Say something, where nothing else is to be said: see :func:`origins.take`."""
        await self._conn.execute("SELECT")

    # -- transactions

    async def commit(self, units: Sequence[Unit]) -> None:
        """Apply whole transactions, chunks and edges in one commit.

        Raises:
            FigError: ``overtaken`` when another worker moved the position: read it again.
            Stopped: when a change cannot be applied; what came before it is in.
        """
        if self._both is None or not self._meets(units):
            await self._commit(units)
            return
        waiting = [units[n : n + both.TOGETHER] for n in range(0, len(units), both.TOGETHER)]
        while waiting:
            try:
                await self._commit(waiting[0])
                del waiting[0]
                self._both.got_in()
            except both.BUSY as error:
                waiting[:1] = [[unit] for unit in waiting[0]]
                circle = isinstance(error, psycopg.errors.DeadlockDetected)
                self._both.was_kept_out(grow=not circle)
                await asyncio.sleep(_LET_PASS if circle else _GIVE_WAY)

    def _meets(self, units: Sequence[Unit]) -> bool:
        """Whether this side may have changes of its own in the rows of ``units``."""
        if self._seen is None or not self._untouched():
            return True
        items = (unit.item for unit in units)
        return any(
            type(part) is Message and part.prefix == VERSION
            for item in items
            if type(item) is Transaction
            for part in item.items
        )

    async def _commit(self, units: Sequence[Unit]) -> None:
        try:
            if not await self._in_one_exchange(units):
                await self._transaction(units, careful=False)
        except Exception as error:
            await self._roll_back()
            if not is_about_data(error) or final(error):
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
        work = self._plan(units, state, epoch)
        if self._both is not None and self._looks(work):
            await self._settle_steps(self._both, work, untouched=self._untouched(), careful=careful)
        else:
            await self._steps.do(work.steps, careful=careful, last=True)
        await self._finish(work, units)

    def _plan(self, units: Sequence[Unit], state: str, epoch: int) -> Work:
        stay = self._both is not None and self.job.direction is Direction.FORWARD
        items = (unit.item for unit in units)
        return plan(items, self.job.context, state, epoch, self.applied.activated, self._steps.skips, writers_stay=stay)

    def _looks(self, work: Work) -> bool:
        """Whether this side may have changes of its own in the rows that ``work`` is about."""
        return bool(work.versions) or not self._untouched()

    async def _settle_steps(self, settling: Both, work: Work, *, untouched: bool, careful: bool) -> None:
        """Apply to a side that writes too."""
        lsns = {step.lsn for step in work.steps if isinstance(step, Rows)}
        # Of which all changes were left out by a person: they count as seen nevertheless.
        left_out = sorted({lsn for lsn, _, _ in self._steps.skips} & work.versions.keys() - lsns)
        steps: list[Step] = [*(Rows(lsn, (), ()) for lsn in left_out), *work.steps]
        for kind, group in itertools.groupby(steps, key=type):
            if kind is Rows:
                rows = [cast(Rows, step) for step in group]
                versioned = [(step, work.versions.get(step.lsn, ())) for step in rows]
                await settling.apply(versioned, untouched=untouched, careful=careful)
                continue
            for step in group:
                if isinstance(step, Truncate) and not untouched:
                    settling.refuse(step, careful=careful)
                await self._steps.do([step], careful=careful)

    async def _in_one_exchange(self, units: Sequence[Unit]) -> bool:
        """Apply a few ordinary rows, which nearly every commit is, without waiting for the server in between.

        The ownership is taken to be what it was last, and the exchange fails where it is not. False: these units want
        more, or the server refused something; nothing is done then.
        """
        if self._seen is None or not all(type(unit.item) is Transaction for unit in units):
            return False
        work = self._plan(units, *self._seen)
        if self._both is not None and self._looks(work):
            return False
        changes = inline.changes_of(work.steps)
        batch = inline.folded(changes, self._staging.keys, self._staging.by_source) if changes is not None else None
        if batch is None:
            return False
        types = {here.relation: await self._staging.types_of(here.relation) for here in batch}
        wanted = inline.plan(batch, self._staging.by_target, types)
        if wanted is None:
            return False
        after = applied.after(self.applied, units, work.activated)
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
        await self._commit_at(work, applied.after(self.applied, units, work.activated))

    async def _commit_at(self, work: Work, after: Applied) -> None:
        try:
            async with self._conn.pipeline():  # one exchange: what comes after a statement that fails is not done
                for statement in self._staging.put_off:
                    await self._staging.execute(statement)
                self._staging.put_off = []
                await self._record(work)
                await self._advance(after)
                await self._conn.execute("COMMIT")
        except psycopg.errors.DivisionByZero as error:
            said = "another worker has moved the position meanwhile"
            raise FigError("overtaken", said, "Nothing to do.") from error
        self._staging.settle()
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
            work = plan((unit.item,), self.job.context, state, epoch, whole.activated, self._steps.skips)
            await self._staging.savepoint()
            try:
                await self._steps.do(work.steps, careful=False)
            except Exception as error:
                if not is_about_data(error):
                    raise
                await self._staging.undo()
                await self._steps.do(work.steps, careful=True)
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

    async def let_go(self) -> None:
        """Undo what came of a transaction whose end does not come."""
        await self._roll_back()

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
        self._staging.put_off = []
        if self._conn.closed or self._conn.broken:
            return
        # psycopg takes what it was about to prepare in an exchange that failed for prepared, and forgets it at a
        # ROLLBACK only if it sees that statement for the first time.
        await self._conn.execute(f"ROLLBACK -- {next(self._numbers)}".encode())
        await self._staging.forget()

    async def _stop(self, culprit: Culprit) -> None:
        placed, job = culprit.placed, self.job
        code, text = said(culprit.error)
        if culprit.conflict is not None:
            await self._conn.execute(*culprit.conflict)
        parked = await postgres.value(
            self._conn,
            _sql.park_error,
            (
                *(*job.place, *placed.at, placed.row),
                *(Jsonb(as_json(placed)), f"{text} [{code}]", culprit.statement),
            ),
        )
        raise Stopped(parked, stopped_error(as_json(placed), f"{text} [{code}]", parked)) from culprit.error
