"""What sync decides: folding, COPY text, what is above a position, latencies."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.changes.mapping import Assignment, Entry, Mapping
from stranglerfig.changes.model import (
    UNCHANGED,
    Change,
    Column,
    Direction,
    Item,
    Message,
    Relation,
    Row,
    SnapshotChunk,
    SnapshotEdge,
    SourcePosition,
    Transaction,
)
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import statements
from stranglerfig.sync.applied import Applied, Unit
from stranglerfig.sync.latencies import BOUNDS, STANDSTILL, Histogram, Since, Window
from stranglerfig.sync.model import (
    NeedsOrder,
    Rows,
    Versioned,
    chunk_rows,
    copy_line,
    fold,
    follows,
    parse_line,
    plan,
    remaining,
    whole,
)
from stranglerfig.sync.progress import Progress
from stranglerfig.sync.target import SyncJob

R = Relation("public", "r", (Column("id", "int", True), Column("a", "text"), Column("b", "text")))
KEYS: dict[str, tuple[str, ...]] = {"public.r": ("id",)}


def folded(*changes: Change) -> dict[Row, Row | None]:
    found = fold(changes, KEYS)
    return dict(found[0].rows) if found else {}


def test_the_last_state_counts_and_unchanged_values_are_carried_on() -> None:
    assert folded(
        Change("c", R, None, ("1", "x", "y")),
        Change("u", R, None, ("1", UNCHANGED, "z")),
        Change("u", R, None, ("2", UNCHANGED, "z")),
        Change("u", R, None, ("2", "w", UNCHANGED)),
        Change("c", R, None, ("3", "x", "y")),
        Change("d", R, ("3", UNCHANGED, UNCHANGED), None),
    ) == {("1",): ("1", "x", "z"), ("2",): ("2", "w", "z"), ("3",): None}


def test_a_whole_before_image_fills_what_was_not_sent() -> None:
    assert folded(Change("u", R, ("1", "long", "y"), ("1", UNCHANGED, "z"))) == {("1",): ("1", "long", "z")}


def test_a_key_that_changes_leaves_the_old_one() -> None:
    old = ("1", UNCHANGED, UNCHANGED)
    assert folded(Change("u", R, old, ("2", "x", "y"))) == {("1",): None, ("2",): ("2", "x", "y")}
    assert folded(Change("c", R, None, ("1", "x", "y")), Change("u", R, old, ("2", UNCHANGED, "z"))) == {
        ("1",): None,
        ("2",): ("2", "x", "z"),
    }
    with pytest.raises(NeedsOrder):
        folded(Change("u", R, old, ("2", UNCHANGED, "z")))


def test_tables_outside_the_mapping_are_left_out() -> None:
    other = Relation("public", "other", R.columns)
    assert folded(Change("c", other, None, ("1", "x", "y"))) == {}


def test_a_key_column_that_is_gone() -> None:
    with pytest.raises(FigError, match="incompatible_ddl"):
        fold([Change("c", Relation("public", "r", (Column("a", "text"),)), None, ("x",))], KEYS)


def test_a_shape_that_changes_within_a_batch() -> None:
    wider = Relation("public", "r", (*R.columns, Column("c", "text")))
    with pytest.raises(NeedsOrder):
        folded(Change("c", R, None, ("1", "x", "y")), Change("c", wider, None, ("2", "x", "y", "z")))


Values = st.lists(st.none() | st.text(), min_size=1, max_size=4)


@given(Values)
def test_copy_text_comes_back(values: list[str | None]) -> None:
    line = copy_line("", tuple(values))
    assert line.endswith("\n") and "\n" not in line[:-1]
    assert parse_line(line[:-1]) == tuple(values)


def test_unchanged_values_are_null_in_copy_text() -> None:
    assert copy_line("u\t1\t", ("1", UNCHANGED, None)) == "u\t1\t1\t\\N\t\\N\n"


def test_escapes_that_postgres_may_write() -> None:
    assert parse_line("\\x41\\101\\b\\f\\v\\q") == ("AA\b\f\vq",)
    chunk = SnapshotChunk(1, 2, R, 1, b"1\ta\tb\n")
    assert [(p.row, p.change.after) for p in chunk_rows(chunk)] == [(1, ("1", "a", "b"))]


ONE = Change("c", R, None, ("1", "x", "y"))


@pytest.mark.parametrize(
    ("item", "first"),
    [
        (Transaction(9, 1, 1, 1, (ONE,)), None),
        (Transaction(10, 1, 1, 1, (ONE, ONE)), None),
        (Transaction(10, 1, 1, 1, (ONE, ONE, ONE, ONE)), 3),
        (Transaction(10, 1, 1, 3, (ONE, ONE)), 3),
        (Transaction(11, 1, 1, 1, (ONE,)), 1),
        (Transaction(10, 1, 1, 1, ()), None),
        (SnapshotChunk(10, 2, R, 0, b""), None),
        (SnapshotChunk(10, 3, R, 0, b""), 3),
        (SnapshotEdge(5, 0, 2, True), 0),
        (SnapshotEdge(50, 0, 1, True), None),
    ],
)
def test_what_is_above_a_position(item: Item, first: int | None) -> None:
    rest = remaining(item, 1, SourcePosition(10, 2))
    if rest is None:
        assert first is None
    else:
        assert first == (rest.first if isinstance(rest, Transaction) else rest.ordinal)


@given(st.lists(st.floats(0, 1_000_000), min_size=1))
def test_quantiles_are_within_a_bucket(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(0, -(-len(values) // 2) - 1)]
    found = histogram.quantile(0.5)
    assert found is not None
    assert exact / 1.11 - 0.11 <= found <= max(exact * 1.11, 0.11) or exact > BOUNDS[-1]
    assert sum(count for _, count in histogram.pairs()) == len(values)


def test_nothing_measured() -> None:
    assert Histogram().summary() == {"p50": None, "p95": None, "p99": None, "max": None, "count": 0}


def test_a_window_forgets() -> None:
    window = Window(seconds=10)
    for second in (1, 5, 12):
        here = Histogram()
        here.add(second)
        window.merge(second, here)
    assert window.total(12).count == 2
    assert sorted(window.slices) == [5, 12]


def assignment(column: str, expression: str, *needs: str) -> Assignment:
    return Assignment(column, "text", expression, frozenset(needs))


ENTRY = Entry("public.r", "public.t", (assignment("id", "id", "id"),), (assignment("ab", "a || b", "a", "b"),))


def test_an_expression_that_mixes_what_was_sent_and_what_was_not() -> None:
    assert statements.carried(ENTRY, frozenset({"a", "b"})) == ()
    assert statements.update(ENTRY, "s", 1, frozenset({"a", "b"})) is None
    with pytest.raises(FigError, match="unchanged_value_needed"):
        statements.carried(ENTRY, frozenset({"a"}))


def test_when_rows_may_be_copied_straight_in() -> None:
    relation = Relation("public", "r", (Column("id", "text"), Column("a", "text")))
    plain = Entry("public.r", "public.t", (assignment("id", "id", "id"),), (assignment("x", "a", "a"),))
    assert statements.copy_direct(plain, relation) == 'COPY "public"."t" ("id", "x") FROM STDIN'
    assert statements.copy_direct(ENTRY, relation) is None
    assert statements.copy_direct(plain, R) is None
    other = Relation("public", "r", (Column("id", "text"), Column("a", "int")))
    assert statements.copy_direct(plain, other) is None


def test_versions_are_read_by_transaction_and_only_ours() -> None:
    body = '{"context": "x", "pair": "public.r", "key": ["1"], "local": 3, "peer": 2, "at": 9}'
    others = [Message("fig.version", text) for text in (body.replace('"x"', '"y"'), '{"context": "x"}', "no JSON")]
    change = Change("c", R, None, ("1", "a", "b"))
    found = plan(
        [Transaction(10, 1, 0, 1, (change, Message("fig.version", body), *others))], "x", "standby", 0, 0, frozenset()
    )
    assert found.versions == {10: [Versioned("public.r", ("1",), 3, 2, 9)]}
    assert [step.changes for step in found.steps if isinstance(step, Rows)] == [[change]]


def test_a_transaction_that_came_in_parts_is_made_whole() -> None:
    change = Change("c", R, None, ("1", "a", "b"))
    parts = [
        Transaction(10, 1, 5, 1, (change,), end=False, trace="t"),
        Transaction(10, 1, 5, 2, (change, change)),
    ]
    assert whole(parts) == Transaction(10, 1, 5, 1, (change, change, change), trace="t")
    with pytest.raises(FigError) as refused:
        whole(parts[1:])
    assert refused.value.code == "log_gap"


def test_which_part_of_a_transaction_comes_next() -> None:
    change = Change("c", R, None, ("1", "a", "b"))
    begun = Transaction(10, 1, 5, 3, (change, change), end=False)
    assert follows(Transaction(10, 1, 5, 5, (change,)), begun)
    assert not follows(Transaction(10, 1, 5, 6, (change,)), begun)
    assert not follows(Transaction(20, 1, 5, 5, (change,)), begun)


# -- from when on latencies count

COPIED = 1_000.0


def test_what_was_written_during_the_copy_counts_once_it_is_caught_up_with() -> None:
    """However long it takes, as long as it comes nearer: a commit before that is late by its nature."""
    since = Since()
    since.begin(None, None, None)
    assert since.see(None, 0.0, 900.0) == 0.0, "without a copy all counts"
    for waited in range(0, 300, 10):
        now = COPIED + 20 + waited
        late = 200 - waited / 2
        assert since.see(COPIED, now - late, now) == now, "still catching up: nothing counts"
    assert since.see(COPIED, 1_499.5, 1_500.0) == 1_500.0, "near, but for how long?"
    assert since.see(COPIED, 1_503.0, 1_505.0) == 1_505.0, "it still swings"
    assert since.see(COPIED, 1_505.9, 1_506.0) == 1_506.0
    assert since.see(COPIED, 1_515.9, 1_516.0) == 1_515.0, "settled: what was committed from here on counts"
    assert since.see(COPIED, 1_100.0, 1_600.0) == 1_515.0, "for good"


@pytest.mark.parametrize("grows", [0.0, 0.5])
def test_a_stream_that_comes_no_nearer_is_late(grows: float) -> None:
    since = Since()
    for waited in range(int(STANDSTILL) + 1):
        now = COPIED + waited
        assert since.see(COPIED, now - 30 - grows * waited, now) == now
    now = COPIED + STANDSTILL + 1
    assert since.see(COPIED, now - 30 - grows * 61, now) == now
    assert since.see(COPIED, now - 20, now + 10) == now, "counted from then on, and found late"


def test_one_long_transaction_is_no_standstill() -> None:
    since = Since()
    since.see(COPIED, COPIED - 400, COPIED + 1)
    assert since.see(COPIED, COPIED - 398, COPIED + 90) == COPIED + 90
    assert since.see(COPIED, COPIED + 10, COPIED + 95) == COPIED + 95


def test_a_stream_that_never_settles_is_late() -> None:
    since, began = Since(), COPIED + 100
    seen = [since.see(COPIED, began + at - (2.0 if at % 9 == 0 else 0.1), began + at) for at in range(90)]
    assert seen[:60] == [began + at for at in range(60)]
    assert seen[-1] < began + STANDSTILL + 10


def test_what_was_committed_before_the_copy_ended_tells_nothing() -> None:
    since = Since()
    assert since.see(COPIED, COPIED - 0.1, COPIED + 0.2) == COPIED + 0.2
    assert since.see(COPIED, COPIED - 0.1, COPIED + 10.5) == COPIED + 10.5
    assert since.see(COPIED, COPIED + 10.6, COPIED + 10.7) == COPIED + 10.7
    assert since.see(COPIED, COPIED + 29.0, COPIED + 29.1) == COPIED + 28.1


def test_a_stream_that_was_never_behind_counts_at_once() -> None:
    since = Since()
    assert since.see(COPIED, COPIED - 0.1, COPIED + 0.2) == COPIED + 0.2, "of the copy's time, and near"
    assert since.see(COPIED, COPIED + 0.3, COPIED + 0.4) == COPIED


def test_who_was_down_after_it_had_caught_up_is_late() -> None:
    since = Since()
    since.begin(COPIED, COPIED + 50, COPIED + 50.2)
    assert since.see(COPIED, COPIED + 60, COPIED + 600) == COPIED
    since.begin(COPIED, COPIED + 70, COPIED + 90)
    assert since.see(COPIED, COPIED + 70, COPIED + 600) == COPIED, "a session taken up anew changes nothing"


@pytest.mark.parametrize(
    ("applied", "at"), [(COPIED - 5, COPIED + 0.5), (COPIED + 10, COPIED + 300), (None, None), (COPIED + 10, None)]
)
def test_who_was_killed_while_it_caught_up_goes_on_with_that(applied: float | None, at: float | None) -> None:
    since = Since()
    since.begin(COPIED, applied, at)
    assert since.see(COPIED, COPIED + 20, COPIED + 400) == COPIED + 400


def test_a_copy_anew_is_caught_up_with_anew() -> None:
    since = Since()
    assert since.see(COPIED, 1_019.9, 1_020.0) == 1_019.0
    assert since.see(2_000.0, 2_001.0, 2_030.0) == 2_030.0
    since.see(2_000.0, 2_030.9, 2_031.0)
    assert since.see(2_000.0, 2_041.9, 2_042.0) == 2_041.0


def _progress() -> Progress:
    job = SyncJob("c", Direction.FORWARD, "postgresql://x/y", "t", "fig_c", Mapping((), (), {}, {}, {}))
    return Progress(job, asyncio.Event())


def _copied(seconds_ago: float) -> Applied:
    return Applied(snapshot_ended_at=clock.now() - timedelta(seconds=seconds_ago))


def test_who_waits_for_rows_says_so_until_they_are_written() -> None:
    progress = _progress()
    progress.error = FigError("database_unreachable", "away")
    progress.opened()
    assert progress.error is None
    progress.error = FigError("rows_busy", "held by somebody else")
    progress.opened()  # each attempt opens the target anew
    assert progress.error.code == "rows_busy"
    progress.committed([], _copied(1), 1)
    assert progress.error is None


def test_the_edge_of_the_copy_is_no_late_commit() -> None:
    progress, copied = _progress(), _copied(0.5)
    progress.committed([Unit(SnapshotEdge(1, 1, 1, begins=False), 1)], copied, 0)
    progress.committed([Unit(Transaction(2, 1, int(clock.epoch() * 1e6) - 100_000, 1, ()), 2)], copied, 1)
    assert progress.latencies.count == 1
    assert 50 < (progress.latencies.quantile(1.0) or 0) < 5000


def test_a_time_without_a_fraction_may_have_had_any() -> None:
    progress, copied = _progress(), _copied(90)
    progress.committed([Unit(Transaction(2, 1, int(clock.epoch() - 0.9) * 1_000_000, 1, ()), 2)], copied, 1)
    assert progress.since.counts > 0, "it may have been just now: not behind"
