"""The raw topic that a connector writes into: made, read in order, trimmed, removed.

Kafka's client is an extra: it is imported when it is first needed. Its calls block, so they run on one thread of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from stranglerfig.capture.assemble import NEW_KEY
from stranglerfig.capture.assembling import LIFE, Raw
from stranglerfig.capture.debezium import MOST_RECORD_BYTES
from stranglerfig.capture.model import AGAIN
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

T = TypeVar("T")

_CALL_SECONDS: Final = 10.0
_WAIT_SECONDS: Final = 0.5
MOST_RECORDS: Final = 5000


def _client() -> Any:
    try:
        import confluent_kafka
        import confluent_kafka.admin
    except ImportError as error:
        raise FigError(
            "backend_not_installed",
            "Kafka's client is not installed here",
            "pip install stranglerfig[kafka]",
            package="confluent-kafka",
        ) from error
    return confluent_kafka


def _lost(name: str, why: str) -> FigError:
    return FigError(
        "raw_topic_lost",
        f"the raw topic {name} {why}: changes that were only there are not known",
        f"{AGAIN} (Nothing but fig may delete this topic, its records or its retention.)",
        topic=name,
    )


class RawTopic:
    """One partition, read from where :meth:`seek` says. One user at a time.

    With a ``life``, only the records are read that name it: what a worker sends late of an earlier one is passed over.

    Every method raises ``FigError``: ``kafka_unreachable``, ``raw_topic_lost``, ``backend_not_installed``.
    """

    def __init__(self, name: str, servers: str, settings: Mapping[str, str], *, life: str | None = None) -> None:
        self.name = name
        self._life = None if life is None else life.encode()
        self._servers = servers
        # What it says on the terminal it says to us as errors as well.
        self._settings = {"bootstrap.servers": servers, "log_level": "2", **settings}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="raw topic")
        self._consumer: Consumer | None = None

    async def __aenter__(self) -> Self:
        self._kafka = _client()
        self._admin = self._kafka.admin.AdminClient(self._settings)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._admin  # its connections end with it
        if self._consumer is not None:
            await asyncio.shield(self._run(self._consumer.close))
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work)
        except self._kafka.KafkaException as error:
            raise self._told(error.args[0]) from error
        except TimeoutError as error:
            raise self._unreachable("does not answer") from error

    def _told(self, error: Any) -> FigError:
        codes = self._kafka.KafkaError
        if error.code() in (codes._AUTO_OFFSET_RESET, codes.OFFSET_OUT_OF_RANGE):
            return _lost(self.name, "no longer has what was not read")
        if error.code() in (codes.UNKNOWN_TOPIC_OR_PART, codes._UNKNOWN_TOPIC, codes._UNKNOWN_PARTITION):
            return _lost(self.name, "is not there")
        return self._unreachable(f"does not do what is asked: {error.str()}")

    def _unreachable(self, says: str) -> FigError:
        return FigError(
            "kafka_unreachable",
            f"Kafka at {self._servers} {says}",
            "Check that the brokers run and that connect.kafka in fig.yaml names them; capture tries again by itself.",
            servers=self._servers,
        )

    async def create(self) -> None:
        """Make the topic, whose records are kept until we remove them; one that is there stays."""
        topic = self._kafka.admin.NewTopic(
            self.name,
            num_partitions=1,
            replication_factor=-1,
            config={
                "cleanup.policy": "delete",
                "retention.ms": "-1",
                "retention.bytes": "-1",
                "max.message.bytes": str(MOST_RECORD_BYTES),
            },
        )

        def make() -> None:
            try:
                self._admin.create_topics([topic], operation_timeout=_CALL_SECONDS)[self.name].result(_CALL_SECONDS)
            except self._kafka.KafkaException as error:
                if error.args[0].code() != self._kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

        await self._run(make)

    async def edges(self) -> tuple[int, int]:
        """The first offset that is there, and the one after the last."""
        partition = self._kafka.TopicPartition(self.name, 0)
        first, last = await self._run(
            lambda: self._reader().get_watermark_offsets(partition, timeout=_CALL_SECONDS, cached=False)
        )
        return int(first), int(last)

    def _reader(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._kafka.Consumer(
                {
                    **self._settings,
                    "group.id": self.name,  # asked for by the client; offsets are kept by us
                    "enable.auto.commit": False,
                    "auto.offset.reset": "error",
                    "isolation.level": "read_committed",
                    "fetch.message.max.bytes": MOST_RECORD_BYTES,
                    "queued.max.messages.kbytes": 64 * 1024,
                }
            )
        return self._consumer

    async def seek(self, offset: int) -> None:
        """Read on from ``offset``."""
        partition = self._kafka.TopicPartition(self.name, 0, offset)
        await self._run(lambda: self._reader().assign([partition]))

    async def read(self) -> list[Raw]:
        """What has arrived, at most 5000 records; nothing when nothing came for half a second."""
        return await self._run(self._take)

    def _take(self) -> list[Raw]:
        reader = self._reader()
        first = reader.poll(_WAIT_SECONDS)
        if first is None:
            return []
        return [raw for found in (first, *reader.consume(MOST_RECORDS - 1, 0)) if (raw := self._raw(found))]

    def _raw(self, found: Message) -> Raw | None:
        if (error := found.error()) is not None:
            if error.retriable() or error.code() == self._kafka.KafkaError._ALL_BROKERS_DOWN:
                return None  # the client goes on by itself
            raise self._kafka.KafkaException(error)
        offset, value = found.offset(), found.value()
        headers = dict(found.headers() or ())
        assert offset is not None
        if self._life is not None and headers.get(LIFE) != self._life:
            return None
        return Raw(offset, value or b"", NEW_KEY in headers)

    async def trim(self, before: int) -> None:
        """Remove the records before ``before``: the log has what they say."""
        partition = self._kafka.TopicPartition(self.name, 0, before)
        await self._run(
            lambda: [f.result(_CALL_SECONDS) for f in self._admin.delete_records([partition]).values()],
        )

    async def delete_all(self, prefix: str) -> None:
        """Delete every topic whose name begins with ``prefix``."""

        def delete() -> None:
            found = [name for name in self._admin.list_topics(timeout=_CALL_SECONDS).topics if name.startswith(prefix)]
            for future in self._admin.delete_topics(found).values() if found else ():
                try:
                    future.result(_CALL_SECONDS)
                except self._kafka.KafkaException as error:
                    if error.args[0].code() != self._kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise

        await self._run(delete)
