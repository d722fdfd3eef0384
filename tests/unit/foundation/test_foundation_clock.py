"""Waiting with a limit: for an event, and for a condition."""

from __future__ import annotations

import asyncio

import pytest

from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError


async def test_an_event_is_waited_for_at_most_so_long() -> None:
    event = asyncio.Event()
    assert not await clock.signalled(event, timeout=0.01)
    event.set()
    assert await clock.signalled(event, timeout=60)


async def test_a_cancellation_in_the_moment_of_the_event_is_a_cancellation() -> None:
    """What ``asyncio.wait_for`` of Python 3.11 swallows: its task then never ends."""
    event = asyncio.Event()

    async def forever() -> None:
        while True:
            await clock.signalled(event, timeout=60)
            event.clear()

    task = asyncio.ensure_future(forever())
    await asyncio.sleep(0.01)
    event.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_condition_that_is_never_met_ends_with_what_was_waited_for() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(FigError, match="the rain") as caught:
        await clock.until(never, timeout=0.05, what="the rain", every=0.01)
    assert caught.value.code == "timed_out"
