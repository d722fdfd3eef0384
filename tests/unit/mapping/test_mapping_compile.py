"""The mapping compiled: both directions, what is refused and where."""

from __future__ import annotations

from typing import Any

import pytest

from stranglerfig.changes import mapping
from stranglerfig.changes.mapping import compile_mapping, identifiers, plain_column
from stranglerfig.changes.model import Direction
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases.model import Column, Table
from stranglerfig.foundation.errors import FigError


def table(name: str, *columns: Column, key: tuple[str, ...] = ("id",)) -> Table:
    return Table(
        schema="public",
        name=name,
        oid=1,
        kind="table",
        root=None,
        leaves=(),
        owner="shop",
        replica_identity="d",
        columns=columns,
        uniques=(),
        checks=(),
        identity_columns=key,
        rows=0,
        bytes=0,
        row_security=False,
    )


STOCK = {
    "public.stock": table(
        "stock",
        Column("id", "bigint", True),
        Column("quantity", "integer", True),
        Column("name", "text", True),
        Column("total", "integer", False, generated=True),
    )
}
SERVICE = {
    "public.item": table("item", Column("item_id", "bigint", True), Column("name", "text", True), key=("item_id",)),
    "public.level": table(
        "level",
        Column("item_id", "bigint", True),
        Column("on_hand", "integer", True),
        Column("seen", "boolean", False),
        Column("twice", "integer", False, generated=True),
        key=("item_id",),
    ),
}


@pytest.fixture(autouse=True)
def _primary_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that the tables were made with, however the catalogue finds it."""
    monkeypatch.setattr(Table, "primary_key", property(lambda self: self.identity_columns))


def entries(*changes: dict[str, Any]) -> list[TableMapping]:
    base: list[dict[str, Any]] = [
        {
            "from": "public.stock",
            "to": "item",
            "key": {"item_id": "id"},
            "columns": {"name": "name"},
            "reverse": {"name": "name"},
        },
        {
            "from": "public.stock",
            "to": "level",
            "key": {"item_id": "id"},
            "columns": {"on_hand": "quantity"},
            "reverse": {"quantity": "on_hand"},
            "where": "quantity is not null",
        },
    ]
    for number, change in enumerate(changes):
        base[number].update(change)
    return [TableMapping.model_validate(b) for b in base]


def test_both_directions() -> None:
    found = compile_mapping(entries(), STOCK, SERVICE)
    assert found.inputs(Direction.FORWARD) == ("public.stock",)
    assert found.outputs(Direction.FORWARD) == ("public.item", "public.level")
    assert found.inputs(Direction.REVERSE) == ("public.item", "public.level")
    assert found.roles[Direction.REVERSE] == ("public.stock",)
    assert [e.anchor for e in found.reverse] == [True, False]
    assert found.forward[1].where_needs == {"quantity"}
    assert found.forward[1].needs == {"id", "quantity"}
    assert found.reverse[1].source_key == ("item_id",)
    assert found.irreversible == {}
    found.require_reversible()


@pytest.mark.parametrize(
    ("change", "code", "place"),
    [
        ({"from": "public.gone"}, "mapping_unknown_table", "tables[0].from"),
        ({"to": "gone"}, "mapping_unknown_table", "tables[0].to"),
        ({"to": "level"}, "mapping_unknown_column", "tables[0].columns.name"),
        ({"columns": {"name": "nam"}}, "mapping_unknown_column", "tables[0].columns.name"),
        ({"columns": {"title": "name"}}, "mapping_unknown_column", "tables[0].columns.title"),
        ({"key": {"item_id": "id + 1"}}, "mapping_key_not_column", "tables[0].key.item_id"),
        ({"key": {"item_id": "quantity"}}, "mapping_key_not_unique", "tables[0].key"),
        ({"key": {"name": "id"}}, "mapping_key_not_unique", "tables[0].key"),
        ({"key": {"item_id": "name"}}, "mapping_type_mismatch", "tables[0].key.item_id"),
        ({"reverse": {"total": "item_id"}}, "mapping_generated_column", "tables[0].reverse.total"),
        ({"reverse": {"quantity": "name"}}, "mapping_type_mismatch", "tables[0].reverse.quantity"),
    ],
)
def test_what_is_refused(change: dict[str, Any], code: str, place: str) -> None:
    with pytest.raises(FigError) as refused:
        compile_mapping(entries(change), STOCK, SERVICE)
    assert refused.value.code == code
    assert refused.value.context["place"] == place
    assert refused.value.remedy


def test_a_table_or_column_that_is_filled_twice() -> None:
    with pytest.raises(FigError, match="mapping_target_twice"):
        compile_mapping([entries()[0], entries()[0]], STOCK, SERVICE)
    with pytest.raises(FigError, match="mapping_column_twice"):
        compile_mapping(entries({}, {"reverse": {"quantity": "on_hand", "name": "'x'"}}), STOCK, SERVICE)


def test_what_does_not_come_back_is_named() -> None:
    found = compile_mapping(entries({}, {"reverse": {}}), STOCK, SERVICE)
    with pytest.raises(FigError, match="mapping_not_reversible") as refused:
        found.require_reversible()
    assert refused.value.context["columns"] == ["public.stock.quantity"]
    none = compile_mapping(entries({"reverse": None}, {"reverse": None}), STOCK, SERVICE)
    assert none.irreversible == {"public.stock": ("id", "quantity", "name")}
    assert none.reverse == ()
    # what one entry leaves out, the other gives; the key needs no reverse of its own
    keyed = compile_mapping(entries({"reverse": {"id": "item_id", "name": "name"}}), STOCK, SERVICE)
    assert [a.column for a in keyed.reverse[0].columns] == ["name"]


def test_words_of_an_expression() -> None:
    text = """case when "Odd""Name" = 'quantity ''x''' then E'\\' name' else Lower($$ name $$) end -- id
    /* total */ + größe"""
    assert identifiers(text) == {"case", "when", 'Odd"Name', "then", "else", "lower", "end", "größe"}


@pytest.mark.parametrize(
    ("expression", "column"),
    [(" Name ", "name"), ('"Na""me"', 'Na"me'), ("a + b", None), ("null", None), ("'x'", None), ("f(x)", None)],
)
def test_what_is_a_plain_column(expression: str, column: str | None) -> None:
    assert plain_column(expression) == column


@pytest.mark.parametrize(
    ("type_name", "kind"),
    [
        ("numeric(10,2)", "number"),
        ("timestamp(3) with time zone", "time"),
        ("character varying(20)", "text"),
        ("integer[]", None),
        ("mood", None),
    ],
)
def test_kinds_of_types(type_name: str, kind: str | None) -> None:
    assert mapping.category(type_name) == kind


def test_values_are_compared_whole() -> None:
    assert mapping.canonical("character varying(3)") == "text"
    assert mapping.canonical("numeric(10,2)") == "numeric(10,2)"
