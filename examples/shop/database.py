"""Set-up of the estate's two databases: roles, tables, grants, seed. Deterministic by number of items and seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from examples.shop.catalogue.app import Catalogue
from examples.shop.checkout.app import made
from examples.shop.service.service import Inventory
from stranglerfig.foundation.sql import load
from stranglerfig.runtime.embedded import EmbeddedPostgres

HERE = Path(__file__).parent
SHOP_TABLES = ("inventory", "reservations", "inventory_requests")
INVENTORY_TABLES = ("inventory_item", "stock_level", "reservation", "processed_request")
Progress = Callable[[str, int, float], None]


def initial_quantity(item_id: int, seed: int) -> int:
    """What ``seed.sql`` gives an item: where the ledger's sums begin."""
    return 200 + (item_id * 7919 + seed) % 800


def _once(server: EmbeddedPostgres, role: str, script: Path) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        if not conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
            conn.execute(script.read_bytes())


def create_shop(server: EmbeddedPostgres, *, items: int, seed: int, progress: Progress | None = None) -> str:
    """The monolith's database ``shop`` with its roles, tables and ``items`` items; returns the administrator's DSN."""
    _once(server, "shop_owner", HERE / "monolith" / "roles.sql")
    server.create_database("shop", owner="shop_owner")
    seed_shop(server.dsn("shop"), items=items, seed=seed, progress=progress)
    return server.dsn("shop")


def seed_shop(dsn: str, *, items: int, seed: int, progress: Progress | None = None) -> None:
    """Create and fill the shop's tables, as their owner; does nothing when they are there."""
    statements = load("examples.shop.monolith", "seed.sql")
    names = ("products", "customers", "orders", "order_lines", "payments", "inventory", "reservations", "sequences")
    with psycopg.connect(dsn, autocommit=True) as conn:
        if conn.execute("SELECT to_regclass('public.products')").fetchone() != (None,):
            return
        conn.execute("SET ROLE shop_owner")
        conn.execute((HERE / "monolith" / "schema.sql").read_bytes())
        for number, name in enumerate((*names, "analyze"), start=1):
            rows = conn.execute(getattr(statements, name), {"items": items, "seed": seed}).rowcount
            if progress:
                progress(name, rows, number / (len(names) + 1))


def create_inventory(server: EmbeddedPostgres) -> str:
    """The service's database ``inventory``, empty; returns the administrator's DSN."""
    _create(server, "inventory", HERE / "service", "stock_level")
    asyncio.run(Inventory(server.dsn("inventory")).migrate())
    return server.dsn("inventory")


def create_catalogue(server: EmbeddedPostgres) -> str:
    """CatalogueService's database ``catalogue``, empty; returns the administrator's DSN."""
    _create(server, "catalogue", HERE / "catalogue", "product")
    asyncio.run(Catalogue(server.dsn("catalogue")).migrate())
    return server.dsn("catalogue")


def _create(server: EmbeddedPostgres, name: str, folder: Path, table: str) -> None:
    """A service's database by its scripts, once."""
    _once(server, f"{name}_owner", folder / "roles.sql")
    server.create_database(name, owner=f"{name}_owner")
    with psycopg.connect(server.dsn(name), autocommit=True) as conn:
        if conn.execute("SELECT to_regclass(%s)", (f"public.{table}",)).fetchone() == (None,):
            conn.execute(f"SET ROLE {name}_owner".encode())
            conn.execute((folder / "schema.sql").read_bytes())


def create_checkout(server: EmbeddedPostgres) -> str:
    """The database ``checkout`` of the service that runs checkouts; returns its own role's DSN."""
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        if not conn.execute("SELECT 1 FROM pg_roles WHERE rolname = 'checkout'").fetchone():
            conn.execute("CREATE ROLE checkout LOGIN")
    server.create_database("checkout", owner="checkout")
    asyncio.run(made(server.dsn("checkout", "checkout")).migrate())
    return server.dsn("checkout", "checkout")


def grant(server: EmbeddedPostgres, database: str) -> str:
    """Give the role ``fig`` what ``grants.sql`` says in one of the two databases; returns its DSN."""
    with psycopg.connect(server.dsn(database), autocommit=True) as conn:
        if not conn.execute("SELECT 1 FROM pg_roles WHERE rolname = 'fig'").fetchone():
            conn.execute("CREATE ROLE fig LOGIN REPLICATION")
        text = (HERE / "estate" / "grants.sql").read_text()
        conn.execute(text.replace(":database", database).replace(":owner", f"{database}_owner").encode())
    return server.dsn(database, "fig")


def send_old_rows(server: EmbeddedPostgres, database: str, tables: Sequence[str]) -> None:
    """What ``fig plan`` asks for where both sides write: the statements that it lists, run by the team."""
    with psycopg.connect(server.dsn(database), autocommit=True) as conn:
        for table in tables:
            conn.execute(sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(sql.Identifier(table)))
