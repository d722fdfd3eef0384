"""The controller's gauges: evidence that does not grow, what a gate says, the way back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stranglerfig.extraction import gauges
from stranglerfig.extraction.gauges import Gauges
from stranglerfig.extraction.stages import Place, Stage
from stranglerfig.extraction.store import Standing
from stranglerfig.gates.model import GateVerdict, Kind, KpiVerdict, Verdict
from stranglerfig.telemetry import metrics


def gate(samples: int, verdict: Verdict = Verdict.INCONCLUSIVE, name: str = "latency") -> GateVerdict:
    kpi = KpiVerdict(name, Kind.RATE_BELOW, 0.01, None, None, None, samples, verdict, needed=10, planned=100)
    fact = KpiVerdict("fact", Kind.STATE, True, True, None, None, 0, Verdict.PASS)
    return GateVerdict(verdict, (kpi, fact))


def told(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, labels)


def test_evidence_that_does_not_grow_starves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(gauges, "clock", SimpleNamespace(monotonic=lambda: now, epoch=lambda: 1000.0 + now))
    found = Gauges("starving")

    def starves() -> float | None:
        return told("fig_gate_starving_seconds", context="starving", kpi="latency")

    seen = []
    for at, each in (
        (0, gate(0)),
        (60, gate(0)),
        (70, gate(5)),
        (100, gate(5)),
        (110, gate(2)),  # begun anew
        (120, gate(2)),
        (400, gate(2, Verdict.PASS)),
        (500, gate(2)),
    ):
        now = at
        found.judged(each)
        seen.append(starves())
    assert seen == [0, 60, 0, 30, 0, 10, 0, 100]
    assert told("fig_gate_samples", context="starving", kpi="latency") == 2
    assert told("fig_gate_samples_needed", context="starving", kpi="latency") == 10
    assert told("fig_gate_verdict", context="starving", verdict="inconclusive") == 1
    assert told("fig_gate_verdict", context="starving", verdict="pass") == 0
    assert told("fig_gate_samples", context="starving", kpi="fact") is None, "a fact has no samples"
    found.judged(GateVerdict(Verdict.PASS, ()))
    assert starves() is None and told("fig_gate_verdict", context="starving", verdict="pass") == 0


async def test_the_way_back_counts_while_the_service_owns(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Gauges("returning")
    healthy = True

    async def reverse_healthy() -> bool:
        return healthy

    work: Any = SimpleNamespace(reverse_healthy=reverse_healthy)

    async def back(owner: str) -> float | None:
        await found.looked(Standing("returning", Place(Stage.WRITES), 1, 1, owner, 2), work)
        return told("fig_extraction_reverse_healthy", context="returning")

    assert told("fig_extraction_automatic_rollbacks_total", context="returning") == 0, "there before it grows"
    assert await back("service") == 1
    healthy = False
    assert await back("service") == 0
    assert await back("monolith") is None
    assert (told("fig_controller_looked_timestamp_seconds", context="returning") or 0) > 1e9
    found.taken_back()
    assert told("fig_extraction_automatic_rollbacks_total", context="returning") == 1
