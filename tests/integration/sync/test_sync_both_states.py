"""Both sides write, on the way there and back: what is applied where nothing of this side's own is counted yet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sync_scenario as s
from both_estate import SYNCS, Both, both

from stranglerfig.changes.conflicts import compile_conflicts
from stranglerfig.changes.model import Direction, Transaction
from stranglerfig.databases import catalogue, versions
from stranglerfig.foundation import clock
from stranglerfig.foundation import postgres as pg
from tests.conftest import Server

FORWARD, REVERSE = Direction.FORWARD, Direction.REVERSE
TABLES = s.TABLES[:3]


async def given_back(estate: Both) -> None:
    """The monolith owns again, at the next epoch, and has said so."""
    await estate.rows("service", "UPDATE fig.ownership SET state = 'ceded', epoch = 2 RETURNING 1")
    await estate.rows("monolith", "UPDATE fig.ownership SET state = 'owner', epoch = 2, shared = false RETURNING 1")
    await estate.run(
        "monolith", 'SELECT pg_logical_emit_message(true, \'fig.activated\', \'{"context": "inventory", "epoch": 2}\')'
    )


async def forward_in(estate: Both) -> None:
    """All that the monolith has written until now is in the service."""
    [(end,)] = await estate.rows("monolith", "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
    await estate.run("monolith", "SELECT pg_logical_emit_message(true, 'fig.marker', '{\"context\": \"inventory\"}')")

    async def done() -> bool:
        told = estate.told.get(("sync", FORWARD), {})
        assert told.get("state") != "stopped", told["error"]
        return bool(
            await estate.rows("service", f"SELECT 1 FROM fig.applied WHERE direction = 'forward' AND lsn >= {end}")
        )

    await clock.until(done, timeout=20, what="the monolith's changes")


@pytest.mark.parametrize("known", [True, False], ids=["versions-known", "versions-never-known"])
async def test_a_service_that_gave_back_takes_changes_without_versions(
    postgres: Server, postgres_b: Server, known: bool
) -> None:
    """One side alone wrote, here and there; now the setting says that both will: no trigger stands yet, and old rows
    are not sent. The service has nothing of its own that a change could meet."""
    async with both((postgres, postgres_b), None) as estate:
        for direction in Direction:
            async with pg.session(estate.dsns[direction], what="test") as conn:
                await versions.remove(conn, "inventory")
                if not known:
                    await conn.execute("DROP TABLE fig.row_version")
        # As the service wrote alone: what it wrote came without versions.
        estate.jobs[REVERSE] = replace(estate.jobs[REVERSE], rules=None)
        await estate.run("service", "INSERT INTO label VALUES ('s', 'by the service', 1, 'b')")
        async with pg.session(estate.dsns[REVERSE], what="test") as conn:
            await conn.execute("ALTER TABLE inventory REPLICA IDENTITY DEFAULT")
            await conn.execute("ALTER TABLE labels REPLICA IDENTITY DEFAULT")
        await estate.start(*SYNCS)
        await estate.settled()
        await given_back(estate)
        await estate.run("monolith", "INSERT INTO inventory VALUES (1, 'thing', 100, 0, 'n')")
        await estate.run("monolith", "UPDATE inventory SET quantity = 99")
        await estate.run("monolith", "UPDATE labels SET title = 'by the monolith'")
        await forward_in(estate)
        found = await estate.equal()
        assert (found["stock"], found["label"]) == ([(1, 99, 0)], [("s", "by the monolith", 1, "b")])
        await estate.run("monolith", "TRUNCATE labels")
        await forward_in(estate)
        assert (await estate.equal())["label"] == []


async def test_a_service_that_gave_back_after_both_wrote_takes_none_without_version(
    postgres: Server, postgres_b: Server
) -> None:
    async with both((postgres, postgres_b), "service wins") as estate:
        await estate.start(*SYNCS)
        await estate.run("service", "INSERT INTO label VALUES ('s', 'by the service', 1, 'b')")
        await estate.settled()
        await given_back(estate)
        await estate.run("monolith", "UPDATE labels SET title = 'with a version'")
        await forward_in(estate)
        assert (await estate.equal())["label"] == [("s", "with a version", 1, "b")]
        async with pg.session(estate.dsns[REVERSE], what="test") as conn:
            await conn.execute("UPDATE labels SET title = 'past the trigger'")
        assert (await estate.stopped(FORWARD))["code"] == "change_refused"
        assert "does not say its version" in (await estate.stopped(FORWARD))["message"]


async def written_by_hand(postgres: Server, postgres_b: Server) -> s.Flow:
    """A forward topic where both sides write, and a service that owns, with a row of its own."""
    source, target = postgres.database(), postgres_b.database()
    flow = s.Flow(await s.databases(source, target, tables=TABLES), target)
    async with pg.session(source, what="test") as one, pg.session(target, what="test") as other:
        here = await catalogue.tables(one, sorted({t.source for t in TABLES}))
        there = await catalogue.tables(other, sorted({t.target for t in TABLES}))
        await versions.migrate(other)
    flow.job = replace(flow.job, rules=compile_conflicts(TABLES, flow.job.mapping, here, there))
    await s.run_sql(
        target,
        "INSERT INTO fig.ownership (context, side, state, epoch, enforcing, admitted)"
        " VALUES ('inventory', 'service', 'owner', 1, true, '{}')",
        "INSERT INTO inventory_item VALUES (1, 'a', 'b', 0)",
    )
    return flow


async def test_a_snapshot_never_empties_a_service_that_owns(postgres: Server, postgres_b: Server) -> None:
    flow = await written_by_hand(postgres, postgres_b)
    await flow.snapshot()  # of a monolith's tables that are empty: nothing but its edges
    async with flow.running():
        assert (await flow.stopped())["code"] == "snapshot_on_owner"
    assert await s.rows(flow.job.dsn, "SELECT item_id FROM inventory_item") == [(1,)]
    # Given back, the copy goes on where it stood.
    await s.run_sql(flow.job.dsn, "UPDATE fig.ownership SET state = 'standby'")
    flow.reports.clear()
    async with flow.running():
        await flow.applied()
    assert await s.rows(flow.job.dsn, "SELECT item_id FROM inventory_item") == []


@pytest.mark.parametrize("both_write", [True, False], ids=["both-write", "one-writes"])
async def test_what_came_of_a_transaction_without_end_goes_with_a_copy_anew(
    postgres: Server, postgres_b: Server, both_write: bool
) -> None:
    """Capture lost its slot in the middle of a large transaction: the copy has it, the rest of it never comes."""
    flow = await written_by_hand(postgres, postgres_b)
    await s.run_sql(flow.job.dsn, "UPDATE fig.ownership SET state = 'standby'")
    if not both_write:
        flow.job = replace(flow.job, rules=None)
    begun = tuple(s.create(s.INVENTORY, s.item(n)) for n in (2, 3))
    await flow.transactions(Transaction(1500, 9, 1, 1, begun, False))
    flow.lsn = 2000
    await flow.snapshot((s.INVENTORY, [s.item(2), s.item(3, 7)]))
    parts = [tuple(s.create(s.INVENTORY, s.item(n)) for n in pair) for pair in ((4, 5), (6, 7))]
    await flow.transactions(Transaction(2500, 10, 1, 1, parts[0], False))
    await flow.transactions(Transaction(2500, 10, 1, 3, parts[1], True))
    flow.lsn = 2600
    await flow.stream([s.create(s.INVENTORY, s.item(8))])
    async with flow.running():
        await flow.applied()
    assert await s.rows(flow.job.dsn, "SELECT item_id, on_hand FROM stock_level ORDER BY 1") == [
        (2, 5),
        (3, 7),
        *((n, 5) for n in range(4, 9)),
    ]


async def test_a_transaction_that_lacks_its_end_is_not_taken_for_one(postgres: Server, postgres_b: Server) -> None:
    flow = await written_by_hand(postgres, postgres_b)
    await flow.transactions(Transaction(1500, 9, 1, 1, (s.create(s.INVENTORY, s.item(2)),), False))
    await flow.transactions(Transaction(1600, 9, 1, 1, (s.create(s.INVENTORY, s.item(3)),), False))
    await flow.transactions(Transaction(1600, 9, 1, 2, (s.create(s.INVENTORY, s.item(4)),), True))
    async with flow.running():
        assert (await flow.stopped())["code"] == "log_gap"
