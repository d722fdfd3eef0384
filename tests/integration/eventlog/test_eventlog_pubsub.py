"""What only Pub/Sub does: messages without positions, expiry of positions, subscriptions; against Google's pstest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from google.pubsub_v1 import types

from examples.servers.fetch import Missing
from examples.servers.pubsub import PubSub
from stranglerfig.eventlog import pubsub_messages
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.pubsub import PubSubLog
from stranglerfig.eventlog.pubsub_messages import Outgoing
from stranglerfig.foundation import clock, ids
from stranglerfig.foundation.errors import FigError
from tests.conftest import Server, required


def event(data: bytes = b"{}", **attributes: Any) -> Event:
    return Event(
        **{"id": ids.new_id(), "source": "/test", "type": "x.Y", "time": clock.now(), "data": data, **attributes}
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSub]:
    made = PubSub(tmp_path_factory.mktemp("pubsub"))
    try:
        made.start()
    except Missing as error:
        required(str(error))
    yield made
    made.stop()


@pytest.fixture
def state(postgres: Server) -> str:
    return postgres.database()


@pytest.fixture
async def log(server: PubSub, state: str) -> AsyncIterator[PubSubLog]:
    made = PubSubLog(server.url, state)
    await made.migrate()
    yield made
    await made.close()


@pytest.fixture
async def t(log: PubSubLog) -> str:
    topic = f"t-{ids.nonce()}"
    await log.create_topic(topic)
    return topic


async def refused(work: Any) -> str:
    with pytest.raises(FigError) as error:
        await work
    return error.value.code


async def subscriptions(log: PubSubLog) -> list[str]:
    request = types.ListSubscriptionsRequest.pb()(project="projects/fig", page_size=1000)
    answer = await log._calls._call("Subscriber/ListSubscriptions", request, types.ListSubscriptionsResponse.pb())
    return [one.name for one in answer.subscriptions]


async def test_what_was_published_and_never_acknowledged_is_not_in_the_log(log: PubSubLog, t: str) -> None:
    """A producer that died between the two, and another program that knows nothing of positions."""
    await log.append(t, [event(b"1")])
    await log._calls.publish(t, [pubsub_messages.outgoing(event(b"lost"), 0, ids.new_id(), 0)])
    await log._calls.publish(t, [Outgoing(b"foreign", {}), Outgoing(b"foreign", {"figpartition": "0"})])
    await log.append(t, [event(b"2")])
    found, position = [], 0
    while page := await log.read(t, 0, position):
        found += [record.event.data for record in page]
        position = page[-1].position + 1
    assert found == [b"1", b"2"]


async def test_an_append_that_is_published_twice_is_in_the_log_once(log: PubSubLog, t: str) -> None:
    """A publish request whose answer was lost is sent again; positions are given once."""
    original = log._calls.publish

    async def twice(topic: str, messages: Any) -> None:
        await original(topic, messages)
        await original(topic, messages)

    log._calls.publish = twice  # type: ignore[method-assign]
    await log.append(t, [event(str(number).encode()) for number in range(5)])
    assert [record.event.data for record in await log.read(t, 0, 0)] == [b"0", b"1", b"2", b"3", b"4"]
    assert await log.read(t, 0, 5) == []


async def test_one_append_is_in_all_its_partitions_or_in_none(log: PubSubLog, state: str) -> None:
    topic = f"t-{ids.nonce()}"
    await log.create_topic(topic, partitions=4)
    with psycopg.connect(state, autocommit=True) as conn:
        conn.execute("ALTER TABLE fig.pubsub_partition ADD CONSTRAINT full_ CHECK (partition <> 3 OR next = 0)")
        with pytest.raises(psycopg.errors.CheckViolation):
            await log.append(topic, [event(partitionkey=str(number)) for number in range(40)])
        found = await log.topic(topic)
        assert found is not None
        assert found.next_positions == (0, 0, 0, 0)
        conn.execute("ALTER TABLE fig.pubsub_partition DROP CONSTRAINT full_")
    await log.append(topic, [event(partitionkey=str(number)) for number in range(40)])
    found = await log.topic(topic)
    assert found is not None
    assert sum(found.next_positions) == 40


async def test_positions_expire_with_the_messages(log: PubSubLog, state: str) -> None:
    topic = f"t-{ids.nonce()}"
    for seconds in (599.0, 32 * 86400.0):
        assert await refused(log.create_topic(topic, retention_seconds=seconds)) == "log_lacks"
    await log.create_topic(topic, retention_seconds=600.0)
    await log.create_topic(f"{topic}-long")
    kept, short = await log.topic(f"{topic}-long"), await log.topic(topic)
    assert kept is not None
    assert short is not None
    assert (kept.retention_seconds, short.retention_seconds) == (31 * 86400.0, 600.0)
    await log.append(topic, [event(b"old"), event(b"old")])
    with psycopg.connect(state, autocommit=True) as conn:
        conn.execute("UPDATE fig.pubsub_batch SET published_at = published_at - interval '11 minutes'")
    [position] = await log.append(topic, [event(b"new")])
    assert await log.enforce_retention() == 1
    assert await refused(log.read(topic, 0, 0)) == "position_expired"
    assert [record.event.data for record in await log.read(topic, 0, position)] == [b"new"]
    subscription = await log.subscribe([topic], "g")
    async with asyncio.timeout(30):
        async for batch in subscription.batches():
            assert [record.event.data for record in batch] == [b"new"]
            break
    await subscription.close()


async def test_subscriptions_are_few_and_deleted(log: PubSubLog, server: PubSub, state: str, t: str) -> None:
    before = await subscriptions(log)
    positions = await log.append(t, [event(str(number).encode()) for number in range(10)])
    other = PubSubLog(server.url, state)
    for position in [*positions, *reversed(positions)]:
        assert (await other.read(t, 0, position))[0].position == position
    assert 1 <= len(set(await subscriptions(log)) - set(before)) <= 3
    await other.close()
    assert set(await subscriptions(log)) == set(before)


async def test_a_topic_made_anew_by_another_process(log: PubSubLog, server: PubSub, state: str, t: str) -> None:
    await log.append(t, [event(b"before")])
    assert len(await log.read(t, 0, 0)) == 1
    other = PubSubLog(server.url, state)
    await other.delete_topic(t)
    assert await refused(log.append(t, [event()])) == "unknown_topic"
    await other.create_topic(t, partitions=2)
    assert await log.append(t, [event(b"after")]) == [0]
    assert [record.event.data for record in await log.read(t, 0, 0)] == [b"after"]
    await other.delete_topic(t)
    assert await refused(log.read(t, 0, 1)) == "unknown_topic"
    assert await refused(log.position_at(t, 0, clock.now())) == "unknown_topic"
    await other.create_topic(t)
    stale = log._known.pop(t, None)
    assert stale is None or await log.append(t, [event()]) == [0]
    await other.close()


async def test_a_stale_producer_is_given_the_new_topic_s_positions(
    log: PubSubLog, server: PubSub, state: str, t: str
) -> None:
    await log.append(t, [event(b"before"), event(b"before")])
    other = PubSubLog(server.url, state)
    await other.delete_topic(t)
    await other.create_topic(t)
    await other.close()
    assert await log.append(t, [event(b"after")]) == [0]


async def test_a_topic_of_another_program_is_taken_over(log: PubSubLog) -> None:
    topic = f"t-{ids.nonce()}"
    await log._calls.create_topic(topic, 1200)
    assert await log.topic(topic) is None
    await log.create_topic(topic, retention_seconds=2400)
    request = types.GetTopicRequest.pb()(topic=f"projects/fig/topics/{topic}")
    found = await log._calls._call("Publisher/GetTopic", request, types.Topic.pb())
    assert found.message_retention_duration.ToTimedelta() == timedelta(seconds=2400)


async def test_long_attributes_and_what_is_refused(log: PubSubLog, t: str) -> None:
    assert await refused(log.append(t, [event(subject="s" * 2000)])) == "attribute_too_large"
    assert await refused(log._calls.seek("projects/fig/subscriptions/none", clock.now(), topic=t)) == "unknown_topic"
    assert await log.position_at(t, 0, clock.now()) == 0


async def test_a_server_that_is_away(tmp_path: Path, state: str) -> None:
    server = PubSub(tmp_path)
    await asyncio.to_thread(server.start)
    log = PubSubLog(server.url, state, patience=0.5)
    patient = PubSubLog(server.url, state)
    try:
        await log.migrate()
        await log.create_topic("topic")
        await patient.append("topic", [event(b"1")])
        server.stop()
        assert await refused(log.append("topic", [event()])) == "log_unreachable"
        waiting = asyncio.ensure_future(patient._calls.create_topic("topic", 600))  # it had all in its memory
        await asyncio.to_thread(server.start)
        await waiting
        assert await patient.append("topic", [event(b"2")]) == [1]
    finally:
        await log.close()
        await patient.close()
        server.stop()


async def test_positions_that_are_away(server: PubSub) -> None:
    log = PubSubLog(server.url, "postgresql://nobody@127.0.0.1:1/none")
    assert await refused(log.topics()) == "log_unreachable"
    await log.close()
