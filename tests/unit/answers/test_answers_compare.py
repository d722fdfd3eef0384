"""Answers compared, redacted, and noise told from mismatch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError
from scipy.stats import fisher_exact

from stranglerfig.foundation.jsonpath import compile_path, render
from stranglerfig.verification.answers import MOST, Answer, NoiseLedger, Rules, compare, redacted_body
from stranglerfig.verification.answers import redacted_differences as kept
from stranglerfig.verification.settings import ShadowSettings


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, {"content-type": "application/json", **headers}, json.dumps(body).encode())


def paths(a: Any, b: Any, **settings: Any) -> list[str]:
    return [found.path for found in compare(answer(a), answer(b), Rules(ShadowSettings(**settings)))]


@pytest.mark.parametrize(
    ("path", "place", "named"),
    [
        ("$", (), True),
        ("$.a", ("a",), True),
        ("$.a", ("a", "b"), False),
        ("$.items[*].at", ("items", 3, "at"), True),
        ("$.items[1].at", ("items", 3, "at"), False),
        ("$..etag", ("a", 0, "etag"), True),
        ("$..a..b", ("x", "a", "y", "b"), True),
        ("$['x y'].z", ("x y", "z"), True),
        ("$.*", ("anything",), True),
    ],
)
def test_paths_name_places(path: str, place: tuple[str | int, ...], named: bool) -> None:
    assert compile_path(path).matches(place) is named


@pytest.mark.parametrize("path", ["a", "$.", "$a", "$.a[", "$.."])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"JSONPath|cannot be read"):
        compile_path(path)
    with pytest.raises(ValidationError):
        ShadowSettings(ignore=(path,))


def test_places_are_rendered() -> None:
    assert render(("items", 3, "a b")) == "$.items[3]['a b']"
    assert render(("items", 3), every_index=True) == "$.items[*]"


def test_equal_is_by_value() -> None:
    assert paths({"a": 1, "b": [1.0, 10]}, {"b": [1, 1e1], "a": 1.00}) == []
    assert paths({"a": True}, {"a": 1}) == ["$.a"]
    assert paths({"a": None}, {}) == ["$.a"]
    assert paths([1, 2], [1]) == ["$[1]"]
    assert paths({"a": 9007199254740993}, {"a": 9007199254740992}) == ["$.a"]


def test_rules_of_the_user() -> None:
    assert paths({"at": 1, "x": {"at": 2}}, {"at": 3, "x": {"at": 4}}, ignore=["$..at"]) == []
    assert paths({"p": 1.001}, {"p": 1.002}, tolerance=0.01) == []
    a, b = [{"id": 1, "at": 9}, {"id": 2.0, "at": 8}], [{"id": 2, "at": 9}, {"id": 1, "at": 8}]
    assert paths(a, b, unordered=["$"], ignore=["$[*].at"]) == []
    assert paths([[1, 2], [3]], [[3], [1, 2]], unordered=["$"]) == []
    assert paths(a, b) == ["$[0].id", "$[1].id"]
    assert len(paths(list(range(99)), list(range(1, 100)))) == MOST


def test_status_headers_and_bodies_that_are_no_json() -> None:
    rules = Rules(ShadowSettings(headers=("Content-Type", "X-A")))
    one = Answer(200, {"content-type": "Text/Plain; charset=utf-8", "x-a": "1"}, b"hello")
    assert not compare(one, Answer(200, {"content-type": "text/plain", "x-a": "1"}, b"hello"), rules)
    found = compare(one, Answer(200, {"content-type": "text/html"}, b"bye"), rules)
    assert [each.path for each in found] == ["header.content-type", "header.x-a", "body"]
    assert [each.path for each in compare(one, Answer(404), rules)] == ["status"]
    assert [each.path for each in compare(one, Answer(0, error="TimeoutError"), rules)] == ["answer"]
    assert not compare(answer({"error": "a"}, 404), answer({"error": "b"}, 404), Rules(ShadowSettings()))
    assert compare(answer({"e": "a"}, 404), answer({"e": "b"}, 404), Rules(ShadowSettings(error_bodies=True)))


def test_samples_keep_no_secret() -> None:
    rules = Rules(ShadowSettings(reveal=("$.sku",)))
    a = answer({"sku": "A-1", "email": "ann@example.org", "n": 1.5, "list": ["secret", None, 3]})
    body = redacted_body(a, rules)
    assert body["sku"] == "A-1"
    assert (body["n"], body["list"][1:]) == (1.5, [None, 3])
    assert "ann" not in json.dumps(body)
    assert "secret" not in json.dumps(body)
    found = kept(compare(a, answer({"sku": "A-2", "email": "bob", "n": 2}), rules), rules)
    assert found[-1] == {"path": "$.sku", "monolith": "A-1", "service": "A-2"}
    assert "bob" not in json.dumps(found)
    assert redacted_body(Answer(0, error="gone"), rules) == {"error": "gone"}
    assert "bytes" in redacted_body(Answer(200, {}, b"plain"), rules)
    assert "bytes" in redacted_body(answer(["x" * 10] * 1000), rules, most=100)


def test_noise_differs_whoever_is_asked() -> None:
    ledger = NoiseLedger()
    assert not ledger.noisy("$.at")
    for number in range(200):
        ledger.compared({"$.at", "$.qty"} if number % 50 == 0 else {"$.at"})
    for _ in range(20):
        ledger.baseline({"$.at"})
    assert ledger.noisy("$.at")
    assert not ledger.noisy("$.qty")


def test_a_field_that_differs_more_between_the_sides_is_wrong_even_if_it_is_restless() -> None:
    ledger = NoiseLedger()
    for number in range(400):
        ledger.compared({"$.price"})
        ledger.baseline({"$.price"} if number % 100 == 0 else set())
    assert ledger.p_value("$.price") < 1e-6
    assert ledger.p_value("$.never") == 1.0
    assert not ledger.noisy("$.price")


@pytest.mark.parametrize(("across", "n", "within", "m"), [(3, 10, 1, 8), (0, 5, 2, 5), (7, 7, 1, 9), (40, 400, 3, 60)])
def test_the_exact_test_agrees_with_scipy(across: int, n: int, within: int, m: int) -> None:
    ledger = NoiseLedger()
    for number in range(n):
        ledger.compared({"f"} if number < across else set())
    for number in range(m):
        ledger.baseline({"f"} if number < within else set())
    expected = fisher_exact([[across, n - across], [within, m - within]], alternative="greater").pvalue
    assert ledger.p_value("f") == pytest.approx(expected, rel=1e-9)


def test_the_values_at_a_path_are_those_at_the_places_it_matches() -> None:
    document = {"a": [{"b": 1}, {"b": 2, "c": {"b": 3}}], "b": 4, "0": 5}
    found = {
        "$.a[*].b": [1, 2],
        "$..b": [1, 2, 3, 4],
        "$.a[1].c.b": [3],
        "$.*": [document["a"], 4, 5],
        "$": [document],
        "$.x.b": [],
        "$.a[7]": [],
        "$['0']": [5],
    }
    for path, values in found.items():
        assert sorted(compile_path(path).values(document), key=repr) == sorted(values, key=repr), path
