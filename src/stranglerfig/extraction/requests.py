"""What was asked for and waits for other people: a step that was refused for want of approvals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from stranglerfig.foundation import postgres


@dataclass(frozen=True, slots=True)
class Request:
    """A step that somebody asked for.

    Attributes:
        name, person, origin: who asked, as the controller found out, and from where.
        plan: the hash of what is to be agreed to.
        reason: why, in the words of who asked; empty where nothing was said.
        declined: who said no since, when, and why; None while nobody has.
    """

    name: str
    person: str
    origin: str
    at: datetime
    plan: str
    reason: str
    declined: tuple[str, datetime, str] | None


async def waiting(conn: postgres.Connection, context: str, visit: int) -> Request | None:
    """The newest request of the stay ``visit``; None where nobody has asked in vain."""
    row = await postgres.one(
        conn,
        "SELECT a.name, a.person, a.origin, c.asked_at, c.result #>> '{context,plan}',"
        " coalesce(c.args ->> 'reason', c.args ->> 'override', '')"
        " FROM fig.command c JOIN fig.visit v ON v.id = %s"
        " JOIN fig.audit a ON a.context = c.context AND a.at >= c.asked_at AND a.details ->> 'command' = c.id::text"
        " WHERE c.context = %s AND c.state = 'failed' AND c.result ->> 'code' = 'approvals_missing'"
        " AND c.asked_at >= v.entered_at ORDER BY c.id DESC LIMIT 1",
        (visit, context),
    )
    if row is None:
        return None
    name, person, origin, at, plan, reason = row
    no = await postgres.one(
        conn,
        "SELECT data ->> 'by', at, data ->> 'reason' FROM fig.milestone"
        " WHERE context = %s AND kind = 'declined' AND data ->> 'plan' = %s AND at >= %s ORDER BY id DESC LIMIT 1",
        (context, plan, at),
    )
    return Request(name, person, origin, at, plan, reason, None if no is None else (no[0], no[1], no[2]))
