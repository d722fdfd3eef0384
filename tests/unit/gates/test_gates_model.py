"""Verdicts: when a KPI passes, when it fails, and that no chance of error is spent unseen."""

from __future__ import annotations

import random

import pytest

from stranglerfig.gates import bounds
from stranglerfig.gates.model import (
    Block,
    Evidence,
    Kind,
    Kpi,
    KpiVerdict,
    Looks,
    Verdict,
    judge,
    judge_gate,
    judge_guard,
)

ERRORS = Kpi("error_rate", Kind.RATE_BELOW, 0.0001, samples=50_000)


def evidence(n: int, k: int = 0, *, per_second: int = 500) -> Evidence:
    """``n`` samples in blocks; failures one to a block, spread over the time."""
    seconds = -(-n // per_second)
    bad = {round(i * seconds / k) for i in range(k)} if k else set()
    blocks = [Block(at + 1, min(per_second, n - at * per_second), 1 if at in bad else 0) for at in range(seconds)]
    return Evidence(tuple(blocks))


@pytest.mark.parametrize(
    ("n", "k", "verdict"),
    [
        (49_999, 0, Verdict.INCONCLUSIVE),  # not the planned samples yet
        (50_000, 0, Verdict.PASS),
        (50_000, 1, Verdict.PASS),  # one error is forgiven
        (50_000, 2, Verdict.INCONCLUSIVE),
        (50_000, 30, Verdict.FAIL),
        (0, 0, Verdict.INCONCLUSIVE),
    ],
)
def test_a_rate_is_judged_once_at_the_planned_samples(n: int, k: int, verdict: Verdict) -> None:
    found, _ = judge(ERRORS, evidence(n, k))
    assert found.verdict is verdict
    assert found.samples == n


@pytest.mark.parametrize(("n", "k"), [(29_956, 0), (47_437, 1), (77_535, 3)])
def test_the_designs_numbers_pass_and_one_sample_less_does_not(n: int, k: int) -> None:
    kpi = Kpi("error_rate", Kind.RATE_BELOW, 0.0001, samples=1)
    assert judge(kpi, evidence(n, k))[0].verdict is Verdict.PASS
    assert judge(kpi, evidence(n - 1, k))[0].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("n", "k"), [(299, 0), (473, 1), (1_693, 10)])
def test_the_designs_numbers_for_latency(n: int, k: int) -> None:
    kpi = Kpi("latency", Kind.SHARE_BELOW, 0.99, limit=50, unit="ms", samples=1)
    passed = judge(kpi, evidence(n, k, per_second=10))[0]
    assert passed.verdict is Verdict.PASS
    assert passed.bound is not None and passed.bound > 0.99 and passed.observed == 1 - k / n
    assert judge(kpi, evidence(n - 1, k, per_second=10))[0].verdict is Verdict.INCONCLUSIVE


def test_a_success_rate_is_judged_by_its_failures() -> None:
    kpi = Kpi("saga_success", Kind.RATE_ABOVE, 0.9999, samples=30_000)
    found, _ = judge(kpi, evidence(30_000))
    assert found.verdict is Verdict.PASS and found.observed == 1.0 and found.says == "above 99.99 %"


def test_later_looks_come_at_doubled_samples_and_spend_what_they_report() -> None:
    found, looks = judge(ERRORS, evidence(50_000, 2))
    assert found.verdict is Verdict.INCONCLUSIVE and found.needed == 50_000
    assert (found.alpha_spent, found.confidence) == (0.05, 0.95)
    found, looks = judge(ERRORS, evidence(99_999, 2), looks)  # would pass, but is not looked at
    assert found.verdict is Verdict.INCONCLUSIVE and looks.passing == 1 and found.needed == 1
    found, looks = judge(ERRORS, evidence(100_000, 2), looks)
    assert found.verdict is Verdict.PASS
    assert found.alpha_spent == pytest.approx(0.075) and found.confidence == pytest.approx(0.925)


def test_what_has_passed_stands_until_it_fails() -> None:
    passed, looks = judge(ERRORS, evidence(50_000, 1))
    again, looks = judge(ERRORS, evidence(60_000, 3), looks)
    assert again == passed
    failed, looks = judge(ERRORS, evidence(80_000, 60), looks)
    assert failed.verdict is Verdict.FAIL and looks.passed is None
    stands, _ = judge(ERRORS, evidence(80_000, 60), looks)  # no look is due: the failure stands
    assert stands == failed


def test_a_breach_after_a_long_good_time_is_seen_at_once() -> None:
    good = evidence(100_000)
    passed, looks = judge(ERRORS, good)
    last = good.blocks[-1].at
    bad = Evidence((*good.blocks, *(Block(last + i, 500, 1) for i in range(1, 6))))
    assert bad.k / bad.n < 0.0001  # the whole is still below the threshold
    failed, looks = judge(ERRORS, bad, looks)
    assert passed.verdict is Verdict.PASS and failed.verdict is Verdict.FAIL
    assert "over the last 2500 samples: 5 of 2500" in failed.reason
    recovered = Evidence((*bad.blocks, *(Block(last + i, 500, 0) for i in range(6, 11))))
    assert judge(ERRORS, recovered, looks)[0].verdict is not Verdict.FAIL


def test_one_stalled_second_is_not_a_breach() -> None:
    kpi = Kpi("latency", Kind.SHARE_BELOW, 0.99, limit=50, samples=5_000)
    good = evidence(100_000)
    _, looks = judge(kpi, good)
    last = good.blocks[-1].at
    stalled = Evidence((*good.blocks, *(Block(last + i, 500, 250 if i == 3 else 0) for i in range(1, 7))))
    assert judge(kpi, stalled, looks)[0].verdict is not Verdict.FAIL
    assert judge(kpi, Evidence((Block(1, 500, 500),)))[0].verdict is Verdict.INCONCLUSIVE


def test_a_burst_does_not_confirm_a_failure_but_a_flood_does() -> None:
    kpi = Kpi("latency", Kind.SHARE_BELOW, 0.99, limit=50, samples=5_000)
    calm = [Block(at, 100, 0) for at in range(1, 40)]
    burst = Evidence((*calm, Block(40, 100, 100)))
    assert judge(kpi, burst)[0].verdict is Verdict.INCONCLUSIVE
    assert (
        judge(Kpi("latency", Kind.SHARE_BELOW, 0.99, independent=True, samples=5_000), burst)[0].verdict is Verdict.FAIL
    )
    flood = Evidence(tuple(Block(at, 100, 30) for at in range(1, 41)))
    assert judge(kpi, flood)[0].verdict is Verdict.FAIL


def test_needed_skips_looks_that_cannot_pass() -> None:
    found, _ = judge(ERRORS, evidence(30_000, 4))
    assert found.needed == 70_000  # 50,000 cannot pass with four, 100,000 can
    assert bounds.samples_needed(4, 0.0001, 0.05) < 100_000


def test_luck_stays_within_what_it_may_cost() -> None:
    """At exactly the threshold, passes by luck are rarer than 2 alpha, fails by luck rarer than their alpha."""
    chance = random.Random(11)
    kpi = Kpi("rate", Kind.RATE_BELOW, 0.05, samples=200)
    passes = fails = 0
    for _ in range(300):
        blocks: list[Block] = []
        looks = Looks()
        for at in range(1, 41):
            blocks.append(Block(at, 20, sum(chance.random() < 0.05 for _ in range(20))))
            found, looks = judge(kpi, Evidence(tuple(blocks)), looks)
            if found.verdict is not Verdict.INCONCLUSIVE:
                break
        passes += found.verdict is Verdict.PASS
        fails += found.verdict is Verdict.FAIL
    assert passes <= 300 * 0.1 + 10
    assert fails <= 300 * 0.01 + 6


def pairs(ratio: float, *, seconds: int = 60) -> Evidence:
    chance = random.Random(3)

    def histogram(scale: float) -> dict[int, int]:
        found: dict[int, int] = {}
        for _ in range(40):
            index = bounds.bucket(chance.lognormvariate(8, 0.3) * scale)
            found[index] = found.get(index, 0) + 1
        return found

    return Evidence(tuple(Block(at, 40, 0, histogram(ratio), histogram(1.0)) for at in range(1, seconds + 1)))


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.0, Verdict.PASS), (0.5, Verdict.PASS), (1.25, Verdict.INCONCLUSIVE), (2.0, Verdict.FAIL)]
)
def test_no_worse_compares_with_the_monolith_in_the_same_window(ratio: float, verdict: Verdict) -> None:
    kpi = Kpi("no_worse", Kind.NO_WORSE, 0.5, samples=2_000, margin=1.25)
    found, _ = judge(kpi, pairs(ratio))
    assert found.verdict is verdict
    assert found.says == "at most 25 % slower than the monolith"


def test_no_worse_needs_seconds_in_which_both_answered() -> None:
    kpi = Kpi("no_worse", Kind.NO_WORSE, 0.5, samples=100)
    found, _ = judge(kpi, pairs(1.0, seconds=5))
    assert found.verdict is Verdict.INCONCLUSIVE and "both sides" in found.reason and found.needed == 0


@pytest.mark.parametrize(
    ("kpi", "seen", "verdict"),
    [
        (Kpi("model_signed", Kind.STATE, 1), Evidence(fact=True), Verdict.PASS),
        (Kpi("model_signed", Kind.STATE, 1), Evidence(fact=False, detail="architect has not signed"), Verdict.FAIL),
        (Kpi("model_signed", Kind.STATE, 1), Evidence(), Verdict.INCONCLUSIVE),
        (Kpi("coverage", Kind.VALUE_ABOVE, 0.9), Evidence(value=0.9), Verdict.PASS),
        (Kpi("coverage", Kind.VALUE_ABOVE, 0.9), Evidence(value=0.89), Verdict.FAIL),
        (Kpi("queue", Kind.VALUE_BELOW, 10, unit="jobs"), Evidence(value=9), Verdict.PASS),
        (Kpi("queue", Kind.VALUE_BELOW, 10), Evidence(value=10), Verdict.FAIL),
        (Kpi("queue", Kind.VALUE_BELOW, 10), Evidence(value=float("nan")), Verdict.INCONCLUSIVE),
    ],
)
def test_facts_and_values(kpi: Kpi, seen: Evidence, verdict: Verdict) -> None:
    found, looks = judge(kpi, seen)
    assert found.verdict is verdict and looks == Looks()
    assert found.reason


def test_a_gate_passes_only_when_all_of_it_does() -> None:
    signed, healthy = Kpi("signed", Kind.STATE, 1), Kpi("healthy", Kind.STATE, 1)
    yes, no = Evidence(fact=True), Evidence(fact=False)
    assert judge_gate([signed, healthy], {"signed": yes, "healthy": yes}).verdict is Verdict.PASS
    assert judge_gate([signed, healthy], {"signed": yes}).verdict is Verdict.INCONCLUSIVE
    failed = judge_gate([signed, healthy], {"signed": no})
    assert failed.verdict is Verdict.FAIL and [kpi.name for kpi in failed.failed] == ["signed"]
    assert judge_gate([], {}).verdict is Verdict.INCONCLUSIVE
    assert failed.as_dict()["kpis"][0]["verdict"] == "fail"


def test_a_guard_asks_only_that_nothing_is_confirmed_bad() -> None:
    few = judge_guard([ERRORS], {"error_rate": evidence(100)}, samples=300)
    assert few.verdict is Verdict.INCONCLUSIVE and few.kpis[0].needed == 200
    enough = judge_guard([ERRORS], {"error_rate": evidence(300, 0, per_second=50)}, samples=300)
    assert enough.verdict is Verdict.PASS
    bad = judge_guard([ERRORS], {"error_rate": evidence(300, 5, per_second=50)}, samples=300)
    assert bad.verdict is Verdict.FAIL
    fact = judge_guard([Kpi("healthy", Kind.STATE, 1)], {}, samples=300)
    assert fact.verdict is Verdict.INCONCLUSIVE


def test_verdicts_and_looks_survive_as_json() -> None:
    failed, looks = judge(ERRORS, evidence(80_000, 60))
    assert Looks.from_dict(looks.as_dict()) == looks and looks.failed == failed
    passed, looks = judge(ERRORS, evidence(50_000))
    assert Looks.from_dict(looks.as_dict()) == looks and KpiVerdict.from_dict(passed.as_dict()) == passed
    assert Looks.from_dict(Looks().as_dict()) == Looks()


@pytest.mark.parametrize(
    ("kpi", "says"),
    [
        (ERRORS, "below 0.01 %"),
        (Kpi("latency", Kind.SHARE_BELOW, 0.99, limit=50, unit="ms"), "99 % below 50 ms"),
        (Kpi("signed", Kind.STATE, 1), "must hold"),
        (Kpi("queue", Kind.VALUE_BELOW, 10, unit="jobs"), "below 10 jobs"),
        (Kpi("coverage", Kind.VALUE_ABOVE, 0.9), "at least 0.9"),
    ],
)
def test_a_kpi_says_what_it_asks(kpi: Kpi, says: str) -> None:
    assert kpi.says == says
