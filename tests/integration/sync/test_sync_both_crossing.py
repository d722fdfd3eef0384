"""A writer of this side between two statements of sync: each order of the two that could leave the sides different."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import psycopg
import pytest
from both_estate import SYNCS, Both, both
from interleaving import before

from stranglerfig.changes.model import Direction
from stranglerfig.foundation import clock
from stranglerfig.foundation import postgres as pg
from tests.conftest import Server

FORWARD, REVERSE = Direction.FORWARD, Direction.REVERSE


async def begun(estate: Both, *statements: str) -> None:
    """Rows that both sides have; then the syncs stand still."""
    await estate.start(*SYNCS)
    await estate.run("monolith", *statements)
    await estate.settled()
    await estate.stop(*SYNCS)


async def until_waiting(estate: Both, side: str, task: asyncio.Task[None]) -> None:
    """The application's transaction has ended, or waits for somebody."""

    async def waits() -> bool:
        return task.done() or bool(
            await estate.rows(
                side,
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fig:app'"
                " AND wait_event_type = 'Lock'",
            )
        )

    await clock.until(waits, timeout=10, what="the application", every=0.002, at_most=0.01)


async def test_a_row_made_between_the_look_at_rows_and_at_versions(postgres: Server, postgres_b: Server) -> None:
    """The monolith removed the row, and wins; the service makes it again once its rows were looked at."""
    async with both((postgres, postgres_b), "monolith wins") as estate:
        await begun(estate, "INSERT INTO labels VALUES ('a', 'first', 1, 'b')")
        await estate.run("service", "DELETE FROM label")
        await estate.run("monolith", "DELETE FROM labels")

        async def again(_: psycopg.AsyncConnection[Any]) -> None:
            await estate.run("service", "INSERT INTO label VALUES ('a', 'again', 2, 'b')")

        with before("fig.row_version", again, session="sync inventory forward") as once:
            await estate.start(("sync", FORWARD))
            await estate.start(("sync", REVERSE))
            await estate.settled()
        assert once.done
        assert (await estate.equal())["label"] == []


@pytest.mark.parametrize("rule", ["service wins", "monolith wins", "later commit wins"])
async def test_a_row_made_and_removed_after_the_look(postgres: Server, postgres_b: Server, rule: str) -> None:
    """Neither row nor version is there when sync looks, so there is nothing to lock; then this side makes both."""
    async with both((postgres, postgres_b), rule) as estate:
        writers: list[asyncio.Task[None]] = []
        await estate.run("monolith", "INSERT INTO labels VALUES ('n', 'monolith', 1, 'b')")

        async def meanwhile(_: psycopg.AsyncConnection[Any]) -> None:
            made, gone = "INSERT INTO label VALUES ('n', 'service', 2, 'b')", "DELETE FROM label WHERE code = 'n'"
            writers.append(asyncio.ensure_future(estate.run("service", made, gone)))
            await until_waiting(estate, "service", writers[0])

        with before('INSERT INTO "public"."label"', meanwhile, session="sync inventory forward"):
            await estate.start(("sync", FORWARD))
            await clock.until(lambda: _begun(writers), timeout=20, what="the forward sync")
            await writers[0]
            await estate.start(("sync", REVERSE))
            await estate.settled()
        found = (await estate.equal())["label"]
        assert found == ([("n", "monolith", 1, "b")] if rule == "monolith wins" else [])


async def _begun(writers: list[asyncio.Task[None]]) -> bool:
    return bool(writers)


async def waits_for(estate: Both, direction: Direction, pid: int | None) -> None:
    """The report of a direction's sync names the session that it waits for; None: nobody."""

    async def named() -> bool:
        told = estate.told.get(("sync", direction), {})
        assert told.get("state") != "stopped", told["error"]
        found = [holder["pid"] for holder in told.get("waits_for", [])]
        return found == ([] if pid is None else [pid])

    await clock.until(named, timeout=20, what=f"the report to say {pid}")


async def test_sync_waits_longer_for_who_keeps_it_out_and_says_for_whom(postgres: Server, postgres_b: Server) -> None:
    """A row is never free for long: whoever waits 50 ms for it, again and again, never gets in.

    Kept out for ten seconds, sync waits longer than the server (here 100 ms) waits before it looks for a deadlock.
    """
    async with both((postgres, postgres_b), None) as estate:
        await begun(estate, "INSERT INTO inventory VALUES (1, 'm', 10, 1, NULL), (2, 'm', 10, 1, NULL)")
        async with pg.session(estate.app["service"], what="app") as holder:
            pid = holder.info.backend_pid
            async with holder.transaction():
                await holder.execute("UPDATE stock SET on_hand = on_hand + 1 WHERE item_id = 2")
                await estate.run("monolith", "UPDATE inventory SET quantity = quantity - 5")
                await estate.start(*SYNCS)
                await waits_for(estate, FORWARD, pid)

                async def patient() -> bool:
                    return bool(
                        await estate.rows(
                            "service",
                            "SELECT 1 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
                            " WHERE a.application_name = 'fig:sync inventory forward' AND NOT l.granted"
                            " AND clock_timestamp() - l.waitstart > interval '300 ms'",
                        )
                    )

                await clock.until(patient, timeout=30, what="sync to wait longer", every=0.01, at_most=0.02)
        await waits_for(estate, FORWARD, None)
        await estate.settled()
        assert (await estate.equal())["stock"] == [(1, 5, 1), (2, 6, 1)]


async def test_a_writer_met_while_a_refused_change_is_put_aside(
    postgres: Server, postgres_b: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """What came before the change that is refused is applied anew, without it; a writer holds a row of it by then."""
    async with both((postgres, postgres_b), "service wins") as estate, contextlib.AsyncExitStack() as stack:
        async with pg.session(estate.dsns[FORWARD], what="test") as conn:
            await conn.execute("ALTER TABLE stock ADD CHECK (on_hand >= 0)")
        await begun(estate, "INSERT INTO inventory VALUES (1, 'thing', 10, 0, 'n'), (2, 'thing', 10, 0, 'n')")
        await estate.run("service", "UPDATE stock SET on_hand = on_hand - 7 WHERE item_id = 1")
        await estate.run("monolith", "UPDATE inventory SET quantity = quantity - 1 WHERE item_id = 2")
        await estate.run("monolith", "UPDATE inventory SET quantity = quantity - 8 WHERE item_id = 1")
        holder = await stack.enter_async_context(pg.session(estate.app["service"], what="app"))

        async def hold(_: psycopg.AsyncConnection[Any]) -> None:
            await holder.execute("BEGIN; UPDATE stock SET on_hand = on_hand + 1 WHERE item_id = 2")

        async def careful(_: psycopg.AsyncConnection[Any]) -> None:
            stack.enter_context(before("BEGIN", hold, session="sync inventory forward"))

        stack.enter_context(before("SAVEPOINT fig", careful, session="sync inventory forward"))
        caplog.clear()
        await estate.start(("sync", FORWARD))
        await waits_for(estate, FORWARD, holder.info.backend_pid)
        await holder.execute("COMMIT")
        assert "stock_on_hand_check" in (await estate.stopped(FORWARD))["message"]
        assert await estate.rows("service", "SELECT on_hand FROM stock ORDER BY 1") == [(3,), (10,)]
        assert [record.message for record in caplog.records if getattr(record, "action", "") == "sync_restart"] == []
