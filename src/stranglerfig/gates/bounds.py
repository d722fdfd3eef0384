"""Exact one-sided bounds on a rate, how many samples a claim needs, and a rank comparison that knows of bursts.

Nothing here knows of KPIs: numbers in, numbers out.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any


@cache
def _special() -> Any:
    """SciPy's special functions, loaded when a bound is first asked for: loading them takes a second, and every
    process that reads ``extraction.yaml`` passes here."""
    from scipy import special

    return special


BUCKETS_PER_OCTAVE = 16
"""Latency histograms have a bucket per 1/16 of an octave of microseconds: 4.4 % wide."""


def upper(k: float, n: float, alpha: float) -> float:
    """The rate that ``k`` of ``n`` does not exceed, at confidence ``1 - alpha``.

    Clopper and Pearson (1934): ``BetaInv(1-alpha; k+1, n-k)``. Fractions are allowed, for effective sample sizes.
    """
    if n <= 0 or k >= n:
        return 1.0
    return float(_special().betaincinv(k + 1, n - k, 1 - alpha))


def lower(k: float, n: float, alpha: float) -> float:
    """The rate that ``k`` of ``n`` does not fall below, at confidence ``1 - alpha``: ``BetaInv(alpha; k, n-k+1)``."""
    if n <= 0 or k <= 0:
        return 0.0
    return float(_special().betaincinv(k, n - k + 1, alpha))


def samples_needed(k: int, rate: float, alpha: float) -> int:
    """The smallest n at which ``k`` failures still show a rate below ``rate`` at confidence ``1 - alpha``.

    Raises:
        ValueError: ``rate`` or ``alpha`` not strictly between 0 and 1.
    """
    if not (0 < rate < 1 and 0 < alpha < 1):
        raise ValueError("a rate and an alpha lie strictly between 0 and 1")
    # upper(k, n, alpha) < rate  ⇔  P(at most k failures | n, rate) < alpha, which falls with n.
    low, high = k, k + 1
    while _special().bdtr(k, high, rate) >= alpha:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if _special().bdtr(k, middle, rate) < alpha:
            high = middle
        else:
            low = middle
    return high


def design_effect(blocks: Sequence[tuple[int, int]]) -> float:
    """By how much failures that come in bursts shrink the evidence, at least 1 (Kish).

    ``blocks`` are (samples, failures) per block of time. The variance of the rate between blocks over the variance
    that independent samples would have: five failures in one second count about as one. A ratio that independent
    samples would show too (once in a hundred times: its standard deviation is the square root of 2/(blocks - 1)) is
    chance and counts as 1.
    """
    n = sum(block[0] for block in blocks)
    k = sum(block[1] for block in blocks)
    if len(blocks) < 2 or k in (0, n):
        return 1.0
    rate = k / n
    between = sum((failures - rate * samples) ** 2 for samples, failures in blocks) * len(blocks) / (len(blocks) - 1)
    ratio = between / (n * rate * (1 - rate))
    return ratio if ratio > 1 + 2.33 * math.sqrt(2 / (len(blocks) - 1)) else 1.0


def bucket(microseconds: float) -> int:
    """The histogram bucket of a latency."""
    return int(math.log2(microseconds) * BUCKETS_PER_OCTAVE) if microseconds > 1 else 0


def bucket_edge(index: int) -> float:
    """The lower edge of a bucket, in microseconds."""
    return float(2 ** (index / BUCKETS_PER_OCTAVE))


def quantile(histogram: Mapping[int, int], share: float) -> float | None:
    """The value below which ``share`` of the samples lie, in microseconds (upper edge of its bucket), or None."""
    total = sum(histogram.values())
    seen = 0
    for index in sorted(histogram):
        seen += histogram[index]
        if seen >= share * total and seen > 0:
            return bucket_edge(index + 1)
    return None


def ranks(
    blocks: Sequence[tuple[Mapping[int, int], Mapping[int, int]]], margin: float = 1.0
) -> tuple[float, float] | None:
    """How often a new answer is slower than an old one, from histograms per block: (A, its standard error).

    ``A = P(new > old·margin) + ½ P(equal)`` is the Mann-Whitney statistic over ``n·m``, the effect size of Vargha and
    Delaney: ½ means no difference. The standard error treats each block (a second of traffic) as one cluster:
    Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53 (1997). None with fewer than two
    blocks that have samples on both sides.
    """
    shift = round(math.log2(margin) * BUCKETS_PER_OCTAVE)
    new: dict[int, int] = {}
    old: dict[int, int] = {}
    for fresh, known in blocks:
        for index, count in fresh.items():
            new[index] = new.get(index, 0) + count
        for index, count in known.items():
            old[index + shift] = old.get(index + shift, 0) + count
    n, m = sum(new.values()), sum(old.values())
    clusters = [(a, {index + shift: count for index, count in b.items()}) for a, b in blocks if a or b]
    if n == 0 or m == 0 or sum(1 for a, b in clusters if a and b) < 2:
        return None
    slower = _Placements(old, m)  # for a new answer: share of old ones below it
    faster = _Placements(new, n)  # for an old answer: share of new ones below it
    share = sum(count * slower(index) for index, count in new.items()) / n
    parts = [
        (
            sum(count * (slower(index) - share) for index, count in a.items()),
            sum(count * ((1 - faster(index)) - share) for index, count in b.items()),
        )
        for a, b in clusters
    ]
    correction = len(parts) / (len(parts) - 1)
    variance = correction * sum((x / n + y / m) ** 2 for x, y in parts)
    return share, math.sqrt(variance)


class _Placements:
    """For a bucket, the share of ``histogram`` below it, ties counted half."""

    def __init__(self, histogram: Mapping[int, int], total: int) -> None:
        self._edges = sorted(histogram)
        self._below: list[float] = []
        seen = 0
        for index in self._edges:
            self._below.append(seen)
            seen += histogram[index]
        self._histogram, self._total, self._seen = histogram, total, seen

    def __call__(self, index: int) -> float:
        at = bisect_left(self._edges, index)
        if at == len(self._edges):
            return 1.0
        half = self._histogram[index] / 2 if self._edges[at] == index else 0
        return (self._below[at] + half) / self._total


def student(alpha: float, degrees: int) -> float:
    """The one-sided quantile of Student's t at confidence ``1 - alpha``."""
    return float(_special().stdtrit(degrees, 1 - alpha))
