"""How a saga goes on: the pure function, by example and by chance."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stranglerfig.sagas.model import (
    ENDED,
    Answered,
    Ask,
    At,
    Began,
    Broke,
    Definition,
    Due,
    Happening,
    Phase,
    Resolved,
    Retried,
    Retry,
    Saga,
    Status,
    Step,
    advance,
    begin,
)

TWICE = Retry(attempts=2, first=1, jitter=0)
RESERVE = Step("reserve", 0, timeout=10, retry=TWICE, undo=True, undo_answers=True, undo_retry=TWICE)
CHARGE = Step("charge", 1, timeout=10, retry=TWICE, pivot=True)
SHIP = Step("ship", 2, timeout=10, retry=TWICE)
CHECKOUT = Definition("checkout", 1, (RESERVE, CHARGE, SHIP))


class Run:
    """A saga and what it asked for."""

    def __init__(self, definition: Definition = CHECKOUT, **data: Any) -> None:
        self.definition = definition
        self.now = 1000.0
        self.asks: list[Ask] = []
        self.saga = begin(definition, data, self.now)
        self.does(Began())

    def does(self, *happenings: Happening, after: float = 0.0) -> Run:
        """These happen, one after the other, ``after`` seconds."""
        self.now += after
        for each in happenings:
            self.saga, asks = advance(self.definition, self.saga, each, now=self.now)
            self.asks += asks
        return self

    @property
    def asked(self) -> list[str]:
        """``reserve``, ``reserve#2`` for a second attempt, ``ship/2`` for a second execution, ``~reserve`` undone."""
        return [
            f"{'~' if ask.undo else ''}{ask.step}{f'/{ask.execution}' if ask.execution > 1 else ''}"
            f"{f'#{ask.attempt}' if ask.attempt > 1 else ''}"
            for ask in self.asks
        ]


def ok(step: str, execution: int = 1, **keep: Any) -> Answered:
    return Answered(step, execution, True, keep=keep)


def no(step: str, execution: int = 1) -> Answered:
    return Answered(step, execution, False)


def undone(step: str, execution: int = 1, *, well: bool = True) -> Answered:
    return Answered(step, execution, well, undo=True)


def test_all_goes_well() -> None:
    run = Run(order=7).does(ok("reserve", reservation=3), ok("charge"), ok("ship"))
    assert run.asked == ["reserve", "charge", "ship"] and run.saga.status is Status.COMPLETED
    assert run.saga.data == {"order": 7, "reservation": 3} and run.saga.due is None


def test_a_refusal_before_the_pivot_has_all_undone_in_reverse_order() -> None:
    pack = Step("pack", 1, undo=True)
    run = Run(Definition("d", 1, (RESERVE, pack, Step("charge", 2, pivot=True))))
    run.does(ok("reserve"), ok("pack"), no("charge"))
    assert run.asked == ["reserve", "pack", "charge", "~pack", "~reserve"]
    assert run.saga.status is Status.COMPENSATING, "pack says nothing when it is undone, reserve does"
    assert run.does(undone("reserve")).saga.status is Status.COMPENSATED


def test_a_refusal_at_once_leaves_nothing_to_undo() -> None:
    run = Run().does(no("reserve"))
    assert run.asked == ["reserve"] and run.saga.status is Status.COMPENSATED


def test_what_is_not_answered_is_asked_again_and_then_taken_as_unknown_and_undone() -> None:
    run = Run().does(Due(), after=9.9)
    assert run.asked == ["reserve"] and run.saga.due == 1010.0
    run.does(Due(), after=0.1)
    assert run.asked == ["reserve", "reserve#2"] and run.saga.due == 1030.0, "it is given twice the time"
    run.does(Due(), after=20)
    assert run.asked[2:] == ["~reserve"] and run.saga.status is Status.COMPENSATING
    assert run.does(ok("reserve")).saga.status is Status.COMPENSATING, "too late"
    assert run.does(undone("reserve")).saga.status is Status.COMPENSATED


def test_what_the_pivot_did_must_be_known() -> None:
    run = Run().does(ok("reserve"))
    run.does(Due(), after=10).does(Due(), after=20)
    assert run.asked == ["reserve", "charge", "charge#2"]
    assert run.saga.status is Status.NEEDS_OPERATOR and run.saga.blocked == ("charge",) and run.saga.due is None
    assert run.does(Due(), after=1000).saga.status is Status.NEEDS_OPERATOR
    run.does(Retried())
    assert run.asked[3:] == ["charge#3"] and run.saga.status is Status.RUNNING
    assert run.does(ok("charge"), ok("ship")).saga.status is Status.COMPLETED


def test_an_answer_that_comes_while_an_operator_is_asked_is_taken() -> None:
    run = Run().does(ok("reserve"), Due()).does(Due(), after=10).does(Due(), after=20)
    run.does(ok("charge"))
    assert run.saga.steps["charge"].phase is Phase.DONE
    assert run.saga.status is Status.RUNNING and run.asked[-1] == "ship"


def test_behind_the_pivot_there_is_only_forward() -> None:
    run = Run().does(ok("reserve"), ok("charge"), no("ship"))
    assert run.saga.status is Status.RUNNING and run.saga.due == 1001.0 and run.asked[-1] == "ship"
    run.does(Due(), after=1)
    assert run.asked[-1] == "ship/2"
    assert run.does(ok("ship")).saga.status is Status.RUNNING, "the answer to the first one is known already"
    run.does(no("ship", 2))
    assert run.saga.status is Status.NEEDS_OPERATOR and run.saga.blocked == ("ship",)
    run.does(Retried())
    assert run.asked[-1] == "ship/3"
    assert run.does(ok("ship", 3)).saga.status is Status.COMPLETED


def test_an_operator_can_see_to_it() -> None:
    run = Run().does(ok("reserve"), ok("charge")).does(Due(), after=10).does(Due(), after=20)
    assert run.saga.blocked == ("ship",)
    assert run.does(Resolved()).saga.status is Status.COMPLETED


def test_several_that_an_operator_has_to_decide_about() -> None:
    steps = (CHARGE, *(Step(name, 2, timeout=10, retry=TWICE) for name in "abc"))
    run = (
        Run(Definition("d", 1, steps)).does(ok("charge"), no("a"), Due()).does(Due(), after=1).does(no("a", 2), no("b"))
    )
    assert run.saga.blocked == ("a",) and run.saga.due is None
    run.does(ok("c"))
    assert run.saga.status is Status.NEEDS_OPERATOR
    run.does(Retried())
    assert run.asked[-1] == "a/3" and run.saga.status is Status.RUNNING
    run.does(ok("b", 2), ok("a", 3))
    assert run.saga.status is Status.RUNNING, "the pause before b's second execution is not over"
    assert run.does(Due(), after=1).saga.status is Status.COMPLETED


def test_an_undo_that_is_refused_is_done_anew_and_in_the_end_an_operators() -> None:
    run = Run().does(ok("reserve"), no("charge"), undone("reserve", well=False))
    assert run.saga.due == 1001.0
    run.does(Due(), after=1)
    assert run.asked[-1] == "~reserve/2"
    run.does(undone("reserve", 2, well=False))
    assert run.saga.status is Status.NEEDS_OPERATOR and run.saga.blocked == ("reserve",)
    assert run.does(Retried()).asked[-1] == "~reserve/3" and run.saga.status is Status.COMPENSATING
    assert run.does(undone("reserve", 3)).saga.status is Status.COMPENSATED


def test_an_undo_that_nobody_answers_is_asked_again() -> None:
    run = Run().does(ok("reserve"), no("charge")).does(Due(), after=10)
    assert run.asked[-1] == "~reserve#2"
    run.does(Due(), after=20)
    assert run.saga.status is Status.NEEDS_OPERATOR
    assert run.does(Resolved()).saga.status is Status.COMPENSATED


def test_a_call_that_broke_pauses_before_the_next_attempt() -> None:
    run = Run().does(Broke("reserve", 1), after=2)
    assert run.saga.due == 1003.0 and run.asked == ["reserve"]
    run.does(Due(), after=1)
    assert run.asked == ["reserve", "reserve#2"]
    assert run.does(Broke("reserve", 1)).saga.steps["reserve"].phase is Phase.ASKED, "the first one is over"
    assert run.does(Broke("reserve", 2)).saga.status is Status.COMPENSATING


def test_steps_side_by_side() -> None:
    both = Definition("d", 1, (Step("a", 0, undo=True), Step("b", 0, timeout=5, retry=TWICE, undo=True), Step("c", 2)))
    run = Run(both)
    assert run.asked == ["a", "b"]
    assert run.does(ok("b")).asked == ["a", "b"]
    assert run.does(ok("a")).asked == ["a", "b", "c"]
    run = Run(both).does(no("a"))
    assert run.saga.status is Status.RUNNING, "what the other one did is not known yet"
    assert run.does(ok("b")).asked == ["a", "b", "~b"] and run.saga.status is Status.COMPENSATED
    run = Run(both).does(no("a"), Due(), after=5).does(Due(), after=10)
    assert run.asked == ["a", "b", "b#2", "~b"]


def test_a_step_is_an_operators_once_however_often_it_fails() -> None:
    once = Retry(attempts=1)
    run = Run(Definition("d", 1, (Step("pay", 0, timeout=5, retry=once, pivot=True, is_call=True),)))
    run.does(Due(), after=5).does(Broke("pay", 1))
    assert run.saga.blocked == ("pay",)
    assert run.does(Retried()).asked == ["pay", "pay#2"]
    run = Run(run.definition).does(Due(), after=5).does(Broke("pay", 1), ok("pay"))
    assert run.saga.status is Status.COMPLETED


def test_a_pivot_that_is_passed_over_is_behind_as_well() -> None:
    steps = (RESERVE, Step("charge", 1, pivot=True, when=lambda data: False), Step("ship", 2))
    run = Run(Definition("d", 1, steps, within=60)).does(ok("reserve"))
    assert run.asked == ["reserve", "ship"] and run.saga.due is None
    assert run.does(Due(), after=60).saga.status is Status.RUNNING


def test_what_stands_side_by_side_is_undone_with_its_group() -> None:
    a, b, c = (Step(name, group, undo=True) for name, group in (("a", 0), ("b", 1), ("c", 0)))
    run = Run(Definition("d", 1, (a, b, c, Step("p", 3, pivot=True)))).does(ok("a"), ok("c"), ok("b"), no("p"))
    assert run.asked == ["a", "c", "b", "p", "~b", "~c", "~a"]


def test_a_call_that_is_being_made_ends_before_it_is_undone() -> None:
    card = Step("card", 0, timeout=30, retry=TWICE, undo=True, undo_answers=True, is_call=True)
    steps = (card, Step("pivot", 1, pivot=True))
    run = Run(Definition("d", 1, steps, within=10)).does(Due(), after=10)
    assert run.asked == ["card"] and run.saga.status is Status.RUNNING and run.saga.due == 1030.0
    assert run.does(ok("card", receipt=1)).asked == ["card", "~card"] and run.saga.data == {"receipt": 1}
    run = Run(Definition("d", 1, steps, within=10)).does(Due(), after=10).does(no("card"))
    assert run.asked == ["card"] and run.saga.status is Status.COMPENSATED


def test_what_was_known_early_counts_on_the_way_back() -> None:
    steps = (Step("a", 0, undo=True), Step("b", 1, undo=True), Step("p", 2, pivot=True))
    run = Run(Definition("d", 1, steps)).does(ok("b", note=1), no("a"))
    assert run.asked == ["a", "~b"] and run.saga.data == {"note": 1}


def test_there_is_no_attempt_that_cannot_be_paused_after() -> None:
    assert Retry(attempts=None, jitter=0).pause(5000, 0.0) == 60.0


def test_a_step_that_is_not_needed_is_passed_over() -> None:
    gift = Definition("d", 1, (Step("wrap", 0, when=lambda data: bool(data["gift"])), Step("send", 1)))
    assert Run(gift, gift=False).asked == ["send"] and Run(gift, gift=True).asked == ["wrap"]
    assert Run(gift, gift=False).does(ok("send")).saga.status is Status.COMPLETED


def test_an_answer_that_comes_early_is_kept() -> None:
    run = Run().does(ok("charge"), ok("reserve"))
    assert run.asked == ["reserve", "ship"] and not run.saga.early
    run = Run().does(no("charge"), ok("reserve"))
    assert run.asked == ["reserve", "~reserve"]


def test_the_whole_has_a_limit() -> None:
    hurried = Definition("d", 1, (Step("a", 0, undo=True), Step("b", 1, pivot=True), Step("c", 2)), within=60)
    run = Run(hurried)
    assert run.saga.due == 1060.0
    assert run.does(Due(), after=60).saga.status is Status.COMPENSATED and run.asked == ["a", "~a"]
    run = Run(hurried).does(ok("a"))
    assert run.saga.due is None, "the pivot was asked for: there is no turning back by the clock"
    assert run.does(Due(), after=600).saga.status is Status.RUNNING
    waiting = begin(hurried, {}, 1000.0)
    assert advance(hurried, waiting, Due(), now=1060.0)[0].status is Status.REFUSED


def test_what_has_ended_stays_as_it_is() -> None:
    run = Run().does(no("reserve"))
    before = run.saga
    for each in (Began(), ok("reserve"), Due(), Retried(), Resolved(), Broke("reserve", 1), undone("reserve")):
        assert run.does(each, after=100).saga is before


def test_pauses_grow_to_a_limit_and_chance_shortens_them() -> None:
    retry = Retry(first=1, factor=2, most=5, jitter=0.5)
    assert [retry.pause(n, 0) for n in (1, 2, 3, 4)] == [1, 2, 4, 5] and retry.pause(3, 1) == 2
    assert not Retry(attempts=None).is_spent(10**9)
    assert [Retry(most=60).patience(30, n) for n in (1, 2, 3, 99)] == [30, 60, 90, 90]


# By chance: whatever happens, in whatever order, however often


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    """Up to six steps: commands and calls, some side by side, some only for gifts, with or without a pivot and a limit,
    each before the pivot with an undo."""
    count = draw(st.integers(1, 6))
    pivot = draw(st.integers(-1, count - 1))
    made: list[Step] = []
    for number in range(count):
        alone = not made or pivot in (number, number - 1)
        is_call = draw(st.booleans())
        undo = not 0 <= pivot <= number
        made.append(
            Step(
                f"s{number}",
                number if alone or draw(st.booleans()) else made[-1].group,
                timeout=draw(st.sampled_from([2, 5])),
                retry=TWICE,
                undo=undo,
                undo_answers=undo and (is_call or draw(st.booleans())),  # as declared ones have it
                undo_retry=TWICE,
                pivot=number == pivot,
                when=draw(st.sampled_from([None, None, None, is_gift, is_no_gift])),
                is_call=is_call,
            )
        )
    return Definition("any", 1, tuple(made), draw(st.none() | st.integers(1, 30)))


def is_gift(data: dict[str, Any]) -> bool:
    return bool(data["gift"])


def is_no_gift(data: dict[str, Any]) -> bool:
    return not data["gift"]


class World:
    """Services that do what they are asked, or refuse, or do it and say nothing; each execution has one effect.

    A command is done before what the same service is asked later. A call is done at some time until its own is up, or
    never: whoever makes it may die.
    """

    def __init__(self, definition: Definition, chance: random.Random) -> None:
        self.definition = definition
        self.chance = chance
        self.effects: Counter[str] = Counter()
        self.undone: Counter[str] = Counter()
        self.known: dict[tuple[str, int, bool], bool] = {}
        self.on_the_way: list[Answered] = []
        self.calls: list[Ask] = []

    def asked(self, ask: Ask) -> None:
        step = self.definition.step(ask.step)
        if step.is_call:
            self.calls.append(ask)
            return
        mute = ask.undo and not step.undo_answers
        answer = self.done(ask, mute=mute)
        if not mute and self.chance.random() < 0.8:
            self.on_the_way += [answer] * self.chance.choice((1, 1, 1, 2))

    def done(self, ask: Ask, *, mute: bool = False) -> Answered:
        """It is done, or refused, when it is asked for the first time; later the answer is the same."""
        place = (ask.step, ask.execution, ask.undo)
        if place not in self.known:
            # What never answers must not be able to fail.
            self.known[place] = well = mute or self.chance.random() < 0.8
            if well and not ask.undo:
                self.effects[ask.step] += 1
            if well and ask.undo:
                self.undone[ask.step] = self.effects[ask.step]
        return Answered(ask.step, ask.execution, self.known[place], ask.undo)

    def comes(self) -> list[Happening]:
        """What is met next: an answer, or what came of a call."""
        number = self.chance.randrange(len(self.on_the_way) + len(self.calls) or 1)
        if number < len(self.on_the_way):
            return [self.on_the_way.pop(number)]
        return self.ends(self.calls[number - len(self.on_the_way)]) if self.calls else []

    def ends(self, call: Ask) -> list[Happening]:
        """A call ends: it was done or not, that is known or not, or whoever made it has died."""
        self.calls.remove(call)
        fate = self.chance.random()
        answer = self.done(call) if fate < 0.9 else None
        if answer is not None and fate < 0.7:
            return [answer]
        return [Broke(call.step, call.attempt, call.undo)] if self.chance.random() < 0.5 else []

    def time_is_up(self, saga: Saga, now: float) -> None:
        """Calls that were not back by now have ended, and nothing is heard of them."""
        for call in [*self.calls]:
            at = saga.steps[call.step]
            if at.due is None or at.due <= now or (at.execution, at.attempt) != (call.execution, call.attempt):
                self.ends(call)


@settings(max_examples=2000)
@given(definitions(), st.integers(), st.booleans())
def test_each_saga_ends_and_what_it_left_is_all_or_nothing(definition: Definition, seed: int, gift: bool) -> None:
    chance = random.Random(seed)
    world = World(definition, chance)
    now = 0.0
    saga = begin(definition, {"gift": gift}, now)
    queue: list[Happening] = [Began()]
    for _ in range(3000):
        if saga.status in ENDED:
            break
        if not queue and saga.status is Status.NEEDS_OPERATOR:
            queue.append(Retried())
        if not queue and chance.random() < 0.7:
            queue += world.comes()
        if not queue:
            assert saga.due is not None or world.on_the_way or world.calls, f"it stands still: {saga}"
            # Time passes a little, or until something is due.
            now = now + chance.random() if chance.random() < 0.3 else max(now, saga.due or now)
            world.time_is_up(saga, now)
            queue.append(Due())
        saga, asks = advance(definition, saga, queue.pop(0), now=now, chance=chance.random())
        for ask in asks:
            world.asked(ask)
    assert saga.status in ENDED, saga
    for call in [*world.calls]:
        world.ends(call)  # what is still on its way is done as well
    needed = {step.name for step in definition.steps if step.when is None or step.when(saga.data)}
    if saga.status is Status.COMPLETED:
        assert world.effects == Counter(needed) and not world.undone, "each step was done, once"
        assert all(
            at.phase is (Phase.DONE if name in needed else Phase.SKIPPED) and at.due is None
            for name, at in saga.steps.items()
        )
    else:
        assert all(count == 1 for count in world.effects.values()), "no step was done twice"
        assert world.undone == world.effects, "what was done was undone, and nothing else"


def test_a_saga_is_plain_data() -> None:
    assert Run().saga == Saga(
        Status.RUNNING, {}, {"reserve": At(Phase.ASKED, 1, 1, 1010.0), "charge": At(), "ship": At()}
    )


@pytest.mark.parametrize("happening", [ok("reserve"), undone("reserve"), Broke("reserve", 1)])
def test_a_saga_that_has_not_begun_takes_no_answers(happening: Happening) -> None:
    saga = begin(CHECKOUT, {}, 0.0)
    assert advance(CHECKOUT, saga, happening, now=1.0) == (saga, [])
