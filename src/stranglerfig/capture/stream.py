"""The change stream, from the walsender into the log: drained on every wake, packed, appended, then acknowledged.

Nothing is acknowledged that the log does not have durably and the flow's memory does not name: feedback beyond that is
accepted by PostgreSQL and loses data silently.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from dataclasses import dataclass, field

import psycopg

from stranglerfig.capture import model, pack, slot, wire
from stranglerfig.capture.decode import EPOCH_2000, Decoder, Drifted, Outcome, Part, types_in
from stranglerfig.capture.memory import Remembered
from stranglerfig.capture.model import Drift
from stranglerfig.capture.writing import Life, Writing, ours
from stranglerfig.changes.model import names
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError

log = logging.getLogger(__name__)

_DRAIN_BYTES = 4_000_000
_PENDING_BYTES = 16_000_000
# While behind, a short sleep lets the server fill the socket: three times as many messages for the same CPU.
_BEHIND = 300
_BEHIND_PAUSE = 0.005
_KEEPALIVE = struct.Struct("!cqqb").unpack
_FEEDBACK = struct.Struct("!cqqqqb").pack


@dataclass(slots=True)
class _Batch:
    """What was decoded and is not in the log yet."""

    outcomes: list[Outcome] = field(default_factory=list)
    size: int = 0
    acknowledge: int = 0
    oldest: int = 0
    urgent: bool = False


class Stream:
    """One life of a flow's stream, from its slot to the log; ends by failing or by being cancelled."""

    def __init__(self, life: Life) -> None:
        job = life.job
        self._dsn, self._what = job.dsn, job.what
        self._name = names(job.context, job.direction).slot
        self._published = frozenset(job.published)
        self._kept = Remembered(life.memory, life.state)
        self._log = Writing(life, self._kept)
        self._facts = life.facts
        self._pace = job.pace
        self._types: dict[tuple[int, int], str] = {}
        self._decoder = Decoder(
            types=self._types,
            tables=job.tables,
            aside=job.outbox,
            drop_origin=names(job.context, job.direction.opposite).origin,
            keep_message=ours(job.context),
            after=life.after,
            baseline=life.state.baseline(),
        )
        self._batch = _Batch()
        self._flying: _Batch | None = None
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._due = asyncio.Event()
        self._hurry = asyncio.Event()
        self._durable = life.facts.lsn = life.state.acknowledged
        self._received = 0
        self._last_commit = 0
        self._heard = clock.monotonic()
        self._shapes = dict(self._decoder.baseline)

    async def run(self) -> None:
        """Stream until cancelled.

        Raises:
            FigError: ``incompatible_ddl``, ``slot_active``, ``slot_lost``, ``publication_dropped``,
                ``log_unreachable``, ``database_unreachable`` …; what was received before is in the log.
        """
        async with postgres.session(self._dsn, what=self._what) as conn:
            sender = await wire.walsender(self._dsn, what=self._what)
            try:
                await self._start(sender)
                self._facts.become("streaming")
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(sender, conn))
                    group.create_task(self._write())
                    group.create_task(self._acknowledge(sender))
                    group.create_task(self._look(conn))
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
            finally:
                await wire.hang_up(sender)

    async def _start(self, sender: postgres.Connection) -> None:
        try:
            await wire.begin_copy(
                sender,
                f"START_REPLICATION SLOT {self._name} LOGICAL 0/0"
                f" (proto_version '1', publication_names '{self._name}', messages 'true')",
            )
        except psycopg.errors.ObjectInUse as error:
            raise slot.active(self._name) from error

    # Reading

    async def _read(self, sender: postgres.Connection, conn: postgres.Connection) -> None:
        raw: list[bytes] = []
        while True:
            size, ended = wire.drain(sender, raw, most_bytes=_DRAIN_BYTES)
            count = len(raw)
            if raw:
                await self._take(raw, conn)
                raw = []
            if ended:
                await wire.end_of_copy(sender)
                raise FigError("stream_ended", "the source ended the change stream", "Nothing: capture connects again.")
            while self._batch.size > _PENDING_BYTES:
                self._emptied.clear()
                await self._emptied.wait()
            if size >= _DRAIN_BYTES:
                await asyncio.sleep(0)
            elif count > _BEHIND:
                await asyncio.sleep(_BEHIND_PAUSE)
                sender.pgconn.consume_input()
            else:
                await wire.wait_readable(sender, 5.0)

    async def _take(self, raw: list[bytes], conn: postgres.Connection) -> None:
        """Decode what has arrived and hand it to the writer."""
        keepalive = 0
        payloads = []
        for data in raw:
            if data[0] == 119:  # w
                payloads.append(data[25:])
            elif data[0] == 107:  # k
                _, keepalive, _, wanted = _KEEPALIVE(data)
                if wanted:
                    self._hurry.set()
        if payloads:
            self._heard = clock.monotonic()
            self._received = max(self._received, int.from_bytes(raw[-1][9:17], "big") if raw[-1][0] == 119 else 0)
            await self._learn(payloads, conn)
            batch = self._batch
            for outcome in self._decoder.feed(payloads):
                if isinstance(outcome, Drifted):
                    await self._pause(outcome.drift)
                batch.outcomes.append(outcome)
                if isinstance(outcome, Part):
                    batch.size += outcome.size
                    batch.urgent = batch.urgent or pack.messages(outcome.transaction)
                    batch.oldest = batch.oldest or outcome.transaction.committed_at
                    self._last_commit = outcome.transaction.committed_at
            batch.acknowledge = self._decoder.acknowledge
            if batch.outcomes or batch.acknowledge > self._durable:
                self._filled.set()
            if batch.urgent or batch.size > pack.MOST_BYTES:
                self._due.set()
        if keepalive and not self._decoder.open and not self._waiting:
            # Only now: a keepalive's position lies beyond changes that were received and are not durable yet.
            self._durable = max(self._durable, keepalive)
            self._facts.lsn = self._durable

    @property
    def _waiting(self) -> bool:
        return self._flying is not None or bool(self._batch.outcomes) or self._filled.is_set()

    async def _learn(self, payloads: list[bytes], conn: postgres.Connection) -> None:
        """Look up the types of relations that are about to be decoded."""
        wanted = {pair for payload in payloads if payload[:1] == b"R" for pair in types_in(payload)}
        if missing := wanted - self._types.keys():
            self._types |= await slot.type_names(conn, missing)

    async def _pause(self, drift: Drift) -> None:
        """Let everything before the change of shape become durable, then stop."""
        self._batch.acknowledge = self._decoder.acknowledge
        self._filled.set()
        self._due.set()
        while self._waiting:
            self._emptied.clear()
            await self._emptied.wait()
        raise model.incompatible(drift)

    # Writing

    async def _write(self) -> None:
        begun = clock.monotonic()
        while True:
            await self._filled.wait()
            if (left := self._pace.linger - (clock.monotonic() - begun)) > 0:
                await clock.signalled(self._due, timeout=left)
            begun = clock.monotonic()
            self._filled.clear()
            self._due.clear()
            batch, self._batch = self._batch, _Batch(acknowledge=self._batch.acknowledge)
            self._flying = batch
            shapes = dict(self._decoder.baseline)
            await self._log.append(batch.outcomes)
            self._shapes = shapes
            self._durable = max(self._durable, batch.acknowledge)
            self._facts.lsn = self._durable
            self._flying = None
            self._emptied.set()
            if self._durable - self._kept.state.acknowledged > self._pace.acknowledge_bytes:
                self._hurry.set()

    # Acknowledging

    async def _acknowledge(self, sender: postgres.Connection) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pace.acknowledge):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            await self._feedback(sender)

    async def _feedback(self, sender: postgres.Connection) -> None:
        """Remember how far the source will be told that we are; then tell it."""
        durable, shapes = self._durable, self._shapes
        if durable > self._kept.state.acknowledged:
            await self._kept.become(lambda state: state.acknowledging(durable, shapes))
        now = int(clock.epoch() * 1_000_000) - EPOCH_2000
        sender.pgconn.put_copy_data(_FEEDBACK(b"r", durable, durable, durable, now, 0))
        sender.pgconn.flush()

    # Looking

    async def _look(self, conn: postgres.Connection) -> None:
        beaten = clock.monotonic()
        while True:
            await self._log.count()
            seen = await slot.watch(conn, self._name)
            model.check_slot(self._name, seen.slot)
            model.check_publication(self._kept.state, seen.publication, self._published)
            assert seen.slot is not None
            facts = self._facts
            facts.source_lsn = seen.source_lsn
            facts.wal_status, facts.safe_wal_size = seen.slot.wal_status, seen.slot.safe_wal_size
            facts.slot_retained = max(0, seen.source_lsn - seen.slot.restart)
            facts.lag_ms = self._lag(seen.source_lsn)
            await self._log.clean(conn)
            now = clock.monotonic()
            if now - max(self._heard, beaten) >= self._pace.heartbeat:
                beaten = now
                if not await slot.heartbeat(conn):
                    log.warning(
                        "%s may not write heartbeats: WAL is kept while the source is idle",
                        self._what,
                        extra={"action": "no_heartbeat"},
                    )
            await asyncio.sleep(self._pace.look)

    def _lag(self, source_lsn: int) -> float:
        """Milliseconds since the oldest commit that is not durable; the last one seen when the server is behind."""
        oldest = self._flying.oldest if self._flying and self._flying.oldest else self._batch.oldest
        if not oldest and self._last_commit and source_lsn - self._received > 1_000_000 and self._waiting:
            oldest = self._last_commit
        return max(0.0, clock.epoch() * 1000 - oldest / 1000) if oldest else 0.0
