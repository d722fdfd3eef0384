"""Waiting at a barrier: the first partition for all others at its opening, the others for the first at its closing.

Who has come how far stands where each partition keeps its own position, in the same commit as what it did: whoever
dies is found there again, and whoever waits need not be told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from stranglerfig.changes.model import Barrier, SourcePosition
from stranglerfig.foundation import clock

_EVERY, _AT_MOST = 0.002, 0.05


class Place(NamedTuple):
    """How far a partition is; ``position`` counts within the snapshot's ``generation`` and after it."""

    generation: int
    position: SourcePosition


Places = Callable[[], Awaitable[Mapping[int, Place]]]
"""Asks for the place of each partition that has one."""


def gathered(barrier: Barrier, places: Mapping[int, Place]) -> bool:
    """Whether all but the first partition have come to ``barrier``."""
    return all(
        (place := places.get(number)) is not None and barrier.reached(*place) for number in range(1, barrier.partitions)
    )


def released(barrier: Barrier, places: Mapping[int, Place]) -> bool:
    """Whether the first partition is past what ``barrier`` closes."""
    return (first := places.get(0)) is not None and barrier.reached(*first)


async def passed(barrier: Barrier, partition: int, places: Places) -> bool:
    """Wait until ``partition`` may go past ``barrier``; whether it stands there then, and has to remember so.

    The first one does not stand at an opening: what it is about follows, and whoever dies meanwhile waits here again.
    """
    if partition == 0 and not barrier.closes:
        await await_others(barrier, places)
        return False
    if partition and barrier.closes:
        await await_first(barrier, places)
    return True


async def await_others(barrier: Barrier, places: Places) -> None:
    """Return when the first partition may go past an opening. For as long as it takes: one may wait for a person."""

    async def here() -> bool:
        return gathered(barrier, await places())

    await clock.until(here, timeout=float("inf"), what="the other partitions", every=_EVERY, at_most=_AT_MOST)


async def await_first(barrier: Barrier, places: Places) -> None:
    """Return when a partition other than the first may go past a closing."""

    async def past() -> bool:
        return released(barrier, await places())

    await clock.until(past, timeout=float("inf"), what="the first partition", every=_EVERY, at_most=_AT_MOST)
