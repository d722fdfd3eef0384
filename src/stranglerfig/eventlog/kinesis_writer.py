"""Appends to Kinesis that keep the order of each key.

``PutRecords`` goes on after a record it refused, and promises no order within a call; so of each lane at most one
record is on its way, the next one leaves when it is in, and one that was refused is put again before those behind it.
Packing (see ``kinesis_records``) makes up for the round trips: a key's events of one append are in one record as a
rule.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from stranglerfig.eventlog import model
from stranglerfig.eventlog.kinesis_calls import Calls, throttled
from stranglerfig.eventlog.kinesis_records import PLACES, RECORD_BYTES, Lane, Packed, frame, lane_of, pack
from stranglerfig.eventlog.kinesis_shards import number_of
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import clock

_CALL_RECORDS: Final = 500
_CALL_BYTES: Final = 5 * 1024 * 1024
_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 1.0
_REMEMBERED: Final = 10_000
_SPREAD: Final = random.SystemRandom()


def lanes_of(events: Sequence[Event], lane: Lane | None) -> list[deque[Packed]]:
    """The records of an append, by lane and in order.

    Args:
        lane: where all of them go; None tells by each event's key.

    Raises:
        FigError: ``event_too_large``.
    """
    frames: dict[Lane, list[tuple[int, bytes]]] = {}
    for number, event in enumerate(events):
        to = lane or lane_of(event.partitionkey)
        one = frame(event)
        if len(one) + len(to.key.encode()) > RECORD_BYTES:
            # The data alone was small enough: the attributes were not.
            raise model.event_too_large(event, RECORD_BYTES - (len(one) - len(event.data)))
        frames.setdefault(to, []).append((number, one))
    return [deque(pack(to, group)) for to, group in frames.items()]


def calls_of(heads: Sequence[Packed]) -> list[list[Packed]]:
    """The records of one round in calls that Kinesis takes: at most 500 records and 5 MiB each."""
    return model.in_calls(heads, lambda one: one.size, most=_CALL_RECORDS, most_bytes=_CALL_BYTES)


class Writer:
    """Puts records.

    Args:
        patience: seconds without any progress after which an append gives up.
    """

    def __init__(self, calls: Calls, *, patience: float) -> None:
        self._calls = calls
        self._patience = patience
        self._before: dict[tuple[str, Lane], str] = {}

    async def append(self, topic: str, events: Sequence[Event], lane: Lane | None) -> tuple[list[int], set[int]]:
        """The events' positions, and the numbers of the shards they are in.

        Raises:
            FigError: ``log_throttled``, ``unknown_topic``, ``log_unreachable``.
        """
        lanes = lanes_of(events, lane)
        positions = [0] * len(events)
        shards: set[int] = set()
        pause, progress = _FIRST_PAUSE, clock.monotonic()
        while lanes:
            calls = calls_of([waiting[0] for waiting in lanes])
            answers = await asyncio.gather(*(self._calls.run(topic, self._put, topic, call) for call in calls))
            refused = None
            left: list[deque[Packed]] = []
            for waiting, answer in zip(lanes, (one for page in answers for one in page), strict=True):
                if "SequenceNumber" in answer:
                    base = int(answer["SequenceNumber"]) * PLACES
                    shards.add(number_of(answer["ShardId"]))
                    for place, number in enumerate(waiting.popleft().numbers):
                        positions[number] = base + place
                else:
                    refused = str(answer.get("ErrorMessage") or answer.get("ErrorCode"))
                if waiting:
                    left.append(waiting)
            now = clock.monotonic()
            if refused is None or len(left) < len(lanes):
                pause, progress = _FIRST_PAUSE, now
            if refused is not None:
                if now - progress > self._patience:
                    raise throttled(self._calls.address.name, topic, refused)
                await asyncio.sleep(pause * _SPREAD.uniform(0.5, 1.5))  # producers do not come back together
                pause = min(pause * 2, _LAST_PAUSE)
            lanes = left
        return positions, shards

    def _put(self, topic: str, records: list[Packed]) -> Sequence[Any]:
        if len(records) == 1:
            return [self._put_one(topic, records[0])]
        entries: list[Any] = [_entry(one) for one in records]
        return self._calls.client.put_records(StreamName=topic, Records=entries)["Records"]

    def _put_one(self, topic: str, one: Packed) -> Any:
        """A single put may name the one before it: then Kinesis guarantees that it comes after it."""
        client = self._calls.client
        asked = {"StreamName": topic, **_entry(one)}
        before = self._before.pop((topic, one.lane), None)
        try:
            if before is None:
                answer = client.put_record(**asked)
            else:
                try:
                    answer = client.put_record(**asked, SequenceNumberForOrdering=before)
                except client.exceptions.InvalidArgumentException:  # of a stream of the same name that is gone
                    answer = client.put_record(**asked)
        except client.exceptions.ProvisionedThroughputExceededException as error:
            if before is not None:
                self._before[topic, one.lane] = before
            return error.response["Error"] | {"ErrorMessage": str(error)}
        self._before[topic, one.lane] = answer["SequenceNumber"]
        while len(self._before) > _REMEMBERED:
            self._before.pop(next(iter(self._before)))
        return answer


def _entry(one: Packed) -> dict[str, Any]:
    entry: dict[str, Any] = {"Data": one.data, "PartitionKey": one.lane.key}
    if one.lane.hash is not None:
        entry["ExplicitHashKey"] = one.lane.hash
    return entry
