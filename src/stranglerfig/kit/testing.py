"""For a team's own tests: what an aggregate decides, said as given, when, then; no database, no clock.

::

    given(Ledger(7), StockAdjusted(7, 5, 5)).when(lambda ledger: ledger.take(2)).then(StockAdjusted(7, -2, 3))
    given(StockLevel(7, 1)).when(lambda level: level.adjust(-2)).refused("insufficient_stock")

A log in memory is :class:`~stranglerfig.eventlog.memory.MemoryLog`; :func:`event_of` makes what another service would
put on it. Sagas have :mod:`stranglerfig.sagas.testing`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from stranglerfig.eventlog import model as log
from stranglerfig.foundation import clock, ids
from stranglerfig.kit import aggregates
from stranglerfig.kit.aggregates import Aggregate, Refused
from stranglerfig.kit.messages import Event, Message, data_of, key_of, kind_of

A = TypeVar("A", bound=Aggregate)


class Given(Generic[A]):
    """An aggregate as history has left it."""

    def __init__(self, aggregate: A) -> None:
        self._aggregate = aggregate

    def when(self, decide: Callable[[A], Any]) -> Then[A]:
        """A decision is asked for."""
        try:
            decide(self._aggregate)
        except Refused as refused:
            return Then(self._aggregate, refused)
        return Then(self._aggregate, None)


class Then(Given[A]):
    """What came of it; ``when`` asks for another decision after it.

    Raises (all): AssertionError that says what was decided instead.
    """

    def __init__(self, aggregate: A, refusal: Refused | None) -> None:
        super().__init__(aggregate)
        self._refusal = refusal

    def then(self, *events: Event) -> Then[A]:
        """These events were recorded since the beginning, in this order, and no others."""
        assert self._refusal is None, f"refused: {self._refusal.code} {self._refusal.facts}"
        found = aggregates.news_of(self._aggregate)
        assert found == [*events], f"recorded: {found}"
        return self

    def refused(self, code: str, **facts: Any) -> Then[A]:
        """A rule said no, with this code and these facts; nothing was recorded by that decision."""
        assert self._refusal is not None, f"recorded: {aggregates.news_of(self._aggregate)}"
        said = {name: self._refusal.facts.get(name) for name in facts}
        assert (self._refusal.code, said) == (code, facts), f"refused: {self._refusal.code} {self._refusal.facts}"
        return self

    def state(self, **fields: Any) -> Then[A]:
        """The aggregate's fields have these values."""
        found = {name: getattr(self._aggregate, name) for name in fields}
        assert found == fields, f"state: {found}"
        return self


def given(aggregate: A, *events: Event) -> Given[A]:
    """An aggregate to which these events have happened."""
    return Given(aggregates.evolve(aggregate, events))


def event_of(message: Message, *, source: str, **attributes: Any) -> log.Event:
    """A message as a service puts it on the log, under an id of its own.

    Args:
        source: what the service calls itself: ``/orders``.
        attributes: more of the event's, such as ``causationid``; or others than the message's.
    """
    kind = kind_of(message)
    own = {"partitionkey": key_of(message), "dataschema": kind.dataschema}
    return log.Event(ids.new_id(), source, kind.type, clock.now(), data_of(message), **(own | attributes))
