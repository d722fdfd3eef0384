"""What one more extraction costs: a slot and a reader of its own for each, beside one that reads for all.

The same writes, spread evenly over four tables, are captured once by one flow that has them all, and once by four
flows with one table each. Counted is the processor time of the readers and of the server's walsenders, which decode
the whole of the WAL for each slot.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from bench import pgbench
from bench.context import Context, cpu_seconds, until
from bench.flow import PACE, Parts, drop_slot
from bench.result import Result
from bench.tables import execute, settle
from stranglerfig.capture.capture import CaptureJob
from stranglerfig.changes.model import Direction, names

RATE = 2000
TABLES = ("one", "two", "three", "four")
WRITE = "\\set id random(1, 10000)\n" + "".join(
    f"\\if :client_id = {number}\nUPDATE {table} SET quantity = quantity + 1 WHERE id = :id;\n\\endif\n"
    for number, table in enumerate(TABLES)
)
SENDERS = "SELECT pid FROM pg_stat_replication"


@dataclass
class Captures(Parts):
    """A capture for each group of tables."""

    source: str
    groups: tuple[tuple[str, ...], ...]

    @property
    def jobs(self) -> dict[str, Any]:
        return {
            f"capture{number}": CaptureJob(
                f"bench{number}", Direction.FORWARD, self.source, tuple(f"public.{name}" for name in tables),
                snapshot=False, pace=PACE,
            )
            for number, tables in enumerate(self.groups)
        }  # fmt: skip


@contextmanager
def _capturing(context: Context, source: str, log: str, groups: tuple[tuple[str, ...], ...]) -> Iterator[Captures]:
    with context.folder("captures") as folder:
        made = Captures(context, folder, f"extractions{len(groups)}", log, source, groups)
        try:
            made.load()
            made.go()
            yield made
        finally:
            made.stop()
            for number in range(len(groups)):
                drop_slot(source, names(f"bench{number}", Direction.FORWARD).slot)


def added(context: Context) -> list[Result]:
    """``extraction_cpu``, cores for four extractions, and ``extraction_memory``, MB of each."""
    seconds = context.seconds(20)
    with (
        context.servers("source", "control", max_replication_slots="20") as (source, control),
        context.folder("s") as s,
    ):
        here = source.create_database("shop")
        for name in TABLES:
            execute(here, f"CREATE TABLE {name} (id bigint PRIMARY KEY, quantity integer NOT NULL, body text)")
            execute(here, f"INSERT INTO {name} SELECT n, 0, 'a row of some length' FROM generate_series(1, 10000) AS n")
        settle(here)
        script = s / "write.sql"
        script.write_text(WRITE)
        cores: dict[int, tuple[float, float]] = {}
        for groups in ((TABLES,), tuple((name,) for name in TABLES)):
            context.say(f"extractions: {RATE:,} changes a second of four tables, read by {len(groups)}")
            log = control.create_database(f"log{len(groups)}")
            with _capturing(context, here, log, groups) as captures:
                _write(here, script, 4)  # until each reader is at its work
                senders = _senders(here, len(groups))
                own = [process.pid for process in captures.processes.values()]
                before, begun = [sum(map(cpu_seconds, pids)) for pids in (own, senders)], time.perf_counter()
                _write(here, script, seconds)
                lasted = time.perf_counter() - begun
                readers, walsenders = (
                    (sum(map(cpu_seconds, pids)) - spent) / lasted
                    for pids, spent in zip((own, senders), before, strict=True)
                )
                captures.check()
                cores[len(groups)] = (readers, walsenders)
    memory = max(peak for name, peak in context.peaks.items() if name.startswith("extractions4/"))
    together, apart = cores[1], cores[4]
    listed = "; ".join(f"{n}: readers {r:.2f}, walsenders {w:.2f}" for n, (r, w) in cores.items())
    return [
        Result(
            "extraction_cpu", sum(apart), "cores", "one slot for all", sum(together),
            note=f"four slots at {RATE:,} changes/s; each more costs {(sum(apart) - sum(together)) / 3:.3f} ({listed})",
        ),
        Result("extraction_memory", memory, "MB", note="a reader as a process of its own; `fig up` has one for all"),
    ]  # fmt: skip


def _senders(dsn: str, count: int) -> list[int]:
    """The server's processes that read for ``count`` slots."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [pid for (pid,) in conn.execute(SENDERS)]
        return len(found) == count

    with psycopg.connect(dsn, autocommit=True) as conn:
        until(there, 60, "the slots' readers")
    return found


def _write(dsn: str, script: Any, seconds: float) -> None:
    arguments = [f"--rate={RATE}", f"--time={seconds:.0f}"]
    pgbench.finish(pgbench.command(dsn, script, clients=len(TABLES), arguments=arguments), seconds + 60)
