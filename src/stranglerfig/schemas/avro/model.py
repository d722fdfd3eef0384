"""Avro schemas as objects, read by the rules of the specification (1.12, which 1.11 agrees with save where noted)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from stranglerfig.schemas.terms import Format, Reference, Text, invalid

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
NAMED = ("record", "enum", "fixed")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RANGES = {"int": 2**31, "long": 2**63}
NO_DEFAULT: Any = object()
"""A field without a default; None is a default."""


@dataclass(slots=True, eq=False)
class Field:
    """A record's field; ``default`` is ``NO_DEFAULT`` where it has none."""

    name: str
    schema: Schema
    aliases: tuple[str, ...]
    default: Any
    extra: dict[str, Any]


@dataclass(slots=True, eq=False)
class Schema:
    """Any schema. A recursive type is the same object wherever it is named, so schemas are compared by identity.

    Attributes:
        name: the full name of a record, enum or fixed; else empty.
        content: the schema of an array's items or a map's values.
        extra: attributes without a rule of their own here: doc, order, logicalType, connect.name …
    """

    kind: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    fields: list[Field] = field(default_factory=list)
    symbols: tuple[str, ...] = ()
    default: Any = None
    size: int = 0
    content: Schema | None = None
    branches: tuple[Schema, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """The name without its namespace, or the kind where there is no name."""
        return self.name.rpartition(".")[2] or self.kind

    @property
    def inner(self) -> Schema:
        """``content`` of an array or a map."""
        assert self.content is not None
        return self.content

    @property
    def logical(self) -> tuple[str, int, int] | None:
        """The logical type's name, precision and scale; None where there is none or it must be ignored."""
        name = self.extra.get("logicalType")
        if not isinstance(name, str) or self.kind not in _LOGICAL.get(name, ()):
            return None
        if name == "decimal":
            return self._decimal()
        if (name == "duration" and self.size != 12) or (name == "uuid" and self.kind == "fixed" and self.size != 16):
            return None
        return name, 0, 0

    def _decimal(self) -> tuple[str, int, int] | None:
        precision, scale = self.extra.get("precision"), self.extra.get("scale", 0)
        if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision or precision == 0:
            return None
        if self.kind == "fixed" and 10**precision > 2 ** (8 * self.size - 1):
            return None
        return "decimal", precision, scale


_LOGICAL: dict[str, tuple[str, ...]] = {
    "decimal": ("bytes", "fixed"),
    "big-decimal": ("bytes",),
    "uuid": ("string", "fixed"),
    "date": ("int",),
    "time-millis": ("int",),
    "time-micros": ("long",),
    **{f"{local}timestamp-{unit}": ("long",) for local in ("", "local-") for unit in ("millis", "micros", "nanos")},
    "duration": ("fixed",),
}


def parse(schema: Text) -> Schema:
    """The schema as an object.

    Raises:
        FigError: ``schema_invalid`` with the path of the mistake.
    """
    return _parse(schema.text, schema.references)


@lru_cache(maxsize=512)
def _parse(text: str, references: tuple[Reference, ...]) -> Schema:
    reader = _Reader()
    for reference in references:
        reader.document(reference.text, f"reference {reference.name}: $")
    return reader.document(text, "$")


class _Reader:
    """Reads documents that share their named types."""

    def __init__(self) -> None:
        self._named: dict[str, Schema] = {}

    def document(self, text: str, path: str) -> Schema:
        pending: list[tuple[Field, str]] = []
        try:
            schema = self._schema(json.loads(text), "", path, pending)
        except ValueError as error:
            raise invalid(Format.AVRO, path, f"it is no JSON ({error})") from error
        except RecursionError as error:
            raise invalid(Format.AVRO, path, "it is nested too deeply") from error
        # A default can be of a type that is still being read (a recursive record): looked at once all is known.
        for holder, where in pending:
            if not _fits(holder.default, holder.schema):
                said = json.dumps(holder.default)
                raise invalid(
                    Format.AVRO, where, f"the default {said} is not of the field's type {described(holder.schema)}"
                )
        return schema

    def _schema(self, found: Any, space: str, path: str, pending: list[tuple[Field, str]]) -> Schema:
        if isinstance(found, str):
            return self._by_name(found, space, path)
        if isinstance(found, list):
            return self._union(found, space, path, pending)
        if not isinstance(found, dict):
            raise invalid(Format.AVRO, path, "a schema is a name, an object or a list of schemas")
        kind = found.get("type")
        if isinstance(kind, (dict, list)):
            inner = self._schema(kind, space, f"{path}.type", pending)
            if not inner.name:  # a named type is shared: what one use says of it is not said of all
                inner.extra |= _extra(found, "type")
            return inner
        if kind in PRIMITIVES:
            return Schema(kind, extra=_extra(found, "type"))
        if kind in ("array", "map"):
            key = "items" if kind == "array" else "values"
            if key not in found:
                raise invalid(Format.AVRO, path, f"'{key}' is missing")
            inner = self._schema(found[key], space, f"{path}.{key}", pending)
            return Schema(kind, content=inner, extra=_extra(found, "type", key))
        if kind in (*NAMED, "error"):
            return self._definition(found, space, path, pending)
        if isinstance(kind, str):
            return self._by_name(kind, space, f"{path}.type")
        raise invalid(Format.AVRO, path, "'type' is missing")

    def _by_name(self, name: str, space: str, path: str) -> Schema:
        if name in PRIMITIVES:
            return Schema(name)
        known = self._named.get(name if "." in name or not space else f"{space}.{name}") or self._named.get(name)
        if known is None:
            raise invalid(Format.AVRO, path, f"the type '{name}' is not known here")
        return known

    def _union(self, found: list[Any], space: str, path: str, pending: list[tuple[Field, str]]) -> Schema:
        branches: list[Schema] = []
        seen: set[str] = set()
        for index, part in enumerate(found):
            branch = self._schema(part, space, f"{path}[{index}]", pending)
            if branch.kind == "union":
                raise invalid(Format.AVRO, f"{path}[{index}]", "a union is not directly within another")
            identity = branch.name or branch.kind
            if identity in seen:
                raise invalid(Format.AVRO, f"{path}[{index}]", f"'{identity}' is in the union twice")
            seen.add(identity)
            branches.append(branch)
        return Schema("union", branches=tuple(branches))

    def _definition(self, found: Mapping[str, Any], space: str, path: str, pending: list[tuple[Field, str]]) -> Schema:
        name = found.get("name")
        if not isinstance(name, str):
            raise invalid(Format.AVRO, path, "'name' is missing")
        if "." in name:
            full = name
        else:
            outer = found.get("namespace", space)
            full = f"{outer}.{name}" if outer else name
        space = full.rpartition(".")[0]
        for part in full.split("."):
            _check_name(part, f"{path}.name")
        if full in self._named or full in PRIMITIVES:
            raise invalid(Format.AVRO, f"{path}.name", f"'{full}' is defined twice")
        kind = "record" if found["type"] == "error" else found["type"]
        schema = Schema(kind, full, _aliases(found, space, path))
        self._named[full] = schema
        known = ["type", "name", "namespace", "aliases"]
        if kind == "record":
            self._fields(schema, found, space, path, pending)
            known += ["fields"]
        elif kind == "enum":
            _symbols(schema, found, path)
            known += ["symbols", "default"]
        else:
            size = found.get("size")
            if type(size) is not int or size < 0:
                raise invalid(Format.AVRO, f"{path}.size", "a fixed has a size in bytes")
            schema.size = size
            known += ["size"]
        schema.extra = _extra(found, *known)
        return schema

    def _fields(
        self, schema: Schema, found: Mapping[str, Any], space: str, path: str, pending: list[tuple[Field, str]]
    ) -> None:
        listed = found.get("fields")
        if not isinstance(listed, list):
            raise invalid(Format.AVRO, f"{path}.fields", "a record has a list of fields")
        seen: set[str] = set()
        for index, part in enumerate(listed):
            where = f"{path}.fields[{index}]"
            if not isinstance(part, dict) or not isinstance(part.get("name"), str):
                raise invalid(Format.AVRO, where, "a field is an object with a name")
            name = part["name"]
            _check_name(name, f"{where}.name")
            if name in seen:
                raise invalid(Format.AVRO, f"{where}.name", f"the field '{name}' is there twice")
            if "type" not in part:
                raise invalid(Format.AVRO, where, "'type' is missing")
            seen.add(name)
            aliases = part.get("aliases", [])
            if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
                raise invalid(Format.AVRO, f"{where}.aliases", "aliases are a list of names")
            kind = self._schema(part["type"], space, f"{where}.type", pending)
            extra = _extra(part, "name", "type", "aliases", "default")
            read = Field(name, kind, tuple(aliases), part.get("default", NO_DEFAULT), extra)
            if read.default is not NO_DEFAULT:
                pending.append((read, f"{where}.default"))
            schema.fields.append(read)


def _extra(found: Mapping[str, Any], *known: str) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in known}


def _check_name(name: str, path: str) -> None:
    if not _NAME.fullmatch(name):
        raise invalid(Format.AVRO, path, f"'{name}' is not a name: letters, digits and _, not a digit first")


def _aliases(found: Mapping[str, Any], space: str, path: str) -> tuple[str, ...]:
    listed = found.get("aliases", [])
    if not isinstance(listed, list) or not all(isinstance(alias, str) for alias in listed):
        raise invalid(Format.AVRO, f"{path}.aliases", "aliases are a list of names")
    return tuple(alias if "." in alias or not space else f"{space}.{alias}" for alias in listed)


def _symbols(schema: Schema, found: Mapping[str, Any], path: str) -> None:
    listed = found.get("symbols")
    if not isinstance(listed, list) or not all(isinstance(symbol, str) for symbol in listed):
        raise invalid(Format.AVRO, f"{path}.symbols", "an enum has a list of symbols")
    for symbol in listed:
        _check_name(symbol, f"{path}.symbols")
    if len(set(listed)) < len(listed):
        raise invalid(Format.AVRO, f"{path}.symbols", "a symbol is there twice")
    if "default" in found and found["default"] not in listed:
        raise invalid(Format.AVRO, f"{path}.default", "the default is none of the symbols")
    schema.symbols, schema.default = tuple(listed), found.get("default")


def _fits(value: Any, schema: Schema) -> bool:
    """Whether ``value`` can be a default; 1.12 allows any branch of a union, 1.11 only the first."""
    kind = schema.kind
    if kind == "union":
        return any(_fits(value, branch) for branch in schema.branches)
    if kind == "record":
        return isinstance(value, dict) and all(
            _fits(value[part.name], part.schema) if part.name in value else part.default is not NO_DEFAULT
            for part in schema.fields
        )
    if kind == "array":
        return isinstance(value, list) and all(_fits(part, schema.inner) for part in value)
    if kind == "map":
        return isinstance(value, dict) and all(_fits(part, schema.inner) for part in value.values())
    if kind in _RANGES:
        return type(value) is int and -_RANGES[kind] <= value < _RANGES[kind]
    if kind in ("float", "double"):
        return (type(value) in (int, float)) or value in ("NaN", "Infinity", "-Infinity")
    if kind == "enum":
        return value in schema.symbols
    if kind == "fixed":
        return isinstance(value, str) and len(value) == schema.size
    return {"null": value is None, "boolean": isinstance(value, bool)}.get(kind, isinstance(value, str))


def described(schema: Schema) -> str:
    """The type in a word or two, for a sentence."""
    if schema.kind == "union":
        return "one of " + ", ".join(described(branch) for branch in schema.branches) if schema.branches else "nothing"
    if schema.kind in ("array", "map"):
        return f"{schema.kind} of {described(schema.inner)}"
    if schema.kind in NAMED:
        return f"{schema.kind} {schema.short}"
    logical = schema.logical
    if logical is None:
        return schema.kind
    return f"{schema.kind} ({said_logical(logical)})"


def said_logical(logical: tuple[str, int, int] | None) -> str:
    """A logical type in words."""
    if logical is None:
        return "no logical type"
    name, precision, scale = logical
    return f"decimal of {precision} digits, {scale} behind the point" if name == "decimal" else name


def canonical(schema: Text) -> str:
    """The normal form: Parsing Canonical Form's rules except [STRIP].

    What that rule strips is kept: a default, an alias or a logical type makes another schema for a reader, and
    ``connect.*`` for a converter. Names are full, primitives plain, attributes in a fixed order, no white space.
    """
    return json.dumps(_form(parse(schema), set()), separators=(",", ":"), ensure_ascii=False)


def parsing_form(schema: Text) -> str:
    """The specification's Parsing Canonical Form, which fingerprints are made of."""
    return json.dumps(_form(parse(schema), set(), strip=True), separators=(",", ":"), ensure_ascii=False)


def _form(schema: Schema, written: set[str], *, strip: bool = False) -> Any:
    if schema.name in written:
        return schema.name
    if schema.kind == "union":
        return [_form(branch, written, strip=strip) for branch in schema.branches]
    extra = {} if strip else {key: schema.extra[key] for key in sorted(schema.extra)}
    if schema.kind in PRIMITIVES:
        return {"type": schema.kind, **extra} if extra else schema.kind
    if schema.kind in ("array", "map"):
        key = "items" if schema.kind == "array" else "values"
        return {"type": schema.kind, key: _form(schema.inner, written, strip=strip), **extra}
    written.add(schema.name)
    form: dict[str, Any] = {"name": schema.name, "type": schema.kind}
    if schema.kind == "record":
        form["fields"] = [_field_form(part, written, strip) for part in schema.fields]
    elif schema.kind == "enum":
        form["symbols"] = list(schema.symbols)
        if schema.default is not None and not strip:
            form["default"] = schema.default
    else:
        form["size"] = schema.size
    if schema.aliases and not strip:
        form["aliases"] = sorted(schema.aliases)
    return form | extra


def _field_form(part: Field, written: set[str], strip: bool) -> dict[str, Any]:
    form: dict[str, Any] = {"name": part.name, "type": _form(part.schema, written, strip=strip)}
    if strip:
        return form
    if part.default is not NO_DEFAULT:
        form["default"] = part.default
    if part.aliases:
        form["aliases"] = sorted(part.aliases)
    return form | {key: part.extra[key] for key in sorted(part.extra)}
