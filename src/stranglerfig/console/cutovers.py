"""The last cut-over on the page of its extraction: the journal's steps on one line of time, and what was held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from stranglerfig.console.api import Model
from stranglerfig.console.reading import Reading


class CutoverStep(Model):
    """A step of the journal; ``offset_ms`` since the first, ``took_ms`` None of one that did not end."""

    step: str
    at: datetime
    offset_ms: float
    took_ms: float | None
    cause: str


class Cutover(Model):
    """The last cut-over, from its journal; what was held is None until it has ended well."""

    epoch: int
    direction: Literal["forward", "back"]
    outcome: Literal["done", "given up", "under way"]
    at: datetime
    steps: list[CutoverStep]
    held_requests: int | None
    hold_p50_ms: float | None
    hold_p99_ms: float | None
    hold_max_ms: float | None
    duration_ms: float | None


async def read(reading: Reading, context: str, kept: Sequence[Mapping[str, Any]]) -> Cutover | None:
    """The newest one in the journal, with the figures of its milestone among ``kept``; None where there was none."""
    entries = await reading.journal.entries(context)
    if not entries:
        return None
    last = [entry for entry in entries if entry.epoch == entries[-1].epoch]
    moments = [(entry, entry.at) for entry in last if entry.at is not None]
    begun = moments[0][1]
    found: dict[str, CutoverStep] = {}
    for entry, at in moments:
        if entry.phase == "before":
            offset = (at - begun).total_seconds() * 1000
            found[entry.step] = CutoverStep(
                step=entry.step, at=at, offset_ms=offset, took_ms=None, cause=str(entry.detail.get("cause", ""))
            )
        elif entry.step in found:
            found[entry.step].took_ms = (at - found[entry.step].at).total_seconds() * 1000
    held: Mapping[str, Any] = next(
        (milestone for milestone in reversed(kept) if milestone.get("epoch") == last[0].epoch), {}
    )
    for name, milliseconds in (held.get("steps") or {}).items():
        if name in found:  # measured by who did it: the journal's own times are those of its commits
            found[name].took_ms = milliseconds
    ended = {step: each.took_ms is not None for step, each in found.items()}
    return Cutover(
        epoch=last[0].epoch,
        direction="back" if last[0].direction == "back" else "forward",
        outcome="given up" if ended.get("abort") else "done" if ended.get("release") else "under way",
        at=begun,
        steps=list(found.values()),
        held_requests=held.get("held_requests"),
        hold_p50_ms=held.get("hold_p50_ms"),
        hold_p99_ms=held.get("hold_p99_ms"),
        hold_max_ms=held.get("hold_max_ms"),
        duration_ms=held.get("duration_ms"),
    )
