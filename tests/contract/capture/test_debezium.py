"""Debezium as capture, on a real Kafka Connect: what it says when it fails, what it refuses, what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from stranglerfig.capture.capture import remove, resume
from stranglerfig.capture.connect import Connect
from stranglerfig.capture.debezium import configuration, connector_name
from stranglerfig.capture.relay import findings
from stranglerfig.changes.mapping import compile_mapping
from stranglerfig.changes.model import names
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases import catalogue, markers, ownership
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation import postgres as sessions
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import apply
from stranglerfig.sync.target import SyncJob, prepare
from tests.captures import FORWARD, ITEM, OUTBOX, REVERSE, captured, held, replayed
from tests.conftest import Server
from tests.contract.capture.conftest import Farm

pytestmark = pytest.mark.timeout(600)  # the first one starts the servers


async def test_a_failed_task_is_shown_and_begins_again(postgres: Server, farm: Farm) -> None:
    async with captured(postgres.database(), ITEM, through=farm.through) as (running, conn):
        await running.streaming()
        for number in range(3):
            await conn.execute("INSERT INTO item VALUES (%s)", (number,))
            assert await sessions.value(
                conn,
                "SELECT bool_and(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE slot_name = %s",
                (names(running.job.context, FORWARD).slot,),
            )
            await running.until(
                lambda r: r["error"] and r["error"]["code"] in ("connector_failed", "connector_interrupted"),
                "connector",
            )
            await running.streaming()
        await running.caught_up(conn)
        assert replayed(await running.items()) == await held(conn)


async def test_a_lost_slot_is_said_and_another_snapshot_mends_it(postgres: Server, farm: Farm) -> None:
    async with captured(postgres.database(), ITEM, through=farm.through) as (running, conn):
        await running.streaming()
        slot = names(running.job.context, FORWARD).slot
        await conn.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", (slot,)
        )

        async def dropped() -> bool:
            await conn.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_name = %s AND NOT active",
                (slot,),
            )
            return not await sessions.fetch(conn, "SELECT FROM pg_replication_slots WHERE slot_name = %s", (slot,))

        await clock.until(dropped, timeout=20, what="the slot to be dropped")
        report = await running.failed("slot_lost")
        assert report["state"] == "failed" and "snapshot" in report["error"]["remedy"]
        await conn.execute("INSERT INTO item VALUES (1)")
        await running.stop()
        running.start(replace(running.job, generation=2))
        await running.streaming()
        await conn.execute("INSERT INTO item VALUES (2)")
        await running.caught_up(conn)
        assert (await running.items())[-1].items[0].after == ("2", None, "0")  # type: ignore[union-attr]


async def test_a_connector_that_somebody_deleted_is_made_again(postgres: Server, farm: Farm) -> None:
    async with captured(postgres.database(), ITEM, through=farm.through) as (running, conn):
        await running.streaming()
        async with Connect(farm.connect.url) as connect:
            await connect.delete(connector_name(running.job.context, FORWARD))
        await running.until(lambda r: r["error"], "an error", may_fail=True)
        await running.streaming()
        await conn.execute("INSERT INTO item VALUES (1)")
        await running.caught_up(conn)
        assert len(await running.changes()) == 1


async def test_what_changes_shape_is_held_or_passes(postgres: Server, farm: Farm) -> None:
    async with captured(postgres.database(), ITEM, through=farm.through) as (running, conn):
        await running.streaming()
        await conn.execute("INSERT INTO item VALUES (1)")
        await conn.execute("ALTER TABLE item ADD COLUMN more text")
        await conn.execute("INSERT INTO item VALUES (2, 'a', 1, 'more')")
        await running.caught_up(conn)
        assert [change.after for change in await running.changes()] == [("1", None, "0"), ("2", "a", "1", "more")]
        await conn.execute("ALTER TABLE item DROP COLUMN sku")
        await conn.execute("INSERT INTO item VALUES (3, 1, 'x')")
        report = await running.failed("incompatible_ddl")
        assert report["state"] == "paused" and "sku" in report["error"]["message"]
        await resume(running.log, running.job.context, FORWARD, "public.item")
        await running.caught_up(conn)
        assert (await running.changes())[-1].after == ("3", "1", "x")
        await conn.execute("ALTER TABLE item ALTER COLUMN n TYPE bigint")
        await conn.execute("INSERT INTO item VALUES (4, 1, 'x')")
        assert "of another type: n" in (await running.failed("incompatible_ddl"))["error"]["message"]


async def test_markers_refusals_and_the_outbox_go_their_own_ways(postgres: Server, farm: Farm) -> None:
    options = {"direction": REVERSE, "outbox": "public.outbox", "snapshot": False, "through": farm.through}
    async with captured(postgres.database(), ITEM, OUTBOX, **options) as (running, conn):
        await running.streaming()
        context = running.job.context
        say = "SELECT pg_logical_emit_message(%s, %s, %s)"
        mine = orjson.dumps({"context": context, "mode": "refused", "table": "public.item"}).decode()
        async with conn.transaction(force_rollback=True):
            await conn.execute(say, (False, "fig.refused", mine))
        await conn.execute(say, (True, "fig.marker", mine))
        async with conn.transaction():
            await conn.execute("INSERT INTO item VALUES (1)")
            await conn.execute("INSERT INTO outbox VALUES (gen_random_uuid(), 'shop', 'x.Y', 'k', '{\"a\": 1}')")
        await running.caught_up(conn)
        assert [message.content for message in await running.messages()] == [mine]
        [refusal] = await running.log.read(f"fig.refusals.{context}", 0, 0)
        assert refusal.event.subject == "public.item"
        [event] = await running.log.read("shop", 0, 0)
        assert (event.event.type, event.event.data) == ("x.Y", b'{"a": 1}')
        assert {change.relation.name for change in await running.changes()} == {"item"}

        async def deleted() -> bool:
            return not await sessions.fetch(conn, "SELECT FROM outbox")

        await clock.until(deleted, timeout=20, what="published rows to be deleted")


async def test_what_sync_writes_does_not_come_back(postgres: Server, farm: Farm) -> None:
    async with captured(postgres.database(), ITEM, through=farm.through) as (running, conn):
        await running.streaming()
        origin = names(running.job.context, REVERSE).origin
        await conn.execute("SELECT pg_replication_origin_create(%s)", (origin,))
        async with sessions.session(running.job.dsn, what="sync") as sync:
            await sync.execute("SELECT pg_replication_origin_session_setup(%s)", (origin,))
            await sync.execute("INSERT INTO item VALUES (1)")
            await sync.execute("SELECT pg_replication_origin_session_reset()")  # the server ends a session later
        await conn.execute("SELECT pg_replication_origin_drop(%s)", (origin,))
        await conn.execute("INSERT INTO item VALUES (2)")
        await running.caught_up(conn)
        assert [change.after for change in await running.changes()] == [("2", None, "0")]


async def test_what_debezium_would_lose_is_refused_before_anything_is_made(postgres: Server, farm: Farm) -> None:
    table = "CREATE TABLE item (id int PRIMARY KEY, a timetz, b varbit, c numeric[], d int[][], e float8[], f numeric)"
    async with captured(postgres.database(), table, through=farm.through) as (running, conn):
        said = (await running.failed("undeliverable_types"))["error"]["message"]
        assert all(f"item.{column} (" in said for column in "abcde") and "item.f" not in said
        [finding] = await findings(conn, ["public.item"])
        assert (finding.code, finding.severity, finding.message) == ("undeliverable_types", "refuse", said)
        await conn.execute("ALTER TABLE item DROP a, DROP b, DROP c, DROP d")
        await conn.execute("SELECT pg_replication_origin_create('elsewhere')")
        try:
            await running.failed("foreign_origins")
        finally:
            await conn.execute("SELECT pg_replication_origin_drop('elsewhere')")
        await running.failed("undeliverable_types")
        assert not await sessions.fetch(conn, "SELECT FROM pg_replication_slots WHERE database = current_database()")
        await conn.execute("ALTER TABLE item REPLICA IDENTITY FULL")
        assert await findings(conn, ["public.item"]) == []
        await running.until(lambda r: r["state"] == "streaming", "streaming", may_fail=True)


async def test_a_flow_keeps_its_engine(postgres: Server, farm: Farm) -> None:
    async with captured(postgres.database(), ITEM) as (running, _):
        await running.streaming()
        await running.stop()
        running.start(replace(running.job, through=farm.through))
        assert "capture: native" in (await running.failed("engine_changed"))["error"]["message"]


async def test_connects_answers_are_said_in_our_words(postgres: Server, farm: Farm) -> None:
    dsn = postgres.database()
    config = configuration("ctx", FORWARD, dsn, ["public.item"], 1, farm.through)
    config |= {"database.port": "1", "database.password": "s3cret", "poll.interval.ms": "often"}
    async with Connect(farm.connect.url) as connect:
        with pytest.raises(FigError) as invalid:
            await connect.configure("invalid", config)
        assert invalid.value.code == "connector_invalid"
        assert "poll.interval.ms" in invalid.value.context["fields"] and "s3cret" not in str(invalid.value.as_dict())
        with pytest.raises(FigError) as missing:
            await connect.configure("missing", {**config, "connector.class": "no.such.Connector"})
        assert missing.value.code == "connector_invalid" and "plugin.path" in missing.value.remedy
        assert await connect.status("invalid") is None
        assert not await connect.stop("invalid")
        with pytest.raises(FigError) as refused:
            await connect.resume("invalid")
        assert refused.value.code == "connect_refused"
        await connect.delete("invalid")
    with pytest.raises(FigError) as away:
        async with Connect("http://127.0.0.1:1") as connect:
            await connect.status("any")
    assert away.value.code == "connect_unreachable"


async def test_connectors_rest_go_on_and_leave_nothing_behind(postgres: Server, farm: Farm) -> None:
    async with captured(postgres.database(), ITEM, through=farm.through) as (running, conn):
        await running.streaming()
        await conn.execute("INSERT INTO item VALUES (1)")
        await running.caught_up(conn)
        name = connector_name(running.job.context, FORWARD)
        async with Connect(farm.connect.url) as connect:

            async def stands(state: str) -> None:
                async def there() -> bool:
                    found = await connect.status(name)
                    return found is not None and {found.state, *found.tasks} == {state}

                await clock.until(there, timeout=60, what=state, at_most=0.1)

            await connect.stop(name)
            await stands("STOPPED")
            await connect.resume(name)
            await stands("RUNNING")
            await running.stop()
            await remove(running.job.dsn, running.job.context, FORWARD, farm.through)

            async def gone() -> bool:  # Connect forgets a status behind its answer
                return await connect.status(name) is None

            await clock.until(gone, timeout=30, what="the status to go")
            await remove(running.job.dsn, running.job.context, FORWARD, farm.through)
        assert not await sessions.fetch(conn, "SELECT FROM pg_replication_slots WHERE database = current_database()")


async def test_a_marker_is_applied_with_kafka_between(postgres: Server, postgres_b: Server, farm: Farm) -> None:
    """Applied up to here: what was committed before the marker is in the target when the marker is."""
    target_dsn = postgres_b.database()
    async with (
        captured(postgres.database(), ITEM, through=farm.through) as (running, source),
        sessions.session(target_dsn, what="test") as target,
    ):
        context = running.job.context
        await target.execute(ITEM)
        for side in (source, target):
            await ownership.migrate(side)
        mapping = compile_mapping(
            [TableMapping.model_validate(MAPPED)],
            await catalogue.tables(source, ["public.item"]),
            await catalogue.tables(target, ["public.item"]),
        )
        await prepare(target)
        job = SyncJob(context, FORWARD, target_dsn, running.topic, names(context, FORWARD).origin, mapping)
        await running.streaming()
        sync = tasks.spawn(apply.run(job, running.log, _ignore), name="sync under test")
        try:
            for number in range(20):
                await source.execute(
                    "INSERT INTO item SELECT i, 'x', 1 FROM generate_series(%s::int, %s::int) i",
                    (number * 100, number * 100 + 99),
                )
                nonce = await markers.emit_marker(source, context, "forward")
                await markers.await_marker(target, context, "forward", nonce, timeout=30)
                assert await sessions.value(target, "SELECT count(*) FROM item") == (number + 1) * 100
        finally:
            await tasks.stop(sync)


async def _ignore(report: dict[str, Any]) -> None:
    pass


MAPPED = {"from": "public.item", "to": "item", "key": {"id": "id"}, "columns": {"sku": "sku", "n": "n"}}
