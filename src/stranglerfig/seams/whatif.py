"""What if a table were in another context: every figure before and after. Pure: nothing is asked of anybody again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stranglerfig.seams import communities
from stranglerfig.seams.communities import Found
from stranglerfig.seams.model import Evidence
from stranglerfig.seams.ranking import Candidate, Ranking, rank, unknown_table

Measure = float | None
WHOLE = ("parts", "sm", "icp", "ned", "ifn", "bcp", "mq")


@dataclass(frozen=True, slots=True)
class Change:
    """A candidate before and after; None where it is not there, as what was made for a table, or lost its last one."""

    name: str
    before: Candidate | None
    after: Candidate | None

    @property
    def figures(self) -> dict[str, tuple[Measure, Measure]]:
        """Each figure by its name, before and after."""
        before, after = measures(self.before), measures(self.after)
        return {name: (before.get(name), after.get(name)) for name in {**before, **after}}

    @property
    def changed(self) -> bool:
        """Whether any figure is another."""
        return any(a != b for a, b in self.figures.values())


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The moves, what is found after them, and what that changes: of each candidate, and of all together."""

    moves: Mapping[str, str]
    found: Found
    ranking: Ranking
    candidates: tuple[Change, ...]
    whole: Mapping[str, tuple[Measure, Measure]]
    first: tuple[str, str]


def move(
    evidence: Evidence,
    found: Found,
    ranking: Ranking,
    moves: Mapping[str, str],
    values: Mapping[str, float] | None = None,
) -> WhatIf:
    """Put each of some tables into the context of that name; one that is not there is made.

    Modules and routes go where they are tied most, as they did before. How stable a candidate is is told from the
    divisions that were drawn before: the evidence is the same.

    Raises:
        FigError: ``unknown_table``.
    """
    names = {table.name for table in evidence.tables}
    if wrong := sorted(set(moves) - names):
        raise unknown_table(wrong[0], "a move is given for", names)
    moves = {table: name.lower() for table, name in moves.items()}
    partition = {each.name: frozenset(each.tables) - set(moves) for each in ranking.candidates}
    for table, name in sorted(moves.items()):
        partition[name] = partition.get(name, frozenset()) | {table}
    after = communities.divided(evidence, found, {name: tables for name, tables in partition.items() if tables})
    ranked = rank(evidence, after, values)
    then, now = ({each.name: each for each in which.candidates} for which in (ranking, ranked))
    changes = tuple(Change(name, then.get(name), now.get(name)) for name in {**then, **now})
    whole = {name: (getattr(ranking.figures, name), getattr(ranked.figures, name)) for name in WHOLE}
    whole["modularity"] = (found.modularity, after.modularity)
    return WhatIf(moves, after, ranked, changes, whole, (ranking.first, ranked.first))


def measures(candidate: Candidate | None) -> dict[str, Measure]:
    """All figures of a candidate by what the JSON of a ranking calls them; lists by how long they are."""
    if candidate is None:
        return {}
    c = candidate
    return {
        "place": c.place, "front": c.front, "tables": len(c.tables),
        "foreign_keys_in": len(c.keys_in), "foreign_keys_out": len(c.keys_out),
        "cut": len(c.cut), "entangled_share": c.entangled,
        "writers": len(c.writers), "readers": len(c.readers),
        "routes": len(c.routes), "exclusive_routes": len(c.exclusive),
        "traffic": c.traffic, "own_traffic": c.own_traffic, "value": c.value,
        "cross_share": c.cross, "changed_with_others": c.changed, "stability": c.stability,
    }  # fmt: skip


def text(what: WhatIf) -> str:
    """For people: what changes, before → after; what stays as it was only where a candidate changes."""
    lines = ["What if " + ", ".join(f"{table} were in {name}" for table, name in what.moves.items())]
    same = [each.name for each in what.candidates if not each.changed]
    for each in what.candidates:
        if each.changed:
            lines += ["", f"  {each.name}" + _fate(each), *_rows(each.figures)]
    if same:
        lines += ["", f"  as before: {', '.join(same)}"]
    lines += ["", "  all together", *_rows(what.whole)]
    before, after = what.first
    lines += ["", f"  begin with: {before}" + (" → " + after if after != before else ", as before")]
    return "\n".join(lines)


def _fate(change: Change) -> str:
    return " (new)" if change.before is None else " (has no table left)" if change.after is None else ""


def _rows(figures: Mapping[str, tuple[Measure, Measure]]) -> list[str]:
    width = max(map(len, figures))
    return [
        f"    {name.replace('_', ' '):<{width}}  {_shown(name, before):>7}"
        + (f" → {_shown(name, after)}" if before != after else "")
        for name, (before, after) in figures.items()
    ]


_SHARES = frozenset({"stability", "cross_share", "entangled_share", "changed_with_others", "traffic", "own_traffic"})


def _shown(name: str, value: Measure) -> str:
    if value is None:
        return "-"
    if name in _SHARES:
        return f"{value:.0%}"
    return f"{value:g}" if isinstance(value, int) or name == "value" else f"{value:.3f}"


def as_dict(what: WhatIf) -> dict[str, Any]:
    """JSON-able: every figure of every candidate, before and after."""
    return {
        "moves": dict(what.moves),
        "first": _pair(what.first),
        "figures": {name: _pair(each) for name, each in what.whole.items()},
        "candidates": [
            {
                "name": each.name,
                "tables": _pair(tuple(None if c is None else c.tables for c in (each.before, each.after))),
                "figures": {name: _pair(pair) for name, pair in each.figures.items()},
            }
            for each in what.candidates
        ],
    }


def _pair(pair: tuple[Any, ...]) -> dict[str, Any]:
    before, after = pair
    return {"before": before, "after": after}
