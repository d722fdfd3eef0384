"""Choreographed flows: drawn, found to run in circles, and held against what happened."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.foundation.errors import FigError
from stranglerfig.sagas.flows import (
    Course,
    Drawing,
    Happened,
    Reaction,
    as_data,
    check,
    course,
    cycles,
    of_data,
)

REFUND = Drawing(
    "refund",
    ("orders.RefundAsked",),
    ("money.Refunded", "orders.RefundRefused"),
    (
        Reaction("stock", "orders.RefundAsked", ("stock.Returned", "orders.RefundRefused")),
        Reaction("money", "stock.Returned", ("money.Refunded",)),
        Reaction("mail", "money.Refunded", (), may_stay_silent=True),
    ),
    within=60.0,
)


def went(*events: tuple[str, str, str | None], now: float = 1000.0, drawing: Drawing = REFUND) -> Course:
    """The course of (id, type, cause), a second after the other from 0 on."""
    seen = [Happened(id, type, "/x", cause, float(at)) for at, (id, type, cause) in enumerate(events)]
    return course(drawing, seen, now=now)


ASKED, RETURNED, REFUNDED = (
    ("1", "orders.RefundAsked", None),
    ("2", "stock.Returned", "1"),
    ("3", "money.Refunded", "2"),
)


def test_a_flow_that_went_as_drawn() -> None:
    found = went(ASKED, RETURNED, REFUNDED)
    assert (found.state, found.ends) == ("done", ["money.Refunded"])
    assert [(event.id, hop) for event, hop in found.path] == [("1", 0), ("2", 1), ("3", 2)]
    assert went(ASKED, ("2", "orders.RefundRefused", "1")).state == "done"


def test_where_it_stopped_and_who_did_not_react() -> None:
    found = went(ASKED, RETURNED)
    assert found.state == "stopped"
    assert [(reaction.service, event.type) for reaction, event in found.missed] == [("money", "stock.Returned")]
    assert went(ASKED, RETURNED, now=30.0).state == "running"
    assert [reaction.service for reaction, _ in went(ASKED, now=30.0).waiting] == ["stock"]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ((ASKED, ("2", "money.Refunded", "1")), "followed from orders.RefundAsked, which is not drawn"),
        ((ASKED, RETURNED, REFUNDED, ("4", "other.Thing", "3")), "other.Thing (4) is not drawn"),
        ((ASKED, RETURNED, REFUNDED, ("4", "money.Refunded", "gone")), "follows from nothing that was seen"),
    ],
)
def test_what_is_not_drawn_is_said(events: Any, said: str) -> None:
    assert any(said in each for each in went(*events).surprises)


def test_what_is_seen_before_its_cause_is_awaited_and_surprises_only_where_that_never_comes() -> None:
    found = went(ASKED, REFUNDED, now=30.0)
    assert (found.state, found.surprises) == ("running", []) and [event.id for event in found.early] == ["3"]
    assert went(ASKED, ("4", "orders.RefundRefused", "1"), REFUNDED, now=30.0).state == "running"
    assert went(ASKED, REFUNDED, RETURNED, now=30.0).state == "done"
    late = went(ASKED, ("4", "orders.RefundRefused", "1"), REFUNDED)
    assert late.state == "surprising" and late.surprises == ["money.Refunded (3) follows from nothing that was seen"]


def test_a_circle_is_found_and_refused_unless_it_is_meant() -> None:
    again = (Reaction("a", "x.A", ("x.B",)), Reaction("b", "x.B", ("x.C", "x.End")), Reaction("c", "x.C", ("x.A",)))
    assert [sorted(circle) for circle in cycles(again)] == [["x.A", "x.B", "x.C"]]
    assert cycles([Reaction("a", "x.A", ("x.A",))]) == [["x.A"]] and cycles(REFUND.reactions) == []
    with pytest.raises(FigError, match="runs in circles") as caught:
        check(Drawing("loop", ("x.A",), ("x.End",), again))
    assert caught.value.code == "flow_misdeclared"
    meant = Drawing("loop", ("x.A",), ("x.End",), again, max_hops=4)
    check(meant)
    chain = [(str(n), ("x.A", "x.B", "x.C")[n % 3], str(n - 1) if n else None) for n in range(7)]
    found = went(*chain, drawing=meant, now=3.0)
    assert [s for s in found.surprises if "more than 4" in s] == [
        "x.C (5) is 5 steps from the start, more than 4", "x.A (6) is 6 steps from the start, more than 4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("drawing", "said"),
    [
        (Drawing("d", ("x.A",), (), (Reaction("a", "x.A", ("x.B",)),)), "nobody reacts to x.B"),
        (
            Drawing("d", ("x.A",), ("x.B",), (Reaction("a", "x.A", ("x.B",)), Reaction("c", "x.C", ("x.B",)))),
            "nothing in it says x.C",
        ),
    ],
)  # fmt: skip
def test_a_flow_that_leads_nowhere_is_refused(drawing: Drawing, said: str) -> None:
    with pytest.raises(FigError, match=said):
        check(drawing)
    check(REFUND)


def test_events_that_cause_each_other_do_not_hang_anything() -> None:
    found = went(("1", "stock.Returned", "2"), ("2", "money.Refunded", "1"))
    assert all("follows from nothing" in each or "not drawn" in each for each in found.surprises)


@given(
    st.lists(st.tuples(st.sampled_from(["x.A", "x.B", "x.C", "x.D"]), st.sampled_from(["x.A", "x.B", "x.C", "x.D"])))
)
def test_circles_are_those_that_can_be_walked(edges: list[tuple[str, str]]) -> None:
    reach = {(a, b) for a, b in edges}
    for via in ("x.A", "x.B", "x.C", "x.D"):
        reach |= {(a, d) for a, b in reach for c, d in reach if b == c == via}
    expected = {a for a, b in reach if a == b}
    found = [event for circle in cycles([Reaction("s", a, (b,)) for a, b in edges]) for event in circle]
    assert sorted(found) == sorted(expected)


def test_a_drawing_is_read_as_it_was_written() -> None:
    assert of_data(as_data(REFUND)) == REFUND
