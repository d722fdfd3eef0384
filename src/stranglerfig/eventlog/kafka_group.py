"""A member of one of Kafka's own consumer groups; partitions are shared by cooperative rebalancing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from stranglerfig.eventlog import model
from stranglerfig.eventlog.kafka_reader import GONE_OVER, arrived
from stranglerfig.eventlog.kafka_records import records
from stranglerfig.eventlog.model import Record
from stranglerfig.foundation.errors import FigError

T = TypeVar("T")
_AT_ONCE = 1000
_SLICE = 0.2


class KafkaSubscription:
    """A member of a group. While a batch is handled the partition stays ours, for Kafka's ``max.poll.interval.ms``."""

    def __init__(
        self,
        settings: dict[str, Any],
        topics: Sequence[str],
        group: str,
        threads: ThreadPoolExecutor,
        translated: Callable[[KafkaError], FigError],
    ) -> None:
        self._consumer = Consumer(settings)
        self._topics = list(topics)
        self._group = group
        self._threads = threads
        self._translated = translated
        self._lock = threading.Lock()
        self._closed = False
        self._joined = False
        self._mine: set[tuple[str, int]] = set()

    async def _call(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        except KafkaException as error:
            raise self._translated(error.args[0]) from error

    async def batches(self) -> AsyncIterator[list[Record]]:
        """Batches of records, each of one partition and in order."""
        while not self._closed:
            by_place: dict[tuple[str, int], list[Record]] = {}
            for one in await self._call(self._take):
                by_place.setdefault((one.topic, one.partition), []).append(one)
            for place, batch in by_place.items():
                if place in self._mine:
                    yield batch

    def _take(self) -> list[Record]:
        with self._lock:
            if self._closed:
                return []
            if not self._joined:
                self._consumer.subscribe(
                    self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
                )
                self._joined = True
            messages = arrived(self._consumer, _AT_ONCE, _SLICE)
            for error in filter(None, map(Message.error, messages)):
                if not (error.retriable() or error.code() < 0):
                    raise KafkaException(error)
            return records([message for message in messages if message.error() is None])

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._mine |= {(place.topic, place.partition) for place in places}
        consumer.incremental_assign(places)

    def _revoked(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._mine -= {(place.topic, place.partition) for place in places}
        consumer.incremental_unassign(places)

    async def commit(self, record: Record) -> None:
        """All up to and with ``record`` in its partition is handled.

        Raises:
            FigError: ``lease_lost`` when another member has the partition by now.
        """
        if (record.topic, record.partition) not in self._mine or not await self._call(self._commit, record):
            raise model.lease_lost(record.topic, record.partition, self._group)

    def _commit(self, record: Record) -> bool:
        with self._lock:
            if self._closed:
                return False
            place = TopicPartition(record.topic, record.partition, record.position + 1)
            try:
                done = self._consumer.commit(offsets=[place], asynchronous=False)
            except KafkaException as error:
                if error.args[0].code() in GONE_OVER:
                    return False
                raise
            for one in done or []:
                if one.error is not None:
                    if one.error.code() in GONE_OVER:
                        return False
                    raise KafkaException(one.error)
            return True

    async def close(self) -> None:
        """Leave the group; another member takes over."""
        self._closed = True

        def leave() -> None:
            with self._lock:
                self._consumer.close()

        await asyncio.get_running_loop().run_in_executor(self._threads, leave)
