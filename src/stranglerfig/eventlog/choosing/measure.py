"""Measures a log through the port alone, in topics of its own that are gone afterwards.

Everything is seen from one client process: its own work is part of every figure, for each candidate alike.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from stranglerfig.eventlog.choosing import model
from stranglerfig.eventlog.choosing.model import Ask, Latency, Measured, Outcome, Throughput, Trial
from stranglerfig.eventlog.model import Capability, Event, Record
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.eventlog.windows import BEGINNING
from stranglerfig.foundation import clock, ids, tasks
from stranglerfig.foundation.errors import FigError

PREFIX: Final = "fig-choose-"
PARTITIONS: Final = 4
BATCHES: Final = ((1, 16), (1000, 4))
"""Events per append, and how many producers append at once."""
MOST_BYTES: Final = 256_000_000
"""What one phase may write: a candidate is not to be filled."""
_KEYS, _ORDERING, _ROUNDS = 64, 8, 50
_GRACE: Final = 5.0
_PATIENCE: Final = 30.0
_LAST: Final = 0.05
"""Seconds for what was due at the very end."""

Say = Callable[[str], None]
"""Is told what is done now."""


class Producer:
    """Events of the asked size: data that does not compress, each with its number at the end of its id."""

    def __init__(self, size: int, *, different: int = 16) -> None:
        self.run = ids.new_id()
        self._numbers = itertools.count()
        self._data = [_filled(size) for _ in range(different)]
        self._time = clock.now()

    def events(self, count: int) -> list[Event]:
        """New events, over all keys in turn."""
        return [self.event(number, f"k{number % _KEYS}") for number in itertools.islice(self._numbers, count)]

    def event(self, number: int, key: str, what: str = "n") -> Event:
        """One event."""
        data = self._data[number % len(self._data)]
        return Event(f"{self.run}-{what}-{number}", "/fig/choose", "fig.Chosen", self._time, data, partitionkey=key)


def _filled(size: int) -> bytes:
    """A JSON string of ``size`` bytes."""
    return b'"' + base64.b64encode(os.urandom(size))[: max(0, size - 2)] + b'"'


def number_of(event: Event) -> int:
    """The number that :class:`Producer` gave it."""
    return int(event.id.rpartition("-")[2])


@asynccontextmanager
async def scratch(log: EventLog, what: str, partitions: int = PARTITIONS) -> AsyncIterator[str]:
    """A topic for the length of a block."""
    name = f"{PREFIX}{what}-{ids.nonce()[:8]}"
    # Whoever is cancelled meanwhile must not leave it behind: it is made in any case, then deleted.
    making = tasks.spawn(log.create_topic(name, partitions=partitions), name=f"create {name}")
    try:
        await asyncio.shield(making)
        yield name
    finally:
        await asyncio.wait([making])
        with suppress(FigError):  # gone or unreachable: what it was made for has said so
            await log.delete_topic(name)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Run all at once; the first that fails ends the others, and its own error is what leaves."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed


async def measure(log: EventLog, ask: Ask, say: Say) -> Measured:
    """Everything about one log; takes about ``ask.seconds`` and a few seconds more.

    Raises:
        FigError: as the log refuses or fails.
    """
    throughput = []
    for batch, producers in BATCHES:
        say(f"throughput in batches of {batch:,}")
        async with scratch(log, "throughput") as topic:
            throughput.append(await most(log, topic, ask, batch=batch, producers=producers, seconds=ask.seconds / 4))
    say(f"latency at {ask.rate:,.0f}/s")
    async with scratch(log, "latency") as topic:
        latency = await latencies(log, topic, ask, seconds=ask.seconds / 2)
    say("ordering and replay")
    async with scratch(log, "order") as topic:
        ordering, records = await ordered(log, topic, ask)
        position, time = await replays(log, records)
    say("the largest event")
    async with scratch(log, "largest", partitions=1) as topic:
        large = await largest(log, topic)
    capabilities = log.capabilities
    return Measured(
        throughput=tuple(throughput),
        latency=latency,
        ordering=ordering,
        replay_position=position,
        replay_time=time,
        largest=large,
        capabilities=tuple(sorted(capabilities.has)),
        max_event_bytes=capabilities.max_event_bytes,
    )


async def most(log: EventLog, topic: str, ask: Ask, *, batch: int, producers: int, seconds: float) -> Throughput:
    """As much as it takes for ``seconds``, or until :data:`MOST_BYTES` are written.

    Each producer appends to one partition, as clients that collect batches do.
    """
    source = Producer(ask.size)
    await log.append(topic, source.events(1))  # connections are not what is measured
    budget = max(batch * producers, MOST_BYTES // max(1, ask.size))
    begun = clock.monotonic()
    done = 0

    async def produce(partition: int) -> None:
        nonlocal done
        while done < budget and clock.monotonic() < begun + seconds:
            await log.append(topic, source.events(batch), partition=partition)
            done += batch

    await together(*(produce(number % PARTITIONS) for number in range(producers)))
    took = clock.monotonic() - begun
    return Throughput(batch, producers, done, took, done / took)


class _Paced:
    """Events that fall due at a steady rate, dealt to the partitions in turn, and when each was read."""

    def __init__(self, log: EventLog, topic: str, ask: Ask, seconds: float) -> None:
        self.total = max(PARTITIONS, int(ask.rate * seconds))
        self.waits: list[float] = []
        self.sent = 0
        self.stopped = False
        self.source = Producer(ask.size)
        self._log = log
        self._topic = topic
        self._rate = ask.rate
        self._begun = 0.0
        self._ready: set[int] = set()
        self.end = 0.0

    def begin(self, seconds: float) -> None:
        """The clock runs from now on."""
        self._begun = clock.monotonic()
        self.end = self._begun + seconds + _LAST

    async def produce(self, partition: int) -> None:
        """Append what is due on ``partition``; what has come late is due as long."""
        waiting = iter(range(partition, self.total, PARTITIONS))
        number = next(waiting, None)
        while number is not None and (now := clock.monotonic()) < self.end:
            batch: list[Event] = []
            while number is not None and len(batch) < 1000 and self._begun + number / self._rate <= now:
                batch.append(self.source.event(number, f"k{partition}"))
                number = next(waiting, None)
            if not batch:
                assert number is not None
                await asyncio.sleep(max(0.0, self._begun + number / self._rate - now))
                continue
            await self._log.append(self._topic, batch, partition=partition)
            self.sent += len(batch)

    async def consume(self, partition: int, position: int) -> None:
        """Read ``partition`` from ``position`` on, until told to stop."""
        while not self.stopped:
            for record in await self._log.read(self._topic, partition, position, wait=0.25):
                now = clock.monotonic()
                position = record.position + 1
                if "-n-" in record.event.id:
                    self.waits.append(now - self._begun - number_of(record.event) / self._rate)
                else:
                    self._ready.add(partition)

    async def warm(self) -> None:
        """One event through each partition, so that connections are there."""
        for partition in range(PARTITIONS):
            event = self.source.event(partition, f"k{partition}", "warm")
            await self._log.append(self._topic, [event], partition=partition)

        async def all_ready() -> bool:
            return len(self._ready) == PARTITIONS

        await clock.until(all_ready, timeout=_PATIENCE, what="the first events to be read")


async def latencies(log: EventLog, topic: str, ask: Ask, *, seconds: float) -> Latency:
    """At the asked rate for ``seconds``: from when each event was due until it was read.

    From when it was *due*: a log that stands still for a second makes all events of that second late, not one.
    """
    paced = _Paced(log, topic, ask, seconds)

    async def work() -> None:
        await paced.warm()
        paced.begin(seconds)
        await together(*(paced.produce(partition) for partition in range(PARTITIONS)))

        async def all_read() -> bool:
            return len(paced.waits) >= paced.sent

        with suppress(FigError):  # timed_out: they are counted as unseen
            await clock.until(all_read, timeout=_GRACE, what="the last events to be read")
        paced.stopped = True

    begins = [await log.position_at(topic, partition, BEGINNING) for partition in range(PARTITIONS)]
    await together(work(), *(paced.consume(partition, begin) for partition, begin in enumerate(begins)))
    unseen = max(0, paced.sent - len(paced.waits))
    return model.latency(paced.waits, asked=paced.total, sent=paced.sent, unseen=unseen, seconds=seconds)


async def ordered(log: EventLog, topic: str, ask: Ask) -> tuple[Trial, list[Record]]:
    """Whether each key keeps its order with concurrent producers; also everything that was read."""
    source = Producer(ask.size)
    deadline = clock.monotonic() + _GRACE
    sent: dict[str, int] = {}

    async def produce(name: int) -> None:
        keys = [f"p{name}-{key}" for key in range(4)]
        for round_ in range(_ROUNDS):
            if clock.monotonic() > deadline:
                return
            await log.append(topic, [source.event(round_, key, f"n-{key}") for key in keys])
            sent.update(dict.fromkeys(keys, round_ + 1))

    await together(*(produce(name) for name in range(_ORDERING)))
    records = await everything(log, topic, expected=sum(sent.values()))
    read = [(record.event.partitionkey or "", number_of(record.event)) for record in records]
    return model.in_order(read, sent), records


async def everything(log: EventLog, topic: str, *, expected: int) -> list[Record]:
    """All records, partition by partition; waits a little for those that are ``expected`` and not there yet."""
    found = await log.topic(topic)
    deadline = clock.monotonic() + _GRACE
    read: dict[int, list[Record]] = {number: [] for number in range(found.partitions if found else 0)}
    at = {number: await log.position_at(topic, number, BEGINNING) for number in read}
    while True:
        grew = False
        for number, records in read.items():
            page = await log.read(topic, number, at[number])
            if page:
                grew = True
                records += page
                at[number] = page[-1].position + 1
        count = sum(map(len, read.values()))
        if not grew and (count >= expected or clock.monotonic() > deadline):
            return [record for records in read.values() for record in records]
        if not grew:
            await asyncio.sleep(0.05)


async def replays(log: EventLog, records: list[Record]) -> tuple[Trial, Trial]:
    """Whether what was read is read again, from a position and from a time."""
    by_partition: dict[int, list[Record]] = {}
    for record in records:
        by_partition.setdefault(record.partition, []).append(record)
    if not by_partition:
        nothing = model.not_tested("nothing was read to begin with")
        return nothing, nothing
    longest = max(by_partition.values(), key=len)
    middle = len(longest) // 2
    return (
        await _tried(log, Capability.REPLAY_FROM_POSITION, lambda: _from_position(log, longest[middle:])),
        await _tried(log, Capability.REPLAY_FROM_TIME, lambda: _from_time(log, longest, middle)),
    )


async def _tried(log: EventLog, wanted: Capability, trial: Callable[[], Awaitable[Trial]]) -> Trial:
    if wanted not in log.capabilities.has:
        return model.not_tested("not declared")
    try:
        return await trial()
    except FigError as error:
        return Trial(Outcome.BROKEN, error.message)


async def _from_position(log: EventLog, expected: list[Record]) -> Trial:
    first = expected[0]
    again: list[Record] = []
    at = first.position
    while len(again) < len(expected) and (page := await log.read(first.topic, first.partition, at)):
        again += page
        at = page[-1].position + 1
    if [record.event.id for record in again] == [record.event.id for record in expected]:
        return Trial(Outcome.HELD, f"the same {len(expected)} events again, from position {first.position}")
    return Trial(Outcome.BROKEN, f"{len(again)} events from position {first.position}, not the {len(expected)} before")


async def _from_time(log: EventLog, records: list[Record], middle: int) -> Trial:
    wanted = records[middle]
    at = await log.position_at(wanted.topic, wanted.partition, wanted.appended_at)
    earlier = [record for record in records if record.position < at]
    if at <= wanted.position and all(record.appended_at < wanted.appended_at for record in earlier):
        return Trial(Outcome.HELD, "begins at the first event of the time asked for")
    return Trial(Outcome.BROKEN, f"asked for the time of position {wanted.position}, was sent to {at}")


async def largest(log: EventLog, topic: str) -> Trial:
    """Whether an event of the declared size goes in and comes out."""
    size = log.capabilities.max_event_bytes
    event = Producer(size, different=1).event(0, "k")
    begun = clock.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE):
            await log.append(topic, [event])
            [record] = await log.read(topic, 0, await log.position_at(topic, 0, BEGINNING), wait=_GRACE)
    except (FigError, TimeoutError, ValueError) as error:
        return Trial(Outcome.BROKEN, f"{size:,} bytes were declared, and did not go through: {error}")
    took = clock.monotonic() - begun
    whole = record.event.data == event.data
    return Trial(Outcome.HELD if whole else Outcome.BROKEN, f"{size:,} bytes in and out in {took:.1f} s")
