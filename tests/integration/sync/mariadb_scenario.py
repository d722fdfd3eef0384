"""The scenario's monolith on a MariaDB: its tables, the mapping back into them, a flow that is written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sync_scenario as s

from stranglerfig.changes import mapping
from stranglerfig.changes.model import Direction, names
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases import catalogue
from stranglerfig.databases.mariadb import catalogue as mariadb_catalogue
from stranglerfig.databases.mariadb.messages import APPLIED
from stranglerfig.foundation import clock, mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import apply
from tests.conftest import MonolithOnMariaDB, Server

MONOLITH = (
    """CREATE TABLE inventory (
        item_id bigint PRIMARY KEY, sku varchar(40) NOT NULL, name longtext NOT NULL, quantity int NOT NULL,
        reserved int NOT NULL DEFAULT 0, reorder_level int NOT NULL DEFAULT 0, updated_at timestamp(6) NOT NULL)""",
    """CREATE TABLE reservations (
        id bigint AUTO_INCREMENT PRIMARY KEY, item_id bigint NOT NULL, order_id bigint, qty int NOT NULL,
        released boolean NOT NULL DEFAULT false, created_at datetime(6) NOT NULL,
        FOREIGN KEY (item_id) REFERENCES inventory (item_id))""",
    """CREATE TABLE inventory_requests (
        `key` varchar(100) PRIMARY KEY, kind varchar(20), item_id bigint, delta int, response json,
        created_at timestamp(6) NULL)""",
)


def tables(database: str) -> list[TableMapping]:
    """The scenario's mapping, as MariaDB's types want it."""
    made = []
    for table in s.TABLES:
        body = table.model_dump(by_alias=True, exclude_none=True)
        body["from"] = body["from"].replace("public.", f"{database}.")
        made.append(body)
    columns, reverse = made[2]["columns"], made[2]["reverse"]
    columns["state"] = "case when released <> 0 then 'released' else 'held' end"
    columns["created_at"] = "created_at at time zone 'UTC'"
    reverse["released"] = "(state = 'released')::int"
    reverse["created_at"] = "created_at at time zone 'UTC'"
    made[3]["columns"]["response"] = "response::jsonb"
    return [TableMapping.model_validate(body) for body in made]


class Backward(s.Flow):
    """Changes of the service, written by hand, into a MariaDB."""

    def __init__(self, mapped: mapping.Mapping, dsn: str, service: str) -> None:
        found = names("inventory", Direction.REVERSE)
        super().__init__(mapped, dsn, Direction.REVERSE)
        self.job = apply.SyncJob(
            "inventory", Direction.REVERSE, dsn, found.topic, found.origin, mapped, evaluator=service
        )

    async def rows(self, query: str) -> list[Any]:
        async with mysql.session(self.job.dsn, what="test") as conn:
            return await conn.fetch(query)

    async def run_sql(self, *statements: str) -> None:
        async with mysql.session(self.job.dsn, what="test") as conn:
            for statement in statements:
                await conn.execute(statement)

    async def decide(self, parked: int, *, skip: bool) -> None:
        """Decide about a change, and wait until the flow goes on."""
        decide = apply.skip if skip else apply.retry
        await decide(self.job.dsn, "inventory", Direction.REVERSE, parked)

        async def goes_on() -> bool:
            return self.reports[-1]["state"] != "stopped"

        await clock.until(goes_on, timeout=20, what="the flow to go on")

    async def applied(self, timeout: float = 20) -> None:
        topic = await self.log.topic(self.job.topic)
        assert topic is not None
        end = topic.next_positions[0]

        async def done() -> bool:
            if self.reports and self.reports[-1]["state"] == "stopped":
                raise AssertionError(self.reports[-1]["error"])
            try:
                return bool(await self.rows(f"SELECT 1 FROM fig.applied WHERE log_position >= {end}"))
            except FigError as error:
                if mysql.refused(error, 1146, 1049):
                    return False
                raise

        await clock.until(done, timeout=timeout, what="the topic's end to be applied")


async def backward(
    mariadb: MonolithOnMariaDB, server: Server, *, wanted: Sequence[TableMapping] | None = None
) -> Backward:
    """An empty monolith, an empty service, and a flow between them. Our own tables are made anew."""
    name = mariadb.database()
    dsn, service = mariadb.server.url(name), server.database()
    async with (
        mysql.session(dsn, what="test") as monolith,
        postgres.session(service, what="test") as target,
    ):
        await monolith.execute("DROP DATABASE IF EXISTS fig")
        for statement in MONOLITH:
            await monolith.execute(statement)
        await target.execute(s.SERVICE)
        return Backward(await compiled(monolith, target, wanted or tables(name)), dsn, service)


async def compiled(
    monolith: mysql.Connection, service: postgres.Connection, wanted: Sequence[TableMapping]
) -> mapping.Mapping:
    return mapping.compile_mapping(
        wanted,
        await mariadb_catalogue.tables(monolith, sorted({t.source for t in wanted})),
        await catalogue.tables(service, sorted({t.target for t in wanted})),
    )


async def first_tables(conn: mysql.Connection, file: str, offset: int) -> list[list[str]]:
    """What each transaction of the binary log touches from a place on, in order: ``database.table``, ours without
    their rows."""
    found: list[list[str]] = []
    rows = await conn.fetch("SHOW BINARY LOGS")
    for log in [str(row[0]) for row in rows if str(row[0]) >= file]:
        start = offset if log == file else 4
        for _, _, kind, _, _, info in await conn.fetch(f"SHOW BINLOG EVENTS IN '{log}' FROM {start}"):
            if kind == "Gtid":
                found.append([])
            elif kind == "Table_map":
                found[-1].append(str(info).split("(", 1)[1].rstrip(")"))
    return found


def ours(transactions: list[list[str]], database: str) -> bool:
    """Whether every transaction that touches the database begins with the row that says it is ours."""
    touching = [one for one in transactions if any(table.startswith(f"{database}.") for table in one)]
    return bool(touching) and all(one[0] == APPLIED for one in touching)
