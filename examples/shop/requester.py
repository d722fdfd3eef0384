"""Sends commands by queue for the load and waits for their answers; counts answers that nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from pamqp import commands, header

from examples.shop.client import Answer, Unanswered
from examples.shop.commands import INBOUND
from stranglerfig.facade import amqp
from stranglerfig.facade.amqp import AmqpError, Channel, Connection, Content
from stranglerfig.facade.properties import short
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError


class Requester:
    """One connection, one durable queue of answers. Never sends anything twice.

    Args:
        run: names the queue of answers.
        repeated: told of an answer to a command that was answered before: its id, and whether it says the same.
    """

    def __init__(self, url: str, run: str, repeated: Callable[[str, bool], None], *, timeout: float = 15.0) -> None:
        self._url, self._timeout, self._repeated = url, timeout, repeated
        self._answers = f"shop.answers.{run}"
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._answered: dict[str, bytes] = {}
        self._conn: Connection | None = None
        self._out: Channel | None = None
        self._in: Channel | None = None
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and again whenever the broker was away; returns when commands can be sent."""
        self._task = tasks.spawn(tasks.supervise(self._run, name="answers", most=0.5), name="answers")
        await clock.signalled(self._connected, timeout=20)

    async def stop(self) -> None:
        """Hang up."""
        if self._task is not None:
            await tasks.stop(self._task)

    async def _run(self) -> None:
        conn = await amqp.connect(self._url)
        try:
            self._in, out = await conn.channel(), await conn.channel()
            for queue in (INBOUND, self._answers):
                await conn.call(out, commands.Queue.Declare(queue=queue, durable=True))
            self._in.delivered = self._delivered
            self._conn, self._out = conn, out
            await conn.call(self._in, commands.Basic.Consume(queue=self._answers))
            self._connected.set()
            await conn.closed
        finally:
            self._conn = None
            await conn.close()
        raise FigError("broker_lost", "the broker is gone")

    def _delivered(self, content: Content) -> None:
        assert self._in is not None
        key = short(content.properties, "correlation_id") or ""
        before = self._answered.get(key)
        if before is not None:
            self._repeated(key, before == content.body)
        else:
            self._answered[key] = content.body
        waiting = self._waiting.pop(key, None)
        if waiting is not None and not waiting.done():
            said = orjson.loads(content.body)
            waiting.set_result(Answer(said["status"], orjson.dumps(said["answer"])))
        if self._conn is not None:
            self._conn.ack(self._in, content.tag, multiple=False)

    async def request(self, kind: str, key: str, item: int, body: bytes, trace: str) -> Answer:
        """Send one command, once, and wait for its answer.

        Raises:
            Unanswered: no broker, or no answer in time.
        """
        conn, channel = self._conn, self._out
        if conn is None or channel is None or channel.error is not None:
            raise Unanswered("no connection to the broker")
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[key] = waiting
        said: dict[str, Any] = {
            "content_type": "application/json",
            "delivery_mode": 2,
            "message_type": kind,
            "message_id": key,
            "correlation_id": key,
            "reply_to": self._answers,
            "headers": {"item_id": item, "traceparent": trace},
            "app_id": "load",
        }
        properties = header.ContentHeader(0, 0, commands.Basic.Properties(**said)).marshal()[12:]
        conn.publish(channel, "", INBOUND, properties, body)
        conn.flush()
        try:
            async with asyncio.timeout(self._timeout):
                return await waiting
        except (TimeoutError, AmqpError) as error:
            raise Unanswered(f"no answer within {self._timeout:g} s") from error
        finally:
            self._waiting.pop(key, None)
