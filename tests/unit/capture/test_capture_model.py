"""What capture decides: the position rules, honest progress, what goes into the log."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from stranglerfig.capture import outbox, pack
from stranglerfig.capture.decode import Aside, Loose, Part
from stranglerfig.capture.facts import Facts
from stranglerfig.capture.model import (
    Drift,
    Progress,
    PublicationFacts,
    Server,
    SlotFacts,
    State,
    check_place,
    incompatible,
    must_begin,
)
from stranglerfig.capture.snapshot import cut, statement
from stranglerfig.changes import frames
from stranglerfig.changes.model import Change, Column, Direction, Relation, SnapshotEdge, Transaction
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.foundation.errors import FigError

ITEM = Relation("public", "item", (Column("id", "integer", True), Column('odd "name"', "text")))
STATE = State("fig_x_forward", "77", 1, 500, 1, 3, "done", 1000, 2000, (ITEM,))
SERVER = Server("77", 1, 180000, 5000)
SLOT = SlotFacts(2000, 1500, "reserved", None, None)
PUBLICATION = PublicationFacts(500, frozenset({"public.item"}))
TABLES = frozenset({"public.item"})


def test_a_place_that_is_as_it_was_left_is_fine() -> None:
    check_place(STATE, SERVER, SLOT, PUBLICATION, TABLES)


@pytest.mark.parametrize(
    ("code", "server", "slot", "publication"),
    [
        ("source_replaced", replace(SERVER, system="78"), SLOT, PUBLICATION),
        ("source_rewound", replace(SERVER, lsn=1999), SLOT, PUBLICATION),
        ("slot_lost", SERVER, None, PUBLICATION),
        ("slot_lost", SERVER, replace(SLOT, wal_status="lost"), PUBLICATION),
        ("changes_skipped", SERVER, replace(SLOT, confirmed=2001), PUBLICATION),
        ("publication_dropped", SERVER, SLOT, None),
        ("publication_dropped", SERVER, SLOT, replace(PUBLICATION, oid=501)),
        ("publication_changed", SERVER, SLOT, replace(PUBLICATION, tables=frozenset())),
    ],
)
def test_a_place_where_changes_may_have_been_missed_is_refused(
    code: str, server: Server, slot: SlotFacts | None, publication: PublicationFacts | None
) -> None:
    with pytest.raises(FigError) as refused:
        check_place(STATE, server, slot, publication, TABLES)
    assert refused.value.code == code
    assert refused.value.remedy


def test_when_to_begin_anew() -> None:
    assert must_begin(None, wanted=False, generation=1)
    assert not must_begin(STATE, wanted=True, generation=1)
    assert must_begin(STATE, wanted=True, generation=2)
    assert must_begin(replace(STATE, snapshot="begun"), wanted=True, generation=1)
    assert not must_begin(replace(STATE, snapshot="none"), wanted=False, generation=1)


def test_a_state_reads_back_and_accepts_a_table() -> None:
    accepted = STATE.accepting("public.item")
    assert State.from_dict(orjson.loads(orjson.dumps(accepted.as_dict()))) == accepted
    assert STATE.baseline() == {"public.item": ITEM}
    assert accepted.baseline() == {}
    waiting = accepted.acknowledging(200, {})
    assert (waiting.relations, waiting.accepted) == (STATE.relations, ("public.item",))  # nothing of the new shape yet
    seen = {each.qualified: each for each in STATE.relations}
    assert waiting.acknowledging(300, seen).accepted == ()


def test_what_drifted_is_said_in_words() -> None:
    error = incompatible(Drift("public.item", (Column("c", "date"),), ("a",), ("b",), True))
    for word in ("dropped or renamed: a", "of another type: b", "new: c date", "another key"):
        assert word in error.message


def test_progress_is_silent_before_it_can_be_honest() -> None:
    assert Progress(pages_total=100, estimate=50).remaining is None
    half = Progress(1000, 50, 100, 5, 2.0)
    assert (half.total, half.rate, half.remaining) == (2000, 500.0, 2.0)
    assert Progress().share == 1.0


def test_a_table_is_cut_into_pieces_that_meet() -> None:
    pieces = list(cut(ITEM, ("public", "leaf"), 10_000))
    assert [(p.start, p.until) for p in pieces] == [(0, 4096), (4096, 8192), (8192, None)]
    assert sum(p.pages for p in pieces) == 10_000
    assert statement(pieces[0]) == (
        'COPY (SELECT "id", "odd ""name""" FROM ONLY "public"."leaf" WHERE ctid >= \'(0,0)\' AND ctid < \'(4096,0)\')'
        " TO STDOUT"
    )


def part(lsn: int, count: int, size: int = 10, *, first: int = 1, end: bool = True) -> Part:
    return Part(Transaction(lsn, 1, 0, first, (Change("c", ITEM, None, ("1", None)),) * count, end), size)


def test_frames_are_bounded_and_their_ids_say_what_is_in_them() -> None:
    events = pack.pack([part(16, 3000), part(32, 3000), part(48, 1, 10**6), part(64, 1)], source="/s", generation=2)
    assert [e.id for e in events] == ["2-10-1-10-3000", "2-20-1-20-3000", "2-30-1-30-1", "2-40-1-40-1"]
    assert [e.id for e in pack.pack([part(1, 1), part(2, 2)], source="/s", generation=2)] == ["2-1-1-2-2"]
    cut_short = pack.pack([part(16, 2, first=3, end=False)], source="/s", generation=2)
    assert cut_short[0].id == "2-10-3-10-4-part"
    assert pack.pack([], source="/s", generation=1) == []
    assert pack.edge(SnapshotEdge(1, 0, 4, True), source="/s", now=datetime.now(UTC)).id == "4-begin"


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('{"mode":"refused","table":"public.item"}', "fig.WriteRefused"),
        ('{"mode":"observing"}', "fig.WriterObserved"),
        ("[]", None),
        ("no json", None),
    ],
)
def test_refusals_become_events(content: str, kind: str | None) -> None:
    event = pack.refusal(Loose(255, "fig.refused", content), source="/s", system="7", now=NOW)
    assert (event and event.type) == kind
    assert event is None or event.id == "7-ff"


def test_whose_message_it_is() -> None:
    assert pack.context_of('{"context":"a"}') == "a"
    assert [pack.context_of(text) for text in ("", "[]", "{}", '{"context":1}')] == [None] * 4


ROW = {
    "id": "i", "topic": "t", "type": "x.Y", "key": "k", "data": "{}", "subject": None, "traceparent": "tp",
    "occurred_at": "2026-01-02 03:04:05.6+00",
}  # fmt: skip


def test_an_outbox_row_is_an_event() -> None:
    topic, event = outbox.event(Aside(1, 0, ROW), source="/s")  # type: ignore[arg-type]
    assert topic == "t"
    assert (event.id, event.partitionkey, event.data, event.traceparent) == ("i", "k", b"{}", "tp")
    assert event.time == datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)
    assert event.tenantid is None  # a table without the column
    _, whose = outbox.event(Aside(1, 0, {**ROW, "tenantid": "acme"}), source="/s")
    assert whose == event._replace(tenantid="acme")
    _, untimed = outbox.event(Aside(1, 0, {**ROW, "occurred_at": None}), source="/s")  # type: ignore[dict-item]
    assert untimed.time == datetime(1970, 1, 1, tzinfo=UTC)
    with pytest.raises(FigError, match="bad_outbox_row"):
        outbox.event(Aside(1, 0, {**ROW, "data": None}), source="/s")  # type: ignore[dict-item]


async def test_outbox_topics_are_made_on_first_use_and_rows_are_events_once() -> None:
    log = MemoryLog()
    pair = outbox.event(Aside(1, 0, ROW), source="/s")  # type: ignore[arg-type]
    await outbox.publish(log, [pair])
    await outbox.publish(log, [pair])
    assert [r.event.id for r in await log.read("t", 0, 0)] == ["i"]


def test_a_report_has_the_keys_that_others_read() -> None:
    facts = Facts(lsn=16, source_lsn=32)
    facts.become("failed", FigError("slot_lost", "gone", "again"))
    report = facts.report()
    assert report["error"] == {"code": "slot_lost", "message": "gone", "remedy": "again"}
    assert (report["state"], report["lag_bytes"], report["lsn"]) == ("failed", 16, "0/10")
    assert facts.changed.is_set()
    orjson.dumps(report)


def test_sources_are_named_after_their_flow() -> None:
    assert pack.source_of("inventory", Direction.REVERSE) == "/fig/inventory/reverse"
    assert frames.STREAM.endswith("json")
