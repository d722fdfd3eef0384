"""The two kinds of a target, told apart by its address: what sync's loop asks of either, and what it leaves there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from psycopg import sql

from stranglerfig.changes.model import Barrier, Direction, names
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import origins, target
from stranglerfig.sync.applied import Applied, Unit
from stranglerfig.sync.barriers import Place as Reached
from stranglerfig.sync.decisions import Decisions, Place
from stranglerfig.sync.mariadb import target as mariadb
from stranglerfig.sync.mariadb.decisions import MariaDBDecisions
from stranglerfig.sync.target import SyncJob


class Target(Protocol):
    """Applies units of the log; what each method raises is the same for both (see ``sync/target.py``)."""

    job: SyncJob
    applied: Applied

    @property
    def waiting(self) -> int | None:
        """The process id of this session at its server while writers keep it out."""
        ...

    async def touch(self) -> None:
        """Say something, now and then: who says nothing for ten seconds loses its place to who waits for it."""
        ...

    async def commit(self, units: Sequence[Unit]) -> None:
        """Apply whole transactions, chunks and edges in one commit."""
        ...

    async def begin_large(self) -> None:
        """Begin a transaction that arrives in parts."""
        ...

    async def part(self, unit: Unit) -> None:
        """Apply one part of it."""
        ...

    async def let_go(self) -> None:
        """Undo what came of a transaction whose end does not come."""
        ...

    async def look_away(self) -> None:
        """From here on rows may come before those they refer to."""
        ...

    async def places(self) -> dict[int, Reached]:
        """How far each partition is in."""
        ...

    async def stand_at(self, barrier: Barrier, log_position: int) -> None:
        """Say that this partition has come to ``barrier``."""
        ...


class Deciding(Protocol):
    """The parked changes of a target; see ``sync/decisions.py``."""

    async def waiting(self, place: Place) -> int | None:
        """The oldest change that waits for a decision."""
        ...

    async def count(self, place: Place) -> int:
        """How many changes are parked."""
        ...

    async def conflicts(self, place: Place) -> int:
        """How many conflicts are recorded."""
        ...

    async def blockers(self, waiting: int) -> list[dict[str, Any]]:
        """Who keeps the session ``waiting`` out: process id, application, and seconds that its transaction is open."""
        ...

    async def resolve(self, place: Place, parked: int, resolution: str) -> bool:
        """``skip`` or ``retry`` a change; whether it waited."""
        ...

    async def listed(self, place: Place) -> list[dict[str, Any]]:
        """The parked changes of a direction."""
        ...


@asynccontextmanager
async def open_target(job: SyncJob) -> AsyncIterator[Target]:
    """A session with the job's target that nobody else has."""
    opened = mariadb.open_target if mysql.is_mysql(job.dsn) else target.open_target
    async with opened(job) as found:
        yield found


@asynccontextmanager
async def decisions(dsn: str) -> AsyncIterator[Deciding]:
    """What is parked in a target; the session is made with the first question."""
    kind = MariaDBDecisions if mysql.is_mysql(dsn) else Decisions
    async with kind(dsn) as found:
        yield found


def unreachable(dsn: str, error: Exception) -> FigError:
    """The one sentence for a target that does not answer."""
    if mysql.is_mysql(dsn):
        return mysql.unreachable(dsn, error)
    return postgres.unreachable(dsn, error)


_KEPT: Final = ("applied", "marker", "parked", "conflict", "conflict_count")
_KEPT_BY_MARIADB: Final = _KEPT[:3]


async def prepare(dsn: str) -> None:
    """Create or bring forward what sync keeps in a target.

    Raises:
        FigError: ``missing_privilege``, ``database_unreachable``.
    """
    if mysql.is_mysql(dsn):
        async with mysql.session(dsn, what="install") as session:
            await mariadb.prepare(session)
        return
    async with postgres.session(dsn, what="install") as conn:
        await target.prepare(conn)


async def busy(dsn: str, context: str) -> bool:
    """Whether a worker of either direction of the context has a session that applies to a target."""
    if mysql.is_mysql(dsn):
        async with mysql.session(dsn, what="quiet") as session:
            return await mariadb.busy(session, [names(context, direction).origin for direction in Direction])
    async with postgres.session(dsn, what="quiet") as conn:
        found = await postgres.value(
            conn,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = ANY (%s) AND datname = current_database()",
            ([f"fig:sync {context} {direction}" for direction in Direction],),
        )
    return bool(found)


async def forget(dsn: str, context: str, direction: Direction) -> None:
    """Remove what sync of a direction left in its target, besides the rows."""
    if mysql.is_mysql(dsn):
        async with mysql.session(dsn, what="uninstall") as session:
            for table in _KEPT_BY_MARIADB:
                await session.execute(f"DELETE FROM fig.{table} WHERE context = %s", (context,))  # noqa: S608
        return
    async with postgres.session(dsn, what="uninstall") as conn:
        await origins.drop(conn, names(context, direction).origin)
        for table in _KEPT:
            await conn.execute(
                sql.SQL("DELETE FROM fig.{} WHERE context = %s").format(sql.Identifier(table)), (context,)
            )
