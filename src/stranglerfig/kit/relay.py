"""The relay: messages out of a service's outbox into the log, in order, each at least once, by one process at a time.

Rows are taken in the order of their numbers, which is the order of commits for all that concerns one aggregate: the
number is drawn while the aggregate's row is locked. Whoever relays holds a lock as long as its transaction; a process
that is paused longer than ``patience`` loses both to another one, and what it then still sends are duplicates with the
same ids, not losses.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from psycopg.rows import TupleRow

from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit.states import queries

log = logging.getLogger(__name__)

BATCH: Final = 2000
IDLE: Final = 0.02
"""Seconds between looks for what other processes wrote; what this one wrote is poked."""
STANDBY: Final = 0.5
"""Seconds between looks of one that is not the relay now."""
PATIENCE: Final = 10
"""Seconds for which a transaction may stand still."""
HELD_BACK: Final = 2.0
"""Seconds before a topic that refused a message is tried again."""


class Relay:
    """Moves what is in ``fig.outbox``.

    Args:
        dsn: the service's database.
        source: what the events name as their source, ``/shop/inventory``.
        kill_point: called with the name of each point at which a fault test may kill the process.
    """

    def __init__(
        self, dsn: str, log: EventLog, *, source: str, kill_point: Callable[[str], None] = lambda name: None
    ) -> None:
        self._dsn = dsn
        self._log = log
        self._source = source
        self._kill_point = kill_point
        self._poked = asyncio.Event()
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
        options = f"-c idle_in_transaction_session_timeout={PATIENCE}s"
        async with postgres.session(self._dsn, what="relay", options=options) as conn:
            conn.prepare_threshold = 1
            while True:
                self._poked.clear()
                moved = await self.once(conn)
                if moved is None:
                    await asyncio.sleep(STANDBY)
                elif not moved:
                    await clock.signalled(self._poked, timeout=IDLE)

    async def once(self, conn: postgres.Connection) -> int | None:
        """Move one batch; returns how many messages, or None while another process is the relay."""
        now = clock.monotonic()
        self._refused = {topic: until for topic, until in self._refused.items() if until > now}
        async with conn.transaction():
            if not await postgres.value(conn, "SELECT pg_try_advisory_xact_lock(hashtextextended('fig.outbox', 0))"):
                return None
            rows = await postgres.fetch(conn, queries.unpublished, {"without": [*self._refused], "most": BATCH})
            if not rows:
                return 0
            by_topic: dict[str, list[TupleRow]] = defaultdict(list)
            for row in rows:
                by_topic[row[2]].append(row)
            self._kill_point("relay/read")
            done: list[int] = []
            for topic, its in by_topic.items():
                done += await self._append(topic, its)
            self._kill_point("relay/appended")
            if done:
                await conn.execute(queries.published, (done,))
                self._kill_point("relay/removed")
        self.moved += len(done)
        return len(done)

    async def _append(self, topic: str, rows: Sequence[TupleRow]) -> list[int]:
        """The numbers of those that the log has now."""
        source = self._source
        events = [
            Event(id, source, type_, at, data.encode(), "application/json", subject, schema, key, trace, flow, cause)
            for _, id, _, type_, key, data, at, subject, schema, trace, flow, cause in rows
        ]
        try:
            await self._log.append(topic, events)
        except FigError as error:
            if error.code in ("log_unreachable",):
                raise
            # One topic's trouble is not the others': its messages wait, in order, until it takes them.
            log.warning("the topic %s takes no messages: %s", topic, error, extra={"action": "topic_refused"})
            self._refused[topic] = clock.monotonic() + HELD_BACK
            return []
        return [row[0] for row in rows]
