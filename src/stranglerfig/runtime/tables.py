"""The control database and the version of ours that works on it: brought forward by what runs, looked at by who asks.

A process of ``fig up`` or ``fig run`` brings all tables forward before it does anything else, in one transaction: they
are as this version wants them, or as they were. A command that only asks changes nothing: on a database of another
version than its own it says so and ends, for a controller of an earlier version may work on it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Final

import psycopg

from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError

log = logging.getLogger(__name__)

ROOMS: Final[Mapping[str, tuple[str, int]]] = {
    "leases": ("eventlog.leases", 1),  # first: the log's groups moved into its table
    "eventlog": ("eventlog.postgres", 3),
    "access": ("access.credentials", 1),
    "alerts": ("runtime.alerting", 1),
    "changes": ("changes.flows", 2),
    "extraction": ("extraction.store", 3),
    "extraction_journal": ("extraction.journal", 1),
    "gates": ("gates.evidence", 1),
    "pubsub": ("eventlog.pubsub", 1),
    "schemas": ("schemas.store", 2),
    "sync_derived": ("sync.derive", 3),
    "verification_answers": ("verification.shadow", 1),
    "verification_rows": ("verification.rows", 1),
}
"""What may be in a control database: the module whose ``TABLES`` say how it is made, and how many steps these are.

The number stands here as well, so that a command need not import every room to know it; a test holds both equal.
"""


async def bring_forward(dsn: str) -> None:
    """Bring every room that is in the control database to this version's step, all or none.

    Rooms that are not there are made by who needs them first.

    Raises:
        FigError: ``newer_schema``; ``upgrade_blocked``.
    """
    async with postgres.session(dsn, what="tables") as conn:
        found = await postgres.steps_done(conn, [*ROOMS])
        _refuse_newer(found)
        behind = [room for room in ROOMS if 0 < found.get(room, 0) < ROOMS[room][1]]
        if "eventlog" in behind:
            await postgres.migrate(conn, *tables_of("leases"))
        if done := await postgres.bring_forward(conn, [tables_of(room) for room in behind]):
            log.info("tables brought forward", extra={"action": "tables_forward", "rooms": done})


def require_same(dsn: str) -> None:
    """See that the control database is as this version's own processes leave it; what is not there yet may be made.

    A database that does not answer is for the command itself to speak of.

    Raises:
        FigError: ``newer_schema``, ``older_schema``.
    """
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5, application_name="fig:tables") as conn:
            rows = conn.execute("SELECT room, max(step) FROM fig.migration GROUP BY 1 ORDER BY 1").fetchall()
    except psycopg.Error:  # away, or nothing of ours is in it yet
        return
    found = {str(room): int(step) for room, step in rows if room in ROOMS}
    _refuse_newer(found)
    for room, step in found.items():
        if step < ROOMS[room][1]:
            raise FigError(
                "older_schema",
                f"the tables of '{room}' are at step {step}, this version works with {ROOMS[room][1]}",
                "An earlier fig wrote them, and may run on them still. End it (fig down) and start this version's:"
                " fig up brings them forward.",
                room=room,
                found=step,
                known=ROOMS[room][1],
            )


def tables_of(room: str) -> postgres.Tables:
    """How a room of the control database is made."""
    found: postgres.Tables = import_module(f"stranglerfig.{ROOMS[room][0]}").TABLES
    return found


def _refuse_newer(found: Mapping[str, int]) -> None:
    for room, step in found.items():
        if step > ROOMS[room][1]:
            raise postgres.newer(room, step, ROOMS[room][1])
