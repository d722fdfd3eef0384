"""A real MariaDB as our scripts start it, and sessions on it."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from examples.servers.fetch import Missing
from examples.servers.mariadb import MariaDB
from stranglerfig.foundation import clock, mysql, tasks
from stranglerfig.foundation.errors import FigError
from tests.conftest import MonolithOnMariaDB, required


async def test_a_server_that_is_killed_comes_back_with_what_was_committed(tmp_path: Path) -> None:
    server = MariaDB(tmp_path / "mariadb")
    try:
        server.start()
    except Missing as missing:
        required(str(missing))
    try:
        async with mysql.session(server.url("mysql"), what="test") as conn:
            await conn.execute("CREATE DATABASE shop")
            await conn.execute("CREATE TABLE shop.item (id int PRIMARY KEY, name varchar(20))")
            await conn.execute("INSERT INTO shop.item VALUES (1, 'kept')")
            before = await conn.one("SHOW MASTER STATUS")
            await conn.execute("START TRANSACTION")
            await conn.execute("INSERT INTO shop.item VALUES (2, 'open')")
            pid = server.pid
            server.kill()
            with pytest.raises(FigError) as lost:
                await conn.value("SELECT 1")
            assert lost.value.code == "database_unreachable"
        server.start()
        assert server.pid != pid
        async with mysql.session(server.url("shop"), what="test") as conn:
            assert await conn.fetch("SELECT * FROM item") == [("1", "kept")]
            after = await conn.one("SHOW MASTER STATUS")
        assert before is not None and after is not None and str(after[0]) > str(before[0])  # a new file of the log
    finally:
        server.stop()


@pytest.fixture
def dsn(mariadb: MonolithOnMariaDB) -> str:
    return mariadb.server.url(mariadb.database())


async def test_values_arrive_as_the_server_wrote_them(dsn: str) -> None:
    async with mysql.session(dsn, what="test") as conn:
        found = await conn.one(
            "SELECT 1, 1.50, 'é', x'00ff', null, b'101', @@session.time_zone, timestamp '2024-02-29 1:2:3'"
        )
        assert found == ("1", "1.50", "é", b"\x00\xff", None, b"\x05", "+00:00", "2024-02-29 01:02:03")
        assert await conn.value("SELECT %s", ["it's"]) == "it's"
        assert await conn.value("SELECT 1 FROM dual WHERE false") is None


async def test_what_the_server_refuses_is_told_with_its_number(dsn: str) -> None:
    async with mysql.session(dsn, what="test") as conn:
        with pytest.raises(FigError) as raised:
            await conn.execute("SELECT nothing FROM nowhere")
        assert mysql.refused(raised.value, 1146) and not mysql.refused(raised.value, 1)
        assert "fig:" not in raised.value.message.partition("refuses")[0]  # the password is nowhere
        assert await conn.value("SELECT 1") == "1"


async def test_a_transaction_is_whole_or_not_at_all(dsn: str) -> None:
    async with mysql.session(dsn, what="test") as conn:
        await conn.execute("CREATE TABLE item (id int PRIMARY KEY)")
        async with conn.transaction():
            await conn.execute("INSERT INTO item VALUES (1)")
        with pytest.raises(FigError):
            async with conn.transaction():
                await conn.execute("INSERT INTO item VALUES (2)")
                await conn.execute("INSERT INTO item VALUES (1)")
        assert await conn.fetch("SELECT id FROM item") == [("1",)]


async def test_rows_are_streamed_and_a_reader_that_stops_ends_the_session(dsn: str) -> None:
    async with mysql.session(dsn, what="test") as conn:
        sizes = [len(rows) async for rows in conn.stream("SELECT seq FROM seq_1_to_2500", rows=1000)]
        assert sizes == [1000, 1000, 500]
        stream = conn.stream("SELECT seq FROM seq_1_to_2500", rows=1000)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        gc.collect()  # nothing of it is read when it is collected
        with pytest.raises(FigError) as raised:
            await conn.value("SELECT 1")
        assert raised.value.code == "database_unreachable"


async def test_a_call_that_is_cancelled_does_not_keep_its_caller(dsn: str) -> None:
    async with mysql.session(dsn, what="test") as conn:
        waiting = tasks.spawn(conn.value("SELECT sleep(60)"), name="a long statement")
        await asyncio.sleep(0.2)
        begun = clock.monotonic()
        await tasks.stop(waiting)
    assert clock.monotonic() - begun < 5


async def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    with pytest.raises(FigError) as raised:
        async with mysql.session("mysql://shop:s3cret@127.0.0.1:1/shop", what="test"):
            raise AssertionError("never reached")
    assert raised.value.code == "database_unreachable" and "s3cret" not in str(raised.value.as_dict())


async def test_a_wrong_password_is_said_as_such(mariadb: MonolithOnMariaDB) -> None:
    with pytest.raises(FigError) as raised:
        async with mysql.session(mariadb.server.url("mysql", password="wr0ng"), what="test"):
            raise AssertionError("never reached")
    assert "Access denied" in raised.value.message and "wr0ng" not in str(raised.value.as_dict())


async def test_statements_go_together_and_the_one_that_is_refused_is_named(dsn: str) -> None:
    async with mysql.session(dsn, what="test", several=True) as conn:
        await conn.execute("CREATE TABLE item (id int PRIMARY KEY, name longtext)")
        answers = await conn.exchange(
            [
                ("INSERT INTO item VALUES (%s, %s), (2, '100 %%')", (1, "a; b")),
                ("SELECT * FROM item", None),
                ("DELETE FROM item", ()),
            ]
        )
        assert answers == [(2, []), (2, [("1", "a; b"), ("2", "100 %")]), (2, [])]
        long = "x" * 600_000
        many = [("INSERT INTO item VALUES (%s, %s)", (number, long)) for number in (1, 2, 3, 1, 4)]
        with pytest.raises(FigError) as refused:
            await conn.exchange(many)
        assert mysql.refused(refused.value, 1062) and refused.value.context["number"] == 3
        assert await conn.value("SELECT group_concat(id) FROM item") == "1,2,3"
        assert await conn.exchange([]) == []
