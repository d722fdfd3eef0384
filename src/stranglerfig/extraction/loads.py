"""Where requests wait: which side of an estate is the bottleneck, and what a change of its instances did. Pure.

Each second of the series has how many requests a side answered and how long it had all of them. By Little's law
(L = λW; J. D. C. Little, 1961, https://doi.org/10.1287/opre.9.3.383) that time in a second is how many are under way on
average.
What an answer takes when the side has little to do is its work; what it takes longer now is waiting for others, so that
of those under way the same share waits in a queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

QUEUES = 2.0
"""From this stretch on requests queue: then they wait for at least as long as they are worked on."""
QUEUED = 0.25
"""As many must wait on average before a side is called a bottleneck: a few milliseconds now and then hold up nobody."""
ENOUGH = 10
"""Seconds of traffic before and after a change that are wanted to compare them."""
CHANGED = 0.2
"""By what share the median must differ to be called another one."""
Second = Mapping[str, Any]
"""A side's point of one second: ``reads``, ``writes``, ``errors``, ``busy_ms``, ``p50_ms``, ``p99_ms``."""
Verdict = Literal["faster", "slower", "same", "unknown"]


@dataclass(frozen=True, slots=True)
class Window:
    """A side over some seconds.

    Attributes:
        seconds: how many had an answer of it.
        rate: requests a second.
        p50_ms, p99_ms: the middle one of the seconds' percentiles.
        mean_ms: of all answers.
        errors: failed requests.
        under_way: how many on average.
    """

    seconds: int
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    mean_ms: float | None
    errors: int
    under_way: float


@dataclass(frozen=True, slots=True)
class Load:
    """What a side has to do.

    Attributes:
        name: ``monolith``, or the context of a service.
        share: its share of all requests under way, 0 to 1.
        least_ms: its median when it had little to do.
        stretch: how many times as long its median is now; None where either is unknown.
        queued: how many of those under way wait for others.
        out: instances that are named and get no requests.
    """

    name: str
    window: Window
    share: float
    least_ms: float | None
    stretch: float | None
    queued: float
    out: Sequence[str] = ()


def window(seconds: Sequence[Second]) -> Window:
    """A side over ``seconds``; those in which it answered nothing count for its rate."""
    answered = [each for each in seconds if _requests(each)]
    requests = sum(_requests(each) for each in answered)
    busy = sum(_busy(each) for each in answered)
    return Window(
        seconds=len(answered),
        rate=requests / len(seconds) if seconds else 0.0,
        p50_ms=_middle(answered, "p50_ms"),
        p99_ms=_middle(answered, "p99_ms"),
        mean_ms=busy / requests if requests else None,
        errors=sum(int(each.get("errors") or 0) for each in answered),
        under_way=busy / 1000 / len(seconds) if seconds else 0.0,
    )


def _requests(second: Second) -> int:
    return int(second.get("reads") or 0) + int(second.get("writes") or 0)


def _busy(second: Second) -> float:
    """Its answers' time together; of seconds that an earlier version kept, by the median."""
    found = second.get("busy_ms")
    return float(found) if found is not None else _requests(second) * float(second.get("p50_ms") or 0)


def _middle(seconds: Sequence[Second], what: str) -> float | None:
    found = [float(each[what]) for each in seconds if each.get(what) is not None]
    return round(median(found), 3) if found else None


def loads(sides: Mapping[str, tuple[Window, float | None, Sequence[str]]]) -> list[Load]:
    """Each side's load by name, of its window, its least median and its instances that get no requests."""
    whole = sum(found.under_way for found, _, _ in sides.values())
    result = []
    for name, (found, least, out) in sides.items():
        stretch = found.p50_ms / least if found.p50_ms is not None and least else None
        queued = found.under_way * (1 - 1 / stretch) if stretch is not None and stretch > 1 else 0.0
        result.append(Load(name, found, found.under_way / whole if whole else 0.0, least, stretch, queued, tuple(out)))
    return result


def bottleneck(found: Sequence[Load]) -> tuple[str | None, str]:
    """The side at which most requests wait for others, or None; and why, in words."""
    slow = [each for each in found if (each.stretch or 0) >= QUEUES and each.queued >= QUEUED]
    out = "".join(
        f" {', '.join(each.out)} of {each.name} {'gets' if len(each.out) == 1 else 'get'} no requests."
        for each in found
        if each.out
    )
    if not slow:
        busy = max(found, key=lambda each: each.share, default=None)
        if busy is None or not busy.share:
            return None, f"Nothing is asked of any side.{out}"
        return None, f"None: nowhere do requests wait for others. {_where(busy)}{out}"
    worst = max(slow, key=lambda each: each.queued)
    assert worst.stretch is not None and worst.least_ms is not None and worst.window.p50_ms is not None
    remedy = (
        "What leaves it relieves it."
        if worst.name == "monolith"
        else "Another instance helps, unless it is the database that holds them up."
    )
    return worst.name, (
        f"{worst.name}: half of its answers take {worst.window.p50_ms:.0f} ms and more, {worst.stretch:.1f} times as"
        f" long as when it has little to do ({worst.least_ms:.1f} ms). So of {worst.window.under_way:.1f} requests"
        f" under way there {worst.queued:.1f} wait for others. {remedy}{out}"
    )


def _where(busy: Load) -> str:
    return f"Of the time that requests take, {busy.share * 100:.0f} % is at {busy.name}."


def effect(before: Window, after: Window) -> tuple[Verdict, str]:
    """What came of a change of a service's instances, by the medians before and after it; and in words."""
    if before.seconds < ENOUGH or after.seconds < ENOUGH or not before.p50_ms or not after.p50_ms:
        return "unknown", f"there is not enough traffic on both sides of it yet ({ENOUGH} s)"
    change = after.p50_ms / before.p50_ms - 1
    verdict: Verdict = "faster" if change <= -CHANGED else "slower" if change >= CHANGED else "same"
    words = {
        "faster": f"answers take {-change * 100:.0f} % less time",
        "slower": f"answers take {change * 100:.0f} % more time",
        "same": "answers take as long as before",
    }[verdict]
    asked = after.rate / before.rate - 1
    if abs(asked) >= CHANGED:
        words += f", at {abs(asked) * 100:.0f} % {'more' if asked > 0 else 'fewer'} requests"
    elif verdict == "same":
        words += ": what they wait for, if anything, the instances share"
    return verdict, words
