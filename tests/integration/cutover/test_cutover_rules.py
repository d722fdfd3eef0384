"""The pure predicates and the SQL of the compare-and-sets say the same, over every state and epoch."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest

from stranglerfig.databases import markers, ownership
from stranglerfig.databases.model import State
from stranglerfig.extraction import model
from stranglerfig.extraction.model import Row
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection

STATES: tuple[State, ...] = get_args(State)
ROWS = [Row(state, epoch, nonce) for state, epoch, nonce in itertools.product(STATES, (1, 2, 3), (None, "n", "other"))]


@pytest.fixture
async def conn(postgres: Any) -> AsyncIterator[Connection]:
    async with session(postgres.database()) as conn:
        await ownership.install(conn, "c", side="service", owner=False, tables=[], enforcing=True)
        await conn.execute("CREATE TABLE fig.marker (context text, direction text, nonce text)")
        await conn.execute("INSERT INTO fig.marker VALUES ('c', 'forward', 'n'), ('c', 'reverse', 'other')")
        yield conn


def session(dsn: str) -> Any:
    return postgres.session(dsn, what="test")


async def changed(conn: Connection, row: Row, work: Any) -> Row | None:
    """The row after ``work`` on ``row``; None when it compared unequal."""
    await conn.execute("UPDATE fig.ownership SET (state, epoch, nonce) = (%s, %s, %s)", tuple(row))
    try:
        await work()
    except FigError as error:
        assert error.code == "ownership_changed"
        return None
    after = await ownership.read(conn, "c")
    assert after is not None
    return Row(after.state, after.epoch, after.nonce)


async def test_predicates_and_sql_agree(conn: Connection) -> None:
    for row in ROWS:
        results = {
            "intend": (
                await changed(conn, row, lambda: ownership.intend(conn, "c", epoch=2)),
                Row("intent", 2) if model.may_intend(row, 2) else None,
            ),
            "fence": (
                await changed(conn, row, lambda: ownership.fence(conn, "c", epoch=2, nonce="n", lock_timeout=1)),
                Row("fenced", 2, "n") if model.may_fence(row, 2, drained=True) else None,
            ),
            "mark": (
                await changed(conn, row, lambda: markers.emit_fence_marker(conn, "c", "forward", epoch=2, nonce="n")),
                row if model.may_mark(row, 2, "n") else None,
            ),
            "cede": (
                await changed(conn, row, lambda: ownership.cede(conn, "c", epoch=2, nonce="n")),
                Row("ceded", 2, "n") if model.may_cede(row, 2, "n") else None,
            ),
            "activate": (
                await changed(
                    conn, row, lambda: ownership.activate(conn, "c", epoch=2, nonce="n", direction="forward")
                ),
                Row("owner", 2, "n") if model.may_activate(Row("ceded", 2, "n"), row, 2) else None,
            ),
            "activate without its marker": (
                await changed(
                    conn, row, lambda: ownership.activate(conn, "c", epoch=2, nonce="other", direction="forward")
                ),
                None,
            ),
            "abort": (
                await changed(conn, row, lambda: ownership.abort(conn, "c", epoch=2)),
                Row("owner", 2) if model.may_abort(row, 2) else None,
            ),
        }
        for name, (sql, pure) in results.items():
            assert sql == pure, (name, row)
