"""Transactions over partitions: what comes together again is what there was, whatever was appended before a crash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.capture.capture import CaptureJob, _first_spreads
from stranglerfig.capture.decode import Part
from stranglerfig.capture.memory import Memory
from stranglerfig.capture.model import State
from stranglerfig.capture.parting import Parting, Splitter, Writer
from stranglerfig.changes import frames
from stranglerfig.changes.model import (
    Barrier,
    Change,
    Column,
    Direction,
    Item,
    Message,
    Relation,
    SourcePosition,
    Transaction,
)
from stranglerfig.changes.spread import Router, Spread
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.foundation.errors import FigError

ITEM = Relation("public", "item", (Column("id", "bigint", True), Column("v", "bigint")))
WHOLE = Relation("public", "whole", (Column("id", "bigint", True), Column("v", "bigint")))
KEYS = {"public.item": ("id",)}
NOTHING = SourcePosition(0, 0)
STATE = State("fig_x_forward", "77", 1, 500, 1, 1, "done", 0, 0)

KEY = st.integers(1, 9).map(str)


@st.composite
def changes(draw: st.DrawFn) -> Change | Message:
    kind = draw(st.sampled_from(["row"] * 12 + ["move", "truncate", "message"]))
    relation = draw(st.sampled_from([ITEM, ITEM, WHOLE]))
    if kind == "message":
        return Message("fig.marker", "{}")
    if kind == "truncate":
        return Change("t", relation, None, None)
    row = (draw(KEY), draw(KEY))
    return Change("u", relation, (draw(KEY), "0") if kind == "move" else None, row)


@st.composite
def streams(draw: st.DrawFn) -> list[Part]:
    """Transactions, some in parts, at growing commit LSNs."""
    found = []
    lsn = 100
    for items in draw(st.lists(st.lists(changes(), min_size=1, max_size=5), min_size=1, max_size=25)):
        lsn += draw(st.integers(24, 60))
        cut = draw(st.integers(1, len(items))) if draw(st.integers(0, 4)) == 0 else len(items)
        whole = Transaction(lsn, 1, lsn, 1, tuple(items))
        if cut == len(items):
            found.append(Part(whole, 10 * len(items)))
        else:
            found.append(Part(whole._replace(items=tuple(items[:cut]), end=False), 10 * cut))
            found.append(Part(whole._replace(items=tuple(items[cut:]), first=cut + 1), 10 * (len(items) - cut)))
    return found


def inner(items: Sequence[Part | Barrier]) -> list[Item]:
    return [item.transaction if isinstance(item, Part) else item for item in items]


class Applied:
    """What sync makes of partitions: positions that only grow, and the first partition alone behind a barrier."""

    def __init__(self, topic: Sequence[Sequence[Item]]) -> None:
        self._topic = topic
        self._next = [0] * len(topic)
        self._at = [NOTHING] * len(topic)
        self.seen: list[tuple[SourcePosition, int, Change | Message]] = []

    def run(self) -> None:
        while any([self._step(number) for number in range(len(self._topic))]):
            pass
        left = [len(items) - done for items, done in zip(self._topic, self._next, strict=True)]
        assert not any(left), f"a partition waits for ever: {left}"

    def _step(self, number: int) -> bool:
        items = self._topic[number]
        moved = False
        while self._next[number] < len(items) and self._take(number, items[self._next[number]]):
            self._next[number] += 1
            moved = True
        return moved

    def _take(self, number: int, item: Item) -> bool:
        if isinstance(item, Barrier):
            if item.position <= self._at[number]:
                return True
            if number == 0 and not item.closes:
                others = range(1, item.partitions)
                return all(self._at[other] >= item.position for other in others)
            if number and item.closes and self._at[0] < item.position:
                return False
            self._at[number] = item.position
            return True
        assert isinstance(item, Transaction)
        for ordinal, change in enumerate(item.items, start=item.first):
            at = SourcePosition(item.lsn, ordinal)
            if at > self._at[number]:
                self.seen.append((at, number, change))
                self._at[number] = at
        return True


def key_of(change: Change | Message) -> object:
    if isinstance(change, Message) or change.after is None:
        return None
    return change.relation.name, change.after[0]


def check(parts: Sequence[Part], applied: Applied) -> None:
    """All of it, once; each key in its order, and what is alone after all before it and before all after it."""
    whole: list[tuple[int, Change | Message]] = [
        (part.transaction.lsn, item) for part in parts for item in part.transaction.items
    ]
    seen = [(at.lsn, change) for at, _, change in applied.seen]
    assert sorted(map(repr, seen)) == sorted(map(repr, whole))
    for key in {key_of(change) for _, change in whole}:
        assert [one for one in seen if key_of(one[1]) == key] == [one for one in whole if key_of(one[1]) == key]
    router = Router(Spread(3, KEYS))
    by_lsn: dict[int, list[Part]] = {}
    for part in parts:
        by_lsn.setdefault(part.transaction.lsn, []).append(part)
    for lsn, own in by_lsn.items():
        if len(own) > 1 or router.divide(own[0].transaction) is None:
            place = [other for other, _ in seen].index(lsn)
            assert all(other < lsn for other, _ in seen[:place])
            assert all(other >= lsn for other, _ in seen[place:])


@given(streams(), st.integers(2, 4))
def test_what_comes_together_again_is_what_there_was(parts: list[Part], partitions: int) -> None:
    spread = Spread(partitions, KEYS)
    found = Splitter(spread, [NOTHING] * partitions).split(parts)
    assert found == Splitter(spread, [NOTHING] * partitions).split(parts)
    applied = Applied([inner(items) for items in found])
    applied.run()
    check(parts, applied)
    opened = [item for item in inner(found[0]) if isinstance(item, Barrier)]
    for items in found[1:]:
        assert [item for item in inner(items) if isinstance(item, Barrier) and not item.closes] == opened


@given(streams())
def test_one_partition_has_no_barriers(parts: list[Part]) -> None:
    assert Splitter(Spread(), [NOTHING]).split(parts) == [parts]


class Crash(Exception):
    pass


class FallingMemory(Memory):
    """A memory whose process dies after some appends."""

    def __init__(self, log: MemoryLog, left: int) -> None:
        super().__init__(log, "x", Direction.FORWARD)
        self.left = left

    async def append(self, events: Sequence[object], partition: int = 0) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1
        await super().append(events, partition)  # type: ignore[arg-type]


async def appended(log: MemoryLog, partitions: int) -> list[list[Item]]:
    topic = Memory(log, "x", Direction.FORWARD).topic
    return [
        [
            item
            for record in await log.read(topic, number, 0, max_records=10_000)
            for item in frames.decode(record.event.datacontenttype, record.event.data)
        ]
        for number in range(partitions)
    ]


@given(
    streams(),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([1, 2, 3]), st.integers(1, 6), st.booleans()), max_size=6),
    st.data(),
)
async def test_a_capture_that_dies_anywhere_and_is_given_partitions_loses_and_doubles_nothing(
    parts: list[Part], lives: list[tuple[int, int, int, bool]], data: st.DataObject
) -> None:
    """Each life begins where the source was told, with as many partitions as are wanted by then, or one again."""
    log = MemoryLog()
    state, told, known, seen = STATE, 0, 1, 0
    for left, wanted, batch, back in [*lives, (1_000_000, 3, 2, False)]:
        memory = FallingMemory(log, left)
        known = await memory.prepare(max(known, wanted))
        durable = tuple([await memory.durable(state, number) for number in range(known)])

        async def turned(lsn: int, spread: Spread) -> None:
            nonlocal state
            state = state.turning(lsn, spread)

        parting = Parting(Spread() if known == 1 or back else Spread(known, KEYS), seen, durable)
        writer = Writer(memory, 1, spreads=state.spreads, parting=parting, turned=turned)
        start = next(n for n, part in enumerate(parts) if part.transaction.lsn > told or n == len(parts) - 1)
        try:
            for number in range(start, len(parts), batch):
                some = parts[number : number + batch]
                seen = max(seen, some[-1].transaction.lsn)
                await writer.append(some)
                if some[-1].transaction.end and data.draw(st.booleans()):
                    told = some[-1].transaction.lsn
                    state = state.acknowledging(told + 8, {})
        except Crash:
            continue
    applied = Applied(await appended(log, known))
    applied.run()
    check(parts, applied)


async def test_a_failed_append_is_raised_as_it_is() -> None:
    class Away(Memory):
        async def append(self, events: Sequence[object], partition: int = 0) -> None:
            raise FigError("log_unreachable", "away")

    memory = Away(MemoryLog(), "x", Direction.FORWARD)
    parting = Parting(Spread(2, KEYS), 0, (NOTHING, NOTHING))

    async def turned(lsn: int, spread: Spread) -> None:
        raise AssertionError

    writer = Writer(memory, 1, spreads=[(0, Spread(2, KEYS))], parting=parting, turned=turned)
    with pytest.raises(FigError, match="away"):
        await writer.append([Part(Transaction(9, 1, 0, 1, (Change("c", ITEM, None, ("1", "1")),)), 1)])


def test_a_state_with_spreads_reads_back() -> None:
    state = STATE.turning(50, Spread(2, KEYS)).turning(90, Spread(3, KEYS))
    assert State.from_dict(state.as_dict()) == state
    assert [lsn for lsn, _ in state.spreads] == [0, 50, 90]
    assert "spreads" not in STATE.as_dict()
    assert state.acknowledging(50, {}).spreads == state.spreads
    assert [lsn for lsn, _ in state.acknowledging(51, {}).spreads] == [50, 90]
    assert [lsn for lsn, _ in state.acknowledging(99, {}).spreads] == [90]
    assert (STATE.spread, state.spread) == (Spread(), Spread(3, KEYS))


def test_a_new_slot_begins_with_what_may_hold_at_once() -> None:
    job = CaptureJob("x", Direction.FORWARD, "", (), spread=Spread(2, KEYS))
    wanted = job.wanted(3)
    assert wanted == Spread(3, KEYS)
    assert (job.wanted(1), replace(job, spread=None).wanted(3)) == (Spread(), Spread())
    former = STATE.turning(50, Spread(2, KEYS))
    assert _first_spreads(job, former, wanted) == ((0, wanted),)
    quiet = replace(job, snapshot=False)
    assert _first_spreads(quiet, None, wanted) == ((0, wanted),)
    assert _first_spreads(quiet, former, wanted) == ((0, Spread(2, KEYS)),)
    assert _first_spreads(quiet, STATE, wanted) == ()


async def test_the_last_position_of_each_partition_is_known() -> None:
    log = MemoryLog()
    memory = Memory(log, "x", Direction.FORWARD)
    assert await memory.partitions() == 0
    await memory.prepare(2)
    spread = Spread(2, KEYS)
    one = Part(Transaction(90, 1, 0, 1, (Change("c", ITEM, None, ("1", "1")),)), 1)
    alone = Part(Transaction(120, 1, 0, 1, (Message("fig.marker", "{}"),)), 1)

    async def turned(lsn: int, spread: Spread) -> None:
        raise AssertionError

    writer = Writer(memory, 1, spreads=[(0, spread)], parting=Parting(spread, 0, (NOTHING, NOTHING)), turned=turned)
    await writer.append([one, alone])
    first, second = [await memory.durable(STATE, number) for number in (0, 1)]
    assert (first.lsn, second) == (120, SourcePosition(120, 1))
    assert await memory.durable(STATE, 2) == SourcePosition(STATE.created - 1, first.ordinal)
    assert await memory.prepare(1) == await memory.partitions() == 2
