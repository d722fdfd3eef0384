"""What is generated from a model: valid schemas, a document of topics, and a team's edits that are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from stranglerfig.storming import generate
from stranglerfig.storming.model import Context, Model
from stranglerfig.storming.text import parse

TEXT = """\
context Inventory
  aggregate Item
    command AddItem(item_id: int)
    event ItemAdded(item_id: int, price: decimal, at: timestamp, tags: list[str], MORE) v2 key item_id
""".replace("MORE", "note: str?, owner: str personal, w: weird")


@pytest.fixture
def model() -> Model:
    return parse(TEXT)


@pytest.fixture
def context(model: Model) -> Context:
    return model.contexts[0]


def test_schemas_are_valid_and_closed(context: Context) -> None:
    (event,) = context.events()
    schema = generate.schema(context, event)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good: dict[str, Any] = {
        "item_id": 1,
        "price": "1.50",
        "at": "2026-01-02T03:04:05Z",
        "tags": ["a"],
        "owner": "Bo",
        "w": 1,
    }
    assert validator.is_valid(good) and validator.is_valid({**good, "note": None})
    for bad in ({"item_id": "1"}, {"price": 1.5}, {"tags": [1]}, {"more": 1}):
        assert not validator.is_valid(good | bad)
    assert schema["properties"]["owner"] == {"type": "string", "x-personal": True}
    assert (schema["title"], schema["x-version"], schema["x-key"]) == ("inventory.ItemAdded", 2, "item_id")


def test_the_document_of_topics(model: Model) -> None:
    document = generate.asyncapi(model, title="Events")
    assert document["asyncapi"] == "3.0.0"
    assert document["channels"]["inventory"]["address"] == "events.inventory" == generate.topics(model)[0]
    reference = document["channels"]["inventory"]["messages"]["ItemAdded"]["payload"]["$ref"].removeprefix("#/")
    found = document
    for part in reference.split("/"):
        found = found[part]
    assert found["title"] == "inventory.ItemAdded"


def test_a_teams_edits_are_kept_and_drift_is_told(model: Model, context: Context, tmp_path: Path) -> None:
    def states(found: list[generate.Outcome]) -> dict[str, str]:
        return {outcome.path.name: outcome.state for outcome in found}

    assert len(generate.drift(model, context, tmp_path)) == 3 and list(tmp_path.iterdir()) == []
    first = states(generate.write(model, context, tmp_path))
    assert first == {"ItemAdded.v2.json": "written", "asyncapi.json": "written", "extraction.yaml": "written"}
    assert set(states(generate.write(model, context, tmp_path)).values()) == {"unchanged"}
    assert yaml.safe_load((tmp_path / "extraction.yaml").read_text())["context"] == "inventory"

    path = tmp_path / "schemas" / "ItemAdded.v2.json"
    edited = json.loads(path.read_text())
    edited["properties"]["price"]["description"] = "in euros"
    path.write_text(json.dumps(edited))
    assert states(generate.write(model, context, tmp_path))["ItemAdded.v2.json"] == "edited"
    assert generate.drift(model, context, tmp_path) == []

    changed = parse(TEXT.replace("item_id: int, price", "item_id: uuid, price"))
    outcomes = states(generate.write(changed, changed.contexts[0], tmp_path))
    assert outcomes == {"ItemAdded.v2.json": "drifted", "asyncapi.json": "written"}
    assert json.loads(path.read_text()) == edited
    assert states(generate.drift(changed, changed.contexts[0], tmp_path)) == {"ItemAdded.v2.json": "drifted"}


@pytest.mark.parametrize("text", ["not json", "[]", '{"type": "object"}'])
def test_a_file_of_the_teams_own_is_never_overwritten(
    text: str, model: Model, context: Context, tmp_path: Path
) -> None:
    path = tmp_path / "asyncapi.json"
    path.write_text(text)
    generate.write(model, context, tmp_path)
    assert path.read_text() == text
