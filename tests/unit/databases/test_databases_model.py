"""Facts about databases, and what preflight judges of them, without a database."""

from __future__ import annotations

import pytest

from stranglerfig.databases import model, preflight
from stranglerfig.databases.catalogue import crossing
from stranglerfig.databases.model import Check, Column, Finding, ForeignKey, Ownership, Sequence, Table, Trigger, Unique


def table(name: str, columns: list[Column], uniques: list[Unique], checks: list[Check] | None = None) -> Table:
    return Table(
        schema="public",
        name=name,
        oid=1,
        kind="table",
        root=None,
        leaves=(),
        owner="shop",
        replica_identity="d",
        columns=tuple(columns),
        uniques=tuple(uniques),
        checks=tuple(checks or []),
        identity_columns=("id",),
        rows=-1,
        bytes=0,
    )


INVENTORY = table(
    "inventory",
    [
        Column("id", "bigint", True),
        Column("sku", "character varying(20)", True),
        Column("price", "numeric(10,2)", False),
        Column("quantity", "integer", True),
    ],
    [
        Unique("inventory_pkey", ("id",), primary=True),
        Unique("sku_key", ("sku",)),
        Unique("part", ("sku",), plain=False),
    ],
    [Check("quantity_check", "(quantity >= 0)")],
)
COLUMNS = {"item_id": "id", "sku": "sku", "price": "price", "on_hand": "quantity"}


def findings(target: Table) -> set[str]:
    pairs = [
        preflight.Pair("public.inventory", "public.item", COLUMNS),
        preflight.Pair("public.gone", "public.item", {}),
    ]
    found = preflight.constraint_findings({"public.inventory": INVENTORY}, {"public.item": target}, pairs)
    return {str(finding.context["constraint"]) for finding in found}


def test_a_target_that_enforces_all_that_the_source_does() -> None:
    target = table(
        "item",
        [
            Column("item_id", "bigint", True),
            Column("sku", "character varying(16)", True),
            Column("price", "numeric(9,2)", False),
            Column("on_hand", "integer", True),
        ],
        [Unique("item_pkey", ("item_id",), primary=True), Unique("sku", ("sku",))],
        [Check("on_hand_check", "((on_hand >= (0)::integer))")],
    )
    assert findings(target) == set()


def test_a_target_that_enforces_nothing_is_told_each_constraint() -> None:
    target = table(
        "item",
        [
            Column("item_id", "bigint", False),
            Column("sku", "text", False),
            Column("price", "numeric(12,4)", False),
            Column("on_hand", "integer", False),
        ],
        [],
    )
    assert findings(target) == {
        "public.inventory.id.not_null",
        "public.inventory.sku.not_null",
        "public.inventory.quantity.not_null",
        "public.inventory.sku.type",
        "public.inventory.price.type",
        "public.inventory.inventory_pkey",
        "public.inventory.sku_key",
        "public.inventory.quantity_check",
    }


def test_settings_of_a_server() -> None:
    assert preflight.server_findings("logical", "1GB", 3, 3) == []
    found = [finding.code for finding in preflight.server_findings("replica", "-1", 0, 0)]
    assert found == ["wal_level", "no_free_replication_slots", "no_free_wal_senders", "wal_retention_unlimited"]


def test_grants_are_listed_once() -> None:
    finding = Finding("a", "refuse", "m", "r", {}, ("GRANT x", "GRANT y"))
    assert preflight.grants([finding, finding]) == ["GRANT x", "GRANT y"]
    assert finding.as_dict()["statements"] == ("GRANT x", "GRANT y")


def test_foreign_keys_across_the_boundary_are_accepted_by_name() -> None:
    key = ForeignKey("fk", "public.orders", ("item",), "public.inventory", ("id",), "FOREIGN KEY …")
    inner = ForeignKey("fk", "public.moves", ("item",), "public.inventory", ("id",), "FOREIGN KEY …")
    across = crossing([key, inner], ["inventory", "public.moves"])
    assert across == [key]
    assert preflight.foreign_key_findings(across, [])[0].severity == "refuse"
    assert preflight.foreign_key_findings(across, ["public.orders.fk"])[0].severity == "warn"


def test_disabled_triggers_are_no_finding() -> None:
    triggers = [
        Trigger("public.a", "t", "…", "D"),
        Trigger("public.a", "u", "…", "A"),
        Trigger("public.a", "v", "…", "O"),
    ]
    messages = [finding.message for finding in preflight.trigger_findings(triggers, "forward")]
    assert len(messages) == 2
    assert "fires" in messages[0]
    assert "does not fire" in messages[1]


def test_sequences_owned_and_not() -> None:
    sequences = [Sequence("public.s", "public.t", "id", owned, 1, 1, None) for owned in (True, False)]
    assert [finding.code for finding in preflight.sequence_findings(sequences)] == ["sequence", "unowned_sequence"]


@pytest.mark.parametrize(
    ("target", "source", "increment", "expected"),
    [
        (None, 100, 1, 1010),
        (5000, 100, 1, 5000),
        (200, 100, 2, 1920),
        (None, -100, -1, -1010),
        (-5000, -100, -1, -5000),
    ],
)
def test_where_a_target_sequence_goes_on(target: int | None, source: int, increment: int, expected: int) -> None:
    start = model.sequence_start(target, source, cache=8, sessions=100, margin=110, increment=increment)
    assert start == expected


def test_names_and_rows() -> None:
    assert model.split_name("inventory") == ("public", "inventory")
    assert model.split_name("stock.inventory") == ("stock", "inventory")
    assert INVENTORY.column("none") is None
    assert INVENTORY.primary_key == ("id",)
    assert table("bare", [], []).primary_key == ()
    row = Ownership("inventory", "monolith", "intent", 1, None, True)
    assert row.writable
    assert row.as_dict()["state"] == "intent"
