"""Evidence in a real control database: it adds up, is stored once, and verdicts remember their looks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.gates.evidence import EvidenceStore, Samples
from stranglerfig.gates.model import Kind, Kpi, Verdict

if TYPE_CHECKING:
    from tests.conftest import Server

ERRORS = Kpi("error_rate", Kind.RATE_BELOW, 0.01, samples=300)
LATENCY = Kpi("latency", Kind.SHARE_BELOW, 0.99, limit=50, unit="ms", samples=300)
NO_WORSE = Kpi("no_worse", Kind.NO_WORSE, 0.5, samples=100)
SIGNED = Kpi("model_signed", Kind.STATE, 1)


@pytest.fixture
async def store(postgres: Server) -> AsyncIterator[EvidenceStore]:
    store = EvidenceStore(postgres.database())
    await store.migrate()
    await store.migrate()
    yield store
    await store.close()


async def test_samples_of_one_second_add_up(store: EvidenceStore) -> None:
    for _ in range(2):
        samples = Samples()
        samples.count("error_rate", 1000.2, failed=True)
        samples.count("error_rate", 1000.9, n=9)
        samples.time("latency", 1001, 49.9, limit=50)
        samples.time("latency", 1001, 50, limit=50)
        samples.time("no_worse", 1001, 10)
        samples.baseline("no_worse", 1001, 20)
        await store.add("inventory", 1, samples)
    found = await store.read("inventory", 1, [ERRORS, LATENCY, NO_WORSE])
    assert [(b.at, b.n, b.k) for b in found["error_rate"].blocks] == [(1000, 20, 2)]
    assert (found["latency"].n, found["latency"].k) == (4, 2)
    (block,) = found["no_worse"].blocks
    assert (sum(block.histogram.values()), sum(block.baseline.values())) == (2, 2)
    ours, theirs = await store.histogram("inventory", 1, "no_worse")
    assert sum(ours.values()) == sum(theirs.values()) == 2
    assert await store.read("inventory", 2, [ERRORS]) == {}


async def test_a_step_reads_only_its_own_evidence(store: EvidenceStore) -> None:
    samples = Samples()
    for at in range(1000, 1010):
        samples.count("error_rate", at, n=10)
    await store.add("inventory", 1, samples)
    assert (await store.read("inventory", 1, [ERRORS], since=1005))["error_rate"].n == 50


async def test_a_long_visit_is_read_in_wider_blocks(store: EvidenceStore) -> None:
    samples = Samples()
    for at in range(0, 3600):
        samples.count("error_rate", at, n=2)
        samples.time("no_worse", at, 5)
    await store.add("inventory", 1, samples)
    found = await store.read("inventory", 1, [ERRORS, NO_WORSE])
    assert found["error_rate"].n == 7200 and len(found["error_rate"].blocks) == 240
    assert len(found["no_worse"].blocks) == 240


async def test_what_was_read_of_a_log_is_stored_once(store: EvidenceStore) -> None:
    samples = Samples()
    samples.count("error_rate", 1000)
    assert await store.offset("access.log") == 0
    await store.add("inventory", 1, samples, source="access.log", begin=0, end=500)
    with pytest.raises(FigError) as refused:
        await store.add("inventory", 1, samples, source="access.log", begin=0, end=700)
    assert refused.value.code == "evidence_elsewhere"
    await store.add("inventory", 1, Samples(), source="access.log", begin=500, end=600)
    assert await store.offset("access.log") == 600
    assert (await store.read("inventory", 1, [ERRORS]))["error_rate"].n == 1


async def test_the_last_fact_counts(store: EvidenceStore) -> None:
    await store.note("inventory", 1, "model_signed", fact=False, detail="architect has not signed")
    await store.note("inventory", 1, "coverage", value=0.93)
    await store.note("inventory", 1, "model_signed", fact=True)
    found = await store.read("inventory", 1, [SIGNED, Kpi("coverage", Kind.VALUE_ABOVE, 0.9)])
    assert found["model_signed"].fact is True and found["coverage"].value == 0.93


async def test_judging_remembers_its_looks_and_its_history(store: EvidenceStore) -> None:
    kpis = [ERRORS, SIGNED]
    assert (await store.judge("inventory", 1, kpis)).verdict is Verdict.INCONCLUSIVE
    assert (await store.judge("inventory", 1, kpis)).verdict is Verdict.INCONCLUSIVE
    samples = Samples()
    for at in range(1000, 1030):
        samples.count("error_rate", at, n=10, failed=at == 1003)
    await store.add("inventory", 1, samples)
    await store.note("inventory", 1, "model_signed", fact=True)
    first = await store.judge("inventory", 1, kpis)
    assert first.kpis[0].alpha_spent == 0.05  # looked at 300 with one failure: not shown
    again = await store.judge("inventory", 1, kpis)
    assert again.kpis[0].alpha_spent == 0.05 and again.verdict is Verdict.INCONCLUSIVE
    guard = await store.judge("inventory", 1, kpis, scope="step 10", since=1000, guard_samples=200)
    assert guard.verdict is Verdict.PASS
    history = await store.verdicts("inventory", 1)
    assert [(scope, gate["verdict"]) for _, scope, gate in history] == [
        ("step 10", "pass"),
        ("gate", "inconclusive"),
        ("gate", "inconclusive"),
    ]
