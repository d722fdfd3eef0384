"""What is kept of conflicts stays small, and their number is at hand, however many there were."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stranglerfig.foundation import postgres as pg
from stranglerfig.foundation.postgres import Connection
from stranglerfig.foundation.sql import load
from stranglerfig.sync.target import prepare
from tests.conftest import Server

_sql = load("stranglerfig.sync")


@pytest.fixture
async def conn(postgres: Server) -> AsyncIterator[Connection]:
    async with pg.session(postgres.database(), what="test") as conn:
        await prepare(conn)
        # As a target that fires no ordinary triggers for sync.
        await conn.execute("SET session_replication_role = replica")
        yield conn


async def met(conn: Connection, outcome: str, first: int, last: int, key: str = "n::text") -> None:
    """Conflicts at the places ``first`` to ``last``, one statement each, as sync writes them."""
    await conn.execute(
        "INSERT INTO fig.conflict (context, direction, pair, table_name, key, lsn, ordinal, outcome, theirs)"
        f" SELECT 'c', 'forward', 'public.p', 'public.t', ARRAY[{key}], n, 1, '{outcome}', '{{}}'"
        f" FROM generate_series({first}, {last}) n"
        " ON CONFLICT (context, direction, lsn, pair, key) DO UPDATE SET outcome = excluded.outcome".encode()
    )


async def counted(conn: Connection) -> int:
    return int(await pg.value(conn, _sql.count_conflicts, ("c", "forward")))


async def kept(conn: Connection, outcome: str) -> list[int]:
    rows = await pg.fetch(conn, "SELECT lsn FROM fig.conflict WHERE outcome = %s ORDER BY lsn", (outcome,))
    return [row[0] for row in rows]


async def test_the_last_ones_are_kept_and_all_are_counted(conn: Connection) -> None:
    assert await counted(conn) == 0
    await met(conn, "stopped", 1, 1)
    await met(conn, "ours", 2, 12_000)
    assert await counted(conn) == 12_000
    ours = await kept(conn, "ours")
    assert 10_000 <= len(ours) < 10_100
    assert ours[-1] == 12_000
    assert await kept(conn, "stopped") == [1], "somebody has to decide about it"
    # Tried again with a rule: the same conflict, not one more.
    await met(conn, "theirs", 1, 1)
    assert (await counted(conn), await kept(conn, "stopped")) == (12_000, [])


async def test_of_counters_the_last_of_each_row_is_kept(conn: Connection) -> None:
    for number in range(1, 31):
        await met(conn, "added", number, number, key=f"'{number % 3}'")
    await met(conn, "ours", 31, 31, key="'1'")
    assert await counted(conn) == 31
    assert (await kept(conn, "added"), await kept(conn, "ours")) == ([28, 29, 30], [31])


async def test_counting_reads_no_conflicts(conn: Connection) -> None:
    await met(conn, "ours", 1, 500)
    plan = await pg.value(conn, f"EXPLAIN (FORMAT JSON) {_sql.count_conflicts}", ("c", "forward"))
    assert '"Relation Name": "conflict_count"' in str(plan).replace("'", '"')
    assert '"Relation Name": "conflict"' not in str(plan).replace("'", '"')
