"""What the controller knows of one context, as metrics: its gate, its way back, when it was last looked at."""

from __future__ import annotations

from stranglerfig.extraction.stages import Stage
from stranglerfig.extraction.steps import Steps
from stranglerfig.extraction.store import Standing
from stranglerfig.foundation import clock
from stranglerfig.gates.model import GateVerdict, Verdict
from stranglerfig.telemetry import metrics


class Gauges:
    """The metrics of one context."""

    def __init__(self, context: str) -> None:
        self._context = context
        # By KPI: how many samples there were, and since when (monotonic).
        self._grown: dict[str, tuple[int, float]] = {}
        metrics.ROLLBACKS.labels(context)

    def judged(self, gate: GateVerdict) -> None:
        """A gate was judged."""
        now = clock.monotonic()
        sampled = {kpi.name: kpi for kpi in gate.kpis if kpi.planned}
        for name in self._grown.keys() - sampled.keys():
            del self._grown[name]
            for each in (metrics.GATE_SAMPLES, metrics.GATE_NEEDED, metrics.GATE_STARVING):
                each.remove(self._context, name)
        for name, kpi in sampled.items():
            samples, since = self._grown.get(name, (-1, now))
            decided = kpi.verdict is not Verdict.INCONCLUSIVE
            # Fewer than before: the evidence began anew.
            if decided or kpi.samples != samples:
                since = now
            self._grown[name] = (kpi.samples, since)
            metrics.GATE_SAMPLES.labels(self._context, name).set(kpi.samples)
            metrics.GATE_NEEDED.labels(self._context, name).set(0 if decided else kpi.needed)
            metrics.GATE_STARVING.labels(self._context, name).set(now - since)
        for verdict in Verdict:
            said = bool(gate.kpis) and gate.verdict is verdict
            metrics.GATE_VERDICT.labels(self._context, verdict.value).set(said)

    def taken_back(self) -> None:
        """A switch is taken back since its KPIs failed."""
        metrics.ROLLBACKS.labels(self._context).inc()

    async def looked(self, standing: Standing, work: Steps) -> None:
        """The context was looked at to the end; while the service owns the writes, the way back counts."""
        if standing.owner == "service" and standing.place.stage is Stage.WRITES:
            metrics.REVERSE_HEALTHY.labels(self._context).set(await work.reverse_healthy())
        else:
            metrics.clear(metrics.REVERSE_HEALTHY, context=self._context)
        metrics.LOOKED.labels(self._context).set(clock.epoch())
