"""What follows from figures: percentiles, whether a rate was kept, order per key, advice for each need."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.eventlog import BACKENDS
from stranglerfig.eventlog.choosing import model
from stranglerfig.eventlog.choosing.model import Outcome, Trial
from stranglerfig.eventlog.choosing.operation import operation_of
from tests.unit.eventlog.choice_sample import ASK, AWAY, KAFKA, POSTGRES, SLOW, choice, measured


def test_percentiles_are_values_that_were_seen() -> None:
    assert model.percentile([], 0.5) is None
    assert [model.percentile([1, 2, 3, 4], share) for share in (0.0, 0.25, 0.5, 0.51, 0.99, 1.0)] == [1, 1, 2, 3, 4, 4]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1))
def test_as_many_as_the_share_are_at_or_below_a_percentile(values: list[float], share: float) -> None:
    found = model.percentile(sorted(values), share)
    assert found is not None
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values)


def test_latency_is_in_milliseconds_and_says_what_came_through() -> None:
    found = model.latency([0.003, 0.001, 0.002], asked=3, sent=3, unseen=0, seconds=1.5)
    assert (found.p50, found.max, found.rate, found.kept) == (2.0, 3.0, 2.0, True)
    assert model.latency([], asked=3, sent=0, unseen=0, seconds=1).p99 is None


@pytest.mark.parametrize(
    ("asked", "sent", "unseen", "kept"),
    [(100, 95, 0, True), (100, 94, 0, False), (100, 100, 1, False), (0, 0, 0, False)],
)
def test_a_rate_is_kept_when_nearly_all_was_sent_and_all_of_it_read(
    asked: int, sent: int, unseen: int, kept: bool
) -> None:
    assert model.latency([0.1], asked=asked, sent=sent, unseen=unseen, seconds=1).kept is kept


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        ([("a", 0), ("b", 0), ("a", 1), ("b", 1)], Outcome.HELD),
        ([("a", 0), ("a", 0), ("a", 1), ("b", 0), ("a", 0), ("b", 1)], Outcome.HELD),  # repetitions
        ([("a", 1), ("a", 0), ("b", 0), ("b", 1)], Outcome.BROKEN),
        ([("a", 0), ("a", 1), ("b", 0)], Outcome.BROKEN),
    ],
)
def test_order_per_key(read: list[tuple[str, int]], outcome: Outcome) -> None:
    assert model.in_order(read, {"a": 2, "b": 2}).outcome is outcome


def of(need: str, *results: model.Result) -> model.Advice:
    [found] = [advice for advice in model.advise(ASK, results) if advice.need.startswith(need)]
    return found


def test_the_lowest_latency_is_among_those_that_keep_the_rate() -> None:
    advice = of("Lowest latency", POSTGRES, KAFKA, SLOW, AWAY)
    assert advice.choice == (KAFKA.name,)
    assert "12.0 ms" in advice.because and f"{SLOW.name} did not keep the rate" in advice.because
    assert of("Lowest latency", SLOW) == model.Advice(
        "Lowest latency at 5,000 events/s of 500 B",
        (),
        f"No candidate kept the rate from this machine: {SLOW.name} came to 2,000/s.",
    )


def test_figures_that_one_run_cannot_tell_apart_are_not_told_apart() -> None:
    near = replace(POSTGRES, measured=measured(14.0, 10.0, 180_000.0))
    assert of("Lowest latency", near, KAFKA).choice == (KAFKA.name, near.name)
    assert "Closer together" in of("Most events", near, KAFKA).because
    assert of("Most events", POSTGRES, KAFKA).choice == (KAFKA.name,)


def test_the_least_to_operate_must_keep_the_rate() -> None:
    assert of("Least", POSTGRES, KAFKA).choice == (POSTGRES.name,)
    lagging = replace(POSTGRES, measured=measured(1.0, 1.0, 1.0, sent=1))
    advice = of("Least", lagging, KAFKA)
    assert advice.choice == (KAFKA.name,) and "3 further servers" in advice.because
    assert of("Least", lagging).choice == ()


def test_survival_is_what_was_tried_and_nothing_else() -> None:
    lost = replace(KAFKA, durability=Trial(Outcome.BROKEN, "2 of 10 acknowledged events are lost"))
    advice = of("Acknowledged", POSTGRES, lost, SLOW)
    assert advice.choice == (POSTGRES.name,)
    assert "2 of 10" in advice.because and f"not tested: {SLOW.name}" in advice.because


def test_what_is_for_tests_is_never_advised() -> None:
    memory = replace(POSTGRES, name="Memory", scheme="memory", operation=operation_of("memory"))
    assert all(advice.choice == () for advice in model.advise(ASK, [memory]))


def test_the_document_is_json_and_says_whether_the_rate_was_kept() -> None:
    read = orjson.loads(orjson.dumps(choice(POSTGRES, SLOW, AWAY)))
    assert [one["measured"] and one["measured"]["latency"]["kept"] for one in read["results"]] == [True, False, None]
    assert read["results"][0]["durability"]["outcome"] == "held" and read["ask"]["rate"] == 5000


@pytest.mark.parametrize("scheme", sorted(BACKENDS))
def test_operating_each_backend_is_described(scheme: str) -> None:
    found = operation_of(scheme)
    assert found.runs and found.durability and found.grows and (found.watch or found.for_tests)
