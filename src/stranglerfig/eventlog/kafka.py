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
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from confluent_kafka import (
    OFFSET_INVALID,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic

from stranglerfig.eventlog import model
from stranglerfig.eventlog.kafka_producer import Producing
from stranglerfig.eventlog.kafka_reader import AWAY, LEADERLESS, REFUSED, UNKNOWN, Reader
from stranglerfig.eventlog.model import LEASE, Capabilities, Capability, Event, Record, Topic
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
            "error_cb": self._heard,
            **settings_of(url),
        }
        self._why = ""
        self.servers = str(self._settings["bootstrap.servers"])
        self._replication = -1 if replication is None else replication
        self._patience = patience
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kafka")
        self._made_producer: Producing | None = None
        self._made_admin: AdminClient | None = None
        self._making = threading.Lock()
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

    def _heard(self, error: KafkaError) -> None:
        """Keep why no connection comes about: an operation says only that there was none."""
        if error.code() in REFUSED:
            self._why = f" ({error.str()})"

    def _translated(self, error: KafkaError, topic: str | None = None) -> FigError:
        if error.code() in UNKNOWN:
            return model.unknown_topic(topic or error.str())
        if error.code() in AWAY:
            self._admin.poll(0)
            return FigError(
                "log_unreachable",
                f"Kafka at {self.servers} does not answer: {error.str()}{self._why}",
                "Check that its brokers run and how they want to be spoken to. An append whose answer was lost may be"
                " repeated; the id tells.",
                servers=self.servers,
            )
        if error.code() == KafkaError.INVALID_SESSION_TIMEOUT:
            return FigError(
                "log_refused",
                f"Kafka at {self.servers} takes no members with such a lease: {error.str()}",
                "Ask for one between its settings group.min.session.timeout.ms (6 s unless set) and"
                " group.max.session.timeout.ms (30 min).",
                servers=self.servers,
                error=error.name(),
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
        """Return when every partition has a leader that knows it is: what is asked before is answered with errors."""
        deadline = clock.monotonic() + self._patience
        while clock.monotonic() < deadline:
            with contextlib.suppress(FigError, KafkaException):
                if self._count(name) == partitions:
                    self._offsets([name], _LATEST)
                    return
            clock.block(0.02)

    async def add_partitions(self, name: str, partitions: int) -> None:
        """Give a topic more partitions; returns when each is led."""
        if await self._call(self._count, name) < partitions:
            await self._call(self._add, name, partitions)

    def _add(self, name: str, partitions: int) -> None:
        try:
            wanted = [NewPartitions(name, partitions)]
            self._admin.create_partitions(wanted, operation_timeout=self._patience)[name].result(self._patience)
        except KafkaException as error:
            # Somebody else was faster.
            if error.args[0].code() != KafkaError.INVALID_PARTITIONS:
                raise
        self._await_leaders(name, partitions)
        deadline = clock.monotonic() + self._patience
        while True:
            try:
                self._offsets([name], _LATEST)
                return
            except KafkaException as error:
                # A leader is named a moment before it knows.
                early = error.args[0].code() == KafkaError.NOT_LEADER_FOR_PARTITION
                if not early or clock.monotonic() >= deadline:
                    raise
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
        return {(one.topic, one.partition): offset for one, offset in self._listed(wanted).items()}

    def _listed(self, wanted: dict[TopicPartition, OffsetSpec]) -> dict[TopicPartition, int]:
        """Offsets of partitions; while one has no leader, as after a broker's restart, it is asked again."""
        deadline = clock.monotonic() + self._patience
        while True:
            try:
                futures = self._admin.list_offsets(wanted, request_timeout=self._patience)
                return {one: int(future.result(self._patience).offset) for one, future in futures.items()}
            except KafkaException as error:
                if error.args[0].code() not in LEADERLESS or clock.monotonic() > deadline:
                    raise
            clock.block(0.1)

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
    def _producing(self) -> Producing:
        if self._made_producer is None:
            self._made_producer = Producing(self._settings, most=MAX_EVENT_BYTES + _ENVELOPE, patience=self._patience)
        return self._made_producer

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """Append in order; see the port. Batches of one call are not one transaction: a failure may leave some in."""
        model.check_sizes(events, MAX_EVENT_BYTES)
        await self._known(topic, partition)
        if not events:
            return []
        try:
            return await self._producing.append(topic, events, partition)
        except KafkaException as error:
            self._partitions.pop(topic, None)
            raise self._translated(error.args[0], topic) from error

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
                end=lambda: self._offset(topic, partition, _LATEST),
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
            "fetch.queue.backoff.ms": 5,  # by default a second goes by once so many were queued
            **self._settings,
        }

    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """The first log position appended at or after ``time``; Kafka's clock has milliseconds."""
        await self._known(topic, partition)
        milliseconds = math.ceil(time.timestamp() * 1000)
        return await self._call(self._offset_at, topic, partition, milliseconds)

    def _offset_at(self, topic: str, partition: int, milliseconds: int) -> int:
        # The end is asked for first: what is appended between both questions must not be passed by.
        end = self._offset(topic, partition, _LATEST)
        found = self._offset(topic, partition, OffsetSpec.for_timestamp(milliseconds))
        # None is at or after that time: the next one will be.
        return found if found >= 0 else end

    def _offset(self, topic: str, partition: int, spec: OffsetSpec) -> int:
        [offset] = self._listed({TopicPartition(topic, partition): spec}).values()
        return offset

    # Groups

    async def subscribe(self, topics: Sequence[str], group: str, *, lease: float = LEASE) -> Subscription:
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
        readers = list(self._readers.values())
        self._readers.clear()
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, reader.close) for reader in readers))
        self._threads.shutdown(wait=False)


def _active(group: str) -> FigError:
    return FigError(
        "group_active",
        f"the group '{group}' has members, and Kafka moves a group only while it has none",
        "Stop the group's members, move it, and start them again.",
        group=group,
    )
