"""What follows from a model: event schemas, topics, an AsyncAPI document, the draft of an extraction.

Generated files say so in ``x-fig-generated``, a hash of themselves. What a team edits no longer matches its hash: it is
theirs from then on and never overwritten; when the model has moved on meanwhile, that is reported as drift.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stranglerfig.schemas import formats
from stranglerfig.schemas.asyncapi import Channel, Message, document
from stranglerfig.storming import avro
from stranglerfig.storming.model import Context, Event, Field, Model

MARK = "x-fig-generated"
_SCHEMA = re.compile(r"(?P<event>\w+)\.v\d+\.(json|avsc)")
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
    """What became of a file.

    Attributes:
        state: ``written``, ``unchanged``, ``edited`` (kept), ``drifted`` (edited and kept; the model moved on), or
            ``stale`` (kept: generated once, of an event that the model no longer has).
        diff: from what the file says to what the model says, where they differ.
    """

    path: Path
    state: str
    diff: tuple[str, ...] = ()

    @property
    def is_drift(self) -> bool:
        """Whether the file is not, or was not, as the model says: it would be written, or wants somebody."""
        return self.state in ("written", "drifted", "stale")


def topics(model: Model) -> list[str]:
    """The topics of the model's contexts."""
    return [context.topic for context in model.contexts]


def topics_of(model: Model, context: Context) -> dict[str, Any]:
    """The topic of a context with what travels on it, and what the context reads from those of others."""
    homes = {event.name: home for home, _, event in model.events()}
    heard = [name for policy in context.policies for name in policy.events]
    heard += [name for seen in context.readmodels for name in seen.events]
    reads: dict[str, set[str]] = {}
    for name in heard:
        of, dot, event = name.rpartition(".")
        slug = of.lower() if dot else homes[name].slug if name in homes else context.slug
        if slug != context.slug:
            reads.setdefault(f"events.{slug}", set()).add(f"{slug}.{event}")
    sends = {context.event_type(e): {"version": e.version, "key": e.key} for e in context.events()}
    return {
        "topic": context.topic,
        "events": sends,
        "reads": {topic: sorted(events) for topic, events in sorted(reads.items())},
    }


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


def documents(model: Model, context: Context, *, with_avro: bool = False) -> dict[str, dict[str, Any]]:
    """The generated JSON documents of one context, by path below its folder, each with its mark.

    Raises:
        FigError: ``schema_invalid`` for names that Avro does not take, when it is asked for.
    """
    found = {f"schemas/{event.name}.v{event.version}.json": schema(context, event) for event in context.events()}
    if with_avro:
        for event in context.events():
            record = avro.record(context, event)
            formats.validate(formats.Text(formats.Format.AVRO, json.dumps(record)))
            found[f"schemas/{event.name}.v{event.version}.avsc"] = record
    found["topics.json"] = topics_of(model, context)
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


def documents_for(
    model: Model, context: Context, folder: Path, *, with_avro: bool = False
) -> dict[str, dict[str, Any]]:
    """The same as ``folder`` wants them: with Avro, too, once there is some in it."""
    return documents(model, context, with_avro=with_avro or any((folder / "schemas").glob("*.avsc")))


def write(
    model: Model, context: Context, folder: Path, *, dry_run: bool = False, with_avro: bool = False
) -> list[Outcome]:
    """Write the context's documents below ``folder`` (``contexts/inventory``); returns what became of each.

    Args:
        with_avro: Avro schemas, too; once there are some in the folder, they are kept up to date without it.

    Raises:
        FigError: ``schema_invalid``.
    """
    found = documents_for(model, context, folder, with_avro=with_avro)
    outcomes = [_write(folder / path, document, dry_run) for path, document in found.items()]
    draft = folder / "extraction.yaml"
    if not draft.exists():
        _put(draft, extraction_draft(context), dry_run)
        outcomes.append(Outcome(draft, "written"))
    return outcomes + [Outcome(path, "stale") for path in _stale(model, folder)]


def _stale(model: Model, folder: Path) -> Iterator[Path]:
    """Schemas that were generated of events that are gone; earlier versions of those that are there stay."""
    names = {event.name for _, _, event in model.events()}
    for path in sorted((folder / "schemas").glob("*")):
        if (match := _SCHEMA.fullmatch(path.name)) and match["event"] not in names and MARK in (_read(path) or {}):
            yield path


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, document: dict[str, Any], dry_run: bool) -> Outcome:
    diff: tuple[str, ...] = ()
    if path.exists():
        there = _read(path)
        if there == document:
            return Outcome(path, "unchanged")
        diff = _diff(path, there, document)
        if there is None or is_edited(there):
            moved = there is None or there.get(MARK) not in (None, document[MARK])
            return Outcome(path, "drifted" if moved else "edited", diff)
    _put(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n", dry_run)
    return Outcome(path, "written", diff)


def _diff(path: Path, there: dict[str, Any] | None, document: dict[str, Any]) -> tuple[str, ...]:
    before = path.read_text(encoding="utf-8") if there is None else _lines(there)
    found = difflib.unified_diff(before.splitlines(), _lines(document).splitlines(), path.name, "the model", n=1)
    return tuple(line.rstrip("\n") for line in found)


def _lines(document: dict[str, Any]) -> str:
    return json.dumps(unmarked(document), indent=2, ensure_ascii=False)


def _put(path: Path, text: str, dry_run: bool) -> None:
    if not dry_run:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def merged(path: Path, document: dict[str, Any]) -> bool:
    """Note in an edited file that it is up to ``document`` now: drift is told from there on. False without a file."""
    there = _read(path) if path.exists() else None
    if there is None:
        return False
    _put(path, json.dumps({**unmarked(there), MARK: document[MARK]}, indent=2, ensure_ascii=False) + "\n", False)
    return True


def drift(model: Model, context: Context, folder: Path, *, with_avro: bool = False) -> list[Outcome]:
    """What on disk is not as the model says, for CI: would be written, is stale, or edited while the model moved on."""
    found = write(model, context, folder, dry_run=True, with_avro=with_avro)
    return [outcome for outcome in found if outcome.is_drift]
