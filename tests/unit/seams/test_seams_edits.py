"""Steps of people on a proposal: what they make of it, undone and done again, as text and as moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams import edits
from stranglerfig.seams.edits import Division, Edits, Move, Proposal, Rename, Step

PROPOSAL = Division(
    {
        "sales": frozenset({"sales", "sale_lines"}),
        "stock": frozenset({"stock", "stock_log"}),
        "items": frozenset({"items"}),
    },
    {"sales": "sales", "stock": "stock", "items": "items"},
)
TABLES = sorted(table for each in PROPOSAL.contexts.values() for table in each)
NAMES = ["sales", "stock", "items", "billing", "Login"]
STEPS = st.one_of(
    st.builds(Move, st.lists(st.sampled_from(TABLES), min_size=1, unique=True).map(tuple), st.sampled_from(NAMES)),
    st.builds(Rename, st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.just(Proposal()),
)


def made(*steps: Step) -> Division:
    return edits.replayed(Edits(steps), PROPOSAL)[0]


def test_a_context_keeps_what_it_was_through_another_name() -> None:
    now = made(Rename("stock", "Warehouse"), Move(("items",), "warehouse"))
    assert now.contexts["warehouse"] == {"stock", "stock_log", "items"}
    assert now.origins == {"sales": "sales", "warehouse": "stock"} and now.of("items") == "warehouse"


def test_one_that_lost_all_tables_is_itself_again_when_it_gets_one() -> None:
    assert "items" not in made(Move(("items",), "sales")).contexts
    assert made(Move(("items",), "sales"), Move(("items",), "items")) == PROPOSAL
    taken = made(Move(("items",), "sales"), Rename("stock", "items"))
    assert taken.origins == {"sales": "sales", "items": "stock"}


def test_back_to_the_proposal_can_be_undone() -> None:
    changed = Edits().did(Move(("items",), "sales")).did(Proposal())
    assert edits.replayed(changed, PROPOSAL)[0] == PROPOSAL
    assert edits.replayed(changed.undo(), PROPOSAL)[0].of("items") == "sales"
    assert changed.undo().redo() == changed and Edits().undo() == Edits().redo() == Edits()
    assert changed.undo().did(Rename("sales", "orders")).undone == ()


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (Move(("goods",), "sales"), "unknown_table"),
        (Move(("items",), "no name"), "context_name"),
        (Rename("billing", "money"), "unknown_candidate"),
        (Rename("sales", "stock"), "context_name"),
        (Rename("sales", "2nd"), "context_name"),
    ],
)
def test_what_cannot_be_is_refused_and_left_out_of_a_replay(step: Step, code: str) -> None:
    with pytest.raises(FigError) as refused:
        edits.after(step, PROPOSAL, PROPOSAL)
    assert refused.value.code == code
    kept = Move(("items",), "sales")
    now, left = edits.replayed(Edits((step, kept)), PROPOSAL)
    assert (now.of("items"), left) == ("sales", (step,))


def test_a_new_context_is_called_after_its_table_and_like_no_other() -> None:
    assert edits.fresh("stock_log", PROPOSAL) == "stock_log"
    assert edits.fresh("shop.Items", PROPOSAL) == "items_2"
    assert edits.fresh("2-fold", PROPOSAL) == "context_2_fold"


@given(st.lists(STEPS, max_size=8).map(tuple), st.lists(STEPS, max_size=3).map(tuple))
def test_no_table_is_lost_and_text_and_moves_say_the_same(steps: tuple[Step, ...], undone: tuple[Step, ...]) -> None:
    changed = Edits(steps, undone)
    assert edits.parse(edits.show(changed)) == changed
    now, _ = edits.replayed(changed, PROPOSAL)
    assert sorted(table for each in now.contexts.values() for table in each) == TABLES
    assert all(now.contexts.values()) and set(now.origins) <= set(now.contexts)
    assert len(set(now.origins.values())) == len(now.origins)
    moves = edits.as_moves(now, PROPOSAL)
    assert made(*(Move((table,), name) for table, name in moves.items())).contexts == now.contexts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2}',
        '{"version": 1, "steps": 3}',
        '{"version": 1, "steps": [{"move": [], "to": "a"}]}',
        '{"version": 1, "steps": [{"move": [1], "to": "a"}]}',
        '{"version": 1, "undone": [{"proposal": false}]}',
    ],
)
def test_what_is_no_edits_is_refused(text: str) -> None:
    with pytest.raises(FigError) as refused:
        edits.parse(text)
    assert refused.value.code == "seams_edits_invalid"


def test_the_text_has_a_step_a_line() -> None:
    changed = Edits((Move(("items",), "sales"), Rename("sales", "orders")), (Proposal(),))
    assert edits.show(changed) == (
        '{\n  "version": 1,\n  "steps": [\n    {"move": ["items"], "to": "sales"},\n'
        '    {"rename": "sales", "to": "orders"}\n  ],\n  "undone": [\n    {"proposal": true}\n  ]\n}\n'
    )
    assert edits.show(Edits()) == '{\n  "version": 1,\n  "steps": [],\n  "undone": []\n}\n'
