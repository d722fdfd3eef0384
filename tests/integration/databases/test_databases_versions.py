"""The triggers that number changes, under an application's own sessions and its DDL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from stranglerfig.databases import versions
from stranglerfig.databases.versions import Versioned
from stranglerfig.foundation import postgres
from stranglerfig.foundation.postgres import Connection

APP = "versions_app"
TABLE = Versioned("public.part", "public.part", ("id", 'co"de'), ("name", "data", "stock"), ("stock",))


@pytest.fixture(params=["postgres", "postgres_16"])
async def sessions(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Connection, Connection]]:
    """Ours, and an application's, which owns the table."""
    server: Any = request.getfixturevalue(request.param)
    server.role(APP)
    dsn = server.database()
    async with (
        postgres.session(dsn, what="test") as ours,
        postgres.session(conninfo.make_conninfo(dsn, user=APP), what="app") as app,
    ):
        await ours.execute("GRANT CREATE ON SCHEMA public TO versions_app")
        await app.execute(
            'CREATE TABLE part (id int, "co""de" text, name text, data json, stock int, PRIMARY KEY (id, "co""de"))'
        )
        await versions.install(ours, "parts", [TABLE])
        await ours.execute("GRANT USAGE ON SCHEMA fig TO PUBLIC")
        yield ours, app


async def lanes(conn: Connection) -> dict[tuple[str, str], int]:
    """The numbers, by pair and key."""
    rows = await postgres.fetch(conn, "SELECT pair, array_to_string(key, '/'), local FROM fig.row_version")
    return {(pair, key): local for pair, key, local in rows}


async def test_each_change_has_a_higher_number_where_it_belongs(sessions: tuple[Connection, Connection]) -> None:
    ours, app = sessions
    values, counted = ("public.part", "1/a'\"b"), ("public.part+", "1/a'\"b")
    await app.execute("INSERT INTO part VALUES (1, 'a''\"b', 'n', '{\"a\":1}', 5)")
    first = await lanes(ours)
    assert set(first) == {values, counted}
    await app.execute("UPDATE part SET stock = stock + 1")
    second = await lanes(ours)
    assert (second[values], second[counted] > first[counted]) == (first[values], True)
    # What json keeps and jsonb would not: its spaces, and text that jsonb refuses.
    await app.execute("UPDATE part SET data = '{\"a\": 1}'")
    third = await lanes(ours)
    assert (third[values] > second[values], third[counted]) == (True, second[counted])
    await app.execute("UPDATE part SET data = '\"\\u0000\"'")
    await app.execute("UPDATE part SET name = name")
    fourth = await lanes(ours)
    assert fourth[values] > third[values]
    await app.execute("UPDATE part SET id = 2")
    await app.execute("DELETE FROM part")
    assert {pair for pair, _ in await lanes(ours)} == {"public.part", "public.part+"}
    assert ("public.part", "2/a'\"b") in await lanes(ours)


async def test_a_dropped_column_does_not_break_the_applications_writes(sessions: tuple[Connection, Connection]) -> None:
    """The application's owner changes its table as ever; what it writes must not fail because of our trigger."""
    ours, app = sessions
    await app.execute("INSERT INTO part VALUES (1, 'a', 'n', NULL, 5)")
    await app.execute("ALTER TABLE part DROP COLUMN name")
    await app.execute("ALTER TABLE part RENAME COLUMN stock TO store")
    before = await lanes(ours)
    await app.execute("INSERT INTO part VALUES (2, 'a', NULL, 5)")
    await app.execute("UPDATE part SET data = '1' WHERE id = 1")
    after = await lanes(ours)
    assert after["public.part", "1/a"] > before["public.part", "1/a"]
    assert ("public.part", "2/a") in after
    await app.execute("DELETE FROM part")
    await app.execute('ALTER TABLE part DROP COLUMN "co""de"')
    await app.execute("INSERT INTO part VALUES (3)")
    assert await postgres.value(app, "SELECT count(*) FROM part") == 1


async def test_nobody_else_may_put_our_functions_on_a_table(sessions: tuple[Connection, Connection]) -> None:
    """They run as their owner: put on a table of somebody's own, they would say versions that no change has."""
    ours, app = sessions
    names = await postgres.fetch(ours, "SELECT proname FROM pg_proc WHERE proname LIKE 'fig\\_version\\_%'")
    [(name,)] = names
    await app.execute("CREATE TABLE forged (id int, name text)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await app.execute(
            f"CREATE TRIGGER forged AFTER INSERT ON forged FOR EACH ROW EXECUTE FUNCTION fig.{name}()".encode()
        )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await app.execute("SELECT fig.row_changed('parts', 'public.part', '{1}')")
    await app.execute("INSERT INTO part VALUES (1, 'a', 'n', NULL, 5)")
    assert len(await lanes(ours)) == 2, "the trigger itself needs no right of who writes"
