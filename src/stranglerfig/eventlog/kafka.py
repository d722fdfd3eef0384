"""Apache Kafka as the log: an idempotent producer, one reader per partition that is read, Kafka's own groups.

The client is librdkafka (``confluent-kafka``), whose calls block: they run in threads of ours, never on the loop.
Events are CloudEvents in binary mode. Positions are Kafka's offsets; time is the broker's (``LogAppendTime``).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from confluent_kafka import (
    OFFSET_INVALID,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from stranglerfig.eventlog import cloudevents, model
from stranglerfig.eventlog.kafka_reader import AWAY, UNKNOWN, Reader
from stranglerfig.eventlog.model import Capabilities, Capability, Event, Record, Topic
from stranglerfig.eventlog.ports import Subscription
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError

T = TypeVar("T")

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
_ENVELOPE: Final = 64 * 1024
"""What key and headers may take beside the data."""
_PATIENCE: Final = 30.0
"""Seconds that a broker may be away before an append or a question fails."""
_READERS: Final = 16
_SLICE: Final = 0.2
_THREADS: Final = 24
_LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]


def settings_of(url: str) -> dict[str, str]:
    """librdkafka's settings that ``kafka://user:password@host:9092,host:9092?name=value`` stands for.

    Every name of librdkafka's CONFIGURATION.md may be given, such as ``security.protocol`` or ``ssl.ca.location``.
    """
    parts = urlsplit(url)
    user, _, servers = parts.netloc.rpartition("@")
    found = {"bootstrap.servers": servers}
    if user:
        name, _, password = user.partition(":")
        found |= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": unquote(name),
            "sasl.password": unquote(password),
        }
    return found | dict(parse_qsl(parts.query))


class KafkaLog:
    """An event log on an Apache Kafka cluster.

    Args:
        url: as :func:`settings_of` reads it.
        replication: copies of each topic that is made here; None takes the cluster's default.
        patience: seconds that brokers may be away before an operation fails.
    """

    def __init__(self, url: str, *, replication: int | None = None, patience: float = _PATIENCE) -> None:
        self._settings: dict[str, Any] = {
            "socket.connection.setup.timeout.ms": 5000,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 500,
            "topic.metadata.refresh.interval.ms": 10_000,
            "allow.auto.create.topics": False,
            "log_level": 0,
            **settings_of(url),
        }
        self.servers = str(self._settings["bootstrap.servers"])
        self._replication = -1 if replication is None else replication
        self._patience = patience
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kafka")
        self._made_producer: Producer | None = None
        self._made_admin: AdminClient | None = None
        self._making = threading.Lock()
        self._polling: threading.Thread | None = None
        self._closing = threading.Event()
        self._partitions: dict[str, int] = {}
        self._retention: dict[str, float | None] = {}
        self._readers: OrderedDict[tuple[str, int], Reader] = OrderedDict()

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do: an append that is repeated may be there twice."""
        return Capabilities(frozenset(Capability) - {Capability.IDEMPOTENT_APPEND}, MAX_EVENT_BYTES)

    async def migrate(self) -> None:
        """Nothing to do: groups are Kafka's own."""

    async def _call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run what blocks in a thread of ours; the client's errors leave as ours."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        except KafkaException as error:
            raise self._translated(error.args[0]) from error

    def _translated(self, error: KafkaError, topic: str | None = None) -> FigError:
        if error.code() in UNKNOWN:
            return model.unknown_topic(topic or error.str())
        if error.code() in AWAY:
            return FigError(
                "log_unreachable",
                f"Kafka at {self.servers} does not answer: {error.str()}",
                "Check that its brokers run. An append whose answer was lost may be repeated; the id tells.",
                servers=self.servers,
            )
        return FigError(
            "log_refused",
            f"Kafka at {self.servers} refuses: {error.str()} ({error.name()})",
            "See Kafka's documentation of this error; the cluster's settings or rights may forbid it.",
            servers=self.servers,
            error=error.name(),
        )

    @property
    def _admin(self) -> AdminClient:
        with self._making:
            if self._made_admin is None:
                self._made_admin = AdminClient(self._settings)
            return self._made_admin

    # Topics

    async def create_topic(self, name: str, *, partitions: int = 1, retention_seconds: float | None = None) -> None:
        """Create a topic; see the port. ``topic_differs`` when it has another number of partitions."""
        await self._call(self._create, name, partitions, retention_seconds)
        found = await self._known(name)
        if found != partitions:
            raise model.topic_differs(name, found, partitions)

    def _create(self, name: str, partitions: int, retention: float | None) -> None:
        config = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MAX_EVENT_BYTES + _ENVELOPE),
            "retention.ms": "-1" if retention is None else str(int(retention * 1000)),
            "retention.bytes": "-1",
        }
        if retention is not None:
            # Whole segments are given up: none may hold more than a tenth of what is kept.
            config["segment.ms"] = str(max(1000, min(7 * 86_400_000, int(retention * 100))))
        topic = NewTopic(name, partitions, self._replication, config=config)
        try:
            self._admin.create_topics([topic], operation_timeout=self._patience)[name].result(self._patience)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return
            raise
        self._await_leaders(name, partitions)

    def _await_leaders(self, name: str, partitions: int) -> None:
        """Return when every partition has a leader: what is asked before is answered with errors."""
        deadline = clock.monotonic() + self._patience
        while clock.monotonic() < deadline:
            with contextlib.suppress(FigError):
                if self._count(name) == partitions:
                    return
            clock.block(0.02)

    def _count(self, name: str) -> int:
        """The topic's number of partitions, asked of the cluster."""
        found = self._admin.list_topics(name, timeout=self._patience).topics[name]
        if found.error is not None:
            raise self._translated(found.error, name)
        if any(one.leader < 0 for one in found.partitions.values()):
            raise self._translated(KafkaError(KafkaError.LEADER_NOT_AVAILABLE), name)
        self._partitions[name] = len(found.partitions)
        return len(found.partitions)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic with its events; returns when the cluster no longer shows it."""
        self._forget(name)
        await self._call(self._delete, name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._partitions.pop(name, None)
        self._retention.pop(name, None)
        for place in [place for place in self._readers if place[0] == name]:
            self._readers.pop(place).close_soon(self._threads)

    def _delete(self, name: str) -> None:
        try:
            self._admin.delete_topics([name], operation_timeout=self._patience)[name].result(self._patience)
        except KafkaException as error:
            if error.args[0].code() not in UNKNOWN:
                raise
            return
        deadline = clock.monotonic() + self._patience
        while name in self._admin.list_topics(timeout=self._patience).topics and clock.monotonic() < deadline:
            clock.block(0.02)

    async def topic(self, name: str) -> Topic | None:
        """The topic, or None."""
        try:
            await self._call(self._count, name)
        except FigError as error:
            if error.code != "unknown_topic":
                raise
            self._forget(name)
            return None
        return (await self._call(self._describe, [name]))[0]

    async def topics(self) -> list[Topic]:
        """All topics but Kafka's own, by name."""
        return await self._call(self._all)

    def _all(self) -> list[Topic]:
        found = self._admin.list_topics(timeout=self._patience).topics
        names = sorted(name for name in found if not name.startswith("__"))
        self._partitions |= {name: len(found[name].partitions) for name in names}
        return self._describe(names)

    def _describe(self, names: Sequence[str]) -> list[Topic]:
        ends = self._offsets(names, _LATEST)
        unknown = [ConfigResource(ResourceType.TOPIC, name) for name in names if name not in self._retention]
        if unknown:
            for resource, future in self._admin.describe_configs(unknown).items():
                milliseconds = int(future.result(self._patience)["retention.ms"].value)
                self._retention[resource.name] = None if milliseconds < 0 else milliseconds / 1000
        return [
            Topic(
                name,
                self._partitions[name],
                self._retention[name],
                tuple(ends[name, partition] for partition in range(self._partitions[name])),
            )
            for name in names
        ]

    def _offsets(self, names: Sequence[str], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        wanted = {TopicPartition(name, number): spec for name in names for number in range(self._partitions[name])}
        if not wanted:
            return {}
        futures = self._admin.list_offsets(wanted, request_timeout=self._patience)
        return {
            (one.topic, one.partition): int(future.result(self._patience).offset) for one, future in futures.items()
        }

    async def _known(self, topic: str, partition: int | None = None) -> int:
        """The number of partitions, without asking again; a partition that is beyond it is asked about."""
        found = self._partitions.get(topic)
        if found is None or (partition is not None and partition >= found):
            found = await self._call(self._count, topic)
        if partition is not None and not 0 <= partition < found:
            raise model.unknown_partition(topic, partition, found)
        return found

    # Append

    @property
    def _producer(self) -> Producer:
        with self._making:
            if self._made_producer is None:
                self._made_producer = Producer(
                    {
                        "acks": "all",
                        "enable.idempotence": True,
                        "partitioner": "murmur2_random",  # as Java's: keys go where other programs' events go
                        "linger.ms": 1,
                        "batch.size": 1_000_000,
                        "message.max.bytes": MAX_EVENT_BYTES + _ENVELOPE,
                        "queue.buffering.max.kbytes": 256 * 1024,
                        "queue.buffering.max.messages": 500_000,
                        "message.timeout.ms": int(self._patience * 1000),
                        "compression.type": "none",
                        **self._settings,
                    }
                )
                self._polling = threading.Thread(target=self._poll, name="kafka deliveries", daemon=True)
                self._polling.start()
            return self._made_producer

    def _poll(self) -> None:
        """Deliveries are told by polling; this thread does nothing else."""
        assert self._made_producer is not None
        while not self._closing.is_set():
            self._made_producer.poll(0.1)

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """Append in order; see the port. Batches of one call are not one transaction: a failure may leave some in."""
        model.check_sizes(events, MAX_EVENT_BYTES)
        await self._known(topic, partition)
        if not events:
            return []
        loop = asyncio.get_running_loop()
        batch = _Batch(len(events), loop, loop.create_future())
        await self._produce(topic, events, partition, batch)
        try:
            await batch.done
        except KafkaException as error:
            self._partitions.pop(topic, None)
            raise self._translated(error.args[0], topic) from error
        return batch.positions()

    async def _produce(self, topic: str, events: Sequence[Event], partition: int | None, batch: _Batch) -> None:
        produce, delivered = self._producer.produce, batch.delivered
        for number, event in enumerate(events):
            key = event.partitionkey
            to = partition if partition is not None else (0 if key is None else -1)
            headers = _headers(event)
            while True:
                try:
                    produce(topic, event.data, key, to, delivered(number), None, 0, headers)
                    break
                except BufferError:  # the client's queue is full: what is in it has to go first
                    await asyncio.sleep(0.005)
                except KafkaException as error:
                    batch.failed(number, error.args[0])
                    break

    # Read

    async def read(
        self,
        topic: str,
        partition: int,
        position: int,
        *,
        max_records: int = 1000,
        max_bytes: int = 8_000_000,
        wait: float = 0.0,
    ) -> list[Record]:
        """Records from ``position`` on; see the port. ``position_expired`` below what is retained."""
        await self._known(topic, partition)
        reader = self._reader(topic, partition)
        return await self._call(reader.read, position, max_records, max_bytes, wait)

    def _reader(self, topic: str, partition: int) -> Reader:
        place = (topic, partition)
        reader = self._readers.pop(place, None)
        if reader is None:
            reader = Reader(
                self._consumer_settings(),
                topic,
                partition,
                patience=self._patience,
                gone=lambda: self._forget(topic),
            )
            for old in list(self._readers)[: max(0, len(self._readers) + 1 - _READERS)]:
                self._readers.pop(old).close_soon(self._threads)
        self._readers[place] = reader
        return reader

    def _consumer_settings(self) -> dict[str, Any]:
        return {
            "group.id": "fig-reader",  # never joined: partitions are assigned by hand
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 50,
            "fetch.message.max.bytes": MAX_EVENT_BYTES + _ENVELOPE,
            "fetch.max.bytes": 64 * 1024 * 1024,
            "receive.message.max.bytes": 128 * 1024 * 1024,
            "queued.max.messages.kbytes": 32 * 1024,
            "queued.min.messages": 10_000,
            **self._settings,
        }

    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """The first log position appended at or after ``time``; Kafka's clock has milliseconds."""
        await self._known(topic, partition)
        milliseconds = math.ceil(time.timestamp() * 1000)
        return await self._call(self._offset_at, topic, partition, milliseconds)

    def _offset_at(self, topic: str, partition: int, milliseconds: int) -> int:
        place = TopicPartition(topic, partition)
        for spec in (OffsetSpec.for_timestamp(milliseconds), _LATEST):
            futures = self._admin.list_offsets({place: spec}, request_timeout=self._patience)
            found = int(next(iter(futures.values())).result(self._patience).offset)
            if found >= 0:  # none is at or after that time: the next one will be
                break
        return found

    # Groups

    async def subscribe(self, topics: Sequence[str], group: str, *, lease: float = 5.0) -> Subscription:
        """Join ``group``; ``lease`` is Kafka's session timeout, within what the brokers allow."""
        from stranglerfig.eventlog.kafka_group import KafkaSubscription

        for topic in topics:
            await self._known(topic)
        settings = self._consumer_settings() | {
            "group.id": group,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": max(100, int(lease * 1000)),
            "heartbeat.interval.ms": max(30, int(lease * 1000 / 4)),
        }
        return KafkaSubscription(settings, topics, group, self._threads, self._translated)

    async def groups(self, topic: str) -> list[str]:
        """The groups that have read ``topic``, by name."""
        await self._known(topic)
        return await self._call(self._groups, topic)

    def _groups(self, topic: str) -> list[str]:
        listed = self._admin.list_consumer_groups(request_timeout=self._patience).result(self._patience)
        names = sorted(one.group_id for one in listed.valid)
        return [name for name in names if any(self._committed(topic, name).values())]

    async def committed(self, topic: str, group: str) -> tuple[int, ...]:
        """Per partition, the log position at which ``group`` goes on (0 for a group that never committed)."""
        count = await self._known(topic)
        found = await self._call(self._committed, topic, group)
        return tuple(found.get(partition, 0) for partition in range(count))

    def _committed(self, topic: str, group: str) -> dict[int, int]:
        places = [TopicPartition(topic, number) for number in range(self._partitions[topic])]
        wanted = ConsumerGroupTopicPartitions(group, places)
        answer = self._admin.list_consumer_group_offsets([wanted], request_timeout=self._patience)[group]
        found = answer.result(self._patience).topic_partitions or []
        return {one.partition: one.offset for one in found if one.offset > OFFSET_INVALID and one.offset >= 0}

    async def seek(self, topic: str, group: str, *, position: int | None = None, time: datetime | None = None) -> None:
        """Move ``group``, which must have no members, in all partitions of ``topic``."""
        model.check_seek(position, time)
        places = []
        for number in range(await self._known(topic)):
            to = position if time is None else await self.position_at(topic, number, time)
            places.append(TopicPartition(topic, number, to or 0))
        await self._call(self._move, ConsumerGroupTopicPartitions(group, places))

    def _move(self, wanted: ConsumerGroupTopicPartitions) -> None:
        answer = self._admin.alter_consumer_group_offsets([wanted], request_timeout=self._patience)
        try:
            moved = answer[wanted.group_id].result(self._patience)
        except KafkaException as error:
            if error.args[0].code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP):
                raise _active(wanted.group_id) from error
            raise
        for one in moved.topic_partitions or []:
            if one.error is not None:
                raise _active(wanted.group_id)

    async def close(self) -> None:
        """Let go of connections."""
        self._closing.set()
        readers = list(self._readers.values())
        self._readers.clear()
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, reader.close) for reader in readers))
        if self._polling is not None:
            await loop.run_in_executor(self._threads, self._polling.join)
        self._threads.shutdown(wait=False)


def _active(group: str) -> FigError:
    return FigError(
        "group_active",
        f"the group '{group}' has members, and Kafka moves a group only while it has none",
        "Stop the group's members, move it, and start them again.",
        group=group,
    )


@dataclass(slots=True)
class _Batch:
    """Events of one append that are on their way."""

    left: int
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    found: dict[int, int] = field(default_factory=dict)
    error: KafkaError | None = None

    def delivered(self, number: int) -> Callable[[KafkaError | None, Message], None]:
        """What is called, in the polling thread, when the ``number``-th event is in or is not."""

        def told(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self.found[number] = message.offset() or 0
            elif self.error is None:
                self.error = error
            self._one_less()

        return told

    def failed(self, number: int, error: KafkaError) -> None:
        """The ``number``-th event was not even taken by the client."""
        self.error = self.error or error
        self._one_less()

    def _one_less(self) -> None:
        self.left -= 1
        if not self.left:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                self.loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(KafkaException(self.error))
        else:
            self.done.set_result(None)

    def positions(self) -> list[int]:
        """The positions, in the order of the events."""
        return [self.found[number] for number in range(len(self.found))]


def _headers(event: Event) -> list[tuple[str, str | bytes | None]]:
    headers: list[tuple[str, str | bytes | None]] = [
        (f"ce_{name}", value) for name, value in cloudevents.attributes(event)
    ]
    headers.append((cloudevents.CONTENT_TYPE, event.datacontenttype))
    return headers
