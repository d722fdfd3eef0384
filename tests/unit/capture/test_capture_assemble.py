"""A raw topic's records put together: whole transactions, whatever the connector was interrupted in."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from stranglerfig.capture.assemble import Assembler, shapes_of
from stranglerfig.capture.assembling import Raw
from stranglerfig.capture.decode import WHOLE, Aside, Drifted, Loose, Outcome, Part
from stranglerfig.changes.model import UNCHANGED, Change, Message, SourcePosition
from stranglerfig.foundation.errors import FigError

ITEM = [
    ("public", "item", "id", "integer", True, "int4", "b", False, 0, -1, "p", True, "d"),
    ("public", "item", "sku", "text", False, "text", "b", False, 0, -1, "x", True, "d"),
    ("public", "outbox", "id", "integer", True, "int4", "b", False, 0, -1, "p", True, "d"),
    ("public", "outbox", "traceparent", "text", False, "text", "b", False, 0, -1, "x", True, "d"),
    ("public", "full", "id", "integer", True, "int4", "b", False, 0, -1, "p", True, "f"),
    ("public", "full", "sku", "text", True, "text", "b", False, 0, -1, "x", True, "f"),
]


class Topic:
    """Records as the connector writes them."""

    def __init__(self) -> None:
        self.records: list[Raw] = []
        self.xid = 0
        self.order = 0

    def add(self, value: dict[str, Any], *, moved: bool = False) -> None:
        self.records.append(Raw(len(self.records), orjson.dumps(value), moved))

    def begin(self, xid: int, lsn: int = 1) -> None:
        self.xid, self.order = xid, 0
        self.add({"status": "BEGIN", "id": f"{xid}:{lsn}", "event_count": None})

    def end(self, lsn: int, count: int | None = None) -> None:
        self.add({"status": "END", "id": f"{self.xid}:{lsn}", "event_count": self.order if count is None else count})

    def change(
        self, op: str, after: Any, before: Any = None, *, table: str = "item", moved: bool = False, order: int = 0
    ) -> None:
        self.order = order or self.order + 1
        source = {"ts_us": 7_000_000, "schema": "public", "table": table, "txId": self.xid, "lsn": 100 + self.order}
        record = {
            "before": before,
            "after": after,
            "source": source,
            "transaction": {"total_order": self.order},
            "op": op,
        }
        self.add(record, moved=moved)

    def message(self, prefix: str, content: str, *, loose: bool = False) -> None:
        if not loose:
            self.order += 1
        source = {"ts_us": 7_000_000, "schema": "", "table": "", "txId": None if loose else self.xid, "lsn": 77}
        told = {"prefix": prefix, "content": b64encode(content.encode()).decode()}
        place = None if loose else {"total_order": self.order}
        self.add({"op": "m", "source": source, "transaction": place, "message": told})

    def simple(self, xid: int, end: int, *numbers: int) -> None:
        self.begin(xid)
        for number in numbers:
            self.change("c", {"id": number, "sku": "a"})
        self.end(end)


@pytest.fixture
def topic() -> Topic:
    return Topic()


def assembler(rows: Iterable[Any] = ITEM, **options: Any) -> Assembler:
    made = Assembler(
        tables=["public.item", "public.full"],
        aside="public.outbox",
        keep_message=lambda p, c: p == "fig.marker",
        **options,
    )
    learn(made, rows)
    return made


def learn(made: Assembler, rows: Iterable[Any]) -> None:
    shapes: dict[str, list[Any]] = {}
    whole = set()
    for table, shape, full in shapes_of(rows):
        shapes.setdefault(table, []).append(shape)
        if full:
            whole.add(table)
    made.learn({table: tuple(found) for table, found in shapes.items()}, whole)


def changes(outcomes: Iterable[Outcome]) -> list[Any]:
    return [item for o in outcomes if isinstance(o, Part) for item in o.transaction.items]


def test_a_transaction_comes_out_whole_at_its_end(topic: Topic) -> None:
    topic.simple(5, 1000, 1, 2)
    made = assembler()
    assert made.feed(topic.records[:3]) == [] and made.offset == 0 and made.newest == 102
    [part] = made.feed(topic.records[3:])
    assert isinstance(part, Part)
    found = part.transaction
    assert (found.lsn, found.xid, found.committed_at, found.first, found.end) == (999, 5, 7_000_000, 1, True)
    assert [c.after for c in changes([part])] == [("1", "a"), ("2", "a")]
    assert (made.offset, made.acknowledge, made.newest) == (4, 1000, 1000)


def test_keys_that_change_identities_and_truncations(topic: Topic) -> None:
    topic.begin(5)
    topic.change("d", None, {"id": 1, "sku": None}, moved=True)
    topic.change("c", {"id": 2, "sku": "b"})
    topic.change("d", None, {"id": 2, "sku": None})
    topic.change("u", {"id": 9, "sku": "__stranglerfig_unchanged_toast_value__"}, {"id": 9, "sku": "old"}, table="full")
    topic.change("d", None, {"id": 9, "sku": "old"}, table="full")
    topic.change("u", {"id": 3, "sku": "__stranglerfig_unchanged_toast_value__"})
    topic.change("t", None)
    topic.change("c", {"id": 3}, table="other")
    topic.end(1000)
    found = changes(assembler().feed(topic.records))
    assert [(c.op, c.before, c.after) for c in found] == [
        ("u", ("1", UNCHANGED), ("2", "b")),
        ("d", ("2", UNCHANGED), None),
        ("u", ("9", "old"), ("9", "old")),
        ("d", ("9", "old"), None),
        ("u", None, ("3", UNCHANGED)),
        ("t", None, None),
    ]


def test_messages_and_outbox_rows_go_their_own_ways(topic: Topic) -> None:
    topic.message("fig.refused", "no", loose=True)
    topic.begin(5)
    topic.message("fig.marker", "é")
    topic.message("fig.heartbeat", "")
    topic.message("traceparent", "00-a")
    topic.change("c", {"id": 1, "traceparent": None}, table="outbox")
    topic.change("d", None, {"id": 1, "traceparent": None}, table="outbox")
    topic.end(1000)
    topic.begin(6)
    topic.change("c", {"id": 2, "traceparent": "00-b"}, table="outbox")
    topic.change("t", None, table="outbox")
    topic.change("c", {"id": 1, "sku": None})
    topic.end(2000)
    loose, first, part, second, other = assembler().feed(topic.records)
    assert loose == Loose(77, "fig.refused", "no")
    assert first == Aside(999, 7_000_000, {"id": "1", "traceparent": None})
    assert isinstance(part, Part) and part.transaction.trace == "00-a"
    assert part.transaction.items == (Message("fig.marker", "é"),)
    assert isinstance(second, Aside) and isinstance(other, Part) and other.transaction.trace == "00-b"


def test_empty_transactions_leave_no_trace(topic: Topic) -> None:
    topic.simple(5, 1000)
    made = assembler()
    assert made.feed(topic.records) == [] and made.acknowledge == 1000


def test_what_is_durable_is_passed_over(topic: Topic) -> None:
    topic.simple(5, 1000, 1, 2, 3)
    topic.simple(6, 2000, 4)
    assert len(changes(assembler(after=SourcePosition(999, WHOLE)).feed(topic.records))) == 1
    part = assembler(after=SourcePosition(999, 2)).feed(topic.records)[0]
    assert isinstance(part, Part) and part.transaction.first == 3 and len(part.transaction.items) == 1


def test_large_transactions_are_read_again_and_cut(topic: Topic) -> None:
    topic.simple(5, 1000, *range(10))
    topic.simple(6, 2000, 99)
    made = assembler(most_held=500, most_changes=4)
    assert made.feed(topic.records) == [] and made.again == 0 and made.offset == 0
    made.again = None
    outcomes = made.feed(topic.records[:7])
    assert made.offset == 0
    outcomes += made.feed(topic.records[7:])
    found = [o.transaction for o in outcomes if isinstance(o, Part)]
    assert [(t.lsn, t.first, len(t.items), t.end) for t in found] == [
        (999, 1, 4, False), (999, 5, 4, False), (999, 9, 2, True), (1999, 1, 1, True)
    ]  # fmt: skip


def test_in_doubt_what_comes_again_is_left_and_what_was_met_before_is_dropped(topic: Topic) -> None:
    topic.change("c", {"id": 0, "sku": None}, order=3)  # the rest of something older
    topic.end(500)
    topic.begin(5)
    topic.change("c", {"id": 1, "sku": "a"})
    topic.change("c", {"id": 2, "sku": "a"})
    topic.change("c", {"id": 2, "sku": "a"}, order=2)  # interrupted: from a little before
    topic.change("c", {"id": 3, "sku": "a"})
    topic.end(1000)
    topic.begin(6)
    topic.begin(6)  # interrupted: from its beginning
    topic.change("c", {"id": 4, "sku": "a"})
    topic.end(2000)
    topic.begin(7)
    topic.change("c", {"id": 5, "sku": "a"})
    made = assembler()
    made.doubt(until=1500)
    assert [c.after[0] for c in changes(made.feed(topic.records))] == ["1", "2", "3"]
    assert made.acknowledge == 1000
    made.close()
    assert made.offset == len(topic.records)
    whole = Topic()
    whole.simple(6, 2000, 4)
    again = [raw._replace(offset=raw.offset + len(topic.records)) for raw in whole.records]
    assert [c.after[0] for c in changes(made.feed(again))] == ["4"]


def broken(topic: Topic) -> str:
    with pytest.raises(FigError) as raised:
        assembler().feed(topic.records)
    assert raised.value.code == "raw_topic_broken"
    return str(raised.value)


def test_anything_but_whole_transactions_in_order_is_refused(topic: Topic) -> None:
    topic.begin(5)
    topic.begin(6)
    assert "inside another" in broken(topic)
    for order, count in ((3, 3), (1, 2)):
        topic = Topic()
        topic.begin(5)
        topic.change("c", {"id": 1, "sku": None}, order=order)
        topic.end(1000, count)
        broken(topic)
    topic = Topic()
    topic.change("c", {"id": 1, "sku": None})
    assert "outside" in broken(topic)
    topic = Topic()
    topic.end(1000)
    assert "did not begin" in broken(topic)
    topic = Topic()
    topic.begin(5)
    topic.change("d", None, {"id": 1, "sku": None}, moved=True)
    topic.end(1000)
    broken(topic)


def test_a_record_that_makes_no_sense_is_named_by_its_offset() -> None:
    with pytest.raises(FigError) as raised:
        assembler().feed([Raw(0, b'{"status":"BEGIN","id":"x"}')])
    assert raised.value.code == "bad_raw_record" and raised.value.context["offset"] == 0


def test_a_shape_that_no_longer_fits_holds_what_follows(topic: Topic) -> None:
    topic.simple(5, 1000, 1)
    topic.begin(6)
    topic.change("c", {"id": 2, "sku": "a", "more": 1})
    topic.end(2000)
    topic.begin(7)
    topic.change("c", {"id": 3})
    topic.end(3000)
    topic.simple(8, 4000, 4)
    made = assembler()
    made.feed(topic.records[:3])
    more = ("public", "item", "more", "integer", False, "int4", "b", False, 0, -1, "p", True, "d")
    learn(made, [ITEM[0], ITEM[1], more])
    assert [c.after for c in changes(made.feed(topic.records[3:6]))] == [("2", "a", "1")]
    [drifted] = made.feed(topic.records[6:])
    assert isinstance(drifted, Drifted) and drifted.drift.dropped == ("sku", "more") and drifted.lsn == 2999
    assert made.drifted and made.feed(topic.records) == []


def test_a_type_that_changed_is_seen_in_the_catalogue(topic: Topic) -> None:
    topic.simple(5, 1000, 1)
    topic.simple(6, 2000, 2)
    made = assembler()
    made.feed(topic.records[:3])
    learn(made, [(*ITEM[0][:3], "bigint", True, "int8", *ITEM[0][6:]), ITEM[1]])
    [drifted] = made.feed(topic.records[3:])
    assert isinstance(drifted, Drifted) and drifted.drift.retyped == ("id",)


def test_parts_are_cut_by_what_their_changes_hold(topic: Topic) -> None:
    topic.begin(5)
    for number in range(6):
        topic.change("c", {"id": number, "sku": "x" * 2000})
    topic.end(1000)
    parts = [o.transaction for o in assembler(most_bytes=3000).feed(topic.records) if isinstance(o, Part)]
    assert [t.end for t in parts][-1] and len(parts) > 1 and sum(len(t.items) for t in parts) == 6
    assert all(isinstance(item, Change) for t in parts for item in t.items)
