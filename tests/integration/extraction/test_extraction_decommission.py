from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from stranglerfig.extraction import decommission
from stranglerfig.foundation.errors import FigError
from tests.conftest import Server

RIGHTS = "SELECT relname, relacl::text FROM pg_class WHERE relname IN ('stock', 'booking') ORDER BY 1"
TABLES = ["public.stock", "public.booking"]


@pytest.fixture
def estate(postgres: Server) -> Iterator[tuple[str, str]]:
    """A database with two tables that an application role may use, and the application's address."""
    role = postgres.role("decommission_app")
    dsn = postgres.database()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE stock (id bigint PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED)")
        conn.execute("CREATE TABLE booking (id bigint PRIMARY KEY, stock bigint REFERENCES stock, note text)")
        conn.execute("INSERT INTO stock SELECT g, g FROM generate_series(1, 50) g")
        conn.execute("INSERT INTO booking SELECT g, g, E'tab\\there' FROM generate_series(1, 20) g")
        conn.execute(f"GRANT SELECT, INSERT ON stock, booking TO {role}")  # type: ignore[arg-type]
    yield dsn, dsn.replace("postgres@", f"{role}@")


async def test_a_brown_out_takes_everybodys_rights_and_gives_exactly_them_back(estate: tuple[str, str]) -> None:
    dsn, application = estate
    with psycopg.connect(dsn) as conn:
        before = conn.execute(RIGHTS).fetchall()
    taken = await decommission.take_away(dsn, TABLES)
    with psycopg.connect(application) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT count(*) FROM stock")
    await decommission.give_back(dsn, taken)
    await decommission.give_back(dsn, taken)
    with psycopg.connect(application) as conn:
        assert conn.execute("SELECT count(*) FROM stock").fetchone() == (50,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM stock")
    with psycopg.connect(dsn) as conn:
        after = conn.execute(RIGHTS).fetchall()
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all("decommission_app=ar" in acl for _, acl in after)


async def test_retired_tables_wait_in_the_holding_schema_and_come_back(estate: tuple[str, str]) -> None:
    dsn, _ = estate
    await decommission.retire(dsn, "inventory", TABLES)
    await decommission.retire(dsn, "inventory", TABLES)
    assert set(await decommission.sizes(dsn, [decommission.held(t, "inventory") for t in TABLES])) == {
        "fig_holding_inventory.stock",
        "fig_holding_inventory.booking",
    }
    assert await decommission.sizes(dsn, TABLES) == {}
    await decommission.restore(dsn, "inventory", TABLES)
    assert set(await decommission.sizes(dsn, TABLES)) == set(TABLES)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT to_regnamespace('fig_holding_inventory')").fetchone() == (None,)


async def test_the_archive_can_be_read_back(estate: tuple[str, str], tmp_path: Path) -> None:
    dsn, _ = estate
    written = await decommission.archive(dsn, TABLES, tmp_path)
    assert [(entry["table"], entry["rows"]) for entry in written] == [("public.stock", 50), ("public.booking", 20)]
    with gzip.open(tmp_path / "public.booking.copy.gz", "rb") as file:
        header, *lines = file.read().splitlines()
    assert header == b"id\tstock\tnote"
    assert len(lines) == 20
    with gzip.open(tmp_path / "public.stock.copy.gz", "rb") as file:
        assert file.readline() == b"id\tn\n"  # a generated column is not data


async def test_nothing_is_dropped_while_something_depends_on_it(estate: tuple[str, str]) -> None:
    dsn, _ = estate
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE VIEW low AS SELECT id FROM stock WHERE n < 5")
    await decommission.retire(dsn, "inventory", TABLES)
    held = [decommission.held(t, "inventory") for t in TABLES]
    with pytest.raises(FigError) as refused:
        await decommission.drop(dsn, "inventory", held)
    assert refused.value.code == "still_depended_on"
    assert len(await decommission.sizes(dsn, held)) == 2
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP VIEW low")
    await decommission.drop(dsn, "inventory", held)
    assert await decommission.sizes(dsn, held) == {}


async def test_watching_names_who_still_reads_and_what_depends(estate: tuple[str, str]) -> None:
    dsn, application = estate
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE VIEW low AS SELECT id FROM stock WHERE n < 5")
    with psycopg.connect(application, application_name="shop:reports") as reader:
        reader.execute("SELECT count(*) FROM stock")  # its transaction stays open: the lock is seen
        found = await decommission.watch(dsn, TABLES, 0.2)
    assert {(user["application"], user["table"]) for user in found["users"]} == {("shop:reports", "public.stock")}
    assert {"kind": "view", "name": "low", "on": "stock"} in found["dependents"]


async def test_a_table_that_somebody_holds_is_not_waited_for_in_the_queue(
    estate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn, application = estate

    async def at_once(_: float) -> None:
        return None

    monkeypatch.setattr(decommission.asyncio, "sleep", at_once)
    monkeypatch.setattr(decommission, "TRIES", 3)
    with psycopg.connect(application) as reader:
        reader.execute("SELECT count(*) FROM stock")
        with pytest.raises(FigError) as refused:
            await decommission.retire(dsn, "inventory", TABLES)
    assert refused.value.code == "tables_locked"


async def test_load_is_measured_as_rates(estate: tuple[str, str]) -> None:
    dsn, _ = estate
    found = await decommission.load(dsn, 0.1)
    assert found.seconds >= 0.1
    assert found.transactions >= 0


def test_code_is_counted_without_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n\n\ny = 2\n")
    (tmp_path / "b.sql").write_text("SELECT 1\n")
    assert decommission.code_size(tmp_path, ["*.py", "*.sql"]) == {"files": 2, "lines": 3}
