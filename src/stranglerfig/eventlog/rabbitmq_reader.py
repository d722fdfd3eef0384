"""Reading one stream: a subscription that stays where it was read last, its chunks cut into records."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from rstream.constants import OffsetType

from stranglerfig.eventlog import model
from stranglerfig.eventlog.model import Record
from stranglerfig.eventlog.rabbitmq_cluster import Cluster
from stranglerfig.eventlog.rabbitmq_message import decode
from stranglerfig.eventlog.rabbitmq_wire import Chunk, Seat
from stranglerfig.foundation import clock, tasks

_AHEAD: Final = 8_000_000
"""Bytes that are asked for before they are read."""
_FIRST_CREDIT: Final = 16
_MOST_CREDIT: Final = 64


class Reader:
    """A subscription to a partition.

    Args:
        arrived: called when there is something to read.
    """

    def __init__(
        self, cluster: Cluster, stream: str, topic: str, partition: int, arrived: Callable[[], None] = lambda: None
    ) -> None:
        self._cluster = cluster
        self.stream = stream
        self._topic = topic
        self._partition = partition
        self._tell = arrived
        self._reading = asyncio.Lock()
        self._seat: Seat | None = None
        self._next = -1
        self._chunks: deque[Chunk] = deque()
        self._bytes = 0
        self._asked = 0
        self._came = 0
        self._window = _MOST_CREDIT
        self._woken = asyncio.Event()
        self._error: Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether somebody reads."""
        return self._reading.locked()

    async def read(
        self, position: int, *, max_records: int, max_bytes: int, wait: float, settled: bool = True
    ) -> list[Record]:
        """As the port's ``read``.

        Args:
            settled: what is in the stream by now is seen even without waiting; else only what has arrived by itself.

        Raises:
            Lost, Refused: see there.
            FigError: ``position_expired``.
        """
        async with self._reading:
            fresh = position != self._next or self._seat is None
            if fresh:
                await self._begin(position)
            if settled and not self._chunks and (fresh or wait <= 0) and (seat := self._seat) is not None:
                await self._settle(seat, max_records)
            deadline = clock.monotonic() + wait
            while not (page := await self._page(position, max_records, max_bytes)):
                if self._error is not None:
                    raise self._error
                self._woken.clear()
                left = deadline - clock.monotonic()
                if left <= 0 or not await clock.signalled(self._woken, timeout=left):
                    return []
            self._next = page[-1].position + 1
            return page

    async def _settle(self, seat: Seat, enough: int) -> None:
        """Return when all that is in the stream has come, or as much as is wanted or asked for ahead.

        One append may be as many chunks as it has events, and come in parts when there are fewer credits.
        """
        while self._seat is seat and self._bytes < _AHEAD // 2:
            asked = self._asked
            seat.credit(0)  # makes the server look
            await seat.wire.fence()
            if self._came < asked or sum(len(chunk.messages) for chunk in self._chunks) >= enough:
                return

    async def _begin(self, position: int) -> None:
        await self.close()
        self._error = None
        seat = await self._cluster.seat(self.stream, "read", self._arrived, self._ended)
        self._seat, self._asked, self._came = seat, _FIRST_CREDIT, 0
        try:
            await seat.subscribe(OffsetType.OFFSET, position, _FIRST_CREDIT)
        except BaseException:
            await self.close()
            raise
        self._next = position

    def _arrived(self, chunk: Chunk) -> None:
        size = sum(map(len, chunk.messages))
        self._chunks.append(chunk)
        self._bytes += size
        self._came += 1
        self._window = max(2, min(_MOST_CREDIT, _AHEAD // max(size, 1)))
        self._ask()
        self._woken.set()
        self._tell()

    def _ask(self) -> None:
        """Let more chunks come while what has come is little."""
        more = self._window - (self._asked - self._came)
        if self._seat is not None and self._bytes < _AHEAD // 2 and more > self._window // 2:
            self._seat.credit(more)
            self._asked += more

    def _ended(self, error: Exception) -> None:
        if (seat := self._seat) is not None:
            self._seat = None
            tasks.spawn(seat.leave(), name=f"leave {self.stream}")
        self._cluster.forget(self.stream)
        self._error = error
        self._woken.set()
        self._tell()

    async def _page(self, position: int, max_records: int, max_bytes: int) -> list[Record]:
        """Records from ``position`` on, out of what has arrived."""
        page: list[Record] = []
        size = 0
        while self._chunks and len(page) < max_records and (size < max_bytes or not page):
            chunk = self._chunks[0]
            if chunk.first > position and not page:
                await self._check_kept(position, chunk.first)
            at = datetime.fromtimestamp(chunk.milliseconds / 1000, UTC)
            # A chunk is delivered whole, also to whoever begins in its middle.
            for number in range(max(0, position - chunk.first), len(chunk.messages)):
                if len(page) >= max_records or (page and size >= max_bytes):
                    return page
                offset = chunk.first + number
                event = decode(chunk.messages[number], (self._topic, self._partition, offset), at)
                page.append(Record(self._topic, self._partition, offset, event, at))
                size += len(event.data)
                position = offset + 1
            self._chunks.popleft()
            self._bytes -= sum(map(len, chunk.messages))
            self._ask()
        return page

    async def _check_kept(self, position: int, found: int) -> None:
        """Refuse a position that retention has passed; the server silently begins at the first that it has.

        Not every gap is one: offsets that other clients keep in the stream, for their own groups, take some too.
        """
        first = await self._cluster.probe(self.stream, OffsetType.FIRST)
        if first and first[0].first >= found:
            await self.close()
            raise model.position_expired(self._topic, self._partition, position, first[0].first)

    async def close(self) -> None:
        """Give the place on the connection back."""
        seat, self._seat = self._seat, None
        self._next = -1
        self._chunks.clear()
        self._bytes = 0
        if seat is not None:
            await seat.leave()
