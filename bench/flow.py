"""A flow of ours between two databases: capture and sync, each a process of its own, over a log on a third server."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from bench.context import Context, Spent, until
from stranglerfig.capture.capture import CaptureJob
from stranglerfig.capture.job import Pace
from stranglerfig.changes.mapping import Mapping, compile_mapping
from stranglerfig.changes.model import Direction, names
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases import catalogue, ownership
from stranglerfig.foundation import postgres
from stranglerfig.runtime.settings import Estate
from stranglerfig.sync.target import SyncJob

REPOSITORY = Path(__file__).parents[1]
CONTEXT = "bench"
OURS = names(CONTEXT, Direction.FORWARD)


PACE = Pace(linger=Estate.model_fields["linger"].default / 1000)
"""As ``fig up`` runs it where nobody sets ``linger`` in ``fig.yaml``."""


async def _guard(dsn: str, mapping: Mapping) -> None:
    """The target's ownership row and guards, as entering *sync* makes them."""
    async with postgres.session(dsn, what="bench") as conn:
        await ownership.install(
            conn, CONTEXT, side="service", owner=False, tables=mapping.outputs(Direction.FORWARD), enforcing=True
        )


def compiled(source: str, target: str, tables: Sequence[dict[str, Any]]) -> Mapping:
    """The mapping, against both databases as they are."""
    wanted = [TableMapping.model_validate(table) for table in tables]

    async def compile_() -> Mapping:
        async with postgres.session(source, what="bench") as one, postgres.session(target, what="bench") as other:
            return compile_mapping(
                wanted,
                await catalogue.tables(one, sorted({t.source for t in wanted})),
                await catalogue.tables(other, sorted({t.target for t in wanted})),
            )

    return asyncio.run(compile_())


@dataclass
class Parts:
    """Processes of ours, each with a job, around the log at the address ``log``."""

    context: Context
    folder: Path
    name: str
    log: str
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict, kw_only=True)

    @property
    def jobs(self) -> dict[str, Any]:
        """What each part has to do, by its name."""
        raise NotImplementedError

    def load(self, *parts: str) -> None:
        """Start the processes (all, unless some are named), up to where they would begin their work."""
        for part, job in self.jobs.items():
            if parts and part not in parts:
                continue
            file = self.folder / f"{part}.job"
            file.write_bytes(pickle.dumps((job, self.log)))
            with (self.folder / f"{part}.log").open("ab") as errors:
                self.processes[part] = subprocess.Popen(
                    [sys.executable, "-m", "bench.part", part, str(file)],
                    cwd=REPOSITORY,
                    env=dict(os.environ) | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
        for part, process in self.processes.items():
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError(f"{part} did not start: {(self.folder / f'{part}.log').read_text()[-800:]}")

    def go(self) -> float:
        """Let them begin; returns when (``time.perf_counter``)."""
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return time.perf_counter()

    def spent(self) -> Spent:
        """What the processes spend from now on."""
        return Spent({part: process.pid for part, process in self.processes.items()})

    def report(self, part: str) -> dict[str, Any]:
        """What ``part`` last said of itself."""
        file = self.folder / f"{part}.report"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def check(self) -> None:
        """Raise when a process has ended, or stands at something that waits for a person."""
        for part, process in self.processes.items():
            said = self.report(part)
            if process.poll() is not None or said.get("state") in ("stopped", "failed"):
                log = (self.folder / f"{part}.log").read_text()[-800:]
                raise RuntimeError(f"{part} has given up: {said.get('error')} {log}")

    def stop(self) -> None:
        """End the processes, and keep what memory they held."""
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for part, process in self.processes.items():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
            peak = self.folder / f"{part}.peak"
            if peak.exists():
                self.context.peak(f"{self.name}/{part}", float(peak.read_text()))
        self.processes = {}


@dataclass
class Flow(Parts):
    """Capture and sync of one mapping."""

    source: str
    target: str
    mapping: Mapping
    snapshot: bool = True

    @property
    def jobs(self) -> dict[str, Any]:
        tables = tuple(sorted({entry.source for entry in self.mapping.forward}))
        return {
            "capture": CaptureJob(CONTEXT, Direction.FORWARD, self.source, tables, snapshot=self.snapshot, pace=PACE),
            "sync": SyncJob(CONTEXT, Direction.FORWARD, self.target, OURS.topic, OURS.origin, self.mapping),
        }

    def await_snapshot(self, timeout: float) -> float:
        """Wait until the snapshot is applied; returns when that was seen."""
        return self._await(
            "SELECT snapshot_ended_at IS NOT NULL FROM fig.applied WHERE context = 'bench'", "the snapshot", timeout
        )

    def await_sentinel(self, query: str, timeout: float) -> float:
        """Wait until a query on the target is true; returns when that was seen."""
        return self._await(query, "what was written last", timeout)

    def _await(self, query: str, what: str, timeout: float) -> float:
        told = 0.0

        with psycopg.connect(self.target, autocommit=True) as conn:

            def seen() -> bool:
                nonlocal told
                self.check()
                if time.perf_counter() - told > 2:
                    told = time.perf_counter()
                    if said := self.report("sync"):
                        self.context.say(f"{self.name}: {said['rows']:,} rows applied, {said['rate']:,.0f}/s now")
                try:
                    row = conn.execute(query).fetchone()
                except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                    return False
                return bool(row and row[0])

            return until(seen, timeout, what, every=0.02)


@contextmanager
def flow(
    context: Context,
    name: str,
    source: str,
    target: str,
    log: str,
    tables: Sequence[dict[str, Any]],
    *,
    kind: type[Flow] = Flow,
    **options: Any,
) -> Iterator[Flow]:
    """A flow whose processes have not been started; they are ended and the source's slot is dropped afterwards."""
    with context.folder("flow") as folder:
        mapping = compiled(source, target, tables)
        asyncio.run(_guard(target, mapping))
        made = kind(context, folder, name, log, source, target, mapping, **options)
        try:
            yield made
        finally:
            made.stop()
            drop_slot(source, OURS.slot)


def drop_slot(dsn: str, name: str) -> None:
    """Drop a replication slot once nobody reads it."""
    query = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(query, (name,))
