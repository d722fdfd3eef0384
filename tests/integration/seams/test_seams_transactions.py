"""A sample of a real change stream: what is seen, what it leaves behind, and what is said when it may not be."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest
from psycopg import sql

from stranglerfig.seams.model import Evidence
from stranglerfig.seams.transactions import Bounds, collect
from tests.conftest import Server

SCHEMA = """
CREATE TABLE orders (id bigint, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES IN (1);
CREATE TABLE lines (id bigint PRIMARY KEY, n int);
CREATE TABLE audit (said text);
CREATE TABLE stock (id bigint PRIMARY KEY, n int);
INSERT INTO stock VALUES (1, 0);
INSERT INTO audit VALUES ('first');
"""
LEFT = """
SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'fig_seams%' AND database = current_database()),
    (SELECT count(*) FROM pg_publication)"""


@pytest.fixture
def database(postgres: Server) -> str:
    dsn = postgres.database()
    with psycopg.connect(dsn) as conn:
        conn.execute(SCHEMA)
    return dsn


def _work(dsn: str, ended: threading.Event) -> None:
    """Of three transactions one is an order, one an adjustment, one a note whose updates no key identifies."""
    number = 0
    with psycopg.connect(dsn, autocommit=True) as conn:
        while not ended.is_set():
            number += 1
            with conn.transaction():
                conn.execute("INSERT INTO orders VALUES (%s, 1)", (number,))
                conn.execute("INSERT INTO lines VALUES (%s, 1)", (number,))
                conn.execute("INSERT INTO audit VALUES ('secret')")
            conn.execute("UPDATE stock SET n = n + 1")
            conn.execute("UPDATE audit SET said = 'seen' WHERE said = 'first'")
            ended.wait(0.005)


async def sampled(dsn: str, bounds: Bounds, worker: str = "") -> Evidence:
    ended = threading.Event()
    work = asyncio.create_task(asyncio.to_thread(_work, worker or dsn, ended))
    try:
        return await collect(dsn, bounds)
    finally:
        ended.set()
        await work


async def test_which_tables_change_in_one_transaction(database: str) -> None:
    found = await sampled(database, Bounds(2.0))
    (coverage,) = found.coverage
    assert coverage.source == "transactions" and coverage.state == "partly"
    assert "of 1 tables without a key only inserts" in coverage.said
    by_tables = {use.writes: use for use in found.uses}
    assert set(by_tables) == {frozenset({"orders", "lines", "audit"}), frozenset({"stock"})}
    order = by_tables[frozenset({"orders", "lines", "audit"})]
    assert order.times > 10 and order.of == order.times
    assert order.where == f"{order.times} of the {order.times} sampled transactions that write any of them"
    with psycopg.connect(database) as conn:
        assert conn.execute(LEFT).fetchone() == (0, 0)


async def test_an_older_server_is_sampled_as_well(postgres_16: Server) -> None:
    dsn = postgres_16.database()
    with psycopg.connect(dsn) as conn:
        conn.execute(SCHEMA)
    found = await sampled(dsn, Bounds(60.0, transactions=9))
    assert sum(use.times for use in found.uses) == 9


async def test_it_ends_when_enough_was_seen(database: str) -> None:
    async with asyncio.timeout(20):
        found = await sampled(database, Bounds(60.0, transactions=30))
    assert sum(use.times for use in found.uses) == 30


async def test_the_slot_ends_with_its_session_and_no_publication_stays(database: str) -> None:
    task = asyncio.create_task(sampled(database, Bounds(60.0)))
    with psycopg.connect(database, autocommit=True) as conn:
        async with asyncio.timeout(20):
            while conn.execute(LEFT).fetchone() != (1, 2):
                await asyncio.sleep(0.05)
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'fig:seams sample' AND datname = current_database()"
        )
        (coverage,) = (await task).coverage
        assert coverage.state == "absent" and "terminating connection" in coverage.said
        async with asyncio.timeout(20):
            while conn.execute(LEFT).fetchone() != (0, 0):
                await asyncio.sleep(0.05)


async def test_what_a_killed_sample_left_goes_with_the_next(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("CREATE PUBLICATION fig_seams_sample FOR TABLE lines")
        (coverage,) = (await collect(database, Bounds(0.2))).coverage
        assert "0 transactions in 0 s" in coverage.said and "sample while the monolith is at work" in coverage.said
        assert conn.execute(LEFT).fetchone() == (0, 0)


async def test_a_transaction_that_stays_open_is_not_waited_for_longer_than_the_sample(database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("UPDATE stock SET n = 5")
        (coverage,) = (await collect(database, Bounds(0.1))).coverage
        assert coverage.state == "absent" and "was open all the time; end it" in coverage.said
        conn.rollback()
    with psycopg.connect(database) as conn:
        assert conn.execute(LEFT).fetchone() == (0, 0)


async def test_what_the_role_lacks_is_said_with_what_to_grant(database: str, postgres: Server) -> None:
    role = postgres.role("sampler")
    mine = psycopg.conninfo.make_conninfo(database, user=role)

    async def said() -> str:
        (coverage,) = (await collect(mine, Bounds(0.2))).coverage
        return f"{coverage.state}: {coverage.said}"

    with psycopg.connect(database, autocommit=True) as conn:
        name = sql.Identifier(conn.info.dbname)
        conn.execute("ALTER ROLE sampler NOREPLICATION")
        assert "absent: not read: the role may not replicate; ALTER ROLE sampler REPLICATION" in await said()
        conn.execute("ALTER ROLE sampler REPLICATION")
        assert "GRANT CREATE ON DATABASE" in await said()
        conn.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO sampler").format(name))
        assert "none of them the role's" in await said()
        conn.execute("ALTER TABLE stock OWNER TO sampler")
        assert "3 tables are not the role's, and were not seen" in await said()
