"""Checks of data against a JSON Schema: a compiled fast path for plain schemas, the full validator for the rest.

The fast path only ever says "valid"; whatever it does not accept is judged, and explained, by the full validator.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import jsonschema
from jsonschema.protocols import Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

Check = Callable[[Any], bool]
_KNOWN = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "pattern", "format"}
    | {"title", "description", "$schema", "$id", "$comment", "examples", "default"}
)


def _instant(value: str) -> bool:
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError("an instant has an offset")
    return True


_FORMATS: dict[str, Callable[[str], object]] = {
    "date-time": _instant,
    "date": date.fromisoformat,
    "uuid": uuid.UUID,
}
_checker = jsonschema.FormatChecker(formats=())
for _name, _parse in _FORMATS.items():
    _checker.checks(_name, raises=ValueError)(
        lambda value, parse=_parse: not isinstance(value, str) or bool(parse(value))
    )

_TYPES: dict[str, Check] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
}


class Checker:
    """A schema, compiled.

    Args:
        references: other schemas by the names that its ``$ref`` have for them.
    """

    def __init__(
        self, schema: Mapping[str, Any] | bool, references: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        draft = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        resources = [
            (name, Resource.from_contents(found, default_specification=DRAFT202012))
            for name, found in (references or {}).items()
        ]
        known: Registry[Any] = Registry().with_resources(resources)
        self._full: Validator = draft(schema, format_checker=_checker, registry=known)
        self._fast = _compile(schema) if isinstance(schema, Mapping) else None

    def problem(self, data: Any) -> tuple[str, str] | None:
        """None when ``data`` matches, else (path such as ``$.delta``, what is wrong)."""
        if self._fast is not None and self._fast(data):
            return None
        error = jsonschema.exceptions.best_match(self._full.iter_errors(data))
        return None if error is None else (error.json_path, error.message)


def _compile(schema: Mapping[str, Any]) -> Check | None:
    """A predicate that is true only for valid data; None for a schema beyond its means."""
    if any(key not in _KNOWN and not key.startswith("x-") for key in schema):
        return None
    kinds = schema.get("type")
    names = [kinds] if isinstance(kinds, str) else kinds
    if not names:
        return None
    details: dict[str, list[Check]] = {name: [] for name in names}
    if "object" in details and not _add(details["object"], _object(schema)):
        return None
    if "array" in details and "items" in schema and not _add(details["array"], _array(schema)):
        return None
    if "string" in details:
        if schema.get("format", "date") not in _FORMATS:
            return None
        details["string"] += _string(schema)
    if "enum" in schema:
        # JSON tells true from 1 and Python does not: leave such values to the full validator.
        allowed = [value for value in schema["enum"] if isinstance(value, str)]
        for checks in details.values():
            checks.append(lambda value: isinstance(value, str) and value in allowed)
    pairs = [(_TYPES[name], tuple(checks)) for name, checks in details.items()]
    if len(pairs) == 1:
        is_kind, only = pairs[0]
        if not only:
            return is_kind
        return lambda value: is_kind(value) and all(check(value) for check in only)
    return lambda value: any(is_kind(value) and all(check(value) for check in checks) for is_kind, checks in pairs)


def _add(checks: list[Check], check: Check | None) -> bool:
    if check is not None:
        checks.append(check)
    return check is not None


def _object(schema: Mapping[str, Any]) -> Check | None:
    required = tuple(schema.get("required", ()))
    compiled = {name: _compile(part) for name, part in schema.get("properties", {}).items()}
    parts = {name: check for name, check in compiled.items() if check is not None}
    closed = schema.get("additionalProperties", True)
    if len(parts) < len(compiled) or not isinstance(closed, bool):
        return None
    open_ended = closed

    def check(value: dict[str, Any]) -> bool:
        for name in required:
            if name not in value:
                return False
        for name, part in value.items():
            inner = parts.get(name)
            if inner is None:
                if not open_ended:
                    return False
            elif not inner(part):
                return False
        return True

    return check


def _array(schema: Mapping[str, Any]) -> Check | None:
    inner = _compile(schema["items"])
    return None if inner is None else lambda value: all(inner(part) for part in value)


def _string(schema: Mapping[str, Any]) -> list[Check]:
    checks: list[Check] = []
    if "pattern" in schema:
        search = re.compile(schema["pattern"]).search
        checks.append(lambda value: search(value) is not None)
    if "format" in schema:
        parse = _FORMATS[schema["format"]]

        def well_formed(value: str) -> bool:
            try:
                parse(value)
            except ValueError:
                return False
            return True

        checks.append(well_formed)
    return checks
