from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import orjson
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.eventlog import postgres_batch
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import ids

AT = datetime(2026, 11, 22, 1, 2, 3, 456789, UTC)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
TIMES = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))]))
EVENTS = st.lists(
    st.builds(
        Event,
        TEXTS,
        TEXTS,
        TEXTS,
        TIMES,
        st.binary(max_size=20),
        TEXTS,
        *[st.none() | TEXTS] * 7,
    ),
    max_size=30,
)


@given(EVENTS, st.integers(0, 2**62))
def test_what_is_put_into_rows_comes_back(events: list[Event], first: int) -> None:
    found = []
    for row in postgres_batch.rows(events):
        found += postgres_batch.records("t", 3, first + len(found), AT, row.header, row.data)
    assert [record.event for record in found] == events
    assert [record.position for record in found] == list(range(first, first + len(events)))
    assert {(record.topic, record.partition, record.appended_at) for record in found} <= {("t", 3, AT)}


def test_rows_are_bounded() -> None:
    def event(size: int) -> Event:
        return Event(ids.new_id(), "/s", "T", AT, b"x" * size)

    sizes = [400_000] * 5 + [5_000_000] + [1] * 2500
    rows = postgres_batch.rows([event(size) for size in sizes])
    assert sum(row.events for row in rows) == len(sizes)
    assert all(row.events <= 1000 and (len(row.data) <= 1_000_000 or row.events == 1) for row in rows)
    assert all(a.events + b.events > 1000 or len(a.data) + len(b.data) > 1_000_000 for a, b in pairwise(rows))


def test_rows_from_before_there_were_tenants_are_read() -> None:
    plain = Event("1", "/s", "T", AT, b"x", causationid="c")
    (row,) = postgres_batch.rows([plain])
    header = orjson.loads(row.header)
    assert len(header) == 12  # as it was: who does not know of tenants reads it, too
    assert [r.event for r in postgres_batch.records("t", 0, 0, AT, row.header, row.data)] == [plain]
    (row,) = postgres_batch.rows([plain, plain._replace(id="2", tenantid="acme")])
    assert len(orjson.loads(row.header)) == 13
    found = postgres_batch.records("t", 0, 0, AT, row.header, row.data)
    assert [r.event.tenantid for r in found] == [None, "acme"]
