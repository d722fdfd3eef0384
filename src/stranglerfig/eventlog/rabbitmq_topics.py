"""Which topics there are: a stream of their making, growing and deleting, whose order decides.

Neither RabbitMQ's stream protocol nor AMQP lists streams, and nothing of ours about a topic fits on a stream. So a
stream, :data:`STREAM`, says which topics were made and deleted; who reads it from its beginning knows them. Of two who
make the same topic at once the first in the stream wins, for everybody. A topic's streams carry the offset of its
making in their names, so that a topic made anew never meets what an interrupted deletion left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

import orjson

from stranglerfig.eventlog import model
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.rabbitmq_append import Appender
from stranglerfig.eventlog.rabbitmq_cluster import Cluster
from stranglerfig.eventlog.rabbitmq_message import encode
from stranglerfig.eventlog.rabbitmq_reader import Reader
from stranglerfig.foundation import clock, ids

STREAM: Final = "fig.topics"
MADE: Final = "fig.TopicMade"
GROWN: Final = "fig.TopicGrown"
DELETED: Final = "fig.TopicDeleted"
_SOURCE: Final = "/stranglerfig/eventlog"
_AT_ONCE: Final = 1000
_AHEAD: Final = 8_000_000
_SETTLES: Final = 2.0
"""Seconds, once in the life of a cluster. A broker writes down about a second after its first stream that it has any
(in names.dets, seen on 3.10.8); killed before, it comes back without them, and nothing in the protocol shows it."""
_EXPIRING_SEGMENT: Final = 16_000_000
"""Bytes of a segment of a topic whose events expire, unless told."""


@dataclass(frozen=True, slots=True)
class Known:
    """A topic as the stream of topics says.

    Attributes:
        made: the offset of its making there.
        arguments: what its streams were made with.
    """

    name: str
    made: int
    partitions: int
    retention_seconds: float | None
    arguments: dict[str, str]

    def stream(self, partition: int) -> str:
        """The stream of a partition."""
        return f"{quote(self.name, safe='')}.{self.made}-{partition}"

    @property
    def streams(self) -> list[str]:
        """The streams of all partitions."""
        return [self.stream(partition) for partition in range(self.partitions)]


def arguments_of(retention_seconds: float | None, segment_bytes: int | None) -> dict[str, str]:
    """The arguments of a stream: a leader where there are the fewest, how long segments are kept, how large they are.

    Whole segments expire, and only when a new one is begun: smaller ones where something is to expire.
    """
    found = {"queue-leader-locator": "least-leaders"}
    if retention_seconds is not None:
        found["max-age"] = f"{max(1, -int(-retention_seconds // 1))}s"
        segment_bytes = segment_bytes or _EXPIRING_SEGMENT
    if segment_bytes is not None:
        found["stream-max-segment-size-bytes"] = str(segment_bytes)
    return found


def fold(known: dict[str, Known], offset: int, event: Event) -> None:
    """Take what the stream of topics says next into ``known``; what others wrote into it is passed over."""
    if event.source != _SOURCE:
        return
    said: dict[str, Any] = orjson.loads(event.data)
    name = said["topic"]
    if event.type == MADE and name not in known:
        known[name] = Known(name, offset, said["partitions"], said["retention_seconds"], said["arguments"])
    elif event.type == GROWN and name in known and known[name].made == said["made"]:
        known[name] = replace(known[name], partitions=max(known[name].partitions, said["partitions"]))
    elif event.type == DELETED and name in known and known[name].made == said["made"]:
        del known[name]


class Topics:
    """The topics of a cluster, as far as they were read; :meth:`refresh` reads on."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, Known] = {}
        self._next = 0
        self._there = False
        self._reader = Reader(cluster, STREAM, STREAM, 0)
        self._appender = Appender(cluster, STREAM)
        self._refreshing = asyncio.Lock()

    async def find(self, name: str) -> Known:
        """The topic, asking only about one that is not known.

        Raises:
            FigError: ``unknown_topic``.
        """
        if name not in self._known:
            await self.refresh()
        if name not in self._known:
            raise model.unknown_topic(name)
        return self._known[name]

    async def all(self) -> dict[str, Known]:
        """All topics there are now, by name."""
        await self.refresh()
        return dict(self._known)

    async def refresh(self) -> None:
        """Read what was said about topics since."""
        async with self._refreshing:
            if not self._there:
                if await (await self._cluster.any()).create(STREAM, arguments_of(None, None)):
                    await asyncio.sleep(_SETTLES)
                self._there = True
            while True:
                records = await self._reader.read(self._next, max_records=_AT_ONCE, max_bytes=_AHEAD, wait=0)
                if not records:
                    return
                for record in records:
                    fold(self._known, record.position, record.event)
                self._next = records[-1].position + 1

    async def make(
        self, name: str, partitions: int, retention_seconds: float | None, arguments: dict[str, str]
    ) -> None:
        """Make a topic and its streams; those that are there already stay.

        Raises:
            FigError: ``topic_differs``.
        """
        if name not in await self.all():
            await self._say(
                MADE,
                topic=name,
                partitions=partitions,
                retention_seconds=retention_seconds,
                arguments=arguments,
            )
        found = await self.find(name)
        if found.partitions != partitions:
            raise model.topic_differs(name, found.partitions, partitions)
        await self.complete(found)

    async def grow(self, name: str, partitions: int) -> None:
        """Give a topic more partitions: first their streams, so that whoever hears of them finds them.

        Raises:
            FigError: ``unknown_topic``.
        """
        await self.refresh()
        found = await self.find(name)
        if found.partitions < partitions:
            await self.complete(replace(found, partitions=partitions))
            await self._say(GROWN, topic=name, made=found.made, partitions=partitions)

    async def complete(self, topic: Known) -> None:
        """Make the streams that a topic lacks, because whoever made it did not get so far."""
        wire = await self._cluster.any()
        for stream in topic.streams:
            await wire.create(stream, topic.arguments)

    async def delete(self, name: str) -> None:
        """Delete a topic, then its streams; those that are left by an interruption are nobody's."""
        found = (await self.all()).get(name)
        if found is None:
            return
        await self._say(DELETED, topic=name, made=found.made)
        wire = await self._cluster.any()
        for stream in found.streams:
            await wire.delete(stream)

    async def _say(self, kind: str, **said: Any) -> None:
        event = Event(ids.new_id(), _SOURCE, kind, clock.now(), orjson.dumps(said))
        await self._appender.append([encode(event)])
        await self.refresh()

    async def close(self) -> None:
        """Let go."""
        await self._appender.close()
        await self._reader.close()
