"""What the schema formats share: a schema as it is registered, the levels of compatibility, problems, differences."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stranglerfig.foundation.errors import FigError


class Format(StrEnum):
    """How a schema is written; values as the REST dialect of Kafka users' registries writes them."""

    JSON = "JSON"
    AVRO = "AVRO"
    PROTOBUF = "PROTOBUF"


class Way(StrEnum):
    """Who reads whose data: new readers old data (backward), or old readers new data (forward)."""

    BACKWARD = "BACKWARD"
    FORWARD = "FORWARD"

    @property
    def harm(self) -> str:
        """What a problem in this direction means, to end a sentence with."""
        if self is Way.BACKWARD:
            return "events written before could not be read"
        return "readers of the earlier schema could not read new events"


class Level(StrEnum):
    """Which earlier schemas a new one must get on with, and in which direction."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def ways(self) -> tuple[Way, ...]:
        """The directions it asks for."""
        first = self.value.partition("_")[0]
        return tuple(way for way in Way if first in (way.value, "FULL"))

    @property
    def transitive(self) -> bool:
        """Whether it looks at all earlier schemas, not at the last only."""
        return self.value.endswith("_TRANSITIVE")


@dataclass(frozen=True, slots=True)
class Reference:
    """A schema that another one uses, resolved.

    Attributes:
        name: as the schema that refers to it writes it: a ``$ref``, an Avro full name, a Protobuf import path.
        text: the referenced schema.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A schema as it was sent, with what it refers to, in order of dependency."""

    format: Format
    text: str
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A change that would part writers and readers: where, what it means in words, and a stable word for its kind."""

    path: str
    words: str
    kind: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A change, whether or not it parts anybody."""

    path: str
    words: str


def invalid(form: Format, path: str, why: str) -> FigError:
    """The error for a schema that is none in its format."""
    names = {Format.JSON: "JSON", Format.AVRO: "Avro", Format.PROTOBUF: "Protobuf"}
    return FigError(
        "schema_invalid",
        f"not a valid {names[form]} schema at {path}: {why}",
        "Mend it there.",
        format=form.value,
        path=path,
    )
