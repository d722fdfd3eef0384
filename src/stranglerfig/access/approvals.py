"""Approvals of a plan: given, withdrawn, counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from stranglerfig.access.model import Principal
from stranglerfig.foundation import postgres

_COUNTS = (
    "a.withdrawn_at IS NULL AND a.expires_at > clock_timestamp() AND NOT EXISTS (SELECT FROM fig.credential c"
    " WHERE c.kind = 'token' AND c.ended_at IS NOT NULL AND c.id IN"
    " (a.credential, (SELECT s.parent FROM fig.credential s WHERE s.id = a.credential)))"
)
"""A token that was revoked takes its approvals with it; a session that ended does not."""
_COLUMNS = ("context", "visit", "stage", "plan", "name", "person", "how", "origin", "at", "expires_at", "withdrawn_at")


@dataclass(frozen=True, slots=True)
class Approval:
    """One that counts now."""

    person: str
    name: str
    at: datetime
    expires_at: datetime


def counted(found: Iterable[Approval], asker: str) -> list[Approval]:
    """One approval per person, the newest, without the person who asks."""
    newest: dict[str, Approval] = {}
    for approval in sorted(found, key=lambda each: each.at):
        if approval.person != asker:
            newest[approval.person] = approval
    return list(newest.values())


async def of_plan(conn: postgres.Connection, context: str, plan: str) -> list[Approval]:
    """The approvals of ``plan`` (its hash) that count now, oldest first; several of one person are listed each."""
    rows = await postgres.fetch(
        conn,
        "SELECT a.person, a.name, a.at, a.expires_at FROM fig.approval a"  # noqa: S608  our own constant
        f" WHERE a.context = %s AND a.plan = %s AND {_COUNTS} ORDER BY a.id",
        (context, plan),
    )
    return [Approval(*row) for row in rows]


async def give(
    conn: postgres.Connection, who: Principal, *, context: str, visit: int, stage: str, plan: str, lasts: float
) -> datetime:
    """Approve ``plan`` for ``lasts`` seconds; returns until when it counts."""
    until: datetime = await postgres.value(
        conn,
        "INSERT INTO fig.approval (context, visit, stage, plan, name, person, how, origin, credential, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp() + %s) RETURNING expires_at",
        (
            *(context, visit, stage, plan),
            *(who.name, who.person, who.how, who.origin, who.credential, timedelta(seconds=lasts)),
        ),
    )
    return until


async def withdraw(conn: postgres.Connection, who: Principal, *, context: str, plan: str) -> int:
    """Take one's own approvals of ``plan`` back; returns how many there were."""
    cursor = await conn.execute(
        "UPDATE fig.approval SET withdrawn_at = clock_timestamp()"
        " WHERE (context, plan, person) = (%s, %s, %s) AND withdrawn_at IS NULL",
        (context, plan, who.person),
    )
    return cursor.rowcount


async def void(conn: postgres.Connection, *, context: str, plan: str) -> list[str]:
    """Take everybody's approvals of ``plan`` back; returns whose."""
    rows = await postgres.fetch(
        conn,
        "WITH gone AS (UPDATE fig.approval SET withdrawn_at = clock_timestamp()"
        " WHERE (context, plan) = (%s, %s) AND withdrawn_at IS NULL RETURNING person)"
        " SELECT DISTINCT person FROM gone ORDER BY 1",
        (context, plan),
    )
    return [person for (person,) in rows]


async def listed(conn: postgres.Connection, context: str | None = None) -> list[dict[str, Any]]:
    """All approvals, newest first, each with ``counts``: whether it does, now and for the step that is next."""
    columns = ", ".join(f"a.{name}" for name in _COLUMNS)
    rows = await postgres.fetch(
        conn,
        f"SELECT {columns}, {_COUNTS} AND a.visit = e.visit FROM fig.approval a"  # noqa: S608
        " LEFT JOIN fig.extraction e USING (context) WHERE %s::text IS NULL OR context = %s ORDER BY a.id DESC",
        (context, context),
    )
    return [dict(zip((*_COLUMNS, "counts"), (*row[:-1], bool(row[-1])), strict=True)) for row in rows]
