"""How the monolith and the service take commands from a queue, beside HTTP: the same code, asked another way.

``AdjustStock`` and ``ReserveItem`` become requests of the application itself, with the message's id as the idempotency
key; the answer goes to ``reply_to`` before the command is acknowledged. Commands of one item are done one after the
other, in the queue's order; one that the database refuses for the moment is tried again in its place.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import Any

import aio_pika
import orjson
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from stranglerfig.foundation import tasks

log = logging.getLogger(__name__)
PATHS = {"AdjustStock": "/api/inventory/adjust", "ReserveItem": "/api/inventory/reserve"}
INBOUND = "shop.commands"
LANES = 8
PREFETCH = 200


async def ask(app: Any, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """One POST to the ASGI application, without a network between."""
    status, parts, sent = 500, [], False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await asyncio.Future()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": None,
        "server": None,
    }
    await app(scope, receive, send)
    return status, b"".join(parts)


class Consumer:
    """Takes commands for ``app`` from ``queue`` until it is stopped."""

    def __init__(self, app: Any, url: str, queue: str) -> None:
        self._app, self._url, self._name = app, url, queue
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; a broker that is away is waited for."""
        self._task = tasks.spawn(tasks.supervise(self._run, name="commands", most=1.0), name="commands")

    async def stop(self) -> None:
        """Finish what was begun; what was not is in the queue again, in its order."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=25)
            await tasks.stop(self._task)

    async def _run(self) -> None:
        connection = await aio_pika.connect(self._url)
        try:
            channel = await connection.channel(publisher_confirms=True)
            await channel.set_qos(prefetch_count=PREFETCH)
            for name in (INBOUND, self._name):
                queue = await channel.declare_queue(name, durable=True)
            await self._alone(channel, queue)
            await self._consume(connection, channel, queue)
        finally:
            with suppress(Exception):
                await connection.close()
        if not self._stopping.is_set():
            raise ConnectionError("the broker is gone")

    async def _consume(self, connection: Any, channel: Any, queue: AbstractQueue) -> None:
        ended = asyncio.Event()
        connection.close_callbacks.add(lambda *_: ended.set())
        channel.close_callbacks.add(lambda *_: ended.set())
        lanes: list[asyncio.Queue[AbstractIncomingMessage]] = [asyncio.Queue() for _ in range(LANES)]

        async def sort(message: AbstractIncomingMessage) -> None:
            lanes[int(str(message.headers.get("item_id") or 0)) % LANES].put_nowait(message)

        answers: set[asyncio.Task[None]] = set()
        workers = [tasks.spawn(self._work(lane, channel, answers), name="lane") for lane in lanes]
        watch = tasks.spawn(self._stopping.wait(), name="stop asked")
        over = tasks.spawn(ended.wait(), name="broker gone")
        try:
            await queue.consume(sort)
            await asyncio.wait([watch, over], return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set() and not ended.is_set():
                # Each lane ends with the command that it is at. What waits in them goes back as the consumer goes,
                # not after it: a new release would begin with what comes later.
                await asyncio.wait(workers, timeout=10)
                if answers:
                    await asyncio.wait(answers, timeout=10)
        finally:
            for task in (*workers, *answers, watch, over):
                await tasks.stop(task)

    async def _alone(self, channel: Any, queue: AbstractQueue) -> None:
        """A new release begins when the old one has gone: two at once would mix up the order."""
        while (await channel.declare_queue(queue.name, passive=True)).declaration_result.consumer_count:
            await asyncio.sleep(0.02)

    async def _work(
        self, lane: asyncio.Queue[AbstractIncomingMessage], channel: Any, answers: set[asyncio.Task[None]]
    ) -> None:
        """Do the commands of a lane in their order; the broker's word for an answer is awaited beside the next."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(0.2):
                    message = await lane.get()
            except TimeoutError:
                continue
            if self._stopping.is_set():
                return
            path = PATHS.get(message.type or "")
            if path is None:
                await message.reject()
                continue
            status, answer = await self._done(path, message)
            task = tasks.spawn(self._answer(channel, message, status, answer), name="answer")
            answers.add(task)
            task.add_done_callback(answers.discard)

    @staticmethod
    async def _answer(channel: Any, message: AbstractIncomingMessage, status: int, answer: bytes) -> None:
        if message.reply_to:
            reply = aio_pika.Message(
                orjson.dumps({"status": status, "answer": orjson.loads(answer or b"null")}),
                correlation_id=message.correlation_id,
                type=f"{message.type}.answer",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await channel.default_exchange.publish(reply, message.reply_to)
        await message.ack()

    async def _done(self, path: str, message: AbstractIncomingMessage) -> tuple[int, bytes]:
        headers = {"idempotency-key": message.message_id or ""}
        if trace := message.headers.get("traceparent"):
            headers["traceparent"] = str(trace)
        while True:
            status, answer = await ask(self._app, path, message.body, headers)
            if status < 500:
                return status, answer
            log.warning("%s is tried again: %s", message.message_id, answer[:200])
            await asyncio.sleep(0.05)


def with_commands(app: Any, *, prefix: str) -> Any:
    """``app``, which also takes commands where ``<prefix>_AMQP`` names a broker and ``<prefix>_QUEUE`` a queue."""
    url, queue = os.environ.get(f"{prefix}_AMQP"), os.environ.get(f"{prefix}_QUEUE")
    if not url or not queue:
        return app
    consumer = Consumer(app, url, queue)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return

        async def told() -> Any:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await consumer.stop()
            return message

        async def tell(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                consumer.start()
            await send(message)

        await app(scope, told, tell)

    return application
