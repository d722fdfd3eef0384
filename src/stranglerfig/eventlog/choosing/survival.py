"""Is what was acknowledged still there after the server was killed? Tried on a server that is ours to kill.

A killed process is not a power cut: what the server had handed to the operating system survives it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from stranglerfig.eventlog.choosing.measure import Producer, Say, everything, together
from stranglerfig.eventlog.choosing.model import Outcome, Trial
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError

KILLS: Final = 3
_PRODUCERS, _BATCH, _ENOUGH = 4, 10, 500
_PATIENCE: Final = 20.0


async def survives(
    open_log: Callable[[], EventLog],
    *,
    kill: Callable[[], None],
    start: Callable[[], None],
    size: int,
    say: Say,
) -> Trial:
    """Append, kill -9 the server meanwhile, start it, look for what it had acknowledged; :data:`KILLS` times.

    Args:
        open_log: a new client of the log, whose server is ours alone and runs.
        kill, start: kill -9 of the server, and its start with what it had on disk.
        size: bytes of data per event.
    """
    topic = "fig-choose-killed"
    acknowledged: set[str] = set()
    log = open_log()
    try:
        await log.migrate()
        await log.create_topic(topic)
        for number in range(KILLS):
            say(f"kill -9 during appends, {number + 1} of {KILLS}")
            await _killed_meanwhile(log, topic, acknowledged, kill, Producer(size))
            await log.close()
            start()
            log = open_log()
        records = await everything(log, topic, expected=len(acknowledged))
    finally:
        await log.close()
    return judged(acknowledged, Counter(record.event.id for record in records), KILLS)


async def _killed_meanwhile(
    log: EventLog, topic: str, acknowledged: set[str], kill: Callable[[], None], source: Producer
) -> None:
    before = len(acknowledged)
    killed = False

    async def produce() -> None:
        while True:
            events = source.events(_BATCH)
            try:
                await log.append(topic, events)
            except FigError:
                if killed:
                    return
                raise
            acknowledged.update(event.id for event in events)

    async def end() -> None:
        nonlocal killed

        async def enough() -> bool:
            return len(acknowledged) - before >= _ENOUGH

        await clock.until(enough, timeout=_PATIENCE, what="appends to be acknowledged")
        killed = True
        # In a thread: appends are under way while the signal arrives.
        await asyncio.to_thread(kill)

    await together(end(), *(produce() for _ in range(_PRODUCERS)))


def judged(acknowledged: set[str], found: Counter[str], kills: int) -> Trial:
    """What a log that was killed had kept, against what it had acknowledged."""
    lost = len(acknowledged - found.keys())
    doubled = sum(count - 1 for count in found.values())
    if lost or doubled:
        return Trial(
            Outcome.BROKEN,
            f"after {kills} times kill -9, {lost:,} of {len(acknowledged):,} acknowledged events are lost, "
            f"{doubled:,} doubled",
        )
    unanswered = len(found) - len(acknowledged)
    more = f", and {unanswered:,} whose answer was lost" if unanswered else ""
    return Trial(
        Outcome.HELD, f"{kills} times kill -9 during appends: all {len(acknowledged):,} acknowledged events there{more}"
    )
