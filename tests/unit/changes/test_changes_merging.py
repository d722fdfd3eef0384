"""Several workers' reports as one: nothing looks better than its worst partition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stranglerfig.changes.merging import Said, merged
from stranglerfig.extraction.observe import CumulatedParts

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def said(worker: str, *, age: float = 0, **report: Any) -> Said:
    whole = {"state": "applying", "partitions": 2, "applied_lsn": "0/10", "applied_ordinal": 1, "behind": 0} | report
    return Said(worker, whole, NOON - timedelta(seconds=age))


def test_figures_are_added_up_and_the_slowest_shows() -> None:
    found, at = merged(
        {
            0: said(
                "a/1", rows=10, rate=1.5, parked=1, conflicts=4, latency_ms={"p50": 1.0, "p99": 5.0, "count": 3}, age=1
            ),
            1: said(
                "b/2",
                rows=5,
                rate=2.0,
                parked=0,
                waits_for=[{"pid": 7}],
                latency_ms={"p50": 2.0, "p99": None, "count": 4},
                age=3,
            ),
        }
    )
    assert found["conflicts"] == 4
    assert found["waits_for"] == [{"pid": 7}]
    assert (found["rows"], found["rate"], found["parked"], found["workers"], found["partitions"]) == (15, 3.5, 1, 2, 2)
    assert found["latency_ms"] == {"p50": 2.0, "p95": None, "p99": 5.0, "max": None, "count": 7}
    assert at == NOON - timedelta(seconds=3)
    assert [(p["partition"], p["worker"], p["p99_ms"]) for p in found["parts"]] == [(0, "a/1", 5.0), (1, "b/2", None)]


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (("applying", "applying"), "applying"),
        (("applying", "starting"), "starting"),
        (("stopped", "starting"), "stopped"),
        (("snapshot", "applying"), "snapshot"),
        (("failed", "stopped"), "failed"),
        (("applying", "unheard of"), "unheard of"),
    ],
)
def test_the_worst_state_shows_with_its_error(states: tuple[str, str], state: str) -> None:
    parts = {n: said("a/1", state=one, error={"code": one}) for n, one in enumerate(states)}
    found, _ = merged(parts)
    assert (found["state"], found["error"]) == (state, {"code": state})


def test_a_partition_that_nobody_works_on_has_not_begun() -> None:
    found, _ = merged({1: said("a/1", snapshot_rows=7, snapshot_done=True)})
    assert (found["state"], found["snapshot_rows"], found["snapshot_done"], found["error"]) == (
        "starting",
        None,
        None,
        None,
    )
    # What is left of a number of partitions that is no more says nothing.
    found, _ = merged({0: said("a/1", partitions=1), 4: said("b/2", partitions=1, state="stopped")})
    assert (found["state"], found["workers"]) == ("applying", 1)


def test_the_place_is_that_of_who_is_behind() -> None:
    found, _ = merged({0: said("a/1", applied_lsn="1/0"), 1: said("a/1", applied_lsn="0/FF")})
    assert found["applied_lsn"] == "1/0"
    found, _ = merged({0: said("a/1", applied_lsn="1/0"), 1: said("a/1", applied_lsn="0/FF", behind=4)})
    assert (found["applied_lsn"], found["behind"]) == ("0/FF", 4)


def test_derivation_is_as_far_as_the_last() -> None:
    found, _ = merged(
        {
            0: said("a/1", derive={"state": "deriving", "events": 3}, last_source_committed_at=1.0),
            1: said("a/1", derive={"state": "stopped", "events": 4, "error": "e"}, last_source_committed_at=None),
        }
    )
    assert found["derive"] == {"state": "stopped", "events": 7, "error": "e"}
    assert found["last_source_committed_at"] == 1.0


def test_no_sample_is_missed_when_a_partition_moves() -> None:
    counted = CumulatedParts()

    def look(*parts: Said) -> dict[float, int]:
        return counted.new(merged(dict(enumerate(parts)))[0])

    first = said("a/1", run="r1", latency_histogram=[[1.0, 5], [2.0, 1]])
    assert look(first, said("b/2", run="r2", latency_histogram=[[1.0, 7]])) == {}
    assert look(first, said("b/2", run="r2", latency_histogram=[[1.0, 9]])) == {1.0: 2}
    # Another process takes the second partition over, late: its samples count from the first.
    assert look(first, said("a/1", run="r3", latency_histogram=[[5000.0, 3]])) == {5000.0: 3}
    assert merged({0: first, 1: said("b/2", latency_histogram=[[1.0, 9]])})[0]["latency_histogram"] == [
        [1.0, 14],
        [2.0, 1],
    ]


def test_one_partition_counts_as_it_always_did() -> None:
    counted = CumulatedParts()
    assert counted.new({"latency_histogram": [[1.0, 5]]}) == {}
    assert counted.new({"latency_histogram": [[1.0, 8]]}) == {1.0: 3}
    # It begins anew with its process.
    assert counted.new({"latency_histogram": [[1.0, 2]]}) == {1.0: 2}
    # And is given partitions.
    assert counted.new({"latency_histograms": {"0/x": [[1.0, 1]], "1/y": []}}) == {1.0: 1}
