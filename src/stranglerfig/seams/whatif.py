"""What if a table were in another context: every figure before and after. Pure: nothing is asked of anybody again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stranglerfig.seams import communities, edits
from stranglerfig.seams.communities import Found
from stranglerfig.seams.edits import Division
from stranglerfig.seams.figures import OF_A_CANDIDATE, OF_ALL, SHARE, Measure, measures
from stranglerfig.seams.model import Evidence, Ties, all_ties
from stranglerfig.seams.ranking import Candidate, Ranking, rank


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

    Raises:
        FigError: ``unknown_table``.
    """
    proposal = now = edits.proposed(ranking)
    moves = {table: name if name in proposal.contexts else name.lower() for table, name in moves.items()}
    for table, name in sorted(moves.items()):
        now = edits.after(edits.Move((table,), name), now, proposal)
    return replace(divide(evidence, found, ranking, now, values), moves=moves)


def divide(
    evidence: Evidence,
    found: Found,
    ranking: Ranking,
    now: Division,
    values: Mapping[str, float] | None = None,
    whole: Ties | None = None,
) -> WhatIf:
    """What a division by people makes of the proposal. ``whole`` are the ties of all evidence, where they are at hand.

    Modules and routes go where they are tied most, as they did before. How stable a candidate is is told from the
    divisions that were drawn before: the evidence is the same.
    """
    whole = all_ties(evidence) if whole is None else whole
    after = communities.divided(evidence, found, now.contexts, whole)
    ranked = rank(evidence, after, values, whole)
    then, since = ({each.name: each for each in which.candidates} for which in (ranking, ranked))
    of = {origin: name for name, origin in now.origins.items()}
    changes = [Change(of.get(name, name), each, since.get(of.get(name, ""))) for name, each in then.items()]
    changes += [Change(name, None, each) for name, each in since.items() if name not in now.origins]
    before, since_then = whole_figures(found, ranking), whole_figures(after, ranked)
    figures = {name: (before[name], since_then[name]) for name in before}
    moves = edits.as_moves(now, edits.proposed(ranking))
    return WhatIf(moves, after, ranked, tuple(changes), figures, (ranking.first, ranked.first))


def whole_figures(found: Found, ranking: Ranking) -> dict[str, Measure]:
    """The figures of all candidates together, by name."""
    return {
        each.name: found.modularity if each.name == "modularity" else getattr(ranking.figures, each.name)
        for each in OF_ALL
    }


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


_SHARES = frozenset(each.name for each in OF_A_CANDIDATE if each.kind == SHARE)


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
