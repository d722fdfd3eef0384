"""What is costly to read is read now and then, for all who look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from stranglerfig.foundation import clock

T = TypeVar("T")


class Slowly(Generic[T]):
    """Answers with what was read at most ``every`` seconds ago; who asks while it is being read waits for that."""

    def __init__(self, read: Callable[[], Awaitable[T]], *, every: float) -> None:
        self._read = read
        self._every = every
        self._held: tuple[float, T] | None = None
        self._lock = asyncio.Lock()

    async def __call__(self) -> T:
        """What there is.

        Raises:
            what reading raises; it is tried again by whoever asks next.
        """
        async with self._lock:
            if self._held is None or clock.monotonic() - self._held[0] >= self._every:
                found = await self._read()
                self._held = clock.monotonic(), found
            return self._held[1]

    def forget(self) -> None:
        """Something was changed: what is asked next is read."""
        self._held = None
