"""The Avro schema of an event: a record in its context's namespace, for estates whose consumers read Avro."""

from __future__ import annotations

import re
from typing import Any

from stranglerfig.schemas.terms import Format, invalid
from stranglerfig.storming.model import Context, Event, Field

_TYPES: dict[str, Any] = {
    "int": "long",
    "str": "string",
    "bool": "boolean",
    # As text, as in JSON: Avro's decimal wants a scale, which the model does not say.
    "decimal": "string",
    "float": "double",
    "timestamp": {"type": "long", "logicalType": "timestamp-micros"},
    "date": {"type": "int", "logicalType": "date"},
    "uuid": {"type": "string", "logicalType": "uuid"},
}


def record(context: Context, event: Event) -> dict[str, Any]:
    """The schema of an event's data; an optional field is null by default, so that it may be added later.

    Raises:
        FigError: ``schema_invalid`` for a name with letters that Avro does not take.
    """
    for name in (context.slug, event.name, *(f.name for f in event.fields)):
        if not name.isascii():
            raise invalid(Format.AVRO, f"{context.slug}.{event.name}", f"'{name}' is not of the letters A to Z")
    return {
        "type": "record",
        "name": event.name,
        "namespace": context.slug,
        "fields": [_field(f) for f in event.fields],
        "x-version": event.version,
        **({"x-key": event.key} if event.key else {}),
    }


def _field(f: Field) -> dict[str, Any]:
    match = re.fullmatch(r"list\[(\w+)\]", f.type)
    # What is no type of the model's is an error of lint; text takes anything meanwhile.
    one = _TYPES.get(match[1] if match else f.type, "string")
    found = {"type": "array", "items": one} if match else one
    return {
        "name": f.name,
        **({"type": ["null", found], "default": None} if f.optional else {"type": found}),
        **({"x-personal": True} if f.personal else {}),
    }
