"""Pictures that set several things side by side: ranges on one scale, bars of counts. Drawn by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from stranglerfig.report.charts import Frame, both, number, svg

_ROW, _LABEL, _EDGE = {"wide": 46, "narrow": 62}, 15, 10


_WORDS = 165
"""Pixels beside the longest bar for what it stands for."""


@dataclass(frozen=True, slots=True)
class Range:
    """A row: its name, and named values in ascending order (p50, p90, p99, max); one without values says why."""

    name: str
    values: Sequence[tuple[str, float]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """A row: its name, and one bar per (label, value, style)."""

    name: str
    values: Sequence[tuple[str, float, str]]


def ranges(rows: Sequence[Range], *, unit: str, title: str, about: str) -> str:
    """From the first to the last value of each row, on one log scale, a mark at each."""
    known = [value for row in rows for _, value in row.values if value > 0]
    low = 10 ** math.floor(math.log10(min(known, default=0.1)))
    high = 10 ** math.ceil(math.log10(max(known, default=1.0)) + 1e-9)

    def draw(variant: str, width: int, _: int) -> str:
        tall = _ROW[variant]
        frame = Frame(width, len(rows) * tall + 34, 1.0, low, high, top=6)

        def x(value: float) -> float:
            share = math.log10(max(value, low) / low) / math.log10(high / low)
            return _EDGE + (width - 2 * _EDGE) * share

        bottom = len(rows) * tall + 8
        for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
            at = x(10.0**power)
            frame.add(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{frame.top}" y2="{bottom}"/>')
            side = "" if power == round(math.log10(low)) else " end" if at > width - 40 else " mid"
            frame.add(f'<text class="tick{side}" x="{at:.1f}" y="{bottom + 16}">{number(10.0**power)} {unit}</text>')
        for index, row in enumerate(rows):
            top = frame.top + index * tall
            y = top + _LABEL + _names(frame, row.name, _said(row, unit), top + _LABEL, variant) + 14
            if not row.values:
                continue
            first, last = x(row.values[0][1]), x(row.values[-1][1])
            frame.add(f'<line class="reach service" x1="{first:.1f}" x2="{last:.1f}" y1="{y}" y2="{y}"/>')
            for place, (name, value) in enumerate(row.values):
                end = place == len(row.values) - 1
                words = f"<title>{escape(row.name)} {escape(name)} {number(round(value, 2))} {unit}</title>"
                mark = (
                    f'<line class="reach service" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{y - 6}" y2="{y + 6}"/>'
                    if end
                    else f'<circle class="mark m{place}" cx="{x(value):.1f}" cy="{y}" r="5"/>'
                )
                frame.add(f"<g>{words}{mark}</g>")
        return svg(frame, variant, title, about)

    return both(draw)


def _said(row: Range, unit: str) -> str:
    if not row.values:
        return row.note
    values = " · ".join(f"{name} {number(float(f'{value:.3g}'))}" for name, value in row.values)
    return f"{values} {unit}"


def bars(rows: Sequence[Bars], *, unit: str, title: str, about: str) -> str:
    """Bars from zero, all on one scale, each with its value."""
    high = max((value for row in rows for _, value, _ in row.values), default=1.0) or 1.0

    def draw(variant: str, width: int, _: int) -> str:
        frame = Frame(width, sum(_LABEL + 9 + 20 * len(row.values) for row in rows), 1.0, 0.0, 1.0)
        room = width - 2 * _EDGE - _WORDS
        y = 0
        for row in rows:
            _names(frame, row.name, "", y + _LABEL - 3, variant)
            y += _LABEL + 4
            for label, value, style in row.values:
                long = max(1.5, room * value / high)
                frame.add(
                    f'<rect class="bar {escape(style)}" x="{_EDGE}" y="{y}" width="{long:.1f}" height="13" rx="2"/>'
                    f'<text class="tick" x="{_EDGE + long + 6:.1f}" y="{y + 10.5}">'
                    f"{escape(f'{value:,.0f}{unit}, {label}')}</text>"
                )
                y += 20
            y += 5
        return svg(frame, variant, title, about)

    return both(draw)


def _names(frame: Frame, name: str, note: str, y: float, variant: str) -> int:
    """A row's name, and what is said of it: to its right, on a phone below it. Returns the pixels that took."""
    frame.add(f'<text class="stage" x="{_EDGE}" y="{y}">{escape(name)}</text>')
    if variant == "wide":
        frame.add(f'<text class="tick end" x="{frame.width - _EDGE}" y="{y}">{escape(note)}</text>')
        return 0
    frame.add(f'<text class="tick" x="{_EDGE}" y="{y + 14}">{escape(note)}</text>')
    return 14
