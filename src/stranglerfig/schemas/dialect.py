"""The REST dialect that Kafka's tools speak with a registry: its numbers of errors and its forms of JSON.

Source: Confluent's API reference for Schema Registry 7.x. Both sides use it: our server, and our client of another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas.formats import Format
from stranglerfig.schemas.subjects import Given, Pointer, Version, subject_name

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
STORE_FAILED, INTERNAL = 50001, 500
_NUMBERS = {
    "unknown_subject": 40401,
    "unknown_schema_version": 40402,
    "unknown_schema": 40403,
    "schema_incompatible": 409,
    "schema_invalid": 42201,
    "bad_schema_version": 42202,
    "registry_closed": 42205,
    "schema_referenced": 42206,
    "schema_id_differs": 42207,
    "bad_subject": 42208,
    "bad_registry_request": 422,
    "database_unreachable": STORE_FAILED,
    "registry_busy": 50002,
}
# Codes of ours that are two numbers: which one depends on what is spoken of.
_BY_VERSION = {"schema_soft_deleted": (40404, 40406), "schema_not_soft_deleted": (40405, 40407)}
_BY_SETTING = {"registry_setting_unset": (40408, 40409), "bad_registry_setting": (42203, 42204)}
_NOT_KEPT = ("metadata", "ruleSet", "schemaTags", "ruleSetToMerge")


def number_of(error: FigError) -> int:
    """The number by which clients know an error; 500 for one that the dialect has no number for."""
    if error.code in _BY_VERSION:
        return _BY_VERSION[error.code]["version" in error.context]
    if error.code in _BY_SETTING:
        return _BY_SETTING[error.code][error.context.get("setting") == "mode"]
    return _NUMBERS.get(error.code, INTERNAL)


def code_of(number: int) -> str | None:
    """Our code for a number of the dialect, or None."""
    for code, known in _NUMBERS.items():
        if known == number:
            return code
    pairs = (*_BY_VERSION.items(), *_BY_SETTING.items())
    return next((code for code, numbers in pairs if number in numbers), None)


def status_of(number: int) -> int:
    """The HTTP status of an error's number: its first three digits."""
    return int(str(number)[:3])


def bad_request(why: str) -> FigError:
    """A body or a parameter that is not as the dialect has it."""
    return FigError("bad_registry_request", why, "See the registry's API in docs/how-to/govern-schemas.md.")


def given(body: Mapping[str, Any]) -> Given:
    """The schema in the body of a request or an answer.

    Raises:
        FigError: ``schema_invalid`` without one, ``bad_registry_request`` for what is not kept here.
    """
    text, name = body.get("schema"), body.get("schemaType") or Format.AVRO.value
    for part in _NOT_KEPT:
        if body.get(part):
            raise bad_request(
                f"'{part}' is not kept here: rules and metadata of schemas have no effect on this registry"
            )
    if not isinstance(text, str) or not text.strip():
        raise FigError("schema_invalid", "Empty schema", "Give its text as 'schema'.")
    if "\0" in text:
        raise FigError("schema_invalid", "The schema holds a NUL character.", "Mend it.")
    if name not in Format.__members__:
        raise FigError("schema_invalid", f"Invalid schema type {name}.", f"Allowed: {', '.join(Format)}.")
    references = body.get("references") or []
    if not isinstance(references, list):
        raise bad_request("'references' is not a list")
    return Given(Format(name), text, tuple(_pointer(each) for each in references))


def _pointer(found: Any) -> Pointer:
    if not isinstance(found, dict):
        raise bad_request("a reference is not an object")
    name, subject, version = found.get("name"), found.get("subject"), found.get("version")
    if not isinstance(name, str) or not isinstance(subject, str) or not _whole(version):
        raise bad_request("a reference has 'name', 'subject' and a whole 'version'")
    return Pointer(name, subject_name(subject), int(version or 0))


def whole(body: Mapping[str, Any], key: str) -> int | None:
    """An optional whole number of a body; -1 and 0 say that there is none, as some clients do."""
    found = body.get(key)
    if found is None or found in (-1, 0):
        return None
    if not _whole(found) or not 0 < found < 2**31:
        raise bad_request(f"'{key}' is not a number that can be one")
    return int(found)


def _whole(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool)


def content(schema: Given) -> dict[str, Any]:
    """A schema as clients read it: what is usual (Avro, no references) is left out."""
    shown: dict[str, Any] = {}
    if schema.format is not Format.AVRO:
        shown["schemaType"] = schema.format.value
    if schema.references:
        shown["references"] = [
            {"name": each.name, "subject": each.subject, "version": each.version} for each in schema.references
        ]
    return {**shown, "schema": schema.text}


def body(schema: Given) -> dict[str, Any]:
    """A schema as it is sent to a registry."""
    return {"schemaType": schema.format.value, **content(schema)}


def registered(version: Version) -> dict[str, Any]:
    """A version as clients read it."""
    place = {"subject": version.subject, "version": version.version, "id": version.id}
    return {**place, **content(version.schema), **({"deleted": True} if version.deleted else {})}


def parsed(found: Mapping[str, Any], subject: str = "") -> Version:
    """The version in an answer (``bad_registry_request`` when the answer is not one)."""
    number, id = found.get("version"), found.get("id")
    if not _whole(number) or not _whole(id):
        raise bad_request("the registry's answer has no 'version' or no 'id'")
    return Version(str(found.get("subject", subject)), int(number or 0), int(id or 0), given(found))
