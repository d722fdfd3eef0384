"""Are two answers to the same request equal? And is a field that differs wrong, or does it differ in any two answers?

Pure: no I/O, no clock. Used by the comparator of shadow reads.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from stranglerfig.foundation.jsonpath import JsonPath, Place, compile_path, render
from stranglerfig.verification.settings import ShadowSettings

MOST = 50
"""Differences of one pair of answers that are named; there may be more."""
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """What a side answered. ``headers`` have lower-case names; ``error`` says why there is no answer at all."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A place where two answers differ.

    Attributes:
        path: ``status``, ``header.<name>``, ``body`` (no JSON), or a place in the body (``$.items[3].qty``).
        field: the same without indexes (``$.items[*].qty``): what noise is counted by.
        a, b: the two values; :data:`MISSING` when one side has none.
        place: the place in the body, None for what is not in a JSON body.
    """

    path: str
    field: str
    a: Any
    b: Any
    place: Place | None = None


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Rules:
    """What counts as equal, compiled from the settings."""

    def __init__(self, settings: ShadowSettings) -> None:
        self.headers = settings.headers
        self.tolerance = Decimal(str(settings.tolerance))
        self.error_bodies = settings.error_bodies
        self._ignore = [compile_path(path) for path in settings.ignore]
        self._unordered = [compile_path(path) for path in settings.unordered]
        self._reveal = [compile_path(path) for path in settings.reveal]

    def ignored(self, place: Place) -> bool:
        """Whether the value there may differ."""
        return _any(self._ignore, place)

    def unordered(self, place: Place) -> bool:
        """Whether the order of the array there does not matter."""
        return _any(self._unordered, place)

    def revealed(self, place: Place) -> bool:
        """Whether the string there may be kept as it is."""
        return _any(self._reveal, place)


def _any(paths: list[JsonPath], place: Place) -> bool:
    return any(path.matches(place) for path in paths)


def compare(a: Answer, b: Answer, rules: Rules) -> list[Difference]:
    """Where ``a`` and ``b`` differ, at most ``MOST`` places; empty when they are equal."""
    if a.error is not None or b.error is not None:
        return [Difference("answer", "answer", a.error or a.status, b.error or b.status)]
    if a.status != b.status:
        return [Difference("status", "status", a.status, b.status)]
    found = [
        Difference(f"header.{name}", f"header.{name}", *pair)
        for name in rules.headers
        if (pair := (_header(a, name), _header(b, name)))[0] != pair[1]
    ]
    if a.status < 400 or rules.error_bodies:
        for difference in _bodies(a, b, rules):
            found.append(difference)
            if len(found) >= MOST:
                break
    return found


def _header(answer: Answer, name: str) -> str | None:
    value = answer.headers.get(name)
    # Parameters of the media type (charset, boundary) say nothing about the content here.
    return value.partition(";")[0].strip().lower() if value is not None and name == "content-type" else value


def _bodies(a: Answer, b: Answer, rules: Rules) -> Iterator[Difference]:
    if a.body == b.body:
        return
    try:
        left, right = _parse(a.body), _parse(b.body)
    except ValueError:
        yield Difference("body", "body", _digest(a.body), _digest(b.body))
        return
    yield from _values((), left, right, rules)


def _parse(body: bytes) -> Any:
    return json.loads(body, parse_float=Decimal, parse_int=Decimal)


def _digest(body: bytes) -> str:
    return f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()[:16]}"


def _values(place: Place, a: Any, b: Any, rules: Rules) -> Iterator[Difference]:
    if rules.ignored(place):
        return
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            yield from _values((*place, name), a.get(name, MISSING), b.get(name, MISSING), rules)
    elif isinstance(a, list) and isinstance(b, list):
        if rules.unordered(place):
            a, b = _sorted(place, a, rules), _sorted(place, b, rules)
        for index in range(max(len(a), len(b))):
            left = a[index] if index < len(a) else MISSING
            right = b[index] if index < len(b) else MISSING
            yield from _values((*place, index), left, right, rules)
    elif not _equal(a, b, rules):
        yield Difference(render(place), render(place, every_index=True), a, b, place)


def _equal(a: Any, b: Any, rules: Rules) -> bool:
    if isinstance(a, Decimal) and isinstance(b, Decimal):
        return abs(a - b) <= rules.tolerance
    return type(a) is type(b) and bool(a == b)


def _sorted(place: Place, values: list[Any], rules: Rules) -> list[Any]:
    return sorted(values, key=lambda value: json.dumps(_comparable((*place, 0), value, rules), sort_keys=True))


def _comparable(place: Place, value: Any, rules: Rules) -> Any:
    """The value without what is ignored, JSON-able: what an unordered array is ordered by."""
    if isinstance(value, dict):
        return {
            name: _comparable((*place, name), inner, rules)
            for name, inner in value.items()
            if not rules.ignored((*place, name))
        }
    if isinstance(value, list):
        return [_comparable((*place, index), inner, rules) for index, inner in enumerate(value)]
    return format(value.normalize(), "f") if isinstance(value, Decimal) else value


# --- samples


def redact(value: Any, rules: Rules, place: Place = ()) -> Any:
    """``value`` JSON-able and fit to be kept: strings that are not revealed become their length and a short hash."""
    if isinstance(value, dict):
        return {name: redact(inner, rules, (*place, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [redact(inner, rules, (*place, index)) for index, inner in enumerate(value[:100])]
    if isinstance(value, str):
        return value if rules.revealed(place) else _hashed(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**53 else float(value)
    return None if value is MISSING else value


def _hashed(text: str) -> str:
    return f"{len(text)} characters, {hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def redacted_body(answer: Answer, rules: Rules, *, most: int = 8192) -> Any:
    """An answer's body fit to be kept: redacted JSON, or only its size and hash."""
    if answer.error is not None:
        return {"error": answer.error}
    try:
        kept = redact(_parse(answer.body), rules)
    except ValueError:
        return _digest(answer.body)
    return kept if len(json.dumps(kept)) <= most else _digest(answer.body)


def redacted_differences(found: list[Difference], rules: Rules) -> list[dict[str, Any]]:
    """Differences fit to be kept."""
    kept = []
    for each in found:
        values = (
            [each.a, each.b] if each.place is None else [redact(one, rules, each.place) for one in (each.a, each.b)]
        )
        kept.append({"path": each.path, "monolith": values[0], "service": values[1]})
    return kept


# --- noise


@dataclass
class FieldCounts:
    """How often a field differed between the sides, and between two answers of the monolith alone."""

    across: int = 0
    within: int = 0


class NoiseLedger:
    """Which fields differ whoever is asked: timestamps, random ids, the order of equals.

    Counted per route. A field is noise when it has been seen to differ between answers of the same system, and it
    does not differ more often between the systems than that explains: Fisher's exact test, one-sided, with the level
    divided by the number of fields under test (Bonferroni).
    """

    def __init__(self, alpha: float = ALPHA) -> None:
        self._alpha = alpha
        self.across = 0
        self.within = 0
        self.fields: dict[str, FieldCounts] = {}

    def compared(self, differing: set[str]) -> None:
        """One request was answered by both sides; ``differing`` are its fields that stayed different."""
        self.across += 1
        for name in differing:
            self.fields.setdefault(name, FieldCounts()).across += 1

    def baseline(self, differing: set[str]) -> None:
        """One request was answered several times by the monolith; ``differing`` are fields that never settled."""
        self.within += 1
        for name in differing:
            self.fields.setdefault(name, FieldCounts()).within += 1

    def noisy(self, name: str) -> bool:
        """Whether differences of this field are noise, as far as is known."""
        counts = self.fields.get(name)
        if counts is None or counts.within == 0:
            return False
        tested = sum(1 for each in self.fields.values() if each.within) or 1
        return self.p_value(name) >= self._alpha / tested

    def p_value(self, name: str) -> float:
        """How likely so many differences between the sides are, if the field differs as often within the monolith.

        The upper tail of the hypergeometric distribution (Fisher's exact test, alternative "greater").
        """
        counts = self.fields.get(name, FieldCounts())
        across, within = max(self.across, counts.across), max(self.within, counts.within)
        both = counts.across + counts.within
        if both == 0:
            return 1.0
        tail = range(counts.across, min(both, across) + 1)
        everything = _log_choose(across + within, both)
        terms = (_log_choose(across, k) + _log_choose(within, both - k) for k in tail if both - k <= within)
        return min(1.0, math.fsum(math.exp(term - everything) for term in terms))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
