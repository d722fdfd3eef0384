"""The share of sagas that succeed with its interval, and what an operator's word does, in words."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from stranglerfig.runtime.saga_figures import consequence, success


def test_the_interval_is_that_of_clopper_and_pearson() -> None:
    blocks = [(float(second), 10, 1 if second % 5 == 0 else 0) for second in range(20)]
    found = success(blocks, 60.0, 3600.0)
    exact = stats.binomtest(196, 200).proportion_ci(0.95, "exact")
    assert (found.samples, found.failures, found.share) == (200, 4, 0.98)
    assert (found.lower, found.upper) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_failures_that_come_in_one_burst_are_less_evidence() -> None:
    even = success([(float(second), 10, 1) for second in range(50)], 60.0, 3600.0)
    burst = success([(float(second), 10, 10 if second < 5 else 0) for second in range(50)], 60.0, 3600.0)
    assert even.share == burst.share == 0.9
    assert burst.lower is not None and even.lower is not None and burst.lower < even.lower - 0.05


def test_without_samples_nothing_is_said() -> None:
    found = success([], 60.0, 3600.0)
    assert (found.share, found.lower, found.upper) == (None, None, None)


@pytest.mark.parametrize(
    ("phase", "word", "says"),
    [
        ("unknown", "retry", "asks for the charge once more"),
        ("undoing", "retry", "asks for the undo of charge once more"),
        ("unknown", "resolve", "counts charge as done"),
        ("undoing", "resolve", "counts charge as undone"),
    ],
)
def test_a_word_is_told_in_the_direction_that_the_saga_has(phase: str, word: Any, says: str) -> None:
    row = {"name": "orders.Checkout", "blocked": "charge", "course": {"steps": {"charge": [phase, 1, 1, None, 0]}}}
    assert says in consequence(row, word)
