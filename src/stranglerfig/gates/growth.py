"""How the evidence of a KPI grew, for pictures: what was observed, and its exact interval, after each stretch of time.

The interval is made of the two one-sided bounds that verdicts compare with the threshold (``gates.bounds``), before the
correction for looking several times: it narrows around what was observed, and the verdict waits for its far end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from stranglerfig.gates.model import Block, Estimate, Evidence, Kind, Kpi, estimate, shown

POINTS = 32
"""Points of a picture at most."""


@dataclass(frozen=True, slots=True)
class Grown:
    """The evidence up to ``at`` (epoch seconds): ``observed``, ``least`` and ``most`` on the KPI's own scale, as its
    threshold is; None while they cannot be said."""

    at: int
    samples: int
    failures: int
    observed: float | None = None
    least: float | None = None
    most: float | None = None


def growth(kpi: Kpi, evidence: Evidence, *, points: int = POINTS) -> list[Grown]:
    """At most ``points`` moments, oldest first; none for facts and values, which do not grow."""
    if kpi.kind in (Kind.STATE, Kind.VALUE_BELOW, Kind.VALUE_ABOVE) or not evidence.blocks:
        return []
    counts = list(accumulate(evidence.blocks, lambda sums, block: Block(block.at, sums.n + block.n, sums.k + block.k)))
    found = []
    for end in _ends(len(counts), points):
        so_far = replace(evidence, blocks=evidence.blocks[: end + 1])
        # A rank comparison of every prefix would cost more than its picture is worth: of those only the last is shown.
        wanted = kpi.kind is not Kind.NO_WORSE or end == len(counts) - 1
        found.append(_grown(kpi, counts[end], estimate(kpi, so_far, kpi.alpha) if wanted else None))
    return found


def _ends(length: int, points: int) -> Sequence[int]:
    """Where prefixes end, spread evenly, the whole among them."""
    few = min(length, points)
    return [(number + 1) * length // few - 1 for number in range(few)]


def _grown(kpi: Kpi, block: Block, found: Estimate | None) -> Grown:
    if found is None:
        return Grown(block.at, block.n, block.k)
    ends = sorted((shown(kpi, found.least), shown(kpi, found.most)))
    return Grown(block.at, block.n, block.k, shown(kpi, found.observed), *ends)
