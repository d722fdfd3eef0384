"""What the fence may do, by what it has seen."""

from __future__ import annotations

import pytest

from stranglerfig.databases.model import Ownership, Side, State
from stranglerfig.facade.holding import BLIND, FRESH, Judgement, Seen, judge, may_open, overdue, quantile, report

NOW = 100.0


def seen(side: Side, state: State | None, epoch: int = 0, began: float = NOW - 0.01) -> Seen:
    return Seen(None if state is None else Ownership("a", side, state, epoch, None, True), began)


@pytest.mark.parametrize(
    ("monolith", "service", "kind", "side"),
    [
        (("owner", 0), ("standby", 0), "open", "monolith"),
        (("owner", 0), None, "open", "monolith"),
        (("owner", 3), ("standby", 0), "open", "monolith"),
        (("intent", 1), ("standby", 0), "hold", "monolith"),
        (("fenced", 1), ("standby", 0), "hold", "monolith"),
        (("ceded", 1), ("standby", 0), "hold", "monolith"),
        (("ceded", 1), None, "hold", "monolith"),
        (("ceded", 1), ("owner", 1), "open", "service"),
        (None, ("owner", 1), "open", "service"),
        (("ceded", 1), ("intent", 2), "hold", "service"),
        (("ceded", 1), ("ceded", 2), "hold", "service"),
        (("owner", 2), ("ceded", 2), "open", "monolith"),
        # Pictures of two instants, or a contradiction: nobody is trusted.
        (("owner", 0), ("ceded", 2), "hold", "service"),
        (("owner", 1), ("owner", 1), "hold", "monolith"),
        (None, ("standby", 0), "blind", None),
        (None, None, "blind", None),
    ],
)
def test_what_two_rows_mean(
    monolith: tuple[State, int] | None, service: tuple[State, int] | None, kind: str, side: str | None
) -> None:
    found = judge(seen("monolith", *(monolith or (None, 0))), seen("service", *(service or (None, 0))), NOW)
    assert (found.kind, found.side) == (kind, side)


def test_what_was_seen_long_ago_is_not_seen() -> None:
    assert judge(seen("monolith", "owner", began=NOW - FRESH - 0.1), None, NOW) == BLIND


def test_only_an_owner_seen_since_the_hold_began() -> None:
    found = judge(seen("monolith", "owner", began=NOW - 0.5), None, NOW)
    assert may_open(found, None)
    assert may_open(found, NOW - 0.6)
    assert not may_open(found, NOW - 0.4)
    assert not may_open(BLIND, None)


def test_what_becomes_of_who_waits_too_long() -> None:
    intent = Judgement("hold", "monolith", 1, "intent")
    ceded = Judgement("hold", "monolith", 1, "ceded")
    assert overdue(intent, 1.9, 2, 15) == "wait"
    assert overdue(intent, 2.1, 2, 15) == "abort"
    assert overdue(ceded, 2.1, 2, 15) == "wait"
    assert overdue(ceded, 15.1, 2, 15) == "refuse"
    assert overdue(BLIND, 2.1, 2, 15) == "refuse"


def test_reports() -> None:
    waits = [number / 1000 for number in range(100, 0, -1)]
    found = report("a", epoch=1, began=5, seconds=0.2, target="service", waits=waits, refused=0, given_up=False)
    assert (found.hold_p50_ms, found.hold_p99_ms, found.hold_max_ms, found.held_requests) == (50, 99, 100, 100)
    assert found.as_dict()["target"] == "service"
    assert quantile([], 0.5) == 0
