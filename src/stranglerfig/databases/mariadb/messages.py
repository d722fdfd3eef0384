"""Messages in MariaDB's change stream: rows of a table of ours, for its binary log has no other words.

They are as transactional as the rows they stand between, and go to replicas with them.
"""

from __future__ import annotations

import json
from typing import Any, Final

from stranglerfig.foundation import ids, mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Connection
from stranglerfig.foundation.sql import load

MESSAGES: Final = "fig.message"
"""The table whose inserted rows are messages."""
APPLIED: Final = "fig.applied"
"""The table with which each transaction begins that sync writes."""
_READ_ONLY: Final = (1290, 1792, 1836)
_DENIED: Final = (1044, 1142, 1227)
_KEPT: Final = 1000

_sql = load(__package__ or "", "messages.sql")


async def prepare(conn: Connection) -> None:
    """Create our database and its tables where they are not there yet.

    Raises:
        FigError: ``missing_privilege``.
    """
    if await conn.value(_sql.both_there) == "2":
        return
    try:
        for statement in (_sql.database, _sql.message, _sql.applied):
            await conn.execute(statement)
    except FigError as error:
        if not mysql.refused(error, *_DENIED):
            raise
        raise FigError(
            "missing_privilege",
            f"our tables cannot be created: {error.message}",
            "Grant our user every right on the database fig (fig plan lists the statements).",
        ) from error


async def emit(conn: Connection, prefix: str, content: str) -> None:
    """Write a message, in the transaction of ``conn`` if it is in one."""
    await conn.execute(_sql.emit, (prefix, content))


async def emit_marker(
    conn: Connection, context: str, direction: str, *, nonce: str | None = None, **content: Any
) -> str:
    """Write a marker into the change stream; returns its nonce (a new one unless given)."""
    nonce = nonce or ids.nonce()
    body = json.dumps({"context": context, "direction": direction, "nonce": nonce} | content)
    await emit(conn, "fig.marker", body)
    return nonce


async def marker_applied(conn: Connection, context: str, direction: str, nonce: str) -> bool:
    """Whether sync has applied everything here before the marker ``nonce``."""
    try:
        return await conn.value(_sql.marker_applied, (context, direction, nonce)) is not None
    except FigError as error:
        if mysql.refused(error, *mysql.NOWHERE):
            return False
        raise


async def heartbeat(conn: Connection, prefix: str) -> bool:
    """Write a message into the stream, so that what was read moves on, and remove old ones.

    Returns:
        False where the source is read-only for us.
    """
    try:
        await emit(conn, prefix, "")
        await conn.execute(_sql.sweep, (_KEPT,))
    except FigError as error:
        if mysql.refused(error, *_READ_ONLY, *_DENIED):
            return False
        raise
    return True
