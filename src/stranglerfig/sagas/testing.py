"""For a team's own tests: a saga step by step, with answers as the test gives them and time as it lets it pass.

::

    run = Rehearsal(Checkout, OrderPlaced(1, item_id=7, quantity=2))
    assert run.asked == [Reserve(7, 1, 2)]
    run.answer(ItemReserved(7, 1, 2))
    run.wait()  # until the next thing that time does: the charge is not answered
    assert run.said == [Charge(1, 900)]
"""

from __future__ import annotations

from typing import Any

from stranglerfig.kit.messages import Event, Message
from stranglerfig.sagas import model
from stranglerfig.sagas.declaring import Saga, kind_of_saga, seconds
from stranglerfig.sagas.instances import Place, key_of_step
from stranglerfig.sagas.model import Answered, Ask, Began, Broke, Data, Due, Resolved, Retried, Status


class Rehearsal:
    """A saga without a database: the same declaration and the same decisions.

    Attributes:
        now: seconds since it began.
        asked: every command and end that it has sent, in order.
        calls: every call outward that it wanted made: the step, and its idempotency key (undone: with ``~undo``).
    """

    def __init__(self, cls: type[Saga], starts: Event) -> None:
        self._kind = kind_of_saga(cls)
        self.now = 0.0
        self.asked: list[Message] = []
        self.calls: list[tuple[str, str]] = []
        self._new = 0
        self._asks: dict[tuple[str, bool], Ask] = {}
        self._saga = model.begin(self._kind.definition, self._kind.of_start(starts), self.now)
        self._happens(Began())

    @property
    def status(self) -> Status:
        """Where it stands."""
        return self._saga.status

    @property
    def fields(self) -> Any:
        """Its fields: an instance of its class."""
        return self._kind.saga(self._saga.data)

    @property
    def blocked(self) -> tuple[str, ...]:
        """The steps that an operator has to decide about."""
        return self._saga.blocked

    @property
    def said(self) -> list[Message]:
        """What it has sent since this was last asked."""
        fresh, self._new = self.asked[self._new :], len(self.asked)
        return fresh

    def answer(self, event: Event) -> Rehearsal:
        """An event answers the step, or the undo, that was asked for last and takes it.

        Raises:
            LookupError: no step that was asked for takes such an answer.
        """
        for (name, undo), ask in reversed(self._asks.items()):
            if (answer := self._kind.answer(name, ask.execution, event, undo=undo)) is not None:
                return self._happens(answer)
        raise LookupError(f"nothing that was asked for is answered by {type(event).__name__}: {[*self._asks]}")

    def returns(self, step: str, **keep: Any) -> Rehearsal:
        """The call of a step, or the one that undoes it, is done and returns this.

        Raises:
            ValueError, LookupError: the saga's fields cannot take it, which is no answer.
        """
        ask = self._call(step)
        return self._happens(Answered(step, ask.execution, True, ask.undo, self._kind.kept(self.data, keep)))

    def refuses(self, step: str, **facts: Any) -> Rehearsal:
        """The call of a step raises :class:`~stranglerfig.kit.Refused`."""
        ask = self._call(step)
        return self._happens(Answered(step, ask.execution, False, ask.undo, self._kind.kept_of(self.data, facts)))

    def breaks(self, step: str) -> Rehearsal:
        """The call of a step comes to no answer."""
        ask = self._call(step)
        return self._happens(Broke(step, ask.attempt, ask.undo))

    def wait(self, time: str | float | None = None) -> Rehearsal:
        """Time passes: so much (``"30s"``), or until the next thing that it does.

        Raises:
            LookupError: there is nothing that time would do.
        """
        end = None if time is None else self.now + (seconds(time) or 0.0)
        due = self._saga.due
        if end is None and due is None:
            raise LookupError("there is nothing that time would do")
        while due is not None and (end is None or due <= end):
            self.now = max(self.now, due)
            self._happens(Due())
            due = self._saga.due
            if end is None:
                return self
        self.now = self.now if end is None else end
        return self

    def retry(self) -> Rehearsal:
        """An operator has what failed tried again."""
        return self._happens(Retried())

    def resolve(self) -> Rehearsal:
        """An operator has seen to it."""
        return self._happens(Resolved())

    def _call(self, step: str) -> Ask:
        found = self._asks.get((step, True)) or self._asks.get((step, False))
        if found is None or not self._kind.steps[step].is_call:
            raise LookupError(f"no call of {step} was asked for: {self.calls}")
        return found

    def _happens(self, happening: model.Happening) -> Rehearsal:
        before = self.status
        self._saga, asks = model.advance(self._kind.definition, self._saga, happening, now=self.now)
        for ask in asks:
            self._asks[ask.step, ask.undo] = ask
            if (command := self._kind.command(ask, self.fields)) is not None:
                self.asked.append(command)
            else:
                place = Place(self._kind.name, "rehearsal", ask.step, ask.execution, ask.undo)
                self.calls.append((ask.step, key_of_step(place)))
        if self.status is not before and (end := self._kind.end(self.status, self.fields)) is not None:
            self.asked.append(end)
        return self

    @property
    def data(self) -> Data:
        """Its fields as JSON has them."""
        return self._saga.data
