"""Debezium's raw topic of a MariaDB, relayed into the log: the frames that every flow is made of.

Nothing at the source remembers how far a flow is, so each life makes the connector begin where the log has everything:
it is stopped, told that place as its offset, and started. What the raw topic held before then comes once more.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from stranglerfig.capture.assembling import Raw
from stranglerfig.capture.connect import Connect
from stranglerfig.capture.debezium import Through
from stranglerfig.capture.decode import Outcome
from stranglerfig.capture.mariadb import connector
from stranglerfig.capture.mariadb.assemble import Assembler, Shapes
from stranglerfig.capture.model import AGAIN
from stranglerfig.capture.raw import RawTopic
from stranglerfig.capture.relaying import PATIENT_LOOKS, Relaying, stop
from stranglerfig.capture.writing import Life, ours
from stranglerfig.changes.model import HEARTBEAT, Column, lsn_text
from stranglerfig.databases.mariadb import binlog, catalogue, messages
from stranglerfig.foundation import clock, ids, mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Connection

SILENT_SECONDS = 60.0
"""Within which a connector that reads has said what a heartbeat wrote."""
_HIDDEN_SECONDS = 0.5


class Relay(Relaying[Connection, Assembler]):
    """A life of a flow from a MariaDB, which remembers nothing of it."""

    def __init__(self, life: Life, through: Through) -> None:
        job = life.job
        assembler = Assembler(
            tables=job.tables,
            context=job.context,
            direction=job.direction,
            keep_message=ours(job.context),
            after=life.after,
            gtid=life.state.gtid,
            baseline=life.state.baseline(),
        )
        super().__init__(life, through, assembler)
        self._gtid = life.state.gtid
        self._nonce = f"life-{ids.nonce()}"
        self._first = False
        self._unanswered = 0.0
        """When the oldest heartbeat was written behind which nothing was heard."""
        self._silent = 0
        """How often in a row Connect did not answer."""

    async def run(self) -> None:
        """Relay until cancelled.

        Raises:
            FigError: ``binlog_lost``, ``incompatible_ddl``, ``table_changed``, ``raw_topic_broken``,
                ``connect_unreachable``, ``connector_failed``, ``connector_gone``, ``connector_silent``,
                ``kafka_unreachable``, ``database_unreachable`` …
        """
        async with (
            mysql.session(self._life.job.dsn, what=self._what) as conn,
            Connect(self._through.url) as connect,
            self._raw(self._nonce) as raw,
        ):
            await self._claim(conn)
            await self._begin(conn, connect, raw)
            try:
                await self._go_on(conn, connect, raw)
            except FigError as error:
                if error.code == "connector_failed" and self._first:
                    await self._learn(conn)  # it may have failed at a row that is older than the definition it learned
                raise

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
        await self._make(raw)
        await self._lag(conn)
        self._first = self._kept.state.raw == 0
        told = connector.configuration(
            job.context, job.direction, job.dsn, job.tables, state.generation, self._through,
            first=self._first, life=self._nonce,
        )  # fmt: skip
        await stop(connect, name)  # before it is told another life: what it read in this one may be too far ahead
        await connect.configure(name, told)
        await stop(connect, name)
        place = connector.offsets(job.context, job.direction, state.generation, self._gtid, clock.epoch())
        await connect.place_offsets(name, place)
        _, self._offset = await raw.edges()
        await raw.seek(self._offset)
        await connect.resume(name)
        # What comes back tells that it reads.
        await messages.heartbeat(conn, HEARTBEAT)
        self._unanswered = clock.monotonic()

    # Relaying

    async def _assemble(self, conn: Connection, records: list[Raw]) -> list[Outcome]:
        self._facts.become("streaming")
        await self._learn(conn)
        if self._kept.state.raw == 0:
            # The connector spoke, so its history has the tables' definitions. A pause may follow before the next
            # regular keeping, and a later life that took itself for the first would have it learn them anew, too late.
            await self._kept.become(lambda state: replace(state, raw=1))
        return self._assembler.feed(records)

    async def _append(self, outcomes: list[Outcome]) -> None:
        await super()._append(outcomes)
        self._gtid = self._assembler.gtid

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

    # Looking

    async def _watch(self, conn: Connection) -> None:
        await self._lag(conn)
        if self._heard < self._unanswered < clock.monotonic() - SILENT_SECONDS:
            raise FigError(
                "connector_silent",
                f"the connector {self._connector} said nothing for {SILENT_SECONDS:g} s, not even our heartbeat",
                "Look at the workers' log; capture makes it begin again by itself.",
                connector=self._connector,
            )

    async def _beat(self, conn: Connection) -> bool:
        now = clock.monotonic()
        written = await messages.heartbeat(conn, HEARTBEAT)
        if written and self._unanswered <= self._heard:
            self._unanswered = now
        return written

    async def _lag(self, conn: Connection) -> None:
        """How far the source is ahead.

        Raises:
            FigError: ``binlog_lost`` when it no longer has what was not read.
        """
        facts = self._facts
        facts.source_lsn = (await binlog.where(conn)).number
        facts.lag_bytes = binlog.behind(await binlog.files(conn), self._durable)
        if facts.lag_bytes is None:
            raise FigError(
                "binlog_lost",
                f"the source no longer has its binary log from {lsn_text(self._durable)} on: changes are not known",
                f"{AGAIN} (Raise binlog_expire_logs_seconds when it was too short.)",
                known=lsn_text(self._durable),
            )

    async def _ask(self, conn: Connection, connect: Connect) -> None:
        answers = await self._answers(connect, borne=self._silent < PATIENT_LOOKS)
        self._silent = 0 if answers else self._silent + 1

    async def _keep(self) -> None:
        durable, gtid, offset, shapes = self._durable, self._gtid, self._offset, self._assembler.baseline
        if not self._heard or (gtid, offset) == (self._kept.state.gtid, self._kept.state.raw):
            return
        await self._kept.become(lambda state: replace(state.acknowledging(durable, shapes), raw=offset, gtid=gtid))
