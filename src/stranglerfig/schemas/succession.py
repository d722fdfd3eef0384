"""Whether a schema may follow the earlier ones of its subject: the format's rules, but for one concession.

Readers of events that a model generates must be ready for values that they have not met: in such a schema a list of
values may grow and a range may widen even at ``FULL``, else no reason code could ever be added.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from stranglerfig.schemas import formats
from stranglerfig.schemas.formats import Format, Level, Problem, Text

MODELLED = "x-version"
"""The keyword by which an event's schema says that it comes from a model."""
_WIDER = frozenset({"VALUES_NARROWED", "RANGE_NARROWED", "PATTERN_CHANGED"})
_HALVES = {
    Level.FULL: (Level.BACKWARD, Level.FORWARD),
    Level.FULL_TRANSITIVE: (Level.BACKWARD_TRANSITIVE, Level.FORWARD_TRANSITIVE),
}


def problems(new: Text, earlier: Sequence[Text], level: Level) -> list[Problem]:
    """Why ``new`` must not follow ``earlier`` (oldest first) at ``level``; empty when it may.

    Raises:
        FigError: ``schema_invalid`` when one of the schemas is not valid.
    """
    if level not in _HALVES or not _modelled(new):
        return formats.problems(new, earlier, level)
    backward, forward = (formats.problems(new, earlier, half) for half in _HALVES[level])
    known = {(problem.path, problem.kind) for problem in backward}  # what hurts both ways is said once
    return backward + [
        problem for problem in forward if problem.kind not in _WIDER and (problem.path, problem.kind) not in known
    ]


def _modelled(schema: Text) -> bool:
    if schema.format is not Format.JSON or MODELLED not in schema.text:
        return False
    found = json.loads(schema.text)
    return isinstance(found, dict) and MODELLED in found
