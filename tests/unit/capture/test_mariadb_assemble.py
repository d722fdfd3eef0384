"""A MariaDB's raw records made into transactions: what joins, what does not, what is passed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from stranglerfig.capture.assembling import Raw
from stranglerfig.capture.decode import WHOLE, Drifted, Part
from stranglerfig.capture.mariadb.assemble import Assembler
from stranglerfig.capture.mariadb.life import check_place
from stranglerfig.capture.mariadb.values import reader
from stranglerfig.capture.model import State
from stranglerfig.changes.model import Change, Column, Direction, Message, Relation, SourcePosition, Transaction
from stranglerfig.databases.mariadb import binlog
from stranglerfig.databases.mariadb.binlog import Place
from stranglerfig.databases.mariadb.types import Native
from stranglerfig.foundation.errors import FigError

ID = (Native("id", "int", "int(11)", key=True), Column("id", "integer", True))
NAME = (Native("name", "text", "text"), Column("name", "text", False))
FILE = 3 << 32


class Topic:
    """Records as the connector writes them."""

    def __init__(self) -> None:
        self.records: list[Raw] = []
        self.place = 100
        self._gtid = ""
        self._order = 0

    def put(self, value: dict[str, Any], *, moved: bool = False) -> None:
        self.records.append(Raw(len(self.records), orjson.dumps(value), moved))

    def begin(self, gtid: str) -> Topic:
        self._gtid, self._order = gtid, 0
        self.put({"status": "BEGIN", "id": gtid, "event_count": None})
        return self

    def change(
        self, op: str, before: Any = None, after: Any = None, *, table: str = "shop.item", moved: bool = False
    ) -> Topic:
        self._order += 1
        self.place += 10
        database, _, name = table.partition(".")
        source = {"db": database, "table": name, "file": "log.000003", "pos": self.place, "ts_us": 5_000_000}
        transaction = {"id": self._gtid, "total_order": self._order}
        self.put(
            {"before": before, "after": after, "source": source, "transaction": transaction, "op": op}, moved=moved
        )
        return self

    def end(self, count: int | None = None) -> Topic:
        self.put({"status": "END", "id": self._gtid, "event_count": self._order if count is None else count})
        return self


def assembler(**options: Any) -> Assembler:
    made = Assembler(tables={"shop.item"}, context="shop", direction=Direction.FORWARD, **options)
    made.learn({"shop.item": (ID, NAME)})
    return made


def transactions(outcomes: Sequence[Any]) -> list[Transaction]:
    assert all(isinstance(outcome, Part) for outcome in outcomes), outcomes
    return [outcome.transaction for outcome in outcomes]


def row(number: int, name: str | None = "x") -> dict[str, Any]:
    return {"id": number, "name": name}


def test_a_transaction_comes_out_at_its_place_with_the_gtid_behind_it() -> None:
    topic = Topic().begin("0-1-7").change("c", None, row(1)).change("u", row(1), row(1, None)).end()
    made = assembler(gtid="1-2-3,0-1-6")
    [found] = transactions(made.feed(topic.records))
    assert (found.lsn, found.xid, found.committed_at, found.first, found.end) == (FILE | 110, 7, 5_000_000, 1, True)
    assert [(i.op, i.before, i.after) for i in found.items if isinstance(i, Change)] == [
        ("c", None, ("1", "x")), ("u", ("1", "x"), ("1", None)),
    ]  # fmt: skip
    assert (made.acknowledge, made.gtid, made.next_offset) == (FILE | 110, "0-1-7,1-2-3", 4)


def test_a_changed_key_is_one_change() -> None:
    topic = Topic().begin("0-1-7").change("d", row(1), moved=True).change("c", None, row(2)).end()
    [found] = transactions(assembler().feed(topic.records))
    [change] = found.items
    assert isinstance(change, Change) and (change.op, change.before, change.after) == ("u", ("1", "x"), ("2", "x"))


def test_ddl_and_truncate_begin_and_do_not_end() -> None:
    topic = Topic().begin("0-1-1").begin("0-1-2").change("t").begin("0-1-3").change("c", None, row(1)).end()
    found = transactions(assembler().feed(topic.records))
    assert [[i.op for i in one.items if isinstance(i, Change)] for one in found] == [["t"], ["c"]]


def test_messages_of_this_context_are_kept_and_a_trace_names_the_transaction() -> None:
    topic = Topic().begin("0-1-1")
    for prefix, content in (("fig.marker", "mine"), ("fig.marker", "other"), ("traceparent", "00-1")):
        topic.change("c", None, {"id": 1, "prefix": prefix, "content": content}, table="fig.message")
    topic.change("d", {"id": 1, "prefix": "fig.marker", "content": "mine"}, None, table="fig.message").end()
    [found] = transactions(assembler(keep_message=lambda prefix, content: content == "mine").feed(topic.records))
    assert found.items == (Message("fig.marker", "mine"),) and found.trace == "00-1"


def test_what_sync_wrote_and_what_nobody_wants_is_left_out() -> None:
    topic = Topic()
    applied = {"context": "shop", "direction": "reverse"}
    topic.begin("0-1-1").change("u", None, applied, table="fig.applied").change("c", None, row(1)).end()
    topic.begin("0-1-2").change("c", None, row(2), table="shop.other").end()
    made = assembler()
    assert made.feed(topic.records) == []
    assert made.gtid == "0-1-2" and made.acknowledge == FILE | 130


def test_what_is_durable_is_passed_over_also_within_a_transaction() -> None:
    topic = Topic().begin("0-1-1").change("c", None, row(1)).end()
    topic.begin("0-1-2").change("c", None, row(2)).change("c", None, row(3)).end()
    after = SourcePosition(FILE | 120, 1)
    [found] = transactions(assembler(after=after).feed(topic.records))
    assert (found.lsn, found.first, len(found.items)) == (FILE | 120, 2, 1)
    assert transactions(assembler(after=SourcePosition(FILE | 120, WHOLE)).feed(topic.records)) == []


def test_a_large_transaction_comes_in_parts_that_join() -> None:
    topic = Topic().begin("0-1-1")
    for number in range(7):
        topic.change("c", None, row(number))
    topic.end()
    found = transactions(assembler(most_changes=3).feed(topic.records))
    assert [(one.first, len(one.items), one.end) for one in found] == [(1, 3, False), (4, 3, False), (7, 1, True)]


@pytest.mark.parametrize(
    "topic",
    [
        Topic().begin("0-1-1").change("c", None, row(1)).begin("0-1-2"),
        Topic().begin("0-1-1").change("c", None, row(1)).end(2),
        Topic().begin("0-1-1").change("d", row(1), moved=True).end(),
        Topic().change("c", None, row(1)),
        Topic().begin("0-1-1").end().end(),
    ],
    ids=["inside another", "count", "half a move", "outside", "end alone"],
)
def test_what_does_not_join_is_broken(topic: Topic) -> None:
    with pytest.raises(FigError) as raised:
        assembler().feed(topic.records)
    assert raised.value.code == "raw_topic_broken"


def test_a_change_left_out_and_a_transaction_that_comes_twice_are_broken() -> None:
    topic = Topic().begin("0-1-1").change("c", None, row(1)).change("c", None, row(2)).end()
    for records in ([*topic.records[:1], *topic.records[2:]], [*topic.records, *topic.records]):
        with pytest.raises(FigError) as raised:
            assembler().feed(records)
        assert raised.value.code == "raw_topic_broken"


@pytest.mark.parametrize("value", [b'{"status":"BEGIN"}', b"[]", b"{", b"{}"])
def test_what_cannot_be_read_is_said(value: bytes) -> None:
    with pytest.raises(FigError) as raised:
        assembler().feed([Raw(7, value)])
    assert raised.value.code == "bad_raw_record" and raised.value.context["offset"] == 7


def test_a_shape_that_no_longer_fits_stops_before_its_transaction() -> None:
    known = Relation("shop", "item", (ID[1], NAME[1], Column("gone", "text")))
    topic = Topic().begin("0-1-1").change("c", None, row(1)).end().begin("0-1-2").change("c", None, row(2)).end()
    made = assembler(baseline={"shop.item": known})
    [outcome] = made.feed(topic.records)
    assert isinstance(outcome, Drifted) and outcome.drift.dropped == ("gone",) and made.drifted and not made.gtid


@pytest.mark.parametrize(
    ("native", "sent", "text"),
    [
        (Native("c", "bigint", "bigint(20) unsigned"), "AP//////////", "18446744073709551615"),
        (Native("c", "datetime", "datetime(3)", fraction=3), 1709210096120, "2024-02-29 12:34:56.12"),
        (Native("c", "datetime", "datetime(6)", fraction=6), -30610223999999999, "1000-01-01 00:00:00.000001"),
        (Native("c", "timestamp", "timestamp"), "2024-02-29T12:34:56Z", "2024-02-29 12:34:56+00"),
        (Native("c", "time", "time"), -3020399000000, "-838:59:59"),
        (Native("c", "year", "year(4)"), 1900, "0"),
        (Native("c", "year", "year(4)"), 2024, "2024"),
        (Native("c", "bit", "bit(1)", precision=1), True, "1"),
        (Native("c", "bit", "bit(12)", precision=12), "qwo=", "101010101011"),
        (Native("c", "blob", "blob"), "AP8Q", "\\x00ff10"),
        (Native("c", "date", "date"), 19782, "2024-02-29"),
        (Native("c", "int", "int(11)"), 5, "5"),
    ],
)
def test_values_become_texts(native: Native, sent: Any, text: str) -> None:
    assert reader(native)(sent) == text


def test_places_are_numbers_that_grow() -> None:
    assert binlog.number("log.000003", 110) == FILE | 110 < binlog.number("log.000004", 4)
    files = [("log.000003", 500), ("log.000004", 300)]
    assert binlog.behind(files, FILE | 110) == 690
    assert binlog.behind(files, (4 << 32) | 300) == 0
    assert binlog.behind(files, 2 << 32) is None


def state(**changes: Any) -> State:
    known = (Relation("shop", "item", (ID[1],)),)
    base = {
        "slot": "s", "system": "uid", "timeline": 0, "publication": 0, "asked": 1, "generation": 1, "snapshot": "done",
        "created": FILE, "acknowledged": FILE | 10, "relations": known, "engine": "debezium", "gtid": "0-1-1",
    }  # fmt: skip
    return State(**(base | changes))  # type: ignore[arg-type]


def test_a_flow_goes_on_only_where_it_was() -> None:
    here = Place("uid", "log.000003", 10, "0-1-1")
    check_place(state(), here, ["shop.item"])
    check_place(state(), here._replace(gtid="2-7-1,0-3-5"), ["shop.item"])
    assert State.from_dict(state().as_dict()) == state()
    for found, place, tables, code in (
        (state(engine="native"), here, ["shop.item"], "engine_changed"),
        (state(), here._replace(server="another"), ["shop.item"], "source_replaced"),
        (state(), here._replace(offset=9), ["shop.item"], "source_rewound"),
        # Restored, and started again: a later file, in which there is less.
        (
            state(gtid="0-1-9,1-1-3"),
            here._replace(file="log.000009", gtid="0-1-8,1-1-3"),
            ["shop.item"],
            "source_rewound",
        ),
        (state(gtid="0-1-9,1-1-3"), here._replace(file="log.000009", gtid="0-1-9"), ["shop.item"], "source_rewound"),
        (state(), here, ["shop.item", "shop.more"], "tables_changed"),
    ):
        with pytest.raises(FigError) as raised:
            check_place(found, place, tables)
        assert raised.value.code == code
