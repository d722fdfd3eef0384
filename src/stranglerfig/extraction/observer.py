"""Once a second: what the façade, the flows, the comparator and the log say of one context → evidence and series."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from stranglerfig.changes.flows import Flow
from stranglerfig.changes.model import Direction
from stranglerfig.extraction import saga_success, steps
from stranglerfig.extraction.observe import CumulatedParts, Points, Rule, lag_samples, milliseconds, sample
from stranglerfig.extraction.parts import Parts
from stranglerfig.extraction.saga_success import SagaEnds
from stranglerfig.extraction.stages import Place, Stage
from stranglerfig.extraction.store import Standing, Store
from stranglerfig.facade.accesslog import AccessLog, rotate
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.gates.evidence import EvidenceStore, Samples
from stranglerfig.gates.model import Kpi
from stranglerfig.telemetry import metrics

RULES = {
    (Stage.READS, "error_rate"): ("read", False),
    (Stage.READS, "latency"): ("read", True),
    (Stage.WRITES, "error_rate"): ("write", False),
}
"""Which access-log lines a KPI of a stage is about, and whether it judges their time."""


def rules(place: Place, kpis: tuple[Kpi, ...]) -> list[Rule]:
    """The rules for the KPIs of a place."""
    found = []
    for kpi in kpis:
        if (rule := RULES.get((place.stage, kpi.name))) is not None:
            kind, timed = rule
            found.append(Rule(kpi.name, kind, kpi.limit if timed else None))  # type: ignore[arg-type]
    return found


class Observer:
    """Reads on where it stopped; evidence goes to the visit that is on."""

    def __init__(self, parts: Parts, store: Store, evidence: EvidenceStore, context: str) -> None:
        self._parts = parts
        self._store = store
        self._evidence = evidence
        self._context = context
        self._settings = parts.contexts[context].settings
        self._access = AccessLog(parts.envoy.access_log)
        self._points = Points(context)
        self._lags = {direction: CumulatedParts() for direction in Direction}
        self._event_position = -1
        self._shadow_seen = 0.0
        self._conn: postgres.Connection | None = None
        sagas = self._settings.gates.writes.saga_success
        self._sagas = None if sagas is None else SagaEnds(parts.contexts[context].sagas, sagas)
        self._entered: tuple[int, float] = (0, 0.0)

    async def begin(self) -> None:
        """Begin at the end of everything: what nobody watched is no evidence."""
        self._conn = await postgres.connect(self._parts.control_dsn, what="observer")
        self._access.end()
        self._shadow_seen = clock.epoch()

    async def close(self) -> None:
        """Let go of the session."""
        if self._conn is not None:
            await self._conn.close()
        if self._sagas is not None:
            await self._sagas.close()

    async def look(self, standing: Standing) -> None:
        """Take what came since the last look."""
        if self._entered[0] != standing.visit:
            self._entered = (standing.visit, clock.epoch())
            if self._sagas is not None:
                self._sagas.begin()
        kpis = steps.kpis(self._settings, standing.place)
        by_name = {kpi.name: kpi for kpi in kpis}
        lines = list(self._access.read())
        for line in lines:
            self._points.add(line)
            if line.context == self._context and line.side is not None:
                metrics.ANSWERS.labels(self._context, line.side, line.kind).observe(milliseconds(line) / 1000)
        samples = sample(lines, self._context, rules(standing.place, kpis), since=self._entered[1])
        flows = {flow.direction: flow for flow in await self._parts.flows.all() if flow.context == self._context}
        self._flow_samples(samples, flows, by_name)
        if standing.place.stage is Stage.READS:
            await self._shadow_samples(samples, by_name)
        if self._sagas is not None and saga_success.KPI in by_name:
            await self._sagas.look(samples)
        if standing.owner == "service":
            await self._event_samples(samples, by_name.get("adjust_end_to_end"))
        if samples:
            await self._evidence.add(self._context, standing.evidence, samples)
        await self._series(standing, flows)
        with contextlib.suppress(FigError):
            await rotate(self._parts.envoy)

    def _flow_samples(self, samples: Samples, flows: dict[Direction, Flow], kpis: dict[str, Kpi]) -> None:
        for direction, name in ((Direction.FORWARD, "cdc_latency"), (Direction.REVERSE, "reverse_lag")):
            flow = flows.get(direction)
            added = self._lags[direction].new(flow.sync) if flow else {}
            kpi = kpis.get(name)
            if kpi is not None and kpi.limit is not None:
                lag_samples(samples, name, clock.epoch(), added, kpi.limit)

    async def _shadow_samples(self, samples: Samples, kpis: dict[str, Kpi]) -> None:
        """The comparator's counts, and its paired latencies: both sides asked at the same moment by one clock."""
        assert self._conn is not None
        since = max(self._shadow_seen, self._entered[1])
        # A mismatch is asked about again before it counts, and then counts in the second of its first answer.
        until = await postgres.value(
            self._conn,
            "SELECT extract(epoch FROM until)::float8 FROM fig.shadow_settled WHERE context = %s",
            (self._context,),
        )
        if until is None or until <= since:
            return
        span = {"context": self._context, "since": _time(since), "until": _time(until)}
        rows = await postgres.fetch(
            self._conn,
            "SELECT extract(epoch FROM at)::float8, compared, mismatched FROM fig.shadow"
            " WHERE context = %(context)s AND at >= %(since)s AND at < %(until)s",
            span,
        )
        for at, compared, mismatched in rows:
            if "shadow_mismatch" in kpis:
                samples.count("shadow_mismatch", at, n=compared, failed=mismatched)
        if "no_worse" in kpis:
            pairs = await postgres.fetch(
                self._conn,
                "SELECT extract(epoch FROM at)::float8, monolith_us, service_us FROM fig.shadow_latency"
                " WHERE context = %(context)s AND at >= %(since)s AND at < %(until)s",
                span,
            )
            for at, theirs, ours in pairs:
                for microseconds in ours:
                    samples.time("no_worse", at, microseconds / 1000)
                for microseconds in theirs:
                    samples.baseline("no_worse", at, microseconds / 1000)
        self._shadow_seen = until

    async def _event_samples(self, samples: Samples, kpi: Kpi | None) -> None:
        """From the begin of the service's transaction to the event in the log."""
        name = f"events.{self._context}"
        topic = await self._parts.log.topic(name)
        if topic is None:
            return
        end = topic.next_positions[0]
        if self._event_position < 0:
            self._event_position = end
        derived = {event.event for event in self._settings.derive}
        # Up to where it ended when we began to look: more keeps coming.
        while self._event_position < end:
            records = await self._parts.log.read(name, 0, self._event_position)
            if not records:
                break
            self._event_position = records[-1].position + 1
            for record in records:
                if kpi is not None and record.event.type not in derived:
                    took = (record.appended_at - record.event.time).total_seconds() * 1000
                    samples.time(kpi.name, record.appended_at.timestamp(), took, limit=kpi.limit)

    async def _series(self, standing: Standing, flows: dict[Direction, Flow]) -> None:
        try:
            fence: dict[str, Any] = (await self._parts.fence.state()).get(self._context, {})
        except FigError:
            fence = {"phase": "away"}
        now = int(clock.epoch())
        lags = {f"lag_{direction.value}_ms": _lag(flow) for direction, flow in flows.items()}
        metrics.EPOCH.labels(self._context).set(standing.epoch)
        for stage in Stage:
            metrics.STAGE.labels(self._context, stage.value).set(stage is standing.place.stage)
        try:
            serving = await self._parts.envoy.instances(self._context)
        except FigError:
            serving = {}
        for second, point in self._points.take(now - 1).items():
            for name in (*serving, *point["instances"]):
                # One that is no longer named has answered what it still had; it is asked nothing new.
                point["instances"].setdefault(name, {})["serving"] = serving.get(name, False)
            await self._store.sample(
                self._context,
                _time(second),
                {
                    **point,
                    **lags,
                    "held": fence.get("held", 0),
                    "stage": standing.place.stage.value,
                    "step": standing.place.step,
                },
            )


def _lag(flow: Flow) -> float | None:
    latency = flow.sync.get("latency_ms") or {}
    found = latency.get("p99")
    return None if found is None else float(found)


def _time(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
