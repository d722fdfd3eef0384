"""A session into whichever kind of database a side is, told by its address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stranglerfig.databases.mariadb.side import MariaDBSide
from stranglerfig.databases.side import PostgresSide, SideSession
from stranglerfig.foundation import mysql, postgres


async def connect(dsn: str, *, what: str) -> SideSession:
    """Open a session.

    Raises:
        FigError: ``database_unreachable``.
    """
    if not mysql.is_mysql(dsn):
        return PostgresSide(await postgres.connect(dsn, what=what))
    return await _mariadb(mysql.Connection(dsn, what))


async def watch(dsn: str, *, what: str) -> SideSession:
    """A session that looks at ownership rows: impatient, so that a dead server is soon known as one.

    Raises:
        FigError: ``database_unreachable``.
    """
    if mysql.is_mysql(dsn):
        return await _mariadb(mysql.Connection(dsn, what, answer_seconds=2))
    conn = await postgres.connect(
        dsn,
        what=what,
        options="-c statement_timeout=1000 -c lock_timeout=500",
        connect_timeout=2,
        keepalives_idle=2,
        keepalives_interval=1,
        keepalives_count=2,
        tcp_user_timeout=3000,
    )
    return PostgresSide(conn)


async def _mariadb(conn: mysql.Connection) -> MariaDBSide:
    try:
        await conn.open()
    except BaseException:
        await conn.close()
        raise
    return MariaDBSide(conn)


@asynccontextmanager
async def session(dsn: str, *, what: str) -> AsyncIterator[SideSession]:
    """A session for the length of a block; closed whatever happens."""
    side = await connect(dsn, what=what)
    try:
        yield side
    finally:
        await side.close()
