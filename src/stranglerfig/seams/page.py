"""What the page in the browser is told: the graph of tables once, and after each edit all figures anew. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

from stranglerfig.seams import edits, telling, whatif
from stranglerfig.seams.communities import Found
from stranglerfig.seams.edits import Division, Edits, Move, Proposal, Rename, Step
from stranglerfig.seams.figures import OF_A_CANDIDATE, OF_ALL, Measure, measures
from stranglerfig.seams.model import ROUTE, TABLE, Evidence, Ties, Use, all_ties
from stranglerfig.seams.ranking import Ranking, rank, unknown_table
from stranglerfig.seams.whatif import WhatIf

DRAWN = 8
"""Lines of a table that are drawn: its strongest, so that what is tied to everything hides nothing."""
_KEPT = 64
"""Divisions whose figures are at hand, for undoing and comparing."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the edits make of the proposal: the division, the figures, and the steps that no longer fit."""

    division: Division
    what: WhatIf
    left: tuple[Step, ...]


class Session:
    """The evidence of one run, with what was found in it and what the team values; edits come and go."""

    def __init__(self, evidence: Evidence, found: Found, values: Mapping[str, float] | None = None) -> None:
        self.evidence, self.found, self.values = evidence, found, values
        self.ties = all_ties(evidence)
        self.ranking = rank(evidence, found, values, self.ties)
        self.proposal = edits.proposed(self.ranking)
        self._show: Callable[[tuple[Step, ...]], Shown] = lru_cache(_KEPT)(self._computed)

    def shown(self, changed: Edits) -> Shown:
        """What these edits make of the proposal."""
        return self._show(changed.steps)

    def _computed(self, steps: tuple[Step, ...]) -> Shown:
        now, left = edits.replayed(Edits(steps), self.proposal)
        return Shown(now, whatif.divide(self.evidence, self.found, self.ranking, now, self.values, self.ties), left)

    def did(self, changed: Edits, step: Step) -> Edits:
        """One more step; the same edits where it changes nothing.

        Raises:
            FigError: as :func:`.edits.after`.
        """
        now = self.shown(changed).division
        return changed if edits.after(step, now, self.proposal) == now else changed.did(step)

    def fresh(self, changed: Edits, table: str) -> str:
        """A name for a new context that begins with a table."""
        return edits.fresh(table, self.shown(changed).division)

    def graph(self) -> dict[str, Any]:
        """What stays the same: tables, what ties them, what was read, what the figures mean. JSON-able."""
        sizes, of = _sizes(self.evidence)
        return {
            "tables": [
                {"name": table.name, "columns": len(table.columns), "size": sizes[table.name]}
                for table in self.evidence.tables
            ],
            "size_of": of,
            "ties": _drawn(pairs(self.ties)),
            "coverage": [asdict(each) for each in self.evidence.coverage],
            "divisions": self.found.divisions,
            "order": [each.name for each in self.ranking.candidates],
            "of_a_candidate": [asdict(figure) for figure in OF_A_CANDIDATE],
            "of_all": [asdict(figure) for figure in OF_ALL],
        }

    def state(self, changed: Edits) -> dict[str, Any]:
        """Every figure as it is now, in the proposal, and before the last step. JSON-able."""
        shown = self.shown(changed)
        last = self.shown(Edits(changed.steps[:-1]))
        now = shown.what.ranking
        whole = {
            when: whatif.whole_figures(found, ranking)
            for when, found, ranking in (
                ("now", shown.what.found, now),
                ("proposal", self.found, self.ranking),
                ("last", last.what.found, last.what.ranking),
            )
        }
        origins = shown.division.origins
        return {
            "first": {"now": now.first, "proposal": self.ranking.first, "last": last.what.ranking.first},
            "passed_over": [claim.text for claim in now.passed_over],
            "figures": {figure.name: {when: whole[when][figure.name] for when in whole} for figure in OF_ALL},
            "candidates": [
                telling.candidate(each)
                | {"origin": origins.get(each.name), "figures": self._figures(each.name, origins, now, last, changed)}
                for each in now.candidates
            ],
            "gone": [each.name for each in self.ranking.candidates if each.name not in origins.values()],
            "done": [said(step) for step in changed.steps],
            "undone": [said(step) for step in changed.undone],
            "left": [said(step) for step in shown.left],
            "edited": shown.division != self.proposal,
        }

    def _figures(
        self, name: str, origins: Mapping[str, str], now: Ranking, last: Shown, changed: Edits
    ) -> dict[str, dict[str, Measure]]:
        before = name
        match changed.steps[-1:]:
            case (Rename(context, to),) if to.lower() == name:
                before = context
            case (Proposal(),):
                before = {origin: each for each, origin in last.division.origins.items()}.get(name, "")
        found = {
            "now": _of(now, name),
            "proposal": _of(self.ranking, origins.get(name, "")),
            "last": _of(last.what.ranking, before),
        }
        return {figure.name: {when: each.get(figure.name) for when, each in found.items()} for figure in OF_A_CANDIDATE}

    def table(self, name: str) -> dict[str, Any]:
        """All evidence that speaks of a table. JSON-able.

        Raises:
            FigError: ``unknown_table``.
        """
        found = next((table for table in self.evidence.tables if table.name == name), None)
        if found is None:
            raise unknown_table(name, "asked for", (table.name for table in self.evidence.tables))
        often = {b if a == name else a: share for (a, b), share in self.found.together.items() if name in (a, b)}
        return {
            "name": name,
            "columns": [asdict(column) for column in found.columns],
            "key": found.key,
            "references": [asdict(each) for each in self.evidence.references if name in (each.table, each.target)],
            "uses": [_use(use, name) for use in self.evidence.uses if name in use.tables],
            "together": [
                {"table": other, "share": share}
                for other, share in sorted(often.items(), key=lambda each: (-each[1], each[0]))
            ],
        }


def pairs(ties: Ties) -> dict[tuple[str, str], dict[str, float]]:
    """What ties each two tables, by kind: directly, or through a module or route that touches both.

    Of the latter the weaker of the two ties counts, as much as if it were all that there is.
    """
    result: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    through: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for (a, b), kinds in ties.items():
        if a.kind == b.kind == TABLE:
            for kind, weight in kinds.items():
                result[a.name, b.name][kind] += weight
        elif TABLE in (a.kind, b.kind):
            table, other = (a, b) if a.kind == TABLE else (b, a)
            through[other.kind, other.name][table.name] = sum(kinds.values())
    for (kind, _), tables in through.items():
        for one, two in combinations(sorted(tables), 2):
            result[one, two][kind] += min(tables[one], tables[two])
    return {pair: dict(kinds) for pair, kinds in sorted(result.items())}


def _drawn(found: Mapping[tuple[str, str], Mapping[str, float]]) -> list[dict[str, Any]]:
    of: dict[str, list[tuple[float, tuple[str, str]]]] = defaultdict(list)
    for pair, kinds in found.items():
        for table in pair:
            of[table].append((sum(kinds.values()), pair))
    kept = {pair for each in of.values() for _, pair in sorted(each, key=lambda tie: (-tie[0], tie[1]))[:DRAWN]}
    return [
        {"tables": pair, "weight": round(sum(found[pair].values()), 4), "kinds": sorted(found[pair])}
        for pair in sorted(kept)
    ]


def _sizes(evidence: Evidence) -> tuple[dict[str, int], str]:
    """How much each table is used, and what was counted: requests where a log was read, else what touches it."""
    counted: Iterable[tuple[Use, int]]
    if evidence.requests:
        counted, of = [(use, use.times) for use in evidence.of(ROUTE)], "requests to routes that touch it"
    else:
        counted, of = [(use, 1) for use in evidence.uses], "routes, modules, statements and others that touch it"
    sizes = dict.fromkeys((table.name for table in evidence.tables), 0)
    for use, times in counted:
        for table in use.tables:
            sizes[table] += times
    return sizes, of


def _of(ranking: Ranking, name: str) -> dict[str, Measure]:
    return measures(next((each for each in ranking.candidates if each.name == name), None))


def _use(use: Use, table: str) -> dict[str, Any]:
    return {
        "kind": use.kind,
        "name": use.name,
        "where": use.places.get(table, use.where),
        "excerpt": use.excerpt,
        "writes": table in use.writes,
        "others": sorted(use.tables - {table}),
        "times": use.times,
    }


def said(step: Step) -> str:
    """A step for people."""
    match step:
        case Move(tables, to):
            return f"{', '.join(tables)} to {to}"
        case Rename(context, to):
            return f"{context} is called {to}"
        case Proposal():
            return "back to the proposal"
