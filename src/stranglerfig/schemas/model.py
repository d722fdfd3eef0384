"""Schemas of events: their canonical identity, and which changes keep writers and readers together.

Writers are closed (what a schema does not name they do not write), readers are tolerant (what they do not know they
ignore). So an added optional field is compatible, which generic JSON Schema rules over open models would deny.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stranglerfig.schemas.jsons.documents import document, normal
from stranglerfig.schemas.jsons.rules import problems
from stranglerfig.schemas.terms import Problem as Problem
from stranglerfig.schemas.terms import Way

Schema = Mapping[str, Any]
_WIDER = frozenset({"VALUES_NARROWED", "RANGE_NARROWED", "PATTERN_CHANGED"})
"""What readers of our own events put up with when they are behind."""


@dataclass(frozen=True, slots=True)
class Version:
    """A registered schema: ``version`` counts from 1 within its subject, which is the event's type."""

    subject: str
    version: int
    id: str
    schema: Schema
    registered_at: datetime
    registered_by: str


def canonical(schema: Schema) -> str:
    """The schema as text, the same for schemas that say the same: keys sorted, marks of the generator left out."""
    return normal(schema)


def schema_id(schema: Schema) -> str:
    """Sixteen hexadecimal digits that identify a schema by its content."""
    return hashlib.sha256(canonical(schema).encode()).hexdigest()[:16]


def uri(subject: str, version: int) -> str:
    """What an event's ``dataschema`` says."""
    return f"fig:schemas/{subject}/{version}"


def version_of(dataschema: str | None) -> int | None:
    """The version that a ``dataschema`` of ours names, or None."""
    if dataschema is None or not dataschema.startswith("fig:schemas/"):
        return None
    tail = dataschema.rpartition("/")[2]
    return int(tail) if tail.isdigit() else None


def incompatibilities(old: Schema, new: Schema) -> list[Problem]:
    """Why ``new`` cannot follow ``old`` under the same event type; empty when it can.

    Full compatibility, save that readers of our events must be ready for values they have not met: a list of values
    may grow and a range may widen, else no reason code could ever be added.
    """
    before, after = document(dict(old)), document(dict(new))
    found = list(problems(after, before, Way.BACKWARD))
    known = {(part.path, part.kind) for part in found}  # what hurts both ways is said once
    back = problems(before, after, Way.FORWARD)
    return found + [part for part in back if part.kind not in _WIDER and (part.path, part.kind) not in known]
