"""Drawings of a saga's declaration: as data (which its service leaves in its database), as Mermaid, as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from stranglerfig.kit.messages import kind_of
from stranglerfig.sagas.declaring import Kind
from stranglerfig.sagas.shapes import GAP, HEIGHT, MARGIN, WIDTH, box, line, page, text

Drawing = Mapping[str, Any]
Counts = Mapping[str, Mapping[str, int]]
"""By step, how many sagas that have not ended are in which phase there."""

SIDE: Final = 250
"""The width of the column of undos."""


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
    parts = [box(middle - WIDTH / 2, MARGIN, [drawing["starts"]], "end")]
    before = [(middle, MARGIN + HEIGHT)]
    undos: list[tuple[float, float]] = []
    for row, group in enumerate(groups, start=1):
        y = MARGIN + row * step_y
        first = middle - (len(group) * (WIDTH + MARGIN) - MARGIN) / 2
        centres = []
        for column, step in enumerate(group):
            x = first + column * (WIDTH + MARGIN)
            parts.append(box(x, y, _words(step, counts), "pivot" if step["pivot"] else "step"))
            parts += [line([each, (x + WIDTH / 2, y)], "go") for each in before]
            if step["fail"] and not _is_past_pivot(drawing, step):
                parts.append(text(x + 8, y + HEIGHT + 15, f"✕ {' or '.join(map(_short, step['fail']))}", "no"))
            centres.append((x + WIDTH / 2, y + HEIGHT))
            if step["undo"]:
                parts.append(box(MARGIN, y, ["undo " + step["name"], _short(step["undo"])], "undo"))
                undos.append((MARGIN + WIDTH / 2, y))
        before = centres
    end = MARGIN + (len(groups) + 1) * step_y
    parts += [line([each, (middle, end)], "go") for each in before]
    parts.append(box(middle - WIDTH / 2, end, [drawing["completed"] or "completed"], "end"))
    for (x, later), (_, earlier) in zip(reversed(undos), [*reversed(undos)][1:], strict=False):
        parts.append(line([(x, later), (x, earlier + HEIGHT)], "back"))
    if undos:
        parts.append(line([undos[0], (undos[0][0], MARGIN + HEIGHT)], "back"))
        parts.append(box(MARGIN, MARGIN, [drawing["compensated"] or "compensated"], "end"))
    return page(f"{drawing['name']}, version {drawing['version']}", width, height, parts)


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
