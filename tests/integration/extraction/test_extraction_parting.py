"""What ``partitions`` in ``extraction.yaml`` comes to, against real catalogues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo

from stranglerfig.extraction import parting
from stranglerfig.extraction.facts import _known
from stranglerfig.extraction.parts import ContextParts
from stranglerfig.extraction.settings import ExtractionSettings
from tests.conftest import Server

TABLES = [
    {"from": "public.item", "to": "item", "key": {"id": "id"}, "columns": {"name": "name"}},
    {"from": "public.booking", "to": "booking", "key": {"id": "id"}, "columns": {"span": "span"}},
    {"from": "public.label", "to": "label", "key": {"id": "id"}, "columns": {"text": "text"}},
]
SCHEMA = """
CREATE TABLE item (id int PRIMARY KEY, name text);
CREATE TABLE booking (id int PRIMARY KEY, span int4range{excluded});
CREATE TABLE label (id int PRIMARY KEY, text text{unique});
"""


def context(dsn: str, partitions: int, tables: list[dict[str, Any]]) -> ContextParts:
    settings = ExtractionSettings.model_validate(
        {
            "context": "stock",
            "service": {"url": "http://127.0.0.1:1", "database": dsn},
            "routes": {},
            "tables": tables,
            "partitions": partitions,
        }
    )
    return ContextParts(settings, Path(), dsn)


def prepared(postgres: Server, postgres_b: Server) -> tuple[str, str]:
    monolith, service = postgres.database(), postgres_b.database()
    excluded = ", EXCLUDE USING gist (span WITH &&)"
    for dsn, marks in ((monolith, ("", "")), (service, (excluded, " UNIQUE"))):
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(SCHEMA.format(excluded=marks[0], unique=marks[1]).encode())
    return monolith, service


async def test_one_partition_asks_for_nothing(postgres: Server, postgres_b: Server) -> None:
    monolith, service = prepared(postgres, postgres_b)
    assert await parting.findings(monolith, context(service, 1, TABLES)) == []


async def test_tables_that_stay_whole_are_named(postgres: Server, postgres_b: Server) -> None:
    monolith, service = prepared(postgres, postgres_b)
    found = await parting.findings(monolith, context(service, 3, TABLES))
    assert [(f.code, f.severity, f.context["table"]) for f in found] == [
        ("table_not_divided", "warn", "public.booking"),
        ("table_not_divided", "warn", "public.label"),
    ]
    assert "exclusion" in found[0].message and "label_text_key" in found[1].message
    tables = await parting.divided(monolith, context(service, 3, TABLES), retired=False)
    assert tables.keys == {"public.item": ("id",)}


async def test_what_cannot_hold_is_refused_whatever_is_accepted(postgres: Server, postgres_b: Server) -> None:
    monolith, service = prepared(postgres, postgres_b)
    role = postgres_b.role("parting_poor")
    with psycopg.connect(service, autocommit=True) as conn:
        conn.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}".encode())
    poor = context(conninfo.make_conninfo(service, user=role), 2, TABLES[1:])
    found = await parting.findings(monolith, poor)
    refused = [f for f in found if f.severity == "refuse"]
    assert [f.code for f in refused] == ["partitions_need_replica_role", "nothing_divided"]
    assert refused[0].statements == ('GRANT SET ON PARAMETER session_replication_role TO "parting_poor"',)
    assert [_known(f, (), [f.code]).severity for f in refused] == ["refuse", "refuse"]
    assert _known(found[1], (), [found[1].code]).severity == "warn"
