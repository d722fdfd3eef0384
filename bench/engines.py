"""Native capture and Debezium on Kafka Connect: the same writes from one PostgreSQL to one Kafka, one after the other.

How long a change takes is the broker's time of the record (``LogAppendTime``, milliseconds) less the commit's at the
source, which both engines write beside each change.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from bench import pgbench
from bench.context import Context, cpu_seconds, until
from bench.flow import CONTEXT, OURS, PACE, Parts, drop_slot
from bench.part import peak_megabytes
from bench.result import Result, quantile
from bench.stream import TICK, TICKS
from bench.tables import execute, settle
from examples.servers.kafka import Connect as Worker
from examples.servers.kafka import Kafka
from stranglerfig.capture.capture import CaptureJob
from stranglerfig.capture.connect import Connect
from stranglerfig.changes import frames
from stranglerfig.changes.model import Direction, Transaction
from stranglerfig.eventlog.kafka import KafkaLog
from stranglerfig.eventlog.model import Record

RATE = 1000
CHANGES = 300_000
PAGE = 5000
SLOT = "peer"
TUNED = {
    "poll.interval.ms": "5",
    "max.batch.size": "8192",
    "max.queue.size": "32768",
    "producer.override.linger.ms": "5",
    "producer.override.batch.size": "262144",
}

Times = list[tuple[float, float]]
"""Of each change, in seconds since the epoch: when it was committed, and when the broker took it."""


class Seen(NamedTuple):
    """What one engine reached.

    Attributes:
        p50, p99: milliseconds from commit to Kafka.
        rate: changes a second while it works off a backlog, from the first that is in to the last.
        cpu: seconds of processor time of its process per million changes of the backlog, its start included.
        memory: MB that the process held at most.
    """

    p50: float
    p99: float
    rate: float
    cpu: float
    memory: float


class Engine:
    """One way from the source to a topic."""

    name: str
    topic: str

    def start(self) -> None:
        """Begin where it was."""
        raise NotImplementedError

    def stop(self) -> None:
        """Let go of the source."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The process that does the work; what it spent before it was started counts as well."""
        raise NotImplementedError

    def times(self, record: Record) -> Iterator[float]:
        """When each change of ``record`` was committed."""
        raise NotImplementedError


@dataclass
class Native(Parts, Engine):
    """Ours, as ``fig up`` runs it."""

    source: str = ""
    topic: str = OURS.topic

    @property
    def jobs(self) -> dict[str, Any]:
        return {
            "capture": CaptureJob(CONTEXT, Direction.FORWARD, self.source, ("public.tick",), snapshot=False, pace=PACE)
        }

    def start(self) -> None:
        self.load()
        self.go()

    @property
    def pid(self) -> int:
        return self.processes["capture"].pid

    def times(self, record: Record) -> Iterator[float]:
        if record.event.datacontenttype != frames.STREAM:
            return
        for item in frames.decode(record.event.datacontenttype, record.event.data):
            if isinstance(item, Transaction):
                yield from [item.committed_at / 1e6] * sum(1 for one in item.items if hasattr(one, "relation"))


class Debezium(Engine):
    """Its connector on a worker of its own, with a topic for the table, as its tutorial has it."""

    def __init__(self, worker: Worker, name: str, source: str, settings: dict[str, str]) -> None:
        self.name = name
        self.topic = f"{name}.public.tick"
        self._worker = worker
        self._source = source
        self._settings = settings

    def start(self) -> None:
        asyncio.run(self._do(begin=True))

    def stop(self) -> None:
        asyncio.run(self._do(begin=False))

    @property
    def pid(self) -> int:
        return self._worker.pid

    async def _do(self, *, begin: bool) -> None:
        async with Connect(self._worker.url) as connect:
            if begin:
                await connect.configure(self.name, self._configuration())
                await connect.resume(self.name)
            else:
                await connect.stop(self.name)
                await connect.until_stopped(self.name, timeout=60)

    def _configuration(self) -> dict[str, str]:
        parts = psycopg.conninfo.conninfo_to_dict(self._source)
        converter = "org.apache.kafka.connect.json.JsonConverter"
        return {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": str(parts["host"]),
            "database.port": str(parts["port"]),
            "database.user": str(parts["user"]),
            "database.dbname": str(parts["dbname"]),
            "topic.prefix": self.name,
            "table.include.list": "public.tick",
            "plugin.name": "pgoutput",
            "slot.name": SLOT,
            "publication.name": SLOT,
            "publication.autocreate.mode": "filtered",
            "snapshot.mode": "no_data",
            "key.converter": converter,
            "key.converter.schemas.enable": "false",
            "value.converter": converter,
            "value.converter.schemas.enable": "false",
            **self._settings,
        }

    def times(self, record: Record) -> Iterator[float]:
        yield json.loads(record.event.data)["source"]["ts_us"] / 1e6


def compared(context: Context) -> list[Result]:
    """``capture_p50``, ``_p99``, ``_rate``, ``_cpu``, ``_memory``: beside Debezium, tuned and as it comes."""
    with context.servers("source") as (source,), context.folder("kafka") as folder:
        kafka = Kafka(folder / "kafka", java=())
        kafka.start()
        try:
            ours = _native(context, source.create_database("ours"), kafka, folder)
            plain = _debezium(context, source.create_database("plain"), kafka, folder, "plain", {})
            tuned = _debezium(context, source.create_database("tuned"), kafka, folder, "tuned", TUNED)
        finally:
            kafka.stop()
    peer = "Debezium, tuned"
    settings = ", ".join(f"{name}={value}" for name, value in TUNED.items())
    note = f"tuned: {settings}; as it comes: {{}}; the worker's heap is bounded by 768 MB"
    made = []
    for name, unit, more in (
        ("p50", "ms", False),
        ("p99", "ms", False),
        ("rate", "changes/s", True),
        ("cpu", "s per million", False),
        ("memory", "MB", False),
    ):
        mine, theirs, default = (getattr(seen, name) for seen in (ours, tuned, plain))
        better = max(theirs, default) if more else min(theirs, default)
        made.append(
            Result(
                f"capture_{name}", mine, unit, peer, theirs, better,
                more_is_better=more, note=note.format(f"{default:,.4g} {unit}"),
            )
        )  # fmt: skip
    return made


def _native(context: Context, source: str, kafka: Kafka, folder: Path) -> Seen:
    root = folder / "native"
    root.mkdir()
    engine = Native(context, root, "native", kafka.url, source=source)
    try:
        return _measured(context, engine, source, kafka, OURS.slot)
    finally:
        engine.stop()
        drop_slot(source, OURS.slot)


def _debezium(context: Context, source: str, kafka: Kafka, folder: Path, name: str, settings: dict[str, str]) -> Seen:
    worker = Worker(folder / name, kafka.servers, group=f"connect-{name}", java=())
    worker.start()
    try:
        return _measured(context, Debezium(worker, name, source, settings), source, kafka, SLOT)
    finally:
        worker.stop()
        until(lambda: not _active(source, SLOT), 30, "the slot to be let go")
        drop_slot(source, SLOT)


def _measured(context: Context, engine: Engine, source: str, kafka: Kafka, slot: str) -> Seen:
    execute(source, TICKS.format(seen=""), "CREATE SEQUENCE tick_id CACHE 100")
    with context.folder("script") as folder, _topic(kafka, engine.topic) as topic:
        script = folder / "tick.sql"
        script.write_text(TICK)
        engine.start()
        until(lambda: _active(source, slot), 120, f"{engine.name} to read")
        _run(source, script, [f"--rate={RATE}", "--time=3"])
        topic.await_all(engine, source)
        warm = topic.end
        seconds = round(context.seconds(20))
        context.say(f"capture: {engine.name}: {RATE:,} transactions a second for {seconds} s")
        _run(source, script, [f"--rate={RATE}", f"--time={seconds}"])
        topic.await_all(engine, source)
        waits = [1000 * (taken - made) for made, taken in topic.times(engine, warm)]
        engine.stop()
        until(lambda: not _active(source, slot), 60, "the slot to be let go")
        changes = context.rows(CHANGES) // 8 * 8
        context.say(f"capture: {engine.name}: {changes:,} transactions of a row pile up")
        _run(source, script, [f"--transactions={changes // 8}"], durable=False)
        settle(source)
        behind, before = topic.end, 0.0 if isinstance(engine, Native) else cpu_seconds(engine.pid)
        engine.start()
        topic.await_all(engine, source)
        cpu, memory = cpu_seconds(engine.pid) - before, peak_megabytes(engine.pid)
        taken = [at for _, at in topic.times(engine, behind)]
        if len(taken) != changes:
            raise RuntimeError(f"{engine.name} has {len(taken):,} of {changes:,} changes")
        return Seen(
            quantile(waits, 0.5),
            quantile(waits, 0.99),
            changes / (max(taken) - min(taken)),
            1e6 * cpu / changes,
            memory,
        )


def _run(dsn: str, script: Path, arguments: list[str], *, durable: bool = True) -> None:
    pgbench.finish(pgbench.command(dsn, script, clients=8, arguments=arguments, durable=durable), 600)


def _active(dsn: str, slot: str) -> bool:
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (slot,)).fetchone()
    return row is not None and bool(row[0])


class _Topic:
    """What is in a topic; looked at from its end while an engine writes, so that reading takes nothing from it."""

    def __init__(self, url: str, name: str) -> None:
        self._runner = asyncio.Runner()
        self._log = KafkaLog(url)
        self._name = name
        self._runner.run(self._log.create_topic(name))

    def close(self) -> None:
        with contextlib.closing(self._runner):
            self._runner.run(self._log.close())

    @property
    def end(self) -> int:
        """Where the next record goes."""
        found = self._runner.run(self._log.topic(self._name))
        return 0 if found is None else found.next_positions[0]

    def await_all(self, engine: Engine, source: str) -> None:
        """Wait until a row is in that is written now."""
        with psycopg.connect(source, autocommit=True) as conn:
            row = conn.execute(
                "INSERT INTO tick VALUES (nextval('tick_id'), 'the last of all', now()) RETURNING id"
            ).fetchone()
        assert row is not None

        def seen() -> bool:
            end = self.end
            last = self._runner.run(self._log.read(self._name, 0, max(0, end - 3))) if end else []
            return any(b"the last of all" in one.event.data and str(row[0]).encode() in one.event.data for one in last)

        until(seen, 600, f"{engine.name} to be through", every=0.1)

    def times(self, engine: Engine, position: int) -> Times:
        """Of each change from ``position`` on, but for those that only told that all was in."""
        return self._runner.run(self._times(engine, position))

    async def _times(self, engine: Engine, position: int) -> Times:
        found: Times = []
        async for record in self._records(position):
            at = record.appended_at.timestamp()
            found += [(made, at) for made in engine.times(record)]
        return sorted(found)[:-1]

    async def _records(self, position: int) -> AsyncIterator[Record]:
        while page := await self._log.read(self._name, 0, position, max_records=PAGE):
            for record in page:
                yield record
            position = page[-1].position + 1


@contextmanager
def _topic(kafka: Kafka, name: str) -> Iterator[_Topic]:
    made = _Topic(kafka.url, name)
    try:
        yield made
    finally:
        made.close()
