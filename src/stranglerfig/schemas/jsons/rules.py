"""Whether a tolerant reader's JSON Schema accepts all that a closed writer writes under another.

Tolerant: a reader leaves aside properties that it does not know, whatever its ``additionalProperties: false`` says.
Everything else is subset reasoning, safe on one side: what cannot be shown to fit, or is not understood, is a problem.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from stranglerfig.schemas.jsons import values
from stranglerfig.schemas.jsons.documents import Document, Node, same
from stranglerfig.schemas.jsons.shape import (
    Shape,
    disjoint,
    item_of,
    names_of_dependencies,
    overlap,
    prefix_of,
    property_of,
    schemas_of_dependencies,
    takes,
    types_of,
)
from stranglerfig.schemas.terms import Problem, Way

_ASIDE = frozenset(
    {"title", "description", "examples", "default", "deprecated", "readOnly", "writeOnly", "definitions", "id"}
    | {"$schema", "$id", "$comment", "$anchor", "$defs", "$vocabulary"}
)
_UNDERSTOOD = _ASIDE | frozenset(
    {"$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "type", "enum", "const", "properties", "required"}
    | {"patternProperties", "additionalProperties", "propertyNames", "minProperties", "maxProperties", "items"}
    | {"dependentRequired", "dependentSchemas", "dependencies", "prefixItems", "additionalItems", "uniqueItems"}
    | {"minItems", "maxItems", "contains", "minContains", "maxContains", "minLength", "maxLength", "pattern"}
    | {
        "contentEncoding",
        "contentMediaType",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
    }
)
_SAME = ("contains", "minContains", "maxContains", "propertyNames")
"""Keywords that a reader may have only as the writer has them."""

_ALTERNATIVES = frozenset({"anyOf", "oneOf", "not", "if", "dependentSchemas", "dependencies"})
_MAPS = frozenset({"additionalProperties", "patternProperties"})
_MOST_TOLD = 8
"""Problems that a failed trial keeps; with all of them the lists double at each turn of a recursive schema."""

_MOST_CHOICES = 64
"""Combinations of alternatives that are tried for one place."""


def problems(reader: Document, writer: Document, way: Way) -> Iterator[Problem]:
    """Why ``reader`` could not read what ``writer`` writes."""
    plain_documents = not reader.refers and not writer.refers
    return Comparison(way, same_text=plain_documents).problems(reader.node(), [writer.node()], "$")


class Comparison:
    """One comparison; remembers the pairs that it is within, so that recursive schemas end."""

    def __init__(self, way: Way, *, same_text: bool, within: Comparison | None = None) -> None:
        self._way = way
        self._same_text = same_text
        self._under_way: set[object] = set(within._under_way) if within else set()
        self._failed: dict[object, tuple[str, list[Problem]]] = within._failed if within else {}

    def problems(self, reader: Node, writer: list[Node], path: str) -> Iterator[Problem]:
        """Why ``reader`` could not accept what is written under all of ``writer``."""
        if self._same_text and any(same(part.schema, reader.schema) for part in writer):
            return
        shape = Shape.of(writer)
        for key in sorted({key for atom in shape.atoms for key in strange(atom.schema)}):
            said = reader.schema.get(key) if isinstance(reader.schema, dict) else None
            if not all(same(value, said) for value in shape.every(key)):
                yield self._not_understood(path, key)
        yield from self._each_choice(reader, shape, path)

    def _each_choice(self, reader: Node, shape: Shape, path: str) -> Iterator[Problem]:
        if math.prod(len(branches) for branches, _ in shape.choices) > _MOST_CHOICES:
            words = "it has more combinations of alternatives than are tried here"
            yield self._problem(path, words, "NOT_UNDERSTOOD")
            return
        if not shape.choices or shape.impossible:
            yield from self.read(reader, shape, path)
            return
        for branch in range(len(shape.choices[0][0])):
            yield from self._each_choice(reader, shape.chosen(branch), path)

    def read(self, reader: Node, shape: Shape, path: str) -> Iterator[Problem]:
        """Why ``reader`` could not accept what has ``shape``, which has no choices left."""
        if shape.impossible or reader.schema is True:
            return
        if reader.schema is False:
            yield self._problem(path, self._allowed("anything", "nothing"), "NOTHING_ALLOWED")
            return
        pair = (id(reader.schema), shape.key())
        if pair in self._under_way:
            return
        self._under_way.add(pair)
        if "$ref" in reader.schema:
            yield from self.read(reader.target(), shape, path)
            if reader.document.draft <= 7:
                return
        for part in reader.schema.get("allOf", ()):
            yield from self.read(reader.at(part), shape, path)
        if not _ALTERNATIVES.isdisjoint(reader.schema):
            yield from self._alternatives(reader, shape, path)
        yield from self._own(reader, shape, path)

    def _fits(self, reader: Node, shape: Shape, path: str) -> list[Problem]:
        """A trial: what it assumes is kept when it succeeds, its failure is remembered.

        Else types that refer to each other by alternatives would be tried along every path among them.
        """
        pair = (id(reader.schema), shape.key())
        if pair in self._failed:
            where, found = self._failed[pair]
            return [replace(problem, path=path + problem.path[len(where) :]) for problem in found]
        trial = Comparison(self._way, same_text=self._same_text, within=self)
        found = list(islice(trial.read(reader, shape, path), _MOST_TOLD))
        if found:
            self._failed[pair] = (path, found)
        else:
            self._under_way |= trial._under_way
        return found

    def _alternatives(self, reader: Node, shape: Shape, path: str) -> Iterator[Problem]:
        schema = reader.schema
        if "anyOf" in schema:
            yield from self._some([reader.at(part) for part in schema["anyOf"]], shape, path, alone=False)
        if "oneOf" in schema:
            yield from self._some([reader.at(part) for part in schema["oneOf"]], shape, path, alone=True)
        if "not" in schema and not disjoint(shape, reader.at(schema["not"])):
            words = "'not' excludes what may have been written" if self._back else "what 'not' excluded becomes allowed"
            yield self._problem(path, words, "NOT_EXCLUDED")
        condition = {key: schema[key] for key in ("if", "then", "else") if key in schema}
        if "if" in condition and not self._has(shape, condition):
            yield self._not_understood(path, "if")
        for name, part in schemas_of_dependencies(schema).items():
            if shape.written(name) is not None and not self._depends(shape, name, part):
                yield from self._fits(reader.at(part), shape, path)

    def _has(self, shape: Shape, keywords: dict[str, Any]) -> bool:
        """Whether one of the writer's schemas has just these keywords; with references they could differ."""
        found = ({key: atom.schema[key] for key in keywords if key in atom.schema} for atom in shape.atoms)
        return self._same_text and any(same(theirs, keywords) for theirs in found)

    def _depends(self, shape: Shape, name: str, part: Any) -> bool:
        theirs = [schemas_of_dependencies(atom.schema) for atom in shape.atoms]
        return self._same_text and any(name in found and same(found[name], part) for found in theirs)

    def _some(self, branches: list[Node], shape: Shape, path: str, *, alone: bool) -> Iterator[Problem]:
        if not shape.types() or shape.values() == []:
            return  # the writer's schema contradicts itself: nothing is written
        # What is shown to be apart is not tried: it cannot fit, and it cannot be matched beside the one that does.
        alike = [branch for branch in branches if not disjoint(shape, branch)]
        tried = [self._fits(branch, shape, path) for branch in alike]
        if all(tried):
            if len(alike) == 1:
                yield from tried[0]
                return
            said = values.alternatives([branch.schema for branch in branches])
            yield self._problem(path, self._allowed(values.said(shape.types()), f"one of {said}"), "NO_ALTERNATIVE")
        elif alone and len(alike) > 1:
            words = "what may be written can match several of 'oneOf', which refuses it then"
            yield self._problem(path, words, "AMBIGUOUS_ALTERNATIVES")

    def _own(self, reader: Node, shape: Shape, path: str) -> Iterator[Problem]:
        schema = reader.schema
        for key in strange(schema):
            if not any(same(schema[key], theirs) for theirs in shape.every(key)):
                yield self._not_understood(path, key)
        types = shape.types()
        accepted = types_of(schema) if "type" in schema else types
        refused = [kind for kind in types if not takes(accepted, kind)]
        found = shape.values()
        if found is not None:
            yield from values.listed(self._way, schema, shape, found, path)
            return
        if refused:
            old, new = (types, accepted) if self._back else (accepted, types)
            words = f"its type changes from {values.said(old)} to {values.said(new)}"
            yield self._problem(path, words, "TYPE_CHANGED")
            return
        yield from values.problems(self._way, schema, shape, path)
        if "array" in types:
            yield from self._array(reader, shape, path)
        if "object" in types:
            yield from self._object(reader, shape, path)

    def _array(self, reader: Node, shape: Shape, path: str) -> Iterator[Problem]:
        schema = reader.schema
        yield from values.bounds(self._way, schema, shape, ("minItems", "maxItems"), path, most=shape.longest())
        if schema.get("uniqueItems") and not any(shape.every("uniqueItems")) and shape.longest() > 1:
            words = (
                "the same element twice was allowed and is not any more" if self._back else "elements may now repeat"
            )
            yield self._problem(path, words, "UNIQUE_ITEMS")
        places = max(shape.prefix(), len(prefix_of(schema)))
        for index in range(places):
            if index < shape.longest():
                part = reader.at(item_of(schema, index))
                yield from self.problems(part, shape.item(index), f"{path}[{index}]")
        if places < shape.longest():
            yield from self.problems(reader.at(item_of(schema, places)), shape.item(places), f"{path}[]")
        yield from self._same(schema, shape, path, [key for key in _SAME if key != "propertyNames"])

    def _same(self, schema: dict[str, Any], shape: Shape, path: str, keys: list[str]) -> Iterator[Problem]:
        for key in keys:
            if key in schema and not self._has(shape, {key: schema[key]}):
                yield self._not_understood(path, key)

    def _object(self, reader: Node, shape: Shape, path: str) -> Iterator[Problem]:
        schema = reader.schema
        must = shape.required()
        for name in schema.get("required", ()):
            if name not in must or shape.written(name) is None:
                yield self._missing(name, reader, shape, path)
        own = schema.get("properties", {})
        for name, part in own.items():
            theirs = shape.written(name)
            if theirs is not None:
                yield from self.problems(reader.at(part), theirs, f"{path}.{name}")
        if not _MAPS.isdisjoint(schema):
            yield from self._map(reader, shape, path)
        yield from self._dependents(schema, shape, path)
        if "minProperties" in schema or "maxProperties" in schema:
            most = math.inf if shape.open() else len(shape.named())
            sizes = ("minProperties", "maxProperties")
            yield from values.bounds(self._way, schema, shape, sizes, path, least=len(must), most=most)
        yield from self._same(schema, shape, path, ["propertyNames"])

    def _map(self, reader: Node, shape: Shape, path: str) -> Iterator[Problem]:
        """A reader's map takes in what the reader does not name; a plain reader leaves it aside."""
        schema = reader.schema
        for name in shape.named():
            if name not in schema.get("properties", {}):
                for taken in property_of(reader, name)[0]:
                    yield from self.problems(taken, shape.written(name) or [], f"{path}.{name}")
        patterns = schema.get("patternProperties", {})
        rest = schema.get("additionalProperties")
        for pattern, theirs in shape.unnamed():
            parts = [part for name, part in patterns.items() if overlap(pattern, name)]
            # What matches one of the reader's own patterns is not among its additional properties.
            if pattern not in patterns and isinstance(rest, dict):
                parts.append(rest)
            for part in parts:
                yield from self.problems(reader.at(part), theirs, path + "{}")

    def _dependents(self, schema: dict[str, Any], shape: Shape, path: str) -> Iterator[Problem]:
        for name, needed in names_of_dependencies(schema).items():
            if shape.written(name) is None:
                continue
            theirs = {n for atom in shape.atoms for n in names_of_dependencies(atom.schema).get(name, ())}
            lacking = [other for other in needed if other not in theirs | shape.required()]
            if lacking:
                pair = f"'{name}' without {', '.join(map(repr, lacking))}"
                words = f"{pair} was allowed and is not any more" if self._back else f"{pair} becomes allowed"
                yield self._problem(path, words, "DEPENDENT_FIELD_MISSING")

    def _missing(self, name: str, reader: Node, shape: Shape, path: str) -> Problem:
        written = shape.written(name) is not None
        if self._back:
            words = f"the field '{name}' becomes required" if written else f"the required field '{name}' is added"
        elif written:
            words = f"the required field '{name}' becomes optional"
        else:
            own = reader.schema.get("properties", {})
            kind = Shape.of(property_of(reader, name)[0]).types()
            added = [other for other in shape.named() if other not in own]
            twin = next((o for o in added if Shape.of(shape.written(o) or []).types() == kind), None)
            hint = f" (renamed to '{twin}'? a new name is a new field)" if twin else ""
            words = f"the required field '{name}' is removed{hint}"
        return self._problem(f"{path}.{name}", words, "REQUIRED_FIELD_MISSING")

    @property
    def _back(self) -> bool:
        return self._way is Way.BACKWARD

    def _allowed(self, written: str, read: str) -> str:
        if self._back:
            return f"{written} was allowed, and now only {read}"
        return f"{written} becomes allowed, and before it was only {read}"

    def _not_understood(self, path: str, key: str) -> Problem:
        words = f"'{key}' changes, and what that means for readers is not known here"
        return Problem(path, words, "NOT_UNDERSTOOD")

    def _problem(self, path: str, words: str, kind: str) -> Problem:
        return Problem(path, f"{words}: {self._way.harm}", kind)


def strange(schema: dict[str, Any]) -> list[str]:
    """Keywords that nothing is known of; marks of tools (``x-…``, ``connect.type``) and annotations are left aside.

    ``unevaluatedProperties: false`` is one of those too: a tolerant reader would not heed it.
    """
    return [
        key
        for key in schema.keys() - _UNDERSTOOD
        if not key.startswith("x-")
        and "." not in key
        and ":" not in key
        and not (key == "unevaluatedProperties" and schema[key] is False)
    ]
