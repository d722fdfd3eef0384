"""Consumer groups in a database, for logs whose server keeps none: a lease per partition, a fair share per member.

A member that is not heard of for the length of its lease loses its partitions; where it had committed, another goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from stranglerfig.eventlog import model
from stranglerfig.eventlog.model import LEASE, Record, Topic
from stranglerfig.foundation import ids, postgres, sql, tasks
from stranglerfig.foundation.errors import FigError

Place = tuple[str, int]
"""A topic and a partition of it."""

TABLES = postgres.Tables("leases", __package__ or "", ("lease_tables.sql",))
_queries = sql.load(__package__ or "", "leases.sql")


class Source(Protocol):
    """The log that a group reads, as its members see it."""

    async def places(self, topics: Sequence[str], group: str) -> Mapping[Place, int]:
        """The partitions that may be read now, and where each begins."""
        ...

    async def read(self, topic: str, partition: int, position: int) -> list[Record]:
        """As the port's."""
        ...

    async def grown(self, topics: Sequence[str], timeout: float) -> None:
        """Return when something was appended to one of the topics, after ``timeout`` seconds at the latest."""
        ...


class Leases:
    """The groups of one log.

    Args:
        session: gives a session into the database that keeps them.
        log: tells this log's groups from others' in the same database.
    """

    def __init__(self, session: Callable[[], AbstractAsyncContextManager[postgres.Connection]], log: str = "") -> None:
        self.session = session
        self.log = log

    async def migrate(self) -> None:
        """Create or bring forward the tables."""
        async with self.session() as conn:
            await postgres.migrate(conn, *TABLES)

    async def subscribe(
        self, source: Source, topics: Sequence[str], group: str, *, lease: float = LEASE
    ) -> LeasedSubscription:
        """Join ``group``."""
        subscription = LeasedSubscription(self, source, topics, group, lease)
        await subscription.join()
        return subscription

    async def committed(self, topic: str, group: str) -> dict[int, int]:
        """Partition → where ``group`` goes on; empty for a group that never joined."""
        async with self.session() as conn:
            rows = await postgres.fetch(conn, _queries.committed, {"log": self.log, "group": group, "topic": topic})
        return {row[0]: int(row[1]) for row in rows}

    async def seek(self, topic: str, group: str, positions: Mapping[int, int]) -> None:
        """Move ``group`` in the given partitions."""
        async with self.session() as conn, conn.transaction():
            for partition, position in positions.items():
                await conn.execute(
                    _queries.seek,
                    {
                        "log": self.log,
                        "group": group,
                        "topic": topic,
                        "partition": partition,
                        "position": position,
                    },
                )

    async def groups(self, topic: str) -> list[str]:
        """The groups that have read ``topic``, by name."""
        async with self.session() as conn:
            return [row[0] for row in await postgres.fetch(conn, _queries.groups, {"log": self.log, "topic": topic})]

    async def forget(self, topic: str) -> None:
        """The topic is gone, and with it how far its groups had read."""
        async with self.session() as conn:
            await conn.execute(_queries.forget, {"log": self.log, "topic": topic})


class Membership:
    """A member of a group: holds leases on its fair share of the places.

    Args:
        places: the places that there are now, and where each begins.
        lease: seconds.

    Attributes:
        held: what it holds, and where the group goes on there.
        busy: a place that is not given up yet, whatever its fair share.
    """

    def __init__(
        self, leases: Leases, places: Callable[[], Awaitable[Mapping[Place, int]]], group: str, lease: float
    ) -> None:
        self._leases = leases
        self._places = places
        self._group = group
        self._lease = lease
        self._member = ids.new_id()
        self._known: set[Place] = set()
        self._renewal: asyncio.Task[None] | None = None
        self.held: dict[Place, int] = {}
        self.busy: Place | None = None

    @property
    def who(self) -> dict[str, Any]:
        """The member, as the statements name it."""
        return {"log": self._leases.log, "group": self._group, "member": self._member, "lease": self._lease}

    async def join(self) -> None:
        """Take part; called once."""
        await self._renew()
        self._renewal = tasks.spawn(
            tasks.supervise(self._keep_renewing, name=f"lease of {self._group}", most=self._lease / 3),
            name=f"lease of {self._group}",
        )

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            await self._renew()

    async def _renew(self) -> None:
        """Renew, give up what is beyond the fair share, claim what is free; places that are new are met here."""
        places = await self._places()
        topics, partitions = [place[0] for place in places], [place[1] for place in places]
        here = self.who | {"topics": topics, "partitions": partitions}
        async with self._leases.session() as conn:
            if places.keys() - self._known:
                await conn.execute(_queries.join, here | {"positions": list(places.values())})
                self._known |= places.keys()
            await conn.execute(_queries.alive, here)
            members = int(await postgres.value(conn, _queries.members, here))
            share = -(-len(places) // max(members, 1))
            held = {(row[0], row[1]): int(row[2]) for row in await postgres.fetch(conn, _queries.renew, here)}
            for place in [place for place in held if place != self.busy][: max(0, len(held) - share)]:
                await conn.execute(_queries.release, self.who | {"topic": place[0], "partition": place[1]})
                del held[place]
            new: dict[Place, int] = {}
            if len(held) < share:
                # One that was taken from us, as seek does, is begun anew; not while a batch of it is in hand, which is
                # not to be committed there (who reads ahead holds each record against a position of its own).
                free = [place for place in places if place != self.busy]
                wanted = {"topics": [place[0] for place in free], "partitions": [place[1] for place in free]}
                claimed = await postgres.fetch(conn, _queries.claim, here | wanted | {"count": share - len(held)})
                new = {(row[0], row[1]): int(row[2]) for row in claimed}
        # Where we have read on without committing yet, also a moment ago, we go on from there.
        self.held = {place: max(position, self.held.get(place, 0)) for place, position in held.items()} | new

    async def close(self) -> None:
        """Leave the group."""
        if self._renewal is not None:
            await tasks.stop(self._renewal)
        self.held = {}
        with contextlib.suppress(FigError):  # the lease ends by itself when its database is away
            async with self._leases.session() as conn:
                await conn.execute(_queries.leave, self.who)


class LeasedGroups(ABC):
    """What a log offers of its groups, by leases in a database."""

    _leases: Leases

    @abstractmethod
    async def topic(self, name: str) -> Topic | None:
        """As the port's."""

    @abstractmethod
    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """As the port's."""

    async def _numbers(self, topic: str) -> Collection[int]:
        """The partitions that there are."""
        if (found := await self.topic(topic)) is None:
            raise model.unknown_topic(topic)
        return range(found.partitions)

    async def groups(self, topic: str) -> list[str]:
        """The groups that have read ``topic``, by name."""
        return await self._leases.groups(topic)

    async def committed(self, topic: str, group: str) -> tuple[int, ...]:
        """Per partition, the log position at which ``group`` goes on (0 for a group that never joined)."""
        numbers = await self._numbers(topic)
        found = await self._leases.committed(topic, group)
        return tuple(found.get(number, 0) for number in range(max(numbers, default=-1) + 1))

    async def seek(self, topic: str, group: str, *, position: int | None = None, time: datetime | None = None) -> None:
        """Move ``group`` in all partitions of ``topic``."""
        model.check_seek(position, time)
        wanted = {
            number: (position or 0) if time is None else await self.position_at(topic, number, time)
            for number in await self._numbers(topic)
        }
        await self._leases.seek(topic, group, wanted)


class LeasedSubscription:
    """A member of a group that reads what it holds."""

    def __init__(self, leases: Leases, source: Source, topics: Sequence[str], group: str, lease: float) -> None:
        self._leases = leases
        self._source = source
        self._topics = list(topics)
        self._group = group
        self._lease = lease
        self._member = Membership(leases, lambda: source.places(self._topics, group), group, lease)

    async def join(self) -> None:
        """Take part; called once."""
        await self._member.join()

    async def batches(self) -> AsyncIterator[list[Record]]:
        """Batches of records, each of one partition and in order."""
        member = self._member
        while True:
            got = False
            for place in list(member.held):
                position = member.held.get(place)
                if position is None:
                    continue
                records = await self._source.read(*place, position)
                if records and member.held.get(place) == position:
                    got = True
                    member.held[place] = records[-1].position + 1
                    member.busy = place
                    try:
                        yield records
                    finally:
                        member.busy = None
            if not got:
                await self._source.grown(self._topics, self._lease / 3)

    async def commit(self, record: Record) -> None:
        """All up to and with ``record`` is handled.

        Raises:
            FigError: ``lease_lost`` when another member has the partition by now.
        """
        here = {"topic": record.topic, "partition": record.partition, "position": record.position + 1}
        async with self._leases.session() as conn:
            done = await postgres.value(conn, _queries.commit, self._member.who | here)
        if done is None:
            self._member.held.pop((record.topic, record.partition), None)
            raise model.lease_lost(record.topic, record.partition, self._group)

    async def close(self) -> None:
        """Leave the group."""
        await self._member.close()
