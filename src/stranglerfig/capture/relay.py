"""Debezium's raw topic, relayed into the log: the frames that native capture would have written.

Each life begins by making the connector begin anew: it is stopped, forgets where it stood, and starts where the slot
stands, with whole transactions. For Debezium's own way back into the middle of a transaction loses rows (those that
share an LSN, as COPY writes them), and a restart that Kafka Connect does by itself uses it. Such a one is noticed
before anything it sent is relayed: the slot has another reader. Then this life ends and the next one begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from stranglerfig.capture import debezium, model, slot
from stranglerfig.capture.assemble import Assembler, shapes_of
from stranglerfig.capture.assembling import Raw
from stranglerfig.capture.connect import Connect, failed
from stranglerfig.capture.debezium import Through
from stranglerfig.capture.decode import Outcome
from stranglerfig.capture.raw import RawTopic
from stranglerfig.capture.relaying import PATIENT_LOOKS, START_SECONDS, Relaying, stop
from stranglerfig.capture.texts import Shape
from stranglerfig.capture.writing import Life, ours
from stranglerfig.changes.model import Direction, names
from stranglerfig.databases.model import Finding
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError


async def retire(through: Through, context: str, direction: Direction) -> None:
    """Remove a flow's connector with where it stood, and its raw topics; what is not there is no error."""
    name = debezium.connector_name(context, direction)
    async with Connect(through.url) as connect:
        if await stop(connect, name):
            await connect.forget_offsets(name)
            await connect.delete(name)
    prefix = debezium.raw_prefix(context, direction)
    async with RawTopic(prefix, through.servers, through.client) as raw:
        await raw.delete_all(prefix)


async def pause(through: Through, context: str, direction: Direction) -> None:
    """Let a flow's connector go of its slot; the next relay begins it anew. None is no error."""
    async with Connect(through.url) as connect:
        await stop(connect, debezium.connector_name(context, direction))


async def check(conn: postgres.Connection, published: Sequence[str]) -> None:
    """Refuse what Debezium would lose, before anything is read or made.

    Raises:
        FigError: ``source_too_old``, ``foreign_origins``, ``undeliverable_types``, ``missing_table``.
    """
    server = await slot.server(conn)
    debezium.check_source(server.version, await slot.foreign_origins(conn))
    await slot.check_tables(conn, published)
    debezium.check_columns(shapes_of(await slot.shapes(conn, published)))


async def findings(conn: postgres.Connection, published: Sequence[str]) -> list[Finding]:
    """The same as the preflight's findings, of which none can be accepted away: a flow does not start with them."""
    try:
        await check(conn, published)
    except FigError as error:
        return [Finding(error.code, "refuse", error.message, error.remedy, error.context)]
    return []


class Relay(Relaying[postgres.Connection, Assembler]):
    """A life of a flow from PostgreSQL, whose slot remembers how far it is."""

    def __init__(self, life: Life, through: Through) -> None:
        job = life.job
        assembler = Assembler(
            tables=job.tables,
            aside=job.outbox,
            keep_message=ours(job.context),
            after=life.after,
            baseline=life.state.baseline(),
        )
        super().__init__(life, through, assembler)
        self._slot = names(job.context, job.direction).slot
        self._reading: tuple[int, str] | None = None
        self._begins = 0
        self._doubtful = True
        self._confirmed = 0
        self._unread = 0
        """How often in a row somebody else, or nobody, read the slot."""
        self._described_by = slot.DescribedBy([], [], [])
        self._versions: str | None = None
        """Of the rows that described the tables when their shapes were learnt."""

    async def run(self) -> None:
        """Relay until cancelled.

        Raises:
            FigError: what :class:`Stream` raises, and of Debezium ``connect_unreachable``, ``connector_failed``,
                ``connector_interrupted``, ``connector_invalid``, ``kafka_unreachable``, ``raw_topic_lost`` …
        """
        async with (
            postgres.session(self._life.job.dsn, what=self._what) as conn,
            Connect(self._through.url) as connect,
            self._raw() as raw,
        ):
            if not await slot.claim(conn, self._slot):
                raise slot.active(self._slot)
            await self._begin(conn, connect, raw)
            self._facts.become("streaming")
            await self._go_on(conn, connect, raw)

    # Beginning

    async def _begin(self, conn: postgres.Connection, connect: Connect, raw: RawTopic) -> None:
        """Make the connector begin anew at the slot, and learn from which record on its words are whole."""
        name, job, state = self._connector, self._life.job, self._life.state
        await self._make(raw)
        await connect.configure(
            name,
            debezium.configuration(job.context, job.direction, job.dsn, job.published, state.generation, self._through),
        )
        await stop(connect, name)
        await connect.forget_offsets(name)
        self._confirmed = await self._free(conn)
        first, self._begins = await raw.edges()
        if first > self._offset or self._offset > self._begins:
            raise FigError(
                "raw_topic_lost",
                f"the raw topic {raw.name} holds records {first} to {self._begins}, and {self._offset} was to be read",
                f"{model.AGAIN} (Nothing but fig may delete this topic, its records or its retention.)",
                topic=raw.name,
            )
        await raw.seek(self._offset)
        self._assembler.doubt(until=self._confirmed)
        if self._offset == self._begins:
            self._cross()
        await connect.resume(name)
        self._reading = await self._reader(conn, connect)

    async def _free(self, conn: postgres.Connection) -> int:
        """Wait until nobody reads the slot; up to where it was acknowledged."""

        async def free() -> bool:
            return await slot.reading(conn, self._slot) is None

        try:
            await clock.until(free, timeout=START_SECONDS, what="the slot to be free")
        except FigError as error:
            raise slot.active(self._slot) from error
        found = await slot.facts(conn, self._slot)
        model.check_slot(self._slot, found)
        assert found is not None
        return found.confirmed

    async def _reader(self, conn: postgres.Connection, connect: Connect) -> tuple[int, str]:
        """Wait until the connector reads the slot; who does."""

        async def reading() -> tuple[int, str] | None:
            found = await slot.reading(conn, self._slot)
            if found is None and (status := await connect.status(self._connector)) is not None and status.failed:
                raise failed(self._connector, status)
            return found

        found = await clock.until(
            reading, timeout=START_SECONDS, what=f"the connector {self._connector} to read its slot", at_most=0.2
        )
        assert found is not None
        return found

    # Relaying

    async def _assemble(self, conn: postgres.Connection, records: list[Raw]) -> list[Outcome]:
        return self._take(records, await self._learn(conn))

    async def _learn(self, conn: postgres.Connection) -> bool:
        """Look at the source after the records came: what shape the tables had at the latest.

        Returns:
            Whether the slot is still read by whom we had begin: then all that came since is whole.
        """
        found = await slot.stamp(conn, self._slot, self._described_by)
        while found.versions != self._versions:
            self._described_by = rows = await slot.described_by(conn, self._life.job.published)
            found = await slot.stamp(conn, self._slot, rows)
            self._assembler.learn(*_described(await slot.shapes(conn, self._life.job.published)))
            if await slot.described_by(conn, self._life.job.published) == rows:
                self._versions = found.versions
        return found.reading == self._reading

    def _interrupted(self) -> FigError:
        return FigError(
            "connector_interrupted",
            f"the connector {self._connector} lost the slot or was started again by Kafka Connect itself",
            "Nothing: capture makes it begin again at the slot, so that nothing is lost or doubled.",
            connector=self._connector,
        )

    def _take(self, records: list[Raw], undisturbed: bool) -> list[Outcome]:
        """Assemble; at the record where the connector began anew what is doubtful ends."""
        assembler = self._assembler
        outcomes: list[Outcome] = []
        if self._doubtful:
            old = [raw for raw in records if raw.offset < self._begins]
            records = records[len(old) :]
            outcomes = assembler.feed(old)
            if assembler.again is not None or assembler.drifted:
                return outcomes
            if records or assembler.next_offset >= self._begins:
                self._cross()
        if records and not undisturbed:
            raise self._interrupted()
        return outcomes + assembler.feed(records)

    def _cross(self) -> None:
        """End what is doubtful: all of it is read."""
        assembler = self._assembler
        # Debezium acknowledges nothing that Kafka does not have, so a slot that is further was moved, or made anew.
        most = max(assembler.newest, self._kept.state.acknowledged, self._kept.state.created, self._life.after.lsn + 1)
        model.check_acknowledged(self._slot, self._confirmed, most)
        assembler.close()
        self._doubtful = False

    # Looking

    async def _watch(self, conn: postgres.Connection) -> None:
        seen = await slot.watch(conn, self._slot)
        model.check_slot(self._slot, seen.slot)
        model.check_publication(self._kept.state, seen.publication, frozenset(self._life.job.published))
        assert seen.slot is not None
        facts = self._facts
        facts.source_lsn = seen.source_lsn
        facts.wal_status, facts.safe_wal_size = seen.slot.wal_status, seen.slot.safe_wal_size
        facts.slot_retained = max(0, seen.source_lsn - seen.slot.restart)
        await self._log.clean(conn)

    async def _beat(self, conn: postgres.Connection) -> bool:
        return await slot.heartbeat(conn)

    async def _ask(self, conn: postgres.Connection, connect: Connect) -> None:
        """A Connect that does not answer is borne while its connector reads the slot."""
        self._unread = 0 if await slot.reading(conn, self._slot) == self._reading else self._unread + 1
        patient = self._unread < PATIENT_LOOKS
        await self._answers(connect, borne=patient)
        if not patient:
            raise self._interrupted()

    async def _keep(self) -> None:
        durable, offset, shapes = self._durable, self._offset, self._assembler.baseline
        if (durable, offset) == (self._kept.state.acknowledged, self._kept.state.raw):
            return
        await self._kept.become(lambda state: replace(state.acknowledging(durable, shapes), raw=offset))


def _described(rows: Iterable[tuple[Any, ...]]) -> tuple[dict[str, tuple[Shape, ...]], set[str]]:
    """Shapes by table, and the tables with REPLICA IDENTITY FULL."""
    shapes: dict[str, tuple[Shape, ...]] = {}
    whole = set()
    for table, shape, full in shapes_of(rows):
        shapes[table] = (*shapes.get(table, ()), shape)
        if full:
            whole.add(table)
    return shapes, whole
