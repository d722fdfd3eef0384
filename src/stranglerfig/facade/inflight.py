"""Commands that a side was given and has not acknowledged: how the router knows that there are none.

AMQP tells how many messages of a queue are ready, never how many are delivered and not yet acknowledged; the plugin
``rabbitmq_prometheus`` does, from figures that the queue tells of itself at an interval
(``collect_statistics_interval``, 5 s unless configured). A figure of before looks like one of now, so a zero counts
only when the figure is known to be younger than the hold: when it has changed since. Where it was zero to begin with,
a message of the router's own, which it takes itself by consuming with the highest priority, makes it change.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import aiohttp
from pamqp import commands
from pamqp import header as content_header

from stranglerfig.facade.amqp import AmqpError, Channel, Connection, Content
from stranglerfig.facade.messages import in_flight_unknown
from stranglerfig.facade.properties import short
from stranglerfig.foundation import clock, ids
from stranglerfig.foundation.errors import FigError

PROBE = "fig.probe"
"""Type of the router's own message. It expires at once where nobody takes it, so no other consumer waits for it."""
_FIRST = 2**31 - 1
_PAUSE = 0.01
_LINE = re.compile(r"^rabbitmq_detailed_queue_messages_(ready|unacked)\{(.*)\} (\d+)$", re.MULTILINE)

Next = Literal["wait", "probe", "take", "none"]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a queue has told of itself, at one moment."""

    ready: int
    unacked: int


@dataclass
class Drain:
    """The proof that nothing is in flight, from one look at the figures to the next; begun when nothing is ready.

    Pure: ``see`` says what to do: ``wait``, ``probe`` (publish the message of ours), ``take`` (acknowledge it), and
    ``none`` once nothing is in flight.
    """

    phase: Literal["begin", "probing", "falling"] = "begin"

    def see(self, figures: Figures | None) -> Next:
        """The figures as they are now; None when the queue has not told any yet."""
        if self.phase == "begin":
            if figures is not None and figures.unacked:
                self.phase = "falling"
                return "wait"
            self.phase = "probing"
            return "probe"
        if figures is None:
            return "wait"
        if self.phase == "probing":
            if not figures.unacked:
                return "wait"
            self.phase = "falling"
            return "take"
        return "wait" if figures.ready or figures.unacked else "none"


def parse(text: str, vhost: str, queue: str) -> Figures | None:
    """A queue's figures out of the plugin's text; None when it says nothing of the queue."""
    found = {}
    for kind, labels, number in _LINE.findall(text):
        said = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))
        if _plain(said.get("queue", "")) == queue and _plain(said.get("vhost", "")) == vhost:
            found[kind] = int(number)
    return Figures(found["ready"], found["unacked"]) if len(found) == 2 else None


def _plain(label: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], label)


class _Probe:
    """The router's own message in a queue, and the consumer that takes it."""

    def __init__(self, conn: Connection, queue: str) -> None:
        self._conn = conn
        self._queue = queue
        self._nonce = ids.nonce()
        self._channel: Channel | None = None
        self._tag: int | None = None

    async def put(self) -> None:
        channel = self._channel = await self._conn.channel()

        def delivered(content: Content) -> None:
            # Anything else is a command that a consumer has given back: it goes back with the channel.
            if short(content.properties, "message_id") == self._nonce:
                self._tag = content.tag

        channel.delivered = delivered
        await self._conn.call(channel, commands.Basic.Qos(prefetch_count=1))
        await self._conn.call(
            channel, commands.Basic.Consume(queue=self._queue, arguments={"x-priority": _FIRST}), timeout=5
        )
        said = commands.Basic.Properties(message_type=PROBE, message_id=self._nonce, expiration="0")
        properties = content_header.ContentHeader(0, 0, said).marshal()[12:]
        self._conn.publish(channel, "", self._queue, properties, b"")
        self._conn.flush()

    def take(self) -> None:
        if self._channel is not None and self._tag is not None:
            self._conn.ack(self._channel, self._tag, multiple=False)
            self._conn.flush()
            self._tag = None

    async def end(self) -> None:
        if self._channel is not None:
            self.take()
            await self._conn.close_channel(self._channel)


class InFlight:
    """Asks a broker's nodes for the figures of its queues.

    Args:
        urls: where the plugin answers, one per node.
    """

    def __init__(self, urls: Sequence[str], vhost: str) -> None:
        self._urls = urls
        self._vhost = vhost
        self._session: aiohttp.ClientSession | None = None

    async def figures(self, queue: str) -> Figures | None:
        """What the queue's node tells of it.

        Raises:
            FigError: ``in_flight_unknown`` when the plugin does not answer.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2))
        for url in self._urls:
            try:
                async with self._session.get(
                    f"{url}/metrics/detailed", params={"vhost": self._vhost, "family": "queue_coarse_metrics"}
                ) as answer:
                    answer.raise_for_status()
                    text = await answer.text()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise in_flight_unknown(f"{url} does not answer: {error or type(error).__name__}") from error
            if (found := parse(text, self._vhost, queue)) is not None:
                return found
        return None

    async def none(self, conn: Connection, queue: str, *, deadline: float) -> None:
        """Return when the consumers of ``queue`` have acknowledged all that it held; nothing may be published to it.

        Args:
            deadline: monotonic seconds.

        Raises:
            FigError: ``commands_in_flight`` at the deadline, ``in_flight_unknown`` when it cannot be known.
        """
        if not self._urls:
            raise in_flight_unknown("broker.metrics in fig.yaml names no address")
        while ready := await _ready(conn, queue):
            _in_time(deadline, queue, f"{ready} are waiting in it")
            await asyncio.sleep(_PAUSE)
        probe, drain = _Probe(conn, queue), Drain()
        try:
            while True:
                seen = await self.figures(queue)
                step = drain.see(seen)
                if step == "none":
                    return
                if step == "probe":
                    await probe.put()
                elif step == "take":
                    probe.take()
                _in_time(deadline, queue, f"{seen.unacked if seen else 'unknown'} are not acknowledged")
                await asyncio.sleep(_PAUSE)
        except AmqpError as error:
            raise in_flight_unknown(f"the queue '{queue}' lets nobody else consume: {error}") from error
        finally:
            await probe.end()

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _ready(conn: Connection, queue: str) -> int:
    found = await conn.ready(queue)
    if found is None:
        raise in_flight_unknown(f"there is no queue '{queue}'")
    return found


def _in_time(deadline: float, queue: str, what: str) -> None:
    if clock.monotonic() >= deadline:
        raise FigError(
            "commands_in_flight",
            f"commands in the queue '{queue}' were not all done within the budget: {what}",
            "Try again when its consumer keeps up; the figures are told every collect_statistics_interval of the "
            "broker, which should be well below facade.fence.budget.",
            queue=queue,
        )
