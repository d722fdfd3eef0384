"""A member of a group in a process of its own, to be killed: takes a batch, commits its second record, and waits."""

from __future__ import annotations

import asyncio
import sys

from stranglerfig.eventlog import open_log


async def main(url: str, state: str, topic: str, group: str) -> None:
    log = open_log(url, state=state)
    subscription = await log.subscribe([topic], group, lease=1.0)
    async for batch in subscription.batches():
        await subscription.commit(batch[1])
        print(*(record.event.data.decode() for record in batch), flush=True)
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
