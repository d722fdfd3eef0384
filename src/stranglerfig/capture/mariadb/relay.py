"""Debezium's raw topic of a MariaDB, relayed into the log: the frames that every flow is made of.

Nothing at the source remembers how far a flow is, so each life makes the connector begin where the log has everything:
it is stopped, told that place as its offset, and started. What the raw topic held before then comes once more.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from stranglerfig.capture import debezium, model, pack
from stranglerfig.capture.assembling import Raw
from stranglerfig.capture.connect import Connect, Status, failed
from stranglerfig.capture.debezium import Through
from stranglerfig.capture.decode import Drifted, Outcome, Part
from stranglerfig.capture.mariadb import connector
from stranglerfig.capture.mariadb.assemble import Assembler, Shapes
from stranglerfig.capture.memory import Remembered
from stranglerfig.capture.model import AGAIN
from stranglerfig.capture.raw import RawTopic
from stranglerfig.capture.writing import Life, Writing, ours
from stranglerfig.changes.model import HEARTBEAT, Column, lsn_text
from stranglerfig.databases.mariadb import binlog, catalogue, messages
from stranglerfig.foundation import clock, mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Connection

log = logging.getLogger(__name__)

_START_SECONDS = 60.0
SILENT_SECONDS = 60.0
"""Within which a connector that reads has said what a heartbeat wrote."""
_STATUS_EVERY = 1.0
_HIDDEN_SECONDS = 0.5
_TRIM_RECORDS = 100_000
_PATIENT_LOOKS = 3


class Relay:
    """One life of a flow through Debezium, on the cluster ``through``; ends by failing or by being cancelled."""

    def __init__(self, life: Life, through: Through) -> None:
        job = life.job
        self._life = life
        self._connector = debezium.connector_name(job.context, job.direction)
        self._kept = Remembered(life.memory, life.state)
        self._facts = life.facts
        self._pace = job.pace
        self._through = through
        self._log = Writing(life, self._kept)
        self._assembler = Assembler(
            tables=job.tables,
            context=job.context,
            direction=job.direction,
            keep_message=ours(job.context),
            after=life.after,
            gtid=life.state.gtid,
            baseline=life.state.baseline(),
        )
        self._durable = life.facts.lsn = life.state.acknowledged
        self._gtid = life.state.gtid
        self._offset = self._trimmed = max(life.state.raw, 0)
        self._oldest = 0
        self._first = False
        self._heard = 0.0
        self._unanswered = 0.0
        """When the oldest heartbeat was written behind which nothing was heard."""

    async def run(self) -> None:
        """Relay until cancelled.

        Raises:
            FigError: ``binlog_lost``, ``incompatible_ddl``, ``table_changed``, ``raw_topic_broken``,
                ``connect_unreachable``, ``connector_failed``, ``connector_gone``, ``connector_silent``,
                ``kafka_unreachable``, ``database_unreachable`` …
        """
        job = self._life.job
        topic = debezium.raw_topic(job.context, job.direction, self._life.state.generation)
        async with (
            mysql.session(job.dsn, what=job.what) as conn,
            Connect(self._through.url) as connect,
            RawTopic(topic, self._through.servers, self._through.client) as raw,
        ):
            await self._claim(conn)
            await self._begin(conn, connect, raw)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._relay(conn, raw))
                    group.create_task(self._look(conn, connect))
            except ExceptionGroup as several:
                raise several.exceptions[0] from None

    async def _claim(self, conn: Connection) -> None:
        """Be the only one, until ``conn`` ends, who directs the connector."""
        if await conn.value("SELECT get_lock(%s, 0)", (f"fig.{self._connector}",)) != "1":
            raise FigError(
                "slot_active",
                f"the flow {self._connector} is being read by another process",
                "Only one capture may read a flow: end the other one; this one waits and tries again.",
                slot=self._connector,
            )

    async def _begin(self, conn: Connection, connect: Connect, raw: RawTopic) -> None:
        """Make the connector begin anew where the log has everything."""
        name, job, state = self._connector, self._life.job, self._life.state
        if state.raw < 0:
            await raw.create()
            await self._kept.become(lambda state: replace(state, raw=0))
        await self._lag(conn)
        self._first = self._kept.state.raw == 0
        told = connector.configuration(
            job.context, job.direction, job.dsn, job.tables, state.generation, self._through,
            first=self._first,
        )  # fmt: skip
        await connect.configure(name, told)
        await connect.stop(name)
        await connect.until_stopped(name, timeout=_START_SECONDS)
        place = connector.offsets(job.context, job.direction, state.generation, self._gtid, clock.epoch())
        await connect.place_offsets(name, place)
        _, self._offset = await raw.edges()
        await raw.seek(self._offset)
        await connect.resume(name)
        # What comes back tells that it reads.
        await messages.heartbeat(conn, HEARTBEAT)
        self._unanswered = clock.monotonic()

    # Relaying

    async def _relay(self, conn: Connection, raw: RawTopic) -> None:
        begun = clock.monotonic()
        while True:
            records = await raw.read()
            if not records:
                continue
            self._heard = clock.monotonic()
            self._facts.become("streaming")
            await self._learn(conn)
            outcomes = self._assembler.feed(records)
            await self._append(outcomes, records)
            if self._offset - self._trimmed > _TRIM_RECORDS and self._kept.state.raw > self._trimmed:
                self._trimmed = self._kept.state.raw
                await raw.trim(self._trimmed)
            if drift := next((o.drift for o in outcomes if isinstance(o, Drifted)), None):
                raise model.incompatible(drift)
            urgent = any(isinstance(o, Part) and pack.messages(o.transaction) for o in outcomes)
            if not urgent and (left := self._pace.linger - (clock.monotonic() - begun)) > 0:
                await asyncio.sleep(left)
            begun = clock.monotonic()

    def _silent(self) -> FigError:
        return FigError(
            "connector_silent",
            f"the connector {self._connector} said nothing for {SILENT_SECONDS:g} s, not even our heartbeat",
            "Look at the workers' log; capture makes it begin again by itself.",
            connector=self._connector,
        )

    async def _learn(self, conn: Connection) -> None:
        """Look at the source after the records came: what shape the tables had at the latest."""
        shapes = {}
        for table in self._life.job.tables:
            found = await catalogue.natives(conn, table)
            if not found:  # an ALTER that copies the table hides it for a moment
                await asyncio.sleep(_HIDDEN_SECONDS)
                found = await catalogue.natives(conn, table)
            shapes[table] = tuple((native, Column(native.name, column.type, native.key)) for native, column in found)
        self._assembler.learn(shapes)
        if self._first:
            self._first = False
            await self._hold_to_snapshot(shapes)

    async def _hold_to_snapshot(self, shapes: Shapes) -> None:
        """Refuse tables that changed after the snapshot had read them and before the connector had learned of them.

        It would read the older rows of the log by the newer definitions (``docs/decisions/0020-mariadb.md``).

        Raises:
            FigError: ``table_changed``; the next life takes another snapshot.
        """
        known = self._life.state.baseline()
        changed = [
            name
            for name, pairs in shapes.items()
            if name in known and known[name].columns != tuple(c for _, c in pairs)
        ]
        if not changed:
            return
        await self._kept.become(lambda state: replace(state, snapshot="begun"))
        raise FigError(
            "table_changed",
            f"the definition of {', '.join(changed)} changed while the connector was about to learn it",
            "Nothing: the snapshot begins again. Let nobody change the tables meanwhile.",
            tables=changed,
        )

    async def _append(self, outcomes: list[Outcome], records: list[Raw]) -> None:
        assembler = self._assembler
        self._oldest = next((o.transaction.committed_at for o in outcomes if isinstance(o, Part)), 0)
        await self._log.append(outcomes)
        self._oldest = 0
        self._durable = max(self._durable, assembler.acknowledge)
        self._gtid = assembler.gtid
        self._facts.lsn = self._durable
        if not assembler.drifted:
            self._offset = max(self._offset, records[-1].offset + 1)

    # Looking

    async def _look(self, conn: Connection, connect: Connect) -> None:
        beaten = remembered = asked = clock.monotonic()
        silent = 0
        while True:
            await self._log.count()
            await self._lag(conn)
            now = clock.monotonic()
            if now - max(self._heard, beaten) >= self._pace.heartbeat:
                beaten = now
                if not await messages.heartbeat(conn, HEARTBEAT):
                    log.warning("%s may not write heartbeats", self._life.job.what, extra={"action": "no_heartbeat"})
                elif self._unanswered <= self._heard:
                    self._unanswered = now
            if self._heard < self._unanswered < now - SILENT_SECONDS:
                raise self._silent()
            if now - remembered >= self._pace.acknowledge:
                remembered = now
                await self._keep()
            if now - asked >= _STATUS_EVERY:
                asked = now
                silent = await self._ask(connect, silent)
            await asyncio.sleep(self._pace.look)

    async def _lag(self, conn: Connection) -> None:
        """How far the source is ahead.

        Raises:
            FigError: ``binlog_lost`` when it no longer has what was not read.
        """
        facts = self._facts
        facts.source_lsn = (await binlog.where(conn)).number
        facts.lag_bytes = binlog.behind(await binlog.files(conn), self._durable)
        facts.lag_ms = max(0.0, clock.epoch() * 1000 - self._oldest / 1000) if self._oldest else 0.0
        if facts.lag_bytes is None:
            raise FigError(
                "binlog_lost",
                f"the source no longer has its binary log from {lsn_text(self._durable)} on: changes are not known",
                f"{AGAIN} (Raise binlog_expire_logs_seconds when it was too short.)",
                known=lsn_text(self._durable),
            )

    async def _ask(self, connect: Connect, silent: int) -> int:
        """How the connector stands; returns how often Connect did not answer, which is borne a few times."""
        try:
            status: Status | None = await connect.status(self._connector)
        except FigError as error:
            if silent < _PATIENT_LOOKS:
                log.warning("%s: %s", self._life.job.what, error, extra={"action": "connect_silent"})
                return silent + 1
            raise
        if status is None:
            raise FigError(
                "connector_gone",
                f"the connector {self._connector} was deleted",
                "Nothing: capture makes it again. Let nothing else delete it.",
                connector=self._connector,
            )
        if status.failed:
            raise failed(self._connector, status)
        return 0

    async def _keep(self) -> None:
        """Remember how far the log has what the source had."""
        durable, gtid, offset, shapes = self._durable, self._gtid, self._offset, self._assembler.baseline
        if not self._heard or (gtid, offset) == (self._kept.state.gtid, self._kept.state.raw):
            return
        await self._kept.become(lambda state: replace(state.acknowledging(durable, shapes), raw=offset, gtid=gtid))
