"""Alerts judged without Prometheus: what processes serve, look after look → which alerts fire. Pure.

The same conditions as in Prometheus' rules. An alert whose series is away for a look keeps as it is for
:data:`GRACE` seconds, as Prometheus keeps looking back for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stranglerfig.telemetry.alerts import ALL, Alert

GRACE = 30.0
"""Seconds for which what was last seen of a series still counts."""
Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One series as one process served it."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fires.

    Attributes:
        labels: those of ``alert.labels`` that its series has.
        since: when its condition began to hold, seconds since 1970.
    """

    alert: Alert
    labels: Labels
    since: float
    value: float


@dataclass(slots=True)
class _Group:
    since: float | None = None
    seen: float = 0.0
    value: float = 0.0


@dataclass(slots=True)
class Judge:
    """Judges look after look.

    Attributes:
        alerts: what is judged.
    """

    alerts: tuple[Alert, ...] = ALL
    _groups: dict[tuple[str, Labels], _Group] = field(default_factory=dict)
    _counts: dict[tuple[str, Labels], deque[tuple[float, float]]] = field(default_factory=dict)

    def resume(self, name: str, labels: Labels, since: float, now: float) -> None:
        """An alert fired when a judge before us stopped: it goes on from there."""
        self._groups[name, labels] = _Group(since, now)

    def look(self, now: float, samples: Iterable[Sample]) -> list[Firing]:
        """Take one look's samples, at ``now`` (seconds since 1970); returns what fires."""
        by_name: dict[str, list[Sample]] = {}
        for sample in samples:
            by_name.setdefault(sample.name, []).append(sample)
        found: list[Firing] = []
        known = {alert.name: alert for alert in self.alerts}
        for alert in self.alerts:
            for labels, value in self._values(alert, now, by_name.get(alert.metric, ())).items():
                group = self._groups.setdefault((alert.name, labels), _Group())
                group.seen, group.value = now, value
                if not alert.holds(value):
                    group.since = None
                elif group.since is None:
                    group.since = now
        for (name, labels), group in list(self._groups.items()):
            judged = known.get(name)
            if judged is None or now - group.seen > GRACE:
                del self._groups[name, labels]
            elif group.since is not None and now - group.since >= judged.hold:
                found.append(Firing(judged, labels, group.since, group.value))
        return found

    def _values(self, alert: Alert, now: float, samples: Iterable[Sample]) -> dict[Labels, float]:
        found: dict[Labels, float] = {}
        for sample in samples:
            labels = tuple((name, sample.labels[name]) for name in alert.labels if name in sample.labels)
            value = sample.value
            if alert.form == "age":
                value = now - value
            elif alert.form == "increase":
                value = self._increase(alert, now, sample)
            if labels not in found:
                found[labels] = value
            elif alert.form == "increase":
                found[labels] += value
            elif alert.form == "age" or alert.under is not None:
                found[labels] = min(found[labels], value)  # the youngest look, or the worst value
            else:
                found[labels] = max(found[labels], value)
        return found

    def _increase(self, alert: Alert, now: float, sample: Sample) -> float:
        """By how much a counter grew within the window; one that is smaller than before began anew."""
        key = (alert.name, tuple(sorted(sample.labels.items())))
        counts = self._counts.setdefault(key, deque())
        counts.append((now, sample.value))
        while counts[0][0] < now - alert.window:
            counts.popleft()
        grown = 0.0
        before = counts[0][1]
        for _, value in counts:
            grown += value - before if value >= before else value
            before = value
        return grown


def text(template: str, labels: Labels, value: float) -> str:
    """A summary or a description with its labels and its value."""
    return template.format_map({**dict.fromkeys(("role", "instance"), ""), **dict(labels), "value": f"{value:.4g}"})
