"""A member of a group in a process of its own, to be killed: takes some, commits the second record, and waits."""

from __future__ import annotations

import asyncio
import sys

from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.model import Record


async def main(url: str, state: str, topic: str, group: str) -> None:
    log = open_log(url, state=state)
    subscription = await log.subscribe([topic], group, lease=3.0)
    taken: list[Record] = []
    async for batch in subscription.batches():
        taken += batch
        if len(taken) < 2:
            continue
        await subscription.commit(taken[1])
        print(*(record.event.data.decode() for record in taken), flush=True)
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
