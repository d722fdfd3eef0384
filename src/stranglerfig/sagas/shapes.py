"""What drawings are made of: boxes, lines and words as SVG, in a page that follows the reader's colour scheme. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

WIDTH: Final = 230
HEIGHT: Final = 64
GAP: Final = 76
MARGIN: Final = 24

_STYLE: Final = (
    "rect{fill:#fff;stroke:#345;stroke-width:1.3}.end rect{fill:#eef2f6}.pivot rect{stroke-width:3.5}"
    ".undo rect{fill:#fdf3ea;stroke:#a4581f;stroke-dasharray:4 3}text{fill:#1b2733}.small{font-size:11px;fill:#52606d}"
    ".no{font-size:11px;fill:#a4581f}path{fill:none;stroke:#345;stroke-width:1.3}"
    ".back{stroke:#a4581f;stroke-dasharray:4 3}"
    ".tip{fill:#345;stroke:none}"
    "@media(prefers-color-scheme:dark){rect{fill:#16202b;stroke:#9fb3c8}.end rect{fill:#223040}.undo rect{fill:#2c2016;"
    "stroke:#e0a36c}text{fill:#e6edf3}.small{fill:#a9b8c6}.no{fill:#e0a36c}path{stroke:#9fb3c8}.back{stroke:#e0a36c}"
    ".tip{fill:#9fb3c8}}"
)


def page(title: str, width: float, height: float, parts: Iterable[str]) -> str:
    """A whole SVG."""
    title = escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
        f' height="{height:g}" role="img" aria-label="{title}"'
        f' font-family="system-ui, sans-serif" font-size="13"><title>{title}</title>'
        f"<style>{_STYLE}</style>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" class="tip"/></marker></defs>' + "".join(parts) + "</svg>\n"
    )


def box(x: float, y: float, words: Sequence[str], kind: str) -> str:
    """A box with lines of words in its middle; rounded where its ``kind`` is ``end``."""
    top = y + HEIGHT / 2 + 4.5 - 9 * (len(words) - 1)
    lines = "".join(
        text(x + WIDTH / 2, top + 18 * number, word, "small" if number else "", "middle")
        for number, word in enumerate(words)
    )
    rounded = 28 if kind == "end" else 6
    return f'<g class="{kind}"><rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="{rounded}"/>{lines}</g>'


def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    """Words at a place."""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def bow(start: tuple[float, float], tip: tuple[float, float], side: float, kind: str) -> str:
    """A curve from the right of one box to the right of another, which reaches towards ``side``."""
    (x1, y1), (x2, y2) = start, tip
    path = f"M{x1:g} {y1:g}C{side:g} {y1:g} {side:g} {y2:g} {x2:g} {y2:g}"
    return f'<path class="{kind}" d="{path}" marker-end="url(#tip)"/>'


def line(points: Sequence[tuple[float, float]], kind: str) -> str:
    """A curve from point to point, with a tip at its end."""
    (x, y), *others = points
    path = f"M{x:g} {y:g}"
    for next_x, next_y in others:
        middle = (y + next_y) / 2
        path += f"C{x:g} {middle:g} {next_x:g} {middle:g} {next_x:g} {next_y:g}"
        x, y = next_x, next_y
    return f'<path class="{kind}" d="{path}" marker-end="url(#tip)"/>'
