"""The page of the estate: every context, where it stands, and why; and the processes that work on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from stranglerfig.changes.flows import Flow
from stranglerfig.console.api import Asked, Model, Route
from stranglerfig.console.reading import Reading
from stranglerfig.extraction.commands import taken_back
from stranglerfig.extraction.stages import Place
from stranglerfig.extraction.store import Standing

Verdict = Literal["pass", "fail", "inconclusive"]
SECONDS = 10
"""Seconds of traffic that a context's figures are of."""


class Traffic(Model):
    """What the façade saw of a context over the last seconds.

    Rates are requests a second; ``reads_share`` and ``writes_share`` are the shares that the service answered, 0 to 1.
    """

    reads: float
    writes: float
    errors: int
    reads_share: float | None
    writes_share: float | None


class Lag(Model):
    """How far the side that does not own the data is behind, in milliseconds, and which way the changes go."""

    direction: Literal["forward", "reverse"]
    milliseconds: float | None
    state: str


class ContextRow(Model):
    """One context. ``share`` is the share of reads, in percent, that the stage gives to the service."""

    context: str
    begun: bool
    stage: str
    step: str
    place: str
    since: datetime | None
    owner: Literal["monolith", "service"]
    epoch: int
    share: float
    traffic: Traffic | None
    lag: Lag | None
    verdict: Verdict | None
    passed: int
    kpis: int
    warnings: list[str]


class Process(Model):
    """A process of ``fig up``."""

    role: str
    state: str
    restarts: int
    since: datetime | None


class EstatePage(Model):
    """All of it."""

    name: str
    facade: str
    contexts: list[ContextRow]
    processes: list[Process]


def routes(reading: Reading) -> list[Route]:
    """What this page asks."""

    async def estate(_: Asked) -> EstatePage:
        return await read(reading)

    return [Route("/api/estate", EstatePage, estate, "Every context, and where it stands.", live=True)]


async def read(reading: Reading) -> EstatePage:
    """The page as it is now."""
    flows = await reading.flows.all()
    rows: list[ContextRow] = []
    async with reading.store() as store:
        for context in reading.project.extractions:
            standing = await store.known(context)
            if standing is None:
                rows.append(row(context, None, None, [], [], []))
                continue
            visit = await store.visit(standing.visit)
            series = await store.series(context, last=SECONDS)
            back = await store.milestones(context, ("rollback", "cutover", "switch"), last=2)
            rows.append(row(context, standing, visit, series, [f for f in flows if f.context == context], back))
    state = reading.data.state() if reading.data.holder() is not None else {}
    host, port = reading.project.estate.listen
    return EstatePage(
        name=reading.project.estate.name,
        facade=f"{host}:{port}",
        contexts=rows,
        processes=[_process(found) for found in state.get("roles", [])],
    )


def row(
    context: str,
    standing: Standing | None,
    visit: Mapping[str, Any] | None,
    series: Sequence[Mapping[str, Any]],
    flows: Sequence[Flow],
    back: Sequence[Mapping[str, Any]],
) -> ContextRow:
    """One context, from what is kept of it; ``standing`` is None of one that has not begun."""
    place = Place.first() if standing is None else standing.place
    gate = (visit or {}).get("gate") or {}
    kpis = gate.get("kpis", [])
    return ContextRow(
        context=context,
        begun=standing is not None,
        stage=place.stage.value,
        step=place.step,
        place=str(place),
        since=visit["entered_at"] if visit else None,
        owner="service" if standing is not None and standing.owner == "service" else "monolith",
        epoch=0 if standing is None else standing.epoch,
        share=place.share,
        traffic=traffic(series),
        lag=lag(series, flows, "forward" if standing is None or standing.owner != "service" else "reverse"),
        verdict=gate.get("verdict") if kpis else None,
        passed=sum(kpi["verdict"] == "pass" for kpi in kpis),
        kpis=len(kpis),
        warnings=[] if standing is None else [*standing.facts.get("warnings", []), *taken_back(back)],
    )


def traffic(series: Sequence[Mapping[str, Any]]) -> Traffic | None:
    """The rates of the seconds in ``series``; None of none."""
    if not series:
        return None
    sums = {
        (side, what): sum((second.get(side) or {}).get(what, 0) for second in series)
        for side in ("monolith", "service", "facade")
        for what in ("reads", "writes", "errors")
    }

    def share(what: str) -> float | None:
        whole = sums["monolith", what] + sums["service", what]
        return round(sums["service", what] / whole, 4) if whole else None

    return Traffic(
        reads=round((sums["monolith", "reads"] + sums["service", "reads"]) / len(series), 1),
        writes=round((sums["monolith", "writes"] + sums["service", "writes"]) / len(series), 1),
        errors=sum(sums[side, "errors"] for side in ("monolith", "service", "facade")),
        reads_share=share("reads"),
        writes_share=share("writes"),
    )


def lag(
    series: Sequence[Mapping[str, Any]], flows: Sequence[Flow], direction: Literal["forward", "reverse"]
) -> Lag | None:
    """How far behind the other side is; None where nothing flows that way."""
    flow = next((flow for flow in flows if flow.direction.value == direction and flow.sync_on), None)
    if flow is None:
        return None
    seen = series[-1].get(f"lag_{direction}_ms") if series else None
    return Lag(direction=direction, milliseconds=seen, state=str(flow.sync.get("state", "unknown")))


def _process(found: Mapping[str, Any]) -> Process:
    since = datetime.fromtimestamp(found["since"]).astimezone() if found.get("since") else None
    return Process(role=found["role"], state=found["state"], restarts=found["restarts"], since=since)
