"""A ranking as text for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stranglerfig.seams.communities import Found
from stranglerfig.seams.model import Evidence, Reference, Use
from stranglerfig.seams.ranking import Candidate, Claim, Ranking

_SHOWN = 4
"""Pieces of evidence that the text shows of each claim; JSON has them all."""
_WIDEST = 360
"""Characters of a piece that the text shows; JSON and the page have all."""


def text(evidence: Evidence, found: Found, ranking: Ranking) -> str:
    """What was read, the candidates in order, the first one's reasons in full."""
    width = max(len(each.source) for each in evidence.coverage)
    lines = ["What was read"]
    lines += [f"  {each.source:<{width}}  {each.state:<9}  {each.said}" for each in evidence.coverage]
    lines += ["", "Candidates, the first to move first", *_table(ranking.candidates), ""]
    for each in ranking.candidates:
        lines += _argued(each)
    figures = ranking.figures
    purity = "not known, for want of routes" if figures.bcp is None else f"{figures.bcp:.3f}"
    lines += [
        f"All together: {figures.parts} parts, SM {figures.sm:.3f}, ICP {figures.icp:.3f} with NED {figures.ned:.3f},"
        f" IFN {figures.ifn:.3f}, BCP {purity}, MQ {figures.mq:.3f}"
        f" ({found.divisions} divisions of resampled evidence).",
        "",
        f"Begin with {ranking.first}." + "".join(f" Not before it: {claim.text}." for claim in ranking.passed_over),
    ]
    return "\n".join(lines)


def _table(candidates: Iterable[Candidate]) -> list[str]:
    head = (
        *("", "context", "front", "tables", "keys in/out", "cut", "in one", "writers", "readers", "routes"),
        *("requests", "cross", "stable"),
    )
    rows = [head]
    rows += [
        (
            str(each.place),
            each.name,
            str(each.front),
            str(len(each.tables)),
            f"{len(each.keys_in)}/{len(each.keys_out)}",
            str(len(each.cut)),
            "-" if each.entangled is None else f"{each.entangled:.0%}",
            str(len(each.writers)),
            str(len(each.readers)),
            f"{len(each.exclusive)} of {len(each.routes)}",
            "-" if each.traffic is None else f"{each.traffic:.0%}",
            f"{each.cross:.0%}",
            f"{each.stability:.0%}",
        )
        for each in candidates
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _argued(candidate: Candidate) -> list[str]:
    lines = [f"{candidate.place}. {candidate.name}: {', '.join(candidate.tables)}"]
    for sign, claims in (("+", candidate.reasons), ("-", candidate.doubts)):
        for claim in claims:
            lines.append(f"   {sign} {claim.text}")
            lines += [f"       {_cut(each)}" for each in claim.evidence[:_SHOWN]]
            if (more := len(claim.evidence) - _SHOWN) > 0:
                lines.append(f"       … and {more} more (--json has them)")
    return [*lines, ""]


def _cut(line: str) -> str:
    """A long statement without its middle: how it begins says what it is, and where it stands comes last."""
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 60]} … {line[-57:]}"


def as_dict(evidence: Evidence, found: Found, ranking: Ranking) -> dict[str, Any]:
    """JSON-able; all of the evidence for each claim."""
    return {
        "first": ranking.first,
        "passed_over": [claim.text for claim in ranking.passed_over],
        "coverage": [{"source": c.source, "state": c.state, "said": c.said} for c in evidence.coverage],
        "figures": {name: getattr(ranking.figures, name) for name in ranking.figures.__slots__},
        "divisions": found.divisions,
        "modularity": found.modularity,
        "candidates": [candidate(each) for each in ranking.candidates],
        "together": [{"tables": list(pair), "share": share} for pair, share in found.together.items()],
    }


def candidate(each: Candidate) -> dict[str, Any]:
    """JSON-able: one candidate with all of its evidence."""
    return {
        "name": each.name,
        "place": each.place,
        "front": each.front,
        "tables": each.tables,
        "modules": each.modules,
        "stability": each.stability,
        "foreign_keys_out": [_reference(r) for r in each.keys_out],
        "foreign_keys_in": [_reference(r) for r in each.keys_in],
        "shared_tables": each.shared,
        "cut": [_use(use) for use in each.cut],
        "transactions": [_use(use) | {"times": use.times} for use in each.transactions],
        "entangled_share": each.entangled,
        "written_with": [{"table": t, "times": n, "of": m} for t, n, m in each.together()],
        "writers": [_use(use) for use in each.writers],
        "readers": [_use(use) for use in each.readers],
        "routes": [_use(use) for use in each.routes],
        "exclusive_routes": [use.name for use in each.exclusive],
        "cross_share": each.cross,
        "changed_with_others": each.changed,
        "value": each.value,
        "traffic": each.traffic,
        "own_traffic": each.own_traffic,
        "reasons": [_claim(claim) for claim in each.reasons],
        "doubts": [_claim(claim) for claim in each.doubts],
    }


def _reference(r: Reference) -> dict[str, str]:
    return {"table": r.table, "target": r.target, "where": r.where}


def _use(use: Use) -> dict[str, Any]:
    told = {"kind": use.kind, "name": use.name, "where": use.where}
    return told | {"reads": sorted(use.reads), "writes": sorted(use.writes)}


def _claim(claim: Claim) -> dict[str, Any]:
    return {"text": claim.text, "evidence": claim.evidence}
