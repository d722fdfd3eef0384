"""The router of one inbound queue: consumes, lets ``messages`` decide, publishes, and acknowledges inbound only what
the broker has confirmed outbound.

A message passes with its properties, its body and its routing key as they came. It goes through an exchange of ours per
outbound queue (fanout: ``CC`` headers and routing keys would otherwise lead elsewhere), mandatory, with publisher
confirms. Whatever becomes of this process or of the connection, what was not acknowledged is in the inbound queue
again, in its order.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pamqp import commands

from stranglerfig.databases.model import Side
from stranglerfig.facade import amqp
from stranglerfig.facade.amqp import AmqpError, Connection, Content
from stranglerfig.facade.inflight import InFlight
from stranglerfig.facade.messages import Lines, Meaning, Message, QueuePlan, Send, lot
from stranglerfig.facade.properties import publishable, short, value
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError

log = logging.getLogger(__name__)

OTHER = Meaning("", "other")
EXCHANGE = "fig.to."
NO_KEY = "\0"
"""The line of the messages that have no key; no key of theirs begins so."""
CONSUMER = "fig.router"
LEAVE = 1.0
"""Seconds that a router which is asked to end waits for the broker's word at most."""
_SETTLE = 0.003
TYPES = 500
"""Types of message that are told apart in what has passed: senders choose them."""


@dataclass(slots=True)
class _Pending:
    """A publish that the broker has not confirmed; ``kind`` is the message's type where it is for the monolith."""

    tag: int
    queue: str
    kind: str | None
    returned: str | None = None


Where = Callable[[QueuePlan, Message], Side | None]


class QueueRouter:
    """One inbound queue.

    Args:
        url: the broker.
        where: where a message goes now; None while it has to wait.
        held: called when a message begins to wait.

    Attributes:
        passed: what the monolith was given, by type: how many, and when the last one was (seconds since 1970).
    """

    def __init__(
        self,
        plan: QueuePlan,
        url: str,
        where: Where,
        *,
        impersonator: bool = False,
        held: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan = plan
        self.counts: Counter[str] = Counter()
        self.passed: dict[str, tuple[int, float]] = {}
        self.alarm: str | None = None
        self._url = url
        self._where = where
        self._impersonator = impersonator
        self._told = held
        self._paused: set[str] = set()
        self._conn: Connection | None = None
        self._begin()

    def _begin(self) -> None:
        self.lines = Lines(self._go, self.plan.window)
        self._contents: dict[int, Content] = {}
        self._pending: dict[int, _Pending] = {}
        self._unbound: set[str] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._leaving = False

    # -- life

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Route until the connection is lost or the inbound queue is taken away.

        Raises:
            FigError: ``broker_unreachable``, ``queue_missing``, ``queue_taken``, ``broker_lost``.
        """
        conn = self._conn = await amqp.connect(self._url)
        self._begin()
        try:
            cancelled = await self._set_up(conn)
            self.alarm = None
            ready()
            try:
                await self._cut_off(conn, cancelled)
            except asyncio.CancelledError:
                await self._leave(conn)
                raise
            why = str(conn.closed.result()) if conn.closed.done() else "the broker has ended the channel or the queue"
            raise FigError(
                "broker_lost",
                f"the router of '{self.plan.name}' is cut off: {why}",
                "It connects again by itself; messages wait in their queues meanwhile.",
                queue=self.plan.name,
            )
        except AmqpError as error:
            raise self._refused(error) from error
        except FigError as error:
            self.alarm = error.message
            raise
        finally:
            if self._retry is not None:
                self._retry.cancel()
            self._conn = None
            await conn.close()
            # What was in hand is in the inbound queue again.
            self._begin()

    async def _leave(self, conn: Connection) -> None:
        """Take no more and pass nothing on, but acknowledge what the broker still confirms: it need not come again."""
        self._leaving = True
        with suppress(AmqpError, FigError):
            await conn.call(self._inbound, commands.Basic.Cancel(consumer_tag=CONSUMER), timeout=LEAVE)
            for queue in self.plan.outbound:
                await self._known(conn, queue, timeout=LEAVE)
            self._acknowledge()
            conn.flush()

    @staticmethod
    async def _cut_off(conn: Connection, cancelled: asyncio.Future[None]) -> None:
        def lost(_: object) -> None:
            if not cancelled.done():
                cancelled.set_result(None)

        conn.closed.add_done_callback(lost)
        await cancelled

    async def _set_up(self, conn: Connection) -> asyncio.Future[None]:
        plan = self.plan
        for queue in (plan.name, *plan.outbound):
            if await conn.ready(queue) is None:
                raise FigError(
                    "queue_missing",
                    f"there is no queue '{queue}'",
                    "Let its owner declare it (durable), or correct queues in extraction.yaml.",
                    queue=queue,
                )
        self._inbound, self._outbound = await conn.channel(), await conn.channel()
        for queue in plan.outbound:
            name = EXCHANGE + queue
            await conn.call(
                self._outbound, commands.Exchange.Declare(exchange=name, exchange_type="fanout", durable=True)
            )
            await conn.call(self._outbound, commands.Queue.Bind(queue=queue, exchange=name))
        await conn.call(self._outbound, commands.Confirm.Select())
        cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def gone() -> None:
            if not cancelled.done():
                cancelled.set_result(None)

        self._inbound.delivered, self._inbound.cancelled = self._delivered, gone
        self._outbound.returned, self._outbound.confirmed = self._returned, self._confirmed
        self._outbound.cancelled = gone
        conn.batch = self._acknowledge
        await conn.call(self._inbound, commands.Basic.Qos(prefetch_count=plan.prefetch))
        # Exclusive: a second router, or the monolith itself, would take every other message and with it the order.
        await conn.call(self._inbound, commands.Basic.Consume(queue=plan.name, consumer_tag=CONSUMER, exclusive=True))
        return cancelled

    def _refused(self, error: AmqpError) -> FigError:
        if error.code == 403:
            found = FigError(
                "queue_taken",
                f"the queue '{self.plan.name}' cannot be taken over: {error}",
                f"Let the monolith consume '{self.plan.targets['monolith']}' instead; the router wants the inbound "
                "queue alone, and the rights to configure, write and read what it uses.",
                queue=self.plan.name,
            )
        else:
            found = FigError("broker_lost", f"the broker refused the router: {error}", "See the broker's log.")
        self.alarm = found.message
        return found

    # -- what comes

    def _delivered(self, content: Content) -> None:
        plan = self.plan
        kind = value(plan.type, content.properties, content.body, content.routing_key)
        meaning = plan.types.get(kind or "", OTHER)
        key = value(plan.key, content.properties, content.body, content.routing_key) if plan.key else None
        message = Message(
            tag=content.tag,
            meaning=meaning,
            type=(kind or "")[:200],
            key=NO_KEY if key is None else key,
            lot=self._lot(content, key) if meaning.kind == "read" else 0.0,
            arrived=clock.monotonic(),
        )
        self.counts["arrived"] += 1
        self.counts["redelivered"] += content.redelivered
        self._contents[content.tag] = content
        self._send(self.lines.arrived(message))
        if message.state == "held":
            self._told()

    def _lot(self, content: Content, key: str | None) -> float:
        return lot(key or short(content.properties, "message_id") or str(content.tag))

    def _confirmed(self, number: int, multiple: bool, success: bool) -> None:
        pending = self._pending
        if multiple:
            while pending and (first := next(iter(pending))) <= number:
                self._settled(pending.pop(first), success)
        elif number in pending:
            self._settled(pending.pop(number), success)

    def _settled(self, sent: _Pending, success: bool) -> None:
        if success and sent.returned is None:
            if self.alarm is not None and not self.lines.failing():
                self.alarm = None
            del self._contents[sent.tag]
            self.counts[sent.queue] += 1
            if sent.kind is not None:
                self._passed(sent.kind)
            self._send(self.lines.confirmed(sent.tag))
            return
        self.counts["failed"] += 1
        why = sent.returned or "the broker refused it (its queue is full, or the broker is in trouble)"
        if self.alarm is None:
            log.error("'%s' takes no message: %s", sent.queue, why, extra={"action": "unroutable", "queue": sent.queue})
        self.alarm = f"'{sent.queue}' takes no message: {why}"
        self.lines.failed(sent.tag, clock.monotonic())
        self._await_retry()

    def _passed(self, kind: str) -> None:
        kind = kind if kind in self.passed or len(self.passed) < TYPES else "…"
        times, _ = self.passed.get(kind, (0, 0.0))
        self.passed[kind] = times + 1, clock.epoch()

    def _returned(self, content: Content, why: str) -> None:
        """A message came back, before its confirm: no queue was there for it."""
        # Which one is not said; of two with the same body for the same exchange both come back.
        for sent in self._pending.values():
            same = EXCHANGE + sent.queue == content.exchange and self._contents[sent.tag].body == content.body
            if same and sent.returned is None:
                sent.returned = f"no such queue ({why})"
                self._unbound.add(sent.queue)
                return

    # -- what goes

    def _go(self, message: Message) -> Side | None:
        side = None if self._leaving else self._where(self.plan, message)
        if side is None or self.plan.queue(side, message.meaning.context) in self._paused:
            return None
        return side

    def _send(self, sends: list[Send]) -> None:
        conn = self._conn
        assert conn is not None
        for send in sends:
            content = self._contents[send.message.tag]
            queue = self.plan.queue(send.side, send.message.meaning.context)
            number = conn.publish(
                self._outbound, EXCHANGE + queue, content.routing_key, self._properties(content), content.body
            )
            self._pending[number] = _Pending(
                send.message.tag, queue, send.message.type if send.side == "monolith" else None
            )

    def _properties(self, content: Content) -> bytes:
        assert self._conn is not None
        return publishable(content.properties, self._conn.user, impersonator=self._impersonator)

    def _acknowledge(self) -> None:
        if self._conn is not None:
            for tag, multiple in self.lines.acks():
                self._conn.ack(self._inbound, tag, multiple=multiple)

    def pump(self) -> None:
        """Let go what may go now."""
        if self._conn is None:
            return
        self._send(self.lines.again(clock.monotonic()))
        self._acknowledge()
        self._conn.flush()

    def _await_retry(self) -> None:
        due = self.lines.next_attempt()
        if due is None or self._retry is not None:
            return

        def again() -> None:
            self._retry = None
            tasks.spawn(self._try_again(), name=f"retry of {self.plan.name}")

        self._retry = asyncio.get_running_loop().call_later(max(0.0, due - clock.monotonic()), again)

    async def _try_again(self) -> None:
        """Send what is due; a queue that was deleted took its binding along, and is bound anew first."""
        conn = self._conn
        if conn is None:
            return
        try:
            for queue in sorted(self._unbound):
                await self._bind(conn, queue)
        except AmqpError:
            return  # cut off: all of it comes again
        if self._conn is conn:
            self.pump()
            self._await_retry()

    async def _known(self, conn: Connection, queue: str, *, timeout: float) -> None:
        """Wait until it is known of all that was sent to ``queue`` what became of it."""

        async def known() -> bool:
            return self._conn is not conn or all(sent.queue != queue for sent in self._pending.values())

        what = f"the broker to confirm what was sent to '{queue}'"
        await clock.until(known, timeout=timeout, what=what, every=_SETTLE, at_most=_SETTLE)

    async def _bind(self, conn: Connection, queue: str) -> None:
        """Bind ``queue`` if it is there, with nothing on its way to it: what came back must not be overtaken."""
        self._paused.add(queue)
        try:
            await self._known(conn, queue, timeout=float("inf"))
            if await conn.ready(queue) is not None:
                channel = await conn.channel()
                await conn.call(channel, commands.Queue.Bind(queue=queue, exchange=EXCHANGE + queue))
                await conn.close_channel(channel)
                self._unbound.discard(queue)
        finally:
            self._paused.discard(queue)

    # -- the fence

    async def drained(self, side: Side, context: str, figures: InFlight, *, deadline: float) -> None:
        """Return when ``side`` has done all commands of its queue; other messages for that queue wait meanwhile.

        Raises:
            FigError: ``commands_in_flight``, ``in_flight_unknown``, ``broker_lost``, ``timed_out``.
        """
        conn = self._conn
        if conn is None:
            raise FigError("broker_lost", f"the router of '{self.plan.name}' has no connection", "It connects again.")
        queue = self.plan.queue(side, context)
        self._paused.add(queue)
        try:
            await self._known(conn, queue, timeout=deadline - clock.monotonic())
            await figures.none(conn, queue, deadline=deadline)
            if self._conn is not conn:
                raise FigError("broker_lost", "the connection was lost while commands ended", "Try again.")
        except AmqpError as error:
            raise FigError(
                "broker_lost", f"the broker went away while commands ended: {error}", "Try again."
            ) from error
        finally:
            self._paused.discard(queue)
            self.pump()

    def state(self) -> dict[str, Any]:
        """What is in hand and what has been, JSON-able."""
        return {
            "queue": self.plan.name,
            "connected": self._conn is not None,
            "in_hand": len(self.lines),
            "sent": self.lines.sent(),
            "failing": self.lines.failing(),
            "alarm": self.alarm,
            "counts": dict(self.counts),
            "passed": {kind: list(each) for kind, each in self.passed.items()},
        }


async def keep(router: QueueRouter, ready: Callable[[], None], *, patient: bool = True) -> None:
    """Run ``router``, connected anew each time it is cut off, until cancelled.

    Raises:
        FigError: what the first attempt was refused with, unless ``patient``.
    """
    begun = False

    def first() -> None:
        nonlocal begun
        begun = True
        ready()

    if not patient:
        try:
            await router.run(first)
        except FigError:
            if not begun:
                raise
    await tasks.supervise(lambda: router.run(ready), name=f"router of {router.plan.name}", most=1.0)
