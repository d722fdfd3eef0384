"""What reads foreign bytes refuses what it cannot read, as it says, and does nothing else; and the harness can tell.

A failure names target, seed and number: ``python -m tests.fuzz TARGET --seed S --at N`` makes that input again. The
seed is fixed here, so that a commit is judged by itself; ``make fuzz`` takes another each time, and more inputs.
"""

from __future__ import annotations

import pytest

from tests.fuzz import harness
from tests.fuzz.targets import TARGETS

SEED = 7
MILLION = 1_000_000
COUNTS = {
    "decoder": MILLION, "envelope": MILLION, "events": 400_000, "wires": 60_000, "access-log": 100_000,
    "trace": 100_000, "yaml": 2_500, "storm": 2_500, "schemas": 6_400, "sources": 2_500, "wall": 6_400,
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_not_understood_is_refused_as_documented(name: str) -> None:
    found = harness.run(name, count=COUNTS[name], seed=SEED)
    print(found.line(name))
    assert not found.defect, found.defect
    assert found.inputs == COUNTS[name]
    # Alterations that all readers refuse at once, or none ever, would show nothing.
    assert found.understood / found.inputs > 0.02
    assert found.grown < 200_000_000, "memory that grows with what was read"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raises", "KeyError: 'planted'"),
        ("hangs", "TooLong"),
        ("dies", "the process ended with -9"),
        ("swallows", "MemoryError"),
    ],
)
def test_the_harness_finds_what_is_planted_and_names_the_input(name: str, says: str) -> None:
    found = harness.run(name, count=640, seed=3, module="tests.fuzz.planted")
    assert says in found.defect
    number = int(found.defect.partition("input ")[2].split()[0])
    from tests.fuzz.planted import TARGETS as PLANTED
    from tests.fuzz.planted import is_bad

    assert is_bad(harness.one(PLANTED[name](), 3, number))
    assert f"python -m tests.fuzz.planted {name} --seed 3 --at {number}" in found.defect
