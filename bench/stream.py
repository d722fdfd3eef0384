"""The change stream: its latency at 2,000 transactions a second, and how fast it works off a backlog."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import psycopg

from bench import pgbench, replication
from bench.context import Context
from bench.flow import flow
from bench.result import Result, quantile
from bench.tables import INVENTORY, ONE_TO_ONE, execute, fill, same, settle

RATE = 2000
TRANSACTIONS = 400_000
ITEMS = 100_000

# `seen` exists in the targets only, where its default notes when the row was applied.
TICKS = "CREATE TABLE tick (id bigint PRIMARY KEY, body text, created_at timestamptz NOT NULL{seen})"
TICK = """\\set n random(1, 1000)
INSERT INTO tick (id, body, created_at)
VALUES (nextval('tick_id'), 'a row of some length, as they come: ' || :n, clock_timestamp());
"""
TICK_MAPPING = [
    {
        "from": "public.tick",
        "to": "tick",
        "key": {"id": "id"},
        "columns": {"body": "body", "created_at": "created_at"},
    }
]
ADJUST = """\\set item random(1, {items})
\\set delta random(-5, 9)
UPDATE inventory SET quantity = quantity + :delta, updated_at = clock_timestamp() WHERE item_id = :item;
"""


def latency(context: Context) -> list[Result]:
    """``stream_latency_p50`` and ``_p99``: from the source's commit to the commit in the target."""
    seconds = context.seconds(20)
    with context.servers("source", "target", "control") as (source, target, control):
        here, there, peer = (
            source.create_database("shop"),
            target.create_database("copy"),
            target.create_database("peer"),
        )
        execute(here, TICKS.format(seen=""), "CREATE SEQUENCE tick_id CACHE 100")
        for dsn in (there, peer):
            execute(dsn, TICKS.format(seen=", seen timestamptz DEFAULT clock_timestamp()"))
        with context.folder("script") as folder:
            script = folder / "tick.sql"
            script.write_text(TICK)
            context.say(f"stream_latency: {RATE:,} transactions a second through PostgreSQL's logical replication")
            with replication.subscription(here, peer, "tick") as _:
                replication.await_copied(peer, 60)
                _ticks(here, script, 2)
                last, _ = _ticks(here, script, seconds)
                replication.await_true(peer, f"SELECT count(*) >= {last} FROM tick", "the peer", 120)
            theirs = _times(peer, seconds)
            execute(here, "TRUNCATE tick")
            with flow(context, "stream_latency", here, there, control.create_database("fig"), TICK_MAPPING) as ours:
                ours.load()
                ours.go()
                ours.await_snapshot(60)
                context.say(f"stream_latency: {RATE:,} transactions a second through ours")
                _ticks(here, script, 2)
                settled = _histogram(ours.folder)
                spent = ours.spent()
                last, achieved = _ticks(here, script, seconds)
                cores = spent.says()
                ours.await_sentinel(f"SELECT count(*) >= {last} FROM tick", 120)
                time.sleep(0.7)  # its last report
                counted = _histogram(ours.folder)
            independent = _times(there, seconds)
    counts = {bound: count - settled.get(bound, 0) for bound, count in counted.items()}
    results = []
    for name, share, limit in (("p50", 0.5, 10.0), ("p99", 0.99, 50.0)):
        value = _quantile(counts, share)
        results.append(
            Result(
                f"stream_latency_{name}",
                value,
                "ms",
                "PostgreSQL's logical replication (row made to row applied)",
                quantile(theirs, share),
                limit,
                note=f"commit at the source to commit in the target, {sum(counts.values()):,} transactions at"
                f" {achieved:,.0f}/s; row made to row applied, as the peer's:"
                f" {quantile(independent, share):.1f} ms; {cores}",
            )
        )
    return results


def _ticks(dsn: str, script: Path, seconds: float) -> tuple[int, float]:
    """Transactions at the rate; returns how many rows there are now, and the rate that was reached."""
    arguments = [f"--rate={RATE}", f"--time={max(1, round(seconds))}"]
    said = pgbench.finish(pgbench.command(dsn, script, clients=8, arguments=arguments), seconds + 60)
    reached = re.search(r"tps = ([\d.]+)", said)
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT count(*) FROM tick").fetchone()
    assert row is not None and reached is not None
    return int(row[0]), float(reached[1])


def _times(dsn: str, seconds: float) -> list[float]:
    """Milliseconds from each row's making to its applying; those of the measured seconds only."""
    query = """SELECT extract(epoch FROM seen - created_at)::float8 * 1000 FROM tick
        WHERE created_at > (SELECT max(created_at) FROM tick) - make_interval(secs => %s)"""
    with psycopg.connect(dsn) as conn:
        return [row[0] for row in conn.execute(query, (seconds,))]


def _histogram(folder: Path) -> dict[float, int]:
    """Upper bounds in ms → transactions, as sync last reported them."""
    said = json.loads((folder / "sync.report").read_text())
    return {bound: int(count) for bound, count in said["latency_histogram"]}


def _quantile(counts: dict[float, int], share: float) -> float:
    """The upper bound of the bucket that holds the quantile: never less than it was."""
    rank, seen = share * sum(counts.values()), 0
    for bound in sorted(counts):
        seen += counts[bound]
        if seen >= rank:
            return bound
    raise RuntimeError("sync reported no latency")


def backlog(context: Context) -> list[Result]:
    """``backlog``: one-row transactions that piled up, worked off by ours and by logical replication."""
    transactions = context.rows(TRANSACTIONS)
    with context.servers("source", "target", "control") as (source, target, control):
        here, there, peer = (
            source.create_database("shop"),
            target.create_database("copy"),
            target.create_database("peer"),
        )
        log = control.create_database("fig")
        fill(here, ITEMS)
        execute(here, "CREATE TABLE sentinel (id int)")
        for dsn in (there, peer):
            execute(dsn, INVENTORY)
        with (
            context.folder("script") as folder,
            replication.subscription(here, peer, "inventory"),
            flow(context, "backlog", here, there, log, ONE_TO_ONE) as ours,
        ):
            replication.await_copied(peer, 120)
            ours.load()
            ours.go()
            ours.await_snapshot(120)
            replication.enable(peer, on=False)
            ours.stop()
            script = folder / "adjust.sql"
            script.write_text(ADJUST.format(items=ITEMS))
            context.say(f"backlog: {transactions:,} one-row transactions pile up")
            arguments = [f"--transactions={transactions // 8}"]
            pgbench.finish(pgbench.command(here, script, clients=8, arguments=arguments, durable=False), 600)
            made = transactions // 8 * 8
            execute(here, "UPDATE inventory SET name = 'the last of all' WHERE item_id = 1")
            last = "SELECT name = 'the last of all' FROM inventory WHERE item_id = 1"
            settle(here)
            ours.load()
            begun = ours.go()
            spent = ours.spent()
            rate = made / (ours.await_sentinel(last, 600) - begun)
            cores = spent.says()
            ours.stop()
            if not same(here, there):
                raise RuntimeError("ours differs from the source")
            settle(there, log)
            context.say(f"backlog: {rate:,.0f}/s; now PostgreSQL's logical replication")
            begun = replication.enable(peer, on=True)
            theirs = made / (replication.await_true(peer, last, "the peer", 600) - begun)
    how = f"{made:,} updates of {ITEMS:,} rows, one a transaction, from the word go to the last one applied"
    return [
        Result(
            "backlog",
            rate,
            "transactions/s",
            "PostgreSQL's logical replication",
            theirs,
            35_000,
            more_is_better=True,
            note=f"{how}; {cores}",
        )
    ]
