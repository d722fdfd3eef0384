"""The registry on a real control database, and the log that takes only what is registered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas.model import uri
from stranglerfig.schemas.registry import CheckedLog, SchemaRegistry

if TYPE_CHECKING:
    from tests.conftest import Server

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


@pytest.fixture
async def registry(postgres: Server) -> SchemaRegistry:
    registry = SchemaRegistry(postgres.database())
    await registry.migrate()
    return registry


async def test_versions_are_kept_and_a_schema_is_registered_once(registry: SchemaRegistry) -> None:
    assert await registry.latest(SUBJECT) is None and await registry.compatible(SUBJECT, FIRST) == []
    first = await registry.register(SUBJECT, FIRST, by="Ann")
    assert (first.version, first.registered_by) == (1, "Ann")
    assert await registry.register(SUBJECT, FIRST, by="Bo") == first
    second = await registry.register(SUBJECT, SECOND, by="Bo")
    assert second.version == 2 and await registry.latest(SUBJECT) == second
    assert [version.version for version in await registry.history(SUBJECT)] == [1, 2]
    assert await registry.subjects() == [SUBJECT]


async def test_what_would_part_readers_and_writers_is_refused(registry: SchemaRegistry) -> None:
    await registry.register(SUBJECT, FIRST, by="Ann")
    broken = FIRST | {"properties": {"item_id": {"type": "string"}, "delta": {"type": "integer"}}}
    with pytest.raises(FigError, match="from integer to string") as refused:
        await registry.register(SUBJECT, broken, by="Ann")
    assert refused.value.code == "schema_incompatible" and refused.value.context["problems"][0]["path"] == "$.item_id"
    assert len(await registry.compatible(SUBJECT, broken)) == 1
    assert (await registry.register(SUBJECT, broken, by="Ann", compatible=False)).version == 2
    with pytest.raises(FigError) as invalid:
        await registry.register(SUBJECT, {"type": "nonsense"}, by="Ann")
    assert invalid.value.code == "schema_invalid"


async def test_events_are_checked(registry: SchemaRegistry) -> None:
    with pytest.raises(FigError) as missing:
        await registry.check(event({"item_id": 1, "delta": 1}))
    assert missing.value.code == "schema_missing"
    await registry.register(SUBJECT, FIRST, by="Ann")
    await registry.register(SUBJECT, SECOND, by="Ann")
    assert (await registry.check(event({"item_id": 1, "delta": 1, "reason": "x"}))).version == 2
    assert (await registry.check(event({"item_id": 1, "delta": 1}, dataschema=uri(SUBJECT, 1)))).version == 1
    for data, path in (({"item_id": 1}, "$"), ({"item_id": 1, "delta": "1"}, "$.delta"), (b"{", "$")):
        with pytest.raises(FigError) as refused:
            await registry.check(event(data))
        assert refused.value.code == "schema_violation" and refused.value.context["path"] == path
    with pytest.raises(FigError, match="no schema of version 9"):
        await registry.check(event({}, dataschema=uri(SUBJECT, 9)))


async def test_a_version_registered_elsewhere_is_found(registry: SchemaRegistry) -> None:
    other = SchemaRegistry(registry._dsn)
    with pytest.raises(FigError):
        await registry.check(event({"item_id": 1, "delta": 1}))
    await other.register(SUBJECT, FIRST, by="Ann")
    assert (await registry.check(event({"item_id": 1, "delta": 1}))).version == 1
    await other.register(SUBJECT, SECOND, by="Ann")
    registry._looked[SUBJECT] -= 2  # a second later
    assert (await registry.check(event({"item_id": 1, "delta": 1, "reason": "x"}))).version == 2


async def test_the_checked_log_takes_only_what_is_registered(registry: SchemaRegistry) -> None:
    await registry.register(SUBJECT, FIRST, by="Ann")
    log = CheckedLog(MemoryLog(), registry)
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
