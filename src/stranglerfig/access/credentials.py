"""Tokens and sessions: made, looked up, ended. The database has the hash of a secret, never the secret.

A secret is 256 random bits, so its SHA-256 cannot be guessed backwards and needs no salt. What is shown once reads
``fig_<id>_<secret>``: the id finds the row, the secret's hash is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg

from stranglerfig.access.model import Principal, Role, identity
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError

TABLES = postgres.Tables("access", __package__ or "", ("tables.sql",))
_PREFIX = "fig"
_ALIVE = (
    "ended_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"
    " AND (idle IS NULL OR seen_at + idle > clock_timestamp())"
)
_COLUMNS = "id, kind, name, person, role, how, created_at, created_by, expires_at, seen_at, ended_at, ended_by"


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that counts now, with the SHA-256 of its secret."""

    id: str
    name: str
    person: str
    role: Role
    how: str
    hash: bytes

    def principal(self, origin: str) -> Principal:
        """Who acts with it, from ``origin``."""
        return Principal(self.name, self.person, self.role, self.how, origin, self.id)


async def migrate(conn: postgres.Connection) -> None:
    """Bring the room's tables forward."""
    await postgres.migrate(conn, *TABLES)


def split(text: str) -> tuple[str, bytes]:
    """The id in a token's text, and the SHA-256 of the secret in it.

    Raises:
        FigError: ``token_refused`` for what is no token.
    """
    prefix, _, rest = text.strip().partition("_")
    id_, _, secret = rest.partition("_")
    if prefix != _PREFIX or not id_ or not secret or not text.isascii():
        raise refused()
    return id_, hashlib.sha256(secret.encode()).digest()


def refused() -> FigError:
    """The one answer to a token that is wrong, unknown, ended or expired: which of them is nobody's business."""
    return FigError(
        "token_refused",
        "this token or login is not, or no longer, valid",
        "Ask for another one: fig token create NAME --role ROLE; log in again in the console.",
    )


async def create(
    conn: postgres.Connection,
    *,
    kind: str,
    name: str,
    person: str,
    role: Role,
    how: str,
    by: str,
    lasts: timedelta | None,
    idle: timedelta | None = None,
    parent: str | None = None,
) -> tuple[str, str]:
    """Make a credential; returns its id and its text, which is in no place else.

    Args:
        lasts: how long it counts in all; None is for good. With a ``parent`` never longer than that.
        idle: how long it counts without being used.
        parent: the token that a session was begun with.

    Raises:
        FigError: ``token_exists`` when a token of that name counts.
    """
    id_, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    try:
        async with conn.transaction():
            # A name is free again once its token has expired.
            await conn.execute(
                "UPDATE fig.credential SET ended_at = expires_at, ended_by = 'time'"
                " WHERE kind = 'token' AND lower(name) = lower(%s) AND ended_at IS NULL"
                " AND expires_at <= clock_timestamp()",
                (name,),
            )
            await conn.execute(
                "INSERT INTO fig.credential (id, kind, name, person, role, how, hash, created_by, idle,"
                " parent, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, least(clock_timestamp() + %s,"
                " (SELECT expires_at FROM fig.credential WHERE id = %s)))",
                (
                    *(id_, kind, name, identity(person), role.value, how),
                    *(hashlib.sha256(secret.encode()).digest(), by, idle, parent, lasts, parent),
                ),
            )
    except psycopg.errors.UniqueViolation:
        raise FigError(
            "token_exists",
            f"there is a token '{name}' already",
            f"Choose another name, or end that one: fig token revoke {name}.",
            name=name,
        ) from None
    return id_, f"{_PREFIX}_{id_}_{secret}"


async def find(conn: postgres.Connection, id_: str) -> Credential:
    """The credential ``id_``, if it counts now.

    Raises:
        FigError: ``token_refused``.
    """
    row = await postgres.one(
        conn,
        f"SELECT id, name, person, role, how, hash FROM fig.credential WHERE id = %s AND {_ALIVE}",  # noqa: S608
        (id_,),
    )
    if row is None:
        raise refused()
    return Credential(row[0], row[1], row[2], Role(row[3]), row[4], bytes(row[5]))


async def identify(conn: postgres.Connection, text: str) -> Credential:
    """Whose ``text`` is; that it was used now is kept.

    Raises:
        FigError: ``token_refused``.
    """
    id_, hash_ = split(text)
    found = await find(conn, id_)
    if not hmac.compare_digest(found.hash, hash_):
        raise refused()
    await conn.execute(
        "UPDATE fig.credential SET seen_at = clock_timestamp()"
        " WHERE id = %s AND seen_at < clock_timestamp() - interval '5 s'",
        (id_,),
    )
    return found


async def end(conn: postgres.Connection, id_: str, *, by: str) -> int:
    """End a credential, and the sessions that were begun with it; returns how many."""
    cursor = await conn.execute(
        "UPDATE fig.credential SET ended_at = clock_timestamp(), ended_by = %s"
        " WHERE ended_at IS NULL AND %s IN (id, parent)",
        (by, id_),
    )
    return cursor.rowcount


async def log_out(conn: postgres.Connection, id_: str, *, by: str) -> None:
    """End the session ``id_``; a token of that id, which was sent in its place, is not ended."""
    await conn.execute(
        "UPDATE fig.credential SET ended_at = clock_timestamp(), ended_by = %s"
        " WHERE id = %s AND kind = 'session' AND ended_at IS NULL",
        (by, id_),
    )


async def listed(conn: postgres.Connection, *, all_: bool = False) -> list[dict[str, Any]]:
    """Tokens without their hashes, newest first; those that ended as well with ``all_``."""
    rows = await postgres.fetch(
        conn,
        f"SELECT {_COLUMNS}, {_ALIVE} FROM fig.credential WHERE kind = 'token' AND (%s OR {_ALIVE})"  # noqa: S608
        " ORDER BY created_at DESC, id",
        (all_,),
    )
    keys = (*_COLUMNS.split(", "), "valid")
    return [dict(zip(keys, row, strict=True)) for row in rows]


async def approvers(conn: postgres.Connection, *, without: str) -> list[str]:
    """The people whose tokens may approve now, other than the person ``without``."""
    rows = await postgres.fetch(
        conn,
        "SELECT DISTINCT person FROM fig.credential"  # noqa: S608  our own constant
        f" WHERE kind = 'token' AND role = 'approver' AND person <> %s AND {_ALIVE} ORDER BY 1",
        (without,),
    )
    return [row[0] for row in rows]


async def forget(conn: postgres.Connection, *, after: timedelta) -> int:
    """Remove sessions that ended longer ago than ``after``; tokens stay, for the audit trail names them."""
    cursor = await conn.execute(
        "DELETE FROM fig.credential WHERE kind = 'session'"
        " AND least(ended_at, expires_at, seen_at + idle) < clock_timestamp() - %s",
        (after,),
    )
    return cursor.rowcount
