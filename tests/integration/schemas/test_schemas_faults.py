"""Several registries on one database, a database that is killed, and tables of an earlier release."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stranglerfig.foundation import clock
from stranglerfig.foundation import postgres as sessions
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import EmbeddedPostgres
from stranglerfig.schemas.formats import Format, Level
from stranglerfig.schemas.store import BUSY, SchemaStore
from stranglerfig.schemas.subjects import Given, Pointer, SubjectSettings, Version
from tests.conftest import Server, passable
from tests.integration.schemas.conftest import avro, record

ID = ("id", "long")


def grown(*names: str) -> Given:
    """A record with an optional field for each name."""
    return avro(ID, *((name, "string", "") for name in names))


@pytest.fixture
async def second(store: SchemaStore) -> AsyncIterator[SchemaStore]:
    """Another process's store on the same database, as it were."""
    other = SchemaStore(store._dsn)
    await other.prepare()
    yield other
    await other.close()


async def test_two_instances_register_the_same_at_once(store: SchemaStore, second: SchemaStore) -> None:
    schemas = [grown(*(f"f{n}" for n in range(count))) for count in range(8)]
    work = [
        one.register(f"subject-{number}", schema, by="test")
        for schema in schemas
        for number in range(3)
        for one in (store, second)
    ]
    done = await asyncio.gather(*work)
    by_content: dict[str, set[int]] = {}
    for version in done:
        by_content.setdefault(version.schema.text, set()).add(version.id)
    assert [len(ids) for ids in by_content.values()] == [1] * len(schemas), "one content, one id"
    assert len({id for ids in by_content.values() for id in ids}) == len(schemas)
    for number in range(3):
        found = await store.versions(f"subject-{number}")
        assert [each.version for each in found] == list(range(1, len(schemas) + 1)), "no number twice, none left out"
        assert len({each.id for each in found}) == len(schemas)


async def test_each_of_two_that_exclude_each_other_is_compared_with_the_latest(
    store: SchemaStore, second: SchemaStore
) -> None:
    for turn in range(10):
        subject = f"s{turn}"
        await store.register(subject, grown(), by="test", level=Level.FULL)
        rivals = [avro(ID, ("x", kind, default)) for kind, default in (("long", 0), ("string", ""))]
        done = await asyncio.gather(
            store.register(subject, rivals[0], by="one"),
            second.register(subject, rivals[1], by="two"),
            return_exceptions=True,
        )
        won = [each for each in done if isinstance(each, Version)]
        lost = [each for each in done if isinstance(each, FigError)]
        assert len(won) == len(lost) == 1 and lost[0].code == "schema_incompatible"
        assert [each.version for each in await second.versions(subject)] == [1, 2]


async def test_a_reference_and_the_deletion_of_what_it_refers_to_exclude_each_other(
    store: SchemaStore, second: SchemaStore
) -> None:
    money = Given(Format.AVRO, record(("cents", "long"), name="shop.Money"))
    for turn in range(10):
        subject = f"money{turn}"
        await store.register(subject, money, by="test")
        order = avro(("total", "shop.Money"), references=(Pointer("shop.Money", subject, 1),))
        registered, deleted = await asyncio.gather(
            store.register(f"order{turn}", order, by="one"), second.delete(subject), return_exceptions=True
        )
        if isinstance(registered, FigError):
            assert registered.code == "schema_invalid" and deleted == [1]
        else:
            assert isinstance(deleted, FigError) and deleted.code == "schema_referenced"


async def test_the_database_is_killed_during_registrations(tmp_path: Path) -> None:
    server = EmbeddedPostgres(passable(tmp_path) / "pg")
    server.start()
    store = SchemaStore(server.create_database("fig"))
    acknowledged: dict[int, Version] = {}
    try:
        await store.prepare()
        names = [f"f{number}" for number in range(60)]
        for number in range(60):
            if number in (20, 40):
                killing = asyncio.create_task(asyncio.to_thread(server.kill))
            while number not in acknowledged:
                try:
                    acknowledged[number] = await store.register("s", grown(*names[: number + 1]), by="test")
                except FigError as error:
                    assert error.code == "database_unreachable"
                    await killing
                    if not server.alive():
                        await asyncio.to_thread(server.start)
        found = await store.versions("s")
        assert [each.version for each in found] == list(range(1, 61)), "what was acknowledged stays, nothing is doubled"
        assert {each.version: each.id for each in found} == {v.version: v.id for v in acknowledged.values()}
    finally:
        await store.close()
        server.stop()


async def test_the_former_tables_are_brought_forward(postgres: Server) -> None:
    dsn = postgres.database()
    room = "stranglerfig.schemas"
    old = {"type": "object", "properties": {"item_id": {"type": "integer"}}, "required": ["item_id"]}
    new = {**old, "properties": {**old["properties"], "note": {"type": "string"}}}  # type: ignore[dict-item]
    async with sessions.session(dsn, what="test") as conn:
        await sessions.migrate(conn, "schemas", room, ["tables.sql"])
        for subject, version, id, schema in (
            ("stock.Added", 1, "aa", old),
            ("stock.Added", 2, "bb", {**new, "x-fig-generated": "0123"}),
            ("stock.Moved", 1, "aa", old),
        ):
            await conn.execute(
                "INSERT INTO fig.schema (subject, version, id, schema, registered_by) VALUES (%s, %s, %s, %s, 'Ann')",
                (subject, version, id, json.dumps(schema)),
            )
    store = SchemaStore(dsn)
    await asyncio.gather(store.prepare(), SchemaStore(dsn).prepare())
    added, moved = await store.versions("stock.Added"), await store.versions("stock.Moved")
    assert [each.version for each in added] == [1, 2] and added[0].registered_by == "Ann"
    assert moved[0].id == added[0].id != added[1].id
    assert await store.level("stock.Added") is Level.FULL and await store.level("new") is Level.BACKWARD
    again = await store.register("stock.Added", Given(Format.JSON, json.dumps(new)), by="Bo", normalize=True)
    assert again == added[1], "what was registered is found under its content"
    third = {**new, "properties": {**new["properties"], "by": {"type": "string"}}}  # type: ignore[dict-item]
    grew = await store.register("stock.Added", Given(Format.JSON, json.dumps(third)), by="Bo", normalize=True)
    assert (grew.version, grew.id) == (3, 3)
    async with sessions.session(dsn, what="test") as conn:
        assert await sessions.value(conn, "SELECT to_regclass('fig.schema')") is None
    await store.close()


async def test_who_waits_too_long_says_so(
    store: SchemaStore, second: SchemaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.register("s", grown(), by="test")
    async with sessions.session(store._dsn, what="test", autocommit=False) as conn:
        await conn.execute("SELECT 1 FROM fig.schema_subject WHERE subject = 's' FOR UPDATE")
        began = clock.monotonic()
        waiting = asyncio.create_task(second.register("s", grown("a"), by="test"))
        assert [each.version for each in await second.versions("s")] == [1], "reading does not wait for a writer"
        assert await second.register("s", grown(), by="test") == (await store.versions("s"))[0], "nor what is there"
        assert clock.monotonic() - began < BUSY and not waiting.done()
        await conn.rollback()
    assert (await waiting).version == 2
    monkeypatch.setattr("stranglerfig.schemas.store.BUSY", 0.1)
    async with sessions.session(store._dsn, what="test", autocommit=False) as conn:
        await conn.execute("SELECT 1 FROM fig.schema_subject WHERE subject = 's' FOR UPDATE")
        with pytest.raises(FigError) as busy:
            await second.delete("s")
        assert busy.value.code == "registry_busy"
    await second.put_settings("s", SubjectSettings(level=Level.NONE))
    assert await store.level("s") is Level.NONE
