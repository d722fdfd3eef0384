"""Latencies counted, in bounded memory. Pure."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field
from typing import Any

_FIRST_MS, _FACTOR, _BUCKETS = 0.1, 1.1, 165
BOUNDS: tuple[float, ...] = tuple(round(_FIRST_MS * _FACTOR**n, 4) for n in range(_BUCKETS))
"""Upper bounds of the latency buckets in ms: 0.1 ms to about 10 minutes, each 10 % above the one before."""


@dataclass(slots=True)
class Histogram:
    """Latencies in log-spaced buckets: bounded memory, quantiles within 10 %."""

    counts: list[int] = field(default_factory=lambda: [0] * (_BUCKETS + 1))
    count: int = 0
    most: float = 0.0

    def add(self, ms: float, times: int = 1) -> None:
        """Count ``times`` latencies of ``ms``."""
        self.counts[bisect.bisect_left(BOUNDS, ms)] += times
        self.count += times
        if ms > self.most:
            self.most = ms

    def merge(self, other: Histogram) -> None:
        """Add another's counts."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.count += other.count
        self.most = max(self.most, other.most)

    def quantile(self, share: float) -> float | None:
        """The latency in ms below which ``share`` of them lie, interpolated within its bucket; None without any."""
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count))
        seen = 0
        for number, count in enumerate(self.counts):
            if count and seen + count >= rank:
                low = BOUNDS[number - 1] if number else 0.0
                high = min(BOUNDS[number], self.most) if number < _BUCKETS else self.most
                return round(low + (max(high, low) - low) * (rank - seen) / count, 3)
            seen += count
        raise AssertionError("the counts add up to count")

    def summary(self) -> dict[str, Any]:
        """Quantiles for a report, in ms."""
        return {
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
            "max": round(self.most, 3) if self.count else None,
            "count": self.count,
        }

    def pairs(self) -> list[list[float]]:
        """``[upper bound in ms, count]`` of each bucket that has any; the last bound stands for anything above."""
        return [[BOUNDS[min(n, _BUCKETS - 1)], count] for n, count in enumerate(self.counts) if count]


@dataclass(slots=True)
class Window:
    """The latencies of the last ``seconds``, in slices of one second."""

    seconds: int = 60
    slices: dict[int, Histogram] = field(default_factory=dict)

    def merge(self, second: int, counted: Histogram) -> None:
        """Add latencies that were seen at ``second``."""
        here = self.slices.get(second)
        if here is None:
            here = self.slices[second] = Histogram()
            for old in [s for s in self.slices if s <= second - self.seconds]:
                del self.slices[old]
        here.merge(counted)

    def total(self, second: int) -> Histogram:
        """All of the window that ends at ``second``."""
        total = Histogram()
        for at, part in self.slices.items():
            if at > second - self.seconds:
                total.merge(part)
        return total
