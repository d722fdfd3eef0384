"""What follows from a model: event schemas, topics, an AsyncAPI document, the draft of an extraction.

Generated files say so in ``x-fig-generated``, a hash of themselves. What a team edits no longer matches its hash: it is
theirs from then on and never overwritten; when the model has moved on meanwhile, that is reported as drift.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stranglerfig.schemas.asyncapi import Channel, Message, document
from stranglerfig.storming.model import Context, Event, Field, Model

MARK = "x-fig-generated"
_TYPES: dict[str, dict[str, Any]] = {
    "int": {"type": "integer"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    # As text: a JSON number would pass through a float at many a reader.
    "decimal": {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"},
    "float": {"type": "number"},
    "timestamp": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file: ``written``, ``unchanged``, ``edited`` (kept) or ``drifted`` (kept, model moved on)."""

    path: Path
    state: str


def topics(model: Model) -> list[str]:
    """The topics of the model's contexts."""
    return [context.topic for context in model.contexts]


def schema(context: Context, event: Event) -> dict[str, Any]:
    """The JSON Schema (2020-12) of an event's data: closed for writers; readers ignore what they do not know."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": context.event_type(event),
        "type": "object",
        "properties": {f.name: _property(f) for f in event.fields},
        "required": [f.name for f in event.fields if not f.optional],
        "additionalProperties": False,
        "x-version": event.version,
        **({"x-key": event.key} if event.key else {}),
    }


def _property(f: Field) -> dict[str, Any]:
    match = re.fullmatch(r"list\[(\w+)\]", f.type)
    found: dict[str, Any] = (
        {"type": "array", "items": dict(_TYPES.get(match[1], {}))} if match else dict(_TYPES.get(f.type, {}))
    )
    if f.optional and "type" in found:
        found["type"] = [found["type"], "null"]
    if f.personal:
        found["x-personal"] = True
    return found


def asyncapi(model: Model, *, title: str) -> dict[str, Any]:
    """The AsyncAPI 3 document of all topics and their events."""
    channels = [
        Channel(
            key=context.slug,
            address=context.topic,
            messages=[
                Message(
                    key=event.name,
                    name=context.event_type(event),
                    content_type="application/json",
                    payload={key: part for key, part in schema(context, event).items() if key != "$schema"},
                    about={},
                )
                for event in context.events()
            ],
            senders=[f"publish.{context.slug}"],
        )
        for context in model.contexts
    ]
    return document(title, channels)


def extraction_draft(context: Context) -> str:
    """A first ``extraction.yaml``: what the model knows, and what the team must fill in."""
    return f"""\
# Drafted from model.storm. Routes, tables and the service's addresses are yours to fill in.
context: {context.slug}
model: model.storm
service:
  url: http://127.0.0.1:8002
  database: {{env: {context.slug.upper().replace("-", "_")}_DSN}}
routes:
  reads:
    - {{path: "/api/{context.slug}/{{id}}", methods: [GET]}}
  writes:
    - {{path: "/api/{context.slug}", methods: [POST]}}
capture: native
remaining_writers: refuse
tables:
  - {{from: public.change_me, to: change_me, key: {{id: id}}}}
"""


def documents(model: Model, context: Context) -> dict[str, dict[str, Any]]:
    """The generated JSON documents of one context, by path below its folder, each with its mark."""
    found = {f"schemas/{event.name}.v{event.version}.json": schema(context, event) for event in context.events()}
    found["asyncapi.json"] = asyncapi(Model((context,)), title=f"Events of {context.name}")
    return {path: marked(document) for path, document in found.items()}


def marked(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the hash of itself."""
    return {**document, MARK: _hash(document)}


def is_edited(document: dict[str, Any]) -> bool:
    """Whether somebody changed it since it was generated (or wrote it)."""
    return document.get(MARK) != _hash(unmarked(document))


def unmarked(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the hash of itself: what it says."""
    return {key: part for key, part in document.items() if key != MARK}


def _hash(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def write(model: Model, context: Context, folder: Path, *, dry_run: bool = False) -> list[Outcome]:
    """Write the context's documents below ``folder`` (``contexts/inventory``); returns what became of each."""
    outcomes = [_write(folder / path, document, dry_run) for path, document in documents(model, context).items()]
    draft = folder / "extraction.yaml"
    if not draft.exists():
        _put(draft, extraction_draft(context), dry_run)
        outcomes.append(Outcome(draft, "written"))
    return outcomes


def _write(path: Path, document: dict[str, Any], dry_run: bool) -> Outcome:
    if path.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            there = None
        if not isinstance(there, dict) or is_edited(there):
            moved = not isinstance(there, dict) or there.get(MARK) not in (None, document[MARK])
            return Outcome(path, "drifted" if moved else "edited")
        if there == document:
            return Outcome(path, "unchanged")
    _put(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n", dry_run)
    return Outcome(path, "written")


def _put(path: Path, text: str, dry_run: bool) -> None:
    if not dry_run:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def drift(model: Model, context: Context, folder: Path) -> list[Outcome]:
    """What on disk is not as the model says, for CI: what would be written, or was edited while the model moved on."""
    return [
        outcome for outcome in write(model, context, folder, dry_run=True) if outcome.state in ("written", "drifted")
    ]
