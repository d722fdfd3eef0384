"""A live view of a log for people: the newest of what is asked for, a few times a second, however much passes by.

What passes is counted, read and held against the filter; of what is left only the newest is decoded and told, and how
many were passed over is told beside. A reader that falls behind lets go of the oldest rather than telling of the past.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from stranglerfig.changes import frames
from stranglerfig.changes.reading import documents, lines
from stranglerfig.eventlog.model import Record, Topic
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.eventlog.windows import BEGINNING, Filter
from stranglerfig.foundation.errors import FigError

SHOWN: Final = 60
"""How many events are told of at most, of each look."""
READ: Final = 5_000
"""How many events of a partition are read at most, in each look; of more the newest."""
PAGE: Final = 1_000
LAST: Final = 50
"""With how many events, of all topics together, a view begins."""


@dataclass(slots=True)
class Seen:
    """What came since the last look.

    Attributes:
        lines: the newest of what was asked for, oldest first: see :func:`stranglerfig.changes.reading.lines`.
        passed: how many events came.
        unread: how many of those were let go unread, because there were too many.
        matched: how many of those that were read were asked for.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    passed: int = 0
    unread: int = 0
    matched: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to see.

    Attributes:
        topics: their names, none for all.
        attributes: what an event's attributes are to be.
        text: words that its data contains, whatever their case.
    """

    topics: tuple[str, ...] = ()
    attributes: Filter = field(default_factory=Filter)
    text: str = ""

    def takes(self, record: Record) -> bool:
        """Whether a record is asked for."""
        if not self.attributes.takes(record.event):
            return False
        wanted = self.text.casefold()
        return not wanted or any(wanted in told.casefold() for told in _texts(record))


def _texts(record: Record) -> Iterator[str]:
    """The data as text: frames are packed, and are opened for it."""
    if record.event.datacontenttype in frames.KINDS:
        for _, document in documents(record):
            yield orjson.dumps(document, default=str).decode()
    else:
        yield record.event.data.decode("utf-8", errors="replace")


class Live:
    """A view of a log that goes on from look to look.

    Args:
        counted: whether the difference of two positions is a number of events.
    """

    def __init__(self, log: EventLog, asked: Asked, *, counted: bool = True) -> None:
        self._log = log
        self._asked = asked
        self._counted = counted
        self._at: dict[tuple[str, int], int] | None = None

    async def look(self) -> Seen:
        """What came since the last look; the first one begins with the newest events there are.

        Raises:
            FigError: what the log raises; ``unknown_topic`` for a topic that is asked for and not there.
        """
        seen = Seen()
        topics = await self._topics()
        newest: deque[Record] = deque(maxlen=SHOWN)
        if self._at is None:
            self._at = await self._begin(topics)
        for topic in topics:
            for partition, end in enumerate(topic.next_positions):
                # A topic or partition that is new since the last look is seen from its beginning.
                at = self._at.get((topic.name, partition), 0)
                if at > end:
                    at = 0  # the topic was deleted and made anew
                self._at[topic.name, partition] = await self._read(topic.name, partition, at, end, seen, newest)
        ordered = sorted(newest, key=lambda record: record.appended_at)
        seen.lines = [line for record in ordered for line in lines(record)][-SHOWN:]
        return seen

    async def _topics(self) -> list[Topic]:
        if not self._asked.topics:
            return await self._log.topics()
        found = []
        for name in self._asked.topics:
            topic = await self._log.topic(name)
            if topic is None:
                raise FigError(
                    "unknown_topic", f"the log has no topic '{name}'", "fig events topics lists them.", topic=name
                )
            found.append(topic)
        return found

    async def _begin(self, topics: Sequence[Topic]) -> dict[tuple[str, int], int]:
        found = {}
        parts = sum(topic.partitions for topic in topics)
        last = max(1, LAST // max(parts, 1))
        for topic in topics:
            for partition, end in enumerate(topic.next_positions):
                first = await self._log.position_at(topic.name, partition, BEGINNING)
                found[topic.name, partition] = max(first, end - last) if self._counted else end
        return found

    async def _read(self, topic: str, partition: int, at: int, end: int, seen: Seen, newest: deque[Record]) -> int:
        """Read a partition up to ``end``; returns where to go on."""
        if self._counted and end - at > READ:
            seen.passed += end - READ - at
            seen.unread += end - READ - at
            at = end - READ
        read = 0
        while at < end and read < READ:
            try:
                page = await self._log.read(topic, partition, at, max_records=PAGE)
            except FigError as error:
                if error.code != "position_expired":
                    raise
                at = int(error.context["first"])  # retention was faster
                continue
            if not page:
                break
            at = page[-1].position + 1
            read += len(page)
            seen.passed += len(page)
            found = [record for record in page if self._asked.takes(record)]
            seen.matched += len(found)
            newest.extend(found)
        return at
