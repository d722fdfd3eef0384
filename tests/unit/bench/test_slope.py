"""A leak is found in noise, and what only warms up, saws or steps back is none."""

from __future__ import annotations

import math
import random

import pytest

from bench.slope import slope

HALF_AN_HOUR = [5.0 * number for number in range(360)]


def noise(seed: int, size: float) -> list[float]:
    found = random.Random(seed)
    return [found.gauss(0, size) for _ in HALF_AN_HOUR]


@pytest.mark.parametrize("seed", range(10))
def test_a_leak_of_ten_megabytes_an_hour_is_found_in_noise(seed: int) -> None:
    values = [80 + 10 * at / 3600 + off for at, off in zip(HALF_AN_HOUR, noise(seed, 0.5), strict=True)]
    found = slope(HALF_AN_HOUR, values, 4.0)
    assert found.verdict == "grows" and found.low < 10 < found.high
    hours = found.hours(100)
    assert hours is not None and 5 < hours < 10


@pytest.mark.parametrize("seed", range(10))
def test_what_warms_up_and_saws_is_flat(seed: int) -> None:
    values = [
        80 - 30 * math.exp(-at / 120) + 2 * (at % 20) / 20 + off
        for at, off in zip(HALF_AN_HOUR, noise(seed, 0.5), strict=True)
    ]
    assert slope(HALF_AN_HOUR, values, 4.0).verdict == "flat"


def test_what_stays_the_same_is_flat_and_has_no_end() -> None:
    found = slope(HALF_AN_HOUR, [23.0] * len(HALF_AN_HOUR), 1.0)
    assert (found.verdict, found.level, found.hours(10)) == ("flat", 23.0, None)


def test_what_falls_is_flat() -> None:
    assert slope(HALF_AN_HOUR, [100 - at / 60 for at in HALF_AN_HOUR], 1.0).verdict == "flat"


def test_noise_that_hides_a_leak_is_unclear() -> None:
    values = [80 + 10 * at / 3600 + off for at, off in zip(HALF_AN_HOUR, noise(1, 40), strict=True)]
    assert slope(HALF_AN_HOUR, values, 4.0).verdict == "unclear"


def test_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        slope(HALF_AN_HOUR[:20], [1.0] * 20, 1.0)
