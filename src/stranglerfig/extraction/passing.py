"""What passes through the façade, and to whom: its access log added up in the control database, each line once; and
the messages that the router gave the monolith.

How far it was read is kept in the commit that keeps what was read, so that a controller that dies costs no line.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stranglerfig.extraction.parts import Parts
from stranglerfig.facade.accesslog import AccessLog, Observation, Place, rotated
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError

EVERY = 1.0
"""Seconds between two looks."""
KEPT = timedelta(days=90)
SHAPES = 500
"""Kinds of request that are told apart in one hour: paths are chosen by clients."""
OTHERS = "…"
MESSAGE = "message"
"""What stands in place of a method where a message was passed by its type."""
_NAMES_ONE = re.compile(r"(?<=/)(\d[^/]*|[0-9a-fA-F-]{8,}|[^/]{48,})(?=/|$)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

Shape = tuple[datetime, str, str, str, str]
"""The hour; ``monolith``, ``service`` or ``facade``; the route's name; method; path."""


def shape(line: Observation) -> Shape:
    """What kind of request a line is. Paths are of interest where somebody must find out who asks: not a service's."""
    hour = datetime.fromtimestamp(line.time, UTC).replace(minute=0, second=0, microsecond=0)
    if line.side == "service":
        return hour, "service", line.route, "", ""
    return hour, line.side or "facade", line.route, _plain(line.method)[:16], folded(line.path)


def folded(path: str) -> str:
    """A path without query and without what names one thing: ``/orders/4711`` is ``/orders/{}``."""
    return _NAMES_ONE.sub("{}", _plain(path.partition("?")[0]))[:200]


def _plain(text: str) -> str:
    return _UNPRINTABLE.sub("·", text)


@dataclass(slots=True)
class Tally:
    """Counts of shapes, each with the end of its last request (seconds since 1970)."""

    counts: dict[Shape, tuple[int, float]]
    first: float | None = None

    @classmethod
    def of(cls, lines: Iterable[Observation], known: set[Shape]) -> Tally:
        """Count ``lines``; ``known`` are the shapes of earlier ones, and is added to."""
        counts: dict[Shape, tuple[int, float]] = {}
        first: float | None = None
        for line in lines:
            ended = line.time + (line.duration_us or 0) / 1e6
            first = line.time if first is None else min(first, line.time)
            found = shape(line)
            if found not in known:
                if sum(each[0] == found[0] for each in known) >= SHAPES:
                    found = (*found[:4], OTHERS) if found[1] != "service" else found
                known.add(found)
            number, last = counts.get(found, (0, 0.0))
            counts[found] = number + 1, max(last, ended)
        return cls(counts, first)


@dataclass(frozen=True, slots=True)
class Messages:
    """What one life of the router gave the monolith so far.

    Attributes:
        since: when it began (seconds since 1970).
        passed: by queue and type: how many, and when the last one was.
    """

    since: float
    passed: dict[tuple[str, str], tuple[int, float]]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Messages:
        """From what the router says of itself."""
        return cls(
            state["since"],
            {
                (each["queue"], _plain(kind)): (times, last)
                for each in state["queues"]
                for kind, (times, last) in each["passed"].items()
            },
        )

    def kept(self) -> str:
        """As it is kept in the control database, as JSON."""
        return json.dumps({"since": self.since, "times": [[*key, times] for key, (times, _) in self.passed.items()]})

    def beyond(self, kept: Mapping[str, Any] | None) -> tuple[dict[Shape, tuple[int, float]], bool]:
        """What came since, and whether that is all: an earlier life of the router may have counted more in the end."""
        same = kept is not None and kept["since"] == self.since
        before = {(queue, kind): times for queue, kind, times in kept["times"]} if kept is not None and same else {}
        found: dict[Shape, tuple[int, float]] = {}
        for (queue, kind), (times, last) in self.passed.items():
            if (more := times - before.get((queue, kind), 0)) > 0:
                hour = datetime.fromtimestamp(last, UTC).replace(minute=0, second=0, microsecond=0)
                found[hour, "monolith", queue, MESSAGE, kind] = more, last
        return found, same


class Passing:
    """Adds up for the leading controller."""

    def __init__(self, parts: Parts) -> None:
        self._file = parts.envoy.access_log
        self._router = parts.router
        self._dsn = parts.control_dsn

    async def follow(self) -> None:
        """Read on every second until cancelled."""
        async with postgres.session(self._dsn, what="passing") as conn:
            log, known = await self._begin(conn), await self._known(conn)
            while True:
                await self._look(conn, log, known)
                await asyncio.sleep(EVERY)

    async def _begin(self, conn: postgres.Connection) -> AccessLog:
        row = await postgres.one(conn, "SELECT inode, read_to FROM fig.passing")
        place = None if row is None or row[0] is None else Place(int(row[0]), row[1])
        return AccessLog(self._file, place if await asyncio.to_thread(goes_on, self._file, place) else None)

    async def _known(self, conn: postgres.Connection) -> set[Shape]:
        rows = await postgres.fetch(
            conn,
            "SELECT hour, side, route, method, path FROM fig.passed"
            " WHERE hour >= date_trunc('hour', clock_timestamp())",
        )
        return {(hour.astimezone(UTC), side, route, method, path) for hour, side, route, method, path in rows}

    async def _look(self, conn: postgres.Connection, log: AccessLog, known: set[Shape]) -> None:
        begun = clock.now()
        unbroken = await asyncio.to_thread(goes_on, self._file, log.place)
        found = await asyncio.to_thread(lambda: Tally.of(log.read(), known))
        newest = max((each[0] for each in known), default=None)
        known.difference_update([each for each in known if newest is not None and each[0] < newest])
        since = begun if found.first is None else min(begun, datetime.fromtimestamp(found.first, UTC))
        place = log.place
        messages, answered = await self._messages()
        async with conn.transaction():
            if messages is not None:
                kept = await postgres.one(conn, "SELECT messages FROM fig.passing")
                more, same = messages.beyond(kept[0] if kept else None)
                found.counts.update(more)
                unbroken, since = unbroken and same, since if same else begun
            await self._add(conn, found)
            await conn.execute(
                "INSERT INTO fig.passing AS passing (since, until, inode, read_to, messages)"
                " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (one) DO UPDATE SET"
                " inode = excluded.inode, read_to = excluded.read_to,"
                " messages = CASE WHEN %s THEN excluded.messages ELSE passing.messages END,"
                " until = CASE WHEN %s THEN excluded.until ELSE passing.until END,"
                # Where what was between is not known, time begins anew: from here on, nothing is missed.
                " since = CASE WHEN %s THEN passing.since ELSE excluded.since END",
                (
                    *(since, begun, None if place is None else place.inode, 0 if place is None else place.offset),
                    *(None if messages is None else messages.kept(), answered, answered, unbroken),
                ),
            )

    async def _messages(self) -> tuple[Messages | None, bool]:
        """What the router counts, and whether all is known that there is to know: none is needed without queues."""
        if self._router is None:
            return None, True
        with suppress(FigError):
            return Messages.of(await self._router.state()), True
        return None, False

    async def _add(self, conn: postgres.Connection, found: Tally) -> None:
        if not found.counts:
            return
        rows = [
            (*key, number, datetime.fromtimestamp(last, UTC)) for key, (number, last) in sorted(found.counts.items())
        ]
        await conn.execute(
            "INSERT INTO fig.passed AS passed SELECT * FROM unnest(%s::timestamptz[], %s::text[], %s::text[],"
            " %s::text[], %s::text[], %s::bigint[], %s::timestamptz[])"
            " ON CONFLICT (hour, side, route, method, path) DO UPDATE SET"
            " requests = passed.requests + excluded.requests, last_at = greatest(passed.last_at, excluded.last_at)",
            [list(column) for column in zip(*rows, strict=True)],
        )
        await conn.execute("DELETE FROM fig.passed WHERE hour < %s", (clock.now() - KEPT,))


def goes_on(file: Path, place: Place | None) -> bool:
    """Whether the log can be read on from ``place``, so that no line between is missed."""
    for path in (file, rotated(file)):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        if place is not None and found.st_ino == place.inode and found.st_size >= place.offset:
            return True
    return False
