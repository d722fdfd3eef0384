"""How evidence grew: points on the KPI's own scale whose interval is the one that verdicts rest on."""

from __future__ import annotations

from stranglerfig.gates import bounds
from stranglerfig.gates.growth import growth
from stranglerfig.gates.model import Block, Evidence, Kind, Kpi

ERRORS = Kpi("error_rate", Kind.RATE_BELOW, 0.01, samples=300, independent=True)
LATENCY = Kpi("latency", Kind.SHARE_BELOW, 0.99, limit=50, unit="ms", samples=300, independent=True)


def evidence(seconds: int) -> Evidence:
    return Evidence(blocks=tuple(Block(1000 + at, 10, int(at == 3)) for at in range(seconds)))


def test_the_interval_is_clopper_and_pearsons_and_narrows() -> None:
    found = growth(ERRORS, evidence(100), points=10)
    assert [point.at for point in found] == list(range(1009, 1100, 10))
    assert [point.samples for point in found] == list(range(100, 1001, 100))
    last = found[-1]
    assert (last.observed, last.failures) == (0.001, 1)
    assert (last.least, last.most) == (bounds.lower(1, 1000, 0.05), bounds.upper(1, 1000, 0.05))
    widths = [point.most - point.least for point in found if point.most is not None and point.least is not None]
    assert len(widths) == 10 and widths == sorted(widths, reverse=True)


def test_a_share_that_should_be_high_is_shown_as_one() -> None:
    (only,) = growth(LATENCY, evidence(100), points=1)
    assert only.observed == 0.999 and only.least is not None and only.most is not None
    assert only.least < 0.999 < only.most <= 1


def test_few_blocks_have_a_point_each_and_facts_have_none() -> None:
    assert [point.samples for point in growth(ERRORS, evidence(3))] == [10, 20, 30]
    assert growth(ERRORS, Evidence()) == []
    assert growth(Kpi("signed", Kind.STATE, 1), Evidence(fact=True)) == []
