"""What the page is told after each edit: the figures of ``--move``, beside the proposal and the step before."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams import communities, whatif
from stranglerfig.seams.edits import Edits, Move, Proposal, Rename
from stranglerfig.seams.figures import OF_A_CANDIDATE, OF_ALL
from stranglerfig.seams.model import Evidence, Node, Reference, Table, Use, all_ties
from stranglerfig.seams.page import Session, pairs
from tests.unit.seams.test_seams_ranking import SHOP

SESSION = Session(SHOP, communities.find(SHOP))
MOVED = Edits((Move(("stock_log",), "sales"),))


def named(state: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in state["candidates"] if each["name"] == name)


def test_the_figures_are_those_of_a_move_on_the_command_line() -> None:
    state = SESSION.state(MOVED)
    what = whatif.move(SHOP, SESSION.found, SESSION.ranking, {"stock_log": "sales"})
    for change in what.candidates:
        figures = named(state, change.name)["figures"]
        assert {name: (pair["proposal"], pair["now"]) for name, pair in figures.items()} == change.figures
    assert {name: (pair["proposal"], pair["now"]) for name, pair in state["figures"].items()} == what.whole
    assert state["first"]["now"] == what.first[1] and state["edited"]
    assert set(named(state, "stock")["figures"]) == {figure.name for figure in OF_A_CANDIDATE}
    assert set(state["figures"]) == {figure.name for figure in OF_ALL}
    assert [figure.name for figure in OF_ALL].index("mq") and state["figures"]["mq"]["now"] is not None
    json.dumps(state)


def test_each_step_is_compared_with_the_one_before_by_what_a_context_was() -> None:
    renamed = SESSION.state(MOVED.did(Rename("sales", "orders")))
    orders = named(renamed, "orders")
    assert orders["origin"] == "sales" and renamed["gone"] == []
    assert all(pair["now"] == pair["last"] for name, pair in orders["figures"].items())
    assert orders["figures"]["tables"] == {"now": 3, "proposal": 2, "last": 3}
    back = SESSION.state(MOVED.did(Rename("sales", "orders")).did(Proposal()))
    assert not back["edited"] and named(back, "sales")["figures"]["tables"] == {"now": 2, "proposal": 2, "last": 3}
    assert back["done"] == ["stock_log to sales", "sales is called orders", "back to the proposal"]


def test_a_step_that_changes_nothing_is_none() -> None:
    assert SESSION.did(MOVED, Move(("stock_log",), "sales")) == MOVED
    assert SESSION.did(Edits(), Proposal()) == Edits()
    fresh = SESSION.did(Edits(), Move(("stock",), SESSION.fresh(Edits(), "stock")))
    assert named(SESSION.state(fresh), "stock_2")["origin"] is None
    left = SESSION.state(Edits((Move(("goods",), "sales"),)))
    assert left["left"] == ["goods to sales"] and not left["edited"]


def test_all_evidence_of_a_table() -> None:
    told = SESSION.table("stock_log")
    assert {use["kind"] for use in told["uses"]} >= {"route", "module", "statement"}
    assert all(use["where"] for use in told["uses"]) and told["together"][0]["table"] == "stock"
    with pytest.raises(FigError):
        SESSION.table("goods")


def test_the_graph_has_every_table_and_what_was_counted() -> None:
    graph = SESSION.graph()
    assert [table["name"] for table in graph["tables"]] == [table.name for table in SHOP.tables]
    assert "touch it" in graph["size_of"] and max(table["size"] for table in graph["tables"]) > 1
    json.dumps(graph)
    read = Evidence(
        (Table("a"), Table("b")),
        uses=(Use("route", "GET /a", "a.py:1", frozenset({"a"}), times=7, methods=frozenset({"GET"})),),
        requests=9,
    )
    shown = Session(read, communities.find(read)).graph()
    assert [table["size"] for table in shown["tables"]] == [7, 0] and shown["size_of"].startswith("requests")


def test_tables_are_tied_directly_and_through_what_touches_both() -> None:
    evidence = Evidence(
        (Table("a"), Table("b"), Table("c")),
        (Reference("a", "b", "key"),),
        (Use("module", "m.py", "m.py", frozenset({"b", "c"}), counts={"b": 3, "c": 1}),),
    )
    ties = all_ties(evidence)
    found = pairs(ties)
    assert found["a", "b"] == {"foreign_key": 1.0}
    weaker = min(sum(ties[Node("module", "m.py"), Node("table", table)].values()) for table in ("b", "c"))
    assert found["b", "c"] == {"module": weaker} and set(found) == {("a", "b"), ("b", "c")}
