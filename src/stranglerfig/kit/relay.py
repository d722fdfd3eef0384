"""The relay: messages out of a service's outbox into the log, in order, each at least once, by one process at a time.

Rows are taken in the order of their numbers, which is the order of commits for all that concerns one aggregate: the
number is drawn while the aggregate's row is locked, so that who sees a message sees all before it. Whoever relays holds
a lock of its session; the server ends the session of a process that says nothing for ``PATIENCE`` seconds, and another
one takes its place. What the first one then still sends are duplicates with the same ids, not losses.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import psycopg
from psycopg.rows import TupleRow

from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit.states import queries
from stranglerfig.telemetry import traces

log = logging.getLogger(__name__)

BATCH: Final = 4000
IDLE: Final = 0.02
"""Seconds between looks for what other processes wrote; what this one wrote is poked."""
STANDBY: Final = 0.5
"""Seconds between looks of one that is not the relay now."""
PATIENCE: Final = 10
"""Seconds for which whoever relays may say nothing."""
HELD_BACK: Final = 2.0
"""Seconds before a topic that refused a message is tried again."""


class Relay:
    """Moves what is in ``fig.outbox``.

    Args:
        dsn: the service's database.
        name: of the sessions there.
        source: what the events name as their source, ``/shop/inventory``.
        linger: seconds for which messages are let gather.
        kill_point: called with the name of each point at which a fault test may kill the process.
        tenant: whose messages are that do not say it.
    """

    def __init__(
        self,
        dsn: str,
        log: EventLog,
        *,
        name: str,
        source: str,
        linger: float = 0.0,
        kill_point: Callable[[str], None] = lambda name: None,
        tenant: str | None = None,
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._log = log
        self._source = source
        self._linger = linger
        self._tenant = tenant
        self._kill_point = kill_point
        self._poked = asyncio.Event()
        self._appended = asyncio.Event()
        self._refused: dict[str, float] = {}
        self.moved = 0

    def poke(self) -> None:
        """There is something to be relayed."""
        self._poked.set()

    async def run(self) -> None:
        """Relay until cancelled.

        Raises:
            FigError: ``database_unreachable``; what the log says when it cannot be reached.
        """
        # That something was published may be forgotten with the server: then it is published again, with the same id.
        options = (
            f"-c idle_session_timeout={PATIENCE}s -c idle_in_transaction_session_timeout={PATIENCE}s"
            " -c synchronous_commit=off"
        )
        async with postgres.session(self._dsn, what="relay", application_name=self._name, options=options) as conn:
            conn.prepare_threshold = 1
            try:
                await clock.until(
                    lambda: postgres.value(conn, queries.relay_lock),
                    timeout=math.inf, what="its turn", every=STANDBY, at_most=STANDBY,
                )  # fmt: skip
                while True:
                    self._poked.clear()
                    await self.drain(conn)
                    await clock.signalled(self._poked, timeout=IDLE)
                    await asyncio.sleep(self._linger)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                raise postgres.unreachable(self._dsn, error) from error

    async def drain(self, conn: postgres.Connection) -> int:
        """Move all that is there; returns how many messages.

        While some are appended, those before them are taken out of the outbox, and the next ones are read.
        """
        moved = 0
        published: list[int] = []
        rows = await self._read(conn, ())
        while rows:
            self._kill_point("relay/read")
            self._appended.clear()
            beside = tasks.spawn(self._meanwhile(conn, published, rows), name="relay reads on")
            try:
                done = await self._append_all(rows)
            except BaseException:
                await tasks.stop(beside)
                raise
            self._appended.set()
            following = await beside
            self._kill_point("relay/appended")
            published = done
            self.moved += len(done)
            moved += len(done)
            # What a topic refused is no longer on its way: it waits, and what is behind it with it.
            rows = [row for row in following if row[2] not in self._refused]
        await self._remove(conn, published)
        return moved

    async def _remove(self, conn: postgres.Connection, published: Sequence[int]) -> None:
        if published:
            await conn.execute(queries.published, (published,))
            self._kill_point("relay/removed")

    async def _read(self, conn: postgres.Connection, moving: Sequence[TupleRow]) -> list[TupleRow]:
        now = clock.monotonic()
        self._refused = {topic: until for topic, until in self._refused.items() if until > now}
        without, on_their_way = [*self._refused], [row[0] for row in moving]
        return await postgres.fetch(
            conn, queries.unpublished, {"without": without, "moving": on_their_way, "most": BATCH}
        )

    async def _meanwhile(
        self, conn: postgres.Connection, published: Sequence[int], moving: Sequence[TupleRow]
    ) -> list[TupleRow]:
        """The next ones; and a sign of life to the server for as long as the log takes for those that are moving."""
        await self._remove(conn, published)
        found = await self._read(conn, moving)
        while not await clock.signalled(self._appended, timeout=PATIENCE / 4):
            await conn.execute("SELECT 1")
        return found

    async def _append_all(self, rows: Sequence[TupleRow]) -> list[int]:
        """The numbers of those that the log has now; topics do not wait for each other."""
        by_topic: dict[str, list[TupleRow]] = defaultdict(list)
        for row in rows:
            by_topic[row[2]].append(row)
        appended = await asyncio.gather(*(self._append(*each) for each in by_topic.items()), return_exceptions=True)
        done: list[int] = []
        for its in appended:
            if isinstance(its, BaseException):
                raise its
            done += its
        return done

    async def _append(self, topic: str, rows: Sequence[TupleRow]) -> list[int]:
        """The numbers of those that the log has now."""
        source, own = self._source, self._tenant
        events = [
            Event(
                id, source, type_, at, data.encode(), "application/json", subject, schema, key, trace, flow, cause,
                tenant or own,
            )
            for _, id, _, type_, key, data, at, subject, schema, trace, flow, cause, tenant in rows
        ]  # fmt: skip
        spans = [
            traces.since(
                f"publish {each.type}", each.traceparent, each.time.timestamp(), "producer",
                **{"messaging.destination.name": topic, "messaging.message.id": each.id},
            )
            for each in events
        ]  # fmt: skip
        try:
            await self._log.append(topic, events)
        except FigError as error:
            if error.code in ("log_unreachable",):
                raise
            # One topic's trouble is not the others': its messages wait, in order, until it takes them.
            log.warning("the topic %s takes no messages: %s", topic, error, extra={"action": "topic_refused"})
            self._refused[topic] = clock.monotonic() + HELD_BACK
            return []
        traces.end_together("publish", [each for each in spans if each is not None], size=len(events))
        return [row[0] for row in rows]
