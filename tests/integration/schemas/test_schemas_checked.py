"""The registry on a real control database, and the log that takes only what is registered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import clock
from stranglerfig.foundation import postgres as sessions
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.wiring import is_governed
from stranglerfig.schemas import payloads
from stranglerfig.schemas.checked import CheckedLog, EventCheck
from stranglerfig.schemas.formats import Format, Level
from stranglerfig.schemas.subjects import Given, uri
from tests.captures import OUTBOX, REVERSE, Running
from tests.conftest import Server
from tests.integration.schemas.conftest import avro

if TYPE_CHECKING:
    from stranglerfig.schemas.store import SchemaStore

SUBJECT = "inventory.StockAdjusted"
FIRST: dict[str, Any] = {
    "type": "object",
    "properties": {"item_id": {"type": "integer"}, "delta": {"type": "integer"}},
    "required": ["item_id", "delta"],
    "additionalProperties": False,
}
SECOND: dict[str, Any] = FIRST | {"properties": {**FIRST["properties"], "reason": {"type": "string"}}}


def event(data: Any, *, dataschema: str | None = None, type_: str = SUBJECT) -> Event:
    content = data if isinstance(data, bytes) else orjson.dumps(data)
    return Event("e1", "/shop", type_, datetime(2026, 1, 2, tzinfo=UTC), content, dataschema=dataschema)


def given(schema: dict[str, Any]) -> Given:
    return Given(Format.JSON, orjson.dumps(schema).decode())


async def test_events_are_checked(store: SchemaStore) -> None:
    check = EventCheck(store)
    with pytest.raises(FigError) as missing:
        await check.event(event({"item_id": 1, "delta": 1}))
    assert missing.value.code == "schema_missing"
    await store.register(SUBJECT, given(FIRST), by="Ann", level=Level.FULL)
    check._read.clear()  # a second later
    assert (await check.event(event({"item_id": 1, "delta": 1}))).version == 1
    await store.register(SUBJECT, given(SECOND), by="Ann")
    check._read.clear()
    assert (await check.event(event({"item_id": 1, "delta": 1, "reason": "x"}))).version == 2
    assert (await check.event(event({"item_id": 1, "delta": 1}, dataschema=uri(SUBJECT, 1)))).version == 1
    assert (await check.event(event({"item_id": 1, "delta": 1}, dataschema="https://elsewhere/7"))).version == 2
    for data, path in (({"item_id": 1}, "$"), ({"item_id": 1, "delta": "1"}, "$.delta"), (b"{", "$")):
        with pytest.raises(FigError) as refused:
            await check.event(event(data))
        assert refused.value.code == "schema_violation" and refused.value.context["path"] == path
    with pytest.raises(FigError, match="no schema of version 9"):
        await check.event(event({}, dataschema=uri(SUBJECT, 9)))


async def test_a_version_registered_elsewhere_is_found(store: SchemaStore) -> None:
    await store.register(SUBJECT, given(FIRST), by="Ann")
    check = EventCheck(store)
    assert (await check.event(event({"item_id": 1, "delta": 1}))).version == 1
    await store.register(SUBJECT, given(SECOND), by="Ann")
    with pytest.raises(FigError):
        await check.event(event({"item_id": 1, "delta": 1, "reason": "x"}))
    check._read[SUBJECT] -= 2  # two seconds later
    assert (await check.event(event({"item_id": 1, "delta": 1, "reason": "x"}))).version == 2
    await store.delete(SUBJECT)
    assert (await check.event(event({"item_id": 1, "delta": 1}))).version == 2
    check._read[SUBJECT] -= 100  # a minute later
    with pytest.raises(FigError) as gone:
        await check.event(event({"item_id": 1, "delta": 1}))
    assert gone.value.code == "schema_missing"


async def test_events_go_on_while_the_registry_is_away(store: SchemaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.register(SUBJECT, given(FIRST), by="Ann")
    check = EventCheck(store)
    await check.event(event({"item_id": 1, "delta": 1}))

    async def away(subject: str) -> None:
        raise FigError("database_unreachable", "it is away")

    monkeypatch.setattr(store, "versions", away)
    check._read[SUBJECT] -= 100
    assert (await check.event(event({"item_id": 1, "delta": 1}))).version == 1
    with pytest.raises(FigError, match="it is away"):
        await check.event(event({}, type_="inventory.Other"))


async def test_avro_behind_the_five_bytes_is_checked(store: SchemaStore) -> None:
    registered = await store.register(SUBJECT, avro(("item_id", "long"), ("note", "string")), by="Ann")
    by_topic = await store.register("events.inventory-value", avro(("item_id", "long")), by="Ann")
    check = EventCheck(store)

    def sent(id: int, data: bytes, kind: str = "application/avro") -> Event:
        return Event("e1", "/shop", SUBJECT, datetime(2026, 1, 2, tzinfo=UTC), payloads.framed(id, data), kind)

    good = bytes([2, 4]) + b"ab"
    assert await check.event(sent(registered.id, good)) == registered
    assert await check.event(sent(by_topic.id, bytes([2])), topic="events.inventory") == by_topic
    for wrong, words in (
        (sent(registered.id, good[:-1]), "cannot be read as Avro"),
        (sent(registered.id, good + b"x"), "1 bytes are left"),
        (sent(registered.id, b""), "cannot be read as Avro"),
        (sent(registered.id + 77, good), "no schema with the id"),
        (sent(registered.id, good, "application/json"), "is not AVRO"),
        (Event("e1", "/shop", SUBJECT, datetime(2026, 1, 2, tzinfo=UTC), good, "application/avro"), "lacks the five"),
    ):
        with pytest.raises(FigError, match=words):
            await check.event(wrong, topic="events.inventory")


async def test_the_checked_log_takes_only_what_is_registered(store: SchemaStore) -> None:
    await store.register(SUBJECT, given(FIRST), by="Ann")
    log = CheckedLog(MemoryLog(), store)
    assert log.capabilities.max_event_bytes > 0
    await log.create_topic("events.inventory")
    with pytest.raises(FigError):
        await log.append("events.inventory", [event({"item_id": 1, "delta": 1}), event({"item_id": 1})])
    assert await log.read("events.inventory", 0, 0) == []
    assert await log.append("events.inventory", [event({"item_id": 1, "delta": 1})]) == [0]
    assert len(await log.read("events.inventory", 0, 0)) == 1
    topic = await log.topic("events.inventory")
    assert topic is not None and [found.name for found in await log.topics()] == ["events.inventory"]
    assert await log.position_at("events.inventory", 0, datetime(2000, 1, 1, tzinfo=UTC)) == 0
    subscription = await log.subscribe(["events.inventory"], "alerts")
    await subscription.close()
    await log.seek("events.inventory", "alerts", position=1)
    assert await log.committed("events.inventory", "alerts") == (1,)
    await log.delete_topic("events.inventory")
    await log.close()


async def test_an_outbox_row_that_is_not_as_its_schema_says_holds_the_stream_until_one_allows_it(
    store: SchemaStore, postgres: Server
) -> None:
    await store.register(SUBJECT, given(FIRST), by="Ann", level=Level.NONE)
    dsn = postgres.database()
    running = Running(dsn, direction=REVERSE, tables=(), outbox="public.outbox", snapshot=False)
    topic = f"events.{running.job.context}"
    kept = MemoryLog()
    running.log = CheckedLog(kept, store, governed=is_governed)
    async with sessions.session(dsn, what="test") as conn:
        await conn.execute(OUTBOX)
        running.start()
        try:
            await running.streaming()
            for data in ({"item_id": 1, "delta": 1}, {"item_id": 2, "delta": "many"}, {"item_id": 3, "delta": 1}):
                await conn.execute(
                    "INSERT INTO outbox VALUES (gen_random_uuid(), %s, %s, 'k', %s)",
                    (topic, SUBJECT, orjson.dumps(data).decode()),
                )
            report = await running.failed("schema_violation")
            assert report["state"] == "failed" and "$.delta" in report["error"]["message"]
            taken = await kept.read(topic, 0, 0) if await kept.topic(topic) else []
            assert [orjson.loads(record.event.data)["item_id"] for record in taken] in ([], [1]), "in order, or not yet"
            loose = FIRST | {"properties": {"item_id": {"type": "integer"}, "delta": {}}}
            await store.register(SUBJECT, given(loose), by="Ann")

            async def all_there() -> bool:
                return bool(await kept.topic(topic)) and len(await kept.read(topic, 0, 0)) >= 3

            await clock.until(all_there, timeout=30, what="the events")
            found = [orjson.loads(record.event.data)["item_id"] for record in await kept.read(topic, 0, 0)]
            assert found == [1, 2, 3]
        finally:
            await running.stop()
