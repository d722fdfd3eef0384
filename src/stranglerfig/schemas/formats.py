"""Formats of schemas and their rules (thin version; another branch brings the full one)."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import fastavro
import jsonschema
from fastavro.schema import to_parsing_canonical_form
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas.model import incompatibilities


class Format(StrEnum):
    """What a schema is written in."""

    JSON = "JSON"
    AVRO = "AVRO"
    PROTOBUF = "PROTOBUF"


class Level(StrEnum):
    """Which earlier versions a new one must agree with, and in which direction."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"


@dataclass(frozen=True, slots=True)
class Reference:
    """A schema that another one names, resolved."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A schema with all that it refers to, in order of dependency."""

    format: Format
    text: str
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a schema cannot follow another."""

    path: str
    words: str
    kind: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two schemas."""

    path: str
    words: str


def _avro(schema: Text) -> Any:
    named: dict[str, Any] = {}
    for reference in schema.references:
        fastavro.parse_schema(json.loads(reference.text), named_schemas=named)
    return fastavro.parse_schema(json.loads(schema.text), named_schemas=named)


def canonical(schema: Text) -> str:
    """The schema as text, the same for schemas that say the same."""
    if schema.format is Format.PROTOBUF:
        return schema.text.strip()
    return json.dumps(json.loads(schema.text), sort_keys=True, separators=(",", ":"))


def validate(schema: Text) -> None:
    """Refuse what is no schema.

    Raises:
        FigError: ``schema_invalid``.
    """
    try:
        match schema.format:
            case Format.JSON:
                found = json.loads(schema.text)
                jsonschema.Draft202012Validator.check_schema(found)
            case Format.AVRO:
                to_parsing_canonical_form(_avro(schema))
            case Format.PROTOBUF:
                FileDescriptorProto.FromString(base64.b64decode(schema.text, validate=True))
    except Exception as error:
        raise FigError("schema_invalid", f"the schema is not {schema.format}: {error}", "Mend it.") from error


def problems(new: Text, earlier: Sequence[Text], level: Level) -> list[Problem]:
    """Why ``new`` cannot follow ``earlier`` (oldest first) at ``level``."""
    if level is Level.NONE or not earlier:
        return []
    compared = earlier if level.endswith("TRANSITIVE") else earlier[-1:]
    found = []
    for old in compared:
        if old.format is not new.format:
            found.append(Problem("$", f"the format changes from {old.format} to {new.format}", "format"))
        elif new.format is Format.JSON:
            for one in incompatibilities(json.loads(old.text), json.loads(new.text)):
                found.append(Problem(one.path, one.words, "json"))
        elif new.format is Format.AVRO:
            before = {f["name"]: f for f in json.loads(old.text).get("fields", [])}
            for field in json.loads(new.text).get("fields", []):
                if field["name"] not in before and "default" not in field:
                    found.append(Problem(f"$.{field['name']}", "a field without a default is added", "avro"))
                elif field["name"] in before and before[field["name"]]["type"] != field["type"]:
                    found.append(Problem(f"$.{field['name']}", "its type changes", "avro"))
    return found


def differences(old: Text, new: Text) -> list[Difference]:
    """What differs."""
    return [] if canonical(old) == canonical(new) else [Difference("$", "the schema differs")]
