"""How often one address may ask: a token bucket for each, in a table that cannot grow without bound."""

from __future__ import annotations

from collections import OrderedDict

_MOST = 10_000
"""Addresses remembered at once; the one heard of longest ago is forgotten first, and then has a full bucket."""


class Limiter:
    """``per_minute`` requests of each key: as many at once, refilled evenly."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Seconds until ``key`` may ask again; 0 when it may now. ``now`` is in seconds of a monotonic clock."""
        left = self._left(key, now)
        return 0.0 if left >= 1 else (1 - left) * 60 / self._most

    def spend(self, key: str, now: float) -> float:
        """The same, and when it may now that is counted."""
        left = self._left(key, now)
        if left < 1:
            return (1 - left) * 60 / self._most
        self._buckets[key] = (left - 1, now)
        self._buckets.move_to_end(key)
        while len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
        return 0.0

    def _left(self, key: str, now: float) -> float:
        left, at = self._buckets.get(key, (self._most, now))
        return min(self._most, left + (now - at) * self._most / 60)
