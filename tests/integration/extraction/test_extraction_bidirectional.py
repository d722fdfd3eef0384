"""What both sides writing asks of real databases, before anything is touched."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from stranglerfig.databases.model import Finding
from stranglerfig.extraction import both
from stranglerfig.extraction.parts import ContextParts
from stranglerfig.extraction.settings import ExtractionSettings
from tests.conftest import Server


async def refused(monolith: str, service: str) -> list[Finding]:
    """What ``fig plan`` lists as standing in the way of one counted table."""
    settings = ExtractionSettings.model_validate(
        {
            "context": "stock",
            "service": {"url": "http://127.0.0.1:1", "database": service},
            "routes": {},
            "remaining_writers": "bidirectional",
            "tables": [
                {
                    **{"from": "public.part", "to": "part", "key": {"region": "region", "id": "id"}},
                    **{"columns": {"amount": "amount"}, "reverse": {"amount": "amount"}},
                    "conflicts": {"delta": ["amount"]},
                }
            ],
        }
    )
    found = await both.findings(monolith, ContextParts(settings, Path(), service))
    return [finding for finding in found if finding.severity == "refuse"]


def made(server: Server, kind: str, *statements: str) -> str:
    """A database with the table, one column of which is counted."""
    dsn = server.database()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "CREATE TABLE part (region text, id bigint, amount {} NOT NULL, PRIMARY KEY (region, id)) {}".format(
                kind, "PARTITION BY LIST (region)" if statements else ""
            ).encode()
        )
        for statement in ("ALTER TABLE part REPLICA IDENTITY FULL", *statements):
            conn.execute(statement.encode())
    return dsn


async def test_the_leaves_of_a_partitioned_table_must_send_old_rows_too(postgres: Server, postgres_b: Server) -> None:
    """A row is written to the WAL as its leaf says; what the root is set to goes to no leaf."""
    monolith = made(
        postgres,
        "int",
        "CREATE TABLE part_eu PARTITION OF part FOR VALUES IN ('eu')",
        "CREATE TABLE part_far PARTITION OF part FOR VALUES IN ('as', 'us') PARTITION BY LIST (region)",
        "CREATE TABLE \"Part Us\" PARTITION OF part_far FOR VALUES IN ('us')",
    )
    service = made(postgres_b, "int")
    found = await refused(monolith, service)
    assert {finding.code for finding in found} == {"replica_identity_not_full"}
    statements = [statement for finding in found for statement in finding.statements]
    assert statements == [
        'ALTER TABLE "public"."Part Us" REPLICA IDENTITY FULL',
        'ALTER TABLE "public"."part_eu" REPLICA IDENTITY FULL',
    ]
    with psycopg.connect(monolith, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement.encode())
    assert await refused(monolith, service) == []


@pytest.mark.parametrize(
    ("here", "there", "fits"),
    [
        ("numeric(10,2)", "numeric(12,2)", True),
        ("numeric(10,0)", "bigint", True),
        ("numeric", "numeric", True),
        ("numeric(10,2)", "numeric(12,3)", False),
        ("numeric(10,3)", "integer", False),
        ("numeric", "numeric(10,2)", False),
        ("numeric(5,-2)", "integer", False),
    ],
)
async def test_what_is_counted_has_as_many_digits_on_both_sides(
    postgres: Server, postgres_b: Server, here: str, there: str, fits: bool
) -> None:
    """A difference that one side rounds is not the same on the other, and the sums drift apart unnoticed."""
    found = await refused(made(postgres, here), made(postgres_b, there))
    assert [finding.code for finding in found] == ([] if fits else ["conflict_rule_refused"])
    if not fits:
        assert "tables[0].conflicts.delta" in found[0].message
        assert here in found[0].message and there in found[0].message
