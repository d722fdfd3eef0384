"""A saga's steps as spans: from when one was asked for to when it was known what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from stranglerfig.sagas.instances import Instance
from stranglerfig.sagas.model import Phase, Saga
from stranglerfig.telemetry import traces

_UNDER_WAY = (Phase.ASKED, Phase.UNDOING)
_WRONG = (Phase.FAILED, Phase.UNKNOWN)


def spans_of(row: Instance, before: Saga, after: Saga) -> Iterator[traces.Opened]:
    """The steps that ended between two states of a saga, of which ``row`` keeps the first; to be recorded with it."""
    for name, was in before.steps.items():
        now = after.steps[name]
        if was.phase not in _UNDER_WAY or (now.phase, now.execution) == (was.phase, was.execution):
            continue
        asked = [each[0] for each in row.history if each[1:4] == [name, str(was.phase), was.execution]]
        if not asked:
            continue  # so long ago that its history begins later
        facts: dict[str, traces.Attribute] = {"saga": row.id, "attempts": was.attempt, "outcome": str(now.phase)}
        if now.phase in _WRONG:
            facts["error.type"] = str(now.phase)
        what = "undo" if was.phase is Phase.UNDOING else "step"
        began = datetime.fromisoformat(asked[0]).timestamp()
        if (opened := traces.since(f"{what} {row.name}.{name}", row.trace, began, "internal", **facts)) is not None:
            yield opened
