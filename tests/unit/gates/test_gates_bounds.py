"""The exact bounds: the numbers of the design, and what must hold for all of them."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.gates import bounds


@pytest.mark.parametrize(
    ("k", "rate", "needed"),
    [(0, 0.0001, 29_956), (1, 0.0001, 47_437), (3, 0.0001, 77_535), (0, 0.01, 299), (1, 0.01, 473), (10, 0.01, 1_693)],
)
def test_samples_needed_are_those_of_the_design(k: int, rate: float, needed: int) -> None:
    assert bounds.samples_needed(k, rate, 0.05) == needed
    assert bounds.upper(k, needed, 0.05) < rate <= bounds.upper(k, needed - 1, 0.05)


@pytest.mark.parametrize(("rate", "alpha"), [(0, 0.05), (1, 0.05), (0.1, 0), (0.1, 1)])
def test_impossible_claims_are_refused(rate: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="strictly between"):
        bounds.samples_needed(0, rate, alpha)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.0001, 0.4))
def test_bounds_enclose_what_was_observed(seen: tuple[int, int], alpha: float) -> None:
    k, n = seen
    assert 0 <= bounds.lower(k, n, alpha) <= k / n <= bounds.upper(k, n, alpha) <= 1


def test_nothing_seen_says_nothing() -> None:
    assert (bounds.lower(0, 0, 0.05), bounds.upper(0, 0, 0.05)) == (0.0, 1.0)


def test_a_naive_look_at_a_thousand_requests_shows_no_error_most_of_the_time() -> None:
    assert round((1 - 0.0002) ** 1000, 2) == 0.82


@given(st.floats(1.01, 1e8))
def test_a_bucket_holds_its_values(value: float) -> None:
    index = bounds.bucket(value)
    assert bounds.bucket_edge(index) <= value * (1 + 1e-9)
    assert value <= bounds.bucket_edge(index + 1) * (1 + 1e-9)
    assert bounds.bucket(0) == 0


def test_quantiles_of_a_histogram() -> None:
    histogram = {bounds.bucket(1000): 99, bounds.bucket(50_000): 1}
    median, most = bounds.quantile(histogram, 0.5), bounds.quantile(histogram, 1.0)
    assert median is not None and 1000 <= median <= 1050
    assert most is not None and 50_000 <= most <= 52_500
    assert bounds.quantile({}, 0.5) is None


def test_failures_in_one_burst_count_as_about_one() -> None:
    spread = [(100, 1 if i % 10 == 0 else 0) for i in range(100)]
    burst = [(100, 10 if i == 0 else 0) for i in range(100)]
    assert bounds.design_effect(spread) == 1.0
    assert 9 < bounds.design_effect(burst) < 11
    assert bounds.design_effect([(100, 5)]) == bounds.design_effect([(100, 0), (100, 0)]) == 1.0


def _histogram(values: list[float]) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in values:
        found[bounds.bucket(value)] = found.get(bounds.bucket(value), 0) + 1
    return found


def test_ranks_tell_slower_from_equal() -> None:
    chance = random.Random(7)
    same = [
        (
            _histogram([chance.lognormvariate(9, 0.4) for _ in range(20)]),
            _histogram([chance.lognormvariate(9, 0.4) for _ in range(30)]),
        )
        for _ in range(200)
    ]
    found = bounds.ranks(same)
    assert found is not None
    share, error = found
    # the standard error of an unclustered U is about 1/sqrt(12) (1/n + 1/m)^½
    assert abs(share - 0.5) < 4 * error and 0.5 < error / math.sqrt((1 / 4000 + 1 / 6000) / 12) < 2
    with_margin = bounds.ranks(same, margin=1.25)
    assert with_margin is not None and with_margin[0] < share
    slower = bounds.ranks([({200: 5}, {100: 5})] * 10)
    assert slower is not None and slower[0] == 1.0 and slower[1] == 0.0


def test_ranks_need_both_sides() -> None:
    assert bounds.ranks([({1: 1}, {})] * 5) is None
    assert bounds.ranks([({1: 1}, {1: 1}), ({1: 1}, {})]) is None


def test_students_quantile_approaches_the_normal() -> None:
    assert bounds.student(0.05, 10_000) == pytest.approx(1.645, abs=0.001)
