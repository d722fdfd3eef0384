"""What a stretch of traffic says: the access log's lines → samples for KPIs, and points for the pictures. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stranglerfig.facade.accesslog import Observation
from stranglerfig.gates import bounds
from stranglerfig.gates.evidence import Samples


@dataclass(frozen=True, slots=True)
class Rule:
    """Which lines are samples of a KPI: the service's answers to reads or writes; failures are errors, or slow ones."""

    kpi: str
    kind: Literal["read", "write"]
    limit_ms: float | None = None


def milliseconds(line: Observation) -> float:
    """The upstream's time: a fence that holds must not count against the service. Answers of Envoy's own have none."""
    return (line.upstream_us or line.duration_us or 0) / 1000


def sample(lines: Iterable[Observation], context: str, rules: Sequence[Rule], *, since: float) -> Samples:
    """Samples of ``context`` in whole seconds after ``since``: what was under way at a switch belongs to neither side.

    What Envoy answered by itself counts when it is a failure: its user does not care whose it was.
    """
    samples = Samples()
    for line in lines:
        if line.context != context or line.time <= since:
            continue
        for rule in rules:
            if rule.kind != line.kind or line.side == "monolith" or (line.side is None and not line.failed):
                continue
            if rule.limit_ms is not None:
                samples.time(rule.kpi, line.time, milliseconds(line), limit=rule.limit_ms)
            else:
                samples.count(rule.kpi, line.time, failed=line.failed)
    return samples


class Cumulated:
    """Differences of a histogram that only grows: ``[[upper bound in ms, count], …]`` as sync reports it."""

    def __init__(self) -> None:
        self._before: Mapping[float, int] | None = None

    def new(self, histogram: Sequence[Sequence[float]]) -> dict[float, int]:
        """What was added since the last call; nothing at the first, and all of it after the reporter's restart."""
        now = {float(edge): int(count) for edge, count in histogram}
        before = self._before
        self._before = now
        if before is None:
            return {}
        if any(now.get(edge, 0) < count for edge, count in before.items()):
            return now
        return {edge: count - before.get(edge, 0) for edge, count in now.items() if count > before.get(edge, 0)}


class CumulatedParts:
    """As :class:`Cumulated`, of several reporters: one that was not there before counts with all that it says, so that
    the lateness of what a dead worker left to it is not passed over."""

    def __init__(self) -> None:
        self._parts: dict[str, Cumulated] = {}
        self._begun = False

    def new(self, said: Mapping[str, Any]) -> dict[float, int]:
        """What was added since the last call, by ``said``: a sync's report, of one partition or merged of several."""
        histograms = said.get("latency_histograms")
        if histograms is None:
            histograms = {"": said.get("latency_histogram") or []}
        added: Counter[float] = Counter()
        for name, histogram in histograms.items():
            part = self._parts.get(name)
            if part is None:
                part = self._parts[name] = Cumulated()
                if self._begun:
                    part.new([])
            added.update(part.new(histogram))
        self._begun = True
        return dict(added)


def lag_samples(samples: Samples, kpi: str, at: float, added: Mapping[float, int], limit_ms: float) -> None:
    """Latencies from a histogram as samples; a bucket counts by its upper bound, so that it is never called better."""
    for edge, count in added.items():
        samples.count(kpi, at, n=count, failed=count if edge >= limit_ms else 0)


@dataclass(slots=True)
class _Side:
    reads: int = 0
    writes: int = 0
    errors: int = 0
    busy_ms: float = 0.0
    histogram: Counter[int] = field(default_factory=Counter)

    def add(self, line: Observation) -> None:
        """Count one answer."""
        if line.kind == "read":
            self.reads += 1
        else:
            self.writes += 1
        self.errors += line.failed
        self.busy_ms += milliseconds(line)
        self.histogram[bounds.bucket(milliseconds(line) * 1000)] += 1


class Points:
    """Seconds of a context's traffic for the pictures, filled line by line and taken once a second is over."""

    def __init__(self, context: str) -> None:
        self._context = context
        self._seconds: dict[int, dict[str, _Side]] = {}
        self._rest: Counter[int] = Counter()
        self._instances: dict[int, dict[str, _Side]] = {}

    def add(self, line: Observation) -> None:
        """Count one line, in the second in which it was answered: lines come in that order."""
        second = int(line.time + (line.duration_us or 0) / 1e6)
        if line.context != self._context:
            self._rest[second] += 1
            return
        sides = self._seconds.setdefault(second, {"monolith": _Side(), "service": _Side(), "facade": _Side()})
        sides[line.side or "facade"].add(line)
        if line.side == "service" and line.instance is not None:
            self._instances.setdefault(second, {}).setdefault(line.instance, _Side()).add(line)

    def take(self, before: int) -> dict[int, dict[str, Any]]:
        """Points of seconds before ``before``: per side ``reads``, ``writes``, ``errors``, ``p50_ms``, ``p99_ms``,
        and ``busy_ms``: the time of all its answers together.

        ``instances`` has the same of each of the service's by ``address:port``, and its ``share`` of their requests.
        """
        points: dict[int, dict[str, Any]] = {}
        for second in sorted(second for second in {*self._seconds, *self._rest} if second < before):
            sides = self._seconds.pop(second, {"monolith": _Side(), "service": _Side(), "facade": _Side()})
            points[second] = {side: _shown(found) for side, found in sides.items()}
            points[second]["rest"] = self._rest.pop(second, 0)
            points[second]["instances"] = _shares(self._instances.pop(second, {}))
        return points


def _shares(instances: Mapping[str, _Side]) -> dict[str, dict[str, Any]]:
    every = sum(side.reads + side.writes for side in instances.values())
    return {
        name: {**_shown(side), "share": round((side.reads + side.writes) / every, 4)}
        for name, side in sorted(instances.items())
    }


def _shown(side: _Side) -> dict[str, Any]:
    p50, p99 = bounds.quantile(side.histogram, 0.5), bounds.quantile(side.histogram, 0.99)
    return {
        "reads": side.reads,
        "writes": side.writes,
        "errors": side.errors,
        "busy_ms": round(side.busy_ms, 3),
        "p50_ms": None if p50 is None else round(p50 / 1000, 3),
        "p99_ms": None if p99 is None else round(p99 / 1000, 3),
    }
