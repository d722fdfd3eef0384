"""Changes that sync could not apply: they lie in the target's database, and a person decides what becomes of them."""

from __future__ import annotations

from typing import Any, Literal

from stranglerfig.changes.model import Direction
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.settings import Project
from stranglerfig.sync import apply, ends
from stranglerfig.sync.decisions import Place


def target_dsn(project: Project, context: str, direction: Direction) -> str:
    """Where a direction's changes are applied.

    Raises:
        FigError: ``unknown_context``.
    """
    settings = project.extractions.get(context)
    if settings is None:
        project.folder(context)
        raise AssertionError("a folder of a context that has no settings")
    database = settings.service.database if direction is Direction.FORWARD else project.estate.monolith.database
    return project.reveal(database)


async def listed(project: Project, context: str) -> list[dict[str, Any]]:
    """The parked changes of both directions, oldest first, undecided ones and those that wait for sync."""
    rows = []
    for direction in Direction:
        async with ends.decisions(target_dsn(project, context, direction)) as parked:
            rows += await parked.listed(Place(context, direction))
    return rows


CONFLICTS = (
    *("id", "direction", "pair", "table", "key", "rule", "outcome", "theirs", "ours", "lsn", "ordinal", "at"),
    "parked",
)


async def conflicts(project: Project, context: str, *, last: int = 100) -> list[dict[str, Any]]:
    """The ``last`` conflicts of either direction, oldest first: what came, what was here, and which of them stands.

    ``parked`` is the number of the parked change where nobody has decided about the conflict yet, else None.
    """
    found = []
    for direction in Direction:
        dsn = target_dsn(project, context, direction)
        if mysql.is_mysql(dsn):
            continue  # one side alone writes there
        async with postgres.session(dsn, what="cli") as conn:
            if await postgres.value(conn, "SELECT to_regclass('fig.conflict')") is None:
                continue
            rows = await postgres.fetch(
                conn,
                "SELECT id, direction, pair, table_name, key, rule, outcome, theirs, ours, lsn, ordinal, at, ("
                "SELECT min(p.id) FROM fig.parked p WHERE (p.context, p.direction, p.lsn, p.ordinal)"
                " = (c.context, c.direction, c.lsn, c.ordinal) AND p.reason = 'error' AND p.resolution IS NULL)"
                " FROM fig.conflict c WHERE context = %s AND direction = %s ORDER BY id DESC LIMIT %s",
                (context, direction.value, last),
            )
            found += [dict(zip(CONFLICTS, row, strict=True)) for row in reversed(rows)]
    return found


async def found(project: Project, context: str, direction: Direction, number: int) -> dict[str, Any]:
    """One parked change.

    Raises:
        FigError: ``unknown_parked``.
    """
    async with ends.decisions(target_dsn(project, context, direction)) as parked:
        rows = [row for row in await parked.listed(Place(context, direction)) if row["id"] == number]
    if not rows:
        raise FigError(
            "unknown_parked",
            f"{context} has no parked change {number} in the {direction} direction",
            f"fig sync parked {context} lists them.",
        )
    return rows[0]


async def decide(
    project: Project, context: str, direction: Direction, number: int, how: Literal["skip", "retry"], *, dry_run: bool
) -> dict[str, Any]:
    """Leave a parked change out, or have sync try it once more; returns the change.

    Raises:
        FigError: ``unknown_parked``, ``tripwire_stays``.
    """
    row = await found(project, context, direction, number)
    if row["reason"] == "tripwire":
        raise FigError(
            "tripwire_stays",
            f"change {number} was written behind the owner's back: applying it would overwrite what the owner holds",
            "Find out who wrote it (its change says what), and make the write at the owner; the record of it stays.",
        )
    if not dry_run:
        resolve = {"skip": apply.skip, "retry": apply.retry}[how]
        await resolve(target_dsn(project, context, direction), context, direction, number)
    return row
