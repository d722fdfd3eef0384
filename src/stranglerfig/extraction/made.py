"""What a cut-over was made with: kept beside the ownership it led to, so that nothing goes on with something else.

With a configuration that was changed while the service owns, guards would count as closed that are open, rules as
agreed that one side alone knows, and sequences would give out the other side's keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation.errors import FigError


def made_with(settings: ExtractionSettings) -> dict[str, Any]:
    """What is kept: who writes, and where both do a digest of each table's mapping, after which the triggers are made.

    A conflict rule is not part of it: a parked conflict is settled by giving its entry one.
    """
    found: dict[str, Any] = {"remaining_writers": settings.remaining_writers}
    if settings.both_write:
        tables = {}
        for table in settings.tables:
            content = table.model_dump(mode="json", by_alias=True, exclude={"conflicts"})
            content["delta"] = sorted(table.conflicts.delta) if table.conflicts else []
            text = json.dumps(content, sort_keys=True)
            tables[f"{table.source} → {table.target}"] = hashlib.sha256(text.encode()).hexdigest()[:16]
        found["tables"] = tables
    return found


def changed(context: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> FigError | None:
    """The refusal of a configuration ``now`` where the service owns after a cut-over made with ``was``; None: the same.

    ``was`` is empty where nothing was kept: the cut-over was made by an earlier version.
    """
    if not was or was == now:
        return None
    if was["remaining_writers"] != now["remaining_writers"]:
        place = "remaining_writers"
        what = f"remaining_writers is {now['remaining_writers']}"
        allowed = f"remaining_writers: {was['remaining_writers']}"
    else:
        before, after = was["tables"], now["tables"]
        wrong = sorted(pair for pair in before.keys() | after.keys() if before.get(pair) != after.get(pair))
        place, what = "tables", f"the mapping of {', '.join(wrong)} is not the one"
        allowed = "the mapping as it was; of conflicts, only a rule may be given"
    return FigError(
        "configuration_changed",
        f"extraction.yaml of '{context}', {place}: {what} that the cut-over to the service was made with",
        f"Allowed while the service owns the writes: {allowed}. Set it back and start fig again; to change it, fig"
        " rollback to reads first.",
        context=context,
        key=place,
        made_with=dict(was),
        found=dict(now),
    )


def require_same(settings: ExtractionSettings, was: Mapping[str, Any]) -> None:
    """Refuse a configuration other than ``was``, which the service came to own with.

    Raises:
        FigError: ``configuration_changed``.
    """
    error = changed(settings.context, was, made_with(settings))
    if error is not None:
        raise error
