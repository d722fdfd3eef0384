"""Schemas of events: their canonical identity, and which changes keep writers and readers together.

Writers are closed (what a schema does not name they do not write), readers are tolerant (what they do not know they
ignore). So an added optional field is compatible, which generic JSON Schema rules over open models would deny.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Schema = Mapping[str, Any]
_ASIDE = ("title", "description", "examples", "$comment", "default")
_NARROWING = (
    "format",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
)


@dataclass(frozen=True, slots=True)
class Version:
    """A registered schema: ``version`` counts from 1 within its subject, which is the event's type."""

    subject: str
    version: int
    id: str
    schema: Schema
    registered_at: datetime
    registered_by: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A change that would part writers and readers: where, and what it means in words."""

    path: str
    words: str


def canonical(schema: Schema) -> str:
    """The schema as text, the same for schemas that say the same: keys sorted, marks of the generator left out."""
    return json.dumps(
        {k: v for k, v in schema.items() if k != "x-fig-generated"}, sort_keys=True, separators=(",", ":")
    )


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
    """Why ``new`` cannot follow ``old`` under the same subject; empty when it can."""
    return list(_compare(old, new, "$"))


def _compare(old: Schema, new: Schema, path: str) -> Iterator[Problem]:
    ours, theirs = _types(old), _types(new)
    if ours != theirs:
        yield Problem(path, f"its type changes from {_said(ours)} to {_said(theirs)}; readers would misread it")
        return
    yield from _values(old, new, path)
    if "object" in ours or "properties" in old or "properties" in new:
        yield from _objects(old, new, path)
    if isinstance(old.get("items"), Mapping) and isinstance(new.get("items"), Mapping):
        yield from _compare(old["items"], new["items"], f"{path}[]")
    simple = {"type", "enum", "properties", "required", "additionalProperties", "items", *_NARROWING, *_ASIDE}
    for key in sorted((old.keys() | new.keys()) - simple):
        if not key.startswith(("x-", "$")) and old.get(key) != new.get(key):
            yield Problem(path, f"'{key}' changes, and what that means for readers is not known here")


def _types(schema: Schema) -> frozenset[str]:
    found = schema.get("type", ())
    return frozenset([found] if isinstance(found, str) else found)


def _said(types: frozenset[str]) -> str:
    return " or ".join(sorted(types)) or "anything"


def _values(old: Schema, new: Schema, path: str) -> Iterator[Problem]:
    if "enum" in new:
        gone = [value for value in old.get("enum", ()) if value not in new["enum"]]
        if "enum" not in old or gone:
            lost = f": {', '.join(map(repr, gone))}" if gone else ""
            yield Problem(path, f"values that older events carry are no longer allowed{lost}")
    for key in _NARROWING:
        if key in new and old.get(key) != new[key]:
            yield Problem(path, f"'{key}' becomes {new[key]!r}; older events need not be so")
        elif key == "format" and key in old and key not in new:
            yield Problem(path, f"'format' {old[key]!r} goes away; readers rely on it")


def _objects(old: Schema, new: Schema, path: str) -> Iterator[Problem]:
    before, after = old.get("properties", {}), new.get("properties", {})
    must, must_now = set(old.get("required", ())), set(new.get("required", ()))
    removed = [name for name in before if name not in after]
    added = [name for name in after if name not in before]
    for name in removed:
        if name in must:
            twin = next((other for other in added if _types(after[other]) == _types(before[name])), None)
            renamed = f" (renamed to '{twin}'? a new name is a new field)" if twin else ""
            yield Problem(f"{path}.{name}", f"a required field is removed{renamed}; readers rely on it")
    for name in added:
        if name in must_now:
            yield Problem(f"{path}.{name}", "a required field is added; older events do not have it: make it optional")
    for name in before:
        if name in after:
            if name in must_now - must:
                yield Problem(f"{path}.{name}", "it becomes required; older events may lack it")
            if name in must - must_now:
                yield Problem(f"{path}.{name}", "it becomes optional; readers rely on it")
            yield from _compare(before[name], after[name], f"{path}.{name}")
