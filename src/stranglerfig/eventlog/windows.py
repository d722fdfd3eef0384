"""A part of a topic: between positions or times, and of that the events that somebody asks for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from stranglerfig.eventlog.model import Event, Record, Topic
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.jsonpath import JsonPath, compile_path

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Window:
    """From ``position`` or ``since`` on (else from the first that is kept), up to ``until`` or what is there now.

    Times are those of the append, aware; ``until`` itself is outside.
    """

    position: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    async def begin(self, log: EventLog, topic: str, partition: int) -> int:
        """The log position at which it begins."""
        if self.position is not None:
            return self.position
        # Not 0: retention may have given it up.
        return await log.position_at(topic, partition, self.since or BEGINNING)

    async def pages(self, log: EventLog, topic: Topic) -> AsyncIterator[list[Record]]:
        """Its records, partition by partition; those that are appended meanwhile are not among them.

        Raises:
            FigError: ``position_expired`` when retention has given up where it begins.
        """
        for partition, end in enumerate(topic.next_positions):
            if self.until is not None:
                end = min(end, await log.position_at(topic.name, partition, self.until))
            async for page in _pages(log, topic.name, partition, await self.begin(log, topic.name, partition), end):
                yield page


async def _pages(log: EventLog, topic: str, partition: int, here: int, end: int) -> AsyncIterator[list[Record]]:
    while here < end:
        records = await log.read(topic, partition, here, max_records=PAGE)
        if not records:
            return
        if within := [record for record in records if record.position < end]:
            yield within
        here = records[-1].position + 1


async def tailed(log: EventLog, topic: Topic, window: Window, *, last: int, follow: bool) -> AsyncIterator[Record]:
    """The window's records, or where it has no begin the ``last`` ones of each partition; then those that come.

    Following ends when ``window.until`` has passed, else never. Positions need not be dense: ``last`` counts them.
    """
    at = [await window.begin(log, topic.name, partition) for partition in range(topic.partitions)]
    if window.position is None and window.since is None:
        at = [max(first, end - last) for first, end in zip(at, topic.next_positions, strict=True)]
    for partition, end in enumerate(topic.next_positions):
        if window.until is not None:
            end = min(end, await log.position_at(topic.name, partition, window.until))
        async for page in _pages(log, topic.name, partition, at[partition], end):
            at[partition] = page[-1].position + 1
            for record in page:
                yield record
    going = set(range(topic.partitions)) if follow else set[int]()
    while going:
        late = window.until is not None and clock.now() >= window.until
        for partition in sorted(going):
            # Only one partition waits long; of several each is looked at in turn.
            wait = 0.0 if late else 1.0 if len(at) == 1 else 0.2
            records = await log.read(topic.name, partition, at[partition], wait=wait)
            if late and not records:
                going.discard(partition)
            for record in records:
                if window.until is not None and record.appended_at >= window.until:
                    going.discard(partition)
                    break
                at[partition] = record.position + 1
                yield record


@dataclass(frozen=True, slots=True)
class Where:
    """That a document has a value at a place: ``item_id=7``, ``$.lines[*].sku=A-1``."""

    path: JsonPath
    text: str

    def holds(self, document: Any) -> bool:
        """Whether a value at the path is the wanted one: ``7`` is the number and the text, ``"7"`` the text."""
        return any(_is(value, self.text) for value in self.path.values(document))


def _is(value: Any, text: str) -> bool:
    if isinstance(value, str) and value == text:
        return True
    try:
        wanted = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    # True is 1 in Python, and in no JSON.
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def where(text: str) -> Where:
    """Read ``path=value``; a path that does not begin with ``$`` begins there.

    Raises:
        FigError: ``usage``.
    """
    path, equals, value = text.partition("=")
    try:
        if not (path and equals):
            raise ValueError("there is no '=' in it" if path else "it names no place")
        return Where(compile_path(path if path.startswith("$") else f"$.{path}"), value)
    except ValueError as error:
        raise FigError("usage", f"'{text}' is no condition: {error}", "Write it as --where item_id=7.") from error


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are asked for: each list has alternatives (``*`` is anything), an empty one asks nothing."""

    types: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    wheres: tuple[Where, ...] = ()

    def takes(self, event: Event) -> bool:
        """Whether the event's attributes are as asked."""
        return (
            _among(event.type, self.types)
            and _among(event.partitionkey, self.keys)
            and _among(event.subject, self.subjects)
            and _among(event.source, self.sources)
        )

    def holds(self, document: Any) -> bool:
        """Whether the decoded data meets every condition."""
        return all(one.holds(document) for one in self.wheres)


def _among(value: str | None, patterns: Iterable[str]) -> bool:
    patterns = tuple(patterns)
    return not patterns or (value is not None and any(_pattern(one).fullmatch(value) for one in patterns))


@lru_cache(maxsize=256)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)
