"""Changes out of the log into a database, exactly once: the loop around :class:`~stranglerfig.sync.target.Target`.

The whole flow stops at a change that cannot be applied, not its table alone: changes of other tables that come after
it may refer to it or rest on it (foreign keys, the transaction it belongs to), and a position that had passed it would
say that it is in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from stranglerfig.changes import frames
from stranglerfig.changes.model import (
    Barrier,
    Direction,
    Item,
    SnapshotChunk,
    SnapshotEdge,
    SourcePosition,
    Transaction,
    lsn_text,
)
from stranglerfig.eventlog.model import Record, shown
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.sql import load
from stranglerfig.sync import barriers
from stranglerfig.sync.model import BOUNDS, Histogram, Window, position_of, remaining
from stranglerfig.sync.target import Applied, Stopped, SyncJob, Target, Unit, is_about_data, open_target, prepare
from stranglerfig.telemetry import traces

__all__ = ["BOUNDS", "SyncJob", "prepare", "retry", "run", "skip"]

Report = Callable[[dict[str, Any]], Awaitable[None]]

BATCH_ROWS = 8_000
"""Rows of streamed transactions per commit; a larger transaction is applied whole."""
SNAPSHOT_ROWS = 50_000
"""Rows of a snapshot per commit."""
REPORT_SECONDS = 0.5
CATCHING_UP = 60.0
"""Seconds after a copy within which the stream may catch up with what was written meanwhile."""
CAUGHT_UP = 1.0
"""Seconds behind which a stream counts as caught up."""
_YIELD = 256
_WIDEST = 2**53 - 1

_sql = load(__package__ or "")
log_ = logging.getLogger(__name__)


@dataclass(slots=True)
class _Progress:
    """What the reports say."""

    job: SyncJob
    urgent: asyncio.Event
    state: str = "starting"
    error: FigError | None = None
    applied: Applied = field(default_factory=Applied)
    log_end: int | None = None
    rows: int = 0
    transactions: int = 0
    parked: int = 0
    live: float = 0.0
    latencies: Histogram = field(default_factory=Histogram)
    window: Window = field(default_factory=Window)
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=20))

    def committed(self, units: Sequence[Unit], applied: Applied, rows: int) -> None:
        """Count what one commit brought."""
        self.applied = applied
        now = clock.epoch()
        here = Histogram()
        live = self._live_from(units, now) * 1e6
        for unit in units:
            item = unit.item
            if isinstance(item, Transaction) and item.end:
                self.transactions += 1
                if item.committed_at > live:
                    here.add(max(0.0, now * 1000 - item.committed_at / 1000))
                if item.trace is not None:
                    name = f"apply {self.job.context} {self.job.direction}"
                    traces.record(name, item.trace, item.committed_at / 1e6, now, lsn=lsn_text(item.lsn))
        if here.count:
            self.latencies.merge(here)
            self.window.merge(int(now), here)
        self.rows += rows

    def _live_from(self, units: Sequence[Unit], now: float) -> float:
        """From when on latencies count, in seconds since 1970.

        What was written while the copy was made arrives late by its nature, and so does what was written until the
        stream has caught up with it for the first time; neither says anything about the stream. It has a minute.
        """
        ended = self.applied.snapshot_ended_at
        if ended is None:
            return self.live
        copied = ended.timestamp()
        if self.live < copied:
            newest = max((u.item.committed_at / 1e6 for u in units if isinstance(u.item, Transaction)), default=0.0)
            if now - copied > CATCHING_UP:
                self.live = copied + CATCHING_UP
            elif newest > copied and now - newest < CAUGHT_UP:
                self.live = max(copied, now - CAUGHT_UP)
            else:
                return now
        return self.live

    @property
    def behind(self) -> int:
        """How many records of the log are not in yet; where positions have gaps, how many at most."""
        return min(max(0, (self.log_end or 0) - self.applied.log_position), _WIDEST)

    def report(self) -> dict[str, Any]:
        """The report's keys as ``fig status`` and the gates read them; times in seconds but where named otherwise."""
        applied = self.applied
        now = clock.monotonic()
        self.recent.append((now, self.rows))
        then, rows = self.recent[0]
        rate = (self.rows - rows) / (now - then) if now > then else 0.0
        began, ended = applied.snapshot_began_at, applied.snapshot_ended_at
        seconds = ((ended or clock.now()) - began).total_seconds() if began else None
        left = None
        if began and not ended and seconds and applied.snapshot_rows:
            left = round((applied.snapshot_total - applied.snapshot_rows) * seconds / applied.snapshot_rows, 1)
        committed = applied.source_committed_at
        return {
            "state": self.state,
            "error": self.error.as_dict() if self.error else None,
            "generation": applied.generation,
            "applied_lsn": lsn_text(applied.lsn),
            "applied_ordinal": applied.ordinal,
            "activated": applied.activated,
            "log_position": shown(applied.log_position),
            "log_end": None if self.log_end is None else shown(self.log_end),
            "behind": self.behind,
            "snapshot_rows": applied.snapshot_rows,
            "snapshot_total": applied.snapshot_total,
            "snapshot_done": ended is not None,
            "snapshot_seconds": round(seconds, 3) if seconds is not None else None,
            "remaining_seconds": left,
            "rows": self.rows,
            "transactions": self.transactions,
            "rate": round(rate, 1),
            "latency_ms": self.window.total(int(clock.epoch())).summary(),
            "latency_total_ms": self.latencies.summary(),
            "latency_histogram": self.latencies.pairs(),
            "parked": self.parked,
            "last_source_committed_at": committed / 1e6 if committed is not None else None,
        }


async def run(job: SyncJob, log: EventLog, report: Report, *, urgent: asyncio.Event | None = None) -> None:
    """Apply the change topic to the target until cancelled; survives the target's and the log's restarts.

    ``report`` is called at most twice a second; ``latency_histogram`` is ``[upper bound in ms, transactions]`` pairs
    since this call, on the fixed bounds :data:`BOUNDS`. ``urgent`` is set when a marker is read.
    """
    progress = _Progress(job, urgent or asyncio.Event())
    reporter = tasks.spawn(_reports(progress, log, report), name=f"sync report {job.context} {job.direction}")
    pause = 0.05
    try:
        while True:
            begun = clock.monotonic()
            try:
                async with open_target(job) as target:
                    progress.error = None
                    await _follow(job, log, target, progress)
            except Stopped as stopped:
                log_.error("sync stopped: %s", stopped, extra={"action": "sync_stopped", "parked": stopped.parked})
                progress.state, progress.error = "stopped", stopped.error
                await _decision(job, stopped.parked)
                progress.state = "starting"
            except (FigError, psycopg.Error, OSError) as error:
                progress.state, progress.error = _judge(job, error)
                log_.warning("sync starts again: %s", error, extra={"action": "sync_restart"})
            else:
                continue
            if clock.monotonic() - begun > 10:
                pause = 0.05
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 1.0)
    finally:
        await tasks.stop(reporter)


_PASSING = frozenset({"database_unreachable", "origin_busy", "overtaken", "log_unreachable", "timed_out"})


def _judge(job: SyncJob, error: Exception) -> tuple[str, FigError]:
    """Whether an error passes by itself (a server that restarts) or wants a person; either way it is tried again."""
    if isinstance(error, FigError):
        return ("starting" if error.code in _PASSING else "stopped"), error
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        said = error.diag.message_primary or str(error)
        return "stopped", FigError("missing_privilege", said, "fig plan lists the grants that sync needs.")
    if is_about_data(error):
        said = str(error).strip().splitlines()[0]
        return "stopped", FigError("apply_failed", said, "Correct the target; sync tries again by itself.")
    return "starting", postgres.unreachable(job.dsn, error)


async def _decision(job: SyncJob, parked: int) -> None:
    """Wait until a person has decided about a parked change."""

    async def decided() -> bool:
        try:
            async with postgres.session(job.dsn, what="sync waits") as conn:
                row = await postgres.one(conn, _sql.waiting_error, job.place)
                return row is None or row[0] != parked
        except (FigError, psycopg.Error):
            return False  # the target is away; it will come back

    await clock.until(decided, timeout=float("inf"), what="a decision about a change", every=0.1, at_most=0.5)


async def _reports(progress: _Progress, log: EventLog, report: Report) -> None:
    """Tell how it goes; a report that cannot be delivered is tried again with the next."""
    job = progress.job
    kept = postgres.Kept(job.dsn, what="sync report")
    try:
        while True:
            try:
                topic = await log.topic(job.topic)
                there = topic is not None and job.partition < len(topic.next_positions)
                progress.log_end = topic.next_positions[job.partition] if topic is not None and there else None
                if progress.state in ("applying", "snapshot", "stopped"):
                    async with kept.session() as conn:
                        row = await postgres.one(conn, _sql.count_parked, job.place)
                        progress.parked = sum(row) if row else 0
            except (FigError, psycopg.Error, OSError):
                pass
            await _deliver(progress, report)
            await asyncio.sleep(REPORT_SECONDS)
    finally:
        await kept.close()
        await _deliver(progress, report)


async def _deliver(progress: _Progress, report: Report) -> None:
    try:
        await report(progress.report())
    except (FigError, psycopg.Error, OSError) as error:
        log_.warning("a report was not taken: %s", error, extra={"action": "report_failed"})


@asynccontextmanager
async def _reading(
    log: EventLog, topic: str, partition: int, position: int
) -> AsyncIterator[asyncio.Queue[list[Record] | Exception]]:
    """Read ahead while rows are applied, by at most two reads' bytes."""
    queue: asyncio.Queue[list[Record] | Exception] = asyncio.Queue(maxsize=2)

    async def read() -> None:
        here = position
        try:
            while True:
                records = await log.read(topic, partition, here, wait=1.0)
                if records:
                    here = records[-1].position + 1
                    await queue.put(records)
        except Exception as error:  # noqa: BLE001  whoever takes from the queue raises it
            await queue.put(error)

    task = tasks.spawn(read(), name=f"sync reads {topic}")
    try:
        yield queue
    finally:
        await tasks.stop(task)


async def _follow(job: SyncJob, log: EventLog, target: Target, progress: _Progress) -> None:
    progress.applied = target.applied
    batch = _Batch(target, progress)
    assembler = frames.Assembler()
    try:
        async with _reading(log, job.topic, job.partition, target.applied.log_position) as queue:
            while True:
                _show(progress)
                records = await queue.get()
                if isinstance(records, Exception):
                    if isinstance(records, FigError) and records.code in ("unknown_topic", "unknown_partition"):
                        await asyncio.sleep(0.2)  # capture has not made it yet
                        return
                    raise records
                for record in records:
                    if record.event.subject == frames.URGENT:
                        progress.urgent.set()
                    if (frame := assembler.take(record)) is not None:
                        await _take(frame, batch)
                if queue.empty():  # never linger: what has arrived is applied now
                    await batch.flush()
                    await batch.settled()
    finally:
        await batch.stop()


async def _take(frame: frames.Frame, batch: _Batch) -> None:
    items = frames.decode(frame.content_type, frame.data)
    for number, item in enumerate(items, start=1):
        place = frame.begins if number < len(items) else frame.ends + 1
        if not batch.take(item, place):
            await batch.add(item, place)
        if batch.full:
            await batch.flush()
        elif not number % _YIELD:
            await asyncio.sleep(0)  # the commit under way has something to say to the server


def _show(progress: _Progress) -> None:
    applied = progress.applied
    copying = applied.snapshot_began_at is not None and applied.snapshot_ended_at is None
    progress.state = "snapshot" if copying else "applying"


class _Batch:
    """Items that will be in one commit; drops what is in already, hands large transactions on part by part."""

    def __init__(self, target: Target, progress: _Progress) -> None:
        self._target = target
        self._progress = progress
        self._units: list[Unit] = []
        self._rows = 0
        self._limit = BATCH_ROWS
        self._seen = target.applied.position
        self._generation = target.applied.generation
        self._large = 0
        self._committing: asyncio.Task[Exception | None] | None = None

    def take(self, item: Item, log_position: int) -> bool:
        """Take an ordinary transaction, nearly always what comes, without the cost of a coroutine; False: not taken."""
        if type(item) is not Transaction or self._large or not item.end or item.first != 1 or item.lsn <= self._seen[0]:
            return False
        self._units.append(Unit(item, log_position))
        count = len(item.items)
        self._rows += count
        self._seen = SourcePosition(item.lsn, item.first + max(count, 1) - 1)
        return True

    async def add(self, item: Item, log_position: int) -> None:
        """Take one more item; commits when there are enough."""
        rest = remaining(item, self._generation, self._seen)
        if rest is None:
            return
        self._seen = position_of(rest)
        unit = Unit(rest, log_position)
        if isinstance(rest, Transaction):
            await self._transaction(unit, rest)
        elif isinstance(rest, Barrier):
            await self._barrier(rest, log_position)
        else:
            if isinstance(rest, SnapshotEdge):
                if rest.begins:
                    self._generation = rest.generation
                await self.flush()
            self._units.append(unit)
            if isinstance(rest, SnapshotChunk):
                self._rows += rest.rows
                self._limit = SNAPSHOT_ROWS
            else:
                await self.flush()

    async def _transaction(self, unit: Unit, item: Transaction) -> None:
        if not self._large and item.end:
            self._units.append(unit)
            self._rows += len(item.items)
            return
        if not self._large:
            await self.flush()
            await self.settled()
            if item.first != 1:
                raise FigError(
                    "log_gap",
                    f"the first part of the transaction at {lsn_text(item.lsn)} is not in the log",
                    "Take the snapshot again (fig abort, then fig advance).",
                )
            await self._target.begin_large()
        self._large += len(item.items)
        await self._target.part(unit)
        if item.end:
            self._progress.committed([unit], self._target.applied, self._large)
            self._large = 0

    async def _barrier(self, barrier: Barrier, log_position: int) -> None:
        """Have everything before it in; then wait for those who must come first, or let them know."""
        await self.flush()
        await self.settled()
        target = self._target
        await target.look_away()
        first = target.job.partition == 0
        if first and not barrier.closes:
            # Not stood at: what it is about follows, and whoever dies meanwhile waits here again.
            await barriers.await_others(barrier, target.places)
            return
        if not first:
            if barrier.closes:
                await barriers.await_first(barrier, target.places)
            self._generation = max(self._generation, barrier.generation)
        await target.stand_at(barrier, log_position)
        self._progress.applied = target.applied

    @property
    def full(self) -> bool:
        """Whether there is enough for a commit."""
        return self._rows >= self._limit

    async def flush(self) -> None:
        """Have what there is committed, beside the reading of what comes next; one commit at a time."""
        if self._units and not self._large:
            await self.settled()
            units, rows = self._units, self._rows
            self._units, self._rows, self._limit = [], 0, BATCH_ROWS
            self._committing = tasks.spawn(self._commit(units, rows), name="sync commits")

    async def _commit(self, units: list[Unit], rows: int) -> Exception | None:
        try:
            await self._target.commit(units)
        except Exception as error:  # noqa: BLE001  raised by settled(), where it is handled
            return error
        self._progress.committed(units, self._target.applied, rows)
        _show(self._progress)
        return None

    async def settled(self) -> None:
        """Wait until what was handed over is in.

        Raises:
            Stopped, FigError, psycopg.Error: what the commit failed with.
        """
        task, self._committing = self._committing, None
        if task is not None and (error := await task) is not None:
            raise error

    async def stop(self) -> None:
        """Let go of a commit that is under way."""
        if self._committing is not None:
            await tasks.stop(self._committing)


async def skip(dsn: str, context: str, direction: Direction, parked: int) -> None:
    """Leave the change ``parked`` (its id in ``fig.parked``) out, and go on after it.

    Raises:
        FigError: ``unknown_parked`` when no change of this id waits; ``database_unreachable``.
    """
    await _resolve(dsn, context, direction, parked, "skip")


async def retry(dsn: str, context: str, direction: Direction, parked: int) -> None:
    """Try the change ``parked`` once more, after the target was corrected.

    Raises:
        FigError: as :func:`skip`.
    """
    await _resolve(dsn, context, direction, parked, "retry")


async def _resolve(dsn: str, context: str, direction: Direction, parked: int, resolution: str) -> None:
    async with postgres.session(dsn, what=f"sync {resolution}") as conn:
        cursor = await conn.execute(_sql.resolve, (resolution, context, direction, parked))
        if cursor.rowcount != 1:
            raise FigError(
                "unknown_parked",
                f"no change {parked} of the {direction} flow of '{context}' waits for a decision",
                "See fig status for the changes that wait.",
                parked=parked,
            )
