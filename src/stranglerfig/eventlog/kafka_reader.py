"""Reading one partition of Kafka by hand: messages become records, a consumer stays where it was read last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, islice
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from stranglerfig.eventlog import model
from stranglerfig.eventlog.kafka_records import records
from stranglerfig.eventlog.model import Record
from stranglerfig.foundation import clock

UNKNOWN: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
LEADERLESS: Final = frozenset(
    {
        KafkaError._NOENT,  # as librdkafka says that no partition has one
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
    }
)
REFUSED: Final = frozenset({KafkaError._SSL, KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})
"""Why no connection comes about although somebody listens."""
AWAY: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._RESOLVE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
    }
)
GONE_OVER: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError._STATE,
        KafkaError._NO_OFFSET,
    }
)


_SLICE: Final = 0.2


def arrived(consumer: Consumer, most: int, timeout: float) -> list[Message]:
    """Whatever has arrived, else the first that does in ``timeout`` seconds: ``consume`` alone would wait for all."""
    messages = consumer.consume(most, 0)
    if not messages and (first := consumer.poll(timeout)) is not None:
        messages = [first, *consumer.consume(most, 0)]
    return messages


class Reader:
    """A consumer of one partition that goes on where it was read last. All methods block.

    Args:
        patience: seconds that a broker may take to answer.
        end: asks where the partition ends; not over this consumer's connection, whose fetches wait for what is to come.
        gone: called when there is no such topic any more.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        topic: str,
        partition: int,
        *,
        patience: float,
        end: Callable[[], int],
        gone: Callable[[], None],
    ) -> None:
        self._consumer = Consumer(settings)
        self._patience = patience
        self._end = end
        self._gone = gone
        self._topic = topic
        self._partition = partition
        self._lock = threading.Lock()
        self._next = -1
        self._ahead: list[Record] = []
        self._closed = False

    def read(self, position: int, max_records: int, max_bytes: int, wait: float) -> list[Record]:
        """As the port's ``read``."""
        with self._lock:
            if self._closed:
                return []
            if position != self._next:
                self._begin(position)
            deadline = clock.monotonic() + wait
            # What is there is asked for once even when nobody waits: the first answer of a new reader takes a while.
            known_end = self._end() if not self._ahead and wait < _SLICE else None
            while not self._ahead and not self._closed:
                left = deadline - clock.monotonic()
                if left <= 0 and (known_end is None or position >= known_end):
                    return []
                self._fetch(max_records, _SLICE if left <= 0 else min(left, _SLICE))
            return self._page(max_records, max_bytes)

    def _begin(self, position: int) -> None:
        self._ahead.clear()
        self._next = position
        place = TopicPartition(self._topic, self._partition)
        low, high = self._consumer.get_watermark_offsets(place, timeout=self._patience)
        if position < low:
            self._next = -1
            raise model.position_expired(self._topic, self._partition, position, low)
        # Beyond the end Kafka answers with an error: such a reader begins at the end, and drops what is below.
        self._consumer.assign([TopicPartition(self._topic, self._partition, min(position, high))])

    def _fetch(self, most: int, timeout: float) -> None:
        """Take what there is, or what comes within ``timeout`` seconds."""
        messages = arrived(self._consumer, most, timeout)
        errors = [error for error in map(Message.error, messages) if error is not None]
        if errors:
            messages = [message for message in messages if message.error() is None]
        found = records(messages)
        if found and found[0].position < self._next:
            found = [record for record in found if record.position >= self._next]
        self._ahead += found
        for error in errors:
            self._failed(error)

    def _failed(self, error: KafkaError) -> None:
        if error.code() in UNKNOWN:
            self._gone()
            raise model.unknown_topic(self._topic)
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            position, self._next = self._next, -1
            place = TopicPartition(self._topic, self._partition)
            low, _ = self._consumer.get_watermark_offsets(place, timeout=self._patience)
            raise model.position_expired(self._topic, self._partition, position, low)
        if error.code() not in (KafkaError._PARTITION_EOF, *AWAY):
            self._next = -1
            raise KafkaException(error)

    def _page(self, max_records: int, max_bytes: int) -> list[Record]:
        ahead = self._ahead
        sizes = accumulate((len(record.event.data) for record in ahead), initial=0)
        # One at least, whatever its size.
        some = max(1, sum(1 for size in islice(sizes, min(len(ahead), max_records)) if size < max_bytes))
        page, self._ahead = ahead[:some], ahead[some:]
        if page:
            self._next = page[-1].position + 1
        return page

    def close(self) -> None:
        """End the consumer, once nobody reads from it."""
        self._closed = True
        with self._lock:
            self._consumer.close()

    def close_soon(self, threads: ThreadPoolExecutor) -> None:
        """End the consumer in the background."""
        self._closed = True
        threads.submit(self.close)
