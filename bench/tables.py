"""The tables that are moved: the scenario's inventory, and its two mappings."""

from __future__ import annotations

from typing import Any

import psycopg

INVENTORY = """
CREATE TABLE inventory (
    item_id bigint PRIMARY KEY, sku text NOT NULL, name text NOT NULL, quantity integer NOT NULL,
    reserved integer NOT NULL DEFAULT 0, reorder_level integer NOT NULL DEFAULT 0, updated_at timestamptz NOT NULL)
"""
SERVICE = """
CREATE TABLE inventory_item (
    item_id bigint PRIMARY KEY, sku text NOT NULL, name text NOT NULL, reorder_level integer NOT NULL);
CREATE TABLE stock_level (
    item_id bigint PRIMARY KEY REFERENCES inventory_item, on_hand integer NOT NULL CHECK (on_hand >= 0),
    reserved integer NOT NULL CHECK (reserved >= 0), updated_at timestamptz NOT NULL)
"""
_COLUMNS = ("sku", "name", "quantity", "reserved", "reorder_level", "updated_at")
ONE_TO_ONE: list[dict[str, Any]] = [
    {
        "from": "public.inventory",
        "to": "inventory",
        "key": {"item_id": "item_id"},
        "columns": {column: column for column in _COLUMNS},
    }
]
SCENARIO: list[dict[str, Any]] = [
    {
        "from": "public.inventory",
        "to": "inventory_item",
        "key": {"item_id": "item_id"},
        "columns": {"sku": "sku", "name": "name", "reorder_level": "reorder_level"},
    },
    {
        "from": "public.inventory",
        "to": "stock_level",
        "key": {"item_id": "item_id"},
        "columns": {"on_hand": "quantity", "reserved": "reserved", "updated_at": "updated_at"},
    },
]


def fill(dsn: str, rows: int) -> None:
    """The inventory with ``rows`` items, as a database at rest has it: vacuumed and on disk."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(INVENTORY)
        conn.execute(
            "INSERT INTO inventory SELECT n, 'SKU-' || lpad(n::text, 8, '0'), 'Item number ' || n,"
            " 200 + n::bigint * 7919 %% 800, n %% 7, 20, timestamptz '2026-01-01' + n * interval '1 second'"
            " FROM generate_series(1, %s) AS n",
            (rows,),
        )
        settle(dsn)


def settle(*dsns: str) -> None:
    """Finish the writing that earlier steps left behind, so that it is not charged to the next."""
    for dsn in dsns:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE")
            conn.execute("CHECKPOINT")


def execute(dsn: str, *statements: str) -> None:
    """Run statements."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement)


def same(one: str, other: str, table: str = "inventory") -> bool:
    """Whether two databases hold the same rows of a table."""
    query = f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {table} AS t"
    found = []
    for dsn in (one, other):
        with psycopg.connect(dsn, autocommit=True) as conn:
            found.append(conn.execute(query).fetchone())
    return found[0] == found[1]
