"""A connection to an AMQP 0-9-1 broker, as thin as the router needs it: what passes through is not decoded.

Rare methods (opening, declaring, consuming) are encoded by ``pamqp``; deliveries, publishes and acknowledgements are
read and written here, with a message's properties as the bytes that they are. Frames: specification 2.3.5.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from pamqp import commands, exceptions, frame, header

from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_END = b"\xce"
_DELIVER, _RETURN, _ACK, _NACK = 60 << 16 | 60, 60 << 16 | 50, 60 << 16 | 80, 60 << 16 | 120
_PUBLISH = struct.pack(">HHH", 60, 40, 0)
_prefix = struct.Struct(">BHI")
_long = struct.Struct(">Q")
_LARGEST = 16 << 20
"""Bytes of a frame that is still believed; what we ask for is far less, but a broker may be told otherwise."""
HEARTBEAT = 10
"""Seconds; a peer that has been silent for twice as long is gone."""


class AmqpError(Exception):
    """The broker refused something, or the connection is gone; ``code`` is AMQP's reply code, 0 for a lost one."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})" if code else text)
        self.code = code


@dataclass(slots=True)
class Content:
    """A message as it came: ``properties`` are the header frame's bytes from the flags on."""

    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: bytes
    body: bytes


@dataclass
class Channel:
    """What comes by one channel; the callbacks are called in the order of the frames and may not fail."""

    number: int
    delivered: Callable[[Content], None] = lambda content: None
    returned: Callable[[Content, str], None] = lambda content, why: None
    confirmed: Callable[[int, bool, bool], None] = lambda number, multiple, success: None
    cancelled: Callable[[], None] = lambda: None
    published: int = 0
    error: AmqpError | None = None
    _answer: asyncio.Future[Any] | None = None
    _coming: tuple[tuple[int, bool, str, str], str | None] | None = None
    _size: int = 0
    _properties: bytes = b""
    _body: bytearray = field(default_factory=bytearray)

    # -- frames

    def method(self, payload: memoryview) -> bool:
        """A method frame; False when it is none of the hot ones."""
        kind = int.from_bytes(payload[:4], "big")
        if kind == _DELIVER:
            at = 5 + payload[4]
            (tag,) = _long.unpack_from(payload, at)
            again = bool(payload[at + 8] & 1)
            exchange, at = _short(payload, at + 9)
            routing_key, _ = _short(payload, at)
            self._coming = (tag, again, exchange, routing_key), None
        elif kind == _ACK:
            self.confirmed(_long.unpack_from(payload, 4)[0], bool(payload[12] & 1), True)
        elif kind == _NACK:
            self.confirmed(_long.unpack_from(payload, 4)[0], bool(payload[12] & 1), False)
        elif kind == _RETURN:
            why, at = _short(payload, 6)
            exchange, at = _short(payload, at)
            routing_key, _ = _short(payload, at)
            self._coming = (0, False, exchange, routing_key), why
        else:
            return False
        return True

    def header(self, payload: memoryview) -> None:
        """A content header frame."""
        (self._size,) = _long.unpack_from(payload, 4)
        self._properties, self._body = bytes(payload[12:]), bytearray()
        if not self._size:
            self._complete()

    def content(self, payload: memoryview) -> None:
        """A content body frame."""
        if self._coming is None:
            raise ValueError("content that belongs to no message")
        self._body += payload
        if len(self._body) >= self._size:
            self._complete()

    def _complete(self) -> None:
        if self._coming is None:
            raise ValueError("content that belongs to no message")
        said, why = self._coming
        self._coming = None
        tag, again, exchange, routing_key = said
        content = Content(tag, again, exchange, routing_key, self._properties, bytes(self._body))
        if why is None:
            self.delivered(content)
        else:
            self.returned(content, why)

    def mute(self) -> None:
        """Tell nobody of what still comes."""
        self.delivered = self.returned = self.confirmed = self.cancelled = lambda *_: None  # type: ignore[assignment]

    def answer(self, found: Any) -> None:
        """What a call waits for."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(found)

    def fail(self, error: AmqpError) -> None:
        """The channel is of no use any more."""
        self.error = self.error or error
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _short(payload: memoryview, at: int) -> tuple[str, int]:
    end = at + 1 + payload[at]
    return bytes(payload[at + 1 : end]).decode("utf-8", "surrogateescape"), end


def _shortstr(text: str) -> bytes:
    value = text.encode("utf-8", "surrogateescape")
    return bytes((len(value),)) + value


class Connection(asyncio.Protocol):
    """One connection; made by :func:`connect`. What is written is collected until the end of what was read."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.user = unquote(parts.username or "guest")
        self._password = unquote(parts.password or "guest")
        self._host = unquote(parts.path[1:]) if len(parts.path) > 1 else "/"
        self.closed: asyncio.Future[AmqpError] = asyncio.get_running_loop().create_future()
        self.batch: Callable[[], None] = lambda: None
        self._transport: asyncio.Transport | None = None
        self._channels: dict[int, Channel] = {0: Channel(0)}
        self._next = 1
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._frame_max = 131_072
        self._heard = clock.monotonic()
        self._reading = False
        self._pulse: asyncio.Task[None] | None = None

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is there."""
        self._transport = cast(asyncio.Transport, transport)
        # The broker speaks first, and may do so before anybody awaits it.
        self._channels[0]._answer = asyncio.get_running_loop().create_future()
        self._transport.write(frame.marshal(header.ProtocolHeader(), 0))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: everybody who waits is told."""
        self._end(AmqpError(0, f"the connection to the broker is gone: {exc or 'closed'}"))

    def data_received(self, data: bytes) -> None:
        """Read all whole frames, then write what came of them."""
        self._heard = clock.monotonic()
        buffer = self._buffer
        buffer += data
        at, length = 0, len(buffer)
        self._reading = True
        view = memoryview(buffer)
        try:
            while length - at >= 8 and not self.closed.done():
                kind, number, size = _prefix.unpack_from(view, at)
                end = at + 7 + size
                if size > _LARGEST:
                    raise ValueError(f"a frame of {size} bytes")
                if length <= end:
                    break
                if view[end] != _END[0]:
                    raise ValueError("a frame does not end where it should")
                self._frame(kind, number, view[at + 7 : end], view[at : end + 1])
                at = end + 1
        except (ValueError, TypeError, LookupError, struct.error, exceptions.PAMQPException) as error:
            # Nothing after it can be trusted to begin where it seems to (specification 4.2.3).
            self._end(AmqpError(501, f"the broker sent what cannot be read: {error}"))
            self._buffer = bytearray()
            return
        finally:
            self._reading = False
        view.release()
        del buffer[:at]
        self.batch()
        self.flush()

    def _frame(self, kind: int, number: int, payload: memoryview, whole: memoryview) -> None:
        channel = self._channels.get(number)
        if kind == _HEARTBEAT or channel is None:
            return
        if kind == _METHOD:
            if not channel.method(payload):
                self._rare(channel, frame.unmarshal(bytes(whole))[2])
        elif kind == _HEADER:
            channel.header(payload)
        elif kind == _BODY:
            channel.content(payload)

    def _rare(self, channel: Channel, found: Any) -> None:
        if isinstance(found, commands.Channel.Close):
            self._write(frame.marshal(commands.Channel.CloseOk(), channel.number))
            self._channels.pop(channel.number, None)
            channel.fail(AmqpError(found.reply_code or 0, found.reply_text))
            channel.cancelled()
        elif isinstance(found, commands.Connection.Close):
            self._write(frame.marshal(commands.Connection.CloseOk(), 0))
            self._end(AmqpError(found.reply_code or 0, found.reply_text))
        elif isinstance(found, commands.Basic.Cancel):
            channel.cancelled()
        elif not isinstance(found, commands.Connection.Blocked | commands.Connection.Unblocked):
            channel.answer(found)

    def _end(self, error: AmqpError) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        if not self.closed.done():
            self.closed.set_result(error)
        for channel in self._channels.values():
            channel.fail(error)
        if self._transport is not None:
            self._transport.abort()

    # -- writing

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        if not self._reading:
            self.flush()

    def flush(self) -> None:
        """Hand what was collected to the network."""
        if self._out and self._transport is not None:
            data = b"".join(self._out)
            self._out.clear()
            if not self._transport.is_closing():
                self._transport.write(data)

    def publish(self, channel: Channel, exchange: str, routing_key: str, properties: bytes, body: bytes) -> int:
        """Publish, mandatory; returns its number at the channel (from 1). Nothing is on its way before ``flush``."""
        method = _PUBLISH + _shortstr(exchange) + _shortstr(routing_key) + b"\x01"
        head = struct.pack(">HHQ", 60, 0, len(body)) + properties
        parts = [
            _prefix.pack(_METHOD, channel.number, len(method)), method, _END,
            _prefix.pack(_HEADER, channel.number, len(head)), head, _END,
        ]  # fmt: skip
        most = self._frame_max - 8
        for start in range(0, len(body), most):
            part = body[start : start + most]
            parts += [_prefix.pack(_BODY, channel.number, len(part)), part, _END]
        self._out.append(b"".join(parts))
        channel.published += 1
        return channel.published

    def ack(self, channel: Channel, tag: int, *, multiple: bool) -> None:
        """Acknowledge; on its way with the next ``flush``."""
        self._out.append(
            _prefix.pack(_METHOD, channel.number, 13) + struct.pack(">IQB", _ACK, tag, 1 if multiple else 0) + _END
        )

    # -- calls

    async def call(self, channel: Channel, command: Any, *, timeout: float = 10.0) -> Any:
        """Send a method and return its answer; one at a time per channel.

        Raises:
            AmqpError: the broker refused (the channel is closed then), is gone, or does not answer.
        """
        if channel.error is not None or self.closed.done():
            raise channel.error or self.closed.result()
        channel._answer = asyncio.get_running_loop().create_future()
        self._write(frame.marshal(command, channel.number))
        try:
            async with asyncio.timeout(timeout):
                return await channel._answer
        except TimeoutError:
            raise AmqpError(0, f"the broker has not answered {command.name} within {timeout:g} s") from None
        finally:
            channel._answer = None

    async def open(self, user_and_password: str) -> None:
        """The handshake (specification 2.2.4)."""
        control = self._channels[0]
        assert control._answer is not None
        await control._answer
        tune = await self.call(
            control,
            commands.Connection.StartOk(
                {"product": "stranglerfig", "capabilities": {"consumer_cancel_notify": True, "basic.nack": True}},
                "PLAIN",
                user_and_password,
            ),
        )
        self._frame_max = min(tune.frame_max or self._frame_max, self._frame_max)
        pulse = min(tune.heartbeat or HEARTBEAT, HEARTBEAT)
        self._write(frame.marshal(commands.Connection.TuneOk(tune.channel_max, self._frame_max, pulse), 0))
        await self.call(control, commands.Connection.Open(self._host))
        self._pulse = tasks.spawn(self._beat(pulse), name="amqp heartbeat")

    async def _beat(self, every: float) -> None:
        beat = _prefix.pack(_HEARTBEAT, 0, 0) + _END
        while True:
            await asyncio.sleep(every / 2)
            if clock.monotonic() - self._heard > 2 * every:
                self._end(AmqpError(0, f"the broker has been silent for {2 * every:g} s"))
            self._write(beat)

    async def channel(self) -> Channel:
        """A new channel."""
        found = Channel(self._next)
        self._next += 1
        self._channels[found.number] = found
        await self.call(found, commands.Channel.Open())
        return found

    async def close_channel(self, channel: Channel) -> None:
        """Give a channel back; what it held goes to its queues again."""
        if channel.error is None and not self.closed.done():
            await self.call(channel, commands.Channel.Close(200, "done", 0, 0))
        self._channels.pop(channel.number, None)

    async def ready(self, queue: str) -> int | None:
        """How many messages of ``queue`` wait for a consumer (those delivered are not counted); None: no such queue."""
        channel = await self.channel()
        try:
            answer = await self.call(channel, commands.Queue.Declare(queue=queue, passive=True))
            return int(answer.message_count)
        except AmqpError as error:
            if error.code == 404:
                return None
            raise
        finally:
            await self.close_channel(channel)

    async def close(self) -> None:
        """Close it, politely if that is possible; nobody is told of anything any more."""
        self.batch = lambda: None
        for channel in self._channels.values():
            channel.mute()
        if not self.closed.done():
            with suppress(AmqpError):
                await self.call(self._channels[0], commands.Connection.Close(200, "done", 0, 0), timeout=2)
        self._end(AmqpError(0, "closed"))


async def connect(url: str, *, timeout: float = 10.0) -> Connection:
    """A connection that is open.

    Raises:
        FigError: ``broker_unreachable``, with the reason and without the password.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "amqps"
    host, port = parts.hostname or "127.0.0.1", parts.port or (5671 if secure else 5672)
    context = ssl.create_default_context() if secure else None
    conn: Connection | None = None
    try:
        async with asyncio.timeout(timeout):
            _, conn = await asyncio.get_running_loop().create_connection(
                lambda: Connection(url), host, port, ssl=context
            )
            await conn.open(f"\0{conn.user}\0{conn._password}")
            return conn
    except (OSError, TimeoutError, AmqpError, exceptions.PAMQPException) as error:
        if conn is not None:
            conn._end(AmqpError(0, "not opened"))
        why = str(error) or f"no answer within {timeout:g} s"
        raise FigError(
            "broker_unreachable",
            f"the broker at {host}:{port} cannot be used: {why}",
            "Check broker.url in fig.yaml, that the broker runs, and the user's rights; messages wait in their queues.",
            host=host,
            port=port,
        ) from error
