"""Who writes the context's tables: what the guards have seen, from the log."""

from __future__ import annotations

from typing import Any

import orjson

from stranglerfig.eventlog.ports import EventLog
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation import clock


def topic(context: str) -> str:
    """Where capture appends what the guards have said."""
    return f"fig.refusals.{context}"


async def seen(log: EventLog, settings: ExtractionSettings) -> list[dict[str, Any]]:
    """One entry per application, role, table and statement, the most recent first.

    ``recent``: it was seen within ``writers.quiet_seconds``; ``explained``: extraction.yaml names it.
    """
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    name = topic(settings.context)
    if await log.topic(name) is None:
        return []
    known = {*settings.writers.routed, *settings.writers.refused}
    position = 0
    while records := await log.read(name, 0, position):
        position = records[-1].position + 1
        for record in records:
            body = orjson.loads(record.event.data)
            key = (body["application"], body["user"], body["table"], body["statement"], body["mode"])
            entry = found.setdefault(
                key,
                {
                    **{
                        field: body[field]
                        for field in ("application", "user", "table", "statement", "mode", "operation")
                    },
                    "count": 0,
                    "explained": body["application"] in known,
                },
            )
            entry["count"] += 1
            entry["last"] = record.appended_at
    now = clock.now()
    for entry in found.values():
        entry["recent"] = (now - entry["last"]).total_seconds() <= settings.writers.quiet_seconds
    return sorted(found.values(), key=lambda entry: entry["last"], reverse=True)
