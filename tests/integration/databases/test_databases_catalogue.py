"""The catalogue's facts and preflight's findings, on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from stranglerfig.databases import catalogue, preflight
from stranglerfig.databases.model import Finding
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection

SCHEMA = """
CREATE TABLE customers (id bigint PRIMARY KEY);
CREATE SEQUENCE loose CACHE 5;
CREATE TABLE inventory (
    item_id bigserial PRIMARY KEY,
    sku varchar(20) NOT NULL UNIQUE COLLATE "C",
    quantity int NOT NULL DEFAULT 0 CHECK (quantity >= 0),
    price numeric(10,2),
    doubled int GENERATED ALWAYS AS (quantity * 2) STORED,
    batch bigint DEFAULT nextval('loose'),
    customer_id bigint CONSTRAINT belongs REFERENCES customers
);
CREATE UNIQUE INDEX positive ON inventory (sku) WHERE quantity > 0;
CREATE TABLE "Odd Names" (id int GENERATED ALWAYS AS IDENTITY, "a b" text, UNIQUE ("a b") DEFERRABLE);
CREATE TABLE orders (id bigint PRIMARY KEY, item_id bigint REFERENCES inventory);
CREATE TABLE moves (id bigint PRIMARY KEY, item_id bigint REFERENCES inventory);
CREATE TABLE parts (id bigint, region text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
CREATE VIEW in_stock AS SELECT item_id FROM inventory WHERE quantity > 0;
CREATE FUNCTION restock() RETURNS void LANGUAGE sql AS 'UPDATE inventory SET quantity = 1';
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER note BEFORE INSERT ON inventory FOR EACH ROW EXECUTE FUNCTION noted();
ALTER TABLE inventory ENABLE ROW LEVEL SECURITY;
ALTER TABLE moves REPLICA IDENTITY FULL;
INSERT INTO inventory (sku, quantity) VALUES ('a', 1);
"""
NAMES = ["public.inventory", "public.moves", 'public."Odd Names"', "public.parts", "public.nothing"]


@pytest.fixture(params=["postgres", "postgres_16"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def dsn(server: Any) -> str:
    dsn: str = server.database()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(SCHEMA)
    return dsn


@pytest.fixture
async def conn(dsn: str) -> AsyncIterator[Connection]:
    async with postgres.session(dsn, what="test") as conn:
        yield conn


def codes(findings: list[Finding], severity: str = "refuse") -> set[str]:
    return {finding.code for finding in findings if finding.severity == severity}


async def test_tables_as_they_are(conn: Connection) -> None:
    found = await catalogue.tables(conn, [*NAMES, "public.parts_eu"])
    assert list(found) == [*NAMES[:4], "public.parts_eu"]
    inventory = found["public.inventory"]
    assert inventory.qualified == "public.inventory"
    assert inventory.primary_key == ("item_id",)
    assert inventory.identity_columns == ("item_id",)
    types = {column.name: column.type for column in inventory.columns}
    assert types["sku"] == "character varying(20)"
    assert types["price"] == "numeric(10,2)"
    assert {column.name for column in inventory.columns if column.generated} == {"doubled"}
    sku = inventory.column("sku")
    assert sku is not None
    assert (sku.not_null, sku.collation) == (True, "C")
    assert [(unique.name, unique.plain) for unique in inventory.uniques] == [
        ("inventory_pkey", True),
        ("inventory_sku_key", True),
        ("positive", False),
    ]
    assert [check.expression for check in inventory.checks] == ["(quantity >= 0)"]
    assert inventory.bytes > 0
    assert found["public.moves"].identity_columns == ("id", "item_id")
    odd = found['public."Odd Names"']
    assert odd.uniques[0].deferrable
    assert odd.columns[0].identity
    assert not odd.primary_key
    assert found["public.parts"].kind == "partitioned"
    assert found["public.parts"].primary_key == ("region", "id")
    assert found["public.parts"].leaves == ("public.parts_eu",)
    assert (found["public.parts_eu"].kind, found["public.parts_eu"].root) == ("partition", "public.parts")


async def test_what_hangs_on_tables(conn: Connection) -> None:
    keys = catalogue.crossing(await catalogue.foreign_keys(conn, NAMES), NAMES)
    assert {(key.label, key.refers_to) for key in keys} == {
        ("public.inventory.belongs", "public.customers"),
        ("public.orders.orders_item_id_fkey", "public.inventory"),
    }
    assert [trigger.name for trigger in await catalogue.triggers(conn, NAMES)] == ["note"]
    sequences = {sequence.name: sequence for sequence in await catalogue.sequences(conn, NAMES)}
    assert set(sequences) == {"public.inventory_item_id_seq", "public.loose", "public.Odd Names_id_seq"}
    assert not sequences["public.loose"].owned
    assert (sequences["public.loose"].cache, sequences["public.loose"].column) == (5, "batch")
    assert sequences["public.inventory_item_id_seq"].last == 1
    assert {(it.kind, it.name) for it in await catalogue.dependents(conn, NAMES)} == {
        ("view", "public.in_stock"),
        ("function", "public.restock"),
    }


async def test_sequences_only_go_up(conn: Connection) -> None:
    await catalogue.advance_sequence(conn, "public.inventory_item_id_seq", 500)
    assert await postgres.value(conn, "SELECT nextval('inventory_item_id_seq')") == 501
    await catalogue.advance_sequence(conn, "public.inventory_item_id_seq", 100)
    assert await postgres.value(conn, "SELECT nextval('inventory_item_id_seq')") == 502


async def test_a_sequence_that_was_never_used_stands_before_its_first_value(conn: Connection) -> None:
    await conn.execute("CREATE SEQUENCE fresh START 40 INCREMENT 10")
    assert (await catalogue.last_given(conn, "public.fresh"))[0] == 30
    await conn.execute("SELECT setval('fresh', 500, false)")
    last, cache, increment, sessions = await catalogue.last_given(conn, "public.fresh")
    assert (last, cache, increment) == (490, 1, 10)
    assert sessions >= 1
    await conn.execute("SELECT nextval('fresh')")
    assert (await catalogue.last_given(conn, "public.fresh"))[0] == 500
    assert (await catalogue.last_given(conn, "public.Odd Names_id_seq"))[0] == 0
    with pytest.raises(FigError) as none:
        await catalogue.last_given(conn, "public.nothing")
    assert none.value.code == "unknown_sequence"


async def test_a_sequence_goes_as_far_as_its_column(conn: Connection) -> None:
    """A serial whose column became a bigint keeps an integer's end."""
    await conn.execute("CREATE TABLE grown (id serial PRIMARY KEY); ALTER TABLE grown ALTER id TYPE bigint")
    await catalogue.advance_sequence(conn, "public.grown_id_seq", 3_000_000_000)
    assert await postgres.value(conn, "INSERT INTO grown DEFAULT VALUES RETURNING id") == 3_000_000_001
    # One that its column has no room for either stops at its end, and gives out nothing twice.
    await conn.execute("CREATE TABLE narrow (id serial PRIMARY KEY)")
    await catalogue.advance_sequence(conn, "public.narrow_id_seq", 3_000_000_000)
    with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
        await conn.execute("INSERT INTO narrow DEFAULT VALUES")


async def test_a_sequence_that_is_not_ours(server: Any, dsn: str, conn: Connection) -> None:
    role = server.role("sequences_poor")
    await conn.execute("CREATE TABLE grown (id serial PRIMARY KEY); ALTER TABLE grown ALTER id TYPE bigint")
    await conn.execute(f"GRANT USAGE ON SEQUENCE grown_id_seq TO {role}".encode())
    async with postgres.session(conninfo.make_conninfo(dsn, user=role), what="test") as poor:
        for work in (
            catalogue.last_given(poor, "public.grown_id_seq"),
            catalogue.advance_sequence(poor, "public.grown_id_seq", 3_000_000_000),
        ):
            with pytest.raises(FigError) as refused:
                await work
            assert refused.value.code == "missing_privilege"
            assert '"public"."grown_id_seq"' in refused.value.remedy


async def test_findings_at_the_source(conn: Connection, dsn: str) -> None:
    findings = await preflight.source_findings(conn, NAMES, "forward")
    assert codes(findings) == {"unknown_table", "no_replica_identity", "deferrable_key", "foreign_key_crosses"}
    assert codes(findings, "warn") == {
        "generated_columns",
        "partitioned_table",
        "row_security",
        "sequence",
        "trigger",
        "unowned_sequence",
        "wal_retention_unlimited",
    }
    accepted = ["public.inventory.belongs", "public.orders.orders_item_id_fkey"]
    findings = await preflight.source_findings(conn, NAMES[:2], "forward", accepted_foreign_keys=accepted)
    assert codes(findings) == set()
    assert codes(await preflight.source_findings(conn, ["public.parts_eu"], "forward")) == {"partition_named"}
    async with await psycopg.AsyncConnection.connect(dsn) as slow:
        await slow.execute("SELECT 1")
        findings = await preflight.source_findings(conn, ["public.parts"], "forward", long_transaction=0)
    assert codes(findings) == {"long_transaction"}


async def test_findings_at_the_target(conn: Connection, server: Any) -> None:
    needs = await preflight.requirements(conn, NAMES)
    assert needs.collations == ("C",)
    findings = await preflight.target_findings(conn, NAMES[:2], "forward", requirements=needs)
    assert codes(findings) == {"target_not_empty"}
    assert codes(await preflight.target_findings(conn, NAMES[:2], "reverse")) == set()
    strange = preflight.Requirements(extensions=("unheard_of",), collations=("xx_XX",))
    findings = await preflight.target_findings(conn, [NAMES[1]], "forward", requirements=strange)
    assert codes(findings) == {"extension_missing", "collation_missing"}
    assert preflight.grants(findings) == ["CREATE EXTENSION unheard_of"]


async def test_a_role_without_rights_gets_the_exact_grants(conn: Connection, dsn: str, server: Any) -> None:
    server.role("poor_role")
    database = await postgres.value(conn, "SELECT current_database()")
    await conn.execute("CREATE SCHEMA hidden CREATE TABLE secret (id int PRIMARY KEY)")
    tables = ["public.moves"]
    async with postgres.session(conninfo.make_conninfo(dsn, user="poor_role"), what="poor") as poor:
        findings = await preflight.source_findings(poor, [*tables, "hidden.secret"], "forward")
        statements = preflight.grants(findings)
        assert statements[0] == 'GRANT USAGE ON SCHEMA "hidden" TO "poor_role"'
        assert statements[1] == 'ALTER ROLE "poor_role" REPLICATION'
        assert f'GRANT CREATE ON DATABASE "{database}" TO "poor_role"' in statements
        assert 'GRANT postgres TO "poor_role"' in statements
        assert 'GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON public.moves TO "poor_role"' in statements
        assert any("pg_replication_origin_session_setup" in statement for statement in statements)
        assert codes(findings, "warn") >= {"ddl_guard_unavailable"}
        target = await preflight.target_findings(poor, tables, "forward")
        assert "missing_table_rights" in codes(target)
        for statement in statements:
            await conn.execute(statement)
        try:
            assert not preflight.grants(await preflight.source_findings(poor, tables, "forward"))
        finally:
            await conn.execute('REVOKE postgres FROM "poor_role"')
            await conn.execute('REVOKE SET ON PARAMETER session_replication_role FROM "poor_role"')
            await conn.execute('ALTER ROLE "poor_role" NOREPLICATION')
