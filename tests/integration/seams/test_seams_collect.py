"""What a real PostgreSQL and a real git say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams import history
from stranglerfig.seams import postgres as catalogue
from stranglerfig.seams.collect import collect
from stranglerfig.seams.model import Evidence, Use
from tests.conftest import Server

SCHEMA = """
CREATE SCHEMA crm;
CREATE TABLE crm.customers (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id bigint, part int, customer_id bigint REFERENCES crm.customers, PRIMARY KEY (id, part))
    PARTITION BY LIST (part);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES IN (1);
CREATE TABLE audit (at timestamptz, said text);
CREATE TABLE totals (id bigint PRIMARY KEY, cents numeric(12, 2));
CREATE VIEW spent AS SELECT c.name, o.id FROM orders o JOIN crm.customers c ON c.id = o.customer_id;
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE seen bigint;
BEGIN
    SELECT count(*) INTO seen FROM totals WHERE id = NEW.id;
    IF seen = 0 THEN
        INSERT INTO audit (at, said) VALUES (now(), 'new');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER noted AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION noted();
CREATE FUNCTION sum_up(of bigint) RETURNS void LANGUAGE sql AS
    'UPDATE totals SET cents = cents + 1 WHERE id IN (SELECT id FROM orders WHERE id = of)';
CREATE FUNCTION newer(of bigint) RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM crm.customers WHERE id > of);
"""


def use(found: Evidence, name: str) -> Use:
    return next(each for each in found.uses if each.name == name)


@pytest.fixture
def database(postgres: Server) -> str:
    dsn = postgres.database()
    with psycopg.connect(dsn) as conn:
        conn.execute(SCHEMA)
    return dsn


async def test_the_catalogue_ties_tables_together(database: str) -> None:
    found = await catalogue.collect(database)
    assert {table.name for table in found.tables} == {"audit", "crm.customers", "orders", "totals"}
    orders = next(table for table in found.tables if table.name == "orders")
    assert orders.key == ("id", "part") and [column.type for column in orders.columns] == [
        "bigint",
        "integer",
        "bigint",
    ]
    assert [column.optional for column in orders.columns] == [False, False, True]
    (key,) = found.references
    assert (key.table, key.target) == ("orders", "crm.customers")
    assert key.where == "orders_customer_id_fkey: FOREIGN KEY (customer_id) REFERENCES crm.customers(id)"
    assert use(found, "spent").reads == {"orders", "crm.customers"}
    trigger = use(found, "noted")
    assert (trigger.reads, trigger.writes) == ({"totals"}, {"audit", "orders"})
    assert trigger.where == "function noted, trigger on orders"
    assert (use(found, "sum_up").reads, use(found, "sum_up").writes) == ({"orders"}, {"totals"})
    assert use(found, "newer").reads == {"crm.customers"}
    assert [(each.source, each.state) for each in found.coverage] == [("catalogue", "read"), ("statements", "absent")]
    assert "4 tables, 1 foreign keys, 1 views, 3 routines" in found.coverage[0].said


async def test_what_was_not_asked_is_said_and_an_empty_database_is_refused(database: str, postgres: Server) -> None:
    found = await collect(database, None, None)
    assert {each.source: each.state for each in found.coverage} == {
        "catalogue": "read",
        "statements": "absent",
        "transactions": "not asked",
        "traces": "not asked",
        "traffic": "not asked",
        "python": "not asked",
        "git": "not asked",
    }
    with pytest.raises(FigError) as refused:
        await collect(postgres.database(), None, None)
    assert refused.value.code == "no_evidence"


async def test_tables_of_the_sources_that_the_database_does_not_have_are_left_out(
    database: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text("ONE = 'SELECT * FROM totals'\nTWO = 'SELECT * FROM gone'\n")
    with_database = await collect(database, tmp_path, None)
    assert "gone" not in {table.name for table in with_database.tables}
    assert [each.tables for each in with_database.of("module")] == [{"totals"}]
    without = await collect(None, tmp_path, None)
    assert [table.name for table in without.tables] == ["gone", "totals"]


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


async def test_sources_of_several_languages_are_read_together(database: str, tmp_path: Path) -> None:
    with pytest.raises(FigError) as refused:
        await collect(database, tmp_path, None)
    assert refused.value.code == "no_sources"
    (tmp_path / "A.java").write_text(
        '@Entity @Table(name = "CUSTOMERS") class Customer {}'
        'class A { JdbcTemplate t; void a() { t.update("DELETE FROM Audit"); } }'
    )
    found = await collect(database, tmp_path, None)
    assert [each.writes for each in found.of("module")] == [{"audit"}]
    assert "python" not in {each.source for each in found.coverage}
    (tmp_path / "b.py").write_text("B = 'SELECT * FROM totals'\n")
    found = await collect(database, tmp_path, None)
    assert {each.name for each in found.of("module")} == {"A.java", "b.py"}
    assert {"python", "java"} <= {each.source for each in found.coverage}


async def test_without_the_parser_java_is_said_not_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tree_sitter_java", None)
    (tmp_path / "A.java").write_text("@Entity class A {}")
    with pytest.raises(FigError) as refused:
        await collect(None, tmp_path, None)
    assert refused.value.code == "backend_not_installed" and "stranglerfig[java]" in refused.value.remedy
    (tmp_path / "b.py").write_text("B = 'SELECT * FROM totals'\n")
    found = await collect(None, tmp_path, None)
    said = next(each for each in found.coverage if each.source == "java")
    assert said.state == "absent" and said.said.startswith("1 files are not read: the parser for Java is not installed")


async def test_modules_that_change_together(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "src").mkdir()
    for number, files in enumerate((("a.py", "b.py"), ("a.py",), ("b.py", "c.java"))):
        for name in files:
            (tmp_path / "src" / name).write_text(f"X = {number}\n")
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "--quiet", "-m", f"Change {number}")
    found = await history.collect(tmp_path / "src", (tmp_path / "src").resolve())
    assert [(each.subject, sorted(each.modules)) for each in found.commits] == [
        ("Change 2", ["b.py", "c.java"]),
        ("Change 0", ["a.py", "b.py"]),
    ]


async def test_a_folder_outside_of_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FigError) as refused:
        await history.collect(tmp_path, tmp_path)
    assert refused.value.code == "no_git" and "not a git repository" in refused.value.message
