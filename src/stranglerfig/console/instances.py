"""A service's instances on the page of its extraction: what each answers, and what a change of them did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Literal

from stranglerfig.console.api import Model
from stranglerfig.extraction import loads
from stranglerfig.extraction.store import Store

NOW = 10
"""Seconds that an instance's figures are of."""
COMPARED, SETTLES = timedelta(seconds=60), timedelta(seconds=5)
"""How long before and after a change is compared, and how long after it is left out: connections are made first."""
FRESH = timedelta(seconds=60)
"""How old seconds may be that figures of now are of: where nothing is asked any more, none are added."""
CHANGES = 3
"""Changes of the addresses that are shown."""


class Instance(Model):
    """One instance, by address and port.

    ``state``: ``serving``; ``out`` of one that is named and gets no requests, since its checks fail; ``gone`` of one
    that is no longer named. Figures are of the last ten seconds, ``rates`` and ``p99s`` a value per second of charts.
    """

    name: str
    state: Literal["serving", "out", "gone"]
    rate: float
    share: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    rates: list[float | None]
    p99s: list[float | None]


class Compared(Model):
    """A service over up to a minute: ``rate`` in requests a second, percentiles in milliseconds."""

    seconds: int
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    mean_ms: float | None
    errors: int
    under_way: float


class Change(Model):
    """Addresses that were added or taken away, and the service before and after it."""

    at: datetime
    added: list[str]
    removed: list[str]
    before: Compared
    after: Compared
    verdict: loads.Verdict
    words: str


class Mark(Model):
    """A moment in the charts."""

    at: datetime
    text: str


def fresh(series: Sequence[Mapping[str, Any]], now: datetime) -> list[Mapping[str, Any]]:
    """The seconds of ``series`` that say something of ``now``."""
    return [second for second in series if now - second["at"] <= FRESH]


def rows(series: Sequence[Mapping[str, Any]], now: datetime) -> list[Instance]:
    """Each instance that is named or has answered in ``series``, with its figures of ``now``."""
    recent = fresh(series[-NOW:], now)
    newest = (series[-1].get("instances") or {}) if series else {}
    names = sorted({name for second in series for name in (second.get("instances") or {})})
    windows = {name: loads.window([_of(second, name) for second in recent]) for name in names}
    whole = sum(found.rate for found in windows.values())
    return [
        Instance(
            name=name,
            state="gone" if name not in newest else "serving" if newest[name].get("serving") else "out",
            rate=round(found.rate, 1),
            share=round(found.rate / whole, 4) if whole else 0.0,
            p50_ms=found.p50_ms,
            p99_ms=found.p99_ms,
            errors=found.errors,
            rates=[_rate(second, name) for second in series],
            p99s=[_of(second, name).get("p99_ms") for second in series],
        )
        for name, found in windows.items()
    ]


def _of(second: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (second.get("instances") or {}).get(name) or {}
    return found


def _rate(second: Mapping[str, Any], name: str) -> float | None:
    found = (second.get("instances") or {}).get(name)
    return None if found is None else float((found.get("reads") or 0) + (found.get("writes") or 0))


def out(second: Mapping[str, Any]) -> list[str]:
    """The instances that are named and get no requests, where there are several: one alone is not checked."""
    known = second.get("instances") or {}
    return [name for name, found in sorted(known.items()) if not found.get("serving")] if len(known) > 1 else []


async def changes(store: Store, context: str, happened: Sequence[Mapping[str, Any]]) -> list[Change]:
    """The last changes of a service's addresses, newest first; ``happened`` is what else changed what it has to do."""
    counts = [each for each in happened if each["kind"] != "configuration" or moved(each)]
    events = sorted(counts, key=lambda each: each["at"])
    found = [
        change(milestone, await store.span(context, *before), await store.span(context, *after))
        for number, milestone in enumerate(events)
        if milestone["kind"] == "configuration"
        for before, after in [spans(events, number)]
    ]
    return found[: -CHANGES - 1 : -1]


Span = tuple[datetime, datetime]


def spans(events: Sequence[Mapping[str, Any]], number: int) -> tuple[Span, Span]:
    """The times before and after an event that are compared: a minute each, and none of it another event's."""
    at = events[number]["at"]
    begin, end = at - COMPARED, at + SETTLES + COMPARED
    if number > 0:
        begin = min(at, max(begin, events[number - 1]["at"] + SETTLES))
    if number + 1 < len(events):
        end = max(at + SETTLES, min(end, events[number + 1]["at"]))
    return (begin, at), (at + SETTLES, end)


def moved(milestone: Mapping[str, Any]) -> bool:
    """Whether a change of the configuration was one of addresses that came into force."""
    return "urls" in milestone and set(milestone["urls"]) != set(milestone.get("before", ()))


def change(
    milestone: Mapping[str, Any], before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Change:
    """One change, with the seconds of the series on both sides of it."""
    old, new = ({_plain(url) for url in milestone[side]} for side in ("before", "urls"))
    windows = [loads.window([second.get("service") or {} for second in seconds]) for seconds in (before, after)]
    verdict, words = loads.effect(*windows)
    return Change(
        at=milestone["at"],
        added=sorted(new - old),
        removed=sorted(old - new),
        before=Compared(**asdict(windows[0])),
        after=Compared(**asdict(windows[1])),
        verdict=verdict,
        words=words,
    )


def _plain(url: str) -> str:
    return url.partition("://")[2]


def marks(milestones: Sequence[Mapping[str, Any]], since: datetime) -> list[Mark]:
    """What happened since ``since`` that the charts may show the effect of."""
    found = []
    for each in milestones:
        match each:
            case {"at": at} if at < since:
                continue
            case {"kind": "configuration", "urls": urls} if moved(each):
                text = f"leads to {', '.join(_plain(url) for url in urls)}"
            case {"kind": "cutover", "direction": direction}:
                text = f"cut-over {'to the service' if direction == 'forward' else 'back to the monolith'}"
            case {"kind": "switch", "what": what}:
                text = f"switched: {what}"
            case {"kind": "rollback", "to": to}:
                text = f"taken back to {to}"
            case _:
                continue
        found.append(Mark(at=each["at"], text=text))
    return found
