"""Capture from a real MariaDB through a real Debezium: the log has what every other flow has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stranglerfig.capture.capture import pause, resume
from stranglerfig.changes.model import MARKER, Change, SnapshotChunk, SnapshotEdge, Transaction
from stranglerfig.databases.mariadb import ownership
from stranglerfig.foundation import clock, mysql
from stranglerfig.foundation import postgres as sessions
from stranglerfig.foundation.errors import FigError
from tests.captures import QUICK
from tests.conftest import MonolithOnMariaDB, Server
from tests.contract.capture.conftest import Farm
from tests.contract.capture.mariadb_source import COLUMNS, TYPES, OnMariaDB, captured
from tests.contract.capture.test_engines import whole

pytestmark = pytest.mark.timeout(300)


async def test_snapshot_and_stream_have_the_same_texts_and_they_are_postgresql_s(
    mariadb: MonolithOnMariaDB, farm: Farm, postgres: Server
) -> None:
    made = f"CREATE TABLE made ({COLUMNS})"
    async with captured(mariadb, farm.through, ("made",), made, *TYPES) as (running, conn):
        await running.streaming()
        for statement in TYPES:
            await conn.execute(statement)
        await running.caught_up_with(conn)
        items = await running.items()
    chunks = [item for item in items if isinstance(item, SnapshotChunk)]
    read = b"".join(chunk.copy for chunk in chunks)
    relation = chunks[0].relation
    assert [c.name for c in relation.columns if c.key] == ["id"] and "twice" not in {c.name for c in relation.columns}
    columns = ", ".join(f'"{c.name}" {c.type}' for c in relation.columns)
    async with sessions.session(postgres.database(), what="test") as target:
        await target.execute(f"CREATE TABLE made ({columns})")
        async with target.cursor().copy("COPY made FROM STDIN") as copy:
            await copy.write(read)
        async with target.cursor().copy("COPY (SELECT * FROM made ORDER BY id) TO STDOUT") as copy:
            assert b"".join([bytes(part) async for part in copy]) == read
        texts = ", ".join(f'"{c.name}"::text' for c in relation.columns)
        known = await sessions.fetch(target, f"SELECT {texts} FROM made ORDER BY id")
    changes = [i for t in items if isinstance(t, Transaction) for i in t.items if isinstance(i, Change)]
    assert [change.op for change in changes] == ["c"] * len(TYPES)
    assert changes[0].relation == relation
    for row, change in zip(known, changes, strict=True):
        assert change.after is not None
        for column, here, there in zip(relation.columns[1:], row[1:], change.after[1:], strict=True):
            assert here == there, column


ITEM = "CREATE TABLE item (id int PRIMARY KEY, name varchar(40), n int)"


async def transactions(running: OnMariaDB) -> list[list[Any]]:
    """What is in each transaction, markers of the tests left out."""
    found = []
    for one in whole(await running.items()):
        changes = [(i.op, i.before, i.after) if isinstance(i, Change) else (i.prefix, i.content) for i in one.items]
        if kept := [each for each in changes if each[0] != MARKER]:
            found.append(kept)
    return found


async def test_transactions_are_whole_in_order_and_say_what_became_of_each_row(
    mariadb: MonolithOnMariaDB, farm: Farm
) -> None:
    before = "INSERT INTO item VALUES (0, 'old', 0)"
    async with captured(mariadb, farm.through, ("item",), ITEM, before) as (running, conn):
        await running.streaming()
        context = running.job.context
        for statement in (
            "INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)",
            "CREATE TABLE other (id int PRIMARY KEY)",
            "START TRANSACTION",
            "UPDATE item SET n = n + 1",
            "SAVEPOINT here",
            "DELETE FROM item",
            "ROLLBACK TO here",
            "UPDATE item SET id = 3 WHERE id = 1",
            "DELETE FROM item WHERE id = 2",
            "INSERT INTO other VALUES (1)",
            f"INSERT INTO fig.message (prefix, content) VALUES ('fig.activated', '{{\"context\": \"{context}\"}}')",
            "INSERT INTO fig.message (prefix, content) VALUES ('fig.activated', '{\"context\": \"another\"}')",
            "COMMIT",
            "START TRANSACTION",
            "INSERT INTO item VALUES (9, 'never', 9)",
            "ROLLBACK",
            "ALTER TABLE item ADD COLUMN extra int DEFAULT 5",
            "INSERT INTO item VALUES (4, 'd', 4, 6)",
            "TRUNCATE TABLE item",
            "INSERT INTO item VALUES (5, 'e', 5, 7)",
        ):
            await conn.execute(statement)
        await running.caught_up_with(conn)
        found = await transactions(running)
        items = await running.items()
    assert found == [
        [("c", None, ("1", "a", "1")), ("c", None, ("2", "b", "2"))],
        [
            ("u", ("0", "old", "0"), ("0", "old", "1")),
            ("u", ("1", "a", "1"), ("1", "a", "2")),
            ("u", ("2", "b", "2"), ("2", "b", "3")),
            ("u", ("1", "a", "2"), ("3", "a", "2")),
            ("d", ("2", "b", "3"), None),
            ("fig.activated", f'{{"context": "{context}"}}'),
        ],
        [("c", None, ("4", "d", "4", "6"))],
        [("t", None, None)],
        [("c", None, ("5", "e", "5", "7"))],
    ]
    made = [item for item in items if isinstance(item, Transaction)]
    assert [one.lsn for one in made] == sorted({one.lsn for one in made})
    edges = [item for item in items if isinstance(item, SnapshotEdge)]
    assert [(edge.begins, edge.total_rows) for edge in edges] == [(True, edges[0].total_rows), (False, 1)]
    assert all(item.lsn < made[0].lsn for item in items if isinstance(item, SnapshotChunk))


async def test_what_sync_writes_does_not_come_back(mariadb: MonolithOnMariaDB, farm: Farm) -> None:
    async with captured(mariadb, farm.through, ("item",), ITEM) as (running, conn):
        await running.streaming()
        own = running.job.context
        for key, place in ((1, (own, "reverse")), (2, (own, "forward")), (3, ("another", "reverse"))):
            async with conn.transaction():
                await conn.execute("REPLACE INTO fig.applied (context, direction) VALUES (%s, %s)", place)
                await conn.execute("INSERT INTO item VALUES (%s, 'x', 1)", (key,))
        await running.caught_up_with(conn)
        found = await transactions(running)
    assert [after[0] for [(_, _, after)] in found] == ["2", "3"]


async def test_a_huge_transaction_travels_in_parts(mariadb: MonolithOnMariaDB, farm: Farm) -> None:
    async with captured(mariadb, farm.through, ("item",), ITEM) as (running, conn):
        await running.streaming()
        await conn.execute("INSERT INTO item SELECT seq, repeat('x', 40), seq FROM seq_1_to_30000")
        await running.caught_up_with(conn)
        parts = [item for item in await running.items() if isinstance(item, Transaction)]
        [huge] = [one for one in whole(parts) if len(one.items) > 1]
    assert len(huge.items) == 30_000 and huge.items[-1].after == ("30000", "x" * 40, "30000")  # type: ignore[union-attr]
    assert len([part for part in parts if part.lsn == huge.lsn]) > 5


@pytest.mark.parametrize("kept", ["often", "never"])
async def test_a_table_that_changed_its_shape_waits_for_a_person(
    mariadb: MonolithOnMariaDB, farm: Farm, kept: str
) -> None:
    pace = QUICK if kept == "often" else replace(QUICK, acknowledge=3600)
    async with captured(mariadb, farm.through, ("item",), ITEM, pace=pace) as (running, conn):
        await running.streaming()
        await conn.execute("INSERT INTO item VALUES (1, 'before', 1)")
        await conn.execute("ALTER TABLE item DROP COLUMN n, MODIFY name text")
        await conn.execute("INSERT INTO item VALUES (2, 'after')")
        report = await running.until(lambda r: r["state"] == "paused", "a pause")
        assert "dropped or renamed: n; of another type: name" in report["error"]["message"]
        await resume(running.log, running.job.context, running.job.direction, running.job.tables[0])
        await running.until(lambda r: r["state"] == "streaming", "the stream again")
        await running.caught_up_with(conn)
        rows = [change.after for change in await running.changes()]
    assert rows[-1] == ("2", "after")


async def test_a_binary_log_that_is_gone_is_said(mariadb: MonolithOnMariaDB, farm: Farm) -> None:
    async with captured(mariadb, farm.through, ("item",), ITEM) as (running, conn):
        await running.streaming()
        await running.caught_up_with(conn)
        await running.stop()
        await pause(running.job.context, running.job.direction, farm.through)  # a file that is read is not removed
        await conn.execute("FLUSH BINARY LOGS")

        async def purged() -> bool:
            dumps = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog%'"
            for thread, *_ in await conn.fetch(dumps):
                try:
                    await conn.execute("KILL %s", (int(thread or 0),))  # the server has not noticed yet that it is gone
                except FigError as error:
                    if not mysql.refused(error, 1094):  # it just has
                        raise
            files = await conn.fetch("SHOW BINARY LOGS")
            await conn.execute(f"PURGE BINARY LOGS TO '{files[-1][0]!s}'")
            return len(files) == 1

        await clock.until(purged, timeout=30, what="the log to be purged")
        running.start()
        report = await running.failed("binlog_lost")
    assert "snapshot" in report["error"]["remedy"]


async def test_what_the_connector_cannot_parse_does_not_end_it(mariadb: MonolithOnMariaDB, farm: Farm) -> None:
    async with captured(mariadb, farm.through, ("item",), ITEM) as (running, conn):
        await running.streaming()
        await conn.execute("DROP PROCEDURE IF EXISTS fig.guard")
        context, [table] = running.job.context, running.job.tables
        await ownership.install(conn, context, side="monolith", owner=True, tables=[table], enforcing=True)
        user = f"u{context}@'127.0.0.1'"
        for statement in (
            "CREATE PROCEDURE IF NOT EXISTS counted(OUT n int) BEGIN SELECT count(*) INTO n FROM item; END",
            "CREATE OR REPLACE FUNCTION one() RETURNS int DETERMINISTIC RETURN 1",
            "SET STATEMENT lock_wait_timeout = 2 FOR CREATE OR REPLACE TRIGGER seen AFTER INSERT ON item"
            " FOR EACH ROW SET @seen = 1",
            "CREATE EVENT IF NOT EXISTS nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM item WHERE id < 0",
            f"CREATE USER {user} IDENTIFIED BY 'x'",
            f"GRANT BINLOG MONITOR, CONNECTION ADMIN ON *.* TO {user}",
            "ALTER TABLE item AUTO_INCREMENT = 500",
            "ALTER TABLE item ADD COLUMN IF NOT EXISTS event int",
            "INSERT INTO item VALUES (1, 'a', 1, 2)",
            f"DROP USER {user}",
        ):
            await conn.execute(statement)
        await running.caught_up_with(conn)
        assert await transactions(running) == [[("c", None, ("1", "a", "1", "2"))]]
        await ownership.uninstall(conn, context)
