"""The page of the estate: every context, where it stands, and why; and the processes that work on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from stranglerfig.changes.flows import Flow
from stranglerfig.console import agreements, departure
from stranglerfig.console.agreements import Agreement
from stranglerfig.console.api import Asked, Model, Route
from stranglerfig.console.departure import Monolith
from stranglerfig.console.instances import fresh, out
from stranglerfig.console.reading import Reading
from stranglerfig.console.slowly import Slowly
from stranglerfig.extraction import loads
from stranglerfig.extraction.commands import taken_back
from stranglerfig.extraction.stages import Place
from stranglerfig.extraction.store import Standing
from stranglerfig.foundation import clock

Verdict = Literal["pass", "fail", "inconclusive"]
SECONDS = 10
"""Seconds of traffic that a context's figures are of."""
LEAST, LEAST_EVERY = 600, 5.0
"""Of how many seconds a side's least median is, and every how many seconds it is looked for."""
MONOLITH_EVERY = 2.0
"""Every how many seconds it is looked for what still passes to the monolith."""
Leasts = Mapping[tuple[str, str], float | None]
"""By context and side."""


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


class SideLoad(Model):
    """What one side has to do: the monolith (of all contexts' routes), or a context's service.

    ``rate`` is in requests a second; ``share`` is that of all requests under way, 0 to 1; ``stretch`` how many times as
    long its median is as when it has little to do; ``queued`` how many of those under way wait for others.
    """

    name: str
    rate: float
    p50_ms: float | None
    under_way: float
    share: float
    stretch: float | None
    queued: float


class Waiting(Model):
    """Where requests wait: the bottleneck, if there is one, and why; the busiest side first."""

    bottleneck: str | None
    words: str
    sides: list[SideLoad]


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
    waiting: Waiting
    agreements: list[Agreement]
    monolith: Monolith
    processes: list[Process]


def routes(reading: Reading) -> list[Route]:
    """What this page asks."""

    least = Slowly(lambda: leasts(reading), every=LEAST_EVERY)
    monolith = Slowly(lambda: departure.monolith(reading), every=MONOLITH_EVERY)

    async def estate(_: Asked) -> EstatePage:
        return await read(reading, await least(), await monolith())

    return [Route("/api/estate", EstatePage, estate, "Every context, and where it stands.", live=True)]


async def leasts(reading: Reading) -> Leasts:
    """The median of each side of each context when it had little to do."""
    async with reading.store() as store:
        return {
            (context, side): await store.least(context, side, last=LEAST)
            for context in reading.project.extractions
            for side in ("monolith", "service")
        }


async def read(reading: Reading, least: Leasts, monolith: Monolith) -> EstatePage:
    """The page as it is now."""
    flows = await reading.flows.all()
    rows: list[ContextRow] = []
    seen: dict[str, Sequence[Mapping[str, Any]]] = {}
    standings: dict[str, Standing | None] = {}
    async with reading.store() as store:
        for context in reading.project.extractions:
            standing = standings[context] = await store.known(context)
            if standing is None:
                rows.append(row(context, None, None, [], [], []))
                continue
            visit = await store.visit(standing.visit)
            series = seen[context] = fresh(await store.series(context, last=SECONDS), clock.now())
            back = await store.milestones(context, ("rollback", "cutover", "switch"), last=2)
            rows.append(row(context, standing, visit, series, [f for f in flows if f.context == context], back))
    async with reading.session() as conn:
        found = [await agreements.of(reading, conn, context, standing) for context, standing in standings.items()]
    state = reading.data.state() if reading.data.holder() is not None else {}
    host, port = reading.project.estate.listen
    return EstatePage(
        name=reading.project.estate.name,
        facade=f"{host}:{port}",
        contexts=rows,
        waiting=waiting(seen, least),
        monolith=monolith,
        agreements=[each for each in found if each is not None],
        processes=[_process(found) for found in state.get("roles", [])],
    )


def waiting(seen: Mapping[str, Sequence[Mapping[str, Any]]], least: Leasts) -> Waiting:
    """Where requests wait, by the last seconds of each context."""
    sides: dict[str, tuple[loads.Window, float | None, Sequence[str]]] = {}
    if seen:
        sides["monolith"] = _monolith(seen, least)
    for context, series in seen.items():
        window = loads.window([second.get("service") or {} for second in series])
        sides[context] = window, least.get((context, "service")), out(series[-1]) if series else ()
    found = sorted(loads.loads(sides), key=lambda each: -each.share)
    name, words = loads.bottleneck(found)
    return Waiting(
        bottleneck=name,
        words=words,
        sides=[
            SideLoad(
                name=each.name,
                rate=round(each.window.rate, 1),
                p50_ms=each.window.p50_ms,
                under_way=round(each.window.under_way, 2),
                share=round(each.share, 4),
                stretch=None if each.stretch is None else round(each.stretch, 2),
                queued=round(each.queued, 2),
            )
            for each in found
        ],
    )


def _monolith(
    seen: Mapping[str, Sequence[Mapping[str, Any]]], least: Leasts
) -> tuple[loads.Window, float | None, Sequence[str]]:
    """The monolith of all contexts: its medians are those of the context that asks it most."""
    each = {
        context: loads.window([second.get("monolith") or {} for second in series]) for context, series in seen.items()
    }
    most = max(each, key=lambda context: each[context].rate)
    rate, errors = sum(one.rate for one in each.values()), sum(one.errors for one in each.values())
    under_way = sum(one.under_way for one in each.values())
    mean = under_way / rate * 1000 if rate else None
    whole = replace(each[most], rate=rate, errors=errors, under_way=under_way, mean_ms=mean)
    return whole, least.get((most, "monolith")), ()


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
