"""Snapshots of a million rows, through the log into the service; and their verification."""

from __future__ import annotations

import asyncio
import time

import psycopg

from bench import replication
from bench.context import Context, Spent
from bench.flow import CONTEXT, Flow, flow
from bench.result import Result
from bench.tables import INVENTORY, ONE_TO_ONE, SCENARIO, SERVICE, execute, fill, same, settle
from stranglerfig.changes.model import Direction
from stranglerfig.verification.rows import VerifyJob, verify

ROWS = 1_000_000


def one_to_one(context: Context) -> list[Result]:
    """``snapshot_1to1``, and ``verify_1m`` of what it brought."""
    rows = context.rows(ROWS)
    with context.servers("source", "target", "control") as (source, target, control):
        here, there, peer = (
            source.create_database("shop"),
            target.create_database("copy"),
            target.create_database("peer"),
        )
        log = control.create_database("fig")
        context.say(f"snapshot_1to1: filling {rows:,} rows")
        fill(here, rows)
        execute(there, INVENTORY)
        peer_rate = _peer(context, here, peer, rows)
        with flow(context, "snapshot_1to1", here, there, log, ONE_TO_ONE) as ours:
            settle(here, there)
            rate, cores = _snapshot(ours, rows)
            if not same(here, there):
                raise RuntimeError("the copy differs from the source")
            settle(here, there, log)
            verified = _verify(context, ours, rows)
    return [
        Result(
            "snapshot_1to1",
            rate,
            "rows/s",
            "PostgreSQL's logical replication, initial copy",
            peer_rate,
            200_000,
            more_is_better=True,
            note=f"{rows:,} rows, from the word go to the last row committed, through the log; {cores}",
        ),
        verified,
    ]


def mapped(context: Context) -> list[Result]:
    """``snapshot_mapped``: one source row to a row in each of two tables."""
    rows = context.rows(ROWS)
    with context.servers("source", "target", "control") as (source, target, control):
        here, there, peer = (
            source.create_database("shop"),
            target.create_database("copy"),
            target.create_database("peer"),
        )
        context.say(f"snapshot_mapped: filling {rows:,} rows")
        fill(here, rows)
        execute(there, SERVICE)
        peer_rate = _peer(context, here, peer, rows)
        with flow(context, "snapshot_mapped", here, there, control.create_database("fig"), SCENARIO) as ours:
            settle(here, there)
            rate, cores = _snapshot(ours, rows)
            with psycopg.connect(there) as conn:
                query = "SELECT (SELECT count(*) FROM inventory_item), (SELECT count(*) FROM stock_level)"
                found = conn.execute(query).fetchone()
            if found != (rows, rows):
                raise RuntimeError(f"{found} rows arrived instead of {rows} in each table")
    return [
        Result(
            "snapshot_mapped",
            rate,
            "source rows/s",
            "PostgreSQL's logical replication, initial copy, unmapped",
            peer_rate,
            80_000,
            more_is_better=True,
            note=f"{rows:,} source rows to {2 * rows:,} rows of two tables with a foreign key between them; {cores}",
        )
    ]


def _peer(context: Context, here: str, peer: str, rows: int) -> float:
    context.say("PostgreSQL's own logical replication copies the same table")
    execute(peer, INVENTORY)
    settle(here, peer)
    with replication.subscription(here, peer, "inventory") as begun:
        seconds = replication.await_copied(peer, 300) - begun
    execute(peer, "DROP TABLE inventory")
    return rows / seconds


def _snapshot(ours: Flow, rows: int) -> tuple[float, str]:
    ours.load()
    begun = ours.go()
    spent = ours.spent()
    rate = rows / (ours.await_snapshot(600) - begun)
    return rate, spent.says()


def _verify(context: Context, ours: Flow, rows: int) -> Result:
    context.say("verify_1m: comparing row by row")
    job = VerifyJob(CONTEXT, Direction.FORWARD, ours.source, ours.target, ours.mapping)
    spent = Spent({})
    found = asyncio.run(verify(job))
    cores = spent.says()
    if not found.equal or found.rows_compared != rows:
        raise RuntimeError(f"verification says {found}")
    rate = rows / found.seconds
    seconds = asyncio.run(_scans(ours.source, ours.target))
    return Result(
        "verify_1m",
        found.seconds,
        "s",
        "one md5 aggregate over each side, at once",
        seconds,
        2.0,
        note=f"{rows:,} rows a side in {found.chunks} chunks, {rate:,.0f} rows/s, behind a marker; {cores}",
    )


async def _scans(source: str, target: str) -> float:
    query = "SELECT count(*), sum(('x' || left(md5(ROW(t.*)::text), 16))::bit(64)::bigint) FROM inventory AS t"

    async def scan(dsn: str) -> object:
        async with await psycopg.AsyncConnection.connect(dsn, options="-c max_parallel_workers_per_gather=0") as conn:
            return await (await conn.execute(query)).fetchone()

    begun = time.perf_counter()
    one, other = await asyncio.gather(scan(source), scan(target))
    if one != other:
        raise RuntimeError("the sides differ")
    return time.perf_counter() - begun
