"""What a saga is and how it goes on: data and one pure function. No I/O, no clock, no chance; whether a step
is needed (``when``) is code of the user's, which may raise anything.

:func:`advance` takes where a saga stands and what has happened, and returns where it stands then and what is to be
done. Steps run in their order, those of one group side by side. Before the pivot is done, a step that fails has all
that was done undone, in reverse order; afterwards there is only forward. What cannot be had after all attempts needs an
operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

Data = dict[str, Any]


class Status(StrEnum):
    """Where a saga stands. The last three are ends; ``NEEDS_OPERATOR`` goes on when somebody decides."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPENSATING = "compensating"
    NEEDS_OPERATOR = "needs operator"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    REFUSED = "refused"


ENDED = frozenset({Status.COMPLETED, Status.COMPENSATED, Status.REFUSED})


class Phase(StrEnum):
    """Where one step stands. ``UNKNOWN``: it was asked for, and nobody knows whether it was done."""

    OPEN = "open"
    ASKED = "asked"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    UNDOING = "undoing"
    UNDONE = "undone"


_SETTLED = frozenset({Phase.DONE, Phase.SKIPPED})
_TO_UNDO = frozenset({Phase.DONE, Phase.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and when something is asked for again.

    Attributes:
        attempts: how often at most, the first time included; None: for ever.
        first: seconds before the second attempt.
        factor: by which each pause is longer than the one before.
        most: seconds of the longest pause.
        jitter: share of a pause that chance may take away, so that those who failed together do not come back together.
    """

    attempts: int | None = 5
    first: float = 1.0
    factor: float = 2.0
    most: float = 60.0
    jitter: float = 0.2

    def pause(self, attempt: int, chance: float) -> float:
        """Seconds between an attempt (from 1) and the next one; ``chance`` is between 0 and 1."""
        return float(min(self.first * self.factor ** min(attempt - 1, 30), self.most) * (1 - self.jitter * chance))

    def patience(self, timeout: float, attempt: int) -> float:
        """Seconds for which the answer to an attempt (from 1) is awaited.

        Each is given longer than the one before, by up to ``most``: asking again at the same pace whoever is late only
        because there is much to do would make sure that he never catches up.
        """
        return float(min(timeout * self.factor ** min(attempt - 1, 30), timeout + self.most))

    def is_spent(self, attempt: int) -> bool:
        """Whether there is no attempt after this one."""
        return self.attempts is not None and attempt >= self.attempts


@dataclass(frozen=True, slots=True)
class Step:
    """One step as declared.

    Attributes:
        group: its place; steps of one group run side by side.
        timeout: seconds for which the first answer is awaited; None: for ever.
        undo: whether there is something that takes it back.
        undo_answers: whether that says when it is done.
        pivot: once this is done there is no way back.
        when: whether it is needed, by the saga's data; None: always.
        is_call: whether it is done from here. Nothing keeps its undo behind it, as a topic does with commands: it is
            waited for before it is undone.
    """

    name: str
    group: int
    timeout: float | None = None
    retry: Retry = Retry()
    undo: bool = False
    undo_answers: bool = False
    undo_retry: Retry = Retry(attempts=20)
    pivot: bool = False
    when: Callable[[Data], bool] | None = None
    is_call: bool = False


@dataclass(frozen=True, slots=True)
class Definition:
    """A saga's kind: its steps in order. ``within``: seconds after which it turns back by itself, before the pivot."""

    name: str
    version: int
    steps: tuple[Step, ...]
    within: float | None = None

    def step(self, name: str) -> Step:
        """The step of that name."""
        return next(step for step in self.steps if step.name == name)


@dataclass(frozen=True, slots=True)
class At:
    """Where a step stands.

    Attributes:
        execution: grows when the step is done anew, because it failed for good reasons; part of its idempotency key.
        attempt: how often this execution was asked for.
        base: the attempts before an operator had it tried again: those are not counted against it any more.
        due: when to look again, seconds since 1970 by the database's clock.
    """

    phase: Phase = Phase.OPEN
    execution: int = 1
    attempt: int = 0
    due: float | None = None
    base: int = 0

    @property
    def round(self) -> int:
        """How often it was asked for since an operator last had it tried again."""
        return self.attempt - self.base


@dataclass(frozen=True, slots=True)
class Saga:
    """Where a saga stands.

    Attributes:
        data: what it knows: from its first event, and what it kept of answers.
        early: answers that came before they were asked for, by step.
        limit: when it turns back by itself.
        blocked: the steps that an operator has to decide about.
        is_late: its limit has passed, and what is being done is waited for before it turns back.
    """

    status: Status
    data: Data
    steps: Mapping[str, At]
    early: Mapping[str, tuple[bool, Data]] = field(default_factory=dict)
    limit: float | None = None
    blocked: tuple[str, ...] = ()
    is_late: bool = False

    @property
    def due(self) -> float | None:
        """When something is to be done although nothing happens."""
        if self.status in ENDED or self.status is Status.NEEDS_OPERATOR:
            return None
        times = [at.due for at in self.steps.values() if at.due is not None]
        if self.limit is not None and not (self.is_late and any(at.phase is Phase.ASKED for at in self.steps.values())):
            times.append(self.limit)
        return min(times, default=None)


@dataclass(frozen=True, slots=True)
class Began:
    """The first event was met."""


@dataclass(frozen=True, slots=True)
class Held:
    """What it locks is another saga's, and it is one that does not wait."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A step, or what undoes it, has an answer. ``keep`` is what the saga takes of it."""

    step: str
    execution: int
    ok: bool
    undo: bool = False
    keep: Data = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Broke:
    """A call came to no answer: it may have been done. ``attempt``: which one."""

    step: str
    attempt: int
    undo: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Retried:
    """An operator wants what failed tried again."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """An operator has seen to it: the step counts as done (or as undone, on the way back)."""


Happening = Began | Held | Answered | Broke | Due | Retried | Resolved


@dataclass(frozen=True, slots=True)
class Ask:
    """To be done now: have a step done, or undone; again where ``attempt`` is above 1."""

    step: str
    execution: int
    attempt: int
    undo: bool = False


def begin(definition: Definition, data: Data, now: float) -> Saga:
    """A saga that has not begun yet; :class:`Began` starts it."""
    limit = None if definition.within is None else now + definition.within
    return Saga(Status.WAITING, data, {step.name: At() for step in definition.steps}, limit=limit)


def advance(
    definition: Definition, saga: Saga, happening: Happening, *, now: float, chance: float = 0.0
) -> tuple[Saga, list[Ask]]:
    """Where the saga stands after something has happened, and what is to be done.

    What comes late or twice changes nothing.

    Args:
        now: seconds since 1970, by the database's clock.
        chance: between 0 and 1, for the jitter of pauses.
    """
    if saga.status in ENDED:
        return saga, []
    course = _Course(definition, saga, now, chance)
    match happening:
        case Began():
            if saga.status is Status.WAITING:
                course.status = Status.RUNNING
        case Held():
            if saga.status is Status.WAITING:
                course.status = Status.REFUSED
        case Answered():
            course.answered(happening)
            course.has_it_after_all(happening.step)
        case Broke():
            course.broke(happening)
        case Due():
            course.time_passed()
        case Retried():
            course.retried()
        case Resolved():
            course.resolved()
    course.go_on()
    return course.result(), course.asks


class _Course:
    """A saga while it advances."""

    def __init__(self, definition: Definition, saga: Saga, now: float, chance: float) -> None:
        self.definition = definition
        self.saga = saga
        self.status = saga.status
        self.steps = dict(saga.steps)
        self.data = saga.data
        self.early = dict(saga.early)
        self.blocked = saga.blocked
        self.now = now
        self.chance = chance
        self.asks: list[Ask] = []

    def result(self) -> Saga:
        may_turn_back = self.status in (Status.WAITING, Status.RUNNING) and not self._pivot_was_asked()
        return Saga(
            self.status,
            self.data,
            self.steps,
            self.early,
            self.saga.limit if may_turn_back else None,
            self.blocked,
            may_turn_back and self._is_over(),
        )

    # What has happened

    def answered(self, answer: Answered) -> None:
        step, at = self.definition.step(answer.step), self.steps[answer.step]
        if answer.execution != at.execution:
            return
        if answer.undo:
            if at.phase is Phase.UNDOING:
                self.data = {**self.data, **answer.keep}
                if answer.ok:
                    self._settle(step, Phase.UNDONE)
                else:
                    self._anew(step, at, Phase.UNDOING, step.undo_retry)
        elif at.phase is Phase.OPEN and self.status is Status.RUNNING:
            self.early[step.name] = (answer.ok, answer.keep)
        elif at.phase is Phase.ASKED:
            self._take(step, answer.ok, answer.keep)
        elif at.phase is Phase.UNKNOWN and answer.keep:
            # Late, and good to know for what undoes it: which reservation it was.
            self.data = {**self.data, **answer.keep}

    def _take(self, step: Step, ok: bool, keep: Data) -> None:
        self.data = {**self.data, **keep}
        if ok:
            self._settle(step, Phase.DONE)
        elif self._is_past_pivot(step):
            self._anew(step, self.steps[step.name], Phase.OPEN, step.retry)
        else:
            self._settle(step, Phase.FAILED)

    def _anew(self, step: Step, at: At, phase: Phase, retry: Retry) -> None:
        """It was refused, for good, and there is no other way: once more, as something new, after a pause."""
        pause = retry.pause(at.execution, self.chance)
        self.steps[step.name] = At(phase, at.execution + 1, 0, self.now + pause)
        if retry.is_spent(at.execution):
            self._block(step)

    def broke(self, broken: Broke) -> None:
        step, at = self.definition.step(broken.step), self.steps[broken.step]
        if (
            step.name not in self.blocked
            and at.attempt == broken.attempt
            and at.phase is (Phase.UNDOING if broken.undo else Phase.ASKED)
        ):
            self._no_answer(step, at, waited=False)

    def time_passed(self) -> None:
        if self.status is Status.NEEDS_OPERATOR:
            return
        for step in self.definition.steps:
            at = self.steps[step.name]
            if at.due is None or at.due > self.now:
                continue
            if at.phase is Phase.OPEN:
                self.steps[step.name] = replace(at, due=None)  # its pause is over: it is asked for when it is its turn
            elif at.phase in (Phase.ASKED, Phase.UNDOING):
                self._no_answer(step, at, waited=True)
        if self._is_over():
            if self.status is Status.WAITING:
                self.status = Status.REFUSED
            elif self.status is Status.RUNNING:
                self._turn_back()

    def _no_answer(self, step: Step, at: At, *, waited: bool) -> None:
        """An attempt came to nothing. ``waited``: its time is up; else a pause comes before the next one."""
        retry = step.undo_retry if at.phase is Phase.UNDOING else step.retry
        if at.phase is Phase.ASKED and retry.is_spent(at.round) and not (step.pivot or self._is_past_pivot(step)):
            self._settle(step, Phase.UNKNOWN)
        else:
            self._again_or_operator(step, at, retry, at_once=waited)

    def _again_or_operator(self, step: Step, at: At, retry: Retry, *, at_once: bool = False) -> None:
        if retry.is_spent(at.round):
            self._block(step)
        elif at_once:
            self._ask(step, at)
        else:
            # Asked for again when the pause is over.
            self.steps[step.name] = replace(at, due=self.now + retry.pause(at.round, self.chance))

    def retried(self) -> None:
        for step in self._released():
            at = self.steps[step.name]
            if at.phase is Phase.OPEN:
                self.steps[step.name] = replace(at, due=None)
            else:
                self._ask(step, replace(at, base=at.attempt))

    def resolved(self) -> None:
        for step in self._released():
            self._settle(step, Phase.UNDONE if self.steps[step.name].phase is Phase.UNDOING else Phase.DONE)

    def _released(self) -> list[Step]:
        """The steps that were an operator's: the saga goes on, in the direction that it had."""
        released = [self.definition.step(name) for name in self.blocked]
        if released:
            back = any(self.steps[name].phase in (Phase.UNDOING, Phase.UNDONE) for name in self.blocked)
            self.status = Status.COMPENSATING if back else Status.RUNNING
            self.blocked = ()
        return released

    def has_it_after_all(self, step: str) -> None:
        """An answer that came while an operator was asked for it settles it."""
        if step in self.blocked and self.steps[step].phase not in (Phase.ASKED, Phase.OPEN, Phase.UNDOING):
            self.blocked = tuple(name for name in self.blocked if name != step)
            if not self.blocked:
                back = self.steps[step].phase is Phase.UNDONE
                self.status = Status.COMPENSATING if back else Status.RUNNING

    # What follows

    def go_on(self) -> None:
        if self.status is Status.RUNNING:
            self._forward()
        if self.status is Status.COMPENSATING:
            self._backward()

    def _forward(self) -> None:
        for group in _groups(self.definition.steps):
            for step in group if not self._is_over() else ():
                self._begin_step(step)
            if self.status is not Status.RUNNING:
                return  # an early answer needs an operator
            phases = {self.steps[step.name].phase for step in group}
            if phases & {Phase.FAILED, Phase.UNKNOWN} or self._is_over():
                if not phases & {Phase.ASKED}:
                    self._turn_back()
                return
            if not phases <= _SETTLED:
                return
        self.status = Status.COMPLETED

    def _begin_step(self, step: Step) -> None:
        at = self.steps[step.name]
        if at.phase is not Phase.OPEN or at.due is not None:
            return
        if step.when is not None and not step.when(self.data):
            self._settle(step, Phase.SKIPPED)
        elif (known := self.early.pop(step.name, None)) is not None:
            self.steps[step.name] = replace(at, phase=Phase.ASKED)
            self._take(step, *known)
        else:
            self._ask(step, replace(at, phase=Phase.ASKED))

    def _turn_back(self) -> None:
        """There is no going on; what was done, or may have been, is undone. A call that is being made ends first."""
        for step in self.definition.steps:
            at = self.steps[step.name]
            if at.phase is Phase.ASKED and not step.is_call:
                self._settle(step, Phase.UNKNOWN)
            elif at.phase is Phase.OPEN:
                ok, keep = self.early.pop(step.name, (False, {}))
                self.steps[step.name] = replace(at, phase=Phase.DONE if ok else at.phase, due=None)
                self.data = {**self.data, **keep}
        if not any(at.phase is Phase.ASKED for at in self.steps.values()):
            self.status = Status.COMPENSATING

    def _backward(self) -> None:
        for step in (step for group in reversed(_groups(self.definition.steps)) for step in reversed(group)):
            at = self.steps[step.name]
            if at.phase in _TO_UNDO and step.undo:
                self._ask(step, At(Phase.UNDOING))
            if self.steps[step.name].phase is Phase.UNDOING:
                return
        self.status = Status.COMPENSATED

    def _ask(self, step: Step, at: At) -> None:
        """Have the step done or undone; one that says nothing when it is undone is undone now."""
        undo = at.phase is Phase.UNDOING
        attempt = at.attempt + 1
        self.asks.append(Ask(step.name, at.execution, attempt, undo))
        if undo and not step.undo_answers:
            return self._settle(step, Phase.UNDONE)
        retry = step.undo_retry if undo else step.retry
        due = None if step.timeout is None else self.now + retry.patience(step.timeout, attempt - at.base)
        self.steps[step.name] = replace(at, attempt=attempt, due=due)
        return None

    def _settle(self, step: Step, phase: Phase) -> None:
        self.steps[step.name] = replace(self.steps[step.name], phase=phase, due=None)

    def _block(self, step: Step) -> None:
        self.steps[step.name] = replace(self.steps[step.name], due=None)
        self.blocked = (*(name for name in self.blocked if name != step.name), step.name)
        self.status = Status.NEEDS_OPERATOR

    def _is_over(self) -> bool:
        """Whether its time is up, and there is still a way back."""
        limit = self.saga.limit
        return limit is not None and limit <= self.now and not self._pivot_was_asked()

    def _is_past_pivot(self, step: Step) -> bool:
        """Whether there is no way back from this step: the pivot is before it."""
        pivot = next((each for each in self.definition.steps if each.pivot), None)
        return pivot is not None and pivot.group < step.group

    def _pivot_was_asked(self) -> bool:
        return any(step.pivot and self.steps[step.name].phase is not Phase.OPEN for step in self.definition.steps)


def _groups(steps: Iterable[Step]) -> list[list[Step]]:
    found: dict[int, list[Step]] = {}
    for step in steps:
        found.setdefault(step.group, []).append(step)
    return [found[number] for number in sorted(found)]
