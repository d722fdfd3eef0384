"""What is RabbitMQ's own: other clients, interrupted work, broken lines. The contract of the port is held elsewhere."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from rstream import AMQPMessage, CompressionType, ConsumerOffsetSpecification, OffsetType, Producer, amqp_decoder
from rstream import Consumer as BareConsumer

from examples.servers.fetch import Missing
from examples.servers.rabbitmq import RabbitMQ
from stranglerfig.eventlog import open_log, rabbitmq_append, rabbitmq_wire
from stranglerfig.eventlog.model import Event, Record
from stranglerfig.eventlog.rabbitmq import RabbitLog
from stranglerfig.eventlog.rabbitmq_topics import Topics
from stranglerfig.foundation import clock, ids
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import free_port
from tests.conftest import Server, required

Open = Callable[..., RabbitLog]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    made = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        made.start()
    except Missing as error:
        required(str(error))
    yield made
    made.stop()


@pytest.fixture
async def opened(server: RabbitMQ, postgres: Server) -> AsyncIterator[Open]:
    """Opens clients, and closes them."""
    state = postgres.database()
    async with AsyncExitStack() as stack:

        def make(url: str = server.url) -> Any:
            log: Any = open_log(url, state=state)
            stack.push_async_callback(log.close)
            return log

        await make().migrate()
        yield make


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def event(data: bytes = b"{}", **more: Any) -> Event:
    return Event(ids.new_id(), "/test", "x.Y", clock.now(), data, **more)


async def refused(work: Awaitable[Any]) -> str:
    with pytest.raises(FigError) as error:
        await work
    return error.value.code


async def stream_of(log: Any, topic: str) -> str:
    return str((await log._topics.find(topic)).stream(0))


async def read_on(log: RabbitLog, topic: str, position: int = 0) -> list[Record]:
    """All from a position on: a server that is slow sends them in several pages."""
    found: list[Record] = []
    while page := await log.read(topic, 0, found[-1].position + 1 if found else position):
        found += page
    return found


async def test_nobody_there_and_a_wrong_password(server: RabbitMQ, opened: Open) -> None:
    assert await refused(opened(f"rabbitmq://127.0.0.1:{free_port()}").topics()) == "log_unreachable"
    wrong = server.url.replace("rabbitmq://", "rabbitmq://guest:wrong@")
    assert await refused(opened(wrong).topics()) == "log_refused"
    assert await refused(opened(f"{server.url}/no-such-vhost").topics()) == "log_refused"


async def test_other_programs_messages(server: RabbitMQ, opened: Open, topic: str) -> None:
    """Plain, and compressed together, which takes one entry of a chunk for several offsets."""
    log = opened()
    await log.create_topic(topic)
    stream = await stream_of(log, topic)
    async with Producer("127.0.0.1", server.stream_port, username="guest", password="guest") as producer:
        await producer.send_wait(stream, b"not AMQP")
        await producer.send_sub_entry(
            stream, [AMQPMessage(body=b"%d" % number) for number in range(5)], compression_type=CompressionType.Gzip
        )
    [position] = await log.append(topic, [event(b"ours")])
    assert position == 6
    found = await read_on(log, topic)
    assert [record.event.data for record in found] == [b"not AMQP", b"0", b"1", b"2", b"3", b"4", b"ours"]
    assert [record.position for record in await read_on(log, topic, 3)] == [3, 4, 5, 6]
    assert found[0].event.id == f"{topic}-0-0"


async def test_other_programs_read_ours(server: RabbitMQ, opened: Open, topic: str) -> None:
    log = opened()
    await log.create_topic(topic)
    sent = event(b'{"a":1}', subject="ü")
    await log.append(topic, [sent])
    arrived: asyncio.Queue[Any] = asyncio.Queue()

    async def on_message(message: Any, _: Any) -> None:
        await arrived.put(message)

    consumer = BareConsumer("127.0.0.1", server.stream_port, username="guest", password="guest")
    await consumer.start()
    await consumer.subscribe(
        await stream_of(log, topic),
        on_message,
        decoder=amqp_decoder,
        offset_specification=ConsumerOffsetSpecification(OffsetType.FIRST, None),
    )
    async with asyncio.timeout(20):
        message = await arrived.get()
    await consumer.close()
    assert message.application_properties[b"cloudEvents:id"].decode() == sent.id
    assert message.properties.content_type == b"application/json"
    assert message.body == b'{"a":1}'


async def test_beginning_in_the_middle_of_a_chunk(opened: Open, topic: str) -> None:
    log = opened()
    await log.create_topic(topic)
    await log.append(topic, [event(b"%d" % number) for number in range(100)])
    page = await opened().read(topic, 0, 37, max_records=3)
    assert [(record.position, record.event.data) for record in page] == [(37, b"37"), (38, b"38"), (39, b"39")]


async def test_an_appender_behind_others_goes_to_the_end(opened: Open, topic: str) -> None:
    """It stops following while it has nothing of its own on the way: others' events do not pass through it."""
    seldom, often = opened(), opened()
    await seldom.create_topic(topic)
    assert await seldom.append(topic, [event()]) == [0]
    for _ in range(50):
        await often.append(topic, [event(b"x" * 1000)])
    appender = seldom._appenders[topic, 0]
    assert appender._credit == 0
    assert await seldom.append(topic, [event(), event()]) == [51, 52]
    assert len(await often.read(topic, 0, 51)) == 2


async def test_two_make_a_topic_at_once(opened: Open, topic: str) -> None:
    one, other = opened(), opened()
    answers = await asyncio.gather(
        one.create_topic(topic, partitions=2), other.create_topic(topic, partitions=3), return_exceptions=True
    )
    errors = [answer for answer in answers if answer is not None]
    assert [error.code for error in errors if isinstance(error, FigError)] == ["topic_differs"]
    seen = [await log.topic(topic) for log in (one, other)]
    assert seen[0] == seen[1] is not None


async def test_making_and_deleting_are_finished_after_an_interruption(
    opened: Open, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    log = opened()
    with monkeypatch.context() as patched:
        patched.setattr(Topics, "complete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await log.create_topic(topic)
    assert await refused(log.append(topic, [event()])) == "log_unreachable"
    await opened().create_topic(topic)
    assert await log.append(topic, [event()]) == [0]
    with monkeypatch.context() as patched:
        patched.setattr(rabbitmq_wire.Wire, "delete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await log.delete_topic(topic)
    assert await log.topic(topic) is None
    await log.create_topic(topic)
    assert await log.read(topic, 0, 0) == []


async def test_another_client_deletes_the_topic(opened: Open, topic: str) -> None:
    log, other = opened(), opened()
    await log.create_topic(topic)
    await log.append(topic, [event()])
    assert len(await log.read(topic, 0, 0)) == 1
    waiting = asyncio.create_task(log.read(topic, 0, 1, wait=30))
    await asyncio.sleep(0.05)
    await other.delete_topic(topic)
    assert await refused(waiting) == "unknown_topic"
    assert await refused(log.append(topic, [event()])) == "unknown_topic"
    await other.create_topic(topic, partitions=2)
    assert await log.append(topic, [event()], partition=1) == [0]


async def test_attributes_count_too(opened: Open, topic: str) -> None:
    log = opened()
    await log.create_topic(topic)
    limit = log.capabilities.max_event_bytes
    assert await refused(log.append(topic, [event(b"x" * limit, subject="s" * 70_000)])) == "event_too_large"
    assert await log.append(topic, [event()]) == [0]


async def test_more_partitions_than_a_connection_has_seats(opened: Open, topic: str) -> None:
    log = opened()
    count = rabbitmq_wire.SLOTS + 20
    await log.create_topic(topic, partitions=count)
    answers = await asyncio.gather(*(log.append(topic, [event()], partition=number) for number in range(count)))
    assert answers == [[0]] * count
    found = await asyncio.gather(*(log.read(topic, number, 0) for number in range(count)))
    assert [len(page) for page in found] == [1] * count
    described = await log.topic(topic)
    assert described is not None
    assert described.next_positions == (1,) * count


async def test_who_waits_does_not_keep_others_from_reading(opened: Open, topic: str) -> None:
    log = opened()
    await log.create_topic(topic)
    await log.append(topic, [event(b"1")])
    waiting = asyncio.create_task(log.read(topic, 0, 1, wait=30))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        assert len(await log.read(topic, 0, 0)) == 1
    await log.append(topic, [event(b"2")])
    assert [record.event.data for record in await waiting] == [b"2"]


class Line:
    """A line to the server that can be cut, or go silent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.passes = asyncio.Event()
        self.passes.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, back]
        self._tasks += [asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._pass(there, writer))]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.passes.wait()
            writer.write(data)
        writer.close()

    async def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._writers, self._tasks = [], []


@asynccontextmanager
async def line_to(server: RabbitMQ) -> AsyncIterator[tuple[Line, str]]:
    line = Line(server.stream_port)
    listening = await asyncio.start_server(line.accept, "127.0.0.1", 0)
    try:
        yield line, f"rabbitmq://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        await line.cut()
        await listening.wait_closed()


async def test_a_connection_that_breaks(server: RabbitMQ, opened: Open, topic: str) -> None:
    """What is on its way is refused as unknown, what is asked next connects again."""
    async with line_to(server) as (line, url):
        log = opened(url)
        await log.create_topic(topic)
        await log.append(topic, [event(b"1")])
        assert len(await log.read(topic, 0, 0)) == 1
        line.passes.clear()
        waiting = asyncio.create_task(log.read(topic, 0, 1, wait=30))
        appending = asyncio.create_task(log.append(topic, [event(b"2")]))
        await asyncio.sleep(0.1)
        line.passes.set()
        await line.cut()
        assert await refused(appending) == "log_unreachable"
        assert await refused(waiting) == "log_unreachable"
        await log.append(topic, [event(b"3")])
        assert [record.event.data for record in await read_on(log, topic)] in ([b"1", b"3"], [b"1", b"2", b"3"])
        await log.close()


async def test_a_server_that_is_silent(
    server: RabbitMQ, opened: Open, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line_to(server) as (line, url):
        log = opened(url)
        await log.create_topic(topic)
        await log.append(topic, [event(b"1")])
        monkeypatch.setattr(rabbitmq_append, "PATIENCE", 0.3)
        monkeypatch.setattr(rabbitmq_wire, "PATIENCE", 0.3)
        line.passes.clear()
        assert await refused(log.append(topic, [event(b"2")])) == "log_unreachable"
        assert await refused(log.topics()) == "log_unreachable"
        await line.cut()
        line.passes.set()
        monkeypatch.undo()
        await log.append(topic, [event(b"3")])
        assert (await read_on(log, topic))[-1].event.data == b"3"
        await log.close()


async def test_heartbeats_notice_a_silent_server(
    server: RabbitMQ, opened: Open, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq_wire, "_HEARTBEAT", 3)
    async with line_to(server) as (line, url):
        log = opened(url)
        await log.create_topic(topic)
        await log.append(topic, [event(b"1")])
        waiting = asyncio.create_task(log.read(topic, 0, 1, wait=60))
        await asyncio.sleep(7)  # the server hears from us, and so do we from it
        assert not waiting.done()
        line.passes.clear()
        async with asyncio.timeout(60):
            assert await refused(waiting) == "log_unreachable"
        line.passes.set()
        await log.close()
