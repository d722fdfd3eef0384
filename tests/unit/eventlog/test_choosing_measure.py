"""Measuring a log through the port: in memory, and on logs that reorder, lose, forget and fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from stranglerfig.eventlog.choosing import measure as measuring
from stranglerfig.eventlog.choosing.measure import measure
from stranglerfig.eventlog.choosing.model import Ask, Outcome
from stranglerfig.eventlog.choosing.survival import judged, survives
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.eventlog.model import Capabilities, Capability, Event, Record
from stranglerfig.foundation.errors import FigError

ASK = Ask(size=100, rate=400, seconds=1.0)


class SmallLog(MemoryLog):
    """In memory, with events small enough for a test."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(super().capabilities.has, 10_000)


async def test_everything_about_a_log_is_measured_and_nothing_stays() -> None:
    log, said = SmallLog(), list[str]()
    found = await measure(log, ASK, said.append)
    assert [(one.batch, one.producers) for one in found.throughput] == [(1, 16), (1000, 4)]
    assert all(one.per_second > 0 and one.events > 0 for one in found.throughput)
    assert 0 < found.latency.sent <= found.latency.asked == 200 and found.latency.unseen == 0
    assert found.latency.p50 is not None and found.latency.max is not None
    assert 0 <= found.latency.p50 <= found.latency.max
    trials = (found.ordering, found.replay_position, found.replay_time, found.largest)
    assert [trial.outcome for trial in trials] == [Outcome.HELD] * 4
    assert "10,000 bytes" in found.largest.says and found.max_event_bytes == 10_000
    assert "ordered per key" in found.capabilities
    assert await log.topics() == [] and len(said) == 5


async def test_what_is_not_declared_is_not_tried() -> None:
    class NoReplay(SmallLog):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(frozenset({Capability.ORDERED_PER_KEY}), 100)

    found = await measure(NoReplay(), ASK, lambda _: None)
    assert {found.replay_position.outcome, found.replay_time.outcome} == {Outcome.NOT_TESTED}


class Swapping(SmallLog):
    """Gives each page backwards."""

    async def read(self, *arguments: Any, **options: Any) -> list[Record]:
        page = await super().read(*arguments, **options)
        return [*page[-2::-1], page[-1]] if page else page


class Losing(SmallLog):
    """Says that it has appended, and has not."""

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        return await super().append(topic, events[: len(events) - 1] or events, partition=partition)


async def test_a_log_that_reorders_or_loses_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_GRACE", 0.3)
    for log in (Swapping(), Losing()):
        await log.create_topic("t")
        ordering, _ = await measuring.ordered(log, "t", ASK)
        assert ordering.outcome is Outcome.BROKEN, log


async def test_a_replay_that_is_not_one_is_found_out() -> None:
    class Forgetting(SmallLog):
        async def position_at(self, topic: str, partition: int, time: datetime) -> int:
            return await super().position_at(topic, partition, time) + 5

    class Refusing(SmallLog):
        async def position_at(self, topic: str, partition: int, time: datetime) -> int:
            raise FigError("log_unreachable", "gone")

    source = measuring.Producer(10)
    for log, words in ((Forgetting(), "was sent to"), (Refusing(), "gone")):
        await log.create_topic("t")
        await log.append("t", source.events(20))
        position, time = await measuring.replays(log, await log.read("t", 0, 0))
        assert position.outcome is Outcome.HELD
        assert time.outcome is Outcome.BROKEN and words in time.says
    once = SmallLog()
    await once.create_topic("t")
    await once.append("t", source.events(20))
    read = await once.read("t", 0, 0)
    await once.delete_topic("t")
    await once.create_topic("t")
    await once.append("t", source.events(20))
    position, _ = await measuring.replays(once, read)
    assert position.outcome is Outcome.BROKEN
    assert {trial.outcome for trial in await measuring.replays(once, [])} == {Outcome.NOT_TESTED}


async def test_a_log_that_is_too_slow_does_not_keep_the_rate() -> None:
    class Slow(SmallLog):
        async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
            await asyncio.sleep(0.02 * len(events))
            return await super().append(topic, events, partition=partition)

    log = Slow()
    await log.create_topic("t", partitions=measuring.PARTITIONS)
    found = await measuring.latencies(log, "t", Ask(10, 2000, 1), seconds=0.5)
    assert not found.kept and found.sent < found.asked == 1000 and found.unseen == 0


async def test_events_that_never_arrive_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_GRACE", 0.2)
    monkeypatch.setattr(measuring, "_LAST", 30.0)

    class Half(SmallLog):
        async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
            kept = [event for event in events if "-n-" not in event.id or measuring.number_of(event) % 2]
            return await super().append(topic, kept, partition=partition)

    log = Half()
    await log.create_topic("t", partitions=measuring.PARTITIONS)
    found = await measuring.latencies(log, "t", Ask(10, 200, 1), seconds=0.5)
    assert (found.sent, found.unseen, found.kept) == (100, 50, False)


async def test_the_largest_event_that_does_not_go_through_is_said() -> None:
    class Boasting(SmallLog):
        async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
            raise FigError("log_refused", "too large for me")

    log = Boasting()
    await log.create_topic("t")
    found = await measuring.largest(log, "t")
    assert found.outcome is Outcome.BROKEN and "too large for me" in found.says


async def test_a_failure_is_the_logs_own_error_and_leaves_no_topic() -> None:
    class Failing(SmallLog):
        async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
            raise FigError("log_unreachable", "gone")

    log = Failing()
    with pytest.raises(FigError, match="gone"):
        await measure(log, ASK, lambda _: None)
    assert await log.topics() == []


async def test_who_is_cancelled_while_a_topic_is_made_leaves_none() -> None:
    begun = asyncio.Event()

    class Hesitating(SmallLog):
        async def create_topic(self, name: str, *, partitions: int = 1, retention_seconds: float | None = None) -> None:
            begun.set()
            await asyncio.sleep(0.05)
            await super().create_topic(name, partitions=partitions)

    log = Hesitating()
    task = asyncio.get_running_loop().create_task(measure(log, ASK, lambda _: None))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await log.topics() == []


def test_events_have_the_asked_size_and_are_json() -> None:
    for size in (2, 3, 100, 5001):
        [event] = measuring.Producer(size).events(1)
        assert len(event.data) == size and event.data[:1] == event.data[-1:] == b'"'


class Server:
    """A log whose server can be killed; ``keeps`` says how many of the events survive that."""

    def __init__(self, keeps: float = 1.0) -> None:
        self.kept = SmallLog()
        self.up = True
        self.kills = 0
        self._keeps = keeps

    def open(self) -> Any:
        server = self

        class Client(SmallLog):
            def __init__(self) -> None:
                self.__dict__.update(server.kept.__dict__)

            async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
                await asyncio.sleep(0.001)
                if not server.up:
                    raise FigError("log_unreachable", "killed")
                return await super().append(topic, events, partition=partition)

        return Client()

    def kill(self) -> None:
        self.up = False
        self.kills += 1
        for topic in self.kept._topics.values():
            for partition in topic.partitions:
                del partition.records[int(len(partition.records) * self._keeps) :]

    def start(self) -> None:
        self.up = True


async def test_what_survives_kills_is_looked_for() -> None:
    server = Server()
    found = await survives(server.open, kill=server.kill, start=server.start, size=20, say=lambda _: None)
    assert (found.outcome, server.kills) == (Outcome.HELD, 3) and "3 times kill -9" in found.says
    careless = Server(keeps=0.9)
    found = await survives(careless.open, kill=careless.kill, start=careless.start, size=20, say=lambda _: None)
    assert found.outcome is Outcome.BROKEN and "lost" in found.says


async def test_a_server_that_fails_before_it_is_killed_is_no_survivor() -> None:
    server = Server()
    server.up = False
    with pytest.raises(FigError, match="killed"):
        await survives(server.open, kill=server.kill, start=server.start, size=20, say=lambda _: None)


def test_lost_doubled_and_unanswered_are_told_apart() -> None:
    assert judged({"a", "b"}, Counter("ab"), 1).outcome is Outcome.HELD
    assert judged({"a"}, Counter("ab"), 1).says.endswith("and 1 whose answer was lost")
    assert "1 of 2 acknowledged events are lost, 0 doubled" in judged({"a", "b"}, Counter("a"), 1).says
    assert "0 of 1 acknowledged events are lost, 1 doubled" in judged({"a"}, Counter("aa"), 1).says
