"""What is costly to read is read once for all who ask at about the same time."""

from __future__ import annotations

import asyncio

import pytest

from stranglerfig.console.slowly import Slowly


class Source:
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.read = 0
        self.broken = False

    async def __call__(self) -> int:
        self.read += 1
        await asyncio.sleep(0)
        if self.broken:
            raise ValueError("broken")
        return self.read


async def test_it_is_read_once_for_all_who_ask_meanwhile() -> None:
    source = Source()
    slowly = Slowly(source, every=3600)
    assert await asyncio.gather(*(slowly() for _ in range(5))) == [1] * 5
    assert await slowly() == 1
    slowly.forget()
    assert await slowly() == 2


async def test_it_is_read_again_when_it_is_old() -> None:
    slowly = Slowly(Source(), every=0)
    assert [await slowly(), await slowly()] == [1, 2]


async def test_what_failed_is_tried_again() -> None:
    source = Source()
    slowly = Slowly(source, every=3600)
    source.broken = True
    with pytest.raises(ValueError, match="broken"):
        await slowly()
    source.broken = False
    assert await slowly() == 2
