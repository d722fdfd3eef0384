"""The page of one extraction: its stages, the gate and its evidence, both sides side by side, proofs, the cut-over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from stranglerfig.changes.flows import Flow
from stranglerfig.console import agreements, cutovers, departure, instances
from stranglerfig.console.agreements import Agreement
from stranglerfig.console.api import Asked, Model, Route
from stranglerfig.console.cutovers import Cutover
from stranglerfig.console.departure import Decommissioning
from stranglerfig.console.estate import SECONDS, ContextRow, Verdict, row
from stranglerfig.console.instances import Change, Instance, Mark
from stranglerfig.console.reading import Reading
from stranglerfig.extraction import steps
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.extraction.stages import Place, ahead, behind, route
from stranglerfig.extraction.store import Standing
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.gates.growth import Grown, growth
from stranglerfig.gates.model import Kpi
from stranglerfig.verification import shadow

WINDOW = 600
"""Seconds of the charts."""
NAMED = 50
"""Differences that are named."""


class Step(Model):
    """One place on the way. ``state`` is ``ahead`` of a place that was left by going back as well."""

    stage: str
    step: str
    place: str
    state: Literal["done", "now", "ahead"]
    entered_at: datetime | None
    left_at: datetime | None
    verdict: Verdict | None


class Growth(Model):
    """A KPI's evidence up to a moment, on the scale of its threshold: what was observed, and the exact interval."""

    at: datetime
    samples: int
    failures: int
    observed: float | None
    least: float | None
    most: float | None


class KpiRow(Model):
    """One KPI of the gate; ``bound`` is what the verdict compares with ``threshold``."""

    name: str
    says: str
    kind: str
    threshold: float | bool
    observed: float | bool | None
    bound: float | None
    confidence: float | None
    samples: int
    needed: int
    planned: int
    limit: float | None
    unit: str
    verdict: Verdict
    reason: str
    loosened: str
    growth: list[Growth]


class Series(Model):
    """The last minutes, a value per second, None where there is none; latencies and lags in milliseconds."""

    at: list[int]
    monolith_p50: list[float | None]
    service_p50: list[float | None]
    monolith_p99: list[float | None]
    service_p99: list[float | None]
    monolith_rps: list[float | None]
    service_rps: list[float | None]
    monolith_errors: list[float | None]
    service_errors: list[float | None]
    lag_forward: list[float | None]
    lag_reverse: list[float | None]
    held: list[float | None]


class FlowRow(Model):
    """One direction of changes: what capture and sync say of themselves. Times in milliseconds."""

    direction: Literal["forward", "reverse"]
    capture: str
    sync: str
    lag_seconds: float | None
    p50_ms: float | None
    p99_ms: float | None
    parked: int
    error: str


class Difference(Model):
    """A row that is not the same on both sides; ``columns`` are (monolith, service)."""

    table: str
    service_table: str
    key: dict[str, str | None]
    kind: str
    columns: dict[str, tuple[str | None, str | None]]


class Verification(Model):
    """A whole comparison."""

    at: datetime
    place: str
    rows_compared: int
    differences: int
    unsettled: int
    seconds: float
    named: list[Difference]


class Sample(Model):
    """Two answers to one read that differ, redacted."""

    at: datetime
    path: str
    verdict: str
    differences: list[dict[str, Any]]
    monolith: Any
    service: Any


class Shadow(Model):
    """Shadow reads since the current place was entered, and the newest answers that differed."""

    compared: int
    equal: int
    mismatched: int
    lagged: int
    noise: int
    dropped: int
    errors: int
    samples: list[Sample]


class Running(Model):
    """A command that waits or is at work."""

    id: int
    verb: str
    by: str
    dry_run: bool


class ExtractionPage(Model):
    """All of it. ``next`` and ``back`` are where advance and rollback lead, None where they lead nowhere."""

    row: ContextRow
    steps: list[Step]
    next: str | None
    back: str | None
    agreement: Agreement | None
    verdict: Verdict | None
    kpis: list[KpiRow]
    series: Series
    marks: list[Mark]
    instances: list[Instance]
    changes: list[Change]
    flows: list[FlowRow]
    verifications: list[Verification]
    shadow: Shadow | None
    cutover: Cutover | None
    decommissioning: Decommissioning | None
    running: list[Running]


def routes(reading: Reading) -> list[Route]:
    """What this page asks."""

    async def extraction(asked: Asked) -> ExtractionPage:
        return await read(reading, asked.path["context"])

    return [
        Route(
            "/api/extractions/{context}",
            ExtractionPage,
            extraction,
            "One extraction, with its evidence.",
            live=True,
            statuses=(404,),
        )
    ]


async def read(reading: Reading, context: str) -> ExtractionPage:
    """The page as it is now.

    Raises:
        FigError: ``unknown_context``.
    """
    settings = reading.settings(context)
    async with reading.store() as store:
        standing = await store.known(context)
        visits = [] if standing is None else await store.visits(context)
        series = [] if standing is None else await store.series(context, last=WINDOW)
        back = await store.milestones(context, ("rollback", "cutover", "switch"), last=2)
        kept = await store.milestones(context, "cutover")
        verified = await store.milestones(context, "verification", last=5)
        running = [Running(**found) for found in await store.under_way(context)]
        happened = await store.milestones(context, ("configuration", "switch", "cutover", "rollback"), last=20)
        changes = await instances.changes(store, context, happened)
    async with reading.session() as conn:
        agreement = await agreements.of(reading, conn, context, standing)
    flows = await reading.flows_of(context)
    place = Place.first() if standing is None else standing.place
    gate = (visits[-1]["gate"] if visits else None) or {}
    return ExtractionPage(
        row=row(
            context,
            standing,
            visits[-1] if visits else None,
            instances.fresh(series[-SECONDS:], clock.now()),
            flows,
            back,
        ),
        steps=pipeline(settings, place, visits, begun=standing is not None),
        next=_or_none(ahead, place, settings),
        back=_or_none(behind, place, settings),
        agreement=agreement,
        verdict=gate.get("verdict") if gate.get("kpis") else None,
        kpis=[] if standing is None else await _kpis(reading, settings, standing, gate.get("kpis", [])),
        series=columns(series),
        marks=instances.marks(happened, series[0]["at"]) if series else [],
        instances=instances.rows(series, clock.now()),
        changes=changes,
        flows=[_flow(flow) for flow in flows],
        verifications=[_verification(found) for found in reversed(verified)],
        shadow=None if standing is None else await _shadow(reading, context, visits[-1]["entered_at"]),
        cutover=await cutovers.read(reading, context, kept),
        decommissioning=departure.of(settings, standing, visits[-1]["entered_at"] if visits else None),
        running=running,
    )


def _or_none(towards: Any, place: Place, settings: ExtractionSettings) -> str | None:
    try:
        return str(towards(place, settings.gates.reads.steps))
    except FigError:
        return None


def pipeline(
    settings: ExtractionSettings, place: Place, visits: Sequence[Mapping[str, Any]], *, begun: bool
) -> list[Step]:
    """Every place on the way, with its last visit."""
    places = route(settings.gates.reads.steps)
    now = places.index(place) if place in places and begun else -1
    last = {Place(visit["stage"], visit["step"]): visit for visit in visits}
    found = []
    for number, each in enumerate(places):
        visit = last.get(each, {}) if number <= now else {}
        gate = visit.get("gate") or {}
        found.append(
            Step(
                stage=each.stage.value,
                step=each.step,
                place=str(each),
                state="now" if number == now else "done" if number < now else "ahead",
                entered_at=visit.get("entered_at"),
                left_at=visit.get("left_at"),
                verdict=gate.get("verdict") if gate.get("kpis") else None,
            )
        )
    return found


async def _kpis(
    reading: Reading, settings: ExtractionSettings, standing: Standing, judged: Sequence[Mapping[str, Any]]
) -> list[KpiRow]:
    known = {kpi.name: kpi for kpi in steps.kpis(settings, standing.place)}
    evidence = await reading.evidence.read(settings.context, standing.evidence, list(known.values()))
    fields = KpiRow.model_fields.keys() - {"growth"}
    rows = []
    for kpi in judged:
        grown = _growth(known.get(kpi["name"]), evidence.get(kpi["name"]))
        plain = {"bound": None, "confidence": None, "samples": 0, "observed": None} | dict(kpi)
        defaults: dict[str, Any] = {"needed": 0, "planned": 0, "limit": None, "unit": "", "reason": "", "loosened": ""}
        rows.append(KpiRow(**{key: (defaults | plain)[key] for key in fields}, growth=grown))
    return rows


def _growth(kpi: Kpi | None, evidence: Any) -> list[Growth]:
    if kpi is None or evidence is None:
        return []

    def shown(point: Grown) -> Growth:
        at = datetime.fromtimestamp(point.at, UTC)
        return Growth(
            at=at,
            samples=point.samples,
            failures=point.failures,
            observed=point.observed,
            least=point.least,
            most=point.most,
        )

    return [shown(point) for point in growth(kpi, evidence)]


def columns(series: Sequence[Mapping[str, Any]]) -> Series:
    """Seconds as columns, as the charts take them."""

    def of(side: str, what: str) -> list[float | None]:
        return [(second.get(side) or {}).get(what) for second in series]

    def rate(side: str) -> list[float | None]:
        return [sum((second.get(side) or {}).get(what, 0) for what in ("reads", "writes")) for second in series]

    return Series(
        at=[int(second["at"].timestamp()) for second in series],
        monolith_p50=of("monolith", "p50_ms"),
        service_p50=of("service", "p50_ms"),
        monolith_p99=of("monolith", "p99_ms"),
        service_p99=of("service", "p99_ms"),
        monolith_rps=rate("monolith"),
        service_rps=rate("service"),
        monolith_errors=of("monolith", "errors"),
        service_errors=of("service", "errors"),
        lag_forward=[second.get("lag_forward_ms") for second in series],
        lag_reverse=[second.get("lag_reverse_ms") for second in series],
        held=[second.get("held") for second in series],
    )


def _flow(flow: Flow) -> FlowRow:
    sync: Mapping[str, Any] = flow.sync if flow.sync_on else {"state": "off"}
    capture: Mapping[str, Any] = flow.capture if flow.capture_on else {"state": "off"}
    error = sync.get("error") or capture.get("error") or ""
    return FlowRow(
        direction=flow.direction.value,
        capture=str(capture.get("state", "unknown")),
        sync=str(sync.get("state", "unknown")),
        lag_seconds=sync.get("lag_seconds"),
        p50_ms=sync.get("latency_p50_ms"),
        p99_ms=sync.get("latency_p99_ms"),
        parked=int(sync.get("parked") or 0),
        error=str(error.get("message", error)) if isinstance(error, Mapping) else str(error),
    )


def _verification(found: Mapping[str, Any]) -> Verification:
    return Verification(
        at=found["at"],
        place=str(found.get("place", "")),
        rows_compared=found["rows_compared"],
        differences=found["differences"],
        unsettled=int(found.get("unsettled") or 0),
        seconds=found["seconds"],
        named=[
            Difference(
                table=each["table"],
                service_table=each["service_table"],
                key=each["key"],
                kind=each["kind"],
                columns={name: (sides["monolith"], sides["service"]) for name, sides in each["columns"].items()},
            )
            for each in found.get("difference_list", [])[:NAMED]
        ],
    )


async def _shadow(reading: Reading, context: str, since: datetime) -> Shadow | None:
    async with reading.session() as conn:
        counts = await shadow.counts(conn, context, since)
        samples = await shadow.samples(conn, context, most=8)
    if not counts.compared and not samples:
        return None
    names = ("compared", "equal", "mismatched", "lagged", "noise", "dropped", "errors")
    return Shadow(
        **{name: getattr(counts, name) for name in names},
        samples=[
            Sample(**{key: each[key] for key in Sample.model_fields if key != "differences"}, differences=_list(each))
            for each in samples
        ],
    )


def _list(sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(each) for each in sample["differences"]]
