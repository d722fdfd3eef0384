"""Several processes on one topic: each works on a fair share of its partitions, and on those of whoever is gone.

The leases only say who should; that nobody applies a partition twice is proved by its origin and by the position that
is compared where the rows are. So a worker whose control database is away goes on with what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

import psycopg

from stranglerfig.eventlog.leases import Leases, Membership, Place
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import tasks
from stranglerfig.foundation.errors import FigError

LEASE = 3.0
"""Seconds after which the partitions of a worker that is gone are free; the others look every third of it."""
LOOK = 0.5
_COUNT_EVERY = 4

_log = logging.getLogger(__name__)

Work = Callable[[int], Awaitable[None]]


class Share:
    """This process's partitions of one topic.

    A topic of one partition needs no lease: a second worker waits for its origin, and takes over at once.

    Args:
        leases: of the control database; ``sync`` tells them from consumers' groups.
        work: applies one partition, until cancelled.
    """

    def __init__(self, log: EventLog, topic: str, leases: Leases, work: Work, *, lease: float = LEASE) -> None:
        self._log = log
        self._topic = topic
        self._leases = leases
        self._work = work
        self._lease = lease
        self._member: Membership | None = None
        self._running: dict[int, asyncio.Task[None]] = {}
        self.partitions = 1
        """How many the topic has, as far as is known."""

    async def run(self) -> None:
        """Work on what is ours, until cancelled."""
        looks = 0
        try:
            while True:
                try:
                    if looks % _COUNT_EVERY == 0:
                        await self._count()
                    await self._match(await self._mine())
                except (FigError, psycopg.Error, OSError) as error:
                    _log.warning("the share is not known: %s", error, extra={"action": "share_unknown"})
                looks += 1
                await asyncio.sleep(LOOK)
        finally:
            await asyncio.gather(*(tasks.stop(task) for task in self._running.values()))
            if self._member is not None:
                await self._member.close()

    async def _count(self) -> None:
        found = await self._log.topic(self._topic)
        if found is not None:
            self.partitions = found.partitions

    async def _mine(self) -> set[int]:
        if self.partitions == 1:
            return {0}
        if self._member is None:
            await self._leases.migrate()
            member = Membership(self._leases, self._places, f"sync {self._topic}", self._lease)
            await member.join()
            self._member = member
        return {partition for _, partition in self._member.held}

    async def _places(self) -> Mapping[Place, int]:
        return {(self._topic, number): 0 for number in range(self.partitions)}

    async def _match(self, mine: set[int]) -> None:
        gone = [number for number in self._running if number not in mine or self._running[number].done()]
        for number in gone:
            await tasks.stop(self._running.pop(number))
            _log.info("partition left", extra={"action": "partition_left", "topic": self._topic, "partition": number})
        for number in sorted(mine - self._running.keys()):
            _log.info("partition taken", extra={"action": "partition_taken", "topic": self._topic, "partition": number})
            self._running[number] = tasks.spawn(self._work(number), name=f"{self._topic} {number}")  # type: ignore[arg-type]
