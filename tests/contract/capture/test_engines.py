"""Native capture and Debezium over the same writes: what the log has must not tell which of them it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import groupby, pairwise
from typing import Any

import pytest

from stranglerfig.changes.envelope import expand
from stranglerfig.changes.model import UNCHANGED, Barrier, Change, SnapshotChunk, Transaction
from stranglerfig.changes.spread import Spread
from stranglerfig.foundation import postgres as sessions
from tests.captures import Running
from tests.conftest import Server
from tests.contract.capture import writes
from tests.contract.capture.conftest import Farm

pytestmark = pytest.mark.timeout(600)  # the first one starts the servers


def whole(items: Iterable[Any]) -> list[Transaction]:
    """Transactions put together from their parts, which the engines cut elsewhere."""
    made = []
    parts = [item for item in items if isinstance(item, Transaction)]
    for _, group in groupby(parts, key=lambda part: part.lsn):
        first, *others = group
        together = list(first.items)
        for part in others:
            assert part.first == first.first + len(together), "parts must join"
            together += part.items
        assert all(not part.end for part in [first, *others][:-1])
        assert [first, *others][-1].end
        made.append(first._replace(items=tuple(together), end=True, trace=[first, *others][-1].trace))
    return made


def same(native: list[Transaction], debezium: list[Transaction]) -> None:
    """Equal but for the LSN: Debezium knows only where the commit record ends."""
    for ours, theirs in zip(native, debezium, strict=False):
        for mine, other in zip(ours.items, theirs.items, strict=False):
            assert mine == other
        assert theirs._replace(lsn=0) == ours._replace(lsn=0)
    assert len(native) == len(debezium)
    for (ours, later), theirs in zip(pairwise(native), debezium, strict=False):
        assert ours.lsn <= theirs.lsn < later.lsn


def envelopes(found: list[Transaction]) -> list[dict[str, Any]]:
    made = list(expand(found, name="shop", db="shop"))
    for envelope in made:
        envelope["source"].pop("lsn")
    return made


async def both(
    dsn: str,
    farm: Farm,
    conn: sessions.Connection,
    statements: Iterable[str],
    tables: tuple[str, ...],
    spread: Spread | None = None,
) -> tuple[Running, Running]:
    """Run ``statements`` while both engines capture; both have all of it when this returns."""
    native = Running(dsn, tables=tables, spread=spread)
    debezium = Running(dsn, tables=tables, spread=spread, through=farm.through)
    await run(native, debezium, conn, statements)
    return native, debezium


async def run(native: Running, debezium: Running, conn: sessions.Connection, statements: Iterable[str]) -> None:
    """Run ``statements`` while both engines capture; both have all of it, and are stopped, when this returns."""
    native.start()
    debezium.start()
    try:
        await native.streaming()
        await debezium.streaming()
        for statement in statements:
            await conn.execute(statement)  # type: ignore[call-overload]
        await native.caught_up(conn)
        await debezium.caught_up(conn)
    finally:
        await native.stop()
        await debezium.stop()


@pytest.fixture
async def source(postgres: Server) -> Any:
    dsn = postgres.database()
    async with sessions.session(dsn, what="test") as conn:
        await conn.execute(writes.SCHEMA)  # type: ignore[arg-type]
        yield dsn, conn


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(list(writes.types()), id="types"),
        pytest.param(list(writes.toast()), id="toast"),
        pytest.param(list(writes.keys()), id="keys"),
        pytest.param(list(writes.messages()), id="messages"),
        pytest.param(list(writes.mixture(7, 300)), id="mixture"),
        pytest.param(list(writes.huge(25_000)), id="huge"),
    ],
)
async def test_the_log_has_the_same_transactions_whichever_engine_read_them(
    source: Any, farm: Farm, statements: list[str]
) -> None:
    dsn, conn = source
    native, debezium = await both(dsn, farm, conn, statements, writes.TABLES)
    ours, theirs = whole(await native.items()), whole(await debezium.items())
    assert ours
    same(ours, theirs)
    assert envelopes(ours) == envelopes(theirs)


async def test_the_snapshot_is_the_same_rows(source: Any, farm: Farm) -> None:
    dsn, conn = source
    for statement in writes.types():
        await conn.execute(statement)
    native, debezium = await both(dsn, farm, conn, ["INSERT INTO made VALUES (1, 1)"], writes.TABLES)

    async def rows(running: Running) -> dict[str, set[bytes]]:
        found: dict[str, set[bytes]] = {}
        for item in await running.items():
            if isinstance(item, SnapshotChunk):
                found.setdefault(item.relation.qualified, set()).update(item.copy.splitlines(keepends=True))
        return found

    assert await rows(native) == await rows(debezium)
    assert [c.op for c in await debezium.changes() if isinstance(c, Change)] == ["c"]
    await asyncio.sleep(0)


async def test_both_divide_over_partitions_alike(source: Any, farm: Farm) -> None:
    """By key, with barriers around what is not divided; Debezium's stopped and taken up again in the middle."""
    dsn, conn = source
    keys = {"public.numbers": ("id",), "public.times": ("id",), "public.two_keys": ("a",), "public.by_index": ("id",)}
    spread = Spread(3, keys)
    statements = [*writes.keys(), *writes.mixture(11, 150)]
    native, debezium = await both(dsn, farm, conn, statements, writes.TABLES, spread)
    await run(native, debezium, conn, writes.mixture(12, 60))
    for partition in range(3):
        ours, theirs = await native.items(partition), await debezium.items(partition)
        assert sum(isinstance(item, Transaction) for item in ours) > 10
        same(whole(ours), whole(theirs))

        def fences(items: list[Any]) -> list[tuple[int, bool]]:
            return [(item.ordinal, item.closes) for item in items if isinstance(item, Barrier)]

        assert fences(ours) == fences(theirs)
        assert fences(ours)


async def test_what_differs_by_value_is_what_the_page_says(postgres: Server, farm: Farm) -> None:
    """docs/explanation/capture-and-sync.md; what differs by type is refused beforehand (test_capture_debezium.py)."""
    dsn = postgres.database()
    statements = (
        "INSERT INTO odd VALUES (1, 1234.5, NULL, '{{1,2},{3,4}}', NULL, NULL)",
        "INSERT INTO odd VALUES (2, NULL, NULL, NULL, '{0044-03-15 BC}', NULL)",
        "INSERT INTO odd VALUES (3, NULL, NULL, NULL, NULL, '294250-01-01')",
        "INSERT INTO odd SELECT 4, NULL, string_agg(i::text, '')::numeric FROM generate_series(1, 5000) i",
        "UPDATE odd SET m = 1 WHERE id = 4",
    )
    async with sessions.session(dsn, what="test") as conn:
        await conn.execute("CREATE TABLE odd (id int PRIMARY KEY, m money, n numeric, a int[], d date[], ts timestamp)")
        native, debezium = await both(dsn, farm, conn, statements, ("public.odd",))
    ours, theirs = [[change.after or () for change in await engine.changes()] for engine in (native, debezium)]
    assert [row[1] for row in ours] == ["$1,234.50", None, None, None, "$1.00"]
    assert [row[1] for row in theirs] == ["1234.50", None, None, None, "1.00"]
    assert (ours[0][3], theirs[0][3]) == ("{{1,2},{3,4}}", "{NULL,NULL}")
    assert (ours[1][4], theirs[1][4]) == ('{"0044-03-15 BC"}', "{0044-03-15}")
    assert ours[2][5] == "294250-01-01 00:00:00" != theirs[2][5]
    assert ours[3] == theirs[3] and len(str(ours[3][2])) > 10_000
    assert ours[4][2] is theirs[4][2] is UNCHANGED
