"""What both sides writing asks of real databases, and how it is begun and ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from both_estate import CONTEXT, SYNCS, Both, both, tables

from stranglerfig.changes.model import Direction
from stranglerfig.databases import versions
from stranglerfig.extraction import both as arrangement
from stranglerfig.extraction.parts import ContextParts
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation import postgres as pg
from stranglerfig.foundation.errors import FigError
from tests.conftest import Server

FORWARD, REVERSE = Direction.FORWARD, Direction.REVERSE


def context(estate: Both) -> ContextParts:
    """The estate as the controller has it."""
    service = estate.dsns[FORWARD]
    settings = ExtractionSettings.model_validate(
        {
            "context": CONTEXT,
            "service": {"url": "http://127.0.0.1:1", "database": service},
            "routes": {},
            "remaining_writers": "bidirectional",
            "tables": [table.model_dump(by_alias=True) for table in tables(estate.rule)],
        }
    )
    return ContextParts(settings, Path(), service)


async def owned_by(estate: Both, owner: str) -> None:
    """The ownership rows as after a cut-over to ``owner``."""
    for side in ("monolith", "service"):
        state = "owner" if side == owner else "ceded"
        await estate.rows(side, f"UPDATE fig.ownership SET state = '{state}', epoch = epoch + 1 RETURNING 1")


async def removed(estate: Both, side: str) -> None:
    """What an end does on one side."""
    async with pg.session(estate.dsns[REVERSE if side == "monolith" else FORWARD], what="test") as conn:
        await versions.remove(conn, CONTEXT)


@pytest.mark.parametrize("interrupted", ["monolith", "service", "prepare", "not"])
async def test_an_end_that_was_interrupted_leaves_no_false_conflicts(
    postgres: Server, postgres_b: Server, interrupted: str
) -> None:
    """Versions that one side still had made every change of the other look like a conflict, and stopped both flows."""
    async with both((postgres, postgres_b), None) as estate:
        await estate.start(*SYNCS)
        await estate.run("monolith", "INSERT INTO labels SELECT c, 'first', 1, 'b' FROM unnest(ARRAY['a', 'b']) c")
        await estate.settled()
        for title in ("second", "third"):
            await estate.run("service", f"UPDATE label SET title = '{title}'")
            await estate.settled()
            await estate.run("monolith", "UPDATE labels SET size = size + 1")
            await estate.settled()
        await owned_by(estate, "monolith")
        if interrupted in ("monolith", "service"):
            await removed(estate, interrupted)
        elif interrupted == "prepare":
            async with pg.session(estate.dsns[FORWARD], what="test") as conn:
                await versions.forget(conn, CONTEXT)
        await arrangement.prepare(estate.dsns[REVERSE], context(estate))
        await estate.run("monolith", "UPDATE labels SET body = 'm' WHERE code = 'a'")
        await estate.settled()
        await owned_by(estate, "service")
        await estate.run(
            "service",
            'SELECT pg_logical_emit_message(true, \'fig.activated\', \'{"context": "inventory", "epoch": 3}\')',
        )
        await estate.run("service", "UPDATE label SET title = 'fourth'")
        await estate.settled()
        await estate.run("monolith", "UPDATE labels SET size = 9")
        await estate.settled()
        assert (await estate.equal())["label"] == [("a", "fourth", 9, "m"), ("b", "fourth", 9, "b")]
        assert await estate.conflicts("service") == await estate.conflicts("monolith") == []


async def test_changes_on_their_way_from_before_hide_no_conflict(postgres: Server, postgres_b: Server) -> None:
    """Numbers that began again were below those that were on their way: a change of both sides went unnoticed."""
    async with both((postgres, postgres_b), "service wins") as estate:
        await estate.start(*SYNCS)
        await estate.run("monolith", "INSERT INTO labels VALUES ('a', 'first', 1, 'b')")
        await estate.settled()
        await owned_by(estate, "monolith")
        await estate.stop(*SYNCS)
        for number in range(5):
            await estate.run("monolith", f"UPDATE labels SET size = {number}")
        await removed(estate, "monolith")
        await arrangement.prepare(estate.dsns[REVERSE], context(estate))
        await arrangement.prepare(estate.dsns[REVERSE], context(estate))
        await estate.start(*SYNCS)
        await estate.settled()
        await owned_by(estate, "service")
        await arrangement.prepare(estate.dsns[REVERSE], context(estate))  # nothing is forgotten from here on
        await estate.run(
            "service",
            'SELECT pg_logical_emit_message(true, \'fig.activated\', \'{"context": "inventory", "epoch": 3}\')',
        )
        await estate.stop(*SYNCS)
        await estate.run("service", "UPDATE label SET title = 'service'")
        await estate.run("monolith", "UPDATE labels SET title = 'monolith'")
        await estate.start(*SYNCS)
        await estate.settled()
        assert (await estate.equal())["label"] == [("a", "service", 4, "b")]
        assert len(await estate.conflicts("service")) == len(await estate.conflicts("monolith")) == 1


async def test_versions_are_forgotten_beside_writers(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), None) as estate:
        await estate.run("monolith", "INSERT INTO labels SELECT c, 'first', 1, 'b' FROM unnest(ARRAY['a', 'b']) c")
        async with pg.session(estate.dsns[REVERSE], what="test") as ours:
            async with pg.session(estate.app["monolith"], what="app") as writer, writer.transaction():
                await writer.execute("UPDATE labels SET size = 2 WHERE code = 'a'")
                with pytest.raises(FigError) as busy:
                    await versions.forget(ours, CONTEXT, timeout=0)
                assert busy.value.code == "table_busy"
                waiting = asyncio.ensure_future(versions.forget(ours, CONTEXT))
                await writer.execute("UPDATE labels SET size = 2 WHERE code = 'b'")
            await waiting
        # What was changed meanwhile has a number that is above all that were forgotten.
        left = await estate.rows("monolith", "SELECT key, local FROM fig.row_version WHERE context = 'inventory'")
        assert {key[0] for key, _ in left} <= {"a", "b"}
        async with pg.session(estate.dsns[REVERSE], what="test") as ours:
            await versions.forget(ours, CONTEXT)
        assert await estate.rows("monolith", "SELECT 1 FROM fig.row_version") == []
