"""The rules for plain values: lists of them, ranges, lengths, patterns, formats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from stranglerfig.schemas.jsons.documents import plain
from stranglerfig.schemas.jsons.shape import ALL, Shape, admits, divides, listed_values, types_of
from stranglerfig.schemas.terms import Problem, Way


def listed(way: Way, schema: dict[str, Any], shape: Shape, written: list[Any], path: str) -> Iterator[Problem]:
    """The writer's values are listed: each is tried."""
    lost = [value for value in written if not admits(schema, value)]
    if lost:
        yield _lost(way, path, lost)
    elif "format" in schema and schema["format"] not in shape.every("format"):
        yield _keyword(way, path, "format", schema["format"], None, "FORMAT_CHANGED")


def problems(way: Way, schema: dict[str, Any], shape: Shape, path: str) -> Iterator[Problem]:
    """The writer's values are of types that the reader takes; here are their limits."""
    types = shape.types()
    yield from _enumerated(way, schema, shape, path)
    if types & {"integer", "number"}:
        yield from _numbers(way, schema, shape, path)
    if "string" in types:
        yield from bounds(way, schema, shape, ("minLength", "maxLength"), path)
        for key in ("pattern", "contentEncoding", "contentMediaType"):
            yield from _textual(way, schema, shape, key, path)
    if types & {"string", "integer", "number"}:
        yield from _textual(way, schema, shape, "format", path)


def _enumerated(way: Way, schema: dict[str, Any], shape: Shape, path: str) -> Iterator[Problem]:
    allowed = listed_values(schema)
    if allowed is None:
        return
    texts = {plain(value) for value in allowed}
    theirs = [found for atom in shape.atoms if (found := listed_values(atom.schema)) is not None]
    if any(all(plain(value) in texts for value in found) for found in theirs):
        return
    finite: dict[str, list[Any]] = {"null": [None], "boolean": [True, False]}
    types = shape.types()
    if types <= finite.keys() and all(plain(value) in texts for kind in types for value in finite[kind]):
        return
    said_values = ", ".join(repr(value) for value in allowed)
    if way is Way.BACKWARD:
        words = f"values that older events carry are no longer allowed (only {said_values})"
    else:
        words = f"it was one of {said_values}, and becomes {said(types)}"
    yield Problem(path, f"{words}: {way.harm}", "VALUES_NARROWED")


def _lost(way: Way, path: str, lost: list[Any]) -> Problem:
    names = ", ".join(map(repr, lost))
    if way is Way.BACKWARD:
        words = f"values that older events carry are no longer allowed: {names}"
    else:
        words = f"values become allowed that were not before: {names}"
    return Problem(path, f"{words}; {way.harm}", "VALUES_NARROWED")


def _numbers(way: Way, schema: dict[str, Any], shape: Shape, path: str) -> Iterator[Problem]:
    whole = "number" not in shape.types()
    low, high = shape.lower(), shape.upper()
    for side, key, strict_key in ((-1, "minimum", "exclusiveMinimum"), (1, "maximum", "exclusiveMaximum")):
        for name in (key, strict_key):
            bound = schema.get(name)
            if bound is None or isinstance(bound, bool):
                continue
            excluded = name == strict_key or schema.get(strict_key) is True
            edge, edge_excluded = low if side < 0 else high
            inside = side * edge < side * bound or (edge == bound and (edge_excluded or not excluded))
            if not inside and not (whole and excluded and side * edge <= side * bound - 1):
                theirs = next(iter(shape.every(name)), None)
                yield _keyword(way, path, name, bound, theirs, "RANGE_NARROWED")
    step = schema.get("multipleOf")
    if step is not None:
        steps = [*shape.every("multipleOf"), *([1] if whole else [])]
        if not any(divides(step, theirs) for theirs in steps):
            yield _keyword(way, path, "multipleOf", step, next(iter(shape.every("multipleOf")), None), "RANGE_NARROWED")


def bounds(
    way: Way,
    schema: dict[str, Any],
    shape: Shape,
    keys: tuple[str, str],
    path: str,
    *,
    least: float = 0,
    most: float = math.inf,
) -> Iterator[Problem]:
    """A pair such as ``minLength`` and ``maxLength``; ``least`` and ``most`` are known of the writer from elsewhere."""
    low, high = keys
    if schema.get(low, 0) > max(shape.least(low), least):
        yield _keyword(way, path, low, schema[low], next(iter(shape.every(low)), None), "RANGE_NARROWED")
    if schema.get(high, math.inf) < min(shape.most(high), most):
        yield _keyword(way, path, high, schema[high], next(iter(shape.every(high)), None), "RANGE_NARROWED")


def _textual(way: Way, schema: dict[str, Any], shape: Shape, key: str, path: str) -> Iterator[Problem]:
    theirs = shape.every(key)
    if key in schema and schema[key] not in theirs:
        yield _keyword(way, path, key, schema[key], next(iter(theirs), None), f"{key.upper()}_CHANGED")


def _keyword(way: Way, path: str, key: str, reader: Any, writer: Any, kind: str) -> Problem:
    old, new = (writer, reader) if way is Way.BACKWARD else (reader, writer)
    if new is None:
        words = f"'{key}' {old!r} goes away"
    else:
        words = f"'{key}' becomes {new!r}" + (f" (it was {old!r})" if old is not None else "")
    return Problem(path, f"{words}: {way.harm}", kind)


def said(types: frozenset[str]) -> str:
    """Types in words."""
    return "anything" if types >= ALL else " or ".join(sorted(types)) or "nothing"


def alternatives(branches: Sequence[Any]) -> str:
    """The branches of ``anyOf`` or ``oneOf`` in words."""
    names = []
    for branch in branches:
        if isinstance(branch, bool):
            names.append("anything" if branch else "nothing")
        elif "title" in branch or "$ref" in branch:
            names.append(str(branch.get("title") or branch["$ref"].rpartition("/")[2]))
        elif (values := listed_values(branch)) is not None:
            names.append("/".join(map(repr, values)))
        else:
            names.append(said(types_of(branch)))
    return ", ".join(names) or "nothing"
