"""Reading one partition of Pub/Sub: a subscription that is moved in time, and messages kept until it is their turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from stranglerfig.eventlog.model import Record
from stranglerfig.eventlog.pubsub_calls import Calls
from stranglerfig.eventlog.pubsub_messages import BATCH, PLACE, Batch, Incoming, record
from stranglerfig.foundation import clock, ids, tasks
from stranglerfig.foundation.errors import FigError

_PAGE: Final = 1000
_AHEAD_BYTES: Final = 64 * 1024 * 1024
_IDLE: Final = 30.0
"""Seconds without a question after which nothing is pulled any more."""
_SKEW: Final = timedelta(seconds=5)
"""How far a producer's clock may be from Google's."""
_STRAY: Final = timedelta(minutes=10)
"""How long a message may wait for its positions; one that never gets them was never acknowledged to its producer."""


class Reader:
    """A subscription of its own to one partition of a topic; used by one caller at a time.

    Args:
        overdue: seconds after which messages that do not come are asked for again.
        patience: seconds after which they are taken for lost.
    """

    def __init__(
        self, calls: Calls, topic: str, partition: int, *, overdue: float = 15.0, patience: float = 60.0
    ) -> None:
        self._calls = calls
        self._topic = topic
        self._partition = partition
        self._overdue = overdue
        self._patience = patience
        self._path: str | None = None
        self._since = datetime.max.replace(tzinfo=UTC)
        self._waiting: dict[str, dict[int, Incoming]] = {}
        self._bytes = 0
        self._wanted = False
        self._asked = 0.0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._pulling: asyncio.Task[None] | None = None
        self._failure: FigError | None = None
        self.next: int | None = None

    async def arrival(self, timeout: float) -> None:
        """Return when something was delivered, after ``timeout`` seconds at the latest."""
        if self._path is not None:
            self._pull_on()
        await clock.signalled(self._arrived, timeout=timeout)
        self._arrived.clear()

    async def read(self, batches: Sequence[Batch], position: int, max_records: int, max_bytes: int) -> list[Record]:
        """Records from ``position`` on out of ``batches``, which are known to be published: at least the first.

        Raises:
            FigError: ``log_gap`` when Pub/Sub does not deliver what it has acknowledged.
        """
        # A batch may have got its positions long after it was published: before what is delivered here, at worst.
        if self.next != position or self._path is None or batches[0].published_at < self._since:
            await self._begin(batches[0], position)
        begun = sought = clock.monotonic()
        try:
            while not (page := self._page(batches, position, max_records, max_bytes)):
                self._wanted = True
                now = clock.monotonic()
                if now - begun > self._patience:
                    raise self._lost(batches[0])
                if now - sought > self._overdue:
                    await self._begin(batches[0], position)
                    sought = now
                await self.arrival(min(1.0, self._overdue))
                if self._failure is not None:
                    await self._get_over(self._failure, batches[0], position)
        finally:
            self._wanted = False
        self.next = page[-1].position + 1
        self._drop(batches, self.next)
        return page

    async def _get_over(self, failure: FigError, batch: Batch, position: int) -> None:
        """Make a subscription that is gone anew, where the topic is not gone, too; pass other failures on."""
        self._failure = None
        if failure.code != "unknown_topic":
            self.next = None  # what was under way when it failed is to be delivered again
            raise failure
        self._path = None
        await self._begin(batch, position)

    async def _begin(self, batch: Batch, position: int) -> None:
        """Have delivered what was published since the batch was."""
        await self._stop_pulling()
        self._waiting.clear()
        self._bytes = 0
        self._failure = None
        self._since = batch.published_at - _SKEW
        if self._path is not None and not await self._moved():
            self._path = None
        if self._path is None:
            self._path = await self._calls.subscribe(f"fig-{ids.new_id()}", self._topic, self._partition)
            await self._calls.seek(self._path, self._since, topic=self._topic)
        self.next = position

    async def _moved(self) -> bool:
        """Move the subscription; false when Google has deleted it after a day without use."""
        assert self._path is not None
        try:
            await self._calls.seek(self._path, self._since, topic=self._topic)
        except FigError as error:
            if error.code != "unknown_topic":
                raise
            return False
        return True

    def _pull_on(self) -> None:
        self._asked = clock.monotonic()
        self._room.set()
        if self._pulling is None or self._pulling.done():
            self._pulling = tasks.spawn(self._pull(), name=f"pub/sub {self._topic}-{self._partition}")

    async def _pull(self) -> None:
        assert self._path is not None
        try:
            while clock.monotonic() - self._asked < _IDLE:
                if self._bytes > _AHEAD_BYTES and not self._wanted:
                    self._room.clear()
                    await clock.signalled(self._room, timeout=_IDLE)
                    continue
                for message in await self._calls.pull(self._path, _PAGE, topic=self._topic):
                    self._keep(message)
                    self._arrived.set()
        except FigError as error:
            self._failure = error
            self._arrived.set()

    def _keep(self, message: Incoming) -> None:
        batch, place = message.attributes.get(BATCH), message.attributes.get(PLACE, "")
        if batch is None or not place.isdecimal():
            return  # another program gave it our partition's name, and no place
        waiting = self._waiting.setdefault(batch, {})
        if int(place) not in waiting:
            waiting[int(place)] = message
            self._bytes += len(message.data)

    def _page(self, batches: Sequence[Batch], position: int, max_records: int, max_bytes: int) -> list[Record]:
        """What can be given: batches in order, each only when all of it is here."""
        page: list[Record] = []
        size = 0
        for batch in batches:
            waiting = self._waiting.get(batch.name, {})
            if len(waiting) < batch.count:
                break
            for number in range(max(position, batch.first), batch.end):
                if len(page) >= max_records or (page and size >= max_bytes):
                    return page
                message = waiting[number - batch.first]
                page.append(record(self._topic, self._partition, number, message, batch.appended_at))
                size += len(message.data)
        return page

    def _drop(self, batches: Sequence[Batch], position: int) -> None:
        """Forget what was given, and what has waited in vain."""
        done = [batch for batch in batches if batch.end <= position]
        for batch in done:
            self._forget(batch.name)
        if done:
            limit = done[-1].published_at - _STRAY
            for name, waiting in list(self._waiting.items()):
                if all(message.published_at < limit for message in waiting.values()):
                    self._forget(name)

    def _forget(self, name: str) -> None:
        self._bytes -= sum(len(message.data) for message in self._waiting.pop(name, {}).values())

    def _lost(self, batch: Batch) -> FigError:
        return FigError(
            "log_gap",
            f"Pub/Sub does not deliver all of the {batch.count} events from position {batch.first} on of "
            f"'{self._topic}' (partition {self._partition}), which it had acknowledged",
            "Check the topic's retention in Google Cloud; was it shortened, or its messages purged?",
            topic=self._topic,
            partition=self._partition,
            position=batch.first,
            delivered=len(self._waiting.get(batch.name, {})),
        )

    async def _stop_pulling(self) -> None:
        if self._pulling is not None:
            await tasks.stop(self._pulling)
            self._pulling = None

    async def close(self) -> None:
        """Delete the subscription; one that cannot be deleted now expires by itself."""
        await self._stop_pulling()
        path, self._path = self._path, None
        if path is not None:
            with contextlib.suppress(FigError):
                await self._calls.unsubscribe(path)
