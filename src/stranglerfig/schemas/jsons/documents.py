"""JSON Schema documents: read, checked for their form, and with every ``$ref`` found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urljoin

import jsonschema
from jsonschema.validators import validator_for

from stranglerfig.schemas.terms import Format, Reference, Text, invalid

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_SCHEMAS = frozenset(
    {"additionalProperties", "additionalItems", "items", "contains", "not", "if", "then", "else", "propertyNames"}
    | {"unevaluatedProperties", "unevaluatedItems"}
)
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return _number(value) and value >= 0 and value == int(value)


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _pattern(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        re.compile(value)
    except re.error:
        return False
    return True


_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("minimum", "maximum"), (_number, "a number")),
    **dict.fromkeys(
        ("exclusiveMinimum", "exclusiveMaximum"), (lambda v: _number(v) or isinstance(v, bool), "a number")
    ),
    "multipleOf": (lambda v: _number(v) and v > 0, "a number above 0"),
    **dict.fromkeys(
        (
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "minContains",
            "maxContains",
        ),
        (_count, "a whole number, 0 or more"),
    ),
    "required": (_names, "a list of names"),
    "enum": (lambda v: isinstance(v, list), "a list of values"),
    "pattern": (_pattern, "a regular expression"),
    "format": (lambda v: isinstance(v, str), "a name"),
    "uniqueItems": (lambda v: isinstance(v, bool), "true or false"),
    "$ref": (lambda v: isinstance(v, str), "an address"),
    "dependentRequired": (lambda v: isinstance(v, dict) and all(map(_names, v.values())), "lists of names by name"),
    "type": (
        lambda v: v in TYPES if isinstance(v, str) else isinstance(v, list) and all(part in TYPES for part in v),
        f"one or several of {', '.join(TYPES)}",
    ),
}


@dataclass(slots=True, eq=False)
class Document:
    """One document and those it may refer to.

    Attributes:
        draft: 4, 6, 7, 2019 or 2020.
        anchors: subschemas by what names them: an ``$id``, an ``$anchor`` (with ``#``).
        refers: whether there is any reference in it: then equal text does not make equal schemas.
    """

    root: Any
    draft: int = 2020
    base: str = ""
    others: dict[str, Document] = field(default_factory=dict)
    anchors: dict[str, Any] = field(default_factory=dict)
    refers: bool = False

    def node(self) -> Node:
        """The root."""
        return Node(self, self.root)

    def find(self, ref: str) -> Node | None:
        """What ``ref`` points at, or None."""
        address, _, fragment = ref.partition("#")
        document: Document | None = self
        start: Any = self.root
        if address:
            full = urljoin(self.base, address)
            if full in self.anchors or address in self.anchors:
                start = self.anchors.get(full, self.anchors.get(address))
            elif address != self.base and full != self.base:
                document = self.others.get(address) or self.others.get(full)
                start = document.root if document else None
        if document is None:
            return None
        if fragment and not fragment.startswith("/"):
            found = document.anchors.get(f"#{fragment}")
            return None if found is None else Node(document, found)
        return _point(document, start, fragment)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A schema within a document."""

    document: Document
    schema: Any

    def at(self, schema: Any) -> Node:
        """A subschema of it."""
        return Node(self.document, schema)

    def target(self) -> Node:
        """What its ``$ref`` points at; ``parse`` made sure that there is something."""
        found = self.document.find(self.schema["$ref"])
        assert found is not None
        return found


def _point(document: Document, start: Any, pointer: str) -> Node | None:
    for part in unquote(pointer).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(start, dict) and key in start:
            start = start[key]
        elif isinstance(start, list) and key.isdigit() and int(key) < len(start):
            start = start[int(key)]
        else:
            return None
    return Node(document, start) if isinstance(start, (dict, bool)) else None


def parse(schema: Text) -> Document:
    """The document.

    Raises:
        FigError: ``schema_invalid`` with the path of the mistake.
    """
    return _parse(schema.text, schema.references)


@lru_cache(maxsize=512)
def _parse(text: str, references: tuple[Reference, ...]) -> Document:
    others: dict[str, Document] = {}
    for reference in references:
        inner = _document(reference.text, f"reference {reference.name}: $", dict(others), reference.name)
        others[reference.name] = inner
        if inner.base:
            others.setdefault(inner.base, inner)
    return _document(text, "$", others, "")


def _document(text: str, path: str, others: dict[str, Document], name: str) -> Document:
    try:
        return document(json.loads(text), path, others, name)
    except ValueError as error:
        raise invalid(Format.JSON, path, f"it is no JSON ({error})") from error
    except RecursionError as error:
        raise invalid(Format.JSON, path, "it is nested too deeply") from error


def document(root: Any, path: str = "$", others: dict[str, Document] | None = None, name: str = "") -> Document:
    """The document of a schema that is read already.

    Raises:
        FigError: ``schema_invalid`` with the path of the mistake.
    """
    made = Document(root, others=others or {})
    if isinstance(root, dict):
        made.draft = _draft(root.get("$schema"))
        own = root.get("$id", root.get("id"))
        made.base = own if isinstance(own, str) else name
    refs: list[tuple[str, str]] = []
    _walk(made, root, path, refs)
    for where, ref in refs:
        if made.find(ref) is None:
            raise invalid(Format.JSON, where, f"'{ref}' is neither in it nor among its references")
    return made


def _draft(said: Any) -> int:
    for mark, draft in (("draft-04", 4), ("draft-06", 6), ("draft-07", 7), ("2019-09", 2019)):
        if isinstance(said, str) and mark in said:
            return draft
    return 2020


def _walk(document: Document, schema: Any, path: str, refs: list[tuple[str, str]]) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise invalid(Format.JSON, path, "a schema is an object, or true or false")
    for key, value in schema.items():
        if key in _FORMS and not _FORMS[key][0](value):
            raise invalid(Format.JSON, f"{path}.{key}", f"it should be {_FORMS[key][1]}")
    if "$ref" in schema:
        document.refers = True
        refs.append((f"{path}.$ref", schema["$ref"]))
    document.refers = document.refers or "$dynamicRef" in schema or "$recursiveRef" in schema
    _name(document, schema)
    for where, part in _parts(schema, path):
        _walk(document, part, where, refs)


def _name(document: Document, schema: dict[str, Any]) -> None:
    own = schema.get("$id", schema.get("id") if document.draft == 4 else None)
    if isinstance(own, str):
        document.anchors.setdefault(own if own.startswith("#") else urljoin(document.base, own), schema)
    anchor = schema.get("$anchor")
    if isinstance(anchor, str):
        document.anchors.setdefault(f"#{anchor}", schema)


def _parts(schema: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        where = f"{path}.{key}"
        if key in _LISTS or (key == "items" and isinstance(value, list)):
            if not isinstance(value, list):
                raise invalid(Format.JSON, where, "it should be a list of schemas")
            yield from ((f"{where}[{index}]", part) for index, part in enumerate(value))
        elif key in _MAPS:
            if not isinstance(value, dict):
                raise invalid(Format.JSON, where, "it should be schemas by name")
            for name, part in value.items():
                if key == "patternProperties" and not _pattern(name):
                    raise invalid(Format.JSON, f"{where}.{name}", "it should be a regular expression")
                if not (key == "dependencies" and _names(part)):
                    yield f"{where}.{name}", part
        elif key in _SCHEMAS:
            yield where, value


def validate(schema: Text) -> None:
    """Pass when it is a JSON Schema by its own draft (2020-12 or 7 where it names none).

    Raises:
        FigError: ``schema_invalid`` with the path of the mistake.
    """
    documents = {"$": parse(schema)}
    for reference in schema.references:
        documents[f"reference {reference.name}: $"] = documents["$"].others[reference.name]
    for path, known in documents.items():
        error = _metaschema_error(known.root)
        if error is not None:
            raise invalid(Format.JSON, path + error.json_path[1:], error.message) from error


def _metaschema_error(root: Any) -> jsonschema.SchemaError | None:
    if isinstance(root, dict) and "$schema" in root:
        if not isinstance(root["$schema"], str):
            return jsonschema.SchemaError("'$schema' is no text", path=["$schema"])
        tried: list[Any] = [validator_for(root, default=jsonschema.Draft202012Validator)]
    else:
        # Kafka's clients mean draft 7 where they name none; most such schemas are good 2020-12 too.
        tried = [jsonschema.Draft202012Validator, jsonschema.Draft7Validator]
    first: jsonschema.SchemaError | None = None
    for kind in tried:
        try:
            kind.check_schema(root)
        except jsonschema.SchemaError as error:
            first = first or error
        else:
            return None
    return first


def canonical(schema: Text) -> str:
    """The normal form: keys sorted, no white space, marks of our generator left out."""
    return normal(parse(schema).root)


def normal(root: Any) -> str:
    """The normal form of a schema that is read already."""
    if isinstance(root, Mapping):
        root = {key: value for key, value in root.items() if key != "x-fig-generated"}
    return plain(root)


def plain(value: Any) -> str:
    """A value as text, the same for equal JSON (Python takes True for 1)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal JSON, without writing them out."""
    return bool(one == other) and _alike(one, other)


def _alike(one: Any, other: Any) -> bool:
    """Whether nothing in two values that are equal to Python is true here and 1 there."""
    if isinstance(one, dict):
        return all(type(value) is str or _alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return all(map(_alike, one, other))
    return isinstance(one, bool) == isinstance(other, bool)
