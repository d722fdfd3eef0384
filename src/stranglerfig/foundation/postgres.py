"""PostgreSQL sessions: how every room connects, with one translation of what a driver may say.

Every session of ours has ``application_name = fig:<what>``, so that an operator sees who is who in
``pg_stat_activity`` and the guards' observations can tell us from the monolith's own code. A service's sessions have
the service's name: they are the team's.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import conninfo
from psycopg.rows import TupleRow

from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError

Connection = psycopg.AsyncConnection[TupleRow]
_PASSES = ("40", "FIG")
"""SQLSTATE of what is to be done again, and of what our guards refuse: the server is there."""
STILL: Final = 10
"""Seconds for which a transaction of a process that says nothing is kept, and an answer that does not come awaited."""


def describe(dsn: str) -> str:
    """Where a DSN points, without its secrets: ``shop@127.0.0.1:5432/shop``."""
    parts = conninfo.conninfo_to_dict(dsn)
    return (
        f"{parts.get('user', '')}@{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
    )


async def connect(dsn: str, *, what: str, autocommit: bool = True, **options: Any) -> Connection:
    """Open a session named ``fig:<what>``, in UTC, with a connect timeout of 5 s; ``options`` may say otherwise.

    Text forms are pinned (ISO dates, ``extra_float_digits=1``, hex bytea), so that the same value reads the same
    on every server: verification and capture rest on it.

    Raises:
        FigError: ``database_unreachable`` with the address (never the password).
    """
    settings = (
        "-c timezone=UTC -c datestyle=ISO,YMD -c intervalstyle=postgres -c extra_float_digits=1 "
        "-c bytea_output=hex -c xmlbinary=base64 -c search_path=public,pg_catalog "
        # What a machine that is gone held (locks, origins) the server lets go of in a minute, not in two hours.
        "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5"
    )
    extra = str(options.pop("options", ""))
    options.setdefault("connect_timeout", 5)
    options.setdefault("application_name", f"fig:{what}")
    try:
        return await psycopg.AsyncConnection.connect(
            dsn,
            autocommit=autocommit,
            options=f"{settings} {extra}".strip(),
            **options,
        )
    except psycopg.OperationalError as error:
        raise unreachable(dsn, error) from error


def is_unreachable(error: BaseException) -> bool:
    """Whether it says that a database is away: what was asked of it is not at fault."""
    return isinstance(error, FigError) and error.code == "database_unreachable"


def unreachable(dsn: str, error: Exception) -> FigError:
    """The one sentence for a database that does not answer."""
    return FigError(
        "database_unreachable",
        f"the database {describe(dsn)} cannot be reached: {(str(error).strip().splitlines() or [''])[-1]}",
        "Check that the server runs and that the address, role and password in the configuration are right.",
        database=describe(dsn),
    )


@asynccontextmanager
async def session(dsn: str, *, what: str, autocommit: bool = True, **options: Any) -> AsyncIterator[Connection]:
    """A session for the length of a block; closed whatever happens."""
    conn = await connect(dsn, what=what, autocommit=autocommit, **options)
    try:
        yield conn
    finally:
        await conn.close()


class Kept:
    """A session that stays from call to call, one user at a time, and is made anew when the server was away.

    For who asks every second or more often: connecting costs the server more than most questions do.
    """

    def __init__(self, dsn: str, *, what: str) -> None:
        self._dsn = dsn
        self._what = what
        self._conn: Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """The session, in autocommit.

        Raises:
            FigError: ``database_unreachable``, also when the server goes while the block runs.
        """
        async with self._one_at_a_time:
            if self._conn is None or self._conn.closed:
                self._conn = await connect(self._dsn, what=self._what)
            try:
                yield self._conn
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                await self.close()
                raise unreachable(self._dsn, error) from error

    async def close(self) -> None:
        """End the session; the next call makes another."""
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()


class Few:
    """A few sessions to one database, each lent to one user at a time; connected when they are needed.

    A process that stands still within a transaction (stopped, cut off from the network) would hold up all others: the
    server ends its session after ``STILL`` seconds. It does not within a pipeline of the driver's, nor after one, for
    that ends with a Flush, which stops the server's clock: who uses those has to look for it. A connection on which
    nothing is heard of the server ends as well.

    Args:
        most: how many there are at most; who asks for one more waits.
        options: of each session, as :func:`connect` takes them.
    """

    def __init__(self, dsn: str, *, what: str, most: int, **options: Any) -> None:
        self.dsn = dsn
        self._options: dict[str, Any] = {
            "options": f"-c idle_in_transaction_session_timeout={STILL}s",
            "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": STILL * 1000,
        } | options  # fmt: skip
        self._what = what
        self._free: list[Connection] = []
        self._slots = asyncio.Semaphore(most)
        self._closed = False

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """One of them, in autocommit; one that is left inside a transaction is closed, not lent again.

        A deadlock or another reason to do it again (SQLSTATE class 40), and what a guard refuses, pass through as the
        driver says it.

        Raises:
            FigError: ``database_unreachable``, also when the server goes while the block runs.
        """
        async with self._slots:
            conn: Connection | None = None
            try:
                conn = await self._lend()
                yield conn
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if (error.sqlstate or "").startswith(_PASSES):
                    raise
                raise unreachable(self.dsn, error) from error
            except psycopg.errors.IdleInTransactionSessionTimeout as error:
                raise unreachable(self.dsn, error) from error
            except psycopg.errors.FeatureNotSupported:
                # "cached plan must not change result type": a table has changed, and what was prepared is of no use.
                if conn is not None:
                    await conn.close()
                raise
            finally:
                if conn is not None:
                    await self._give_back(conn)

    async def _lend(self) -> Connection:
        while self._free:
            conn = self._free.pop()
            if not _over(conn):
                return conn
            await conn.close()
        conn = await connect(self.dsn, what=self._what, **self._options)
        # Repeated statements are few: prepared at their second use.
        conn.prepare_threshold = 1
        return conn

    async def _give_back(self, conn: Connection) -> None:
        if self._closed or conn.closed or conn.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
            await conn.close()
        else:
            self._free.append(conn)

    async def close(self) -> None:
        """End those that are idle now, and the others when they are given back."""
        self._closed = True
        while self._free:
            await self._free.pop().close()


def _over(conn: Connection) -> bool:
    """Whether an idle session has ended: its server has said something, and to an idle session that is goodbye."""
    if conn.closed:
        return True
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def fetch(conn: Connection, query: str, params: Any = None) -> list[TupleRow]:
    """All rows of one statement."""
    cursor = await conn.execute(query, params)
    return await cursor.fetchall()


async def one(conn: Connection, query: str, params: Any = None) -> TupleRow | None:
    """The first row of one statement, or None."""
    cursor = await conn.execute(query, params)
    return await cursor.fetchone()


async def value(conn: Connection, query: str, params: Any = None) -> Any:
    """The first column of the first row, or None."""
    row = await one(conn, query, params)
    return None if row is None else row[0]


class Tables(NamedTuple):
    """A room's own tables: what :func:`migrate` takes.

    Attributes:
        steps: SQL files beside ``package``. One that has landed is never edited: databases that have run it do not run
            it again. What is to change is appended as a new step.
    """

    room: str
    package: str
    steps: tuple[str, ...]


async def migrate(conn: Connection, room: str, package: str, steps: Sequence[str]) -> None:
    """Bring a room's own tables forward: each of ``steps`` (SQL files beside ``package``) runs once, in order.

    What has run is remembered in ``fig.migration``. Safe when several processes do it at once. Where all has run
    already nothing is written, so that a role without the right to create anything may ask as well.

    Raises:
        FigError: ``newer_schema`` when the database was written by a later version.
    """
    if await value(conn, "SELECT to_regclass('fig.migration')") is not None:
        last = await value(conn, "SELECT max(step) FROM fig.migration WHERE room = %s", (room,))
        if last == len(steps):
            return
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('fig.migration', 0))")
        await conn.execute("CREATE SCHEMA IF NOT EXISTS fig")
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS fig.migration"
            " (room text, step int, file text NOT NULL, at timestamptz NOT NULL DEFAULT now(),"
            " PRIMARY KEY (room, step))"
        )
        done = int(await value(conn, "SELECT coalesce(max(step), 0) FROM fig.migration WHERE room = %s", (room,)))
        if done > len(steps):
            raise newer(room, done, len(steps))
        for number, file in enumerate(steps[done:], start=done + 1):
            sql = files(package).joinpath(file).read_text(encoding="utf-8")
            await conn.execute(sql)
            await conn.execute("INSERT INTO fig.migration (room, step, file) VALUES (%s, %s, %s)", (room, number, file))


async def bring_forward(conn: Connection, rooms: Sequence[Tables], *, patience: float = 60.0) -> list[str]:
    """:func:`migrate` for those of ``rooms`` that are in the database and behind; returns which these were.

    All of them in one transaction. It waits a second for a lock, no longer, for whoever comes later waits behind it:
    a monolith's writes, where the table is one that its guards read. Then it is tried again, for ``patience`` seconds.

    Raises:
        FigError: ``newer_schema``; ``upgrade_blocked`` when others kept a table for so long.
    """
    deadline = clock.monotonic() + patience
    while True:
        found = await require_known(conn, rooms)
        behind = [tables for tables in rooms if 0 < found.get(tables.room, 0) < len(tables.steps)]
        if not behind:
            return []
        names = [tables.room for tables in behind]
        try:
            async with conn.transaction():
                await conn.execute("SET LOCAL lock_timeout = '1s'")
                for tables in behind:
                    await migrate(conn, *tables)
            return names
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if clock.monotonic() > deadline:
                raise FigError(
                    "upgrade_blocked",
                    f"the tables of {', '.join(names)} could not be brought forward in {patience:g} s: others use them",
                    "End what has a transaction open on that database (pg_stat_activity), and start again.",
                    rooms=names,
                    database=conn.info.dbname,
                ) from error
            await asyncio.sleep(0.2)


async def require_known(conn: Connection, rooms: Sequence[Tables]) -> dict[str, int]:
    """The last step of each of ``rooms`` that has run; changes nothing.

    Raises:
        FigError: ``newer_schema``.
    """
    found = await steps_done(conn, [tables.room for tables in rooms])
    for tables in rooms:
        if found.get(tables.room, 0) > len(tables.steps):
            raise newer(tables.room, found[tables.room], len(tables.steps))
    return found


async def steps_done(conn: Connection, rooms: Sequence[str]) -> dict[str, int]:
    """The last step of each of ``rooms`` that has run; none of a room that is not there."""
    if await value(conn, "SELECT to_regclass('fig.migration')") is None:
        return {}
    query = "SELECT room, max(step) FROM fig.migration WHERE room = ANY (%s) GROUP BY 1 ORDER BY 1"
    return {str(room): int(step) for room, step in await fetch(conn, query, (list(rooms),))}


def newer(room: str, found: int, known: int) -> FigError:
    """A database that a later version wrote: it is left as it is."""
    return FigError(
        "newer_schema",
        f"the tables of '{room}' are at step {found}, this version knows {known}: a later one wrote them",
        "Use that version of stranglerfig, or a later one. There is no way back but a backup from before the upgrade,"
        " and none once an extraction has gone on since.",
        room=room,
        found=found,
        known=known,
    )
