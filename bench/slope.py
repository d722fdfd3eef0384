"""Whether a series of measurements grows: the slope of its later part, with an interval.

Blocks of equal length in time, the median of each (which takes what rises and falls within one: collectors, vacuum,
buffers), and over them the slope of Theil and Sen with its interval by ranks (Sen, "Estimates of the regression
coefficient based on Kendall's tau", 1968).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

BLOCKS = 15
WARM_UP = 1 / 3
"""The share of the time that is left out in the beginning: caches fill, pools reach their size."""
CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True)
class Slope:
    """How fast something grows, per hour, in its own unit.

    Attributes:
        level: its median.
        low, high: the interval of ``per_hour`` at 99 %.
        tolerance: what counts as none, per hour.
    """

    level: float
    per_hour: float
    low: float
    high: float
    tolerance: float

    @property
    def verdict(self) -> Literal["flat", "grows", "unclear"]:
        """``flat`` where the whole interval is within the tolerance, ``grows`` where it is all beyond."""
        if self.high <= self.tolerance:
            return "flat"
        return "grows" if self.low > self.tolerance else "unclear"

    def hours(self, room: float) -> float | None:
        """In how many hours at the earliest ``room`` more is taken; None where it does not grow."""
        return None if self.high <= 0 else room / self.high


def slope(times: Sequence[float], values: Sequence[float], tolerance: float) -> Slope:
    """The slope after the warm-up.

    Args:
        times: seconds, ascending.
        values: one for each time.
        tolerance: per hour, in the values' unit.

    Raises:
        ValueError: with less than two measurements in a block.
    """
    begin = times[0] + (times[-1] - times[0]) * WARM_UP
    length = (times[-1] - begin) / BLOCKS
    blocks: list[list[float]] = [[] for _ in range(BLOCKS)]
    for at, value in zip(times, values, strict=True):
        if at >= begin:
            blocks[min(BLOCKS - 1, int((at - begin) / length))].append(value)
    if min(map(len, blocks)) < 2:
        raise ValueError(f"{len(times)} measurements are too few for {BLOCKS} blocks after the warm-up")
    medians = [statistics.median(block) for block in blocks]
    middles = [(number + 0.5) * length / 3600 for number in range(BLOCKS)]
    found = stats.theilslopes(medians, middles, CONFIDENCE)
    return Slope(statistics.median(medians), float(found[0]), float(found[2]), float(found[3]), tolerance)
