"""The audit trail: who did, or was refused, what, and from where. Rows are only added, each bound to the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from psycopg.types.json import Jsonb

from stranglerfig.access.model import Principal
from stranglerfig.foundation import postgres

Outcome = Literal["done", "refused", "failed"]
_KEYS = ("id", "at", "context", "action", "outcome", "code", "name", "person", "role", "how", "origin", "details")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trail; ``code`` is that of a refusal or failure."""

    who: Principal
    action: str
    outcome: Outcome
    context: str = ""
    code: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


async def record(conn: postgres.Connection, entry: Entry) -> None:
    """Add a line, in the session's transaction if it is in one."""
    who = entry.who
    await conn.execute(
        "INSERT INTO fig.audit (context, action, outcome, code, name, person, role, how, origin, details)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            *(entry.context, entry.action, entry.outcome, entry.code),
            *(who.name, who.person, who.role.value, who.how, who.origin),
            Jsonb(dict(entry.details), dumps=lambda found: orjson.dumps(found, default=str)),
        ),
    )


async def lines(
    conn: postgres.Connection, *, context: str | None = None, last: int | None = None
) -> list[dict[str, Any]]:
    """The newest ``last`` lines (all: None), oldest first."""
    rows = await postgres.fetch(
        conn,
        f"SELECT * FROM (SELECT {', '.join(_KEYS)} FROM fig.audit"  # noqa: S608
        " WHERE %s::text IS NULL OR context = %s ORDER BY id DESC LIMIT %s) AS newest ORDER BY id",
        (context, context, last),
    )
    return [dict(zip(_KEYS, row, strict=True)) for row in rows]


@dataclass(frozen=True, slots=True)
class Check:
    """What a look at the whole chain gave: ``broken`` is the first line that does not follow from the one before."""

    lines: int
    broken: int | None
    digest: str


async def verify(conn: postgres.Connection) -> Check:
    """Compute the chain again. Lines cut off its end show only against a digest that was kept elsewhere."""
    row = await postgres.one(
        conn,
        "SELECT count(*), min(id) FILTER (WHERE NOT follows),"
        " coalesce(encode((array_agg(digest ORDER BY id DESC))[1], 'hex'), '') FROM (SELECT id, digest,"
        " id = row_number() OVER w"
        "  AND digest = fig.audit_digest(coalesce(lag(digest) OVER w, '\\x'), a) AS follows"
        " FROM fig.audit a WINDOW w AS (ORDER BY id)) AS chain",
    )
    assert row is not None
    return Check(int(row[0]), row[1], row[2])
