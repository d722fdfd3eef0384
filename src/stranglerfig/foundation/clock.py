"""Time, read in one place, so that a test can hold it and nothing else asks the machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from stranglerfig.foundation.errors import FigError

T = TypeVar("T")


def now() -> datetime:
    """The wall clock, in UTC, aware."""
    return datetime.now(UTC)  # noqa: TID251  the one place


def epoch() -> float:
    """Seconds since 1970, wall clock: comparable between processes of one machine."""
    return time.time()


def monotonic() -> float:
    """Seconds on a clock that never goes back; comparable within one process only."""
    return time.monotonic()


async def until(
    condition: Callable[[], Awaitable[T]],
    *,
    timeout: float,
    what: str,
    every: float = 0.02,
    at_most: float = 0.5,
) -> T:
    """Wait until ``condition`` answers something true, and return it.

    Polls with a pause that grows from ``every`` to ``at_most`` seconds.

    Raises:
        FigError: ``timed_out`` after ``timeout`` seconds; ``what`` says what was waited for.
    """
    deadline = monotonic() + timeout
    pause = every
    while True:
        if value := await condition():
            return value
        if monotonic() >= deadline:
            raise FigError("timed_out", f"waited {timeout:g} s for {what}, in vain", what=what, seconds=timeout)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, at_most)


async def signalled(event: asyncio.Event, *, timeout: float) -> bool:
    """Wait for ``event`` for at most ``timeout`` seconds; whether it was set.

    Not ``asyncio.wait_for``: in Python 3.11 it answers instead of being cancelled when both fall together, and whoever
    asked its task to end waits for ever (CPython issue 86296).
    """
    try:
        async with asyncio.timeout(timeout):
            return await event.wait()
    except TimeoutError:
        return False


def block(seconds: float) -> None:
    """Sleep in a thread that has no event loop, between two looks at a condition with a deadline."""
    time.sleep(seconds)  # noqa: TID251  the one place
