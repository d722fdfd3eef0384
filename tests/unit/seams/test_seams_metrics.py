"""Figures of partitions: small cases counted by hand, bounds for any partition, and the study's own figures."""

from __future__ import annotations

import json
import os
from math import log
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.seams.metrics import bcp, figures, ifn, mq, ned, sm

PARTS = [{"a", "b"}, {"c", "d", "e"}]
CALLS = {
    ("a", "b"): 1.0,
    ("b", "a"): 3.0,
    ("c", "d"): 2.0,
    ("a", "c"): 5.0,
    ("d", "a"): 1.0,
    ("a", "x"): 9.0,
    ("a", "a"): 7.0,
}
USES = {"a": ["sell", "ship"], "b": ["sell"], "c": ["bill"], "d": ["bill"]}


def test_figures_counted_by_hand() -> None:
    found = figures(PARTS, CALLS, USES, range(3, 6))
    assert found.parts == 2
    # Inside: one pair of 2², one of 3². Across: a-c and a-d of 2 · 3.
    assert found.sm == pytest.approx((1 / 4 + 1 / 9) / 2 - 2 / 6)
    across, inside = (1 + log(5)) + 1, 1 + (1 + log(3)) + (1 + log(2))
    assert found.icp == pytest.approx(across / (across + inside))
    assert found.ifn == pytest.approx(2 / 2)
    # sell and ship; bill, and what is not known of e.
    assert found.bcp == pytest.approx((log(2) + log(2)) / 2)
    assert found.ned == pytest.approx(2 / 5)
    # Of the first part two calls inside and one out, of the second one and one.
    assert found.mq == pytest.approx(4 / 5 + 2 / 3)


def test_one_part_has_no_call_that_crosses_and_is_extreme() -> None:
    found = figures([{"a", "b", "c", "d", "e"}], CALLS, USES, range(1, 4))
    assert (found.icp, found.ifn, found.ned) == (0.0, 0.0, 1.0)
    assert found.sm == pytest.approx(4 / 25) and found.mq == pytest.approx(1.0)


def test_nothing_has_figures_of_nothing() -> None:
    found = figures([], {}, {}, range(5, 21))
    assert (found.sm, found.icp, found.ifn, found.bcp, found.ned, found.mq) == (0, 0, 0, 0, 0, 0)
    assert sm([set(), {"a"}], {}) == bcp([set()], {}) == mq([{"a"}], {}) == 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11))))
def test_figures_stay_in_their_bounds(of: list[int], calls: set[tuple[int, int]]) -> None:
    parts = [{str(unit) for unit, at in enumerate(of) if at == part} for part in sorted(set(of))]
    counted = {(str(a), str(b)): 1.0 for a, b in calls}
    found = figures(parts, counted, {}, range(5, 21))
    assert -1 <= found.sm <= 1 and 0 <= found.icp <= 1 and 0 <= found.ned <= 1 and 0 <= found.mq <= len(parts)
    assert ifn(parts, counted) * len(parts) <= len(calls)
    # To the last bit: the same division, found in another order, differs in nothing.
    assert figures(parts[::-1], counted, {}, range(5, 21)) == found
    if len(parts) == 1:
        assert found.icp == 0 and ned(parts) == (0 if len(of) in range(5, 21) else 1)


@pytest.mark.skipif("MONO2MICRO" not in os.environ, reason="MONO2MICRO names no checkout of the study's material")
def test_the_study_of_2021_has_the_same_figures_for_daytrader() -> None:
    """Its replication material (github.com/kaliaanup/Mono2Micro-FSE-2021) says no licence, so it is not copied here."""
    folder = Path(os.environ["MONO2MICRO"]) / "datasets_runtime/daytrader/mono2micro_output"
    volume = json.loads((folder / "runtime_call_volume.json").read_text())
    uses = json.loads((folder / "bcs_per_class.json").read_text())
    assigned = json.loads((folder / "vertical_cluster_assignment_11.json").read_text())
    parts = [[unit for unit in assigned if assigned[unit] == part] for part in sorted(set(assigned.values()))]
    pairs = {(a, b): n for (a, _, b), n in ((key.partition("--"), n) for key, n in volume.items())}
    calls = {pair: n for pair, n in pairs.items() if "root" not in (pair[0].lower(), pair[1].lower())}
    found = figures([set(part) for part in parts], calls, uses, range(5, 21))
    assert found.parts == 11
    assert (round(found.bcp or 0, 3), round(found.icp, 3), round(found.ifn, 3), round(found.ned, 3)) == (
        1.602,
        0.346,
        4.182,
        0.135,
    )
    # Of SM the study's program also counts a unit that calls itself as a pair, unless it is its part's last one.
    itself = {a for a, b in calls if a == b}
    theirs = sum(sum(unit in itself for unit in part[:-1]) / len(part) ** 2 for part in parts) / len(parts)
    assert round(found.sm + theirs, 3) == 0.137
