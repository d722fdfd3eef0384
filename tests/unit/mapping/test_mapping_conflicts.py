"""Rules for rows that both sides change: what they compile to, and what is refused and where."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stranglerfig.changes.conflicts import Settlement, compile_conflicts
from stranglerfig.changes.mapping import compile_mapping
from stranglerfig.changes.model import Direction
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases.model import Column, Table, Unique
from stranglerfig.extraction.both import identity_findings, versioned
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation.errors import FigError


def table(name: str, *columns: Column, identity: str = "f") -> Table:
    return Table(
        schema="public",
        name=name,
        oid=1,
        kind="table",
        root=None,
        leaves=(),
        owner="shop",
        replica_identity=identity,
        columns=columns,
        uniques=(Unique(f"{name}_pkey", (columns[0].name,), primary=True),),
        checks=(),
        identity_columns=(),
        rows=0,
        bytes=0,
    )


def counted(**types: str) -> list[Column]:
    return [Column(name, kind, True) for name, kind in types.items()]


MONOLITH = {
    "public.stock": table("stock", *counted(id="bigint", quantity="integer", weight="real", name="text")),
    "public.labels": table("labels", *counted(code="text", title="text")),
}
SERVICE = {
    "public.item": table("item", *counted(id="bigint", name="text")),
    "public.level": table(
        "level",
        *counted(id="integer", on_hand="integer", weight="real", twice="integer"),
        Column("loose", "integer", False),
    ),
    "public.label": table("label", *counted(code="text", title="text")),
}
ITEM: dict[str, Any] = {
    "from": "public.stock",
    "to": "item",
    "key": {"id": "id"},
    "columns": {"name": "name"},
    "reverse": {"name": "name"},
}
LEVEL: dict[str, Any] = {
    "from": "public.stock",
    "to": "level",
    "key": {"id": "id"},
    "columns": {"on_hand": "quantity", "weight": "weight"},
    "reverse": {"quantity": "on_hand", "weight": "weight"},
}
LABEL: dict[str, Any] = {
    "from": "public.labels",
    "to": "label",
    "key": {"code": "code"},
    "columns": {"title": "title"},
    "reverse": {"title": "title"},
    "conflicts": {"rule": "later commit wins"},
}


def settle(*tables: dict[str, Any], service: dict[str, Table] | None = None) -> dict[str, Settlement]:
    there = SERVICE | (service or {})
    parsed = [TableMapping.model_validate(t) for t in tables]
    return compile_conflicts(parsed, compile_mapping(parsed, MONOLITH, there), MONOLITH, there)


def test_a_rule_of_a_table_alone_settles_rows_made_and_removed_as_well() -> None:
    found = settle(ITEM, LEVEL | {"conflicts": {"delta": ["on_hand"]}}, LABEL)
    assert found["public.label"].rule == "later commit wins" and found["public.label"].existence
    # Of two tables that make one row none settles that, nor where something is counted.
    assert [found[f"public.{name}"].existence for name in ("item", "level")] == [False, False]
    level = found["public.level"]
    assert (level.rule, dict(level.delta)) == (
        None,
        {Direction.FORWARD: frozenset({"on_hand"}), Direction.REVERSE: frozenset({"quantity"})},
    )


def test_what_is_versioned_is_what_the_other_side_reads() -> None:
    parsed = [TableMapping.model_validate(t) for t in (ITEM, LEVEL | {"conflicts": {"delta": ["on_hand"]}}, LABEL)]
    mapping = compile_mapping(parsed, MONOLITH, SERVICE)
    left, right = versioned(mapping, compile_conflicts(parsed, mapping, MONOLITH, SERVICE))
    assert [(v.table, v.pair, v.key, v.columns, v.counted) for v in (left[1], right[1])] == [
        ("public.stock", "public.level", ("id",), ("quantity", "weight"), ("quantity",)),
        ("public.level", "public.level", ("id",), ("on_hand", "weight"), ("on_hand",)),
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"conflicts": {"delta": ["nothing"]}}, "is no mapped column"),
        ({"conflicts": {"delta": ["weight"]}}, "is no exact number"),
        (
            {"columns": {"on_hand": "quantity + 0", "weight": "weight"}, "conflicts": {"delta": ["on_hand"]}},
            "not a plain",
        ),
        (
            {"reverse": {"quantity": "on_hand * 1", "weight": "weight"}, "conflicts": {"delta": ["on_hand"]}},
            "not a plain",
        ),
        (
            {
                "columns": {"on_hand": "quantity", "twice": "quantity * 2", "weight": "weight"},
                "conflicts": {"delta": ["on_hand"]},
            },
            "read by another expression",
        ),
        (
            {
                "columns": {"loose": "quantity", "weight": "weight"},
                "reverse": {"quantity": "loose", "weight": "weight"},
                "conflicts": {"delta": ["loose"]},
            },
            "may be null",
        ),
    ],
)
def test_what_cannot_be_counted_is_refused_with_its_place(change: dict[str, Any], says: str) -> None:
    with pytest.raises(FigError) as refused:
        settle(ITEM, LEVEL | change)
    assert refused.value.code == "conflict_rule_refused"
    assert refused.value.message.startswith("tables[1].conflicts.delta: public.level.")
    assert says in refused.value.message


def test_an_entry_without_a_way_back_and_a_key_of_two_kinds_are_refused() -> None:
    one_way = {k: v for k, v in LEVEL.items() if k != "reverse"}
    whole = ITEM | {"reverse": {"name": "name", "quantity": "0", "weight": "0"}}
    with pytest.raises(FigError) as refused:
        settle(whole, one_way)
    assert refused.value.code == "mapping_not_reversible"
    with pytest.raises(FigError) as refused:
        settle(LABEL, service={"public.label": table("label", *counted(code="character(3)", title="text"))})
    assert refused.value.code == "bidirectional_key"


def test_tables_that_do_not_send_old_rows_are_named_with_the_statement() -> None:
    assert list(identity_findings(SERVICE["public.item"])) == []
    [finding] = identity_findings(table("item", *counted(id="bigint"), identity="d"))
    assert finding.statements == ('ALTER TABLE "public"."item" REPLICA IDENTITY FULL',)


SETTINGS: dict[str, Any] = {
    "context": "stock",
    "service": {"url": "http://127.0.0.1:1", "database": {"env": "X"}},
    "routes": {"writes": [{"path": "/x", "methods": ["POST"]}]},
    "remaining_writers": "bidirectional",
    "tables": [LABEL],
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"remaining_writers": "refuse"}, "tables[0].conflicts needs remaining_writers: bidirectional"),
        ({"partitions": 2}, "needs partitions: 1"),
        ({"capture": "debezium"}, "needs capture: native"),
        ({"tables": [LABEL | {"where": "title is not null"}]}, "tables[0].where cannot be combined"),
        ({"tables": [LABEL | {"conflicts": {"rule": "last one wins"}}]}, "service wins"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(change: dict[str, Any], says: str) -> None:
    assert ExtractionSettings.model_validate(SETTINGS).both_write
    with pytest.raises(ValidationError) as refused:
        ExtractionSettings.model_validate(SETTINGS | change)
    assert says in str(refused.value)
