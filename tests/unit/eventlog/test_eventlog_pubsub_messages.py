"""Events as messages, requests within Pub/Sub's limits, its addresses: pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from stranglerfig.eventlog.model import Event, partition_of
from stranglerfig.eventlog.pubsub_calls import Address, address_of
from stranglerfig.eventlog.pubsub_messages import (
    Batch,
    Incoming,
    Outgoing,
    by_partition,
    calls_of,
    outgoing,
    record,
)
from stranglerfig.foundation.errors import FigError

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)


def event(data: bytes = b"{}", **attributes: Any) -> Event:
    return Event(**{"id": "1", "source": "/s", "type": "t", "time": AT, "data": data, **attributes})


def test_an_event_survives_its_message() -> None:
    one = event(b"\0\xff", subject="ü", partitionkey="k", datacontenttype="a/b")
    message = outgoing(one, 3, "batch", 7)
    assert message.attributes == {
        "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-time": AT.isoformat(),
        "ce-subject": "ü", "ce-partitionkey": "k", "content-type": "a/b",
        "figpartition": "3", "figbatch": "batch", "figplace": "7",
    }  # fmt: skip
    back = record("topic", 3, 17, Incoming(message.data, message.attributes, AT), LATER)
    assert (back.event, back.position, back.appended_at) == (one, 17, LATER)


def test_what_others_wrote_with_a_place_of_ours_is_an_event_too() -> None:
    back = record("topic", 3, 17, Incoming(b"x", {}, AT), LATER)
    assert (back.event.id, back.event.data, back.event.time) == ("topic-3-17", b"x", LATER)


def test_a_long_attribute_is_refused() -> None:
    outgoing(event(subject="s" * 1024), 0, "b", 0)
    for subject in ("s" * 1025, "ü" * 513):
        with pytest.raises(FigError, match="attribute_too_large"):
            outgoing(event(subject=subject), 0, "b", 0)


def test_events_by_partition() -> None:
    events = [event(partitionkey=key) for key in ("a", "b", None, "a")]
    a, b = partition_of("a", 4), partition_of("b", 4)
    found = by_partition(events, 4, None)
    assert [number for numbers in found.values() for number in numbers if number in (0, 3)] == [0, 3]
    assert {0, 3} <= set(found[a])
    assert 1 in found[b]
    assert 2 in found[0]
    assert by_partition(events, 4, 2) == {2: [0, 1, 2, 3]}


def test_requests_keep_to_pubsub_s_limits() -> None:
    assert [len(call) for call in calls_of([Outgoing(b"", {})] * 1001)] == [1000, 1]
    large = Outgoing(bytes(4_000_000), {"a": "ü" * 10})
    assert large.size >= 4_000_000 + 21
    assert [len(call) for call in calls_of([large] * 5)] == [2, 2, 1]


def test_a_batch_ends_after_its_last() -> None:
    assert Batch(5, 3, "b", AT, AT).end == 8


def test_addresses() -> None:
    assert address_of("pubsub://project") == Address("project", None, 0.1)
    local = address_of("pubsub://project?endpoint=127.0.0.1:1&poll=2")
    assert (local.endpoint, local.poll) == ("127.0.0.1:1", 2.0)
    assert local.path("topics", "t") == "projects/project/topics/t"
    assert local.name != address_of("pubsub://project").name


@pytest.mark.parametrize("url", ["pubsub://", "pubsub://p?poll=x", "pubsub://p?poll=-1", "pubsub://p?pol=1"])
def test_addresses_that_say_nothing(url: str) -> None:
    with pytest.raises(FigError, match="bad_log_url"):
        address_of(url)
