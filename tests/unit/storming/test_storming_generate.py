"""What is generated from a model: valid schemas, a document of topics, and a team's edits that are kept."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import jsonschema
import pytest
import yaml

from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas import formats
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

    assert len(generate.drift(model, context, tmp_path)) == 4 and list(tmp_path.iterdir()) == []
    first = states(generate.write(model, context, tmp_path))
    made = ("ItemAdded.v2.json", "topics.json", "asyncapi.json", "extraction.yaml")
    assert first == dict.fromkeys(made, "written")
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
    assert outcomes == {"ItemAdded.v2.json": "drifted", "asyncapi.json": "written", "topics.json": "unchanged"}
    assert json.loads(path.read_text()) == edited
    (drifted,) = generate.drift(changed, changed.contexts[0], tmp_path)
    assert (drifted.path.name, drifted.state) == ("ItemAdded.v2.json", "drifted")
    assert any("in euros" in line and line.startswith("-") for line in drifted.diff)
    assert any("uuid" in line and line.startswith("+") for line in drifted.diff)


def test_an_earlier_version_stays_and_the_schema_of_an_event_that_is_gone_is_stale(
    model: Model, context: Context, tmp_path: Path
) -> None:
    generate.write(model, context, tmp_path)
    (tmp_path / "schemas" / "Ours.v1.json").write_text("{}")
    (tmp_path / "schemas" / "notes.txt").write_text("ours")
    newer = parse(TEXT.replace("v2", "v3"))
    generate.write(newer, newer.contexts[0], tmp_path)
    assert generate.drift(newer, newer.contexts[0], tmp_path) == []
    renamed = parse(TEXT.replace("event ItemAdded", "event ItemTaken"))
    found = generate.drift(renamed, renamed.contexts[0], tmp_path)
    assert [o.path.name for o in found if o.state == "stale"] == ["ItemAdded.v2.json", "ItemAdded.v3.json"]
    assert (tmp_path / "schemas" / "ItemAdded.v2.json").exists()


def test_avro_holds_the_same_events(model: Model, context: Context, tmp_path: Path) -> None:
    generate.write(model, context, tmp_path)
    assert not list(tmp_path.glob("schemas/*.avsc"))
    generate.write(model, context, tmp_path, with_avro=True)
    (path,) = tmp_path.glob("schemas/*.avsc")
    (event,) = context.events()
    schema = generate.unmarked(json.loads(path.read_text()))
    assert (schema["namespace"], schema["name"]) == tuple(context.event_type(event).split("."))
    good: dict[str, Any] = {
        "item_id": 1,
        "price": "1.50",
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "tags": ["a"],
        "owner": "Bo",
        "w": "anything",
        "note": None,
    }
    parsed, out = fastavro.parse_schema(schema), io.BytesIO()
    fastavro.schemaless_writer(out, parsed, good)
    assert fastavro.schemaless_reader(io.BytesIO(out.getvalue()), parsed, None) == good
    # From now on they are looked after unasked.
    changed = parse(TEXT.replace("item_id: int, price", "item_id: int, more: str?, price"))
    assert path in [o.path for o in generate.drift(changed, changed.contexts[0], tmp_path)]
    generate.write(changed, changed.contexts[0], tmp_path)
    assert generate.drift(changed, changed.contexts[0], tmp_path) == []
    old, new = (formats.Text(formats.Format.AVRO, t) for t in (json.dumps(schema), path.read_text()))
    assert formats.problems(new, [old], formats.Level.FULL) == []
    odd = parse("context Tea\n  aggregate A\n    command AddTea\n    event TeaAdded(größe: int) v1\n")
    with pytest.raises(FigError, match="not a valid Avro schema"):
        generate.write(odd, odd.contexts[0], tmp_path / "odd", with_avro=True)


def test_topics_say_what_travels_and_what_is_read(model: Model, context: Context) -> None:
    found = generate.topics_of(model, context)
    assert found["topic"] == "events.inventory"
    assert found["events"] == {"inventory.ItemAdded": {"version": 2, "key": "item_id"}}
    two = parse(
        'context Inventory\n  policy "a": Orders.OrderPlaced, Paid -> AddItem\n  readmodel Money <- Paid\n'
        "context Billing\n  aggregate Bill\n    command Pay\n    event Paid v1\n"
    )
    here = two.context("inventory")
    assert here is not None
    expected = {"events.billing": ["billing.Paid"], "events.orders": ["orders.OrderPlaced"]}
    assert generate.topics_of(two, here)["reads"] == expected


def test_the_draft_of_an_extraction_is_a_whole_one(context: Context) -> None:
    found = ExtractionSettings.model_validate(yaml.safe_load(generate.extraction_draft(context)))
    assert (found.context, found.model) == ("inventory", "model.storm")


@pytest.mark.parametrize("text", ["not json", "[]", '{"type": "object"}'])
def test_a_file_of_the_teams_own_is_never_overwritten(
    text: str, model: Model, context: Context, tmp_path: Path
) -> None:
    path = tmp_path / "asyncapi.json"
    path.write_text(text)
    generate.write(model, context, tmp_path)
    assert path.read_text() == text
