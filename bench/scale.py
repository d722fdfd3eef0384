"""One sync worker and two over the partitions of a topic: a backlog that lies in the log, worked off by each."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import psycopg

from bench import pgbench
from bench.context import Context, Spent, until
from bench.flow import CONTEXT, Flow, flow
from bench.result import Result
from bench.stream import ADJUST, ITEMS
from bench.tables import INVENTORY, ONE_TO_ONE, execute, fill, same
from examples.servers.kafka import Kafka
from stranglerfig.changes.spread import Spread

TRANSACTIONS = 300_000
PARTITIONS = 2
KEYS = {"public.inventory": ("item_id",)}


class Divided(Flow):
    """A flow over several partitions with any number of workers, each part started by itself."""

    @property
    def jobs(self) -> dict[str, Any]:
        found = super().jobs
        capture = replace(found["capture"], spread=Spread(PARTITIONS, KEYS))
        return {"capture": capture, **dict.fromkeys(("worker01", "worker0", "worker1"), found["sync"])}

    def only(self, *parts: str) -> float:
        """End what runs, and have these parts run; returns when they were let go."""
        self.stop()
        self.load(*parts)
        return self.go()


def postgres(context: Context) -> list[Result]:
    """``sync_workers``: changes a second of two workers, beside those of one."""
    with context.servers("control") as (control,):
        _, two = _scaled(context, "sync_workers", control.create_database("fig"))
    return [two]


def kafka(context: Context) -> list[Result]:
    """``sync_kafka``: changes a second of one worker from Kafka; ``sync_kafka_workers``: those of two."""
    with context.folder("kafka") as folder:
        server = Kafka(folder, java=())
        server.start()
        try:
            one, two = _scaled(context, "sync_kafka_workers", server.url)
        finally:
            server.stop()
    return [replace(one, name="sync_kafka", target=25_000), two]


def _scaled(context: Context, name: str, log: str) -> tuple[Result, Result]:
    transactions = context.rows(TRANSACTIONS) // 8 * 8
    with context.servers("source", "target") as (source, target):
        here, there = source.create_database("shop"), target.create_database("copy")
        fill(here, ITEMS)
        execute(there, INVENTORY)
        with (
            context.folder("script") as folder,
            flow(context, name, here, there, log, ONE_TO_ONE, kind=Divided) as ours,
        ):
            assert isinstance(ours, Divided)
            ours.only("capture", "worker01")
            ours.await_snapshot(180)
            script = folder / "adjust.sql"
            script.write_text(ADJUST.format(items=ITEMS))
            rates: list[float] = []
            notes: list[str] = []
            for workers in (("worker01",), ("worker0", "worker1")):
                ours.only("capture")
                context.say(f"{name}: {transactions:,} one-row transactions pile up in the log")
                pgbench.finish(
                    pgbench.command(
                        here, script, clients=8, arguments=[f"--transactions={transactions // 8}"], durable=False
                    ),
                    600,
                )
                nonce = f"after-{len(workers)}"
                content = json.dumps({"context": CONTEXT, "direction": "forward", "nonce": nonce})
                execute(here, f"SELECT pg_logical_emit_message(true, 'fig.marker', '{content}')")
                _await_logged(here)
                begun = ours.only(*workers)
                spent = Spent({part: ours.processes[part].pid for part in workers})
                ended = ours.await_sentinel(f"SELECT true FROM fig.marker WHERE nonce = '{nonce}'", 600)
                rates.append(transactions / (ended - begun))
                notes.append(f"{len(workers)}: {rates[-1]:,.0f}/s, {spent.says()}")
            ours.stop()
            if not same(here, there):
                raise RuntimeError("ours differs from the source")
    how = f"{transactions:,} updates of {ITEMS:,} rows over {PARTITIONS} partitions, out of the log; {'; '.join(notes)}"
    one = Result(f"{name}_one", rates[0], "transactions/s", more_is_better=True, note=how)
    two = Result(
        name, rates[1], "transactions/s", "one worker", rates[0], 1.6 * rates[0], more_is_better=True, note=how
    )
    return one, two


def _await_logged(source: str) -> None:
    """Wait until the log has everything that the source has written: its slot is told within seconds."""
    with psycopg.connect(source, autocommit=True) as conn:
        row = conn.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert row is not None

        def whole() -> bool:
            told = conn.execute("SELECT bool_and(confirmed_flush_lsn >= %s::pg_lsn) FROM pg_replication_slots", row)
            return (told.fetchone() or (False,))[0] is True

        until(whole, 300, "capture", every=0.2)
