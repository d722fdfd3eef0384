"""Which changes of a schema part writers and readers, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest

from stranglerfig.schemas.model import canonical, incompatibilities, schema_id, uri, version_of

OLD: dict[str, Any] = {
    "title": "inventory.StockAdjusted",
    "type": "object",
    "properties": {
        "item_id": {"type": "integer"},
        "reason": {"type": "string", "enum": ["count", "loss"]},
        "at": {"type": "string", "format": "date-time"},
        "note": {"type": ["string", "null"]},
        "lines": {
            "type": "array",
            "items": {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]},
        },
    },
    "required": ["item_id", "reason", "at"],
    "additionalProperties": False,
}


def changed(**properties: Any) -> dict[str, Any]:
    """OLD with some properties replaced; None removes one."""
    merged = OLD["properties"] | properties
    return OLD | {"properties": {name: part for name, part in merged.items() if part is not None}}


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        OLD | {"title": "another title", "description": "words"},
        changed(warehouse={"type": "string"}),  # an optional field is added
        changed(note=None),  # an optional field goes
        changed(reason={"type": "string", "enum": ["count", "loss", "theft"]}),
        changed(reason={"type": "string"}),
        changed(
            lines=OLD["properties"]["lines"] | {"items": OLD["properties"]["lines"]["items"] | {"minProperties": 1}}
        ),
        OLD | {"x-version": 2},
    ],
)
def test_compatible(new: dict[str, Any]) -> None:
    assert incompatibilities(OLD, new) == []


@pytest.mark.parametrize(
    ("new", "path", "words"),
    [
        (changed(item_id={"type": "string"}), "$.item_id", "from integer to string"),
        (changed(item_id={}), "$.item_id", "from integer to anything"),
        (changed(item_id={"type": ["integer", "null"]}), "$.item_id", "to integer or null"),
        (changed(item_id=None), "$.item_id", "the required field 'item_id' is removed:"),
        (changed(item_id=None, item={"type": "integer"}), "$.item_id", "renamed to 'item'?"),
        (OLD | {"required": ["item_id", "reason", "at", "note"]}, "$.note", "becomes required"),
        (OLD | {"required": ["item_id", "reason"]}, "$.at", "becomes optional"),
        (
            changed(x={"type": "integer"}) | {"required": [*OLD["required"], "x"]},
            "$.x",
            "the required field 'x' is added",
        ),
        (changed(reason={"type": "string", "enum": ["count"]}), "$.reason", "no longer allowed: 'loss'"),
        (changed(note={"type": ["string", "null"], "enum": ["a"]}), "$.note", "no longer allowed"),
        (changed(at={"type": "string", "format": "date"}), "$.at", "'format' becomes 'date'"),
        (changed(at={"type": "string"}), "$.at", "'format' 'date-time' goes away"),
        (changed(item_id={"type": "integer", "minimum": 1}), "$.item_id", "'minimum' becomes 1"),
        (changed(lines={"type": "array", "items": {"type": "object", "properties": {}}}), "$.lines[].sku", "removed"),
        (OLD | {"oneOf": [{"required": ["note"]}, {"required": ["lines"]}]}, "$", "now only one of"),
        (OLD | {"vocabularyOfTheirs": 1}, "$", "'vocabularyOfTheirs' changes, and what that means"),
    ],
)
def test_incompatible(new: dict[str, Any], path: str, words: str) -> None:
    found = incompatibilities(OLD, new)
    assert any(problem.path == path and words in problem.words for problem in found), found


def test_identity_is_what_a_schema_says() -> None:
    assert schema_id(OLD) == schema_id(dict(reversed(OLD.items())) | {"x-fig-generated": "abc"})
    assert schema_id(OLD) != schema_id(changed(note=None))
    assert canonical({"b": 1, "a": 2}) == '{"a":2,"b":1}'


def test_the_uri_names_the_version() -> None:
    assert version_of(uri("inventory.StockAdjusted", 3)) == 3
    assert version_of(None) is version_of("https://elsewhere/3") is version_of("fig:schemas/x/latest") is None
