"""Drawings of a flow's declaration, with how often each way was gone: as Mermaid, as SVG. Pure.

The SVG is in layers (Sugiyama, Tagawa and Toda 1981): what follows stands below what it follows from, a way past a
layer has a place of its own in it, and within a layer everything stands near what leads to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean
from typing import Final, NamedTuple

from stranglerfig.sagas.flows import Drawing
from stranglerfig.sagas.shapes import GAP, HEIGHT, MARGIN, WIDTH, bow, box, line, page, text

Ways = Mapping[tuple[str, str], int]
"""How often a type of event followed from another."""

LANE: Final = 40
"""The width of the place of a way that passes a layer by."""
SWEEPS: Final = 8
"""How often the layers are put in order anew, down and up in turn."""


class _Node(NamedTuple):
    """An event, a service's reaction (``number`` is which), or the place of a way past a layer (``via`` is its end)."""

    event: str
    number: int = -1
    via: str = ""
    layer: int = -1


_Edge = tuple[_Node, _Node]


def mermaid(drawing: Drawing, ways: Ways | None = None) -> str:
    """A Mermaid flowchart: events rounded, services as boxes between them, with how often each way was gone."""
    names = {event: f"e{number}" for number, event in enumerate(drawing.events)}
    lines = ["flowchart LR"]
    lines += [f'    {name}(["{event}"])' for event, name in names.items()]
    for number, reaction in enumerate(drawing.reactions):
        lines.append(f'    s{number}["{reaction.service}"]')
        lines.append(f"    {names[reaction.event]} --> s{number}")
        for event in reaction.emits:
            count = (ways or {}).get((reaction.event, event))
            lines.append(f"    s{number} -->{f'|{count}|' if count is not None else ''} {names[event]}")
    return "\n".join(lines) + "\n"


def svg(drawing: Drawing, ways: Ways | None = None) -> str:
    """An SVG of the same, from above to below; ways back, where it runs in circles, are dashed."""
    edges = _edges(drawing)
    layers, paths, back = _layered([_Node(event) for event in drawing.events], edges)
    step = HEIGHT + GAP - HEIGHT // 2
    width = MARGIN * 2 + max(sum(_width(node) for node in layer) for layer in layers) + (LANE if back else 0)
    middle = (width - (LANE if back else 0)) / 2
    places: dict[_Node, tuple[float, float]] = {}
    for number, layer in enumerate(layers):
        x = middle - sum(map(_width, layer)) / 2
        for node in layer:
            places[node] = x + _width(node) / 2, MARGIN + number * step
            x += _width(node)
    parts = []
    for path in paths:
        points = []
        for node in path:
            x, y = places[node]
            points += [(x, y), (x, y + HEIGHT)]
        parts.append(line(points[1:-1], "go"))
        _count(parts, ways, path[0], path[-1], points[2])
    for before, after in back:
        (x1, y1), (x2, y2) = places[before], places[after]
        tip = x2 + WIDTH / 2, y2 + HEIGHT / 2
        parts.append(bow((x1 + WIDTH / 2, y1 + HEIGHT / 2), tip, width, "back"))
        _count(parts, ways, before, after, tip)
    for node, (x, y) in places.items():
        if not node.via:
            words = [node.event] if node.number < 0 else [drawing.reactions[node.number].service]
            parts.append(box(x - WIDTH / 2, y, words, "end" if node.number < 0 else "step"))
    return page(drawing.name, width, MARGIN * 2 + (len(layers) - 1) * step + HEIGHT, parts)


class Spot(NamedTuple):
    """An event's, or a service's reaction's, place in a drawing: ``layer`` below ``layer``, ``across`` from its middle.

    ``across`` is in widths of a box with its margin; ``after`` is the event whose reaction it is, None for an event.
    """

    id: str
    words: str
    after: str | None
    layer: int
    across: float


class Arrow(NamedTuple):
    """A way between two spots; ``gone`` is how often, where that is counted; ``back`` leads to an earlier layer."""

    source: str
    target: str
    gone: int | None
    back: bool


def arranged(drawing: Drawing, ways: Ways | None = None) -> tuple[list[Spot], list[Arrow]]:
    """What :func:`svg` draws, for whoever draws it in another way."""
    layers, paths, back = _layered([_Node(event) for event in drawing.events], _edges(drawing))
    spots = []
    for number, layer in enumerate(layers):
        x = -sum(map(_width, layer)) / 2
        for node in layer:
            if not node.via:
                words = node.event if node.number < 0 else drawing.reactions[node.number].service
                after = None if node.number < 0 else node.event
                spots.append(Spot(_id(node), words, after, number, (x + _width(node) / 2) / (WIDTH + MARGIN)))
            x += _width(node)
    ahead = [(path[0], path[-1], False) for path in paths] + [(*edge, True) for edge in back]
    return spots, [Arrow(_id(a), _id(b), _gone(ways, a, b), is_back) for a, b, is_back in ahead]


def _id(node: _Node) -> str:
    return node.event if node.number < 0 else f"{node.event}/{node.number}"


def _gone(ways: Ways | None, before: _Node, after: _Node) -> int | None:
    """How often a way from a reaction to what follows was gone."""
    return (ways or {}).get((before.event, after.event)) if before.number >= 0 else None


def _count(parts: list[str], ways: Ways | None, before: _Node, after: _Node, tip: tuple[float, float]) -> None:
    """How often a way was gone, beside its first tip."""
    if (count := _gone(ways, before, after)) is not None:
        parts.append(text(tip[0] + 9, tip[1] - 6, f"{count:,}", "small"))


def _width(node: _Node) -> float:
    return LANE if node.via else WIDTH + MARGIN


def _edges(drawing: Drawing) -> dict[_Node, list[_Node]]:
    """From each event to who reacts, and from there to what may follow."""
    edges: dict[_Node, list[_Node]] = defaultdict(list)
    for number, reaction in enumerate(drawing.reactions):
        own = _Node(reaction.event, number)
        edges[_Node(reaction.event)].append(own)
        edges[own] += [_Node(event) for event in dict.fromkeys(reaction.emits)]
    return edges


def _layered(
    nodes: list[_Node], edges: Mapping[_Node, list[_Node]]
) -> tuple[list[list[_Node]], list[list[_Node]], list[_Edge]]:
    """The layers, each in its order; each edge as a path through them; and the edges that lead back."""
    order, back = _sorted(nodes, edges)
    ahead = [(node, after) for node in order for after in edges.get(node, ()) if (node, after) not in back]
    depth: dict[_Node, int] = defaultdict(int)
    for node, after in ahead:
        depth[after] = max(depth[after], depth[node] + 1)
    layers: list[list[_Node]] = [[] for _ in range(max((depth[node] for node in order), default=0) + 1)]
    for node in order:
        layers[depth[node]].append(node)
    paths = []
    for node, after in ahead:
        lanes = [_Node(node.event, node.number, after.event, at) for at in range(depth[node] + 1, depth[after])]
        for lane in lanes:
            layers[lane.layer].append(lane)
        paths.append([node, *lanes, after])
    _settle(layers, paths)
    return layers, paths, back


def _sorted(nodes: list[_Node], edges: Mapping[_Node, list[_Node]]) -> tuple[list[_Node], list[_Edge]]:
    """Each node before those that follow from it; and the edges that stand against that."""
    done: list[_Node] = []
    open_: set[_Node] = set()
    back: list[_Edge] = []

    def visit(node: _Node) -> None:
        open_.add(node)
        for after in edges.get(node, ()):
            if after in open_:
                back.append((node, after))
            elif after not in done:
                visit(after)
        open_.remove(node)
        done.append(node)

    for node in nodes:
        if node not in done:
            visit(node)
    return done[::-1], back


def _settle(layers: list[list[_Node]], paths: list[list[_Node]]) -> None:
    """Have everything stand near what leads to it, and near what it leads to."""
    above: dict[_Node, list[_Node]] = defaultdict(list)
    below: dict[_Node, list[_Node]] = defaultdict(list)
    for path in paths:
        for before, after in pairwise(path):
            above[after].append(before)
            below[before].append(after)
    for sweep in range(SWEEPS):
        near, rows = (below, layers[::-1]) if sweep % 2 else (above, layers)
        for layer in rows:
            at = {node: (place + 0.5) / len(each) for each in layers for place, node in enumerate(each)}
            wanted = {node: fmean(at[each] for each in near[node]) if near[node] else at[node] for node in layer}
            layer.sort(key=wanted.__getitem__)
