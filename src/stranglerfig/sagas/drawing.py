"""Drawings of a saga's declaration: as data (which its service leaves in its database), as Mermaid, as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from stranglerfig.kit.messages import kind_of
from stranglerfig.sagas.declaring import Kind

Drawing = Mapping[str, Any]
Counts = Mapping[str, Mapping[str, int]]
"""By step, how many sagas that have not ended are in which phase there."""

WIDTH: Final = 230
HEIGHT: Final = 64
GAP: Final = 76
MARGIN: Final = 24
SIDE: Final = 250


def drawn(kind: Kind) -> dict[str, Any]:
    """A declaration as JSON: its steps in order, with what they ask for and how that is answered."""
    definition = kind.definition
    return {
        "name": kind.name,
        "version": kind.version,
        "starts": kind_of(kind.starts).type,
        "completed": None if kind.completed is None else kind_of(kind.completed).type,
        "compensated": None if kind.compensated is None else kind_of(kind.compensated).type,
        "within": kind.within,
        "steps": [
            {
                "name": name,
                "group": definition.step(name).group,
                "ask": kind_of(step.ask).type if isinstance(step.ask, type) else None,
                "ok": [kind_of(event).type for event in step.ok],
                "fail": [kind_of(event).type for event in step.fail],
                "undo": kind_of(step.undo).type if isinstance(step.undo, type) else step.undo and "call",
                "timeout": step.timeout,
                "pivot": step.pivot,
                "when": step.when,
            }
            for name, step in kind.steps.items()
        ],
    }  # fmt: skip


def mermaid(drawing: Drawing, counts: Counts | None = None) -> str:
    """A Mermaid flowchart: forward in full lines, back in dotted ones; the pivot is a hexagon."""
    groups = _groups(drawing["steps"])
    lines = [
        "flowchart TD",
        f'    start(["{drawing["starts"]}"])',
        f'    done(["{drawing["completed"] or "completed"}"])',
    ]
    back = [step for step in drawing["steps"] if step["undo"]]
    if back or any(step["fail"] for step in drawing["steps"]):
        lines.append(f'    back(["{drawing["compensated"] or "compensated"}"])')
    before = ["start"]
    for group in groups:
        for step in group:
            left, right = ("{{", "}}") if step["pivot"] else ("[", "]")
            lines.append(f'    {step["name"]}{left}"{"<br>".join(_words(step, counts))}"{right}')
            lines += [f"    {each} --> {step['name']}" for each in before]
        before = [step["name"] for step in group]
    lines += [f"    {each} --> done" for each in before]
    undone: list[str] = []
    for step in drawing["steps"]:
        if step["undo"]:
            lines.append(f'    undo_{step["name"]}["undo: {step["undo"]}"]')
            undone.append(step["name"])
    for later, earlier in zip(reversed(undone), [*reversed(undone)][1:], strict=False):
        lines.append(f"    undo_{later} -.-> undo_{earlier}")
    if undone:
        lines.append(f"    undo_{undone[0]} -.-> back")
    for number, step in enumerate(drawing["steps"]):
        if step["fail"] and not _is_past_pivot(drawing, step):
            before = [each["name"] for each in drawing["steps"][:number] if each["undo"]]
            to = f"undo_{before[-1]}" if before else "back"
            lines.append(f"    {step['name']} -. {' or '.join(map(_short, step['fail']))} .-> {to}")
    return "\n".join(lines) + "\n"


def svg(drawing: Drawing, counts: Counts | None = None) -> str:
    """An SVG of the same: steps below each other, those of a group side by side, undos on the left of their steps."""
    groups = _groups(drawing["steps"])
    most = max(map(len, groups))
    has_undo = any(step["undo"] for step in drawing["steps"])
    left = MARGIN + (SIDE if has_undo else 0)
    width = left + most * (WIDTH + MARGIN)
    height = MARGIN * 2 + (len(groups) + 2) * HEIGHT + (len(groups) + 1) * (GAP - HEIGHT // 2)
    step_y = HEIGHT + GAP - HEIGHT // 2
    middle = left + (most * (WIDTH + MARGIN) - MARGIN) / 2
    parts = [_box(middle - WIDTH / 2, MARGIN, [drawing["starts"]], "end")]
    before = [(middle, MARGIN + HEIGHT)]
    undos: list[tuple[float, float]] = []
    for row, group in enumerate(groups, start=1):
        y = MARGIN + row * step_y
        first = middle - (len(group) * (WIDTH + MARGIN) - MARGIN) / 2
        centres = []
        for column, step in enumerate(group):
            x = first + column * (WIDTH + MARGIN)
            parts.append(_box(x, y, _words(step, counts), "pivot" if step["pivot"] else "step"))
            parts += [_line(*each, x + WIDTH / 2, y, "go") for each in before]
            if step["fail"] and not _is_past_pivot(drawing, step):
                parts.append(_text(x + 8, y + HEIGHT + 15, f"✕ {' or '.join(map(_short, step['fail']))}", "no"))
            centres.append((x + WIDTH / 2, y + HEIGHT))
            if step["undo"]:
                parts.append(_box(MARGIN, y, ["undo " + step["name"], _short(step["undo"])], "undo"))
                undos.append((MARGIN + WIDTH / 2, y))
        before = centres
    end = MARGIN + (len(groups) + 1) * step_y
    parts += [_line(*each, middle, end, "go") for each in before]
    parts.append(_box(middle - WIDTH / 2, end, [drawing["completed"] or "completed"], "end"))
    for (x, later), (_, earlier) in zip(reversed(undos), [*reversed(undos)][1:], strict=False):
        parts.append(_line(x, later, x, earlier + HEIGHT, "back"))
    if undos:
        parts.append(_line(undos[0][0], undos[0][1], undos[0][0], MARGIN + HEIGHT, "back"))
        parts.append(_box(MARGIN, MARGIN, [drawing["compensated"] or "compensated"], "end"))
    title = escape(f"{drawing['name']}, version {drawing['version']}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
        f' height="{height:g}" role="img" aria-label="{title}"'
        f' font-family="system-ui, sans-serif" font-size="13"><title>{title}</title>'
        f"<style>{_STYLE}</style>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" class="tip"/></marker></defs>' + "".join(parts) + "</svg>\n"
    )


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


def _groups(steps: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for step in steps:
        found.setdefault(step["group"], []).append(step)
    return [found[number] for number in sorted(found)]


def _words(step: Mapping[str, Any], counts: Counts | None) -> list[str]:
    """What stands in a step's box: its name, what it asks for, and how many sagas are there."""
    extra = [f"if {step['when']}"] if step["when"] else []
    extra += [f"{step['timeout']:g} s"] if step["timeout"] else []
    words = [step["name"] + (" (pivot)" if step["pivot"] else ""), ", ".join([_short(step["ask"] or "call"), *extra])]
    here = {phase: count for phase, count in (counts or {}).get(step["name"], {}).items() if phase in _SHOWN}
    if here:
        words.append(", ".join(f"{count} {phase}" for phase, count in sorted(here.items())))
    return words


_SHOWN: Final = ("asked", "undoing", "unknown", "failed")


def _is_past_pivot(drawing: Drawing, step: Mapping[str, Any]) -> bool:
    return any(each["pivot"] and each["group"] < step["group"] for each in drawing["steps"])


def _short(type_: str) -> str:
    return type_.rpartition(".")[2]


def _box(x: float, y: float, words: list[str], kind: str) -> str:
    top = y + HEIGHT / 2 + 4.5 - 9 * (len(words) - 1)
    lines = "".join(
        _text(x + WIDTH / 2, top + 18 * number, word, "small" if number else "", "middle")
        for number, word in enumerate(words)
    )
    rounded = 28 if kind == "end" else 6
    return f'<g class="{kind}"><rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="{rounded}"/>{lines}</g>'


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    middle = (y1 + y2) / 2
    path = f"M{x1:g} {y1:g}C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"
    return f'<path class="{kind}" d="{path}" marker-end="url(#tip)"/>'
