"""Recorded verdicts: what specifications and other implementations say of a change, and what we say.

Each file in ``verdicts`` names its sources; the schemas are our own. Where we differ, the case says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from stranglerfig.schemas.formats import Format, Level, Reference, Text, problems, validate

FILES = sorted((Path(__file__).parent / "verdicts").glob("*.yaml"))
DIFFERENT = {"AVRO": 3, "PROTOBUF": 6, "JSON": 10}
"""How many verdicts differ from their sources'; docs/explanation/compatibility.md lists the reasons."""


@dataclass(frozen=True)
class Verdict:
    earlier: tuple[Text, ...]
    new: Text
    level: Level
    expected: bool
    kind: str | None
    source: str
    theirs: bool
    because: str | None


def text(form: Format, schema: Any, named: dict[str, Any]) -> Text:
    """A schema of a file: named there, or written out."""
    found = named.get(schema, schema) if isinstance(schema, str) else schema
    references: dict[str, Any] = {}
    if isinstance(found, dict) and "references" in found:
        found, references = found["text"], found["references"]
    return Text(form, _said(form, found), tuple(Reference(n, _said(form, part)) for n, part in references.items()))


def _said(form: Format, schema: Any) -> str:
    if form is not Format.PROTOBUF:
        return json.dumps(schema)
    return str(schema) if "syntax =" in schema else f'syntax = "proto3"; {schema}'


def verdicts() -> Iterator[Any]:
    for file in FILES:
        known = yaml.safe_load(file.read_text())
        form = Format(known["format"])
        for number, case in enumerate(known["cases"]):
            line, aside = (case, {}) if isinstance(case, list) else (case["case"], case)
            source, level, old, new, expected, *kind = line
            # A list of schemas is a history; for Avro a list is also a union, told apart by what it holds.
            names = isinstance(old, list) and (
                level.endswith("TRANSITIVE") or source in ("confluent", "docs", "levels")
            )
            verdict = Verdict(
                earlier=tuple(text(form, part, known["schemas"]) for part in (old if names else [old])),
                new=text(form, new, known["schemas"]),
                level=Level(level),
                expected=expected,
                kind=kind[0] if kind else None,
                source=known["sources"][source],
                theirs=aside.get("theirs", expected),
                because=aside.get("because"),
            )
            yield pytest.param(verdict, id=f"{form.value}-{number}-{source}-{level}")


CASES = list(verdicts())


@pytest.mark.parametrize("verdict", CASES)
def test_verdict(verdict: Verdict) -> None:
    for schema in (*verdict.earlier, verdict.new):
        validate(schema)
    found = problems(verdict.new, verdict.earlier, verdict.level)
    assert (not found) == verdict.expected, found or verdict
    if verdict.kind is not None:
        assert verdict.kind in {problem.kind for problem in found}
    assert all(problem.path and problem.words for problem in found)


def test_there_are_enough_and_differences_are_counted_and_explained() -> None:
    all_cases: list[Verdict] = [case.values[0] for case in CASES]
    assert len({(v.earlier, v.new, v.level) for v in all_cases}) >= 300
    different = [verdict for verdict in all_cases if verdict.theirs != verdict.expected]
    assert all(verdict.because for verdict in different)
    counts = {form.value: sum(v.new.format is form for v in different) for form in Format}
    assert counts == DIFFERENT
