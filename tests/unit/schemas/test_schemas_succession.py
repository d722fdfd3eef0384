"""What may follow what under a subject: the concession to events of a model, and nothing more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stranglerfig.schemas.formats import Format, Level, Text
from stranglerfig.schemas.succession import problems


def event(modelled: bool = True, **properties: Any) -> Text:
    found = {"type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False}
    return Text(Format.JSON, json.dumps(found | ({"x-version": 1} if modelled else {})))


FEW = event(reason={"type": "string", "enum": ["sold"]})
MORE = event(reason={"type": "string", "enum": ["sold", "lost"]})


@pytest.mark.parametrize("level", [Level.FULL, Level.FULL_TRANSITIVE])
def test_a_list_of_values_may_grow_and_not_shrink(level: Level) -> None:
    assert problems(MORE, [FEW], level) == []
    assert [each.kind for each in problems(FEW, [MORE], level)] == ["VALUES_NARROWED"]


def test_nothing_else_is_conceded() -> None:
    for new in (event(), event(reason={"type": "integer"}), event(reason={"type": "string"}, more={"type": "string"})):
        assert problems(new, [FEW], Level.FULL)
    assert problems(MORE, [FEW], Level.FORWARD), "who asks for one direction gets it whole"


def test_schemas_of_others_get_what_the_level_says() -> None:
    few = event(False, reason={"type": "string", "enum": ["sold"]})
    more = event(False, reason={"type": "string", "enum": ["sold", "lost"], "description": "x-version"})
    assert problems(more, [few], Level.FULL)
    avro = Text(Format.AVRO, '{"type": "string", "x-version": 1}')
    assert problems(Text(Format.AVRO, '{"type": "long", "x-version": 2}'), [avro], Level.FULL)
