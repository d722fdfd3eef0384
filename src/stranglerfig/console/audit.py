"""The audit trail: who did what, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from stranglerfig.console.api import Asked, Model, Route
from stranglerfig.console.reading import Reading
from stranglerfig.extraction.stages import Place, Stage


class AuditQuery(Model):
    """``context``: of one context only; ``before``: the page that begins behind an entry's ``mark``."""

    context: str | None = Field(default=None, max_length=100)
    before: str | None = Field(default=None, pattern=r"^\d{1,16}-(command|milestone|visit)-\d{1,18}$")
    limit: int = Field(default=100, ge=1, le=500)


class AuditEntry(Model):
    """One thing: a command that was asked, a milestone, or a place that was entered."""

    mark: str
    at: datetime
    context: str
    kind: Literal["command", "milestone", "visit"]
    what: str
    by: str
    text: str
    outcome: str
    data: dict[str, Any]


class AuditPage(Model):
    """Newest first; ``more`` is the mark to go on behind, None at the end."""

    entries: list[AuditEntry]
    more: str | None


def routes(reading: Reading) -> list[Route]:
    """What this page asks."""

    async def audit(asked: Asked) -> AuditPage:
        return await read(reading, asked.query)

    return [
        Route(
            "/api/audit",
            AuditPage,
            audit,
            "Who did what, and when: commands, milestones, places entered.",
            query=AuditQuery,
            live=True,
        )
    ]


async def read(reading: Reading, query: AuditQuery) -> AuditPage:
    """A page of it."""
    before = None
    if query.before is not None:
        micros, kind, number = query.before.split("-")
        before = (int(micros), kind, int(number))
    async with reading.store() as store:
        found = await store.trail(query.context, before, query.limit + 1)
    for entry in found:
        if entry["kind"] == "visit":
            entry["what"] = str(Place(Stage(entry["data"].pop("stage")), entry["data"].pop("step")))
    entries = [
        AuditEntry(
            mark=f"{entry['micros']}-{entry['kind']}-{entry['id']}",
            **{key: entry[key] for key in AuditEntry.model_fields if key != "mark"},
        )
        for entry in found
    ]
    shown = entries[: query.limit]
    return AuditPage(entries=shown, more=shown[-1].mark if len(entries) > query.limit else None)
