"""A flow from a MariaDB: its place checked or made, its snapshot taken, then the stream until it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stranglerfig.capture import model, relay
from stranglerfig.capture.debezium import Through
from stranglerfig.capture.facts import Facts
from stranglerfig.capture.job import CaptureJob
from stranglerfig.capture.mariadb import snapshot
from stranglerfig.capture.mariadb.relay import Relay
from stranglerfig.capture.memory import Memory
from stranglerfig.capture.model import AGAIN, State
from stranglerfig.capture.writing import Life
from stranglerfig.changes.model import HEARTBEAT, lsn_text, names
from stranglerfig.databases.mariadb import binlog, messages, preflight
from stranglerfig.databases.mariadb.binlog import Place
from stranglerfig.databases.mariadb.catalogue import Described
from stranglerfig.foundation import mysql
from stranglerfig.foundation.errors import FigError


def check_place(state: State, here: Place, tables: Sequence[str]) -> None:
    """Refuse to go on where changes may have been missed.

    Raises:
        FigError: ``engine_changed``, ``source_replaced``, ``source_rewound``, ``tables_changed``.
    """
    model.check_engine(state, "debezium")
    if here.server != state.system:
        raise FigError(
            "source_replaced",
            f"the source is another server now (server_uid {here.server}, it was {state.system}), whose binary log"
            " counts otherwise",
            f"Point the configuration at the former server, or: {AGAIN}",
            found=here.server,
            known=state.system,
        )
    # A new file begins with every start of the server: a state from before may end at a later place. Its GTIDs tell.
    if here.number < state.acknowledged or not binlog.includes(here.gtid, state.gtid):
        raise FigError(
            "source_rewound",
            f"the source's binary log ends at {lsn_text(here.number)} ({here.gtid or 'no GTID'}), before"
            f" {lsn_text(state.acknowledged)} ({state.gtid or 'no GTID'}), which was captured: it was reset, or"
            " restored from an older state",
            AGAIN,
            found=lsn_text(here.number),
            known=lsn_text(state.acknowledged),
        )
    known = {relation.qualified for relation in state.relations}
    if state.snapshot == "done" and known != set(tables):
        raise FigError(
            "tables_changed",
            f"the flow was begun with {', '.join(sorted(known))}; configured are {', '.join(sorted(tables))}",
            AGAIN,
            found=sorted(known),
            configured=sorted(tables),
        )


async def once(job: CaptureJob, through: Through, memory: Memory, facts: Facts) -> None:
    """One life of the flow, read by Debezium on the cluster ``through``.

    Raises:
        FigError: what :func:`check_place`, ``preflight.check``, the snapshot and the :class:`Relay` raise.
    """
    await memory.prepare()
    async with mysql.session(job.dsn, what=job.what) as conn:
        described = await preflight.check(conn, job.tables)
        await messages.prepare(conn)
        state = await memory.state()
        if model.must_begin(state, wanted=job.snapshot, generation=job.generation):
            await relay.retire(through, job.context, job.direction)
            # So that there is a transaction to begin after.
            await messages.emit(conn, HEARTBEAT, "")
            place = await binlog.begin_snapshot(conn)
            begun = State(
                slot=names(job.context, job.direction).slot,
                system=place.server,
                timeline=0,
                publication=0,
                asked=job.generation,
                generation=1 if state is None else state.generation + 1,
                snapshot="begun" if job.snapshot else "none",
                created=place.number,
                acknowledged=place.number,
                engine="debezium",
                gtid=place.gtid,
            )
            await memory.remember(begun)
            state = await _snapshot(conn, described, begun, memory, facts) if job.snapshot else begun
        else:
            assert state is not None
            check_place(state, await binlog.where(conn), job.tables)
    life = Life(job, memory, facts, state, await memory.durable(state))
    await Relay(life, through).run()


async def _snapshot(
    conn: mysql.Connection, described: Mapping[str, Described], state: State, memory: Memory, facts: Facts
) -> State:
    facts.become("snapshot")
    relations = await snapshot.take(conn, described, state.created - 1, state.generation, memory, facts)
    await conn.execute("COMMIT")
    state = replace(state, snapshot="done", relations=tuple(relations))
    await memory.remember(state)
    return state
