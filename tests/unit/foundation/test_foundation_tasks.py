"""Tasks that are begun again when they fail, and end when they are to."""

from __future__ import annotations

import asyncio

import pytest

from stranglerfig.foundation import tasks


async def test_work_that_fails_is_begun_again_and_its_end_is_the_end() -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise ValueError(begun)

    told: list[str] = []

    async def failed(error: Exception) -> None:
        told.append(str(error))

    await tasks.supervise(work, name="work", first=0.001, failed=failed)
    assert (begun, told) == (3, ["1", "2"])


async def test_work_that_fails_while_it_is_ended_is_not_begun_again() -> None:
    waiting = asyncio.Event()
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the session was in the middle of something") from None

    task = tasks.spawn(tasks.supervise(work, name="work", first=0.001), name="work")
    await waiting.wait()
    async with asyncio.timeout(5):
        await tasks.stop(task)
    assert begun == 1 and task.cancelled()


async def test_what_is_spawned_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert await tasks.spawn(work(), name="work") == 7
    with pytest.raises(ZeroDivisionError):
        await tasks.spawn(_fails(), name="fails")


async def _fails() -> None:
    raise ZeroDivisionError
