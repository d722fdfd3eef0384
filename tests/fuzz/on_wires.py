"""What brokers send: RabbitMQ's stream protocol and AMQP 0-9-1, whole frames and cut ones, in reads of any size."""

from __future__ import annotations

import asyncio
import struct
from random import Random
from typing import Any, cast

from pamqp import commands, frame, header
from pamqp.body import ContentBody
from rstream import schema
from rstream.encoding import encode_frame

from stranglerfig.eventlog import rabbitmq_wire
from stranglerfig.facade import amqp
from tests.fuzz import mutate
from tests.fuzz.harness import Target


class _Nowhere:
    """A transport that takes everything."""

    def __init__(self) -> None:
        self.aborted = False

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


def _answers() -> list[bytes]:
    """Frames of a stream server."""
    found = [
        encode_frame(made)
        for made in (
            schema.Tune(frame_max=1 << 20, heartbeat=60),
            schema.Heartbeat(),
            schema.Close(correlation_id=1, code=1, reason="x"),
            schema.PeerProperties(correlation_id=1, properties=[schema.Property("product", "RabbitMQ")]),
            schema.OpenResponse(correlation_id=1, response_code=1, properties=[]),
            schema.SaslHandshakeResponse(correlation_id=1, response_code=1, mechanisms=["PLAIN"]),
            schema.CreateResponse(correlation_id=1, response_code=1),
            schema.MetadataResponse(
                correlation_id=1,
                brokers=[schema.Broker(1, "127.0.0.1", 5552)],
                metadata=[schema.StreamMetadata("s", 1, 1, [])],
            ),
            schema.MetadataUpdate(metadata_info=schema.MetadataInfo(code=6, stream="s")),
            schema.PublishError(publisher_id=1, errors=[schema.PublishingError(5, 18)]),
        )
    ]
    body = struct.pack(">I", 3) + b"abc"
    head = struct.pack(
        ">BBBHIqQQIIII", 0x50, 0, 0, 1, 1, 1_770_000_000_000, 1, 9, rabbitmq_wire.zlib.crc32(body), len(body), 0, 0
    )
    deliver = struct.pack(">HHB", 8, 1, 1) + head + body
    found.append(len(deliver).to_bytes(4, "big") + deliver)
    return found


def _amqp() -> list[bytes]:
    """Frames of a broker."""
    properties = commands.Basic.Properties(content_type="application/json", headers={"a": 1, "b": [True, "x"]})
    content = (
        frame.marshal(commands.Basic.Deliver("c", 1, False, "shop", "item"), 1)
        + frame.marshal(header.ContentHeader(0, 3, properties), 1)
        + frame.marshal(ContentBody(b"abc"), 1)
    )
    methods: list[Any] = [
        commands.Basic.Ack(1, True),
        commands.Basic.Nack(1, False),
        commands.Basic.Return(312, "NO_ROUTE", "", "q"),
        commands.Basic.Cancel("c"),
        commands.Channel.Close(404, "no queue", 50, 10),
        commands.Connection.Close(320, "forced", 0, 0),
        commands.Connection.Tune(2047, 131072, 60),
        commands.Connection.Blocked("disk"),
        commands.Queue.DeclareOk("q", 5, 1),
        commands.Connection.Start(server_properties={"product": "RabbitMQ", "capabilities": {"x": True}}),
    ]
    return [content, *(frame.marshal(each, 1) for each in methods)]


def wires() -> Target:
    """Runs of frames with some of their bytes altered."""
    of_streams, of_amqp = _answers(), _amqp()
    loop = asyncio.new_event_loop()

    def make(rng: Random) -> tuple[bool, bytes, int]:
        below = rng.random
        streams = below() < 0.5
        corpus = of_streams if streams else of_amqp
        some = [corpus[int(below() * len(corpus))] for _ in range(1 + int(below() * 3))]
        at = int(below() * len(some))
        some[at] = mutate.of_bytes(rng, some[at], corpus)
        return streams, b"".join(some), 1 + int(below() * 80)

    async def stream(data: bytes, step: int) -> bool:
        wire = rabbitmq_wire.Wire(asyncio.StreamReader(), cast("asyncio.StreamWriter", _Nowhere()))
        arrived: list[rabbitmq_wire.Chunk] = []
        wire.seat("s", arrived.append)
        wire.seat("s", arrived.append)
        buffer = bytearray()
        for start in range(0, len(data), step):
            buffer += data[start : start + step]
            if not wire.take(buffer):
                assert wire.lost is not None
                return False
        for each in arrived:
            assert all(type(message) is bytes for message in each.messages)
        return True

    async def broker(data: bytes, step: int) -> bool:
        connection = amqp.Connection("amqp://127.0.0.1")
        nowhere = _Nowhere()
        connection.connection_made(cast("asyncio.Transport", nowhere))
        got: list[Any] = []
        connection._channels[1] = channel = amqp.Channel(1, got.append, lambda content, _: got.append(content))
        channel.confirmed = lambda number, multiple, success: got.append(number)
        for start in range(0, len(data), step):
            connection.data_received(data[start : start + step])
            if connection.closed.done():
                assert nowhere.aborted
                assert isinstance(connection.closed.result(), amqp.AmqpError)
                return False
        for each in got:
            assert isinstance(each, amqp.Content | int)
        return True

    def take(given: tuple[bool, bytes, int]) -> bool:
        streams, data, step = given
        return loop.run_until_complete(stream(data, step) if streams else broker(data, step))

    return Target("wires", make, take)
