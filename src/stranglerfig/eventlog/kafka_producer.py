"""Appending to Kafka: an idempotent producer, and what waits for its deliveries."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stranglerfig.eventlog import cloudevents
from stranglerfig.eventlog.model import Event

_FULL = 0.005
"""Seconds to wait when the client's queue is full."""

Headers = list[tuple[str, str | bytes | None]]


class Producing:
    """A producer, and the thread that hears of its deliveries.

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
        self._closing = False
        self._polling = threading.Thread(target=self._poll, name="kafka deliveries", daemon=True)
        self._polling.start()

    def _poll(self) -> None:
        while not self._closing:
            self._producer.poll(0.1)

    async def append(self, topic: str, events: Sequence[Event], partition: int | None) -> list[int]:
        """Produce ``events``; their offsets, once all of them are durable.

        Events without a key go to the first partition, so that they keep their order as well.

        Raises:
            KafkaException: one of them is not in.
        """
        loop = asyncio.get_running_loop()
        batch = _Batch(len(events), loop, loop.create_future())
        produce, told = self._producer.produce, batch.told
        looked = False
        for number, event in enumerate(events):
            key = event.partitionkey
            to = partition if partition is not None else (0 if key is None else -1)
            while True:
                try:
                    produce(topic, event.data, key, to, partial(told, number), None, 0, headers(event))
                    break
                except BufferError:  # what is in the client's queue has to go first
                    await asyncio.sleep(_FULL)
                except KafkaException as error:
                    if error.args[0].code() == KafkaError._UNKNOWN_PARTITION and not looked:
                        # Partitions were added since the client last looked.
                        looked = True
                        await asyncio.to_thread(self._producer.list_topics, topic, self._patience)
                        continue
                    batch.told(number, error.args[0], None)
                    break
        await batch.done
        return batch.positions

    def close(self) -> None:
        """End the thread; what is on its way is not waited for, as its append is not."""
        self._closing = True
        self._polling.join()


@dataclass(slots=True)
class _Batch:
    """Events of one append that are on their way."""

    left: int
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    positions: list[int] = field(default_factory=list)
    error: KafkaError | None = None

    def __post_init__(self) -> None:
        self.positions = [0] * self.left

    def told(self, number: int, error: KafkaError | None, message: Message | None) -> None:
        """The ``number``-th event is in, or is not; called in the thread that hears of it."""
        if error is None and message is not None:
            self.positions[number] = message.offset() or 0
        else:
            self.error = self.error or error
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


def headers(event: Event) -> Headers:
    """A CloudEvent's attributes as headers (CloudEvents, "Kafka Protocol Binding", binary content mode)."""
    found: Headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", event.id),
        ("ce_source", event.source),
        ("ce_type", event.type),
        ("ce_time", event.time.isoformat()),
        (cloudevents.CONTENT_TYPE, event.datacontenttype),
    ]
    for name, value in cloudevents.optional(event):
        found.append((f"ce_{name}", value))
    return found
