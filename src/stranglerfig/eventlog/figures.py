"""How a log stands, for those who look at it: what its topics hold, how fast they grow, how far their readers are.

Positions are taken as counts, which they are in every backend but those that say ``counted=False``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from stranglerfig.eventlog.model import Topic
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.eventlog.windows import BEGINNING
from stranglerfig.foundation.errors import FigError

RATE_OVER: Final = 10.0
"""Seconds over which a rate is taken."""
SIDE_BY_SIDE: Final = 4
"""How many topics are asked about at once."""


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group of a topic; ``lag`` is how many events are ahead of it, by partition (None: not countable)."""

    name: str
    committed: tuple[int, ...]
    lag: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Held:
    """What a topic holds.

    Attributes:
        topic: as it stands.
        first: per partition, the first position that is kept.
        retained: how many events that makes; None where positions are not counts.
        rate: events appended per second, over the last :data:`RATE_OVER`; None before there are two looks.
        groups: who reads it.
    """

    topic: Topic
    first: tuple[int, ...]
    retained: int | None
    rate: float | None
    groups: tuple[Group, ...]


class Figures:
    """Looks at a log again and again; rates come of what it saw before.

    Args:
        counted: whether the difference of two positions is a number of events.
    """

    def __init__(self, log: EventLog, *, counted: bool = True) -> None:
        self._log = log
        self._counted = counted
        self._seen: deque[tuple[float, dict[str, int]]] = deque()

    async def look(self) -> list[Held]:
        """Every topic, by name. A topic that is deleted meanwhile is left out."""
        topics = await self._log.topics()
        now = asyncio.get_running_loop().time()
        ends = {topic.name: sum(topic.next_positions) for topic in topics}
        while len(self._seen) > 1 and now - self._seen[1][0] >= RATE_OVER:
            self._seen.popleft()
        rates = self._rates(now, ends)
        self._seen.append((now, ends))
        few = asyncio.Semaphore(SIDE_BY_SIDE)

        async def held(topic: Topic) -> Held | None:
            async with few:
                try:
                    return await self._held(topic, rates.get(topic.name))
                except FigError as error:
                    if error.code in ("unknown_topic", "unknown_partition"):
                        return None
                    raise

        return [found for found in await asyncio.gather(*map(held, topics)) if found is not None]

    def _rates(self, now: float, ends: dict[str, int]) -> dict[str, float]:
        if not self._counted or not self._seen or now <= self._seen[0][0]:
            return {}
        since, before = self._seen[0]
        # One that was deleted and made anew begins from nothing.
        return {
            name: (end - before[name]) / (now - since) for name, end in ends.items() if before.get(name, end + 1) <= end
        }

    async def _held(self, topic: Topic, rate: float | None) -> Held:
        first = [await self._log.position_at(topic.name, number, BEGINNING) for number in range(topic.partitions)]
        groups = []
        for name in await self._log.groups(topic.name):
            committed = await self._log.committed(topic.name, name)
            groups.append(Group(name, committed, self._lag(topic, first, committed)))
        retained = sum(topic.next_positions) - sum(first) if self._counted else None
        return Held(topic, tuple(first), retained, rate, tuple(groups))

    def _lag(self, topic: Topic, first: list[int], committed: tuple[int, ...]) -> tuple[int, ...] | None:
        """What is ahead of a group and still there: what retention took no longer is."""
        if not self._counted:
            return None
        ends = topic.next_positions
        at = [*committed, *first[len(committed) :]]
        return tuple(max(0, end - max(at[number], first[number])) for number, end in enumerate(ends))
