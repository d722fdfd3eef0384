"""Constants in a mapping: what is checked is what is run, in every shape that a row is written in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stranglerfig.changes.mapping import Mapping, check, compile_mapping
from stranglerfig.changes.model import Column, Direction, Relation
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases import catalogue
from stranglerfig.foundation import postgres as pg
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.sync import statements
from stranglerfig.sync.statements import Given
from tests.conftest import Server

SCHEMA = """
CREATE TYPE mood AS ENUM ('calm', 'busy');
CREATE TABLE thing (id bigint PRIMARY KEY, name text);
CREATE TABLE copy (id bigint PRIMARY KEY, name text, state mood, since date, size integer, code varchar(3), gone mood);
"""
CONSTANTS = {"state": "'busy'", "since": "'2026-01-31'", "size": "'7'", "code": "'abc'", "gone": "NULL"}


@pytest.fixture
async def conn(postgres: Server) -> AsyncIterator[Connection]:
    async with pg.session(postgres.database(), what="test") as conn:
        await conn.execute(SCHEMA)
        yield conn


async def compiled(conn: Connection, constants: dict[str, str]) -> Mapping:
    table = TableMapping.model_validate(
        {"from": "public.thing", "to": "copy", "key": {"id": "id"}, "columns": {"name": "name", **constants}}
    )
    here = await catalogue.tables(conn, ["public.thing", "public.copy"])
    return compile_mapping([table], here, here)


async def held(conn: Connection) -> list[object]:
    return await pg.fetch(conn, "SELECT id, name, state::text, since::text, size, code, gone FROM copy ORDER BY id")


def row(number: int, name: str) -> tuple[object, ...]:
    return (number, name, "busy", "2026-01-31", 7, "abc", None)


async def test_rows_one_by_one(conn: Connection) -> None:
    """A literal in a subquery is a text, which an enumeration, a date or a number does not take (42804)."""
    mapping = await compiled(conn, CONSTANTS)
    await check(conn, mapping, Direction.FORWARD)
    [entry] = mapping.forward
    given = Given(("id", "name"), ("bigint", "text"))
    await conn.execute(statements.make_row([(entry, given)]).encode(), ["1", "made"])
    assert await held(conn) == [row(1, "made")]
    await conn.execute("UPDATE copy SET state = 'calm', since = NULL, size = 0, code = 'x'")
    changed = statements.change_row(entry, given, entry.columns, [])
    assert changed is not None
    await conn.execute(changed.encode(), ["1", "changed", "1"])
    assert await held(conn) == [row(1, "changed")]


async def test_rows_of_a_stage(conn: Connection) -> None:
    mapping = await compiled(conn, CONSTANTS)
    [entry] = mapping.forward
    relation = Relation("public", "thing", (Column("id", "bigint", True), Column("name", "text", False)))
    for upsert in (False, True):
        await _staged(conn, relation, "(1, 'in')", statements.insert(entry, "stage", upsert=upsert))
        assert await held(conn) == [row(1, "in")]
    await conn.execute("UPDATE copy SET state = 'calm'")
    update = statements.update(entry, "stage", 0, frozenset())
    assert update is not None
    await _staged(conn, relation, "(1, 'updated')", update)
    assert await held(conn) == [row(1, "updated")]
    await _staged(conn, relation, "(2, 'joined')", statements.insert_joined(entry, [], "stage"))
    assert await held(conn) == [row(1, "updated"), row(2, "joined")]


async def _staged(conn: Connection, relation: Relation, values: str, statement: str) -> None:
    await conn.execute("DROP TABLE IF EXISTS pg_temp.stage")
    async with conn.transaction():
        await conn.execute(statements.create_stage("stage", relation, ["bigint", "text"]).encode())
        await conn.execute(f"INSERT INTO stage (id, name) VALUES {values}".encode())
        await conn.execute(statement.encode())


@pytest.mark.parametrize(
    "constant", [{"state": "'angry'"}, {"since": "'tomorrow or so'"}, {"size": "'seven'"}, {"code": "lower(5)"}]
)
async def test_a_constant_that_the_column_does_not_take_is_refused_beforehand(
    conn: Connection, constant: dict[str, str]
) -> None:
    mapping = await compiled(conn, CONSTANTS | constant)
    with pytest.raises(FigError) as refused:
        await check(conn, mapping, Direction.FORWARD)
    assert refused.value.code in ("mapping_invalid_expression", "mapping_type_mismatch")


async def test_a_constant_is_not_cut_short(conn: Connection) -> None:
    mapping = await compiled(conn, CONSTANTS | {"code": "'abcd'"})
    with pytest.raises(FigError) as refused:
        await check(conn, mapping, Direction.FORWARD)
    assert "too long" in refused.value.message
