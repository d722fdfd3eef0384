"""What the relays of raw topics share: records into the log, and the looks at source and connector beside it."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Generic, TypeVar

from stranglerfig.capture import debezium, model, pack
from stranglerfig.capture.assembling import Assembling, Raw
from stranglerfig.capture.connect import Connect, failed
from stranglerfig.capture.debezium import Through
from stranglerfig.capture.decode import Drifted, Outcome, Part
from stranglerfig.capture.memory import Remembered
from stranglerfig.capture.raw import RawTopic
from stranglerfig.capture.writing import Life, Writing
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError

log = logging.getLogger(__name__)

START_SECONDS = 60.0
"""Within which a connector stops, and begins to read."""
PATIENT_LOOKS = 3
"""So often in a row silence is borne."""
_STATUS_EVERY = 1.0
_TRIM_RECORDS = 100_000

Session = TypeVar("Session")
Assembler = TypeVar("Assembler", bound=Assembling)


async def stop(connect: Connect, name: str) -> bool:
    """End a connector's tasks; whether there is such a connector."""
    if not await connect.stop(name):
        return False
    await connect.until_stopped(name, timeout=START_SECONDS)
    return True


class Relaying(ABC, Generic[Session, Assembler]):
    """One life of a flow through Debezium, on the cluster ``through``; ends by failing or by being cancelled."""

    def __init__(self, life: Life, through: Through, assembler: Assembler) -> None:
        job = life.job
        self._life = life
        self._what = job.what
        self._connector = debezium.connector_name(job.context, job.direction)
        self._kept = Remembered(life.memory, life.state)
        self._facts = life.facts
        self._pace = job.pace
        self._through = through
        self._log = Writing(life, self._kept)
        self._assembler = assembler
        self._durable = life.facts.lsn = life.state.acknowledged
        self._offset = self._trimmed = max(life.state.raw, 0)
        self._oldest = 0
        self._heard = 0.0

    def _raw(self, life: str | None = None) -> RawTopic:
        job = self._life.job
        topic = debezium.raw_topic(job.context, job.direction, self._life.state.generation)
        return RawTopic(topic, self._through.servers, self._through.client, life=life)

    async def _make(self, raw: RawTopic) -> None:
        """Make the raw topic where the flow has none yet."""
        if self._life.state.raw < 0:
            await raw.create()
            await self._kept.become(lambda state: replace(state, raw=0))

    async def _go_on(self, conn: Session, connect: Connect, raw: RawTopic) -> None:
        """Relay and look until either fails."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._relay(conn, raw))
                group.create_task(self._look(conn, connect))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None

    # Relaying

    async def _relay(self, conn: Session, raw: RawTopic) -> None:
        assembler, begun = self._assembler, 0.0
        while True:
            records = await raw.read()
            if not records:
                continue
            self._heard = clock.monotonic()
            outcomes = await self._assemble(conn, records)
            await self._append(outcomes)
            if (again := assembler.again) is not None:
                assembler.again = None
                await raw.seek(again)
            if self._offset - self._trimmed > _TRIM_RECORDS and self._kept.state.raw > self._trimmed:
                self._trimmed = self._kept.state.raw
                await raw.trim(self._trimmed)
            if drift := next((o.drift for o in outcomes if isinstance(o, Drifted)), None):
                raise model.incompatible(drift)
            urgent = any(isinstance(o, Part) and pack.messages(o.transaction) for o in outcomes)
            if not urgent and (left := self._pace.linger - (clock.monotonic() - begun)) > 0:
                await asyncio.sleep(left)
            begun = clock.monotonic()

    @abstractmethod
    async def _assemble(self, conn: Session, records: list[Raw]) -> list[Outcome]:
        """What these records complete; the source is looked at after they came."""

    async def _append(self, outcomes: list[Outcome]) -> None:
        assembler = self._assembler
        self._oldest = next((o.transaction.committed_at for o in outcomes if isinstance(o, Part)), 0)
        await self._log.append(outcomes)
        self._oldest = 0
        self._durable = max(self._durable, assembler.acknowledge)
        self._facts.lsn = self._durable
        if not assembler.drifted:
            self._offset = max(self._offset, assembler.offset)

    # Looking

    async def _look(self, conn: Session, connect: Connect) -> None:
        remembered = beaten = asked = clock.monotonic()
        while True:
            await self._log.count()
            await self._watch(conn)
            facts = self._facts
            facts.lag_ms = max(0.0, clock.epoch() * 1000 - self._oldest / 1000) if self._oldest else 0.0
            now = clock.monotonic()
            if now - max(self._heard, beaten) >= self._pace.heartbeat:
                beaten = now
                if not await self._beat(conn):
                    log.warning("%s may not write heartbeats", self._what, extra={"action": "no_heartbeat"})
            if now - remembered >= self._pace.acknowledge:
                remembered = now
                await self._keep()
            if now - asked >= _STATUS_EVERY:
                asked = now
                await self._ask(conn, connect)
            await asyncio.sleep(self._pace.look)

    @abstractmethod
    async def _watch(self, conn: Session) -> None:
        """How far the source is ahead; refuses to go on where changes may be lost."""

    @abstractmethod
    async def _beat(self, conn: Session) -> bool:
        """Write a heartbeat; whether we may."""

    @abstractmethod
    async def _keep(self) -> None:
        """Remember how far the log has what the source had, and from which record to read on."""

    @abstractmethod
    async def _ask(self, conn: Session, connect: Connect) -> None:
        """Look whether the connector reads."""

    async def _answers(self, connect: Connect, *, borne: bool) -> bool:
        """Whether Connect says how the connector stands; that it does not say it is ``borne``, or raised.

        Raises:
            FigError: ``connector_gone``, ``connector_failed``, ``connect_unreachable`` …
        """
        try:
            status = await connect.status(self._connector)
        except FigError as error:
            if not borne:
                raise
            log.warning("%s: %s", self._what, error, extra={"action": "connect_silent"})
            return False
        if status is None:
            raise FigError(
                "connector_gone",
                f"the connector {self._connector} was deleted",
                "Nothing: capture makes it again. Let nothing else delete it.",
                connector=self._connector,
            )
        if status.failed:
            raise failed(self._connector, status)
        return True
