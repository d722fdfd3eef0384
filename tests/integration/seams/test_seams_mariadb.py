"""What a real MariaDB says: its catalogue, and the statements that it counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from examples.servers.mariadb import MariaDB
from stranglerfig.foundation.errors import FigError
from stranglerfig.seams import mariadb as catalogue
from stranglerfig.seams.collect import collect
from stranglerfig.seams.model import Evidence, Use
from stranglerfig.seams.transactions import Bounds
from tests.conftest import MonolithOnMariaDB

SCHEMA = """
CREATE TABLE customers (id bigint PRIMARY KEY, name varchar(80) NOT NULL, born date);
CREATE TABLE orders (id bigint, part int, customer bigint, PRIMARY KEY (id, part),
    CONSTRAINT placed_by FOREIGN KEY (customer) REFERENCES customers (id));
CREATE TABLE order_lines (order_id bigint, part int, n int,
    CONSTRAINT line_of FOREIGN KEY (order_id, part) REFERENCES orders (id, part));
CREATE TABLE audit (said text);
CREATE TABLE totals (id bigint PRIMARY KEY, cents bigint) WITH SYSTEM VERSIONING;
CREATE TABLE elsewhere (account bigint REFERENCES other.accounts (id));
CREATE VIEW spent AS SELECT c.name, o.id FROM orders o JOIN customers c ON c.id = o.customer;
CREATE TRIGGER noted AFTER INSERT ON orders FOR EACH ROW BEGIN
    DECLARE seen bigint;
    SELECT count(*) INTO seen FROM totals WHERE id = NEW.id;
    IF seen = 0 THEN INSERT INTO audit (said) VALUES ('new'); END IF;
END;
CREATE PROCEDURE sum_up(of_order bigint) BEGIN
    UPDATE totals SET cents = cents + 1 WHERE id IN (SELECT order_id FROM order_lines WHERE order_id = of_order);
END;
CREATE FUNCTION newer(of_order bigint) RETURNS bigint READS SQL DATA RETURN (SELECT count(*) FROM customers);
"""


def made(server: MariaDB | MonolithOnMariaDB, name: str) -> None:
    port = server.port if isinstance(server, MariaDB) else server.server.port
    conn = pymysql.connect(host="127.0.0.1", port=port, user="fig", password="fig", autocommit=True)
    with conn, conn.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {name}")
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {name}_other")
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {name}_other.accounts (id bigint PRIMARY KEY)")
        cursor.execute(f"USE {name}")
        for statement in SCHEMA.replace("other.accounts", f"{name}_other.accounts").split(";\nCREATE"):
            cursor.execute(statement if statement.lstrip().startswith("CREATE") else f"CREATE{statement}")


def use(found: Evidence, name: str) -> Use:
    return next(each for each in found.uses if each.name == name)


@pytest.fixture
def database(mariadb: MonolithOnMariaDB) -> str:
    name = mariadb.database()
    made(mariadb, name)
    return name


async def test_the_catalogue_ties_tables_together(mariadb: MonolithOnMariaDB, database: str) -> None:
    found = await catalogue.collect(mariadb.server.url(database))
    tables = {table.name: table for table in found.tables}
    assert set(tables) == {"customers", "orders", "order_lines", "audit", "totals", "elsewhere"}
    assert tables["orders"].key == ("id", "part") and tables["audit"].key == ()
    said = [(column.name, column.type, column.optional) for column in tables["customers"].columns]
    assert said == [("id", "bigint(20)", False), ("name", "varchar(80)", False), ("born", "date", True)]
    assert sorted((r.table, r.target, r.where) for r in found.references) == [
        ("order_lines", "orders", "line_of: FOREIGN KEY (order_id, part) REFERENCES orders(id, part)"),
        ("orders", "customers", "placed_by: FOREIGN KEY (customer) REFERENCES customers(id)"),
    ]
    assert use(found, "spent").reads == {"orders", "customers"}
    trigger = use(found, "noted")
    assert (trigger.reads, trigger.writes, trigger.where) == (
        {"totals"},
        {"audit", "orders"},
        "trigger noted on orders",
    )
    procedure = use(found, "sum_up")
    assert (procedure.reads, procedure.writes, procedure.where) == ({"order_lines"}, {"totals"}, "procedure sum_up")
    assert use(found, "newer").reads == {"customers"}
    assert {each.source: (each.state, each.said) for each in found.coverage} == {
        "catalogue": (
            "partly",
            "6 tables, 2 foreign keys, 1 views, 2 routines, 1 triggers of a MariaDB;"
            " 1 foreign keys lead to other databases",
        ),
        "statements": ("absent", "performance_schema is off in this server: which statements ran is not known"),
    }


async def test_a_view_or_routine_that_may_not_be_seen_is_counted(mariadb: MonolithOnMariaDB, database: str) -> None:
    with mariadb.session() as conn, conn.cursor() as cursor:
        cursor.execute(f"CREATE USER reader_{database}@'127.0.0.1' IDENTIFIED BY 'r'")
        cursor.execute(f"GRANT SELECT, EXECUTE ON {database}.* TO reader_{database}@'127.0.0.1'")
    dsn = mariadb.server.url(database, user=f"reader_{database}", password="r")
    found = await catalogue.collect(dsn)
    assert len(found.tables) == 6
    assert "of 3 views or routines the account may not see the text" in found.coverage[0].said


async def test_sources_and_catalogue_together_and_no_sample(
    mariadb: MonolithOnMariaDB, database: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text("X = 'SELECT * FROM totals JOIN gone USING (id)'\nY = 'DELETE FROM audit'\n")
    found = await collect(mariadb.server.url(database), tmp_path, None, Bounds(1.0))
    assert [sorted(each.tables) for each in found.of("module")] == [["audit", "totals"]]
    states = {each.source: each.state for each in found.coverage}
    assert (states["catalogue"], states["transactions"], states["python"]) == ("partly", "absent", "read")


async def test_an_empty_database_is_refused_and_one_that_is_away_said(mariadb: MonolithOnMariaDB) -> None:
    with pytest.raises(FigError) as refused:
        await collect(mariadb.server.url(mariadb.database()), None, None)
    assert refused.value.code == "no_evidence"
    with pytest.raises(FigError) as refused:
        await collect("mysql://fig:fig@127.0.0.1:1/shop", None, None)
    assert refused.value.code == "database_unreachable"


@pytest.fixture
def counting(tmp_path: Path, begin: Callable[[Callable[[], None]], None]) -> Iterator[MariaDB]:
    """A server that counts its statements."""
    server = MariaDB(tmp_path / "counting", performance_schema="ON")
    begin(server.start)
    yield server
    server.stop()


async def test_statements_that_the_server_counted(counting: MariaDB) -> None:
    made(counting, "shop")
    conn = pymysql.connect(host="127.0.0.1", port=counting.port, user="fig", password="fig", database="shop")
    with conn, conn.cursor() as cursor:
        for number in range(7):
            cursor.execute(
                "SELECT o.id, c.name FROM orders o JOIN `shop`.customers c ON c.id = o.customer"
                " WHERE o.id IN (1, 2, 3) AND c.name = %s",
                (f"n{number}",),
            )
        cursor.execute("INSERT INTO audit SELECT name FROM customers WHERE id > 5 LIMIT 3")
        cursor.execute("INSERT INTO order_lines VALUES (NULL, 1, 1), (NULL, 2, 2)")
    found = await catalogue.collect(counting.url("shop"))
    counted = {(each.reads, each.writes): each.times for each in found.of("statement")}
    assert counted[frozenset({"orders", "customers"}), frozenset()] == 7
    assert counted[frozenset({"customers"}), frozenset({"audit"})] == 1
    (said,) = (each for each in found.coverage if each.source == "statements")
    assert said.state == "read", said.said


async def test_counted_statements_that_may_not_be_seen_are_said(counting: MariaDB) -> None:
    made(counting, "shop")
    conn = pymysql.connect(host="127.0.0.1", port=counting.port, user="fig", password="fig", autocommit=True)
    with conn, conn.cursor() as cursor:
        cursor.execute("CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'r'")
        cursor.execute("GRANT SELECT ON shop.* TO reader@'127.0.0.1'")
    found = await catalogue.collect(counting.url("shop", user="reader", password="r"))
    (said,) = (each for each in found.coverage if each.source == "statements")
    assert said.state == "absent" and said.said.startswith("performance_schema cannot be read: SELECT command denied")
