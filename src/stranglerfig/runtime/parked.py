"""Changes that sync could not apply: they lie in the target's database, and a person decides what becomes of them."""

from __future__ import annotations

from typing import Any, Literal

from stranglerfig.changes.model import Direction
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.settings import Project
from stranglerfig.sync import apply

COLUMNS = ("id", "direction", "lsn", "ordinal", "reason", "change", "error", "statement", "resolution", "at")


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
    found = []
    for direction in Direction:
        async with postgres.session(target_dsn(project, context, direction), what="cli") as conn:
            if await postgres.value(conn, "SELECT to_regclass('fig.parked')") is None:
                continue
            rows = await postgres.fetch(
                conn,
                "SELECT id, direction, lsn, ordinal, reason, change, error, statement, resolution, at FROM fig.parked"
                " WHERE context = %s AND direction = %s AND resolved_at IS NULL ORDER BY id",
                (context, direction.value),
            )
            found += [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    return found


async def decide(
    project: Project, context: str, direction: Direction, number: int, how: Literal["skip", "retry"], *, dry_run: bool
) -> dict[str, Any]:
    """Leave a parked change out, or have sync try it once more; returns the change.

    Raises:
        FigError: ``unknown_parked``, ``tripwire_stays``.
    """
    rows = [row for row in await listed(project, context) if (row["direction"], row["id"]) == (direction, number)]
    if not rows:
        raise FigError(
            "unknown_parked",
            f"{context} has no parked change {number} in the {direction} direction",
            f"fig sync parked {context} lists them.",
        )
    [row] = rows
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
