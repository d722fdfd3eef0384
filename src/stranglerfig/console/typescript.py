"""``python -m stranglerfig.console.typescript FILE``: the API's models as TypeScript, for the console's page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from stranglerfig.console import app, openapi
from stranglerfig.console.entry import Entry
from stranglerfig.console.reading import Reading

HEAD = "// Written by `make types-web` from the Python models of stranglerfig.console; change them there.\n"
_PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def written() -> str:
    """The file's text: an interface per model, in the order of their names."""
    # Nothing is read of a project: only what its routes are declared with.
    routes = app.routes(Reading.nowhere(), Entry(Path()))
    return HEAD + "".join(f"\n{_declared(name, schema)}\n" for name, schema in openapi.schemas(routes).items())


def _declared(name: str, schema: dict[str, Any]) -> str:
    said = f"/** {' '.join(schema['description'].split())} */\n" if schema.get("description") else ""
    if "properties" not in schema:
        return f"{said}export type {name} = {_type(schema)};"
    required = schema.get("required", ())
    lines = [f"  {key}{'' if key in required else '?'}: {_type(part)};\n" for key, part in schema["properties"].items()]
    return f"{said}export interface {name} {{\n{''.join(lines)}}}"


def _type(schema: dict[str, Any]) -> str:
    match schema:
        case {"$ref": ref}:
            return str(ref).rpartition("/")[2]
        case {"const": value}:
            return json.dumps(value)
        case {"enum": values}:
            return " | ".join(json.dumps(value) for value in values)
        case {"anyOf": options}:
            return " | ".join(dict.fromkeys(_type(option) for option in options))
        case {"type": "array", "prefixItems": items}:
            return f"[{', '.join(_type(item) for item in items)}]"
        case {"type": "array"}:
            item = _type(schema.get("items", {}))
            return f"({item})[]" if " | " in item else f"{item}[]"
        case {"type": "object"}:
            values = schema.get("additionalProperties", {})
            return f"Record<string, {_type(values) if isinstance(values, dict) else 'unknown'}>"
        case {"type": kind}:
            return _PLAIN[kind]
    return "unknown"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(written(), encoding="utf-8")
