"""Sagas as they are written: a class with typed state, and its steps as data.

What a command needs is taken from the saga's fields of the same names, and what is kept of an answer goes there: so a
saga can be drawn, checked and compared with an older version of itself without running it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar, dataclass_transform

from pydantic import TypeAdapter
from pydantic_core import to_json

from stranglerfig.foundation.errors import FigError
from stranglerfig.kit.messages import Command, Event, Message, fields_of, is_required, kind_of
from stranglerfig.sagas import model
from stranglerfig.sagas.model import ENDED, Answered, Ask, Data, Status
from stranglerfig.sagas.model import Retry as Retry

S = TypeVar("S", bound="Saga")
Answers = type[Event] | Sequence[type[Event]]
Call = Callable[[Any, str], Awaitable[Data | None]]
"""Does something outside: is given the saga and an idempotency key that stays the same from attempt to attempt."""
_NAME = re.compile(r"[a-z][a-z0-9-]*(\.[A-Za-z][A-Za-z0-9]*)+")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class StepDeclaration:
    """A step as its class declares it; see :func:`step` and :func:`call`."""

    ask: type[Command] | Call
    ok: tuple[type[Event], ...] = ()
    fail: tuple[type[Event], ...] = ()
    undo: type[Command] | Call | None = None
    undone: tuple[type[Event], ...] = ()
    undo_fail: tuple[type[Event], ...] = ()
    timeout: float | None = None
    retry: Retry = field(default_factory=Retry)
    undo_retry: Retry = field(default_factory=lambda: Retry(attempts=20))
    pivot: bool = False
    when: str | None = None
    beside: str | None = None
    keep: tuple[str, ...] = ()
    using: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_call(self) -> bool:
        """Whether this process does it itself, rather than another service on command."""
        return not isinstance(self.ask, type)

    def work(self, *, undo: bool) -> type[Command] | Call | None:
        """What has it done, or undone."""
        return self.undo if undo else self.ask


def step(
    ask: type[Command],
    *,
    ok: Answers,
    fail: Answers = (),
    undo: type[Command] | None = None,
    undone: Answers = (),
    undo_fail: Answers = (),
    timeout: str | float | None = "30s",
    retry: Retry | None = None,
    undo_retry: Retry | None = None,
    pivot: bool = False,
    when: str | None = None,
    beside: str | None = None,
    keep: Sequence[str] = (),
    using: Mapping[str, str] | None = None,
) -> StepDeclaration:
    """A step that another service does on command, and answers with an event.

    Args:
        ok, fail: the events that say it was done, or refused.
        undo: the command that takes it back. It must mean nothing where the step was never done, for nobody may know.
        undone, undo_fail: the events that answer it; without them it is undone when it is said.
        timeout: how long an answer is awaited, ``"30s"``; then it is asked for again, and in the end taken as unknown.
        pivot: once this is done there is no way back: the steps after it are tried until they are done.
        when: a field or property of the saga: the step is passed over where that is false.
        beside: another step, beside which this one runs.
        keep: fields of the answers that the saga keeps in its own fields of the same names.
        using: by a command's field, the saga's field it is taken from, where the names differ.
    """
    return StepDeclaration(
        ask, _some(ok), _some(fail), undo, _some(undone), _some(undo_fail), seconds(timeout), retry or Retry(),
        undo_retry or Retry(attempts=20), pivot, when, beside, tuple(keep), using or {},
    )  # fmt: skip


def call(
    do: Call,
    *,
    undo: Call | None = None,
    timeout: str | float = "30s",
    retry: Retry | None = None,
    undo_retry: Retry | None = None,
    pivot: bool = False,
    when: str | None = None,
    beside: str | None = None,
) -> StepDeclaration:
    """A step that a worker does itself, outside: an HTTP request, say. What it returns goes into the saga's fields.

    Args:
        do: is given the saga and an idempotency key, the same for each attempt. It raises
            :class:`~stranglerfig.kit.Refused` when the answer is no; anything else it raises counts as no answer.
        timeout: how long one attempt may take; a worker that takes longer has lost it to another one.
    """
    return StepDeclaration(
        do, undo=undo, timeout=seconds(timeout), retry=retry or Retry(), undo_retry=undo_retry or Retry(attempts=20),
        pivot=pivot, when=when, beside=beside,
    )  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What a saga's class declares beside its fields; see :class:`Saga`."""

    name: str
    version: int
    starts: type[Event]
    steps: Mapping[str, StepDeclaration]
    within: float | None
    lock: str | None
    when_held: Literal["wait", "refuse"]
    completed: type[Event] | None
    compensated: type[Event] | None
    cls: type[Saga]

    @cached_property
    def definition(self) -> model.Definition:
        """The steps as :mod:`.model` runs them."""
        groups: dict[str, int] = {}
        made = []
        for number, (name, each) in enumerate(self.steps.items()):
            groups[name] = number if each.beside is None else groups[each.beside]
            made.append(
                model.Step(
                    name, groups[name], each.timeout, each.retry, each.undo is not None,
                    bool(each.undone) or (each.undo is not None and each.is_call), each.undo_retry, each.pivot,
                    None if each.when is None else self._when(each.when), each.is_call,
                )
            )  # fmt: skip
        return model.Definition(self.name, self.version, tuple(made), self.within)

    def _when(self, name: str) -> Callable[[Data], bool]:
        return lambda data: bool(getattr(self.saga(data), name))

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.cls)

    def data(self, saga: Saga) -> Data:
        """A saga's fields as JSON has them."""
        return self._adapter.dump_python(saga, mode="json")  # type: ignore[no-any-return]

    def saga(self, data: Data, tenant: str | None = None) -> Any:
        """A saga of these fields, and its tenant's."""
        made = self._adapter.validate_json(to_json(data))
        if tenant is not None and "tenant" not in data:
            made.tenant = tenant
        return made

    def kept(self, data: Data, given: Data) -> Data:
        """What a call returned, as the saga's fields are declared and as JSON has it.

        Raises:
            ValueError: the fields cannot take it.
            LookupError: it is for a field that there is not.
        """
        whole = self.data(self.saga({**data, **given}))
        return {name: whole[name] for name in given}

    def kept_of(self, data: Data, facts: Data) -> Data:
        """The same of a refusal's facts, which need not be for the saga: those of its fields that these can take."""
        try:
            return self.kept(data, {name: fact for name, fact in facts.items() if name in data})
        except ValueError:
            return {}

    def of_start(self, event: Event) -> Data:
        """The data of a saga that begins with an event."""
        names = {f.name for f in dataclasses.fields(self.cls)}  # type: ignore[arg-type]
        found = {f.name: getattr(event, f.name) for f in dataclasses.fields(event) if f.name in names}
        return self.data(self.cls(**found))

    def message(self, cls: type[Message], saga: Any, using: Mapping[str, str] | None = None) -> Message:
        """A message made of the saga's fields."""
        return cls(**{
            f.name: getattr(saga, (using or {}).get(f.name, f.name))
            for f in dataclasses.fields(cls)  # type: ignore[arg-type]
            if (using or {}).get(f.name, f.name) in self._names or f.name in (using or {})
        })  # fmt: skip

    @cached_property
    def _names(self) -> set[str]:
        return {f.name for f in dataclasses.fields(self.cls)} | {  # type: ignore[arg-type]
            name for base in self.cls.__mro__ for name, value in vars(base).items() if isinstance(value, property)
        }

    def command(self, ask: Ask, saga: Any) -> Message | None:
        """The command that asks for a step, or for its undo; None where this process does it itself."""
        step = self.steps[ask.step]
        cls = step.work(undo=ask.undo)
        return self.message(cls, saga, step.using) if isinstance(cls, type) else None

    def answer(self, name: str, execution: int, event: Event, *, undo: bool) -> Answered | None:
        """What an event says to a step, or to its undo, with what the saga keeps of it; None where it is no answer."""
        step = self.steps[name]
        done, refused = (step.undone, step.undo_fail) if undo else (step.ok, step.fail)
        if not isinstance(event, (*done, *refused)):
            return None
        keep = [each for each in step.keep if hasattr(event, each)]
        whole = fields_of(event) if keep else {}
        return Answered(name, execution, isinstance(event, done), undo, {each: whole[each] for each in keep})

    def end(self, status: Status, saga: Any) -> Message | None:
        """The event that is published when a saga ends so, if one is."""
        said = self.completed if status is Status.COMPLETED else self.compensated
        return None if said is None or status not in ENDED else self.message(said, saga)

    def lock_name(self, data: Data) -> str | None:
        """What no other saga may hold at the same time."""
        return None if self.lock is None else f"{self.name}/{self.lock}/{data[self.lock]}"


@dataclass_transform()
class Saga:
    """The base of orchestrated sagas: a business transaction across services, step by step, with a way back::

        class Checkout(Saga, type="orders.Checkout", starts=OrderPlaced, version=2):
            order_id: int
            item_id: int
            quantity: int

            reserve = step(Reserve, ok=ItemReserved, fail=SoldOut, undo=Release, timeout="30s")
            charge = step(Charge, ok=Charged, fail=Declined, timeout="2m", pivot=True)
            ship = step(Ship, ok=Shipped)

    Args (of the class's line):
        starts: the event that begins one; the saga's fields of the same names are taken from it.
        version: grows with each change of the steps. A saga keeps the version that it began with: keep the older class
            (under another name) until none of its sagas is left.
        within: ``"10m"``: one that takes longer turns back, unless its pivot was asked for.
        lock: a field; of sagas with the same value in it one runs at a time.
        when_held: what becomes of another one meanwhile: it waits for its turn, or is refused at once.
        completed, compensated: events that are published at its end, made of its fields.

    Attributes:
        tenant: for whom it is, where its first event said so; what calls outward go by. A field of that name hides it.
    """

    __kind__: ClassVar[Kind]
    tenant: ClassVar[str | None] = None

    def __init_subclass__(
        cls, *, type: str, starts: type[Event], version: int = 1, within: str | float | None = None,
        lock: str | None = None, when_held: Literal["wait", "refuse"] = "wait", completed: type[Event] | None = None,
        compensated: type[Event] | None = None,
    ) -> None:  # fmt: skip
        super().__init_subclass__()
        dataclass(cls)
        steps = {
            name: each
            for base in reversed(cls.__mro__)
            for name, each in vars(base).items()
            if isinstance(each, StepDeclaration)
        }
        cls.__kind__ = Kind(type, version, starts, steps, seconds(within), lock, when_held, completed, compensated, cls)
        _check(cls.__kind__)


def kind_of_saga(cls: type[Saga]) -> Kind:
    """What a saga's class declares."""
    return cls.__kind__


def seconds(text: str | float | None) -> float | None:
    """``"30s"``, ``"2m"``, ``"1.5h"`` or a number of seconds.

    Raises:
        FigError: ``saga_misdeclared``.
    """
    if text is None or isinstance(text, int | float):
        return text
    if (match := re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)) is None:
        raise FigError("saga_misdeclared", f"'{text}' is not a time", "Write it as 500ms, 30s, 2m, 1.5h or 1d.")
    return float(match[1]) * _SECONDS[match[2]]


def _some(answers: Answers) -> tuple[type[Event], ...]:
    return (answers,) if isinstance(answers, type) else tuple(answers)


def _check(kind: Kind) -> None:
    """Refuse a declaration that could not be kept to.

    Raises:
        FigError: ``saga_misdeclared``.
    """
    if not _NAME.fullmatch(kind.name):
        raise _misdeclared(kind, f"'{kind.name}' is not a type", "write context.Name, such as orders.Checkout")
    if not kind.steps:
        raise _misdeclared(kind, "it has no steps", "give it some: name = step(…)")
    names = kind._names
    pivots = [name for name, each in kind.steps.items() if each.pivot]
    if len(pivots) > 1:
        raise _misdeclared(
            kind, f"it has {len(pivots)} pivots ({', '.join(pivots)})", "there is one point of no return"
        )
    _check_source(kind, kind.starts, names)
    fields = {f.name for f in dataclasses.fields(kind.cls)}  # type: ignore[arg-type]
    _check_personal(kind, fields)
    if kind.lock is not None and kind.lock not in fields:
        raise _misdeclared(kind, f"it locks by '{kind.lock}', which is no field of it", f"use one of {sorted(names)}")
    if kind.when_held not in ("wait", "refuse"):
        raise _misdeclared(kind, f"when_held is '{kind.when_held}'", "say wait or refuse")
    if kind.when_held == "refuse" and kind.lock is None:
        raise _misdeclared(kind, "it says when_held, and holds nothing", "say lock= as well")
    for end in (kind.completed, kind.compensated):
        if end is not None:
            _check_message(kind, "its end", end, {}, names)
    before: list[str] = []
    for name, each in kind.steps.items():
        _check_place(kind, name, each, before, pivots)
        if each.when is not None and each.when not in names:
            raise _misdeclared(kind, f"{name} asks for '{each.when}', which is no field of it", "write a property")
        _check_messages(kind, name, each, names)
        before.append(name)


def _check_place(kind: Kind, name: str, each: StepDeclaration, before: list[str], pivots: list[str]) -> None:
    """Where a step stands: beside which other, and on which side of the pivot."""
    if each.beside is not None and each.beside not in before:
        raise _misdeclared(kind, f"{name} runs beside '{each.beside}', which is no step before it", "name one")
    if pivots and (each.pivot or each.beside in pivots) and each.beside is not None:
        raise _misdeclared(kind, f"{name} and the pivot run side by side", "the pivot stands alone")
    if not pivots or pivots[0] not in before:
        return
    if each.beside in before[: before.index(pivots[0])]:
        what = f"{name} stands behind the pivot and runs beside '{each.beside}', before it"
        raise _misdeclared(kind, what, "move it before the pivot, or take beside= away")
    if each.undo is not None:
        raise _misdeclared(kind, f"{name} has an undo behind the pivot", "nothing is undone there: take it away")


def _check_personal(kind: Kind, fields: set[str]) -> None:
    """A saga's fields are kept as they are: they would outlive the key of what is personal."""
    kept = {name: kind.starts for name in fields & kind_of(kind.starts).personal.keys()}
    for each in kind.steps.values():
        for answer in (*each.ok, *each.fail, *each.undone, *each.undo_fail):
            kept |= dict.fromkeys(kind_of(answer).personal.keys() & each.keep, answer)
    for end in (kind.completed, kind.compensated):
        kept |= dict.fromkeys(fields & kind_of(end).personal.keys(), end) if end is not None else {}
    for name, event in kept.items():
        what = f"it would keep '{name}', a personal field of {event.__name__}, when its key is destroyed"
        raise _misdeclared(kind, what, "keep an id, and ask whoever has it")


def _check_messages(kind: Kind, name: str, each: StepDeclaration, names: set[str]) -> None:
    if isinstance(each.ask, type):
        _check_message(kind, name, each.ask, each.using, names)
        if not each.ok:
            raise _misdeclared(kind, f"{name} has no answer that says it was done", "give it ok=")
        if both := set(each.ok) & set(each.fail):
            raise _misdeclared(kind, f"{name} is both done and refused by {[b.__name__ for b in both]}", "choose")
    if isinstance(each.undo, type) and isinstance(each.ask, type):
        _check_message(kind, f"{name}'s undo", each.undo, each.using, names)
        if (kind_of(each.undo).topic, kind_of(each.undo).key) != (kind_of(each.ask).topic, kind_of(each.ask).key):
            raise _misdeclared(
                kind,
                f"{name} and its undo have not the same topic and key, so that the undo could come first",
                "give both commands the same",
            )
    fields = {f.name for f in dataclasses.fields(kind.cls)}  # type: ignore[arg-type]
    answers = (*each.ok, *each.fail, *each.undone, *each.undo_fail)
    given = {f.name for answer in answers for f in dataclasses.fields(answer)}
    if lacking := [keep for keep in each.keep if keep not in fields or keep not in given]:
        raise _misdeclared(kind, f"{name} keeps {lacking}, which no answer has, or no field of it", "declare them")
    if each.undo_fail and not each.undone:
        raise _misdeclared(kind, f"{name}'s undo can be refused and never said to be done", "give it undone= as well")


def _check_message(kind: Kind, what: str, cls: type[Message], using: Mapping[str, str], names: set[str]) -> None:
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        if using.get(f.name, f.name) not in names and (is_required(f) or f.name in using):
            raise _misdeclared(
                kind,
                f"{what}: {cls.__name__} needs '{f.name}', and no field of the saga is called "
                f"'{using.get(f.name, f.name)}'",
                "declare it, or say with using= where it is taken from",
            )


def _check_source(kind: Kind, starts: type[Event], names: set[str]) -> None:
    given = {f.name for f in dataclasses.fields(starts)}
    for f in dataclasses.fields(kind.cls):  # type: ignore[arg-type]
        if is_required(f) and f.name not in given:
            raise _misdeclared(kind, f"'{f.name}' has no default and is not in {starts.__name__}", "give it one")


def _misdeclared(kind: Kind, what: str, remedy: str) -> FigError:
    return FigError("saga_misdeclared", f"{kind.cls.__qualname__}: {what}", f"Mend its declaration: {remedy}.")
