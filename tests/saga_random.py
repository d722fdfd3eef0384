"""Sagas of random shapes, and services of random conduct, for the property test of running sagas.

All of it follows from a seed: which classes there are, what an order wants, and what a service does when it is asked
the n-th time. So every process of an estate agrees on it, and afterwards :meth:`Chance.wrong` can say what must have
become of each saga. What was done is written down row by row, and nothing but the kit keeps it from being done twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import types
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from stranglerfig.eventlog import model as log
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import ids, postgres, tasks
from stranglerfig.kit import Aggregate, Command, Event, Refused, Service, Transaction
from stranglerfig.kit.messages import fields_of
from stranglerfig.kit.transactions import Cause
from stranglerfig.sagas import Retry, Saga, call, step
from stranglerfig.sagas.declaring import StepDeclaration
from stranglerfig.sagas.instances import Place, place_of
from stranglerfig.sagas.running import Sagas

KINDS = 24
ITEMS = 60
CUSTOMERS = 60
LEVEL = 1_000_000
"""Of each item at first."""
CENTS = 10_000_000
"""Of each customer at first."""
TOPICS = ("events.sales", "commands.depot", "events.depot")
LAST = "#99"
"""The attempt that an answer names which nobody may lose, for it is told once."""
COPY = "~copy"


# What is said


class Placed(Event, type="sales.Placed", key="n"):
    n: int
    item: int
    quantity: int
    customer: int
    cents: int


class Fulfilled(Event, type="sales.Fulfilled", key="n"):
    n: int


class GivenUp(Event, type="sales.GivenUp", key="n"):
    n: int
    reason: str


class Take(Command, type="depot.Take", key="item"):
    item: int
    n: int
    quantity: int


class GiveBack(Command, type="depot.GiveBack", key="item"):
    item: int
    n: int
    lot: str


class Look(Command, type="depot.Look", key="n"):
    n: int


class Pay(Command, type="depot.Pay", key="customer"):
    customer: int
    n: int
    cents: int


class PayBack(Command, type="depot.PayBack", key="customer"):
    customer: int
    n: int
    receipt: str


class Taken(Event, type="depot.Taken", key="n"):
    n: int
    lot: str


class SoldOut(Event, type="depot.SoldOut", key="n"):
    n: int
    reason: str = "sold out"


class GivenBack(Event, type="depot.GivenBack", key="n"):
    n: int


class NotNow(Event, type="depot.NotNow", key="n"):
    n: int


class Looked(Event, type="depot.Looked", key="n"):
    n: int


class Disliked(Event, type="depot.Disliked", key="n"):
    n: int
    reason: str = "disliked"


class Paid(Event, type="depot.Paid", key="n"):
    n: int
    receipt: str


class Declined(Event, type="depot.Declined", key="n"):
    n: int
    reason: str = "declined"


class PaidBack(Event, type="depot.PaidBack", key="n"):
    n: int


class Busy(Event, type="depot.Busy", key="n"):
    n: int


@dataclass
class Order:
    """What every saga here knows: its order, and what it keeps of answers."""

    n: int
    item: int
    quantity: int
    customer: int
    cents: int
    lot: str = ""
    receipt: str = ""
    ticket: str = ""
    reason: str = ""

    @property
    def is_large(self) -> bool:
        return self.quantity >= 3

    @property
    def is_dear(self) -> bool:
        return self.cents >= 500

    @property
    def is_odd(self) -> bool:
        return self.n // KINDS % 2 == 1


CONDITIONS = ("is_large", "is_dear", "is_odd")


# Which sagas there are


class Work(StrEnum):
    """What a step has done; BOOK is a call outward, LOOK leaves nothing behind."""

    TAKE = "take"
    PAY = "pay"
    LOOK = "look"
    BOOK = "book"


class Undo(StrEnum):
    """Whether a step can be taken back, and whether that is answered."""

    NONE = "none"
    MUTE = "mute"
    ANSWERED = "answered"


class Side(StrEnum):
    """Where a step stands to the pivot; BEFORE it as well where there is none."""

    BEFORE = "before"
    PIVOT = "pivot"
    BEHIND = "behind"


@dataclass(frozen=True)
class StepPlan:
    """One step. ``is_hasty``: it waits so shortly, and asks so seldom, that slow answers come too late."""

    name: str
    work: Work
    side: Side
    undo: Undo
    beside: str | None
    when: str | None
    is_hasty: bool
    keeps: bool

    @property
    def can_be_unknown(self) -> bool:
        """Whether the saga may turn back because nobody answers in time."""
        return self.is_hasty and self.side is Side.BEFORE


@dataclass(frozen=True)
class Plan:
    """One class of sagas."""

    number: int
    steps: tuple[StepPlan, ...]
    lock: str | None
    within: float | None

    @property
    def name(self) -> str:
        return f"sales.Order{self.number}"

    def step(self, name: str) -> StepPlan:
        return next(each for each in self.steps if each.name == name)


class Conduct(NamedTuple):
    """How an execution of a step goes: ``late``: seconds until it is answered; ``broken``: how many first attempts of a
    call come to no answer although it is done."""

    refuses: bool
    twice: bool
    late: float
    broken: int


class Entry(NamedTuple):
    """Something was done, or taken back (a negative amount): one row for each time that it really was."""

    saga: str
    step: str
    execution: int
    undo: bool
    amount: int


class Found(NamedTuple):
    """A saga as it ended."""

    id: str
    name: str
    n: int
    status: str
    data: Mapping[str, Any]
    phases: Mapping[str, str]


def drawn(*about: object) -> float:
    """From 0 to 1, by chance, and the same in each process."""
    return int.from_bytes(hashlib.blake2b(repr(about).encode(), digest_size=8).digest(), "big") / 2**64


class Chance:
    """All that follows from a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.plans = {plan.name: plan for plan in (_plan(seed, number) for number in range(KINDS))}
        self.placed = {
            name: _class(f"Placed{plan.number}", Placed, type=f"sales.Placed{plan.number}", key="n")
            for name, plan in self.plans.items()
        }

    def order(self, n: int) -> Placed:
        """The ``n``-th order; which saga it begins is in its class."""
        chance = partial(drawn, self.seed, "order", n)
        made = self.placed[f"sales.Order{n % KINDS}"]
        return made(
            n, int(ITEMS * chance("item")), 1 + int(4 * chance("quantity")), int(CUSTOMERS * chance("customer")),
            1 + int(1000 * chance("cents")),
        )  # fmt: skip

    def refusals(self, plan: Plan, step: StepPlan, n: int, *, undo: bool) -> float:
        """How many of the first executions are refused; before the pivot there is but one."""
        chance = drawn(self.seed, "refuses", n, step.name, undo)
        if undo:  # what never answers must not be able to fail
            return 0 if step.undo is not Undo.ANSWERED or chance < 0.8 else 1 + int((chance - 0.8) / 0.2 * 3)
        if step.side is Side.BEHIND:
            return 0 if chance < 0.85 else 1 + int((chance - 0.85) / 0.15 * 3)
        return 0 if chance < 0.93 else float("inf")

    def conduct(self, place: Place, n: int) -> Conduct:
        """What comes of a step's execution."""
        plan = self.plans[place.saga]
        chance = partial(drawn, self.seed, n, place.step, place.execution, place.undo)
        refused = place.execution <= self.refusals(plan, plan.step(place.step), n, undo=place.undo)
        late = 0.2 + 2.8 * chance("how late") if chance("late") < 0.05 else 0.0
        broken = chance("broken")
        return Conduct(refused, chance("twice") < 0.05, late, 2 if broken < 0.04 else 1 if broken < 0.12 else 0)

    def losses(self, what: str, place: Place) -> int:
        """How many first attempts of a message are lost on its way."""
        chance = drawn(self.seed, "lost", what, *place)
        return 2 if chance < 0.005 else 1 if chance < 0.05 else 0

    # What must have become of it

    def ends(self, plan: Plan, n: int) -> set[str]:
        """How the ``n``-th order's saga may end: time decides only where answers may come too late."""
        order = Order(**fields_of(self.order(n)))
        early = [s for s in plan.steps if s.side is not Side.BEHIND and (s.when is None or getattr(order, s.when))]
        if any(self.refusals(plan, each, n, undo=False) for each in early):
            found = {"compensated"}
        elif plan.within is None and not any(each.can_be_unknown for each in early):
            found = {"completed"}
        else:
            found = {"completed", "compensated"}
        return found | ({"refused"} if plan.lock and plan.within else set())

    def wrong(self, saga: Found, entries: Sequence[Entry]) -> list[str]:
        """What is not as it must be with a saga that has ended and what was done for it."""
        plan = self.plans[saga.name]
        said = [] if saga.status in self.ends(plan, saga.n) else [f"{saga.status}, not {self.ends(plan, saga.n)}"]
        by_step: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            by_step[entry.step].append(entry)
        for each in plan.steps:
            said += (f"{each.name}: {what}" for what in self._wrong_step(plan, saga, each, by_step.pop(each.name, [])))
        said += [f"no step of it: {entries}" for entries in by_step.values()]
        return [f"order {saga.n}, {saga.name} {saga.id}: {each}" for each in said]

    def _wrong_step(self, plan: Plan, saga: Found, step: StepPlan, entries: Sequence[Entry]) -> Iterable[str]:
        order = Order(**fields_of(self.order(saga.n)))
        done = [(each.execution, each.amount) for each in entries if not each.undo]
        undone = [(each.execution, each.amount) for each in entries if each.undo]
        amount = {Work.TAKE: order.quantity, Work.PAY: order.cents, Work.BOOK: 1, Work.LOOK: 0}[step.work]
        at = [1 + self.refusals(plan, step, saga.n, undo=undo) for undo in (False, True)]
        once, back = [(at[0], amount)] if amount else [], [(at[1], -amount)]
        if saga.status != "completed":
            if done and (saga.status == "refused" or step.undo is Undo.NONE or (done, undone) != (once, back)):
                yield f"done {done} and undone {undone}"
            if undone and not done:
                yield f"undone {undone}, and never done"
            return
        is_needed = step.when is None or getattr(order, step.when)
        if saga.phases[step.name] != ("done" if is_needed else "skipped"):
            yield f"it is {saga.phases[step.name]}"
        if (done, undone) != (once if is_needed else [], []):
            yield f"done {done} and undone {undone}, not {once if is_needed else 'at all'}"
        if step.keeps and saga.data[KEPT[step.work]] != (kept(step.work, saga.n) if is_needed else ""):
            yield f"it kept {saga.data[KEPT[step.work]]!r}"


KEPT = {Work.TAKE: "lot", Work.PAY: "receipt", Work.BOOK: "ticket"}


def kept(work: Work, n: int) -> str:
    """What a step's answer gives the saga to keep."""
    return f"{KEPT[work]} {n}"


def _plan(seed: int, number: int) -> Plan:
    chance = random.Random(f"{seed}/{number}")
    count = chance.choices((1, 2, 3, 4, 5, 6), (7, 7, 4, 2, 1, 1))[0]
    pivot = chance.randrange(count) if chance.random() < 0.7 else count
    steps: list[StepPlan] = []
    keeping: set[Work] = set()
    for at in range(count):
        side = Side.BEFORE if at < pivot else Side.PIVOT if at == pivot else Side.BEHIND
        work = chance.choices([*Work], (4, 4, 1, 3))[0]
        undo = chance.choice((Undo.MUTE, Undo.ANSWERED, Undo.ANSWERED)) if side is Side.BEFORE else Undo.NONE
        if undo is not Undo.NONE and work in (Work.LOOK, Work.BOOK):
            undo = Undo.NONE if work is Work.LOOK else Undo.ANSWERED  # a call's undo is always answered
        before = [each.name for each in steps if each.side is side is not Side.PIVOT and each.beside is None]
        keeps = work in KEPT and work not in keeping and chance.random() < 0.7
        if keeps:
            keeping.add(work)
        steps.append(
            StepPlan(
                f"{work}{at}", work, side, undo, chance.choice(before) if before and chance.random() < 0.4 else None,
                chance.choice(CONDITIONS) if chance.random() < 0.2 else None, chance.random() < 0.15, keeps,
            )
        )  # fmt: skip
    lock = "item" if chance.random() < 0.2 else None
    return Plan(number, tuple(steps), lock, round(chance.uniform(2, 8), 1) if chance.random() < 0.3 else None)


# The service that has the sagas


PATIENT = Retry(attempts=None, first=0.05, factor=1.5, most=30)
HASTY = Retry(attempts=2, first=0.05, factor=2, most=5)
HASTY_BACK = Retry(attempts=3, first=0.05, factor=2, most=5)


class Outside:
    """Somebody who is called: he remembers keys, so that one comes to one effect, and what he was told to cancel.

    Args:
        dsn: his own database; what he does is committed there before he answers.
    """

    def __init__(self, chance: Chance, dsn: str) -> None:
        self._chance = chance
        self._sessions = postgres.Few(dsn, what="outside", most=8)

    async def book(self, saga: Any, key: str) -> dict[str, Any] | None:
        """A courier, say."""
        place = _of(key)
        await self._asked(place, saga.n, key)
        step = self._chance.plans[place.saga].step(place.step)
        return {"ticket": kept(Work.BOOK, saga.n)} if step.keeps else None

    async def cancel(self, saga: Any, key: str) -> None:
        """No courier after all. One that was not booked yet never will be: a call that stood still may still come."""
        await self._asked(_of(key), saga.n, key)

    async def _asked(self, place: Place, n: int, key: str) -> None:
        conduct = self._chance.conduct(place, n)
        async with self._sessions.session() as conn:
            about = (key, place.id, place.step, place.execution, place.undo, conduct.refuses)
            [(asked, is_void)] = await postgres.fetch(conn, "SELECT * FROM asked(%s, %s, %s, %s, %s, %s)", about)
        if asked == 1:
            await asyncio.sleep(conduct.late)
        if asked <= conduct.broken:
            raise ConnectionError("the line went dead")
        if conduct.refuses or (is_void and not place.undo):
            raise Refused("refused", reason="no courier")


OUTSIDE = """
CREATE TABLE request (key text PRIMARY KEY, asked int NOT NULL);
CREATE TABLE booking (place text PRIMARY KEY, is_void bool NOT NULL);
CREATE TABLE entry (saga text NOT NULL, step text NOT NULL, execution int NOT NULL, undo bool NOT NULL,
    amount int NOT NULL);
CREATE FUNCTION asked(_key text, _saga text, _step text, _execution int, _undo bool, _refuses bool)
RETURNS TABLE (asked int, is_void bool) LANGUAGE plpgsql AS $$
DECLARE
    at text := _saga || '/' || _step;
    times int;
    was_void bool;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(at, 0));
    INSERT INTO request AS r VALUES (_key, 1) ON CONFLICT (key) DO UPDATE SET asked = r.asked + 1
        RETURNING r.asked INTO times;
    SELECT b.is_void INTO was_void FROM booking AS b WHERE b.place = at;
    IF times = 1 AND NOT _refuses AND was_void IS NOT TRUE THEN
        INSERT INTO booking VALUES (at, _undo) ON CONFLICT (place) DO UPDATE SET is_void = _undo;
        INSERT INTO entry SELECT _saga, _step, _execution, _undo, CASE WHEN _undo THEN -1 ELSE 1 END
            WHERE NOT _undo OR was_void IS NOT NULL;
    END IF;
    RETURN QUERY SELECT times, was_void;
END $$;
"""


def sales(service: Service, chance: Chance, outside: Outside) -> Sagas:
    """What runs the sagas."""
    return Sagas(service, [_saga(chance, plan, outside) for plan in chance.plans.values()])


def _saga(chance: Chance, plan: Plan, outside: Outside) -> type[Saga]:
    return _class(
        f"Order{plan.number}", Order, Saga, **{each.name: _step(each, outside) for each in plan.steps},
        line={
            "type": plan.name, "starts": chance.placed[plan.name], "completed": Fulfilled, "compensated": GivenUp,
            "lock": plan.lock, "within": plan.within,
        },
    )  # fmt: skip


def _step(plan: StepPlan, outside: Outside) -> StepDeclaration:
    how: dict[str, Any] = {
        "timeout": 0.8 if plan.is_hasty else 3, "retry": HASTY if plan.is_hasty else PATIENT,
        "undo_retry": HASTY_BACK if plan.is_hasty else PATIENT, "pivot": plan.side is Side.PIVOT, "when": plan.when,
        "beside": plan.beside,
    }  # fmt: skip
    if plan.work is Work.BOOK:
        return call(outside.book, undo=None if plan.undo is Undo.NONE else outside.cancel, **how)
    ask, ok, fail, undo, undone, undo_fail = _SAID[plan.work]
    if plan.undo is not Undo.NONE:
        how["undo"] = undo
    if plan.undo is Undo.ANSWERED:
        how |= {"undone": undone, "undo_fail": undo_fail}
    return step(ask, ok=ok, fail=fail, keep=["reason", *([KEPT[plan.work]] if plan.keeps else [])], **how)


_SAID: dict[Work, tuple[Any, ...]] = {
    Work.TAKE: (Take, Taken, SoldOut, GiveBack, GivenBack, NotNow),
    Work.PAY: (Pay, Paid, Declined, PayBack, PaidBack, Busy),
    Work.LOOK: (Look, Looked, Disliked, None, None, None),
}


def _class(name: str, *bases: type[Any], line: Mapping[str, Any] | None = None, **body: Any) -> Any:
    """A class as if it were written; ``line`` is what its first line says beside its bases."""
    if line is None:
        line, body = body, {}
    return types.new_class(name, bases, dict(line), lambda space: space.update({"__module__": __name__, **body}))


# The service that does what is asked


class Level(Aggregate, table="level", id="item"):
    item: int
    left: int
    taken: int


class Account(Aggregate, table="account", id="name"):
    name: str
    cents: int


class Effect(Aggregate, table="effect", id="place"):
    """What a saga's step holds now."""

    place: str
    held: int


class Written(Aggregate, table="entry", id="id"):
    """An :class:`Entry`. Its id is new each time: a second one is never refused, it is found in the end."""

    id: str
    saga: str
    step: str
    execution: int
    undo: bool
    thing: str
    amount: int


class Later(Aggregate, table="later", id="id"):
    """An answer that is told when it is due, and only then."""

    id: str
    command: str
    flow: str | None
    answer: str
    data: dict[str, Any]
    due_at: datetime


DEPOT = f"""
CREATE TABLE level (item int PRIMARY KEY, "left" int NOT NULL CHECK ("left" >= 0), taken int NOT NULL);
CREATE TABLE account (name text PRIMARY KEY, cents bigint NOT NULL CHECK (cents >= 0));
CREATE TABLE effect (place text PRIMARY KEY, held int NOT NULL CHECK (held >= 0));
CREATE TABLE entry (id text PRIMARY KEY, saga text NOT NULL, step text NOT NULL, execution int NOT NULL,
    undo bool NOT NULL, thing text NOT NULL, amount int NOT NULL);
CREATE TABLE later (id text PRIMARY KEY, command text NOT NULL, flow text, answer text NOT NULL, data jsonb NOT NULL,
    due_at timestamptz NOT NULL);
INSERT INTO level SELECT i, {LEVEL}, 0 FROM generate_series(0, {ITEMS - 1}) AS i;
INSERT INTO account SELECT 'customer/' || i, {CENTS} FROM generate_series(0, {CUSTOMERS - 1}) AS i;
INSERT INTO account SELECT 'shop/' || i, 0 FROM generate_series(0, {CUSTOMERS - 1}) AS i;
"""
_ANSWERS: dict[str, type[Event]] = {
    each.__name__: each
    for each in (Taken, SoldOut, GivenBack, NotNow, Looked, Disliked, Paid, Declined, PaidBack, Busy)
}


def depot(service: Service, chance: Chance) -> None:
    """What keeps stock and takes money."""

    def asked(tx: Transaction, n: int) -> tuple[Place, Conduct]:
        assert tx.event is not None
        place = _of(tx.event.id)
        return place, chance.conduct(place, n)

    @service.on(Take, emits=[Taken, SoldOut])
    async def take(command: Take, tx: Transaction) -> None:
        place, conduct = asked(tx, command.n)
        if conduct.refuses:
            return await _say(tx, conduct, SoldOut(command.n))
        await _did(tx, place, f"item/{command.item}", command.quantity)
        level = await tx.load(Level, command.item)
        level.left -= command.quantity
        level.taken += command.quantity
        return await _say(tx, conduct, Taken(command.n, kept(Work.TAKE, command.n)))

    @service.on(GiveBack, emits=[GivenBack, NotNow])
    async def give_back(command: GiveBack, tx: Transaction) -> None:
        place, conduct = asked(tx, command.n)
        assert command.lot in ("", kept(Work.TAKE, command.n))
        if conduct.refuses:
            return await _say(tx, conduct, NotNow(command.n))
        held = await _undid(tx, place, f"item/{command.item}")
        level = await tx.load(Level, command.item)
        level.left += held
        level.taken -= held
        return await _say(tx, conduct, GivenBack(command.n))

    @service.on(Pay, emits=[Paid, Declined])
    async def pay(command: Pay, tx: Transaction) -> None:
        place, conduct = asked(tx, command.n)
        if conduct.refuses:
            return await _say(tx, conduct, Declined(command.n))
        await _did(tx, place, f"customer/{command.customer}", command.cents)
        await _move(tx, command.customer, command.cents)
        return await _say(tx, conduct, Paid(command.n, kept(Work.PAY, command.n)))

    @service.on(PayBack, emits=[PaidBack, Busy])
    async def pay_back(command: PayBack, tx: Transaction) -> None:
        place, conduct = asked(tx, command.n)
        assert command.receipt in ("", kept(Work.PAY, command.n))
        if conduct.refuses:
            return await _say(tx, conduct, Busy(command.n))
        await _move(tx, command.customer, -await _undid(tx, place, f"customer/{command.customer}"))
        return await _say(tx, conduct, PaidBack(command.n))

    @service.on(Look, emits=[Looked, Disliked])
    async def look(command: Look, tx: Transaction) -> None:
        _, conduct = asked(tx, command.n)
        await _say(tx, conduct, Disliked(command.n) if conduct.refuses else Looked(command.n))

    service.beside("late answers", partial(_tell_late, service))


async def _did(tx: Transaction, place: Place, thing: str, amount: int) -> None:
    at = f"{place.id}/{place.step}"
    if (known := await tx.find(Effect, at)) is None:
        await tx.add(Effect(at, amount))
    else:
        known.held += amount
    await tx.add(Written(ids.new_id(), place.id, place.step, place.execution, False, thing, amount))


async def _undid(tx: Transaction, place: Place, thing: str) -> int:
    known = await tx.find(Effect, f"{place.id}/{place.step}")
    if known is None or not known.held:
        return 0
    held, known.held = known.held, 0
    await tx.add(Written(ids.new_id(), place.id, place.step, place.execution, True, thing, -held))
    return held


async def _move(tx: Transaction, customer: int, cents: int) -> None:
    (await tx.load(Account, f"customer/{customer}")).cents -= cents
    (await tx.load(Account, f"shop/{customer}")).cents += cents


async def _say(tx: Transaction, conduct: Conduct, answer: Event) -> None:
    if conduct.late:
        assert tx.event is not None
        due = await tx.now() + timedelta(seconds=conduct.late)
        key = _ATTEMPT.sub("", tx.event.id)
        name, data = type(answer).__name__, fields_of(answer)
        await tx.add(Later(ids.new_id(), key + LAST, tx.cause.correlationid, name, data, due))
        return
    for _ in range(1 + conduct.twice):
        tx.send(answer)


async def _tell_late(service: Service) -> None:
    async def tell(id: str, tx: Transaction) -> None:
        if (found := await tx.find(Later, id)) is not None:
            await tx.remove(found)
            tx.send(_ANSWERS[found.answer](**found.data))

    while True:
        async with service.session() as conn:
            due = await postgres.fetch(conn, "SELECT id, command, flow FROM later WHERE due_at <= clock_timestamp()")
        for id, command, flow in due:
            await service.execute(partial(tell, id), cause=Cause(command, flow))
        await asyncio.sleep(0.1)


# What lies between them


class Unreliable(PostgresLog):
    """A log that loses commands and answers, has them twice, has answers late and in another order.

    It keeps what sagas rest on: commands of one key stay in order, and what nobody answers is not lost.
    """

    def __init__(self, dsn: str, chance: Chance) -> None:
        super().__init__(dsn)
        self._chance = chance

    async def append(self, topic: str, events: Sequence[log.Event], *, partition: int | None = None) -> list[int]:
        now: list[log.Event] = []
        later: list[tuple[float, log.Event]] = []
        for event in events:
            is_command = topic.startswith("commands.")
            place = place_of(event.id if is_command else event.causationid)
            if place is None:
                now.append(event)
                continue
            name = event.id if is_command else event.causationid or ""
            attempt = int(found[1]) if (found := _ATTEMPT.search(name)) else 1
            is_asked_again = not place.undo or self._chance.plans[place.saga].step(place.step).undo is not Undo.MUTE
            if is_asked_again and attempt <= self._chance.losses("command" if is_command else "answer", place):
                continue
            chance = partial(drawn, self._chance.seed, event.type, place, attempt)
            if chance("again") < 0.05:
                copy = event._replace(id=_ATTEMPT.sub("", event.id) + LAST if is_command else event.id + COPY)
                later.append((2 * chance("when"), copy))
            if not is_command and attempt == 1 and chance("late") < 0.03:
                later.append((1.5 * chance("how late"), event))
            else:
                now.append(event)
        if topic.startswith("events."):
            random.shuffle(now)
        positions = await super().append(topic, now, partition=partition) if now else []
        for seconds, event in later:
            tasks.spawn(self._append_late(seconds, topic, event), name="a message that is late")
        return positions

    async def _append_late(self, seconds: float, topic: str, event: log.Event) -> None:
        await asyncio.sleep(seconds)
        await super().append(topic, [event])


_ATTEMPT = re.compile(r"#(\d+)$")


def _of(key: str) -> Place:
    place = place_of(key)
    assert place is not None
    return place
