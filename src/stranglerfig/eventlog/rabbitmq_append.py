"""Appending to one stream: an append is answered when its messages are read back.

RabbitMQ confirms a message by the number that its publisher gave it and does not say at which offset it is, and the
port returns positions. So whoever appends follows the end of the stream as a subscriber: what the server delivers is
committed by as many replicas as a confirm stands for, and says where it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from rstream.constants import OffsetType

from stranglerfig.eventlog.rabbitmq_cluster import Cluster
from stranglerfig.eventlog.rabbitmq_wire import Chunk, Lost, Refused, Seat, TooLarge
from stranglerfig.foundation import clock, tasks

_WINDOW: Final = 16
"""Chunks that may be on their way to us."""
PATIENCE: Final = 30.0
"""Seconds until messages that are not read back mean that the server is away."""


class _Batch:
    """Messages of one append, as far as they were read back."""

    def __init__(self, count: int) -> None:
        self.positions: list[int] = []
        self.count = count
        self.done = asyncio.Event()
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done.set()


class Appender:
    """Appends to one stream, several batches at once and in order."""

    def __init__(self, cluster: Cluster, stream: str) -> None:
        self._cluster = cluster
        self.stream = stream
        self._seat: Seat | None = None
        self._opening = asyncio.Lock()
        self._credit = 0
        self._pending: deque[tuple[bytes, _Batch]] = deque()

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        return bool(self._pending) or self._opening.locked()

    async def append(self, messages: Sequence[bytes]) -> list[int]:
        """The offsets of ``messages``, once they are committed.

        Raises:
            Lost: whether they are in is not known.
            Refused: the stream is not there, or the server does not take a message.
            TooLarge: for a frame; nothing is sent.
        """
        batch = _Batch(len(messages))
        async with self._opening:
            seat = await self._ready()
            for message in messages:
                if len(message) > seat.wire.largest:
                    raise TooLarge(len(message), seat.wire.largest)
            seat.publish(messages)
            self._pending.extend([(message, batch) for message in messages])
            await seat.wire.drain()
        if not await clock.signalled(batch.done, timeout=PATIENCE):
            self._ended(Lost(f"messages were not read back within {PATIENCE:g} s"))
        if batch.error is not None:
            raise batch.error
        return batch.positions

    async def _ready(self) -> Seat:
        """A publisher, and a subscription that is at the end of the stream."""
        if self._seat is None:
            seat = await self._cluster.seat(self.stream, "append", self._arrived, self._ended)
            try:
                await seat.declare_publisher()
                await self._follow(seat)
            except BaseException:
                await seat.leave()
                raise
            self._seat = seat
        elif not self._credit:
            # Others' messages used the credit up while we had none of our own: go to the end without reading them.
            await self._seat.unsubscribe()
            await self._follow(self._seat)
        if self._seat is None:
            raise Lost("the stream went away")
        return self._seat

    async def _follow(self, seat: Seat) -> None:
        self._credit = _WINDOW
        await seat.subscribe(OffsetType.NEXT, None, _WINDOW)

    def _arrived(self, chunk: Chunk) -> None:
        """Find ours among what came: they come in the order in which they were sent.

        Equal bytes of another's (a repeated append) may be taken for ours: they are the same event, at that place.
        """
        self._credit -= 1
        pending = self._pending
        ours = bool(pending)
        for number, message in enumerate(chunk.messages):
            if not pending:
                break
            if message == pending[0][0]:
                batch = pending.popleft()[1]
                batch.positions.append(chunk.first + number)
                if len(batch.positions) == batch.count:
                    batch.done.set()
        if ours and self._seat is not None and self._credit <= _WINDOW // 2:
            self._seat.credit(_WINDOW - self._credit)
            self._credit = _WINDOW

    def _ended(self, error: Exception) -> None:
        """Nothing comes any more: what is on its way may be in or not."""
        if (seat := self._seat) is not None:
            self._seat = None
            tasks.spawn(seat.leave(), name=f"leave {self.stream}")
        self._cluster.forget(self.stream)
        pending, self._pending = self._pending, deque()
        for _, batch in pending:
            batch.fail(error if isinstance(error, Lost | Refused) else Lost(str(error)))

    async def close(self) -> None:
        """Give the place on the connection back."""
        seat, self._seat = self._seat, None
        self._ended(Lost("closed"))
        if seat is not None:
            await seat.leave()
