"""What rows are written under, so that they can be told from others', and what a role must be allowed for it."""

from __future__ import annotations

import contextlib
import logging

import psycopg
from psycopg import sql

from stranglerfig.changes.model import is_origin_of
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.sql import load

_sql = load(__package__ or "")
log = logging.getLogger(__name__)


async def take(conn: postgres.Connection, dsn: str, origin: str) -> None:
    """Write under ``origin`` from here on, made when it is not there; no other session can.

    A worker that stands still (stopped, cut off) would keep it for ever: sessions of this one's name that have said
    nothing for :data:`~stranglerfig.foundation.postgres.STILL` seconds are ended, and who asks again gets it.

    Raises:
        FigError: ``origin_busy``, ``missing_privilege``, ``no_free_origin``.
    """
    try:
        if not await postgres.value(conn, _sql.origin_exists, (origin,)):
            with contextlib.suppress(psycopg.errors.UniqueViolation):  # another worker was faster
                await conn.execute("SELECT pg_replication_origin_create(%s)", (origin,))
        await conn.execute("SELECT pg_replication_origin_session_setup(%s)", (origin,))
    except psycopg.errors.ObjectInUse as error:
        if await postgres.value(conn, _sql.end_silent, (postgres.STILL,)):
            log.warning("'%s' was kept by a worker that says nothing", origin, extra={"action": "silent_ended"})
        raise FigError(
            "origin_busy",
            f"another worker applies '{origin}' to {postgres.describe(dsn)}",
            "Nothing to do: this one waits and takes over when the other ends.",
            origin=origin,
        ) from error
    except psycopg.errors.ConfigurationLimitExceeded as error:
        raise FigError(
            "no_free_origin",
            f"{postgres.describe(dsn)} keeps no more replication origins: {error.diag.message_primary}",
            "Raise max_active_replication_origins (before PostgreSQL 18: max_replication_slots) and restart the server,"
            " or drop origins that nobody uses (pg_replication_origin_drop).",
            origin=origin,
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise FigError(
            "missing_privilege",
            f"the role may not write under a replication origin: {error.diag.message_primary}",
            "Grant EXECUTE on pg_replication_origin_create, pg_replication_origin_session_setup and"
            " pg_replication_origin_oid to it (fig plan lists the statements).",
        ) from error


async def drop(conn: postgres.Connection, origin: str) -> None:
    """Drop the origins of all partitions of a flow."""
    for (name,) in await postgres.fetch(conn, _sql.origins):
        if is_origin_of(name, origin):
            await conn.execute("SELECT pg_replication_origin_drop(%s)", (name,))


async def may_replicate(conn: postgres.Connection) -> bool:
    """Whether the role may let foreign keys and triggers look away."""
    return bool(await postgres.value(conn, _sql.may_replicate))


async def lacks_replica_role(conn: postgres.Connection) -> str | None:
    """The role, quoted, when several partitions cannot be applied by it."""
    if await may_replicate(conn):
        return None
    return sql.Identifier(str(await postgres.value(conn, "SELECT current_user"))).as_string()


def no_replica_role(role: str) -> FigError:
    """Several partitions cannot be applied by this role; ``role`` is quoted."""
    statement = f"GRANT SET ON PARAMETER session_replication_role TO {role}"
    return FigError(
        "partitions_need_replica_role",
        f"{role} may not set session_replication_role: rows of several partitions cannot be applied side by side, as"
        " one may come before the row it refers to",
        f"Run as a superuser in the target: {statement}; or set partitions: 1.",
        statement=statement,
    )
