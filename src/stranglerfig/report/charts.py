"""Pictures as inline SVG, drawn by hand: scales, axes, lines, areas. Colours come from the page's style sheet.

Every picture is drawn twice, for wide screens and for phones, so that its text stays readable on both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

Series = Sequence[tuple[float, float | None]]
SIZES = {"wide": (920, 250), "narrow": (350, 220)}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time with a name, drawn as a band behind a picture (seconds since the start)."""

    begin: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Pin:
    """A numbered moment."""

    at: float
    number: int
    label: str
    kind: str


@dataclass(frozen=True, slots=True)
class Trace:
    """A line with the class that styles it (``monolith p99``) and its name."""

    name: str
    style: str
    points: Series


@dataclass(frozen=True, slots=True)
class Scene:
    """What the pictures over time share: their length in seconds, the stages behind, the moments pointed out."""

    length: float
    spans: Sequence[Span] = ()
    pins: Sequence[Pin] = ()


@dataclass(slots=True)
class Frame:
    """The drawing area of one picture."""

    width: int
    height: int
    length: float
    low: float
    high: float
    log: bool = False
    left: int = 46
    right: int = 8
    top: int = 34
    bottom: int = 24
    parts: list[str] = field(default_factory=list)

    def x(self, seconds: float) -> float:
        """Seconds → pixels."""
        return self.left + (self.width - self.left - self.right) * seconds / (self.length or 1)

    def y(self, value: float) -> float:
        """A value → pixels, kept inside."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        return self.height - self.bottom - (self.height - self.top - self.bottom) * (at - low) / ((high - low) or 1)

    def add(self, *parts: str) -> None:
        """Draw."""
        self.parts.extend(parts)


def clock(seconds: float) -> str:
    """Elapsed time as ``3:07`` or ``1:02:03``."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def number(value: float) -> str:
    """A number for people: ``1,234``, ``12.3``, ``0.0021``."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def thin(points: Series, most: int, pick: Callable[[list[float]], float]) -> list[tuple[float, float | None]]:
    """At most ``most`` points: neighbours become one by ``pick`` (the highest of a p99, the mean of a rate)."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    thinned: list[tuple[float, float | None]] = []
    for start in range(0, len(points), size):
        group = points[start : start + size]
        values = [value for _, value in group if value is not None]
        thinned.append((group[0][0], pick(values) if values else None))
    return thinned


def mean(values: Sequence[float]) -> float:
    """The mean."""
    return sum(values) / len(values)


def path(frame: Frame, points: Series) -> str:
    """An SVG path; a missing value is a gap, a lonely value a dot."""
    drawn, pen = [], False
    for index, (seconds, value) in enumerate(points):
        if value is None:
            pen = False
            continue
        drawn.append(f"{'L' if pen else 'M'}{frame.x(seconds):.1f} {frame.y(value):.1f}")
        if not pen and (index + 1 == len(points) or points[index + 1][1] is None):
            drawn.append("h.1")
        pen = True
    return "".join(drawn)


def _ticks(frame: Frame) -> list[float]:
    if frame.log:
        first, last = math.ceil(math.log10(frame.low) - 1e-9), math.floor(math.log10(frame.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]
    step = 10 ** math.floor(math.log10(frame.high / 2)) if frame.high > 0 else 1.0
    while frame.high / step > 5:
        step *= 2 if frame.high / step <= 10 else 2.5
    return [step * i for i in range(int(frame.high / step) + 1)]


def _axes(frame: Frame, scene: Scene, unit: str) -> None:
    bottom = frame.height - frame.bottom
    for index, span in enumerate(scene.spans):
        left, right = frame.x(span.begin), frame.x(span.end)
        frame.add(
            f'<rect class="band{index % 2}" x="{left:.1f}" y="{frame.top - 18}" width="{max(0, right - left):.1f}" '
            f'height="{bottom - frame.top + 18}"/>'
        )
        if right - left > 6.2 * len(span.label) + 6:
            frame.add(f'<text class="stage" x="{left + 4:.1f}" y="{frame.top - 6}">{escape(span.label)}</text>')
    for value in _ticks(frame):
        y = frame.y(value)
        frame.add(f'<line class="grid" x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        frame.add(f'<text class="tick end" x="{frame.left - 6}" y="{y + 3.5:.1f}">{number(value)}</text>')
    frame.add(f'<text class="tick end" x="{frame.left - 6}" y="{frame.top - 6}">{escape(unit)}</text>')
    every = next((s for s in (10, 30, 60, 120, 300, 600, 1800, 3600) if scene.length / s <= frame.width / 75), 7200)
    for at in range(0, int(scene.length) + 1, every):
        frame.add(f'<text class="tick mid" x="{frame.x(at):.1f}" y="{bottom + 16}">{clock(at)}</text>')
    for pin in scene.pins:
        x = frame.x(pin.at)
        frame.add(
            f'<g class="pin {escape(pin.kind)}"><title>{escape(pin.label)}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top - 18}" y2="{bottom}"/>'
            f'<circle cx="{x:.1f}" cy="8" r="7"/><text class="mid" x="{x:.1f}" y="11.5">{pin.number}</text></g>'
        )


def svg(frame: Frame, variant: str, title: str, about: str) -> str:
    """What was drawn into ``frame``, as an element."""
    return (
        f'<svg class="chart {variant}" viewBox="0 0 {frame.width} {frame.height}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(about)}</desc>{''.join(frame.parts)}</svg>"
    )


def both(draw: Callable[[str, int, int], str]) -> str:
    """The picture for wide screens and for phones."""
    return "".join(draw(variant, *size) for variant, size in SIZES.items())


def lines(scene: Scene, traces: Sequence[Trace], *, unit: str, title: str, about: str, log: bool = True) -> str:
    """Lines over time."""
    values = [v for trace in traces for _, v in trace.points if v is not None and v > 0]
    high = max(values, default=1.0)
    low = min(values, default=0.1)

    def draw(variant: str, width: int, height: int) -> str:
        frame = Frame(width, height, scene.length, 0.0, high * 1.05)
        if log:
            frame.low, frame.high, frame.log = 10 ** math.floor(math.log10(low)), high * 1.2, True
        _axes(frame, scene, unit)
        for trace in traces:
            shown = path(frame, thin(trace.points, width // 2, max))
            frame.add(f'<path class="line {trace.style}" d="{shown}"><title>{escape(trace.name)}</title></path>')
        return svg(frame, variant, title, about)

    return both(draw)


def stacked(scene: Scene, traces: Sequence[Trace], *, unit: str, title: str, about: str) -> str:
    """Areas over time, one on the other; the traces' points stand at the same times."""
    totals = [sum(v or 0 for v in column) for column in zip(*([v for _, v in t.points] for t in traces), strict=True)]
    high = max(totals, default=1.0) or 1.0

    def draw(variant: str, width: int, height: int) -> str:
        frame = Frame(width, height, scene.length, 0.0, high * 1.05)
        _axes(frame, scene, unit)
        floor: list[float] = []
        for trace in traces:
            points = thin([(at, v or 0.0) for at, v in trace.points], width // 2, mean)
            floor = floor or [0.0] * len(points)
            top = [base + (v or 0.0) for base, (_, v) in zip(floor, points, strict=True)]
            over = " L".join(f"{frame.x(at):.1f} {frame.y(v):.1f}" for (at, _), v in zip(points, top, strict=True))
            under = " L".join(
                f"{frame.x(at):.1f} {frame.y(v):.1f}" for (at, _), v in reversed(list(zip(points, floor, strict=True)))
            )
            if points:
                name = escape(trace.name)
                frame.add(f'<path class="area {trace.style}" d="M{over} L{under} Z"><title>{name}</title></path>')
            floor = top
        return svg(frame, variant, title, about)

    return both(draw)


def strip(values: Iterable[float], *, marks: Mapping[str, float], title: str, about: str, high: float) -> str:
    """A histogram of waits in milliseconds, with named moments (p50, p99, max) below it."""
    found = list(values)

    def draw(variant: str, width: int, height: int) -> str:
        frame = Frame(width, 120, high or 1.0, 0.0, 1.0, left=8, right=8, top=12, bottom=40)
        bins = [0] * (48 if variant == "wide" else 28)
        for value in found:
            bins[min(len(bins) - 1, int(value / (high or 1.0) * len(bins)))] += 1
        most, size = max(bins) or 1, (width - 16) / len(bins)
        base = frame.height - frame.bottom
        for index, count in enumerate(bins):
            if count:
                tall = max(1.5, (base - frame.top) * count / most)
                frame.add(
                    f'<rect class="bar" x="{8 + index * size:.1f}" y="{base - tall:.1f}" width="{size - 1:.1f}" '
                    f'height="{tall:.1f}"><title>{count} requests</title></rect>'
                )
        frame.add(f'<line class="axis" x1="8" x2="{width - 8}" y1="{base}" y2="{base}"/>')
        taken: list[float] = [-100.0, -100.0]
        for name, value in sorted(marks.items(), key=lambda item: item[1]):
            x, text = frame.x(value), f"{name} {number(round(value, 1))} ms"
            half = len(text) * 3.1
            middle = min(max(x, 8 + half), width - 8 - half)
            row = 0 if middle - half > taken[0] else 1
            taken[row] = middle + half + 6
            frame.add(f'<line class="grid strong" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 6}"/>')
            frame.add(f'<text class="tick mid" x="{middle:.1f}" y="{base + 18 + 14 * row}">{escape(text)}</text>')
        return svg(frame, variant, title, about)

    return both(draw)


def interval(observed: float | None, bound: float | None, *, title: str) -> str:
    """Where evidence lies against its threshold: 0 … twice the threshold, which is the line in the middle.

    ``observed`` and ``bound`` are badness over the threshold: left of the line is good.
    """
    width = 260.0

    def x(ratio: float) -> float:
        return 6 + (width - 12) * min(max(ratio, 0.0), 2.0) / 2

    parts = [
        f'<rect class="good" x="6" y="4" width="{x(1) - 6:.1f}" height="16"/>',
        f'<line class="grid strong" x1="6" x2="{width - 6:g}" y1="12" y2="12"/>',
    ]
    if observed is not None and bound is not None:
        left, right = sorted((x(observed), x(bound)))
        parts.append(f'<line class="reach" x1="{left:.1f}" x2="{right:.1f}" y1="12" y2="12"/>')
        parts.append(f'<line class="reach" x1="{x(bound):.1f}" x2="{x(bound):.1f}" y1="7" y2="17"/>')
    parts.append(f'<line class="threshold" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="1" y2="23"/>')
    if observed is not None:
        at = x(observed)
        dot = f'<circle class="dot" cx="{at:.1f}" cy="12" r="4.5"/>'
        off = f'<path class="dot" d="M{width - 12:g} 7l7 5-7 5z"/>'
        parts.append(off if observed > 2 else dot)
    inner = f"<title>{escape(title)}</title>{''.join(parts)}"
    return f'<svg class="interval" viewBox="0 0 {width:g} 24" role="img">{inner}</svg>'
