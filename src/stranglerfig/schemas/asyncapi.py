"""The AsyncAPI 3.0 document of topics: who sends what to which channel, and who reads it.

Source of the form: https://www.asyncapi.com/docs/reference/specification/v3.0.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stranglerfig.schemas.formats import Format, Text

VERSION = "3.0.0"
_OTHER = re.compile(r"[^\w.\-]")
_TYPES = {
    Format.JSON: "application/json",
    Format.AVRO: "application/avro",
    Format.PROTOBUF: "application/protobuf",
}
_SCHEMA_FORMATS = {
    Format.AVRO: "application/vnd.apache.avro+json;version=1.9.0",
    Format.PROTOBUF: "application/vnd.google.protobuf;version=3",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of message on a channel.

    Attributes:
        key: its key within the channel.
        name: its name, by which its payload stands among the components.
        about: what else is known of it, such as the version.
    """

    key: str
    name: str
    content_type: str
    payload: Any
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic; ``senders`` and ``receivers`` name operations: who sends to it, and which consumer groups read it."""

    key: str
    address: str
    messages: Sequence[Message]
    senders: Sequence[str]
    receivers: Sequence[str] = ()


def document(title: str, channels: Sequence[Channel]) -> dict[str, Any]:
    """The document as JSON."""
    shown: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for channel in channels:
        messages = {}
        for message in channel.messages:
            schemas[component(message.name)] = message.payload
            payload = {"$ref": f"#/components/schemas/{component(message.name)}"}
            about = {"name": message.name, "contentType": message.content_type, **message.about}
            messages[component(message.key)] = {**about, "payload": payload}
        key = component(channel.key)
        shown[key] = {"address": channel.address, "messages": messages}
        place = {"channel": {"$ref": f"#/channels/{key}"}}
        for sender in channel.senders:
            operations[component(sender)] = {"action": "send", **place}
        for receiver in channel.receivers:
            title_ = {"title": f"read by the consumer group {receiver}"}
            operations[component(f"read.{channel.key}.{receiver}")] = {"action": "receive", **title_, **place}
    return {
        "asyncapi": VERSION,
        "info": {"title": title, "version": "1.0.0"},
        "defaultContentType": "application/json",
        "channels": shown,
        "operations": operations,
        "components": {"schemas": schemas},
    }


def content_type(format: Format) -> str:
    """What data of a format is called."""
    return _TYPES[format]


def payload(name: str, schema: Text) -> Any:
    """A registered schema as a component named ``name``: JSON Schema as it is, the others with their format."""
    if schema.format is Format.JSON:
        return _inlined(json.loads(schema.text), component(name), schema)
    text = schema.text if schema.format is Format.PROTOBUF else _avro(schema)
    return {"schemaFormat": _SCHEMA_FORMATS[schema.format], "schema": text}


def component(name: str) -> str:
    """A name as AsyncAPI takes it for a key."""
    return _OTHER.sub("_", name)


def _avro(schema: Text) -> Any:
    """With what it refers to put in where it is first named, and full names in two parts, as AsyncAPI wants them."""
    others = {reference.name: json.loads(reference.text) for reference in schema.references}

    def shown(part: Any) -> Any:
        if isinstance(part, list):
            return [shown(each) for each in part]
        if isinstance(part, str):
            return shown(others.pop(part)) if part in others else part
        if not isinstance(part, dict):
            return part
        found = dict(part)
        if found.get("type") in ("record", "enum", "fixed", "error"):
            space, _, found["name"] = str(found["name"]).rpartition(".")
            if space:
                found["namespace"] = space
        for key in ("type", "items", "values"):
            if key in found:
                found[key] = shown(found[key])
        if isinstance(found.get("fields"), list):
            found["fields"] = [{**field, "type": shown(field["type"])} for field in found["fields"]]
        return found

    return shown(json.loads(schema.text))


def _inlined(found: Any, name: str, schema: Text) -> Any:
    """With references that hold where the schema stands now: its own begin anew, others are taken in as definitions."""
    others = {reference.name: f"referenced_{index}" for index, reference in enumerate(schema.references)}
    root = f"#/components/schemas/{name}"

    def moved(part: Any, at: str) -> Any:
        if isinstance(part, list):
            return [moved(each, at) for each in part]
        if not isinstance(part, dict):
            return part
        return {
            key: target(value, at) if key == "$ref" and isinstance(value, str) else moved(value, at)
            for key, value in part.items()
            if key not in ("$schema", "$id")
        }

    def target(reference: str, at: str) -> str:
        whole, _, fragment = reference.partition("#")
        if not whole:
            return f"{at}{fragment}"
        return f"{root}/definitions/{others[whole]}{fragment}" if whole in others else reference

    shown = moved(found, root)
    if others and isinstance(shown, dict):
        definitions = dict(shown.get("definitions", {}))
        for reference in schema.references:
            key = others[reference.name]
            definitions[key] = moved(json.loads(reference.text), f"{root}/definitions/{key}")
        shown["definitions"] = definitions
    return shown
