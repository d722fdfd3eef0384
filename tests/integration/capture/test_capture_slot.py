"""What is asked of a slot's source while it streams, on PostgreSQL as old as it may be and as new."""

from __future__ import annotations

import pytest

from stranglerfig.capture import slot
from stranglerfig.foundation import postgres as sessions
from tests.conftest import Server

TABLE = """
CREATE SCHEMA shop;
CREATE TYPE colour AS ENUM ('red');
CREATE DOMAIN inner_amount AS numeric(8,2);
CREATE DOMAIN amount AS inner_amount;
CREATE TYPE pair AS (a int, b int);
CREATE TABLE shop.item (id int PRIMARY KEY, code int NOT NULL UNIQUE, n int, at amount, of colour, all_of colour[],
    pairs pair);
CREATE TABLE shop.other (id int PRIMARY KEY)
"""
TELLING = (
    "ALTER TABLE shop.item ADD more text",
    "ALTER TABLE shop.item DROP n",
    "ALTER TABLE shop.item RENAME n TO m",
    "ALTER TABLE shop.item ALTER n TYPE bigint",
    "ALTER TABLE shop.item ALTER more SET STORAGE external",
    "ALTER TABLE shop.item REPLICA IDENTITY FULL",
    "ALTER TABLE shop.item REPLICA IDENTITY USING INDEX item_code_key",
    "ALTER TABLE shop.item DROP CONSTRAINT item_pkey",
    "ALTER TYPE colour RENAME TO hue",
    "ALTER TYPE colour SET SCHEMA shop",
    "ALTER DOMAIN inner_amount RENAME TO deeper",
    "ALTER DOMAIN amount RENAME TO sum",
    "ALTER TYPE pair RENAME TO two",
    "DROP TABLE shop.item; CREATE TABLE shop.item (id int PRIMARY KEY, n int)",
    "BEGIN; ALTER TABLE shop.other ADD x int; ALTER TABLE shop.item ADD y int; COMMIT",
)
TELLING_NOTHING = (
    "INSERT INTO shop.item (id, code) SELECT n, n FROM generate_series(1, 2000) n",
    "DELETE FROM shop.item; VACUUM ANALYZE shop.item",
    "CREATE TABLE shop.unseen (of colour)",
    "BEGIN; ALTER TABLE shop.item ADD x int; ROLLBACK",
)


@pytest.mark.parametrize("which", ["postgres", "postgres_16"])
async def test_the_versions_tell_every_change_of_a_shape(which: str, request: pytest.FixtureRequest) -> None:
    """What `shapes` says differs only when the versions do; traffic, vacuum and other tables do not change them."""
    server: Server = request.getfixturevalue(which)
    for change in TELLING:
        async with sessions.session(server.database(), what="test") as conn:
            for statement in (TABLE + "; ALTER TABLE shop.item ADD more text" * ("more SET" in change)).split(";"):
                await conn.execute(statement)
            tables = ["shop.item", "shop.other"]
            rows, shapes = await slot.described_by(conn, tables), await slot.shapes(conn, tables)
            before = await slot.stamp(conn, "none", rows)
            assert before.reading is None
            for quiet in TELLING_NOTHING:
                for statement in quiet.split(";"):
                    await conn.execute(statement)
                assert await slot.stamp(conn, "none", rows) == before, quiet
            for statement in change.split(";"):
                await conn.execute(statement)
            after = await slot.stamp(conn, "none", rows)
            assert await slot.shapes(conn, tables) != shapes or "inner_amount" in change, change
            assert after.versions != before.versions, change


async def test_a_table_that_is_named_otherwise_is_told(postgres: Server) -> None:
    async with sessions.session(postgres.database(), what="test") as conn:
        await conn.execute("CREATE SCHEMA shop")
        await conn.execute("CREATE TABLE shop.item (id int PRIMARY KEY)")
        rows = await slot.described_by(conn, ["shop.item"])
        seen = {(await slot.stamp(conn, "none", rows)).versions}
        for change in ("ALTER TABLE shop.item RENAME TO thing", "ALTER SCHEMA shop RENAME TO store"):
            await conn.execute(change)
            seen.add((await slot.stamp(conn, "none", rows)).versions)
        await conn.execute("DROP TABLE store.thing")
        seen.add((await slot.stamp(conn, "none", rows)).versions)
        assert len(seen) == 4
