"""Rows that travel with their statement: which do, and as what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.changes.mapping import Assignment, Entry
from stranglerfig.changes.model import UNCHANGED, Change, Column, Relation, SnapshotEdge
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import inline
from stranglerfig.sync.model import Rows

R = Relation("public", "r", (Column("id", "bigint", True), Column("tags", "text[]"), Column("rest", "text")))
ID = Assignment("id", "bigint", "id", frozenset({"id"}))
TAGS = Assignment("tags", "text[]", "tags", frozenset({"tags"}))
PERCENT = Assignment("share", "text", "rest || '%'", frozenset({"rest"}))
WHOLE = Entry("public.r", "public.t", (ID,), (TAGS, PERCENT))
KEYS = {"public.r": ("id",), "public.s": ("id",)}
TYPES = {R: ["bigint", "text[]", "text"]}


def planned(*changes: Change, entries: tuple[Entry, ...] = (WHOLE,)) -> list[inline.Inline] | None:
    batch = inline.folded(changes, KEYS, {"public.r": entries})
    assert batch is not None
    by_target: dict[str, list[Entry]] = {}
    for entry in entries:
        by_target.setdefault(entry.target, []).append(entry)
    return inline.plan(batch, by_target, TYPES)


def test_rows_come_as_one_array_per_column_deletions_first() -> None:
    found = planned(
        Change("c", R, None, ("1", "{a}", None)),
        Change("d", R, ("2", UNCHANGED, UNCHANGED), None),
        Change("u", R, None, ("3", None, 'x"y')),
    )
    assert found is not None
    removed, put = found
    assert removed.arrays == ['{"2"}'] and "DELETE FROM" in removed.statement
    assert put.arrays == ['{"1","3"}', '{NULL,"x\\"y"}', '{"{a}",NULL}']
    assert "unnest(%s::bigint[], %s::text[], %s::text[])" in put.statement
    assert "c2::text[] AS" in put.statement, "an array travels as text, or unnest would flatten it"
    assert "|| '%%'" in put.statement, "a percent sign of an expression is no parameter"


def test_a_row_of_several_tables_is_made_elsewhere_but_changed_here() -> None:
    other = Entry("public.s", "public.t", (ID,), (), anchor=True)
    part = Entry("public.r", "public.t", (ID,), (TAGS,), anchor=False)
    batch = inline.folded([Change("u", R, None, ("1", "{a}", None))], KEYS, {"public.r": (part,), "public.s": (other,)})
    assert batch is not None
    found = inline.plan(batch, {"public.t": [other, part]}, TYPES)
    assert found is not None
    assert "UPDATE" in found[0].statement and "SELECT 1 / ((" in found[1].statement
    anchored = Entry("public.r", "public.t", (ID,), (TAGS,), anchor=True)
    assert inline.plan(batch, {"public.t": [anchored, other]}, TYPES) is None


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        (Change("u", R, None, ("1", UNCHANGED, "x")), WHOLE),
        (Change("u", R, ("1", UNCHANGED, UNCHANGED), ("2", UNCHANGED, "x")), WHOLE),
        (Change("c", R, None, ("1", None, "x")), Entry("public.r", "public.t", (ID,), (TAGS,), where="id > 1")),
    ],
)
def test_what_wants_more_than_rows_in_place_goes_the_long_way(change: Change, entry: Entry) -> None:
    assert inline.folded([change], KEYS, {"public.r": (entry,)}) is None


def test_a_column_that_is_gone_is_refused() -> None:
    shorter = Relation("public", "r", R.columns[:2])
    with pytest.raises(FigError) as caught:
        inline.folded([Change("c", shorter, None, ("1", None))], KEYS, {"public.r": (WHOLE,)})
    assert caught.value.code == "incompatible_ddl"


def test_many_rows_and_other_steps_go_the_long_way() -> None:
    change = Change("c", R, None, ("1", None, None))
    assert inline.changes_of([Rows(1, [1, 2], [change, change])]) == [change, change]
    assert inline.changes_of([Rows(1, range(600), [change] * 600)]) is None
    assert inline.changes_of([SnapshotEdge(1, 0, 1, True, ("public.r",), 0)]) is None


def parsed(literal: str) -> list[str | None]:
    """An array literal of one dimension, read as PostgreSQL's manual describes it."""
    assert literal[0] == "{" and literal[-1] == "}"
    values: list[str | None] = []
    at = 1
    while at < len(literal) - 1:
        if literal[at] == '"':
            text, at = "", at + 1
            while literal[at] != '"':
                at += literal[at] == "\\"
                text += literal[at]
                at += 1
            values.append(text)
            at += 1
        else:
            end = literal.find(",", at)
            end = len(literal) - 1 if end < 0 else end
            assert literal[at:end] == "NULL"
            values.append(None)
            at = end
        at += literal[at] == ","
    return values


@given(st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)))
def test_an_array_reads_back_as_it_was_written(values: list[str | None]) -> None:
    if values:
        assert parsed(inline.array_literal(values)) == values
