"""Capture: a flow's changes out of its source database into the log, for as long as it is wanted.

Everything it needs to go on after any death is in the source's slot and in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import psycopg

from stranglerfig.capture import model, relay, slot, snapshot, wire
from stranglerfig.capture.debezium import Through
from stranglerfig.capture.facts import Facts
from stranglerfig.capture.job import CaptureJob
from stranglerfig.capture.mariadb import life as mariadb
from stranglerfig.capture.memory import Memory, forget, resume
from stranglerfig.capture.model import PERMANENT, Server, State
from stranglerfig.capture.parting import Parting
from stranglerfig.capture.relay import Relay
from stranglerfig.capture.stream import Stream
from stranglerfig.capture.writing import Life
from stranglerfig.changes.model import Direction, names
from stranglerfig.changes.spread import Spread
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, mysql, postgres
from stranglerfig.foundation.errors import FigError

__all__ = ["CaptureJob", "forget", "pause", "remove", "resume", "run"]

Report = Callable[[dict[str, Any]], Awaitable[None]]

_REPORT_EVERY = 0.5
_LOCK_TIMEOUT_MS = 3000


async def run(job: CaptureJob, log: EventLog, report: Report) -> None:
    """Capture until cancelled. What fails is reported and tried again; nothing is raised for it.

    ``report`` gets a dict as of :meth:`Facts.report` about twice a second, and at once when the state changes.
    """
    facts = Facts()
    async with asyncio.TaskGroup() as group:
        group.create_task(_tell(facts, report))
        group.create_task(_keep_on(job, Memory(log, job.context, job.direction), facts))


async def _tell(facts: Facts, report: Report) -> None:
    while True:
        await report(facts.report())
        await clock.signalled(facts.changed, timeout=_REPORT_EVERY)
        facts.changed.clear()


async def _keep_on(job: CaptureJob, memory: Memory, facts: Facts) -> None:
    pause = 0.1
    while True:
        begun = clock.monotonic()
        try:
            await _once(job, memory, facts)
        except FigError as error:
            failed = error
        except (psycopg.Error, OSError) as error:
            failed = (mysql if mysql.is_mysql(job.dsn) else postgres).unreachable(job.dsn, error)
        if failed.code == "incompatible_ddl":
            facts.become("paused", failed)
            await _accepted(memory, str(failed.context["table"]))
            continue
        permanent = failed.code in PERMANENT
        facts.become("failed" if permanent else "starting", failed)
        if clock.monotonic() - begun > 10:
            pause = 0.1
        await asyncio.sleep(3.0 if permanent else pause)
        pause = min(pause * 2, 3.0)


async def _accepted(memory: Memory, table: str) -> None:
    """Wait until a person accepts the table's new shape."""

    async def accepted() -> bool:
        try:
            state = await memory.state()
        except FigError:
            return False
        return state is not None and table in state.accepted

    while True:
        try:
            await clock.until(accepted, timeout=3600, what="acceptance", at_most=1.0)
            return
        except FigError:
            continue


async def _once(job: CaptureJob, memory: Memory, facts: Facts) -> None:
    """One life: place checked or made, then the stream until it fails."""
    if mysql.is_mysql(job.dsn):
        await _once_from_mariadb(job, memory, facts)
        return
    partitions = await memory.prepare(job.spread.partitions if job.spread is not None else 1)
    wanted = job.wanted(partitions)
    async with postgres.session(job.dsn, what=job.what) as conn:
        server = await slot.server(conn)
        if job.through is not None:
            await relay.check(conn, job.published)
        state = await memory.state()
        if model.must_begin(state, wanted=job.snapshot, generation=job.generation):
            state = await _begin(job, conn, server, state, memory, facts, wanted)
        else:
            assert state is not None
            model.check_engine(state, job.engine)
            name = state.slot
            found = await slot.facts(conn, name)
            published = await slot.publication(conn, name)
            model.check_place(state, server, found, published, frozenset(job.published))
    parting = None
    if state.spreads or wanted.partitions > 1:
        durable = tuple([await memory.durable(state, number) for number in range(partitions)])
        parting = Parting(wanted, server.lsn, durable)
    after = await memory.durable(state) if parting is None else parting.after
    life = Life(job, memory, facts, state, after, parting)
    await (Stream(life) if job.through is None else Relay(life, job.through)).run()


async def _once_from_mariadb(job: CaptureJob, memory: Memory, facts: Facts) -> None:
    if job.through is None:
        raise FigError(
            "debezium_needed",
            "the source is a MariaDB, which only Debezium reads",
            "Write capture: debezium into extraction.yaml, and connect: into fig.yaml.",
        )
    if job.spread is not None and job.spread.partitions > 1:
        raise FigError(
            "partitions_unsupported",
            "the changes of a MariaDB cannot be divided over several partitions yet",
            "Write partitions: 1 into extraction.yaml.",
        )
    await mariadb.once(job, job.through, memory, facts)


async def _begin(
    job: CaptureJob,
    conn: postgres.Connection,
    server: Server,
    former: State | None,
    memory: Memory,
    facts: Facts,
    wanted: Spread,
) -> State:
    """A new slot, and what the tables held when it was made."""
    name = names(job.context, job.direction).slot
    if job.through is not None:
        # First, for a connector that finds its slot gone makes another, which begins too late.
        await relay.retire(job.through, job.context, job.direction)
    await slot.drop_slot(conn, name)
    published = await slot.ensure_publication(conn, name, job.published)
    options = f"-c lock_timeout={_LOCK_TIMEOUT_MS}"
    sender = await wire.walsender(job.dsn, what=job.what, options=options)
    try:
        point, exported = await slot.create(sender, conn, name, export=job.snapshot, version=server.version)
        state = State(
            slot=name,
            system=server.system,
            timeline=server.timeline,
            publication=published.oid,
            asked=job.generation,
            generation=1 if former is None else former.generation + 1,
            snapshot="begun" if job.snapshot else "none",
            created=point,
            acknowledged=point,
            engine=job.engine,
            spreads=_first_spreads(job, former, wanted),
        )
        await memory.remember(state)
        if not job.snapshot:
            return state
        assert exported is not None
        facts.become("snapshot")
        # A streamed transaction's commit may stand at the consistent point itself; the snapshot stands before it.
        relations = await snapshot.take(
            job.dsn,
            job.what,
            job.tables,
            exported,
            point - 1,
            state.generation,
            memory,
            facts,
            partitions=wanted.partitions,
        )
    finally:
        await wire.hang_up(sender)
    state = replace(state, snapshot="done", relations=tuple(relations))
    await memory.remember(state)
    return state


def _first_spreads(job: CaptureJob, former: State | None, wanted: Spread) -> tuple[tuple[int, Spread], ...]:
    """What holds from the new slot on: the wanted spread where nothing was before it, or behind a snapshot's barrier;
    else the former one, until the stream turns."""
    spread = wanted if former is None or job.snapshot else former.spread
    return ((0, spread),) if spread.partitions > 1 else ()


async def pause(context: str, direction: Direction, through: Through | None) -> None:
    """Nobody reads a flow's slot that is no longer wanted: what reads it in Connect goes on by itself otherwise."""
    if through is not None:
        await relay.pause(through, context, direction)


async def remove(dsn: str, context: str, direction: Direction, through: Through | None = None) -> None:
    """Drop a flow's slot and publication at its source, and what it has in Connect and Kafka; none is no error."""
    if mysql.is_mysql(dsn):
        if through is not None:
            await relay.retire(through, context, direction)
        return
    # The slot first: a capture that is still being ended finds it lost, and does not make its connector again.
    await slot.remove(dsn, context, direction)
    if through is not None:
        await relay.retire(through, context, direction)
        await slot.remove(dsn, context, direction)  # which a connector that was starting may have made again
