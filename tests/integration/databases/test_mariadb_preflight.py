"""Catalogue and preflight on a real MariaDB."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stranglerfig.databases.mariadb import catalogue, messages, ownership, preflight
from stranglerfig.databases.mariadb.preflight import Server
from stranglerfig.foundation import mysql
from stranglerfig.foundation.errors import FigError
from tests.conftest import MonolithOnMariaDB


class Shop:
    """A database with a session."""

    def __init__(self, mariadb: MonolithOnMariaDB, name: str, conn: mysql.Connection) -> None:
        self.mariadb = mariadb
        self.name = name
        self.conn = conn

    async def make(self, *statements: str) -> None:
        for statement in statements:
            await self.conn.execute(statement)

    def __getitem__(self, table: str) -> str:
        return f"{self.name}.{table}"


@pytest.fixture
async def shop(mariadb: MonolithOnMariaDB) -> AsyncIterator[Shop]:
    name = mariadb.database()
    async with mysql.session(mariadb.server.url(name), what="test") as conn:
        yield Shop(mariadb, name, conn)


async def codes(shop: Shop, *tables: str) -> set[str]:
    found = await preflight.source_findings(shop.conn, [shop[table] for table in tables], "forward")
    return {finding.code for finding in found if finding.severity == "refuse"}


async def test_a_table_is_described_in_postgresql_s_words(shop: Shop) -> None:
    await shop.make(
        "CREATE TABLE item (id int unsigned AUTO_INCREMENT, sku char(8) NOT NULL, price decimal(8,2) DEFAULT 1.5,"
        " doc json, total decimal(9,2) AS (price * 2), PRIMARY KEY (id, sku), UNIQUE by_sku (sku),"
        " UNIQUE short (sku(3)),"
        " CONSTRAINT positive CHECK (`price` > 0)) AUTO_INCREMENT=7",
        "CREATE TRIGGER mine BEFORE INSERT ON item FOR EACH ROW SET NEW.price = 2",
        "CREATE VIEW shown AS SELECT sku FROM item",
    )  # fmt: skip
    found = (await catalogue.tables(shop.conn, [shop["item"], shop["nothing"], shop["shown"]]))[shop["item"]]
    assert [(c.name, c.type, c.not_null, c.generated, c.identity) for c in found.columns] == [
        ("id", "bigint", True, False, True),
        ("sku", "character varying(8)", True, False, False),
        ("price", "numeric(8,2)", False, False, False),
        ("doc", "text", False, False, False),
        ("total", "numeric(9,2)", False, True, False),
    ]
    assert found.primary_key == ("id", "sku") == found.identity_columns
    assert {(u.name, u.columns, u.plain) for u in found.uniques[1:]} == {
        ("by_sku", ("sku",), True),
        ("short", ("sku",), False),
    }
    assert [(c.name, c.expression) for c in found.checks] == [("positive", '"price" > 0')]
    described = await catalogue.describe(shop.conn, [shop["item"]])
    [counter] = catalogue.counters(list(described.values()))
    assert (counter.column, counter.last, counter.owned) == ("id", 6, True)
    assert [t.name for t in await catalogue.triggers(shop.conn, [shop["item"]])] == ["mine"]
    other = shop.mariadb.database()
    await shop.make(
        f"CREATE PROCEDURE {other}.counted() SELECT count(*) FROM {shop.name}.`item`",
        f"CREATE PROCEDURE {other}.its_own() SELECT count(*) FROM item",
        "CREATE PROCEDURE counted() SELECT count(*) FROM item",
    )
    assert {(d.kind, d.name) for d in await catalogue.dependents(shop.conn, [shop["item"]])} == {
        ("view", shop["shown"]), ("function", shop["counted"]), ("function", f"{other}.counted"),
    }  # fmt: skip


async def test_a_sound_table_is_let_through(shop: Shop) -> None:
    await shop.make("CREATE TABLE item (id int PRIMARY KEY, at datetime)", "INSERT INTO item VALUES (1, now())")
    assert await codes(shop, "item") == set()
    assert list(await preflight.check(shop.conn, [shop["item"]])) == [shop["item"]]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("CREATE TABLE item (id int) ENGINE=InnoDB", "no_replica_identity"),
        ("CREATE TABLE item (id int PRIMARY KEY) ENGINE=Aria", "not_transactional"),
        ("CREATE TABLE item (id int PRIMARY KEY, u uuid)", "undeliverable_types"),
        ("CREATE TABLE item (id int PRIMARY KEY) WITH SYSTEM VERSIONING", "system_versioned"),
        (
            "CREATE TABLE item (id int PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES item (id) ON DELETE CASCADE)",
            "cascade_not_logged",
        ),
    ],
)
async def test_what_cannot_be_captured_is_refused(shop: Shop, statement: str, code: str) -> None:
    await shop.make(statement)
    assert await codes(shop, "item") == {code}
    with pytest.raises(FigError) as raised:
        await preflight.check(shop.conn, [shop["item"]])
    assert raised.value.code == code


async def test_a_foreign_key_that_crosses_the_boundary_is_named(shop: Shop) -> None:
    await shop.make(
        "CREATE TABLE place (id int PRIMARY KEY)",
        "CREATE TABLE item (id int PRIMARY KEY, at int, CONSTRAINT at_place FOREIGN KEY (at) REFERENCES place (id))",
    )
    assert await codes(shop, "item") == {"foreign_key_crosses"}
    assert await codes(shop, "item", "place") == set()
    label = f"{shop['item']}.at_place"
    found = await preflight.source_findings(shop.conn, [shop["item"]], "forward", accepted_foreign_keys=[label])
    assert [f.severity for f in found if f.code == "foreign_key_crosses"] == ["warn"]


async def test_dates_that_are_none_are_found(shop: Shop) -> None:
    await shop.make(
        "CREATE TABLE item (id int PRIMARY KEY, at date)", "SET SESSION sql_mode = ''", "INSERT INTO item VALUES (1, 0)"
    )
    assert await codes(shop, "item") == {"zero_date"}


async def test_tables_that_are_not_there_are_named(shop: Shop) -> None:
    assert await codes(shop, "nothing") == {"unknown_table"}
    with pytest.raises(FigError) as raised:
        await preflight.check(shop.conn, [shop["nothing"]])
    assert raised.value.code == "missing_table"


async def test_missing_rights_are_named_with_the_statements_that_give_them(shop: Shop) -> None:
    user = f"u{shop.name[-8:]}"
    await shop.make("CREATE TABLE item (id int PRIMARY KEY)", f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'x'")
    await shop.make(f"GRANT INSERT ON {shop['item']} TO {user}@'127.0.0.1'")
    async with mysql.session(shop.mariadb.server.url(shop.name, user=user, password="x"), what="test") as poor:
        found = await preflight.source_findings(poor, [shop["item"]], "forward")
        assert {f.code for f in found if f.severity == "refuse"} == {
            "missing_replication", "missing_create", "missing_table_rights", "triggers_not_trusted",
        }  # fmt: skip
        with pytest.raises(FigError) as raised:
            await messages.prepare(poor)
        assert raised.value.code == "missing_privilege"
    for statement in [statement for finding in found for statement in finding.statements]:
        await shop.conn.execute(statement)
    async with mysql.session(shop.mariadb.server.url(shop.name, user=user, password="x"), what="test") as enough:
        assert not [
            f for f in await preflight.source_findings(enough, [shop["item"]], "forward") if f.severity == "refuse"
        ]
        await messages.prepare(enough)
        assert await messages.heartbeat(enough, "fig.heartbeat")
        tables = [shop["item"]]
        await ownership.install(enough, "rights", side="monolith", owner=True, tables=tables, enforcing=True)
        await ownership.uninstall(enough, "rights")
    await shop.conn.execute("SET GLOBAL log_bin_trust_function_creators = OFF")


async def test_rights_that_come_by_a_role_count(shop: Shop) -> None:
    user, role = f"u{shop.name[-8:]}", f"r{shop.name[-8:]}"
    await shop.make(
        "CREATE TABLE item (id int PRIMARY KEY)", f"CREATE ROLE {role}",
        f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'x'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER, ALTER, SUPER ON *.* TO {role}",
        f"GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO {role}", f"GRANT ALL ON fig.* TO {role}",
        f"GRANT {role} TO {user}@'127.0.0.1'", f"SET DEFAULT ROLE {role} FOR {user}@'127.0.0.1'",
    )  # fmt: skip
    async with mysql.session(shop.mariadb.server.url(shop.name, user=user, password="x"), what="test") as conn:
        found = await preflight.source_findings(conn, [shop["item"]], "forward")
    assert [f.message for f in found if f.severity == "refuse"] == []


def test_grants_are_read() -> None:
    found = preflight.rights(
        [
            "GRANT SELECT, INSERT (`a`, `b`), BINLOG MONITOR ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*X'",
            r"GRANT ALL PRIVILEGES ON `shop\_%`.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT UPDATE ON `a``b`.`t` TO `u`@`%`",
            "GRANT `role` TO `u`@`%`",
        ]
    )
    assert [sorted(right.privileges - {""}) for right in found] == [
        ["BINLOG MONITOR", "SELECT"],
        ["ALL PRIVILEGES"],
        ["UPDATE"],
    ]
    assert found[0].on("x", "y") and found[2].on("a`b", "t") and not found[2].on("a`b", "s")
    assert found[1].on("shop_1", "t") and not found[1].on("shopx1", "t")


def test_a_server_s_settings_are_judged() -> None:
    good = Server("10.11", True, "ROW", "FULL", False, frozenset({"NO_ZERO_DATE", "NO_ZERO_IN_DATE"}), 0, "fig@%")
    assert preflight.server_findings(good) == []
    bad = Server("10.11", True, "MIXED", "MINIMAL", True, frozenset(), 60, "fig@%")
    found = preflight.server_findings(bad)
    assert [f.code for f in found] == [
        "binlog_format", "binlog_row_image", "log_bin_compress", "binlog_kept_shortly", "zero_dates_allowed",
    ]  # fmt: skip
    assert "SET GLOBAL binlog_format = ROW" in found[0].statements
    off = Server("10.11", False, "MIXED", "FULL", False, frozenset({"NO_ZERO_DATE", "NO_ZERO_IN_DATE"}), 0, "fig@%")
    assert [f.code for f in preflight.server_findings(off)] == ["binlog_off"]


async def test_mysql_itself_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def version(statement: str, params: object = None) -> str:
        return "8.4.3"

    monkeypatch.setattr(shop.conn, "value", version)
    found = await preflight.source_findings(shop.conn, [shop["item"]], "forward")
    assert [(f.code, f.severity) for f in found] == [("not_mariadb", "refuse")]


async def test_messages_and_markers_are_rows_and_old_ones_go(shop: Shop) -> None:
    await messages.prepare(shop.conn)
    await messages.prepare(shop.conn)
    nonce = await messages.emit_marker(shop.conn, shop.name, "forward", purpose="test")
    found = await shop.conn.value(
        "SELECT content FROM fig.message WHERE prefix = 'fig.marker' ORDER BY id DESC LIMIT 1"
    )
    assert nonce in str(found) and '"purpose": "test"' in str(found)
    # Other tests' messages are there as well: more than are kept, of which a heartbeat takes a thousand away.
    await shop.conn.execute("INSERT INTO fig.message (prefix, content) SELECT 'x', '' FROM seq_1_to_2500")
    before = int(await shop.conn.value("SELECT count(*) FROM fig.message") or 0)
    assert await messages.heartbeat(shop.conn, "fig.heartbeat")
    assert int(await shop.conn.value("SELECT count(*) FROM fig.message") or 0) == before + 1 - 1000
    await shop.conn.execute("SET SESSION TRANSACTION READ ONLY")
    assert not await messages.heartbeat(shop.conn, "fig.heartbeat")
