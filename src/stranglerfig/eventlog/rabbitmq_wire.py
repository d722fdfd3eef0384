"""One connection of RabbitMQ's stream protocol: requests and their answers, messages out, chunks in.

The frames are ``rstream``'s (its ``schema`` and ``encoding``); its client is not used: it reads 256 bytes at a time,
leaves requests unanswered when a connection breaks, and tells nobody where in a chunk a message was. Publishing,
confirming and delivering are decoded here, a frame at a time instead of a field at a time.
Source: PROTOCOL.adoc of RabbitMQ's stream plugin, and osiris_log.erl for the chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import ssl
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar, cast

from rstream import schema
from rstream.compression import CompressionType
from rstream.constants import Key, OffsetType
from rstream.encoding import _decode_struct, encode_frame

from stranglerfig.foundation import tasks

F = TypeVar("F", bound=schema.Frame)

DOES_NOT_EXIST: Final = 2
ALREADY_EXISTS: Final = 5
NOT_AVAILABLE: Final = 6
INTERNAL_ERROR: Final = 15
NO_PUBLISHER: Final = 18
ACCESS_REFUSED: Final = 16
_UNKNOWN_SUBSCRIPTION: Final = 4

SLOTS: Final = 200
"""Publishers, and subscriptions, that one connection carries; the protocol numbers them with a byte."""
_FENCE_SLOT: Final = 255
"""Never subscribed."""
_FRAME_MAX: Final = 1024 * 1024
"""Bytes, the server's default; what it says when it is less counts."""
_LARGEST: Final = 128 * 1024 * 1024
"""Bytes of a frame that is still believed: a chunk may be larger than the frames that its messages came in."""
_HEARTBEAT: Final = 20
"""Seconds; the server's default is 60."""
PATIENCE: Final = 10.0
"""Seconds until a request without an answer means that the server is away."""

_MESSAGE: Final = struct.Struct(">QI")
_CHUNK: Final = struct.Struct(">BBBHIqQQIIII")
_BATCH: Final = struct.Struct(">BHII")
_BATCH_BYTES: Final = 64 * 1024 * 1024
"""Of messages that a client compressed together, when they are unfolded."""
_PUBLISH: Final = struct.Struct(">IHHBI")
_RESPONSE: Final = 0x8000
_READ: Final = 256 * 1024


class Lost(Exception):
    """The connection is gone, or the server does not answer."""


class Refused(Exception):
    """The server answers with a code other than OK."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(f"{what}: response code {code}")
        self.code = code


class TooLarge(Exception):
    """A message does not fit a frame."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"{size} bytes, and a message may have {limit}")
        self.size = size
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages that the server wrote at once.

    Attributes:
        first: the offset of the first message; the others follow without a gap.
        milliseconds: when it was written, since 1970.
    """

    first: int
    milliseconds: int
    messages: list[bytes]

    @property
    def next(self) -> int:
        """The offset behind the last message."""
        return self.first + len(self.messages)


class Login(NamedTuple):
    """Who a client is, and in which virtual host."""

    user: str
    password: str
    vhost: str


class Seat:
    """One stream's place on a connection: the number of its publisher and of its subscription.

    Attributes:
        arrived: called with each chunk that the subscription brings.
        ended: called, possibly more than once, when nothing comes any more: :class:`Lost`, or :class:`Refused` when a
            message was not taken, the stream is deleted or its leader is gone.
    """

    def __init__(
        self, wire: Wire, number: int, stream: str, arrived: Callable[[Chunk], None], ended: Callable[[Exception], None]
    ) -> None:
        self.wire = wire
        self.number = number
        self.stream = stream
        self.arrived = arrived
        self.ended = ended
        self._publishes = False
        self._subscribed = False

    async def declare_publisher(self) -> None:
        """Publish from now on, without a name: the server deduplicates nothing."""
        await self.wire.request(
            schema.DeclarePublisher,
            schema.DeclarePublisherResponse,
            publisher_id=self.number,
            reference="",
            stream=self.stream,
        )
        self._publishes = True

    def publish(self, messages: Sequence[bytes]) -> None:
        """Send messages, in as many frames as they need."""
        self.wire.publish(self.number, messages)

    async def subscribe(self, kind: OffsetType, value: int | None, credit: int) -> None:
        """Have chunks delivered, ``credit`` of them, from the place that ``kind`` and ``value`` say."""
        self._subscribed = True  # chunks may come before the answer is looked at
        await self.wire.request(
            schema.Subscribe,
            schema.SubscribeResponse,
            subscription_id=self.number,
            stream=self.stream,
            offset_spec=schema.OffsetSpec.from_params(kind, value),
            credit=credit,
            properties=[],
        )

    def credit(self, chunks: int) -> None:
        """Allow that many more chunks."""
        self.wire.write(encode_frame(schema.Credit(subscription_id=self.number, credit=chunks)))

    async def unsubscribe(self) -> None:
        """No more chunks, once this returns."""
        if self._subscribed:
            with contextlib.suppress(Refused):
                await self.wire.request(schema.Unsubscribe, schema.UnsubscribeResponse, subscription_id=self.number)
            self._subscribed = False

    async def leave(self) -> None:
        """Give the number back; nothing is called any more."""
        self.arrived, self.ended = _ignore, _ignore
        with contextlib.suppress(Lost, Refused):
            await self.unsubscribe()
            if self._publishes:
                await self.wire.request(
                    schema.DeletePublisher, schema.DeletePublisherResponse, publisher_id=self.number
                )
        self.wire.seats.pop(self.number, None)


def _ignore(_: object) -> None:
    pass


class Wire:
    """A connection that is open; :meth:`open` makes one. Nothing is repeated here: what breaks is :class:`Lost`.

    Attributes:
        frame_max: bytes that a frame may have.
        lost: why it is gone, when it is.
        seats: who uses it, by number.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[tuple[Key, int | None], asyncio.Future[schema.Frame]] = {}
        self._numbers = itertools.count(1)
        self._publishing = itertools.count()
        self.seats: dict[int, Seat] = {}
        self._listening: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._heard = False
        self.lost: Lost | None = None
        self.frame_max = _FRAME_MAX

    @classmethod
    async def open(cls, host: str, port: int, login: Login, tls: ssl.SSLContext | None) -> Wire:
        """Connect and log in.

        Raises:
            Lost: nobody answers.
            Refused: user, password or virtual host.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=4 * _READ)
        except (OSError, TimeoutError) as error:
            raise Lost(f"{host}:{port}: {error or 'no answer'}") from error
        wire = cls(reader, writer)
        wire._listening = tasks.spawn(wire._listen(), name=f"streams of {host}:{port}")
        try:
            await wire._shake_hands(login)
        except BaseException:
            await wire.close()
            raise
        return wire

    async def _shake_hands(self, login: Login) -> None:
        properties = [schema.Property("product", "stranglerfig"), schema.Property("connection_name", "fig")]
        await self.request(schema.PeerProperties, schema.PeerPropertiesResponse, properties=properties)
        await self.request(schema.SaslHandshake, schema.SaslHandshakeResponse)
        tune = self._expect(Key.Tune, None)
        secret = f"\0{login.user}\0{login.password}".encode()
        await self.request(schema.SaslAuthenticate, schema.SaslAuthenticateResponse, mechanism="PLAIN", data=secret)
        said = cast(schema.Tune, await self._answer(tune, "tune"))
        self.frame_max = min(_FRAME_MAX, said.frame_max or _FRAME_MAX)
        heartbeat = min(_HEARTBEAT, said.heartbeat or _HEARTBEAT)
        self.write(encode_frame(schema.Tune(frame_max=self.frame_max, heartbeat=heartbeat)))
        await self.request(schema.Open, schema.OpenResponse, virtual_host=login.vhost)
        self._beating = tasks.spawn(self._beat(heartbeat), name="heartbeat")

    async def close(self) -> None:
        """Say good-bye, as far as somebody listens, and let go."""
        if self.lost is None:
            with contextlib.suppress(Lost, Refused):
                await self.request(schema.Close, schema.CloseResponse, code=1, reason="OK")
        self._break(Lost("closed"))
        for task in (self._beating, self._listening):
            if task is not None:
                await tasks.stop(task)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    # Requests

    async def request(self, kind: Callable[..., schema.Frame], answer: type[F], **fields: Any) -> F:
        """Send a request and return its answer.

        Raises:
            Lost, Refused: see there.
        """
        number = next(self._numbers) & 0xFFFF_FFFF
        frame = kind(correlation_id=number, **fields)
        waiting = self._expect(frame.key, number)
        self.write(encode_frame(frame))
        got = await self._answer(waiting, frame.key.name)
        code = getattr(got, "response_code", 1)
        if code != 1:
            raise Refused(code, frame.key.name)
        return cast(F, got)

    def _expect(self, key: Key, number: int | None) -> asyncio.Future[schema.Frame]:
        if self.lost is not None:
            raise self.lost
        waiting: asyncio.Future[schema.Frame] = asyncio.get_running_loop().create_future()
        self._waiting[key, number] = waiting
        waiting.add_done_callback(lambda _: self._waiting.pop((key, number), None))
        return waiting

    async def _answer(self, waiting: asyncio.Future[schema.Frame], what: str) -> schema.Frame:
        try:
            async with asyncio.timeout(PATIENCE):
                return await waiting
        except TimeoutError as error:
            raise self._break(Lost(f"no answer to {what} within {PATIENCE:g} s")) from error

    def write(self, data: bytes) -> None:
        """Send a frame; :meth:`drain` waits for its going."""
        if self.lost is not None:
            raise self.lost
        self._writer.write(data)

    # Streams

    async def create(self, stream: str, arguments: Mapping[str, str]) -> bool:
        """Make a stream; whether it was not there before."""
        named = [schema.Property(name, value) for name, value in arguments.items()]
        try:
            await self.request(schema.Create, schema.CreateResponse, stream=stream, arguments=named)
        except Refused as error:
            if error.code != ALREADY_EXISTS:
                raise
            return False
        return True

    async def delete(self, stream: str) -> None:
        """Delete a stream, if it is there."""
        try:
            await self.request(schema.Delete, schema.DeleteResponse, stream=stream)
        except Refused as error:
            if error.code != DOES_NOT_EXIST:
                raise

    async def leader(self, stream: str) -> tuple[str, int] | None:
        """Where the stream's leader is; None when there is one broker only, which is the one that answers."""
        found = await self.request(schema.Metadata, schema.MetadataResponse, streams=[stream])
        [about] = found.metadata
        if about.response_code != 1:
            raise Refused(about.response_code, f"the stream {stream}")
        if len(found.brokers) < 2:
            return None
        for broker in found.brokers:
            if broker.reference == about.leader_ref:
                return broker.host, broker.port
        raise Refused(NOT_AVAILABLE, f"the leader of the stream {stream}")

    # Publishing and subscribing

    def seat(
        self, stream: str, arrived: Callable[[Chunk], None] = _ignore, ended: Callable[[Exception], None] = _ignore
    ) -> Seat | None:
        """A place for ``stream``; None when all are taken."""
        number = next((number for number in range(SLOTS) if number not in self.seats), None)
        if number is None:
            return None
        self.seats[number] = Seat(self, number, stream, arrived, ended)
        return self.seats[number]

    @property
    def largest(self) -> int:
        """Bytes of the largest message that one frame holds."""
        return self.frame_max - _PUBLISH.size - _MESSAGE.size

    def publish(self, publisher: int, messages: Sequence[bytes]) -> None:
        """Send messages, in as many frames as they need."""
        start = 0
        while start < len(messages):
            size, end = _PUBLISH.size, start
            while end < len(messages) and (end == start or size + _MESSAGE.size + len(messages[end]) <= self.frame_max):
                size += _MESSAGE.size + len(messages[end])
                end += 1
            parts = [_PUBLISH.pack(size - 4, Key.Publish.value, 1, publisher, end - start)]
            for message in messages[start:end]:
                parts += (_MESSAGE.pack(next(self._publishing), len(message)), message)
            self.write(b"".join(parts))
            start = end

    async def drain(self) -> None:
        """Wait until the server has taken most of what was sent."""
        try:
            await self._writer.drain()
        except OSError as error:
            raise self._break(Lost(str(error))) from error

    async def fence(self) -> None:
        """Return when all that was asked of the server before has been answered with the chunks there are.

        The server handles a connection's frames one after the other and, at a subscription or a credit, sends the
        chunks that are there before it takes the next frame (rabbit_stream_reader.erl, ``send_chunks``). An answer to
        a question behind them, here about a subscription that does not exist, therefore comes after them: the
        protocol of 3.10 has no question for the end of a stream.
        """
        try:
            await self.request(schema.Unsubscribe, schema.UnsubscribeResponse, subscription_id=_FENCE_SLOT)
        except Refused as error:
            if error.code != _UNKNOWN_SUBSCRIPTION:
                raise

    # What arrives

    async def _beat(self, seconds: float) -> None:
        """Show that we live, and see whether the server does."""
        with contextlib.suppress(Lost):
            silent = 0
            while silent < 4:
                self._heard = False
                self.write(encode_frame(schema.Heartbeat()))
                await asyncio.sleep(seconds / 2)
                silent = 0 if self._heard else silent + 1
            self._break(Lost(f"the server was silent for {2 * seconds:g} s"))

    async def _listen(self) -> None:
        buffer = bytearray()
        try:
            while data := await self._reader.read(_READ):
                self._heard = True
                buffer += data
                if not self.take(buffer):
                    return
            self._break(Lost("the server closed the connection"))
        except OSError as error:
            self._break(Lost(f"{type(error).__name__}: {error}"))

    def take(self, buffer: bytearray) -> bool:
        """Handle the whole frames that the buffer begins with; False once one made no sense, which is :class:`Lost`."""
        try:
            self._frames(buffer)
        except (ValueError, TypeError, LookupError, struct.error) as error:
            self._break(Lost(f"{type(error).__name__}: {error}"))
        return self.lost is None

    def _frames(self, buffer: bytearray) -> None:
        """Take the whole frames out of the buffer."""
        start, end = 0, len(buffer)
        whole: bytes | None = None
        while end - start >= 4:
            size = int.from_bytes(buffer[start : start + 4], "big")
            if size > _LARGEST:
                raise ValueError(f"a frame of {size} bytes")
            if end - start - 4 < size:
                break
            whole = bytes(buffer) if whole is None else whole
            self._frame(whole[start + 4 : start + 4 + size])
            start += 4 + size
        if start:
            del buffer[:start]

    def _frame(self, frame: bytes) -> None:
        key = int.from_bytes(frame[:2], "big")
        if key == Key.Deliver.value:
            if (seat := self.seats.get(frame[4])) is not None:
                seat.arrived(chunk(frame))
        elif key == Key.PublishConfirm.value or key == _RESPONSE | Key.Credit.value:
            pass  # a message is in when it is read back, and a credit for a subscription that has ended is nothing
        elif key == Key.PublishError.value:
            said = cast(schema.PublishError, _decoded(frame))
            if (seat := self.seats.get(said.publisher_id)) is not None:
                seat.ended(Refused(said.errors[0].response_code, "publishing"))
        elif key == Key.MetadataUpdate.value:
            about = cast(schema.MetadataUpdate, _decoded(frame)).metadata_info
            for seat in [seat for seat in self.seats.values() if seat.stream == about.stream]:
                seat.ended(Refused(about.code, f"the stream {about.stream}"))
        elif key == Key.Close.value:
            self._closed_by_server(cast(schema.Close, _decoded(frame)))
        elif key != Key.Heartbeat.value:
            answer = _decoded(frame)
            waiting = self._waiting.get((answer.key, answer.corr_id))
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    def _closed_by_server(self, said: schema.Close) -> None:
        with contextlib.suppress(Lost):
            self.write(encode_frame(schema.CloseResponse(said.correlation_id, 1)))
        self._break(Lost(f"the server closed the connection: {said.reason} (code {said.code})"))

    def _break(self, why: Lost) -> Lost:
        """Nothing comes any more: whoever waits is told."""
        if self.lost is None:
            self.lost = why
            self._writer.close()
            for waiting in list(self._waiting.values()):
                if not waiting.done():
                    waiting.set_exception(why)
                    waiting.exception()  # whoever stopped waiting need not be told
            for seat in list(self.seats.values()):
                seat.ended(why)
        return self.lost


class _Exact(io.BytesIO):
    """Bytes that do not go on for ever: read beyond the end they give nothing, and a list of four billion is one.

    Of a refusal the broker leaves out what follows its code (seen: the answer to Open of a virtual host that is not
    there): that reads as zeros.
    """

    def __init__(self, frame: bytes) -> None:
        super().__init__(frame)
        self._refusal = len(frame) == 10 and frame[0] & 0x80 != 0 and frame[8:] != b"\x00\x01"

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if size is None or len(found) >= size:
            return found
        if self._refusal:
            return found.ljust(size, b"\0")
        raise ValueError("a frame is cut off")


def _decoded(frame: bytes) -> schema.Frame:
    """A frame, as ``rstream.encoding.decode_frame`` reads it, but for lists that are longer than their frame.

    Raises:
        ValueError, KeyError: it is cut off, too long, or of a kind that nobody asked for.
    """
    buffer = _Exact(frame)
    key, version = int.from_bytes(buffer.read(2), "big"), int.from_bytes(buffer.read(2), "big")
    kind = schema.registry[bool(key & _RESPONSE), Key(key & ~_RESPONSE)]
    if version != 1:
        raise ValueError(f"a frame of version {version}")
    found = cast(schema.Frame, _decode_struct(buffer, kind, 1))
    if buffer.tell() != len(frame):
        raise ValueError("a frame is longer than what it says")
    return found


def chunk(frame: bytes) -> Chunk:
    """The chunk that a frame delivers.

    Raises:
        ValueError: it is not whole, or is of a kind that is not delivered to clients.
    """
    _, _, _, entries, records, milliseconds, _, first, crc, size, _, _ = _CHUNK.unpack_from(frame, 4)
    data = frame[4 + _CHUNK.size : 4 + _CHUNK.size + size]
    if len(data) != size or zlib.crc32(data) != crc:
        raise ValueError(f"the chunk at offset {first} is damaged")
    try:
        messages = list(_entries(data, entries))
    except (struct.error, zlib.error) as error:
        raise ValueError(f"the chunk at offset {first} is damaged: {error}") from error
    if len(messages) != records:
        raise ValueError(f"the chunk at offset {first} has {len(messages)} messages, not {records}")
    return Chunk(first, milliseconds, messages)


def _entries(data: bytes, count: int, *, nested: bool = False) -> Iterable[bytes]:
    offset = 0
    for _ in range(count):
        size = int.from_bytes(data[offset : offset + 4], "big")
        if size < 0x8000_0000:
            offset += 4 + size
            if offset > len(data):
                raise ValueError("a message is longer than its chunk")
            yield data[offset - size : offset]
        elif nested:
            raise ValueError("messages compressed together twice")
        else:
            some, size = _together(data[offset:])
            yield from some
            offset += size


def _together(data: bytes) -> tuple[Iterable[bytes], int]:
    """Messages that a client compressed together, and the bytes that they take of the chunk."""
    kind, messages, whole, size = _BATCH.unpack_from(data)
    packed = data[_BATCH.size : _BATCH.size + size]
    if len(packed) != size or whole > _BATCH_BYTES:
        raise ValueError(f"messages compressed together are cut off, or are {whole} bytes")
    method = CompressionType(kind >> 4 & 7)
    if method is CompressionType.Gzip:
        # Not one byte more than it said: a chunk could unfold to a thousand times its size.
        plain = zlib.decompressobj(wbits=31).decompress(packed, whole + 1)
    elif method is CompressionType.No:
        plain = packed
    else:
        raise ValueError(f"messages compressed together by {method.name}, which is not read here")
    if len(plain) != whole:
        raise ValueError("messages compressed together are more or less than they say")
    return _entries(plain, messages, nested=True), _BATCH.size + size
