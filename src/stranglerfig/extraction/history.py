"""The extraction's history as events in the log: an audit trail that can be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from stranglerfig.eventlog.model import Event
from stranglerfig.extraction.parts import Parts
from stranglerfig.foundation import clock, ids


def topic(context: str) -> str:
    """Where a context's history is kept."""
    return f"fig.extraction.{context}"


class History:
    """Appends what happened to a context's extraction."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: set[str] = set()

    async def say(self, context: str, kind: str, data: Mapping[str, Any]) -> None:
        """Append one event: ``StageEntered``, ``GateJudged``, ``GateOverridden``, ``WritesSwitched``, …"""
        if context not in self._known:
            await self._parts.log.create_topic(topic(context))
            self._known.add(context)
        event = Event(
            id=ids.new_id(),
            source=f"/{self._parts.name}/fig",
            type=f"fig.{kind}",
            time=clock.now(),
            subject=context,
            partitionkey=context,
            data=orjson.dumps({"context": context, **data}, default=str),
        )
        await self._parts.log.append(topic(context), [event])
