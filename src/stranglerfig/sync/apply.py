"""Changes out of the log into a database, exactly once: the loop around :class:`~stranglerfig.sync.target.Target`.

The whole flow stops at a change that cannot be applied, not its table alone: changes of other tables that come after
it may refer to it or rest on it (foreign keys, the transaction it belongs to), and a position that had passed it would
say that it is in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
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
)
from stranglerfig.eventlog.model import Record
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import barriers, ends
from stranglerfig.sync.applied import Unit
from stranglerfig.sync.decisions import Place
from stranglerfig.sync.ends import Deciding, Target, open_target
from stranglerfig.sync.latencies import BOUNDS
from stranglerfig.sync.model import follows, log_gap, position_of, remaining, whole
from stranglerfig.sync.progress import Progress
from stranglerfig.sync.refusals import Stopped, is_about_data
from stranglerfig.sync.target import SyncJob, prepare

__all__ = ["BOUNDS", "SyncJob", "prepare", "retry", "run", "skip"]

Report = Callable[[dict[str, Any]], Awaitable[None]]

BATCH_ROWS = 8_000
"""Rows of streamed transactions per commit; a larger transaction is applied whole."""
SNAPSHOT_ROWS = 50_000
"""Rows of a snapshot per commit."""
REPORT_SECONDS = 0.5
TOUCH_SECONDS = 2.0
"""Between two words to a target for which there is nothing."""
_YIELD = 256

log_ = logging.getLogger(__name__)


async def run(job: SyncJob, log: EventLog, report: Report, *, urgent: asyncio.Event | None = None) -> None:
    """Apply the change topic to the target until cancelled; survives the target's and the log's restarts.

    ``report`` is called at most twice a second; ``latency_histogram`` is ``[upper bound in ms, transactions]`` pairs
    since this call, on the fixed bounds :data:`BOUNDS`. ``urgent`` is set when a marker is read.
    """
    progress = Progress(job, urgent or asyncio.Event())
    reporter = tasks.spawn(_reports(progress, log, report), name=f"sync report {job.context} {job.direction}")
    pause = 0.05
    try:
        while True:
            begun = clock.monotonic()
            try:
                async with open_target(job) as target:
                    progress.opened()
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


_PASSING = frozenset({"database_unreachable", "origin_busy", "overtaken", "log_unreachable", "rows_busy", "timed_out"})


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
    return "starting", ends.unreachable(job.dsn, error)


async def _decision(job: SyncJob, parked: int) -> None:
    """Wait until a person has decided about a parked change."""

    place = Place(*job.place)
    async with ends.decisions(job.dsn) as changes:

        async def decided() -> bool:
            try:
                return await changes.waiting(place) != parked
            except (FigError, psycopg.Error):
                return False  # the target is away; it will come back

        await clock.until(decided, timeout=float("inf"), what="a decision about a change", every=0.1, at_most=0.5)


async def _reports(progress: Progress, log: EventLog, report: Report) -> None:
    """Tell how it goes; a report that cannot be delivered is tried again with the next."""
    job = progress.job
    place = Place(*job.place)
    try:
        async with ends.decisions(job.dsn) as parked:
            while True:
                with suppress(FigError, psycopg.Error, OSError):
                    topic = await log.topic(job.topic)
                    there = topic is not None and job.partition < len(topic.next_positions)
                    progress.log_end = topic.next_positions[job.partition] if topic is not None and there else None
                    if progress.state in ("applying", "snapshot", "stopped"):
                        progress.parked = await parked.count(place)
                        if job.rules is not None:
                            progress.conflicts = await parked.conflicts(place)
                            await _look_for_blockers(progress, parked)
                await _deliver(progress, report)
                await asyncio.sleep(REPORT_SECONDS)
    finally:
        await _deliver(progress, report)


async def _look_for_blockers(progress: Progress, parked: Deciding) -> None:
    """Note whose transactions hold rows that sync needs; who was found stays named until sync has got in."""
    waiting = progress.target.waiting if progress.target is not None else None
    if waiting is None:
        progress.waits_for = []
    elif found := await parked.blockers(waiting):
        progress.waits_for = found


async def _deliver(progress: Progress, report: Report) -> None:
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


async def _follow(job: SyncJob, log: EventLog, target: Target, progress: Progress) -> None:
    progress.begin(target)
    batch = _Batch(target, progress)
    assembler = frames.Assembler()
    try:
        async with _reading(log, job.topic, job.partition, target.applied.log_position) as queue:
            while True:
                _show(progress)
                records = await _next(queue, target)
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


async def _next(queue: asyncio.Queue[list[Record] | Exception], target: Target) -> list[Record] | Exception:
    """What was read; while there is nothing, the target hears that we are there."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(TOUCH_SECONDS):
                return await queue.get()
        await target.touch()


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


def _show(progress: Progress) -> None:
    applied = progress.applied
    copying = applied.snapshot_began_at is not None and applied.snapshot_ended_at is None
    progress.state = "snapshot" if copying else "applying"


class _Batch:
    """Items that will be in one commit; drops what is in already, hands large transactions on part by part."""

    def __init__(self, target: Target, progress: Progress) -> None:
        self._target = target
        self._progress = progress
        self._units: list[Unit] = []
        self._rows = 0
        self._limit = BATCH_ROWS
        self._seen = target.applied.position
        self._generation = target.applied.generation
        self._large = 0
        self._held: list[Transaction] = []
        self._begun: Transaction | None = None
        self._committing: asyncio.Task[Exception | None] | None = None

    def take(self, item: Item, log_position: int) -> bool:
        """Take an ordinary transaction, nearly always what comes, without the cost of a coroutine; False: not taken."""
        if type(item) is not Transaction or self._begun or not item.end or item.first != 1 or item.lsn <= self._seen[0]:
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
                    await self._let_go()
                await self.flush()
            self._units.append(unit)
            if isinstance(rest, SnapshotChunk):
                self._rows += rest.rows
                self._limit = SNAPSHOT_ROWS
            else:
                await self.flush()

    async def _let_go(self) -> None:
        """What came of a transaction without its end is in the copy that begins; the rest of it never comes."""
        self._held, self._begun = [], None
        if self._large:
            await self._target.let_go()
            self._large = 0

    async def _transaction(self, unit: Unit, item: Transaction) -> None:
        if self._begun is not None and not follows(item, self._begun):
            raise log_gap(item)
        self._begun = None if item.end else item
        if self._target.job.rules is not None and not (item.end and item.first == 1):
            # Where both sides write, a row is settled by all that its transaction did to it.
            self._held.append(item)
            if not item.end:
                await self.settled()
                await self._target.touch()
                return
            item = whole(self._held)
            self._held = []
            unit = Unit(item, unit.log_position)
        if not self._large and item.end:
            self._units.append(unit)
            self._rows += len(item.items)
            return
        if not self._large:
            await self.flush()
            await self.settled()
            if item.first != 1:
                raise log_gap(item)
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
        if await barriers.passed(barrier, target.job.partition, target.places):
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
    async with ends.decisions(dsn) as changes:
        if not await changes.resolve(Place(context, direction), parked, resolution):
            raise FigError(
                "unknown_parked",
                f"no change {parked} of the {direction} flow of '{context}' waits for a decision",
                "See fig status for the changes that wait.",
                parked=parked,
            )
