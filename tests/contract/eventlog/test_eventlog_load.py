"""While events flow: members of a group join and leave, and the partitions of a topic change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from stranglerfig.eventlog.model import Record
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from tests.contract.eventlog.backends import Backend
from tests.contract.eventlog.test_eventlog_contract import event

Name = Callable[[str], str]
KEYS = [f"key-{number}" for number in range(12)]
LEASE = 0.9


class Flow:
    """One producer of a topic, and what the members of a group did with its events."""

    def __init__(self, log: Any, topic: str, group: str) -> None:
        self.log = log
        self.topic = topic
        self.group = group
        self.appended: dict[str, int] = dict.fromkeys(KEYS, 0)
        self.handled: list[Record] = []
        self.uncommitted = 0
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()

    async def produce(self) -> None:
        """Numbered events of every key, until told to stop."""
        while not self._stopping.is_set():
            batch = [
                event(str(self.appended[key] + step).encode(), partitionkey=key) for step in range(2) for key in KEYS
            ]
            await self.log.append(self.topic, batch)
            for key in KEYS:
                self.appended[key] += 2
            await asyncio.sleep(0.02)
        self._stopped.set()

    @asynccontextmanager
    async def member(self) -> AsyncIterator[None]:
        """A member that takes part for the length of the block; it leaves between two batches."""
        leaving = asyncio.Event()

        async def consume() -> None:
            batches = subscription.batches()
            while not leaving.is_set():
                following = asyncio.ensure_future(anext(batches))
                told = asyncio.ensure_future(leaving.wait())
                await asyncio.wait([following, told], return_when=asyncio.FIRST_COMPLETED)
                told.cancel()
                if not following.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    break
                batch = following.result()
                self.handled += batch
                try:
                    await subscription.commit(batch[-1])
                except FigError as error:
                    assert error.code == "lease_lost"
                    self.uncommitted += len(batch)
            await batches.aclose()

        subscription = await self.log.subscribe([self.topic], self.group, lease=LEASE)
        consuming = tasks.spawn(consume(), name="member")
        try:
            yield
        finally:
            leaving.set()
            await consuming
            await subscription.close()

    async def handled_more(self, count: int = 200) -> None:
        """Wait until the group has handled ``count`` more."""
        before = len(self.handled)

        async def more() -> bool:
            return len(self.handled) >= before + count

        await clock.until(more, timeout=60, what=f"{count} more events to be handled")

    async def finish(self) -> None:
        """Stop the producer and wait until all is handled."""
        self._stopping.set()
        await self._stopped.wait()

        async def all_handled() -> bool:
            return len({one.event.id for one in self.handled}) >= sum(self.appended.values())

        await clock.until(all_handled, timeout=60, what="all events to be handled")

    def in_order(self) -> dict[str, list[int]]:
        """The numbers of each key in the order in which they were first handled."""
        return self._numbers(lambda _: 0)

    def in_order_by_partition(self) -> dict[str, list[int]]:
        """The same, of each key in each partition."""
        return self._numbers(lambda one: one.partition)

    def _numbers(self, apart: Callable[[Record], int]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        seen: set[str] = set()
        for one in self.handled:
            if one.event.id not in seen:
                seen.add(one.event.id)
                found.setdefault(f"{one.event.partitionkey}/{apart(one)}", []).append(int(one.event.data))
        return found

    def expected(self) -> dict[str, list[int]]:
        """What :meth:`in_order` must give."""
        return {f"{key}/0": list(range(count)) for key, count in self.appended.items()}


async def test_members_join_and_leave_while_events_flow(log: Any, name: Name) -> None:
    """Nothing is lost or skipped; what is handled twice is what a member had not committed when it lost its place."""
    topic = name("flow")
    await log.create_topic(topic, partitions=4)
    flow = Flow(log, topic, name("g"))
    async with asyncio.TaskGroup() as group:
        group.create_task(flow.produce())
        async with flow.member():
            await flow.handled_more()
            async with flow.member(), flow.member():
                await flow.handled_more(600)
            async with flow.member():
                await flow.handled_more()
        async with flow.member():
            await flow.handled_more()
            await flow.finish()
    assert flow.in_order() == flow.expected()
    twice = len(flow.handled) - sum(flow.appended.values())
    assert twice <= flow.uncommitted


async def test_partitions_change_while_events_flow(backend: Backend, log: Any, name: Name) -> None:
    """A group meets the new partitions by itself; a key keeps its order where the backend says so."""
    topic = name("reshaped")
    await log.create_topic(topic, partitions=2)
    flow = Flow(log, topic, name("g"))
    async with asyncio.TaskGroup() as group:
        group.create_task(flow.produce())
        async with flow.member(), flow.member():
            await flow.handled_more()
            for step in backend.reshape or (3, 5):
                if callable(step):
                    await asyncio.to_thread(step, topic)
                else:
                    await log.add_partitions(topic, step)
                known = {one.partition for one in flow.handled}

                async def new(known: set[int] = known) -> bool:
                    return bool({one.partition for one in flow.handled} - known)

                await clock.until(new, timeout=60, what="events of a new partition")
                await flow.handled_more()
            await flow.finish()

            async def committed() -> bool:  # by somebody who is still there: a commit may have lost its lease
                now = await log.topic(topic)
                return sum(await log.committed(topic, flow.group)) == sum(
                    max([one.position + 1 for one in flow.handled if one.partition == number], default=0)
                    for number in range(now.partitions)
                )

            await clock.until(committed, timeout=60, what="all to be committed")
    if not backend.reshape:  # keys move to other partitions
        assert all(numbers == sorted(numbers) for numbers in flow.in_order_by_partition().values())
        assert sum(map(len, flow.in_order().values())) == sum(flow.appended.values())
    else:
        assert flow.in_order() == flow.expected()
    assert len(flow.handled) - sum(flow.appended.values()) <= flow.uncommitted
    found = await log.topic(topic)
    assert found is not None
    assert found.partitions >= 5
