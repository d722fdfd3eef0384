"""Latencies counted, in bounded memory, from when on they say something. Pure."""

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


CAUGHT_UP = 1.0
"""Seconds behind which a stream counts as caught up …"""
SETTLED = 10.0
"""… when it was late and has stayed so for so long: one that has just caught up still swings."""
STANDSTILL = 60.0
"""Seconds without coming nearer after which a stream is judged as late as it is …"""
_LOOK = 5.0
"""… of which so many at most lie between two commits."""


@dataclass(slots=True)
class Since:
    """From when on latencies count.

    What was written while the copy was made arrives late by its nature, and so does what was written until the stream
    has caught up with it for the first time; neither says anything about the stream. It has the time that this takes,
    as long as it comes nearer: one that stands still, or falls behind, is late, and so is all that comes after.

    Times are seconds since 1970.
    """

    copied: float = 0.0
    counts: float = 0.0
    _nearest: float = math.inf
    _stood: float = 0.0
    _seen: float = 0.0
    _near_since: float = math.inf
    _settles: float = 0.0

    def begin(self, copied: float | None, applied: float | None, at: float | None) -> None:
        """Take up a stream whose copy ended at ``copied``, and which was in up to ``applied`` by ``at``.

        One that was near then is through with its copy: that it was down counts.
        """
        if copied is None or applied is None or at is None or copied == self.copied:
            return
        if applied > copied and at - applied < CAUGHT_UP:
            self.copied = self.counts = copied

    def see(self, copied: float | None, oldest: float, now: float) -> float:
        """At ``now`` what was committed at ``oldest`` and later is in; commits after what is returned count."""
        if copied is None or self.counts >= copied:
            return self.counts
        if self.copied != copied:
            self.copied, self._nearest, self._stood, self._seen = copied, math.inf, 0.0, now
            self._near_since, self._settles = math.inf, 0.0
        late = now - oldest
        # A transaction that takes long by itself says nothing about the way to the next one.
        self._stood += min(now - self._seen, _LOOK)
        self._seen = now
        if late >= CAUGHT_UP:
            self._near_since, self._settles = math.inf, SETTLED
        elif oldest > copied:
            self._near_since = min(self._near_since, now)
        if now - self._near_since >= self._settles:
            self.counts = max(copied, now - CAUGHT_UP)
        elif late <= self._nearest - CAUGHT_UP:
            self._nearest, self._stood = late, 0.0
        elif self._stood > STANDSTILL:
            self.counts = now
        return now if self.counts < copied else self.counts
