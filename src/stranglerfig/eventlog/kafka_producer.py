"""Appending to Kafka: an idempotent producer, and what waits for its deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stranglerfig.eventlog import cloudevents
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import tasks

_PAUSE = 0.001
_STALE = (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC)
"""Seconds between two looks at what was delivered."""

Headers = list[tuple[str, str | bytes | None]]


class Producing:
    """A producer, and what hears of its deliveries.

    Args:
        settings: librdkafka's.
        most: bytes of the largest message.
        patience: seconds until a message that no broker took has failed.
    """

    def __init__(self, settings: dict[str, Any], *, most: int, patience: float) -> None:
        self._producer = Producer(
            {
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",  # as Java's: keys go where other programs' events go
                "linger.ms": 1,
                "batch.size": 1_000_000,
                "message.max.bytes": most,
                "queue.buffering.max.kbytes": 256 * 1024,
                "queue.buffering.max.messages": 500_000,
                "message.timeout.ms": int(patience * 1000),
                **settings,
            }
        )
        self._patience = patience
        self._flying = 0
        self._hearing: asyncio.Task[None] | None = None

    async def append(self, topic: str, events: Sequence[Event], partition: int | None) -> list[int]:
        """Produce ``events``; their offsets, once all of them are durable.

        Events without a key go to the first partition, so that they keep their order as well.

        Raises:
            KafkaException: one of them is not in.
        """
        batch = _Batch(len(events))
        produce, told = self._producer.produce, batch.told
        looked = False
        self._flying += 1
        try:
            for number, event in enumerate(events):
                key = event.partitionkey
                to = partition if partition is not None else (0 if key is None else -1)
                while True:
                    try:
                        produce(topic, event.data, key, to, partial(told, number), None, 0, headers(event))
                        break
                    except BufferError:  # what is in the client's queue has to go first
                        self._producer.poll(0)
                        await asyncio.sleep(_PAUSE)
                    except KafkaException as error:
                        if error.args[0].code() not in _STALE or looked:
                            told(number, error.args[0], None)
                            break
                        looked = True  # partitions were added, or the topic made anew, since the client last looked
                        await asyncio.to_thread(self._producer.list_topics, topic, self._patience)
            if self._hearing is None or self._hearing.done():
                self._hearing = tasks.spawn(self._hear(), name="kafka deliveries")
            await batch.done
        finally:
            self._flying -= 1
        return batch.positions

    async def _hear(self) -> None:
        """Hear of deliveries while there is something on its way.

        On the loop, not in a thread: a thread that is called back for each message and a loop that produces the next
        ones wait for each other's interpreter lock, which took more time than all the rest.
        """
        while self._flying:
            self._producer.poll(0)
            await asyncio.sleep(_PAUSE)


class _Batch:
    """Events of one append that are on their way."""

    def __init__(self, count: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.positions = [0] * count
        self._left = count
        self._error: KafkaError | None = None

    def told(self, number: int, error: KafkaError | None, message: Message | None) -> None:
        """The ``number``-th event is in, or is not."""
        if error is None and message is not None:
            self.positions[number] = message.offset() or 0
        else:
            self._error = self._error or error
        self._left -= 1
        if not self._left and not self.done.done():
            if self._error is not None:
                self.done.set_exception(KafkaException(self._error))
            else:
                self.done.set_result(None)


@lru_cache(maxsize=1024)
def _shared(source: str, kind: str, content_type: str) -> Headers:
    """What events of one type have in common; made once, because an append is mostly the making of headers."""
    return [
        ("ce_specversion", "1.0"),
        ("ce_source", source),
        ("ce_type", kind),
        (cloudevents.CONTENT_TYPE, content_type),
    ]


def headers(event: Event) -> Headers:
    """A CloudEvent's attributes as headers (CloudEvents, "Kafka Protocol Binding", binary content mode)."""
    found: Headers = [
        *_shared(event.source, event.type, event.datacontenttype),
        ("ce_id", event.id),
        ("ce_time", cloudevents.instant(event.time)),
    ]
    for name, value in cloudevents.optional(event):
        found.append((f"ce_{name}", value))
    return found
