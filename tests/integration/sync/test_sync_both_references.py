"""Rows that refer to each other, where both sides write: applied in an order that the target's foreign keys allow."""

from __future__ import annotations

import pytest
from both_estate import SYNCS, Both, both

from stranglerfig.changes.model import Direction
from stranglerfig.foundation import postgres as pg
from tests.conftest import Server

FORWARD, REVERSE = Direction.FORWARD, Direction.REVERSE

ROWS = (
    "INSERT INTO shelves VALUES (1, 'one'), (2, 'two')",
    "INSERT INTO places VALUES (1, 1, 'p')",
    "INSERT INTO tags VALUES (1, 1, NULL, 't')",
)


async def begun(estate: Both) -> None:
    """The rows, on both sides; the syncs run."""
    await estate.start(*SYNCS)
    await estate.run("monolith", *ROWS)
    await estate.settled()


async def went(estate: Both, side: str, *statements: str) -> dict[str, list[object]]:
    """Statements in one transaction of ``side``; what both sides hold then."""
    if side == "service":
        names = {"shelves": "shelf", "places": "place", "tags": "tag"}
        statements = tuple(" ".join(names.get(word, word) for word in statement.split(" ")) for statement in statements)
    await estate.run(side, *statements)
    await estate.settled()
    assert await estate.conflicts("service") == await estate.conflicts("monolith") == []
    return await estate.equal()


@pytest.mark.parametrize("side", ["monolith", "service"])
async def test_what_referred_to_a_row_that_goes_stays(postgres: Server, postgres_b: Server, side: str) -> None:
    """Pointed elsewhere and then removed, in one transaction: with ON DELETE CASCADE, and without."""
    async with both((postgres, postgres_b), None) as estate:
        await begun(estate)
        found = await went(
            estate,
            side,
            "UPDATE places SET shelf = 2",
            "UPDATE tags SET shelf = 2",
            "DELETE FROM shelves WHERE id = 1",
        )
        assert (found["shelf"], found["place"]) == ([(2, "two")], [(1, 2, "p")])
        assert found["tag"] == [(1, 2, None, "t")]


@pytest.mark.parametrize("side", ["monolith", "service"])
async def test_what_goes_along_goes_along(postgres: Server, postgres_b: Server, side: str) -> None:
    """A tree, removed by its root: what sync was to remove has gone when it comes to it."""
    async with both((postgres, postgres_b), None) as estate:
        await begun(estate)
        await went(
            estate, side, "INSERT INTO tags VALUES (2, 2, 1, 'under 1'), (3, 2, 2, 'under 2'), (4, 2, NULL, 'x')"
        )
        found = await went(estate, side, "DELETE FROM tags WHERE id = 1")
        assert found["tag"] == [(4, 2, None, "x")]
        found = await went(estate, side, "DELETE FROM shelves WHERE id = 2")
        assert found["tag"] == []


async def test_values_that_change_places(postgres: Server, postgres_b: Server) -> None:
    """Neither order of whole rows is allowed: only that of the source's own statements."""
    async with both((postgres, postgres_b), None) as estate:
        await begun(estate)
        await went(
            estate,
            "monolith",
            "UPDATE shelves SET name = 'meanwhile' WHERE id = 1",
            "UPDATE shelves SET name = 'one' WHERE id = 2",
            "UPDATE shelves SET name = 'two' WHERE id = 1",
        )
        found = await went(
            estate,
            "service",
            "INSERT INTO shelves VALUES (3, 'three')",
            "UPDATE places SET shelf = 3",
            "UPDATE tags SET shelf = 3, note = 'moved'",
            "DELETE FROM shelves WHERE id = 1",
            "UPDATE shelves SET name = 'two' WHERE id = 3",
        )
        assert found["shelf"] == [(2, "one"), (3, "two")]
        assert (found["place"], found["tag"]) == ([(1, 3, "p")], [(1, 3, None, "moved")])


async def test_a_row_that_stands_is_not_taken_along(postgres: Server, postgres_b: Server) -> None:
    """The monolith removes a row with what refers to it; the service, which wins, has changed what refers to it."""
    async with both((postgres, postgres_b), "service wins") as estate:
        await begun(estate)
        await estate.stop(*SYNCS)
        await estate.run("monolith", "DELETE FROM places", "DELETE FROM shelves WHERE id = 1")
        await estate.run("service", "UPDATE tag SET note = 'changed'")
        await estate.start(*SYNCS)
        assert "went" in (await estate.stopped(FORWARD))["message"]
        assert await estate.rows("service", "SELECT note FROM tag") == [("changed",)]
        assert "tags_shelf_fkey" in (await estate.stopped(REVERSE))["message"]


async def test_a_row_that_the_other_side_never_saw_is_not_taken_along(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), "service wins") as estate:
        await begun(estate)
        await estate.stop(*SYNCS)
        await estate.run("monolith", "DELETE FROM places", "DELETE FROM shelves WHERE id = 1")
        await estate.run("service", "INSERT INTO tag VALUES (7, 1, NULL, 'new')")
        await estate.start(*SYNCS)
        assert "went" in (await estate.stopped(FORWARD))["message"]
        assert await estate.rows("service", "SELECT id FROM tag ORDER BY 1") == [(1,), (7,)]


async def test_a_row_that_a_trigger_keeps_is_not_taken_for_gone(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), "service wins") as estate:
        await begun(estate)
        async with pg.session(estate.dsns[FORWARD], what="test") as conn:
            await conn.execute("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
            await conn.execute("CREATE TRIGGER keep BEFORE DELETE ON place FOR EACH ROW EXECUTE FUNCTION keep()")
        await estate.run("monolith", "DELETE FROM places")
        assert "went" in (await estate.stopped(FORWARD))["message"]
