"""Checks: the fast path and the full validator always agree, and what is wrong is named by its path."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.schemas.checking import Checker, _checker

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "price": {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"},
        "at": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "key": {"type": ["string", "null"], "format": "uuid"},
        "ok": {"type": "boolean"},
        "share": {"type": "number"},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "any": {"type": "array"},
        "deep": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    },
    "required": ["id"],
    "additionalProperties": False,
}
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.just(1.5),
    st.sampled_from(
        [
            "a",
            "1.50",
            "2026-01-02",
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05",
            "01234567-89ab-cdef-0123-456789abcdef",
        ]
    ),
    st.lists(st.sampled_from(["a", 1]), max_size=2),
    st.just({"x": 1}),
    st.just({"x": 1, "y": 2}),
    st.just({}),
)
checker = Checker(SCHEMA)
full = jsonschema.Draft202012Validator(SCHEMA, format_checker=_checker)


@given(st.dictionaries(st.sampled_from([*SCHEMA["properties"], "more"]), values, max_size=4) | values)
def test_fast_and_full_agree(data: Any) -> None:
    assert checker._fast is not None
    if checker._fast(data):
        assert full.is_valid(data)
    assert (checker.problem(data) is None) == full.is_valid(data)


def test_good_data_takes_the_fast_path() -> None:
    good = {"id": 1, "price": "1.5", "at": "2026-01-02T03:04:05+01:00", "day": "2026-01-02", "key": None, "kind": "a"}
    assert checker._fast is not None and checker._fast({**good, "tags": ["x"], "any": [1], "deep": {"x": 1, "more": 2}})


@pytest.mark.parametrize(
    ("data", "path", "words"),
    [
        ({"id": "1"}, "$.id", "integer"),
        ({"id": 1, "deep": {"x": "a"}}, "$.deep.x", "integer"),
        ({}, "$", "'id' is a required property"),
        ({"id": 1, "more": 2}, "$", "'more' was unexpected"),
        ({"id": 1, "at": "yesterday"}, "$.at", "date-time"),
        ({"id": 1, "at": "2026-01-02T03:04:05"}, "$.at", "date-time"),
    ],
)
def test_what_is_wrong_is_named(data: Any, path: str, words: str) -> None:
    problem = checker.problem(data)
    assert problem is not None and problem[0] == path and words in problem[1]


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [{"type": "integer"}]},
        {"description": "anything"},
        {"type": "object", "properties": {"x": {"not": {}}}},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "array", "items": {"minimum": 1}},
        {"type": "string", "format": "email"},
    ],
)
def test_schemas_beyond_the_fast_path_are_still_checked(schema: dict[str, Any]) -> None:
    slow = Checker(schema)
    assert slow._fast is None
    assert (slow.problem("x") is None) == jsonschema.Draft202012Validator(schema).is_valid("x")


def test_true_is_not_one() -> None:
    assert Checker({"type": ["integer", "boolean"], "enum": [1]}).problem(True) is not None
    assert Checker({"type": "integer", "enum": [1]}).problem(1) is None
