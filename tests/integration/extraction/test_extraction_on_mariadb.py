"""What stands in the way of a context's move from a MariaDB, and what a sync that ends leaves there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stranglerfig.capture.debezium import Through
from stranglerfig.changes.model import Direction, names
from stranglerfig.databases import sides
from stranglerfig.databases.preflight import Pair
from stranglerfig.extraction import facts, on_mariadb
from stranglerfig.extraction.parts import ContextParts
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation import mysql
from stranglerfig.foundation import postgres as sessions
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import ends
from tests.conftest import MonolithOnMariaDB, Server

MONOLITH = "CREATE TABLE item (id int PRIMARY KEY, name varchar(40), released tinyint(1) NOT NULL, ratio float)"
SERVICE = "CREATE TABLE item (item_id int PRIMARY KEY, name text, state text)"
REVERSE = {"name": "name", "released": "(state = 'released')::int", "ratio": "0"}
THROUGH = Through("http://127.0.0.1:1", "127.0.0.1:1")


async def made(
    mariadb: MonolithOnMariaDB, server: Server, through: Through | None = THROUGH, **changes: Any
) -> tuple[str, ContextParts]:
    """A monolith and a service, and the context between them; ``changes`` of its settings or of the mapping."""
    name, dsn = mariadb.database(), server.database()
    monolith = mariadb.server.url(name)
    async with mysql.session(monolith, what="test") as there, sessions.session(dsn, what="test") as service:
        await there.execute(MONOLITH)
        await service.execute(SERVICE)
    table = {
        "from": f"{name}.item",
        "to": "item",
        "key": {"item_id": "id"},
        "columns": {"name": "name", "state": "case when released <> 0 then 'released' else 'held' end"},
        "reverse": REVERSE,
    } | changes.pop("table", {})
    settings = {
        "context": "stock",
        "service": {"url": "http://127.0.0.1:1", "database": dsn},
        "routes": {},
        "tables": [table],
        "capture": "debezium",
    } | changes
    return monolith, ContextParts(ExtractionSettings.model_validate(settings), Path(), dsn, through)


async def refused(monolith: str, context: ContextParts) -> set[str]:
    """Codes of what refuses, whatever is accepted."""
    settings = context.settings
    pairs = [Pair(table.source, table.target, facts._plain(table)) for table in settings.tables]
    found = await on_mariadb.findings(monolith, context, pairs, must_be_empty=True)
    assert any(finding.code == "writers_unrecorded" for finding in found)
    accepted = [facts._known(finding, (), [finding.code]) for finding in found]
    return {finding.code for finding in accepted if finding.severity == "refuse"}


async def test_a_context_that_can_move_is_not_refused(mariadb: MonolithOnMariaDB, postgres: Server) -> None:
    monolith, context = await made(mariadb, postgres)
    found = await on_mariadb.findings(monolith, context, [], must_be_empty=True)
    assert [finding for finding in found if finding.severity == "refuse"] == []
    assert any("connector" in effect for effect in on_mariadb.capture_effects(context.settings))


@pytest.mark.parametrize(
    ("through", "changes", "code"),
    [
        (None, {}, "debezium_needed"),
        (THROUGH, {"partitions": 2}, "partitions_unsupported"),
        (THROUGH, {"remaining_writers": "bidirectional", "capture": "native"}, "bidirectional_unsupported"),
    ],
)
async def test_what_a_mariadb_cannot_have_is_refused_whatever_is_accepted(
    mariadb: MonolithOnMariaDB, postgres: Server, through: Through | None, changes: dict[str, Any], code: str
) -> None:
    assert await refused(*await made(mariadb, postgres, through, **changes)) == {code}


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ({"columns": {"name": "upper(nothing)", "state": "'held'"}}, "mapping_unknown_column"),
        ({"reverse": REVERSE | {"released": "state ="}}, "mapping_invalid_expression"),
        ({"reverse": REVERSE | {"nothing": "state"}}, "mapping_unknown_column"),
    ],
)
async def test_a_mapping_that_cannot_be_evaluated_is_found(
    mariadb: MonolithOnMariaDB, postgres: Server, table: dict[str, Any], code: str
) -> None:
    monolith, context = await made(mariadb, postgres, table=table)
    found = await on_mariadb.findings(monolith, context, [], must_be_empty=True)
    assert [finding.code for finding in found if finding.severity == "refuse"] == [code]


def test_a_latency_that_cannot_be_told_is_warned_of() -> None:
    def codes(below: str) -> set[str]:
        settings = ExtractionSettings.model_validate({
            "context": "stock",
            "service": {"url": "http://127.0.0.1:1", "database": "postgresql://db/stock"},
            "routes": {},
            "tables": [{"from": "shop.item", "to": "item", "key": {"id": "id"}}],
            "gates": {"sync": {"cdc_latency": {"below": below}}},
        })  # fmt: skip
        found = on_mariadb.configured(ContextParts(settings, Path(), "", THROUGH))
        return {finding.code for finding in found}

    assert codes("1s") == {"latency_in_seconds", "writers_unrecorded"}
    assert codes("2s") == {"writers_unrecorded"}


async def test_a_table_that_is_missing_is_named_once(mariadb: MonolithOnMariaDB, postgres: Server) -> None:
    monolith, context = await made(mariadb, postgres, table={"from": "nowhere.item"})
    found = await on_mariadb.findings(monolith, context, [], must_be_empty=True)
    assert [finding.code for finding in found if finding.severity == "refuse"] == ["unknown_table"]


def test_decommissioning_is_refused_there_alone() -> None:
    on_mariadb.refuse_decommission("postgresql://shop@db/shop")
    with pytest.raises(FigError) as raised:
        on_mariadb.refuse_decommission("mysql://shop@db/shop")
    assert raised.value.code == "decommission_unsupported"


async def test_what_sync_keeps_is_made_and_forgotten_at_either_end(
    mariadb: MonolithOnMariaDB, postgres: Server
) -> None:
    monolith, context = await made(mariadb, postgres)
    for dsn, side, direction, tables in (
        (monolith, "monolith", Direction.REVERSE, context.settings.sources),
        (context.service_dsn, "service", Direction.FORWARD, context.settings.targets),
    ):
        async with sides.session(dsn, what="test") as session:
            for _ in range(2):  # each of it can be done again
                await ends.prepare(dsn)
                await session.install("stock", side=side, owner=True, tables=tables, enforcing=False)  # type: ignore[arg-type]
            found = await session.read("stock")
            assert found is not None and (found.side, found.state) == (side, "owner")
            assert await session.unguarded("stock", tables) == set()
            for _ in range(2):
                await session.uninstall("stock")
                await ends.forget(dsn, "stock", direction)
            assert await session.read("stock") is None
            assert await session.unguarded("stock", tables) == set(tables)


async def test_a_worker_that_applies_is_seen_at_either_end(mariadb: MonolithOnMariaDB, postgres: Server) -> None:
    monolith, context = await made(mariadb, postgres)
    for dsn in (monolith, context.service_dsn):
        await ends.prepare(dsn)
        assert not await ends.busy(dsn, "stock")
    origin = names("stock", Direction.REVERSE).origin
    async with (
        mysql.session(monolith, what="sync stock reverse") as there,
        sessions.session(context.service_dsn, what="sync stock forward"),
    ):
        await there.execute("SELECT get_lock(%s, 0)", (f"fig.sync.{origin}",))
        for dsn in (monolith, context.service_dsn):
            assert await ends.busy(dsn, "stock") and not await ends.busy(dsn, "another")
