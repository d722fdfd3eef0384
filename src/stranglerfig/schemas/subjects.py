"""Subjects and their versions: what the registry keeps, and what identifies a schema. Formats and rules are elsewhere.

A subject is a name under which schemas follow each other: an event type, or what Kafka's clients make of a topic
(``orders-value``). The same schema under two subjects is one content with one id.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas.formats import Format, Level

LONGEST_SUBJECT = 500
DEFAULT_LEVEL = Level.BACKWARD
"""What Kafka's registries begin with: consumers are brought forward before producers."""


class Mode(StrEnum):
    """What may be done to a subject: IMPORT takes ids and versions that another registry gave."""

    READWRITE = "READWRITE"
    READONLY = "READONLY"
    IMPORT = "IMPORT"


class Deleted(StrEnum):
    """Which versions are meant: those in force, those softly deleted, or both."""

    NOT = "not"
    ONLY = "only"
    ALSO = "also"


@dataclass(frozen=True, slots=True)
class Pointer:
    """A reference from one schema to another: ``name`` is what the text calls it (an import, a type, a ``$ref``)."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Given:
    """A schema as somebody hands it in: its references point to registered versions."""

    format: Format
    text: str
    references: tuple[Pointer, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """A registered schema: ``version`` counts from 1 within its subject, ``id`` stands for the content everywhere."""

    subject: str
    version: int
    id: int
    schema: Given
    deleted: bool = False
    registered_at: datetime | None = None
    registered_by: str = ""


@dataclass(frozen=True, slots=True)
class SubjectSettings:
    """What is set for one subject, or for all (subject ``""``); None is not set."""

    level: Level | None = None
    mode: Mode | None = None
    normalize: bool | None = None


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds for a subject once its own settings, those for all and the defaults are laid over each other."""

    level: Level = DEFAULT_LEVEL
    mode: Mode = Mode.READWRITE
    normalize: bool = False
    own: SubjectSettings = field(default_factory=SubjectSettings)


def effective(everywhere: SubjectSettings, own: SubjectSettings) -> Effective:
    """Lay a subject's settings over those for all; READONLY for all cannot be lifted by a subject."""
    mode = own.mode or everywhere.mode or Mode.READWRITE
    normalize = everywhere.normalize if own.normalize is None else own.normalize
    return Effective(
        level=own.level or everywhere.level or DEFAULT_LEVEL,
        mode=Mode.READONLY if everywhere.mode is Mode.READONLY else mode,
        normalize=bool(normalize),
        own=own,
    )


def plain(format: Format, text: str) -> str:
    """The text without what no reader of it sees (white space around JSON's tokens); order and words stay."""
    if format is not Format.PROTOBUF:
        try:
            return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
        except ValueError:
            pass
    return text.strip()


def digest(schema: Given) -> bytes:
    """What makes two schemas the same content: SHA-256 over the format, the plain text and the references."""
    parts = [schema.format.value, plain(schema.format, schema.text)]
    parts += [f"{each.name}\0{each.subject}\0{each.version}" for each in schema.references]
    return hashlib.sha256("\0\0".join(parts).encode("utf-8", errors="surrogatepass")).digest()


def subject_name(text: str) -> str:
    """A subject's name as the registry keeps it; ``:.:orders`` (the default context, written out) is ``orders``.

    Raises:
        FigError: ``bad_subject``.
    """
    name = text.removeprefix(":.:")
    why = ""
    if not name or len(name) > LONGEST_SUBJECT:
        why = f"it has {len(name)} characters, 1 to {LONGEST_SUBJECT} are allowed"
    elif not name.isprintable():
        why = "it holds a control character"
    elif name.startswith(":."):
        why = "there are no contexts here but the default one"
    elif name in ("__GLOBAL", "__EMPTY"):
        why = "the name is reserved"
    if why:
        raise FigError("bad_subject", f"{name[:80]!r} is no subject: {why}", "Choose another name.", subject=name[:80])
    return name


def uri(subject: str, version: int) -> str:
    """What an event's ``dataschema`` says."""
    return f"fig:schemas/{subject}/{version}"


def version_of(dataschema: str | None) -> int | None:
    """The version that a ``dataschema`` of ours names, or None."""
    if dataschema is None or not dataschema.startswith("fig:schemas/"):
        return None
    tail = dataschema.rpartition("/")[2]
    return int(tail) if tail.isdigit() else None


def unknown_subject(subject: str) -> FigError:
    """There is no such subject."""
    return FigError("unknown_subject", f"Subject '{subject}' not found.", _LOOK, subject=subject)


def unknown_version(subject: str, version: int | str) -> FigError:
    """The subject has no such version."""
    said = f"Version {version} of subject '{subject}' not found."
    return FigError("unknown_schema_version", said, _LOOK, subject=subject, version=version)


def unknown_schema(what: str) -> FigError:
    """No such schema is registered."""
    return FigError("unknown_schema", f"Schema {what} not found.", "Register it: fig schema register SUBJECT FILE.")


_LOOK = "Look at what there is: fig schema history."
