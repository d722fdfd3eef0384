"""What is said to do about a parked conflict leads out: followed to the letter, both sides end equal and go on."""

from __future__ import annotations

from typing import Any

import pytest
from both_estate import SYNCS, Both, both

from stranglerfig.changes.model import Direction
from stranglerfig.cli.sync import _leads_out
from stranglerfig.foundation import clock
from stranglerfig.foundation import postgres as pg
from stranglerfig.runtime import parked as store
from stranglerfig.sync import apply
from tests.conftest import Server

FORWARD, REVERSE = Direction.FORWARD, Direction.REVERSE
HERE = {FORWARD: "service", REVERSE: "monolith"}


async def crossing(estate: Both, first: str, monolith: list[str], service: list[str]) -> None:
    """A row that both sides have, then changes of it on both before either knows."""
    await estate.start(*SYNCS)
    await estate.run("monolith", first)
    await estate.settled()
    await estate.stop(*SYNCS)
    await estate.run("monolith", *monolith)
    await estate.run("service", *service)
    await estate.start(*SYNCS)


async def left_out(estate: Both, *directions: Direction) -> list[str]:
    """``fig sync skip`` of all that stands, until the flows go on; what ``fig sync parked`` says to do about each."""
    said = []
    for direction in directions:
        await estate.stopped(direction)
        rows = await estate.rows(HERE[direction], "SELECT id, error FROM fig.parked WHERE resolution IS NULL")
        for parked, error in rows:
            said.append(_leads_out(error) or error)
            await apply.skip(estate.dsns[direction], "inventory", direction, parked)

    async def going() -> bool:
        return all(estate.told["sync", direction]["state"] == "applying" for direction in Direction)

    await clock.until(going, timeout=20, what="both flows to go on")
    await estate.settled()
    return said


async def goes_on(estate: Both) -> None:
    """What either side writes from here on crosses and meets nothing."""
    before = len(await estate.conflicts("service")), len(await estate.conflicts("monolith"))
    await estate.run("monolith", "UPDATE inventory SET name = 'last', quantity = quantity + 1")
    await estate.settled()
    await estate.run("service", "UPDATE stock SET reserved = reserved + 1")
    await estate.settled()
    await estate.equal()
    assert (len(await estate.conflicts("service")), len(await estate.conflicts("monolith"))) == before


ITEM = "INSERT INTO inventory VALUES (1, 'thing', 100, 0, 'n')"


async def test_values_that_differ_are_written_once(
    postgres: Server, postgres_b: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both((postgres, postgres_b), None) as estate:
        await crossing(
            estate,
            ITEM,
            ["UPDATE inventory SET name = 'monolith', note = 'm'"],
            ["UPDATE item SET name = 'service'"],
        )
        for direction in Direction:
            await estate.stopped(direction)
        monkeypatch.setattr(store, "target_dsn", lambda _, __, direction: estate.dsns[direction])
        project: Any = None
        listed = await store.conflicts(project, "inventory")
        assert [row["parked"] for row in listed] == [row["id"] for row in await store.listed(project, "inventory")]
        for said in await left_out(estate, *Direction):
            assert "skip in both directions, and only then write the row once, on one side" in said
            assert "the way back is refused" in said
        assert {row["parked"] for row in await store.conflicts(project, "inventory")} == {None}
        await estate.run("monolith", "UPDATE inventory SET name = 'agreed'")
        await estate.settled()
        assert (await estate.equal())["item"] == [(1, "agreed", "m")]
        await goes_on(estate)


@pytest.mark.parametrize("again", [True, False])
async def test_a_row_that_one_side_removed(postgres: Server, postgres_b: Server, again: bool) -> None:
    async with both((postgres, postgres_b), "service wins") as estate:
        await crossing(estate, ITEM, ["DELETE FROM inventory"], ["UPDATE stock SET on_hand = on_hand - 1"])
        for said in await left_out(estate, *Direction):
            assert "one side has no such row, DELETE it in one transaction and INSERT it in another" in said
        await estate.run("service", "DELETE FROM stock", "DELETE FROM item")
        if again:
            await estate.run("service", "INSERT INTO item VALUES (1, 's', 'n')", "INSERT INTO stock VALUES (1, 99, 0)")
        await estate.settled()
        assert (await estate.equal())["stock"] == ([(1, 99, 0)] if again else [])
        await goes_on(estate)


async def test_counters_that_differ(postgres: Server, postgres_b: Server) -> None:
    """A conflict about a name leaves the difference in the same row's change out as well."""
    async with both((postgres, postgres_b), None) as estate:
        await crossing(
            estate,
            ITEM,
            ["UPDATE inventory SET name = 'monolith', quantity = quantity - 10"],
            ["UPDATE item SET name = 'service'", "UPDATE stock SET on_hand = on_hand - 1"],
        )
        await left_out(estate, *Direction)
        assert await estate.rows("monolith", "SELECT quantity FROM inventory") == [(89,)]
        assert await estate.rows("service", "SELECT on_hand FROM stock") == [(99,)]
        await estate.run("monolith", "DELETE FROM inventory")
        await estate.run("monolith", "INSERT INTO inventory VALUES (1, 'agreed', 89, 0, 'n')")
        await estate.settled()
        assert (await estate.equal())["stock"] == [(1, 89, 0)]
        await goes_on(estate)


async def test_a_row_that_is_not_there(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), "service wins") as estate:
        await estate.start(*SYNCS)
        await estate.run("monolith", ITEM)
        await estate.settled()
        await estate.stop(*SYNCS)
        async with pg.session(estate.dsns[FORWARD], what="test") as conn:
            # Lost past the triggers and past capture: as what a restored backup lacks.
            await conn.execute("SELECT pg_replication_origin_session_setup('fig_inventory_forward')")
            async with conn.transaction():
                await conn.execute("SELECT pg_replication_origin_xact_setup('0/1', now())")
                await conn.execute("DELETE FROM stock")
                await conn.execute("DELETE FROM item")
            await conn.execute("SELECT pg_replication_origin_session_reset()")  # the server ends a session later
        await estate.run("monolith", "UPDATE inventory SET quantity = 90")
        await estate.start(*SYNCS)
        [said] = await left_out(estate, FORWARD)
        assert "on the other side, DELETE the row in one transaction and INSERT it, whole, in another" in said
        await estate.run("monolith", "DELETE FROM inventory")
        await estate.run("monolith", "INSERT INTO inventory VALUES (1, 'thing', 90, 0, 'n')")
        await estate.settled()
        assert (await estate.equal())["stock"] == [(1, 90, 0)]
        await goes_on(estate)
