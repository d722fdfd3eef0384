"""What a stretch of traffic says: the access log's lines → samples for KPIs, and points for the pictures. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from stranglerfig.gates import bounds
from stranglerfig.gates.evidence import Samples

Side = Literal["monolith", "service"]
FAILED = 500
"""Statuses from here on, and no status at all (0), are failures; what is below is an answer."""


class Seen(Protocol):
    """A line of the façade's access log, as far as it is counted here."""

    @property
    def time(self) -> float: ...  # noqa: D102
    @property
    def route(self) -> str: ...  # noqa: D102
    @property
    def cluster(self) -> str: ...  # noqa: D102
    @property
    def status(self) -> int: ...  # noqa: D102
    @property
    def duration_us(self) -> int: ...  # noqa: D102
    @property
    def upstream_us(self) -> int | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Rule:
    """Which lines are samples of a KPI: a side's answers to reads or writes; failures are errors, or times over a limit."""

    kpi: str
    side: Side
    kind: Literal["read", "write"]
    limit_ms: float | None = None


def split(line: Seen) -> tuple[str, str, Side]:
    """(context, kind, side) of a line; context and kind are empty for what only passes through."""
    context, _, rest = line.route.partition(":")
    kind = rest.partition(":")[0]
    if kind not in ("read", "write"):
        context = kind = ""
    return context, kind, "service" if line.cluster.startswith("service") else "monolith"


def milliseconds(line: Seen) -> float:
    """The upstream's time: a fence that holds must not count against the service. Answers of Envoy's own have none."""
    return (line.upstream_us or line.duration_us) / 1000


def sample(lines: Iterable[Seen], context: str, rules: Sequence[Rule], *, since: float) -> Samples:
    """Samples of ``context`` in whole seconds after ``since``: what was under way at a switch belongs to neither side."""
    samples = Samples()
    for line in lines:
        found, kind, side = split(line)
        if found != context or line.time <= since:
            continue
        for rule in rules:
            if (rule.side, rule.kind) != (side, kind):
                continue
            if rule.limit_ms is not None:
                samples.time(rule.kpi, line.time, milliseconds(line), limit=rule.limit_ms)
            else:
                samples.count(rule.kpi, line.time, failed=line.status >= FAILED or line.status == 0)
    return samples


@dataclass(slots=True)
class _Side:
    reads: int = 0
    writes: int = 0
    errors: int = 0
    histogram: Counter[int] = field(default_factory=Counter)


class Points:
    """Seconds of a context's traffic for the pictures, filled line by line and taken once a second is over."""

    def __init__(self, context: str) -> None:
        self._context = context
        self._seconds: dict[int, dict[str, _Side]] = {}
        self._rest: Counter[int] = Counter()

    def add(self, line: Seen) -> None:
        """Count one line."""
        context, kind, side = split(line)
        second = int(line.time)
        if context != self._context:
            self._rest[second] += 1
            return
        sides = self._seconds.setdefault(second, {"monolith": _Side(), "service": _Side()})
        found = sides[side]
        if kind == "read":
            found.reads += 1
        else:
            found.writes += 1
        found.errors += line.status >= FAILED or line.status == 0
        found.histogram[bounds.bucket(milliseconds(line) * 1000)] += 1

    def take(self, before: int) -> dict[int, dict[str, Any]]:
        """Points of all seconds before ``before``: per side ``reads``, ``writes``, ``errors``, ``p50_ms``, ``p99_ms``."""
        done = sorted(second for second in {*self._seconds, *self._rest} if second < before)
        points: dict[int, dict[str, Any]] = {}
        for second in done:
            sides = self._seconds.pop(second, {"monolith": _Side(), "service": _Side()})
            points[second] = {side: _shown(found) for side, found in sides.items()}
            points[second]["rest"] = self._rest.pop(second, 0)
        return points


def _shown(side: _Side) -> dict[str, Any]:
    p50, p99 = bounds.quantile(side.histogram, 0.5), bounds.quantile(side.histogram, 0.99)
    return {
        "reads": side.reads,
        "writes": side.writes,
        "errors": side.errors,
        "p50_ms": None if p50 is None else round(p50 / 1000, 3),
        "p99_ms": None if p99 is None else round(p99 / 1000, 3),
    }
