"""What one broker here does not do by itself: several brokers, refusals, a closing server. A scripted broker does."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from rstream import schema
from rstream.encoding import decode_frame, encode_frame

from stranglerfig.eventlog.rabbitmq_append import Appender
from stranglerfig.eventlog.rabbitmq_cluster import Cluster, Settings
from stranglerfig.eventlog.rabbitmq_wire import ACCESS_REFUSED, NOT_AVAILABLE, Lost, Refused, Seat, Wire

Answer = Callable[[Any], list[schema.Frame | bytes]]


class Broker:
    """Answers each frame as ``answers`` say, else as one that has nothing against it."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[schema.Frame] = []
        self.answers: dict[type[schema.Frame], Answer] = {}

    def brokers(self, *others: Broker, leader: int = 7, code: int = 1) -> None:
        """Say that there are these brokers, this one first."""
        known = [schema.Broker(7 + n, "127.0.0.1", one.port) for n, one in enumerate([self, *others])]

        def answer(asked: schema.Metadata) -> list[schema.Frame | bytes]:
            about = [schema.StreamMetadata(name, code, leader, []) for name in asked.streams]
            return [schema.MetadataResponse(asked.correlation_id, known, about)]

        self.answers[schema.Metadata] = answer

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = struct.unpack(">I", await reader.readexactly(4))[0]
                asked = decode_frame(await reader.readexactly(size))
                self.asked.append(asked)
                answer = self.answers.get(type(asked), self._usual)
                for frame in answer(asked):
                    writer.write(frame if isinstance(frame, bytes) else encoded(frame))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _usual(self, asked: Any) -> list[schema.Frame | bytes]:
        number = asked.corr_id
        if isinstance(asked, schema.PeerProperties):
            return [schema.PeerPropertiesResponse(number, 1, [])]
        if isinstance(asked, schema.SaslHandshake):
            return [schema.SaslHandshakeResponse(number, 1, ["PLAIN"])]
        if isinstance(asked, schema.SaslAuthenticate):
            return [schema.SaslAuthenticateResponse(number, 1), schema.Tune(1000, 60)]
        if isinstance(asked, schema.Open):
            return [schema.OpenResponse(number, 1, [])]
        if isinstance(asked, schema.Publish) or number is None:
            return []
        # The others' answers are all a number and a code.
        return [struct.pack(">IHHIH", 10, 0x8000 | asked.key.value, 1, number, 1)]


def encoded(frame: schema.Frame) -> bytes:
    raw = bytearray(encode_frame(frame))
    if type(frame).__name__.endswith("Response"):
        raw[4] |= 0x80
    return bytes(raw)


@asynccontextmanager
async def running(count: int = 1) -> AsyncIterator[tuple[list[Broker], Cluster]]:
    brokers = [Broker() for _ in range(count)]
    async with AsyncExitStack() as stack:
        for broker in brokers:
            listening = await asyncio.start_server(broker.accept, "127.0.0.1", 0)
            broker.port = listening.sockets[0].getsockname()[1]
            stack.push_async_callback(listening.wait_closed)
            stack.callback(listening.close)
        cluster = Cluster(Settings.of("rabbitmq://" + ",".join(f"127.0.0.1:{one.port}" for one in brokers)))
        stack.push_async_callback(cluster.close)
        brokers[0].brokers()
        yield brokers, cluster


def nothing(_: Any) -> None:
    pass


async def seat(cluster: Cluster) -> Seat:
    return await cluster.seat("s", "read", nothing, nothing)


async def test_the_leader_is_where_streams_are_used() -> None:
    async with running(3) as ([first, second, third], cluster):
        first.brokers(second, third, leader=9)
        await (await seat(cluster)).declare_publisher()
        assert any(isinstance(asked, schema.DeclarePublisher) for asked in third.asked)
        assert second.asked == []
        first.brokers(second, third, leader=8)
        cluster.forget("s")
        await (await seat(cluster)).declare_publisher()
        assert any(isinstance(asked, schema.DeclarePublisher) for asked in second.asked)


async def test_a_leader_that_is_not_known_or_gone() -> None:
    async with running(2) as ([first, second], cluster):
        first.brokers(second, leader=0xFFFF)
        with pytest.raises(Refused) as error:
            await seat(cluster)
        assert error.value.code == NOT_AVAILABLE
        gone = Broker()
        gone.port = 1
        first.brokers(gone, leader=8)
        with pytest.raises(Lost):
            await seat(cluster)
        first.brokers(second, leader=8)
        assert (await seat(cluster)).number == 0


async def test_the_next_broker_is_asked_when_the_first_is_away() -> None:
    async with running(1) as ([broker], _):
        cluster = Cluster(Settings.of(f"rabbitmq://127.0.0.1:1,127.0.0.1:{broker.port}"))
        assert (await cluster.any()).frame_max == 1000
        await cluster.close()


async def test_a_message_that_is_not_taken() -> None:
    async with running() as ([broker], cluster):
        refusal = schema.PublishError(0, [schema.PublishingError(0, ACCESS_REFUSED)])
        broker.answers[schema.Publish] = lambda _: [refusal]
        appender = Appender(cluster, "s")
        with pytest.raises(Refused) as error:
            await appender.append([b"a"])
        assert error.value.code == ACCESS_REFUSED
        await appender.close()


async def test_batches_are_cut_to_frames() -> None:
    async with running() as ([broker], cluster):
        mine = await seat(cluster)
        messages = [bytes([number]) * 300 for number in range(7)]
        mine.publish([*messages, b"x" * mine.wire.largest])
        await mine.wire.create("behind them", {})
        frames = [asked for asked in broker.asked if isinstance(asked, schema.Publish)]
        assert [len(frame.messages) for frame in frames] == [3, 3, 1, 1]
        assert [message.data for frame in frames for message in frame.messages][:7] == messages
        assert [message.publishing_id for frame in frames for message in frame.messages] == list(range(8))


@pytest.mark.parametrize(
    "bad",
    [
        encode_frame(schema.Close(1, 3, "shutting down")),
        struct.pack(">IHH", 4, 999, 1),
        struct.pack(">IHHB", 5, 8, 1, 0),
    ],
)
async def test_a_server_that_closes_or_says_what_is_not_understood(bad: bytes) -> None:
    async with running() as ([broker], cluster):
        mine = await seat(cluster)
        broker.answers[schema.Subscribe] = lambda _: [bad]
        broker.answers[schema.Unsubscribe] = lambda _: [bad]
        ended: list[Exception] = []
        mine.ended = ended.append
        with pytest.raises(Lost):
            await mine.subscribe(schema.OffsetType.NEXT, None, 1)
        assert isinstance(ended[0], Lost)
        with pytest.raises(Lost):
            mine.credit(1)
        assert (await seat(cluster)).wire is not mine.wire


async def test_other_refusals_are_told() -> None:
    async with running() as ([broker], cluster):
        wire: Wire = await cluster.any()

        def refuse(asked: Any) -> list[schema.Frame | bytes]:
            return [struct.pack(">IHHIH", 10, 0x8000 | asked.key.value, 1, asked.corr_id, ACCESS_REFUSED)]

        for kind in (schema.Create, schema.Delete, schema.Unsubscribe):
            broker.answers[kind] = refuse
        for work in (wire.create("s", {}), wire.delete("s"), wire.fence()):
            with pytest.raises(Refused) as error:
                await work
            assert error.value.code == ACCESS_REFUSED
