"""The token bucket of each address."""

from __future__ import annotations

import pytest

from stranglerfig.console.limits import Limiter


def test_a_bucket_is_emptied_and_refilled_evenly() -> None:
    limiter = Limiter(6)
    assert [limiter.spend("a", 0.0) for _ in range(6)] == [0.0] * 6
    assert limiter.spend("a", 0.0) == pytest.approx(10)
    assert limiter.wait("a", 4.0) == pytest.approx(6)
    assert limiter.spend("a", 10.0) == 0.0
    assert limiter.spend("a", 10.0) == pytest.approx(10)
    assert limiter.spend("b", 10.0) == 0.0, "each address has its own"
    assert limiter.wait("a", 10_000.0) == 0.0
    assert [limiter.spend("a", 10_000.0) for _ in range(7)].count(0.0) == 6, "it does not overflow"


def test_who_is_not_heard_of_is_forgotten() -> None:
    limiter = Limiter(1)
    for number in range(20_000):
        assert limiter.spend(str(number), 0.0) == 0.0
    assert len(limiter._buckets) <= 10_000
    assert limiter.spend("19999", 0.0) > 0
