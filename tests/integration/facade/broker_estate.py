"""A real RabbitMQ with an inbound queue, a monolith's and a service's queue, and whoever talks to them."""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from typing import Any

from pamqp import commands, header

from examples.servers.rabbitmq import RabbitMQ
from stranglerfig.databases.model import Side
from stranglerfig.facade import amqp
from stranglerfig.facade.amqp import Channel, Connection, Content
from stranglerfig.facade.messages import Message, QueuePlan, plans
from stranglerfig.facade.queues import QueueRoute, QueueSettings
from stranglerfig.facade.router import QueueRouter, keep
from stranglerfig.facade.settings import Routes
from stranglerfig.foundation import clock, tasks

ROUTES = Routes(
    reads=(QueueRoute(queue="in", types=("GetStock",)),), writes=(QueueRoute(queue="in", types=("AdjustStock",)),)
)


def queue_plan(prefix: str, **settings: Any) -> QueuePlan:
    """The plan of the queues ``<prefix>in``, ``<prefix>mono`` and ``<prefix>svc``."""
    queue = QueueSettings(
        monolith=f"{prefix}mono",
        service=f"{prefix}svc",
        **({"key": "header:item", "command_id": "message_id"} | settings),
    )
    name = f"{prefix}in"
    routes = Routes(
        reads=tuple(each.model_copy(update={"queue": name}) for each in ROUTES.queue_reads),
        writes=tuple(each.model_copy(update={"queue": name}) for each in ROUTES.queue_writes),
    )
    return plans([("inventory", routes, {name: queue})])[name]


def properties(**said: Any) -> bytes:
    """Encoded properties, persistent unless told."""
    plain = commands.Basic.Properties(**({"delivery_mode": 2} | said))
    return header.ContentHeader(0, 0, plain).marshal()[12:]


class Party:
    """A connection of a requester, the monolith or the service."""

    def __init__(self, conn: Connection, channel: Channel) -> None:
        self.conn, self.channel = conn, channel
        self.got: list[Content] = []
        self.confirmed = 0
        channel.delivered = self._take
        channel.confirmed = self._confirm
        self.acking = True
        self.unacked: list[int] = []

    @classmethod
    async def join(cls, url: str) -> Party:
        conn = await amqp.connect(url)
        party = cls(conn, await conn.channel())
        await conn.call(party.channel, commands.Confirm.Select())
        return party

    def _take(self, content: Content) -> None:
        self.got.append(content)
        if self.acking:
            self.conn.ack(self.channel, content.tag, multiple=False)
        else:
            self.unacked.append(content.tag)

    def _confirm(self, number: int, multiple: bool, success: bool) -> None:
        assert success
        self.confirmed = max(self.confirmed, number)

    async def declare(self, queue: str, **arguments: Any) -> None:
        await self.conn.call(self.channel, commands.Queue.Declare(queue=queue, durable=True, arguments=arguments))

    async def delete(self, queue: str) -> None:
        await self.conn.call(self.channel, commands.Queue.Delete(queue=queue))

    async def consume(self, queue: str, *, acking: bool = True, prefetch: int = 0, no_ack: bool = False) -> None:
        self.acking = acking and not no_ack
        await self.conn.call(self.channel, commands.Basic.Qos(prefetch_count=prefetch))
        await self.conn.call(self.channel, commands.Basic.Consume(queue=queue, no_ack=no_ack))

    def release(self) -> None:
        """Acknowledge all that was kept."""
        for tag in self.unacked:
            self.conn.ack(self.channel, tag, multiple=False)
        self.unacked.clear()
        self.acking = True
        self.conn.flush()

    def put(self, queue: str, body: bytes, exchange: str = "", **said: Any) -> None:
        self.conn.publish(self.channel, exchange, queue, properties(**said), body)
        self.conn.flush()

    async def close(self) -> None:
        await self.conn.close()


class Commands:
    """Commands in order per item, and what became of them."""

    def __init__(self, party: Party, queue: str, items: int = 20) -> None:
        self.party, self.queue, self.items = party, queue, items
        self.sent = 0

    def send(self, count: int) -> None:
        for _ in range(count):
            number = self.sent
            self.party.put(
                self.queue,
                struct.pack(">q", number),
                message_type="AdjustStock",
                message_id=f"c{number}",
                headers={"item": number % self.items},
            )
            self.sent += 1

    def check(self, *consumers: Party, doubled: bool = False) -> int:
        """Each command is there, once, in order per item; with ``doubled``, its first arrival counts. How many came
        again."""
        seen: dict[int, int] = {}
        last: dict[int, int] = defaultdict(lambda: -1)
        again = 0
        for consumer in consumers:
            for content in consumer.got:
                (number,) = struct.unpack(">q", content.body)
                if number in seen:
                    again += 1
                    continue
                seen[number] = len(seen)
                item = number % self.items
                assert number > last[item], f"{number} overtook {last[item]}"
                last[item] = number
        assert sorted(seen) == list(range(self.sent)), f"{self.sent - len(seen)} are missing"
        assert doubled or not again
        return again


class Routed:
    """A router of one queue under test, and who is about it."""

    def __init__(self, broker: RabbitMQ, prefix: str, **settings: Any) -> None:
        self.broker = broker
        self.prefix = prefix
        self.side: Side | None = "monolith"
        self.plan = queue_plan(prefix, **settings)
        self.router = QueueRouter(self.plan, broker.amqp, self.where)
        self.task: asyncio.Task[None] | None = None
        self._parties: list[Party] = []

    def where(self, plan: QueuePlan, message: Message) -> Side | None:
        return "monolith" if message.meaning.kind == "other" else self.side

    async def party(self) -> Party:
        found = await Party.join(self.broker.amqp)
        self._parties.append(found)
        return found

    async def declare(self, **mono: Any) -> None:
        admin = await self.party()
        for name in ("in", "svc"):
            await admin.declare(self.prefix + name)
        await admin.declare(f"{self.prefix}mono", **mono)

    async def start(self) -> None:
        begun = asyncio.Event()
        self.task = tasks.spawn(keep(self.router, begun.set), name="router")
        assert await clock.signalled(begun, timeout=20)

    async def until(self, condition: Any, what: str, timeout: float = 20) -> None:
        async def holds() -> bool:
            return bool(condition())

        await clock.until(holds, timeout=timeout, what=what, at_most=0.05)

    async def stop(self) -> None:
        if self.task is not None:
            await tasks.stop(self.task)
        for party in self._parties:
            await party.close()
