"""What capture remembers of a flow between its lives: the newest record of a topic of its own.

It is written before a position is acknowledged to the source, so that a slot that is further than this was moved by
something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import orjson

from stranglerfig.capture import pack
from stranglerfig.capture.decode import WHOLE
from stranglerfig.capture.model import State
from stranglerfig.changes import frames
from stranglerfig.changes.model import Barrier, Direction, SourcePosition, Transaction, names
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, ids
from stranglerfig.foundation.errors import FigError


class Memory:
    """A flow's topics: that of its changes, and that of its states."""

    def __init__(self, log: EventLog, context: str, direction: Direction) -> None:
        self.log = log
        self.topic = names(context, direction).topic
        self.states = f"fig.capture.{context}.{direction}"
        self.source = pack.source_of(context, direction)

    async def prepare(self, partitions: int = 1) -> int:
        """Create the topics when they are not there; returns how many partitions the topic of changes has.

        It gets ``partitions`` at least; where somebody gave it more, it keeps them.
        """
        found = await self.log.topic(self.topic)
        if found is None:
            await self.log.create_topic(self.topic, partitions=partitions)
        elif found.partitions < partitions:
            await self.log.add_partitions(self.topic, partitions)
        await self.log.create_topic(self.states)
        return max(partitions, 0 if found is None else found.partitions)

    async def partitions(self) -> int:
        """How many partitions the topic of changes has now."""
        found = await self.log.topic(self.topic)
        return 0 if found is None else found.partitions

    async def append(self, events: Sequence[Event], partition: int = 0) -> None:
        """Append to a partition of the topic of changes, in as many records as the log's limit wants."""
        limit = self.log.capabilities.max_event_bytes
        records = [part for event in events for part in frames.split(event, limit)]
        await self.log.append(self.topic, records, partition=partition)

    async def fence(self, barrier: Barrier) -> None:
        """Append a snapshot's barrier to every partition that it is for; nothing where there is one alone."""
        # Where what it is about ends, the first partition knows by itself.
        for partition in range(1 if barrier.closes or barrier.partitions == 1 else 0, barrier.partitions):
            event = pack.barrier(
                barrier,
                source=self.source,
                generation=barrier.generation,
                partition=partition,
                now=clock.now(),
            )
            await self.append([event], partition)

    async def state(self) -> State | None:
        """The newest state, or None for a flow that never began."""
        topic = await self.log.topic(self.states)
        if topic is None or topic.next_positions[0] == 0:
            return None
        [record] = await self.log.read(self.states, 0, topic.next_positions[0] - 1, max_records=1)
        return State.from_dict(orjson.loads(record.event.data))

    async def remember(self, state: State) -> None:
        """Make ``state`` the newest."""
        event = Event(ids.new_id(), self.source, "fig.CaptureState", clock.now(), orjson.dumps(state.as_dict()))
        await self.log.append(self.states, [event])

    async def durable(self, state: State, partition: int = 0) -> SourcePosition:
        """The last source position that a partition of the log has; at least everything before the slot."""
        beginning = SourcePosition(state.created - 1, WHOLE)
        topic = await self.log.topic(self.topic)
        if topic is None or partition >= topic.partitions or topic.next_positions[partition] == 0:
            return beginning
        records = await self.log.read(self.topic, partition, topic.next_positions[partition] - 1, max_records=1)
        if not records or not records[0].event.id.startswith(f"{state.generation}-"):
            return beginning  # nothing is kept, or it was written under a former slot
        event = records[0].event
        if frames.PART in event.datacontenttype:
            return beginning  # what is written again, sync tells by its position
        last = frames.decode(event.datacontenttype, event.data)[-1]
        if isinstance(last, Barrier):
            return max(beginning, last.position)
        if not isinstance(last, Transaction):
            return beginning
        return SourcePosition(last.lsn, WHOLE if last.end else last.first + len(last.items) - 1)


class Remembered:
    """A flow's state, remembered durably before it counts; one change of it at a time."""

    def __init__(self, memory: Memory, state: State) -> None:
        self._memory = memory
        self.state = state
        self._changing = asyncio.Lock()

    async def become(self, change: Callable[[State], State]) -> None:
        """Remember what ``change`` makes of the newest state."""
        async with self._changing:
            state = change(self.state)
            await self._memory.remember(state)
            self.state = state


async def resume(log: EventLog, context: str, direction: Direction, table: str) -> None:
    """Accept the new shape of ``table`` (``schema.name``): a capture that is paused for it goes on.

    Raises:
        FigError: ``unknown_flow`` when this flow never began.
    """
    memory = Memory(log, context, direction)
    state = await memory.state()
    if state is None:
        raise FigError("unknown_flow", f"the flow {context} {direction} was never captured", context=context)
    await memory.remember(state.accepting(table))


async def forget(log: EventLog, context: str, direction: Direction) -> None:
    """Remove what a flow remembers of its places: it begins anew when it is wanted again."""
    await log.delete_topic(Memory(log, context, direction).states)
