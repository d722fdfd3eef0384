"""Reading on while what came before is in hand, so that who is behind has more at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from stranglerfig.eventlog.model import Record
from stranglerfig.foundation import tasks

MOST: Final = 10_000
"""Records that are held at a time, about."""
MOST_BYTES: Final = 8_000_000
"""And the bytes of their data."""


async def ahead(batches: AsyncIterator[list[Record]], *, name: str) -> AsyncGenerator[list[Record], None]:
    """A subscription's batches; those of a partition that come while another one is in hand are one.

    What is read ahead is not committed: should the partition pass to another member meanwhile, both have it; should it
    come back, what had been read comes again, also within a batch. So this is for who keeps a position with what it
    writes, and holds each record against it.

    Args:
        name: of the task that reads.
    """
    waiting: dict[tuple[str, int], list[Record]] = {}
    held, size = 0, 0
    come, room = asyncio.Event(), asyncio.Event()
    failure: BaseException | None = None

    async def read() -> None:
        nonlocal held, size, failure
        try:
            async for batch in batches:
                waiting.setdefault((batch[0].topic, batch[0].partition), []).extend(batch)
                held += len(batch)
                size += _size(batch)
                come.set()
                while held >= MOST or size >= MOST_BYTES:
                    room.clear()
                    await room.wait()
        except Exception as error:  # noqa: BLE001  it is raised where the batches are taken
            failure = error

    reading = tasks.spawn(read(), name=name)
    reading.add_done_callback(lambda _: come.set())
    try:
        while True:
            await come.wait()
            if waiting:
                records = waiting.pop(next(iter(waiting)))
                held -= len(records)
                size -= _size(records)
                room.set()
                yield records
            elif reading.done():
                if failure is not None:
                    raise failure
                return
            else:
                come.clear()
    finally:
        await tasks.stop(reading)


def _size(records: list[Record]) -> int:
    return sum(len(record.event.data) for record in records)
