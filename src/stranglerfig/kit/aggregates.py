"""Aggregates: what decides. State and rules together, no I/O, no clock; what was decided is an event.

An aggregate is kept as a row of a table of the service's own (``table=``), or as the events that it recorded
(``stream=``), with a snapshot now and then. Its rules are the same either way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, dataclass_transform

from stranglerfig.kit import tenants
from stranglerfig.kit.messages import Event, is_required, kind_of, misdeclared

A = TypeVar("A", bound="Aggregate")
E = TypeVar("E", bound=Event)
S = TypeVar("S")
SNAPSHOT: Final = 100
"""How many events lie between snapshots, unless a class says otherwise."""
_MARK = "__evolves__"
_BY = "__evolves_by__"


class Refused(Exception):
    """A business rule says no. Nothing of the transaction is kept.

    Attributes:
        code: the rule, in snake_case.
        facts: what the answer may say beside it (JSON-able).
    """

    def __init__(self, code: str, **facts: Any) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts


@dataclass(frozen=True)
class Form:
    """How an aggregate's class is kept.

    Attributes:
        id: the field that tells its instances apart.
        fields: all fields, in order; for a table its columns.
        table: the table of its rows, or None.
        stream: what its streams' names begin with, or None.
        snapshot_every: how many events of a stream lie between snapshots; 0: there are none.
        tenant: the table's column that says whose a row is; of a stream True. None: it is not kept by tenant.
    """

    id: str
    fields: tuple[str, ...]
    table: str | None
    stream: str | None
    snapshot_every: int
    tenant: str | Literal[True] | None = None

    @cached_property
    def state(self) -> Callable[[Any], tuple[Any, ...]]:
        """All fields' values of an instance."""
        if len(self.fields) == 1:
            (only,) = self.fields
            return lambda instance: (getattr(instance, only),)
        return attrgetter(*self.fields)


def evolves(event: type[E], *, by: str | None = None) -> Callable[[Callable[[S, E], None]], Callable[[S, E], None]]:
    """Declare how the state follows from an event: ``@evolves(StockAdjusted)`` above a method that takes it.

    The method must not fail and must not decide: the event has happened.

    Args:
        by: of a projection, the event's field that says which row it changes; the row's id's name by default.
    """

    def declare(method: Callable[[S, E], None]) -> Callable[[S, E], None]:
        setattr(method, _MARK, event)
        setattr(method, _BY, by)
        return method

    return declare


@dataclass_transform(eq_default=False)
class Aggregate:
    """The base of aggregates. Fields are declared as a dataclass does; methods decide and :meth:`record` events::

        class StockLevel(Aggregate, table="stock_level", id="item_id"):
            item_id: int
            on_hand: int = 0

            def adjust(self, delta: int) -> StockAdjusted:
                if self.on_hand + delta < 0:
                    raise Refused("insufficient_stock")
                return self.record(StockAdjusted(self.item_id, delta, self.on_hand + delta))

            @evolves(StockAdjusted)
            def _adjusted(self, event: StockAdjusted) -> None:
                self.on_hand = event.on_hand

    Of an aggregate with ``stream=`` every field but the id needs a default: it begins with them. It has a snapshot at
    every hundredth event, or as ``snapshot_every=`` says; none, if one of its events has personal fields.

    With ``tenant="tenant_id"`` a table's rows are each one tenant's, and only its transactions have to do with them.
    The column is no field. Streams are kept by tenant with ``tenant=True``.
    """

    __form__: ClassVar[Form]
    __evolvers__: ClassVar[dict[type[Event], Callable[[Any, Any], None]]]
    _news: list[tuple[Aggregate, Event]]
    _version: int
    _tenant: ClassVar[str | None] = None
    """Of an instance that is kept by tenant: whose it is."""

    def __init_subclass__(
        cls,
        *,
        id: str,
        table: str | None = None,
        stream: str | None = None,
        snapshot_every: int | None = None,
        tenant: str | Literal[True] | None = None,
    ) -> None:
        super().__init_subclass__()
        for name in ("_news", "_version"):  # ours, not fields of the state
            cls.__annotations__.pop(name, None)
        dataclass(eq=False)(cls)
        found = dataclasses.fields(cls)  # type: ignore[arg-type]
        names = tuple(each.name for each in found)
        if id not in names:
            raise misdeclared(cls, f"it has no field '{id}', which is to be its id", f"use one of {names}")
        if (table is None) == (stream is None):
            raise misdeclared(cls, "it is kept nowhere, or twice", "give table= or stream=, one of them")
        if tenant is not None and (tenant is True) != (table is None):
            what = "its tenant is to be a column of its table, or for a stream just said"
            raise misdeclared(cls, what, 'give tenant="tenant_id" with table=, tenant=True with stream=')
        if tenant in names:
            raise misdeclared(cls, f"'{tenant}' says whose it is and is a field", "take the field away")
        if stream is not None:
            empty = [f.name for f in found if f.name != id and is_required(f)]
            if empty:
                raise misdeclared(cls, f"a stream begins with nothing, and {empty} have no default", "give them one")
        cls.__evolvers__ = {event: method for event, method, _ in evolvers_of(cls)}
        personal = [event.__name__ for event in cls.__evolvers__ if kind_of(event).personal]
        if personal and snapshot_every is not None:
            what = f"snapshots would keep the personal fields of {personal} when their key is destroyed"
            raise misdeclared(cls, what, "it has none: take snapshot_every= away")
        cls.__form__ = Form(
            id, names, table, stream, 0 if personal else SNAPSHOT if snapshot_every is None else snapshot_every, tenant
        )

    def __new__(cls, *_: Any, **__: Any) -> Self:  # noqa: D102  the dataclass's own takes the fields
        made = super().__new__(cls)
        made._news = []
        made._version = 0
        return made

    def record(self, event: E) -> E:
        """Say that something happened: the state follows at once, the log when the transaction commits.

        Raises:
            FigError: ``message_misdeclared`` when the class does not say how its state follows from such an event.
        """
        self._evolve(event)
        self._news.append((self, event))
        return event

    def _evolve(self, event: Event) -> None:
        evolver = self.__evolvers__.get(type(event))
        if evolver is None:
            raise misdeclared(
                type(self),
                f"it records {type(event).__name__} and does not say what becomes of its state",
                f"add a method with @evolves({type(event).__name__})",
            )
        evolver(self, event)
        self._version += 1


def evolvers_of(cls: type[Any]) -> list[tuple[type[Event], Callable[[Any, Any], None], str | None]]:
    """A class's methods that :func:`evolves` marks, those it inherits first: event, method, ``by``."""
    return [
        (getattr(method, _MARK), method, getattr(method, _BY))
        for base in reversed(cls.__mro__)
        for method in vars(base).values()
        if hasattr(method, _MARK)
    ]


def form_of(aggregate: Aggregate | type[Aggregate]) -> Form:
    """How an aggregate's class is kept."""
    return aggregate.__form__


def id_of(aggregate: Any) -> Any:
    """What tells it apart from others of its class."""
    return getattr(aggregate, aggregate.__form__.id)


def within(cls: type[Any], id: Any, tenant: str | None) -> Any:
    """What tells an instance of a class apart in a transaction of a tenant: its id, or of whose it is and its id.

    Raises:
        FigError: ``tenant_missing``.
    """
    if cls.__form__.tenant is None:
        return id
    if tenant is None:
        raise tenants.missing(cls.__name__)
    return tenants.Within(tenant, id)


def whole_id_of(aggregate: Any) -> Any:
    """The same, of an instance."""
    id = getattr(aggregate, aggregate.__form__.id)
    return id if aggregate.__form__.tenant is None else tenants.Within(aggregate._tenant, id)


def belong(aggregate: Any, tenant: str | None) -> None:
    """Have an instance be a tenant's, if its class is kept by tenant.

    Raises:
        FigError: ``tenant_missing``; ``tenant_differs`` when it is another's.
    """
    if aggregate.__form__.tenant is None:
        return
    if tenant is None:
        raise tenants.missing(type(aggregate).__name__)
    if aggregate._tenant not in (None, tenant):
        raise tenants.differs(type(aggregate).__name__, aggregate._tenant, tenant)
    aggregate._tenant = tenant


def state_of(aggregate: Any) -> tuple[Any, ...]:
    """The fields' values, in order, of what has a form."""
    return aggregate.__form__.state(aggregate)  # type: ignore[no-any-return]


def version_of(aggregate: Aggregate) -> int:
    """How many events it has come through (of a table's row: since it was loaded)."""
    return aggregate._version


def evolve(aggregate: A, events: Iterable[Event], *, version: int | None = None) -> A:
    """The aggregate after events that have happened; none of them is news.

    Args:
        version: how many events its state contains already, where it comes from a snapshot.
    """
    if version is not None:
        aggregate._version = version
    for event in events:
        aggregate._evolve(event)
    return aggregate


def report_to(aggregate: Aggregate, news: list[tuple[Aggregate, Event]]) -> None:
    """Let ``news`` have what it records from now on, in order with what others record; and what it has recorded."""
    news += aggregate._news
    aggregate._news = news


def news_of(aggregate: Aggregate) -> list[Event]:
    """What it has recorded and nobody has taken."""
    return [event for _, event in aggregate._news]
