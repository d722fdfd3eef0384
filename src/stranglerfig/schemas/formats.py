"""Schemas in three formats by one set of questions: is it valid, is it the same, may it follow, what changed.

Each format's own rules are in its package; here is only which schemas are compared with which, and in which direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from stranglerfig.schemas.avro import differences as avro_differences
from stranglerfig.schemas.avro import model as avro
from stranglerfig.schemas.avro.resolution import Resolution
from stranglerfig.schemas.jsons import differences as json_differences
from stranglerfig.schemas.jsons import documents as jsons
from stranglerfig.schemas.jsons import rules as json_rules
from stranglerfig.schemas.protobuf import differences as protobuf_differences
from stranglerfig.schemas.protobuf import linking as protobuf
from stranglerfig.schemas.protobuf.model import canonical as protobuf_form
from stranglerfig.schemas.protobuf.rules import Rules
from stranglerfig.schemas.terms import Difference, Format, Level, Problem, Reference, Text, Way

__all__ = [
    "Difference",
    "Format",
    "Level",
    "Problem",
    "Reference",
    "Text",
    "canonical",
    "differences",
    "normal",
    "problems",
    "validate",
]


def canonical(schema: Text) -> str:
    """The normal form, by which two schemas are the same; what they refer to is part of it.

    Raises:
        FigError: ``schema_invalid``, saying where and why.
    """
    lines = [normal(schema)]
    for index, reference in enumerate(schema.references):
        lines.append(f"{reference.name} = {normal(Text(schema.format, reference.text, schema.references[:index]))}")
    return "\n".join(lines)


def normal(schema: Text) -> str:
    """The normal form without what it refers to: a schema again, with the same references.

    Raises:
        FigError: ``schema_invalid``, saying where and why.
    """
    match schema.format:
        case Format.AVRO:
            return avro.canonical(schema)
        case Format.PROTOBUF:
            return protobuf_form(protobuf.load(schema))
        case Format.JSON:
            return jsons.canonical(schema)


def validate(schema: Text) -> None:
    """Pass when ``schema`` is valid in its format.

    Raises:
        FigError: ``schema_invalid``, saying where and why.
    """
    match schema.format:
        case Format.AVRO:
            avro.parse(schema)
        case Format.PROTOBUF:
            protobuf.load(schema)
        case Format.JSON:
            jsons.validate(schema)


def problems(new: Text, earlier: Sequence[Text], level: Level) -> list[Problem]:
    """Why ``new`` must not follow ``earlier`` (oldest first) at ``level``; empty when it may.

    Levels that are not transitive look at the last of ``earlier`` only.

    Raises:
        FigError: ``schema_invalid`` when one of the schemas is not valid.
    """
    found: dict[tuple[str, str], Problem] = {}
    against = earlier if level.transitive else earlier[-1:]
    for age, old in enumerate(reversed(against)):
        for way in level.ways:
            for problem in _directed(new, old, way):
                said = problem if age == 0 else replace(problem, words=f"{problem.words} (from {age + 1} versions ago)")
                found.setdefault((problem.path, problem.words), said)
    return list(found.values())


def differences(old: Text, new: Text) -> list[Difference]:
    """What changed from ``old`` to ``new``, in words, compatible or not.

    Raises:
        FigError: ``schema_invalid`` when one of the schemas is not valid.
    """
    if old.format is not new.format:
        return [Difference("$", f"the format changes from {old.format} to {new.format}")]
    match new.format:
        case Format.AVRO:
            before, after = avro.parse(old), avro.parse(new)
            return list(avro_differences.differences(before, after, after.short))
        case Format.PROTOBUF:
            return list(protobuf_differences.differences(protobuf.load(old), protobuf.load(new)))
        case Format.JSON:
            return list(json_differences.differences(jsons.parse(old), jsons.parse(new)))


def _directed(new: Text, old: Text, way: Way) -> list[Problem]:
    try:
        return list(_problems(new, old, way))
    except RecursionError:
        return [Problem("$", "it is nested too deeply to be compared", "NOT_UNDERSTOOD")]


def _problems(new: Text, old: Text, way: Way) -> Iterable[Problem]:
    if new.format is not old.format:
        words = f"the format changes from {old.format} to {new.format}: {way.harm}"
        return [Problem("$", words, "FORMAT_CHANGED")]
    reader, writer = (new, old) if way is Way.BACKWARD else (old, new)
    match new.format:
        case Format.AVRO:
            read = avro.parse(reader)
            return Resolution(way).problems(read, avro.parse(writer), avro.parse(new).short)
        case Format.PROTOBUF:
            return Rules(protobuf.load(reader), protobuf.load(writer), way).problems()
        case Format.JSON:
            return json_rules.problems(jsons.parse(reader), jsons.parse(writer), way)
