"""The decoder: bytes in, changes out; nothing else gets past it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pgoutput_messages import (
    TYPES,
    begin,
    commit,
    delete,
    insert,
    message,
    origin,
    relation,
    row,
    truncate,
    update,
)

from stranglerfig.capture.decode import WHOLE, Aside, Decoder, Drifted, Loose, Outcome, Part, types_in
from stranglerfig.changes.model import UNCHANGED, Change, Column, Message, Relation, SourcePosition, Transaction
from stranglerfig.foundation.errors import FigError

ID, NOTE = ("id", 23, -1, True), ("note", 25, -1, False)
ITEM = Relation("public", "item", (Column("id", "integer", True), Column("note", "text")))
R = relation(1, "item", ID, NOTE)


def decoder(**options: object) -> Decoder:
    return Decoder(types=TYPES, **{"tables": ["public.item"], **options})  # type: ignore[arg-type]


def transactions(outcomes: list[Outcome]) -> list[Transaction]:
    return [outcome.transaction for outcome in outcomes if isinstance(outcome, Part)]


def items(*messages: bytes, **options: object) -> list[Change | Message]:
    outcomes = decoder(**options).feed([begin(100), R, *messages, commit(100)])
    return [item for transaction in transactions(outcomes) for item in transaction.items]


def test_a_transaction_carries_its_place_and_its_changes_in_order() -> None:
    it = decoder()
    outcomes = it.feed([begin(100, xid=9, at=77), R, insert(1, "1", "a"), delete(1, key=("1", None)), commit(100)])
    expected = (Change("c", ITEM, None, ("1", "a")), Change("d", ITEM, ("1", UNCHANGED), None))
    assert transactions(outcomes) == [Transaction(100, 9, 77, 1, expected)]
    assert it.acknowledge == 148
    assert not it.open


def test_null_empty_and_unchanged_are_three_things() -> None:
    found = items(insert(1, "1", None), insert(1, "2", ""), update(1, ("2", False)))
    assert [change.after for change in found if isinstance(change, Change)] == [
        ("1", None),
        ("2", ""),
        ("2", UNCHANGED),
    ]


def test_a_changed_key_is_one_change_with_both_keys() -> None:
    assert items(update(1, ("2", False), key=("1", None))) == [Change("u", ITEM, ("1", UNCHANGED), ("2", UNCHANGED))]


def test_a_full_old_row_fills_what_was_not_sent_anew() -> None:
    assert items(update(1, ("1", False), old=("1", "long"))) == [Change("u", ITEM, ("1", "long"), ("1", "long"))]


def test_a_truncation_is_one_change_per_table() -> None:
    assert items(relation(2, "other", ID), truncate(2, 1)) == [Change("t", ITEM, None, None)]


def test_transactions_of_the_opposite_direction_are_dropped() -> None:
    it = decoder(drop_origin="fig_inventory_reverse")
    ours = [begin(100), origin("fig_inventory_reverse"), R, insert(1, "1", "a"), message("x", ""), commit(100)]
    theirs = [begin(200), origin("elsewhere"), insert(1, "2", "b"), commit(200)]
    assert [t.lsn for t in transactions(it.feed(ours + theirs))] == [200]
    assert it.acknowledge == 248


def test_messages_inside_transactions_are_items_and_outside_are_loose() -> None:
    outcomes = decoder().feed([message("fig.refused", "{}", transactional=False, lsn=42)])
    assert outcomes == [Loose(42, "fig.refused", "{}")]
    assert items(message("fig.marker", "{}")) == [Message("fig.marker", "{}")]
    assert items(message("fig.marker", "{}"), keep_message=lambda prefix, content: False) == []


def test_the_outbox_comes_out_aside_and_takes_no_ordinal() -> None:
    outbox = relation(2, "outbox", ID, NOTE)
    it = decoder(aside="public.outbox")
    changes = [R, outbox, insert(2, "7", "x"), insert(1, "1", "a"), delete(2, key=("7", None)), truncate(2)]
    found = it.feed([begin(100, at=5), *changes, commit(100)])
    assert found[0] == Aside(100, 5, {"id": "7", "note": "x"})
    assert [len(t.items) for t in transactions(found)] == [1]


def test_a_transaction_s_trace_is_a_message_or_its_event_s_and_no_item() -> None:
    stated = [begin(100), R, message("traceparent", "00-a"), *(insert(1, str(n), "a") for n in range(3)), commit(100)]
    parts = transactions(decoder(most_changes=2).feed(stated))
    assert [(part.first, len(part.items), part.trace) for part in parts] == [(1, 2, "00-a"), (3, 1, "00-a")]
    outbox = relation(2, "outbox", ID, ("traceparent", 25, -1, False))
    it = decoder(aside="public.outbox")
    found = transactions(it.feed([begin(100), R, outbox, insert(2, "7", "00-b"), insert(1, "1", "a"), commit(100)]))
    after = transactions(it.feed([begin(200), insert(2, "8", None), insert(1, "2", "a"), commit(200)]))
    assert [part.trace for part in found + after] == ["00-b", None]


def test_a_large_transaction_comes_in_parts_of_which_only_the_last_ends() -> None:
    stream = [begin(100), R, *(insert(1, str(n), "a") for n in range(10)), commit(100)]
    parts = transactions(decoder(most_changes=5).feed(stream))
    assert [(p.first, len(p.items), p.end) for p in parts] == [(1, 5, False), (6, 5, True)]
    by_size = transactions(decoder(most_bytes=1).feed(stream))
    assert [p.end for p in by_size] == [False] * 9 + [True]


@given(st.integers(0, 10), st.integers(1, 4))
def test_what_is_durable_already_is_passed_over_wherever_it_was_cut(done: int, most: int) -> None:
    stream = [begin(100), R, *(insert(1, str(n), "a") for n in range(1, 11)), commit(100)]
    whole = transactions(decoder(most_changes=most).feed(stream))
    after = SourcePosition(100, WHOLE if done == 10 else done)
    rest = transactions(decoder(most_changes=most, after=after).feed(stream))
    numbered = [(p.first + n, item) for p in whole for n, item in enumerate(p.items)]
    assert [(p.first + n, item) for p in rest for n, item in enumerate(p.items)] == numbered[done:]
    assert transactions(decoder(after=SourcePosition(99, WHOLE)).feed(stream)) == transactions(decoder().feed(stream))


@pytest.mark.parametrize(
    ("columns", "passes"),
    [
        ([ID, NOTE, ("new", 23, -1, False)], True),
        ([ID], False),
        ([ID, ("renamed", 25, -1, False)], False),
        ([ID, ("note", 23, -1, False)], False),
        ([("id", 23, -1, False), ("note", 25, -1, True)], False),
    ],
)
def test_a_table_s_new_shape_passes_only_when_it_merely_has_more(
    columns: list[tuple[str, int, int, bool]], passes: bool
) -> None:
    it = decoder(baseline={"public.item": ITEM})
    outcomes = it.feed(
        [begin(100), relation(1, "item", *columns), insert(1, *["1"] * len(columns)), commit(100), begin(200)]
    )
    assert isinstance(outcomes[0], Part if passes else Drifted)
    assert it.drifted is not passes
    if not passes:
        assert len(outcomes) == 1  # nothing of the transaction, nothing after it
    else:
        assert it.baseline["public.item"].columns[-1].name == "new"


def test_a_shape_is_not_judged_by_what_is_durable_already() -> None:
    it = decoder(baseline={"public.item": ITEM}, after=SourcePosition(100, WHOLE))
    stream = [begin(100), relation(1, "item", ID), insert(1, "1"), commit(100), begin(200), R, insert(1, "1", "a")]
    assert [t.lsn for t in transactions(it.feed([*stream, commit(200)]))] == [200]


def test_types_are_named_by_the_source() -> None:
    message_ = relation(1, "item", ID, ("price", 1700, 655366, False))
    assert types_in(message_) == {(23, -1), (1700, 655366)}
    outcomes = decoder().feed([begin(1), message_, insert(1, "1", "2.50"), commit(1)])
    assert [column.type for column in outcomes[0].transaction.items[0].relation.columns] == [  # type: ignore[union-attr]
        "integer",
        "numeric(10,2)",
    ]


WHOLE_STREAM = [
    begin(100), R, insert(1, "1", "a"), update(1, ("2", False), key=("1", None)), delete(1, old=("2", "b")),
    truncate(1), message("p", "c"), commit(100),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WHOLE_STREAM)))
def test_a_message_that_is_cut_short_is_refused(number: int) -> None:
    for length in range(len(WHOLE_STREAM[number])):
        broken = [*WHOLE_STREAM[:number], WHOLE_STREAM[number][:length]]
        with pytest.raises(FigError, match="bad_stream"):
            decoder().feed(broken)


@pytest.mark.parametrize(
    "stream",
    [
        [commit(1)],
        [begin(1), begin(2)],
        [begin(1), commit(2)],
        [insert(1, "1", "a")],
        [origin("x")],
        [R, truncate(1)],
        [message("p", "c")],
        [begin(1), insert(9, "1")],
        [begin(1), R, insert(1, "1")],
        [begin(1), R, b"U" + insert(1, "1", "a")[1:5] + b"X" + row("1", "a")],
        [begin(1), relation(1, "item", ("id", 99999, -1, True))],
        [b"Z"],
    ],
)
def test_a_stream_that_makes_no_sense_is_refused(stream: list[bytes]) -> None:
    with pytest.raises(FigError, match="bad_stream"):
        decoder().feed(stream)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(WHOLE_STREAM) | st.binary(max_size=40), max_size=8), st.data())
def test_random_bytes_end_in_changes_or_in_one_clean_error(stream: list[bytes], data: st.DataObject) -> None:
    mangled = []
    for one in stream:
        found = bytearray(one)
        if found and data.draw(st.booleans()):
            found[data.draw(st.integers(0, len(found) - 1))] = data.draw(st.integers(0, 255))
        mangled.append(bytes(found))
    try:
        decoder().feed(mangled)
        for one in mangled:
            types_in(one)
    except FigError as error:
        assert error.code == "bad_stream"
