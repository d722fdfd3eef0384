"""What was found out about the candidates, and what follows from it: figures, percentiles, advice. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

KEPT = 0.95
"""Share of the asked rate that must have come through for the rate to count as kept."""
ALIKE = 1.2
"""Figures within this factor are not told apart: one run on one machine does not carry more."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a team needs.

    Attributes:
        size: bytes of data per event.
        rate: events per second.
        seconds: how long each candidate is measured.
    """

    size: int
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """As much as a candidate took from ``producers`` that append ``batch`` events at a time without a pause."""

    batch: int
    producers: int
    events: int
    seconds: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Latency:
    """From when an event was due until it was read, in milliseconds, at the asked rate.

    Attributes:
        asked: events that were due.
        sent: of these, appended; the rest was due when the time was up.
        unseen: appended, and not read within the grace that followed.
        rate: appended and read, per second.
    """

    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None
    asked: int
    sent: int
    unseen: int
    rate: float

    @property
    def kept(self) -> bool:
        """Whether the asked rate came through."""
        return self.asked > 0 and self.unseen == 0 and self.sent >= KEPT * self.asked


class Outcome(StrEnum):
    """What became of something that was tried."""

    HELD = "held"
    BROKEN = "broken"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Trial:
    """Something that was tried, and what was seen."""

    outcome: Outcome
    says: str


def not_tested(why: str) -> Trial:
    """A trial that did not take place."""
    return Trial(Outcome.NOT_TESTED, why)


@dataclass(frozen=True, slots=True)
class Operation:
    """What operating a log takes: written facts, not measured; see ``operation.yaml``."""

    title: str
    further: int
    durability: str
    runs: str
    grows: str
    watch: tuple[str, ...] = ()
    for_tests: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What the port showed of one log."""

    throughput: tuple[Throughput, ...]
    latency: Latency
    ordering: Trial
    replay_position: Trial
    replay_time: Trial
    largest: Trial
    capabilities: tuple[str, ...]
    max_event_bytes: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """The server's processes, where they are on this machine, and their memory in bytes (shared is counted once)."""

    processes: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """One candidate.

    Attributes:
        name: what tells it from the others, without secrets.
        origin: where it was taken from: asked for, fig.yaml, found, embedded.
        further: servers to operate beside what fig runs.
        durability: what came of killing it, where it is ours to kill.
        settings: of the server, what bears on durability, such as ``fsync on``.
        problem: why it could not be measured; then ``measured`` is None.
    """

    name: str
    scheme: str
    origin: str
    further: int
    operation: Operation
    durability: Trial
    measured: Measured | None = None
    footprint: Footprint | None = None
    settings: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to take for a need: one name, or several that the figures do not tell apart; none when nothing fits."""

    need: str
    choice: tuple[str, ...]
    because: str


@dataclass(frozen=True, slots=True)
class Looked:
    """A place that was looked at for a candidate."""

    what: str
    where: str
    found: bool
    says: str = field(default="")


def document(
    at: datetime, machine: str, ask: Ask, looked: Sequence[Looked], results: Sequence[Result]
) -> dict[str, Any]:
    """``choose.json``: all that was asked, seen and concluded, and from which machine."""
    shown = [asdict(result) for result in results]
    for one, result in zip(shown, results, strict=True):
        if result.measured is not None:
            one["measured"]["latency"]["kept"] = result.measured.latency.kept
    return {
        "at": at.isoformat(timespec="seconds"),
        "machine": machine,
        "ask": asdict(ask),
        "looked": [asdict(one) for one in looked],
        "results": shown,
        "advice": [asdict(one) for one in advise(ask, results)],
    }


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of values in ascending order; None of no values."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latency(waits: Sequence[float], *, asked: int, sent: int, unseen: int, seconds: float) -> Latency:
    """Waits in seconds, in any order → percentiles in milliseconds."""
    ordered = sorted(wait * 1000 for wait in waits)
    p50, p90, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.99))
    return Latency(p50, p90, p99, ordered[-1] if ordered else None, asked, sent, unseen, len(ordered) / seconds)


def in_order(read: Sequence[tuple[str, int]], sent: dict[str, int]) -> Trial:
    """Whether each key's events were read in the order in which they were appended.

    Args:
        read: (key, number) as read; numbers grow by one from 0 for each key. A repetition counts once.
        sent: how many events each key got.
    """
    known = dict.fromkeys(sent, 0)
    for key, number in read:
        if number > known[key]:
            return Trial(Outcome.BROKEN, f"of the key {key}, event {number} came before {known[key]}")
        if number == known[key]:
            known[key] += 1
    missing = sum(sent[key] - known[key] for key in sent)
    if missing:
        return Trial(Outcome.BROKEN, f"{missing} of {sum(sent.values())} events were not read")
    return Trial(Outcome.HELD, f"{sum(sent.values()):,} events of {len(sent)} keys, appended concurrently")


def advise(ask: Ask, results: Sequence[Result]) -> list[Advice]:
    """What to take for each need, with the figures that say so."""
    fit = [(result, result.measured) for result in results if result.measured and not result.operation.for_tests]
    return [
        _lowest_latency(ask, fit),
        _most_throughput(fit),
        _least_to_operate(ask, fit),
        _survives(fit),
    ]


_Fit = Sequence[tuple[Result, Measured]]


def _kept(fit: _Fit) -> list[tuple[Result, Measured]]:
    return [(result, found) for result, found in fit if found.latency.kept]


def _best(
    fit: _Fit, figure: Callable[[Measured], float], *, lowest: bool
) -> tuple[tuple[Result, ...], list[tuple[Result, float]]]:
    """Those that are first, or not to be told from it; and all by rank with their figures."""
    ranked = sorted(((result, figure(found)) for result, found in fit), key=lambda one: one[1] if lowest else -one[1])
    first = ranked[0][1]
    alike = [one for one, value in ranked if (value <= first * ALIKE if lowest else value * ALIKE >= first)]
    return tuple(alike), ranked


def _lowest_latency(ask: Ask, fit: _Fit) -> Advice:
    need = f"Lowest latency at {ask.rate:,.0f} events/s of {ask.size:,} B"
    kept = _kept(fit)
    if not kept:
        seen = "; ".join(f"{result.name} came to {found.latency.rate:,.0f}/s" for result, found in fit)
        return Advice(need, (), f"No candidate kept the rate from this machine: {seen or 'none was measured'}.")
    best, ranked = _best(kept, lambda found: found.latency.p99 or 0.0, lowest=True)
    figures = "; ".join(f"{result.name} {value:.1f} ms" for result, value in ranked)
    slow = [result.name for result, found in fit if not found.latency.kept]
    more = f" {', '.join(slow)} did not keep the rate." if slow else ""
    return Advice(need, tuple(one.name for one in best), f"p99 from append to read: {figures}.{_tie(best)}{more}")


def _most_throughput(fit: _Fit) -> Advice:
    need = "Most events per second"
    if not fit:
        return Advice(need, (), "No candidate was measured.")
    best, ranked = _best(fit, lambda found: max(one.per_second for one in found.throughput), lowest=False)
    figures = "; ".join(f"{result.name} {value:,.0f}/s" for result, value in ranked)
    return Advice(need, tuple(one.name for one in best), f"In the better of both batches: {figures}.{_tie(best)}")


def _tie(best: Sequence[Result]) -> str:
    return " Closer together than one run can tell apart." if len(best) > 1 else ""


def _least_to_operate(ask: Ask, fit: _Fit) -> Advice:
    need = "Least to operate"
    kept = _kept(fit)
    if not kept:
        return Advice(need, (), "No candidate kept the rate from this machine.")
    fewest = min(result.further for result, _ in kept)
    best = [(result, found) for result, found in kept if result.further == fewest]
    words = "no further server" if fewest == 0 else f"{fewest} further server{'s' if fewest > 1 else ''}"
    figures = "; ".join(
        f"{result.name} kept {ask.rate:,.0f}/s with {words}, and took up to "
        f"{max(one.per_second for one in found.throughput):,.0f}/s"
        for result, found in best
    )
    return Advice(need, tuple(result.name for result, _ in best), f"{figures}.")


def _survives(fit: _Fit) -> Advice:
    need = "Acknowledged is kept, seen with our own eyes"
    held = [result for result, _ in fit if result.durability.outcome is Outcome.HELD]
    broken = [result for result, _ in fit if result.durability.outcome is Outcome.BROKEN]
    words = [f"{result.name}: {result.durability.says}" for result in (*held, *broken)]
    untested = [result.name for result, _ in fit if result.durability.outcome is Outcome.NOT_TESTED]
    if untested:
        words.append(f"not tested: {', '.join(untested)}")
    return Advice(need, tuple(result.name for result in held), "; ".join(words or ["no candidate was measured"]) + ".")
