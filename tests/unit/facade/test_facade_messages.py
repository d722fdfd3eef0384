"""Where messages go and in which order: the router's decisions, without a broker."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stranglerfig.databases.model import Side
from stranglerfig.facade.messages import Lines, Meaning, Message, Send, lot, plans
from stranglerfig.facade.queues import QueueRoute, QueueSettings
from stranglerfig.facade.settings import Routes
from stranglerfig.foundation.errors import FigError

WRITE = Meaning("inventory", "write")


def message(tag: int, key: str = "a", meaning: Meaning = WRITE, arrived: float = 0.0) -> Message:
    return Message(tag, meaning, key, 0.0, arrived)


def tags(sends: list[Send]) -> list[int]:
    return [send.message.tag for send in sends]


def test_one_message_of_a_key_is_on_its_way_at_a_time() -> None:
    lines = Lines(lambda _: "monolith")
    assert tags(lines.arrived(message(1))) == [1]
    assert lines.arrived(message(2)) == []
    assert tags(lines.arrived(message(3, "b"))) == [3]
    assert lines.sent() == lines.sent("inventory") == 2
    assert tags(lines.confirmed(1)) == [2]
    assert lines.acks() == [(1, True)]
    lines.confirmed(3)
    assert lines.acks() == []
    assert lines.confirmed(2) == []
    assert lines.acks() == [(3, True)] and len(lines) == 0


def test_a_window_lets_more_of_a_key_go_but_not_to_two_sides() -> None:
    read = Meaning("inventory", "read")
    lines = Lines(lambda found: "service" if found.meaning.kind == "read" else "monolith", window=3)
    assert [tags(lines.arrived(message(tag))) for tag in (1, 2)] == [[1], [2]]
    assert lines.arrived(message(3, meaning=read)) == []
    assert lines.arrived(message(4)) == []
    assert lines.confirmed(2) == []
    assert tags(lines.confirmed(1)) == [3]
    assert tags(lines.confirmed(3)) == [4]


def test_who_is_refused_is_tried_again_and_not_overtaken() -> None:
    lines = Lines(lambda _: "monolith")
    for each in (message(1), message(2), message(3, "b")):
        lines.arrived(each)
    lines.failed(1, now=10.0)
    assert lines.failing() == 1 and lines.next_attempt() == 10.1
    assert lines.again(10.05) == []
    lines.confirmed(3)
    # It may take long, and 3 is done: it must come to nobody again.
    assert lines.acks() == [(3, False)] and lines.acks() == []
    assert tags(lines.again(10.1)) == [1]
    lines.failed(1, now=10.2)
    assert lines.next_attempt() == pytest.approx(10.4)
    lines.again(11)
    assert tags(lines.confirmed(1)) == [2]
    lines.confirmed(2)
    assert lines.acks() == [(2, True)] and lines.next_attempt() is None


def test_of_a_window_that_was_refused_one_goes_at_a_time() -> None:
    lines = Lines(lambda _: "monolith", window=3)
    for tag in (1, 2, 3, 4):
        lines.arrived(message(tag))
    lines.failed(1, now=0)
    assert lines.again(5) == [], "what becomes of 2 and 3 is not known yet"
    lines.failed(2, now=5)
    lines.failed(3, now=5)
    assert tags(lines.again(6)) == [1]
    assert tags(lines.confirmed(1)) == [2]
    assert tags(lines.confirmed(2)) == [3]
    assert tags(lines.confirmed(3)) == [4]


def test_who_was_refused_waits_at_a_fence_that_has_closed_meanwhile() -> None:
    fenced = False
    lines = Lines(lambda _: None if fenced else "monolith", window=2)
    for tag in (1, 2, 3):
        lines.arrived(message(tag))
    lines.failed(1, now=0)
    lines.failed(2, now=0)
    fenced = True
    assert lines.again(1) == [] and [found.tag for found in lines.held("inventory")] == [1, 2, 3]
    assert lines.failing() == 0
    fenced = False
    assert tags(lines.again(1)) == [1, 2]


def test_who_waits_at_the_fence_holds_up_his_line_only() -> None:
    fenced = True

    def where(found: Message) -> Side | None:
        return None if fenced and found.meaning.kind == "write" else "service"

    lines = Lines(where)
    read = Meaning("inventory", "read")
    assert lines.arrived(message(1, "a")) == []
    assert lines.arrived(message(2, "a", read)) == [], "a query behind a command of its key must not overtake it"
    assert tags(lines.arrived(message(3, "b", read))) == [3]
    assert [found.tag for found in lines.held("inventory")] == [1, 2]
    assert lines.held("other") == []
    fenced = False
    assert tags(lines.again(0)) == [1]
    assert lines.held("inventory") == []


@dataclass
class World:
    """A broker and its two queues, as the lines see them: a queue that refuses one refuses what is behind it too."""

    window: int
    fenced: bool = False
    lines: Lines = field(init=False)
    sent: dict[int, Side] = field(default_factory=dict)
    queues: dict[Side, list[int]] = field(default_factory=lambda: defaultdict(list))
    keys: dict[int, str] = field(default_factory=dict)
    acked: list[int] = field(default_factory=list)
    owner: Side = "monolith"
    now: float = 0.0

    def __post_init__(self) -> None:
        self.lines = Lines(lambda _: None if self.fenced else self.owner, self.window)

    def send(self, sends: list[Send]) -> None:
        for each in sends:
            tag = each.message.tag
            assert tag not in self.sent
            assert len(self.going(self.keys[tag])) < self.window, "too many of a key on their way"
            self.sent[tag] = each.side

    def going(self, key: str) -> list[int]:
        return [tag for tag in self.sent if self.keys[tag] == key]

    def confirm(self, key: str) -> None:
        tag = self.going(key)[0]
        self.queues[self.sent.pop(tag)].append(tag)
        self.send(self.lines.confirmed(tag))

    def fail(self, tag: int) -> None:
        going = self.going(self.keys[tag])
        for each in going[going.index(tag) :]:
            del self.sent[each]
            self.lines.failed(each, self.now)

    def acknowledge(self) -> None:
        done = [tag for queue in self.queues.values() for tag in queue]
        for tag, multiple in self.lines.acks():
            assert tag not in self.acked, "an acknowledgement twice closes the channel"
            for each in range(1, tag + 1) if multiple else (tag,):
                assert each in done, f"{each} was acknowledged and is in no queue"
                if each not in self.acked:
                    self.acked.append(each)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from("abc")),
        st.tuples(st.just("confirm"), st.integers(0, 5)),
        st.tuples(st.just("fail"), st.integers(0, 5)),
        st.tuples(st.sampled_from(["fence", "release", "again", "ack"]), st.none()),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([1, 2, 4]))
@settings(max_examples=500, deadline=None)
def test_nothing_is_lost_doubled_or_overtaken_whatever_happens(steps: list[tuple[str, object]], window: int) -> None:
    world = World(window)
    count = 0
    for step, argument in steps:
        world.now += 0.03
        if step == "arrive":
            count += 1
            world.keys[count] = str(argument)
            world.send(world.lines.arrived(message(count, str(argument))))
        elif step in ("confirm", "fail") and world.sent:
            tag = list(world.sent)[int(str(argument)) % len(world.sent)]
            if step == "confirm":
                world.confirm(world.keys[tag])
            else:
                world.fail(tag)
        elif step == "fence":
            world.fenced = True
        elif step == "release" and world.fenced and not world.sent:
            world.fenced = False
            world.owner = "service" if world.owner == "monolith" else "monolith"
            world.send(world.lines.again(world.now))
        elif step == "again":
            world.send(world.lines.again(world.now))
        elif step == "ack":
            world.acknowledge()
    world.fenced = False
    while world.sent or len(world.lines):
        world.now += 10
        world.send(world.lines.again(world.now))
        world.confirm(world.keys[next(iter(world.sent))])
    world.acknowledge()
    everything = [tag for queue in world.queues.values() for tag in queue]
    assert sorted(everything) == list(range(1, count + 1)), "each is in exactly one queue"
    assert sorted(world.acked) == list(range(1, count + 1)) and len(set(world.acked)) == count
    for queue in world.queues.values():
        for key in "abc":
            mine = [tag for tag in queue if world.keys[tag] == key]
            assert mine == sorted(mine), f"order of {key}"


def test_who_was_moved_stays_moved_and_the_share_comes_out() -> None:
    lots = [lot(f"item {number}") for number in range(4000)]
    assert all(0 <= found < 100 for found in lots) and lots[7] == lot("item 7")
    assert 0.08 < sum(found < 10 for found in lots) / len(lots) < 0.12


QUEUE = QueueSettings(monolith="mono", service="svc", key="header:item", command_id="message_id")


def routes(queue: str = "in", reads: tuple[str, ...] = (), writes: tuple[str, ...] = ()) -> Routes:
    return Routes(
        reads=(QueueRoute(queue=queue, types=reads),) if reads else (),
        writes=(QueueRoute(queue=queue, types=writes),) if writes else (),
    )


def test_contexts_share_an_inbound_queue() -> None:
    found = plans(
        [
            ("inventory", routes(reads=("Get",), writes=("Adjust",)), {"in": QUEUE}),
            (
                "billing",
                routes(writes=("Bill",)),
                {"in": QUEUE.model_copy(update={"service": "bills", "prefetch": 10})},
            ),
        ]
    )
    plan = found["in"]
    assert plan.types == {
        "Get": Meaning("inventory", "read"),
        "Adjust": Meaning("inventory", "write"),
        "Bill": Meaning("billing", "write"),
    }
    assert plan.queue("service", "billing") == "bills" and plan.queue("monolith", "billing") == "mono"
    assert plan.outbound == ("mono", "svc", "bills") and plan.prefetch == 10


@pytest.mark.parametrize(
    ("change", "writes", "says"),
    [
        ({"monolith": "else"}, ("Bill",), "differ in monolith"),
        ({"key": "routing_key"}, ("Bill",), "differ in key"),
        ({"command_id": None}, ("Bill",), "differ in command_id"),
        ({}, ("Adjust",), "whose Adjust is"),
    ],
)
def test_contexts_that_mean_different_things_are_refused(
    change: dict[str, str], writes: tuple[str, ...], says: str
) -> None:
    with pytest.raises(FigError, match=says) as caught:
        plans(
            [
                ("inventory", routes(writes=("Adjust",)), {"in": QUEUE}),
                ("billing", routes(writes=writes), {"in": QUEUE.model_copy(update=change)}),
            ]
        )
    assert caught.value.code == "queue_conflict"
