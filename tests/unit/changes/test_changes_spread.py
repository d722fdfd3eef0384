"""What is divided by key, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.changes.mapping import compile_mapping
from stranglerfig.changes.model import (
    UNCHANGED,
    Barrier,
    Change,
    Column,
    Direction,
    Message,
    Relation,
    SourcePosition,
    Transaction,
    is_origin_of,
    origin_of,
)
from stranglerfig.changes.settings import DerivedEvent, TableMapping
from stranglerfig.changes.spread import Divided, Router, Spread, divide_tables
from stranglerfig.databases.model import Column as TableColumn
from stranglerfig.databases.model import Table, Unique
from stranglerfig.eventlog.model import partition_of

ITEM = Relation("public", "item", (Column("id", "bigint", True), Column("name", "text")))
OTHER = Relation("public", "other", (Column("id", "bigint", True),))
SPREAD = Spread(4, {"public.item": ("id",)})


def transaction(*items: Change | Message) -> Transaction:
    return Transaction(10, 1, 0, 1, items)


def test_a_row_goes_where_its_key_says_whatever_happens_to_it() -> None:
    places = set()
    for op, before, after in (
        ("c", None, ("7", "a")),
        ("u", None, ("7", "b")),
        ("u", None, ("7", UNCHANGED)),
        ("u", ("7", "b"), ("7", "c")),  # REPLICA IDENTITY FULL
        ("u", (UNCHANGED, "x"), ("7", "c")),
        ("d", ("7", UNCHANGED), None),
    ):
        divided = Router(SPREAD).divide(transaction(Change(op, ITEM, before, after)))  # type: ignore[arg-type]
        assert divided is not None
        places |= divided.keys()
    assert places == {partition_of("7", 4)}


def test_a_table_that_is_not_divided_goes_to_the_first_partition() -> None:
    gone = Relation("public", "item", (Column("other", "text", True),))
    for relation in (OTHER, gone):
        assert Router(SPREAD).divide(transaction(Change("c", relation, None, ("8",)))) == {
            0: [Change("c", relation, None, ("8",))]
        }


@pytest.mark.parametrize(
    "item",
    [
        Message("fig.marker", "{}"),
        Change("t", OTHER, None, None),
        Change("u", ITEM, ("1", UNCHANGED), ("2", "a")),
        Change("u", ITEM, None, (UNCHANGED, "a")),
        Change("c", ITEM, None, (None, "a")),
        Change("d", ITEM, (UNCHANGED, UNCHANGED), None),
        Change("d", ITEM, None, None),
    ],
)
def test_what_has_to_be_applied_alone(item: Change | Message) -> None:
    assert Router(SPREAD).divide(transaction(Change("c", ITEM, None, ("1", "a")), item)) is None


def test_a_spread_reads_back_as_it_was_written() -> None:
    assert Spread.from_dict(SPREAD.as_dict()) == SPREAD
    assert SPREAD.over(2) == Spread(2, SPREAD.keys)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 3), st.integers(0, 3))
def test_a_barrier_is_reached_at_its_place_in_its_generation(a: int, b: int, c: int, own: int, other: int) -> None:
    barrier = Barrier(a, b, 2, generation=own)
    assert barrier.reached(other, SourcePosition(c, b)) == (other >= own and c >= a)


def test_each_partition_has_an_origin_of_its_own() -> None:
    assert [origin_of("fig_a_forward", n) for n in range(3)] == [
        "fig_a_forward",
        "fig_a_forward_p1",
        "fig_a_forward_p2",
    ]
    assert all(is_origin_of(origin_of("fig_a_forward", n), "fig_a_forward") for n in range(12))
    for name in ("fig_a_forward_p", "fig_a_forward_px", "fig_a_reverse", "fig_a_forward1", "fig_b_forward_p1"):
        assert not is_origin_of(name, "fig_a_forward")


TYPES = {"name": "text"}


def table(table_name: str, key: str, *columns: str, **more: Any) -> Table:
    found: dict[str, Any] = {
        "schema": "public",
        "name": table_name,
        "oid": 1,
        "kind": "table",
        "root": None,
        "leaves": (),
        "owner": "o",
        "replica_identity": "d",
        "columns": tuple(TableColumn(c, TYPES.get(c, "bigint"), c == key) for c in (key, *columns)),
        "uniques": (Unique(f"{table_name}_pkey", (key,), True),),
        "checks": (),
        "identity_columns": (key,),
        "rows": 0,
        "bytes": 0,
        "row_security": False,
    }
    return Table(**(found | more))


def mapped(source: str, to: str, key: dict[str, str], columns: dict[str, str], reverse: bool = True) -> TableMapping:
    back = {b: a for a, b in columns.items()} if reverse else None
    return TableMapping.model_validate({"from": source, "to": to, "key": key, "columns": columns, "reverse": back})


TWO = [
    mapped("public.item", "item", {"id": "id"}, {"name": "name"}),
    mapped("public.item", "stock", {"item_id": "id"}, {"n": "n"}),
]


def divided(
    tables: list[TableMapping],
    inputs: list[Table],
    outputs: list[Table],
    direction: Direction = Direction.FORWARD,
    excluding: tuple[str, ...] = (),
    derived: tuple[DerivedEvent, ...] = (),
) -> Divided:
    here, there = {t.qualified: t for t in inputs}, {t.qualified: t for t in outputs}
    entries = compile_mapping(tables, here, there).entries(direction)
    ends = (here, there) if direction is Direction.FORWARD else (there, here)
    return divide_tables(entries, *ends, excluding, derived)


SOURCE = [table("item", "id", "name", "n")]
TARGETS = [table("item", "id", "name"), table("stock", "item_id", "n")]


def test_tables_are_divided_by_their_mapped_key() -> None:
    assert divided(TWO, SOURCE, TARGETS) == Divided({"public.item": ("id",)}, {})


def test_tables_that_make_one_row_are_divided_alike() -> None:
    found = divided(TWO, SOURCE, TARGETS, Direction.REVERSE)
    assert found == Divided({"public.item": ("id",), "public.stock": ("item_id",)}, {})


def event(key: str) -> DerivedEvent:
    return DerivedEvent.model_validate(
        {"event": "x.Happened", "on": {"table": "public.item"}, "key": key, "data": {"id": "new.id"}}
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {
                "outputs": [
                    TARGETS[0],
                    table("stock", "item_id", "n", uniques=(*TARGETS[1].uniques, Unique("one", ("n",)))),
                ]
            },
            "one makes other",
        ),
        ({"excluding": ("public.stock",)}, "exclusion constraint"),
        ({"inputs": [table("item", "id", "name", "n", identity_columns=("name",))]}, "replica identity"),
        ({"derived": (event("new.name"),)}, "events x.Happened"),
        ({"derived": (event("new.id % 10"),)}, "events x.Happened"),
    ],
)
def test_tables_that_stay_whole(change: dict[str, Any], reason: str) -> None:
    given_ = {"tables": TWO, "inputs": SOURCE, "outputs": TARGETS} | change
    found = divided(**given_)
    assert not found.keys
    assert reason in found.whole["public.item"]


def test_events_ordered_by_the_row_s_key_do_not_keep_it_whole() -> None:
    for key in ("new.id", "new.id::text", "id", ' new."id" '):
        assert divided(TWO, SOURCE, TARGETS, derived=(event(key),)).keys


def test_what_completes_rows_of_a_table_that_stays_whole_stays_with_it() -> None:
    whole = [TARGETS[0], table("stock", "item_id", "n", identity_columns=("n",))]
    found = divided(TWO, SOURCE, whole, Direction.REVERSE)
    assert not found.keys
    assert found.whole["public.item"] == "its rows complete those of public.stock"


def test_keys_of_different_types_do_not_meet() -> None:
    note = TableColumn("item_id", "numeric", True)
    other = [TARGETS[0], table("stock", "item_id", "n", columns=(note, TableColumn("n", "bigint", False)))]
    found = divided(TWO, SOURCE, other, Direction.REVERSE)
    assert set(found.whole.values()) == {"the keys that meet in public.item have different types"}


def test_a_table_that_makes_others_as_well_is_not_joined() -> None:
    # Only by hand: a mapping has one source table per output table forward, and one output table per entry back.
    forward = compile_mapping(TWO, {"public.item": SOURCE[0]}, {t.qualified: t for t in TARGETS})
    entries = [*forward.reverse, forward.forward[1]]
    inputs = {t.qualified: t for t in (*SOURCE, *TARGETS)} | {"public.item": TARGETS[0]}
    outputs = {"public.item": SOURCE[0], "public.stock": TARGETS[1]}
    found = divide_tables(entries, inputs, outputs, ())
    assert found.whole["public.stock"].startswith("public.item is made of tables")
