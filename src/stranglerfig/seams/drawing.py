"""The candidates as a picture: a box for each with its tables, lines as thick as what ties them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape

from stranglerfig.seams.model import TABLE, Evidence, Ties, all_ties
from stranglerfig.seams.ranking import Candidate, Ranking

WIDTH, GAP, LINE, HEAD, MARGIN = 270, 80, 17, 62, 30
_MOST_TABLES = 12
_WORDS = {
    "foreign_key": "foreign keys",
    "statement": "statements over both",
    "transaction": "transactions that write both",
    "routine": "routines over both",
    "view": "views over both",
    "module": "modules that touch both",
    "route": "routes that touch both",
    "import": "imports",
    "commit": "commits that change both",
}
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1d2733 }
.name { font-size: 16px; font-weight: 600 } .said { fill: #55606e; font-size: 12px }
.box { fill: #fff; stroke: #93a1b1; stroke-width: 1.5 } .first { stroke: #1f7a4d; stroke-width: 3 }
.tie { stroke: #6b7c93; fill: none; opacity: .55 }
"""


def svg(evidence: Evidence, ranking: Ranking) -> str:
    """The picture as SVG, by rank from left to right and from top to bottom."""
    candidates = ranking.candidates
    columns = min(4, max(1, round(len(candidates) ** 0.5 + 0.49)))
    places, height = _places(candidates, columns)
    width = 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP
    lines = _lines(candidates, all_ties(evidence), places)
    boxes = [_box(each, places[each.name], each.name == ranking.first) for each in candidates]
    title = f"{len(candidates)} candidate contexts; begin with {ranking.first}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            ' role="img">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            f'<rect width="{width}" height="{height}" fill="#f5f7fa"/>',
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def _tall(candidate: Candidate) -> int:
    return HEAD + LINE * min(len(candidate.tables), _MOST_TABLES + 1) + 12


def _places(candidates: Sequence[Candidate], columns: int) -> tuple[dict[str, tuple[int, int]], int]:
    """Of each candidate its box's left upper corner, and the height of it all."""
    places, top = dict[str, tuple[int, int]](), MARGIN
    for start in range(0, len(candidates), columns):
        row = candidates[start : start + columns]
        for column, each in enumerate(row):
            places[each.name] = (MARGIN + column * (WIDTH + GAP), top)
        top += max(map(_tall, row)) + GAP
    return places, top - GAP + MARGIN


def _box(each: Candidate, at: tuple[int, int], first: bool) -> str:
    x, y = at
    style = "box first" if first else "box"
    keys = f"{len(each.keys_in)} keys in, {len(each.keys_out)} out; {each.cross:.0%} of ties cross"
    shown = [*each.tables[:_MOST_TABLES]]
    if len(each.tables) > _MOST_TABLES:
        shown.append(f"and {len(each.tables) - _MOST_TABLES} more")
    rows = [
        f'<text x="{x + 14}" y="{y + HEAD + 8 + LINE * index}">{escape(_short(name))}</text>'
        for index, name in enumerate(shown)
    ]
    return "\n".join(
        [
            f'<g><rect class="{style}" x="{x}" y="{y}" width="{WIDTH}" height="{_tall(each)}" rx="8"/>',
            f'<text class="name" x="{x + 14}" y="{y + 24}">{each.place}. {escape(_short(each.name, 24))}</text>',
            f'<text class="said" x="{x + 14}" y="{y + 42}">{keys}</text>',
            *rows,
            "</g>",
        ]
    )


def _short(name: str, most: int = 30) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _lines(candidates: Sequence[Candidate], whole: Ties, places: Mapping[str, tuple[int, int]]) -> list[str]:
    of = {table: each.name for each in candidates for table in each.tables}
    of_module = {f"module:{module}": each.name for each in candidates for module in each.modules}
    between: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (a, b), kinds in whole.items():
        one, other = (of.get(node.name) if node.kind == TABLE else of_module.get(str(node)) for node in (a, b))
        if one and other and one != other:
            for kind, weight in kinds.items():
                between[min(one, other), max(one, other)][kind] += weight
    most = max((sum(kinds.values()) for kinds in between.values()), default=1.0)
    tall = {each.name: _tall(each) for each in candidates}
    drawn = []
    for (left, right), kinds in sorted(between.items()):
        weight = sum(kinds.values())
        said = ", ".join(_WORDS[kind] for kind in sorted(kinds, key=lambda kind: -kinds[kind]))
        (xa, ya), (xb, yb) = places[left], places[right]
        x1, y1, x2, y2 = xa + WIDTH / 2, ya + tall[left] / 2, xb + WIDTH / 2, yb + tall[right] / 2
        bend = 40 if x1 != x2 and y1 != y2 else 0
        drawn.append(
            f'<path class="tie" stroke-width="{1 + 9 * weight / most:.1f}"'
            f' d="M{x1:.0f} {y1:.0f} Q{(x1 + x2) / 2 + bend:.0f} {(y1 + y2) / 2:.0f} {x2:.0f} {y2:.0f}">'
            f"<title>{escape(f'{left} and {right}: {said}')}</title></path>"
        )
    return drawn
