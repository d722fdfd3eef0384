"""What a service can be told from a model: which event a command records, from which fields; what policies ask for.

Pure. What the model does not say is not made up: it is noted in words, and refused where it would run.
"""

from __future__ import annotations

import keyword
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from stranglerfig.foundation.errors import FigError
from stranglerfig.storming.lint import IRREGULAR, words
from stranglerfig.storming.model import Aggregate, Command, Context, Event, Field, Model

Message = Event | Command
_LISTS = ("int", "str", "bool", "float")
"""The types of which a list can be kept in a column: JSON has them as they are."""
_TAKEN = frozenset(
    (*_LISTS, "list", "field", "dt", "UUID", "Decimal", "Any", "Awaitable", "Callable", "Take", "Aggregate", "Command",
    "Event", "EventLog", "Projection", "Refused", "Service", "Transaction", "record", "upcast", "build", "tx")
)  # fmt: skip
"""What generated code calls by these names."""


def snake(name: str) -> str:
    """``StockLevel`` → ``stock_level``."""
    return "_".join(words(name))


class Decision(NamedTuple):
    """A command of an aggregate; ``event`` is what it leads to, None where their names do not tell.

    Attributes:
        open: what the model does not say of the decision; empty when it says all.
        lost: what it does not say of the aggregate's id; empty when the command has it.
        questions: the hotspots on the command, with their answers.
    """

    aggregate: Aggregate
    command: Command
    event: Event | None
    open: str
    lost: str
    questions: list[str]


class Step(NamedTuple):
    """What a policy wants; ``decision`` is None for another context's command, ``open`` what the model does not say."""

    policy: str
    command: Command
    decision: Decision | None
    open: str


class View(NamedTuple):
    """A read model whose rows have what the last of its events said; the first field is its id."""

    name: str
    fields: list[Field]
    events: list[Event]


@dataclass
class Plan:
    """What a service is made of.

    Attributes:
        aggregates: each with its id as the first field.
        messages: by name, with the slug of the context whose they are.
        reactions: events, and what follows from them.
        notes: what was not derived: of what, and in words.
    """

    context: Context
    aggregates: list[Aggregate] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    messages: dict[str, tuple[str, Message]] = field(default_factory=dict)
    reactions: list[tuple[Event, list[Step]]] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def take(self, home: str, message: Message) -> None:
        """Have a message declared."""
        if self.messages.setdefault(message.name, (home, message))[1] is not message:
            raise _unusable(message.name, "two contexts have a message of that name", "Rename one of them")


def plan(model: Model, context: Context) -> Plan:
    """What ``context`` becomes.

    Raises:
        FigError: ``model_unusable`` for names that code cannot have, and for events of which nothing says what they
            are about.
    """
    made = Plan(context)
    for aggregate in context.aggregates:
        if not aggregate.events:
            made.notes.append((aggregate.name, "an event that it records; nothing is made of it"))
            continue
        id = _id(aggregate)
        state = [f for f in aggregate.fields if f.name != id.name]
        kept = [f for f in state if _is_kept(f)]
        made.notes += [(aggregate.name, f"how {f.name} is kept ({f.type})") for f in state if f not in kept]
        made.aggregates.append(replace(aggregate, fields=(id, *kept)))
        for message in _messages(aggregate):
            made.take(context.slug, message)
        older = [(e.name, f"what it was like before version {e.version}") for e in aggregate.events if e.version > 1]
        made.notes += older
    for a in made.aggregates:
        made.decisions += [_decision(model, a, command) for command in a.commands]
    made.notes += [(d.command.name, each) for d in made.decisions for each in (d.open, d.lost) if each]
    _react(made, model)
    _look(made, model)
    _check(made)
    return made


def _is_kept(f: Field) -> bool:
    return not f.type.startswith("list[") or f.type[5:-1] in _LISTS


def _messages(aggregate: Aggregate) -> list[Message]:
    return [*aggregate.commands, *aggregate.events]


def _id(aggregate: Aggregate) -> Field:
    """What tells its instances apart: the key of all its events."""
    keys = {event.key for event in aggregate.events}
    found = next((f for event in aggregate.events for f in event.fields if keys == {f.name}), None)
    if found is None or found.type.startswith("list["):
        raise _unusable(aggregate.name, "its events have not one key", "Give them one: what tells one from another")
    return replace(found, optional=False)


def _missing(wanted: Iterable[Field], given: Iterable[Field]) -> str:
    there = {(f.name, f.type): f.optional for f in given}
    return ", ".join(f.name for f in wanted if there.get((f.name, f.type), True) > f.optional)


def _decision(model: Model, aggregate: Aggregate, command: Command) -> Decision:
    id = aggregate.fields[0]
    event = _event_of(aggregate, command)
    if event is None:
        open = f"which event {command.name} records ({', '.join(e.name for e in aggregate.events)})"
    else:
        missing = _missing(event.fields, (*command.fields, id))
        open = f"what {event.name} says of {missing}" if missing else ""
    lost = f"which {aggregate.name} it is for ({id.name})" if _missing([id], command.fields) else ""
    questions = [f"{h.name} {h.answer or 'Open.'}" for h in model.hotspots if h.on == command.name]
    return Decision(aggregate, command, event, open, lost, questions)


def _event_of(aggregate: Aggregate, command: Command) -> Event | None:
    """The event of a command's own words (AdjustStock, StockAdjusted), or the only one that there is."""
    if len(aggregate.commands) == len(aggregate.events) == 1:
        return aggregate.events[0]
    verb, *things = words(command.name) or ["-"]
    said = [(words(e.name) or ["-"], e) for e in aggregate.events]
    found = [event for spoken, event in said if spoken[:-1] == things and _is_done(verb, spoken[-1])]
    return found[0] if len(found) == 1 else None


def _is_done(verb: str, participle: str) -> bool:
    regular = (f"{verb}d", f"{verb}ed", f"{verb}{verb[-1]}ed", f"{verb[:-1]}ied")
    return participle in regular or (participle in IRREGULAR and participle[0] == verb[0])


def _found(model: Model, context: Context, name: str) -> tuple[str, Message | None]:
    """A message that the model names (``Orders.OrderPlaced``, ``OrderPlaced``), and the slug of its context."""
    home, _, bare = name.rpartition(".")
    for c in model.contexts:
        for a in c.aggregates:
            for message in _messages(a):
                if message.name == bare and home.lower() in ("", c.slug):
                    return c.slug, message
    return home.lower() or context.slug, None


def _react(made: Plan, model: Model) -> None:
    """What policies say, by event."""
    wanted: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for policy in made.context.policies:
        for name in policy.events:
            home, _ = _found(model, made.context, name)
            wanted[home, name.rpartition(".")[2]] += [(policy.name, command) for command in policy.commands]
    for (home, name), commands in wanted.items():
        follow = [(policy, called, *_found(model, made.context, called)) for policy, called in commands]
        _, event = _found(model, made.context, f"{home}.{name}")
        if event is None:
            fields = {f.name: f for *_, command in follow if command is not None for f in command.fields}
            taken = tuple(fields.values()) or (Field("id", "str"),)
            event = Event(name, taken, key=next((f.name for f in taken if not f.optional), taken[0].name))
            made.notes.append((name, f"what it carries, which {home} says; taken: {', '.join(f.name for f in taken)}"))
        assert isinstance(event, Event)
        made.take(home, event)
        made.reactions.append((event, [_step(made, event, *each) for each in follow]))


def _step(made: Plan, event: Event, policy: str, called: str, home: str, command: Message | None) -> Step:
    decision = next((d for d in made.decisions if d.command is command), None)
    if command is None or (decision is None and home == made.context.slug):
        open, command = f"what {called} carries, and who takes it", Command(called.rpartition(".")[2])
    else:
        missing = _missing(command.fields, event.fields)
        open = f"where {missing} of {called} comes from" if missing else ""
    assert isinstance(command, Command)
    if open:
        made.notes.append((policy, open))
    elif decision is None:
        made.take(home, command)
    return Step(policy, command, decision, open)


def _look(made: Plan, model: Model) -> None:
    """Read models of which the model says enough: events with one key, and fields that all of them have."""
    for seen in made.context.readmodels:
        found = [_found(model, made.context, name) for name in seen.events]
        events = [event for _, event in found if isinstance(event, Event)]
        common = [f for f in (events[0].fields if events else ()) if all(f in event.fields for event in events)]
        kept = [f for f in common if _is_kept(f)]
        id = next((f for f in kept if {event.key for event in events} == {f.name}), None)
        if id is None or len(kept) < 2 or len(events) < len(found):
            made.notes.append((seen.name, "what its rows are: its events have not one key and other fields in common"))
            continue
        for (home, _), event in zip(found, events, strict=True):
            made.take(home, event)
        made.views.append(View(seen.name, [replace(id, optional=False), *(f for f in kept if f is not id)], events))
        made.notes.append((seen.name, "which rows people look for; taken: what the last of its events said"))


def _check(made: Plan) -> None:
    classes = [*made.messages, *(a.name for a in made.aggregates), *(v.name for v in made.views)]
    functions = [d.command.name for d in made.decisions]
    shapes = [*made.aggregates, *(message for _, message in made.messages.values())]
    fields = [f.name for shape in shapes for f in shape.fields]
    for name in (*classes, *fields, *map(snake, functions)):
        if keyword.iskeyword(name) or name in _TAKEN or name.startswith("_"):
            raise _unusable(name, "Python, or the kit, has that name", "Choose another")
    for name in classes:
        if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) or [*map(snake, classes)].count(snake(name)) > 1:
            raise _unusable(name, "it is not like StockLevel, or another one is named like it", "Rename it")
    for d in made.decisions:
        if snake(d.command.name) in [f.name for f in d.aggregate.fields]:
            raise _unusable(d.command.name, f"a field of {d.aggregate.name} has its name", "Give it a verb and a thing")
    for message in (message for _, message in made.messages.values() if not message.fields):
        raise _unusable(message.name, "it has no fields, so nothing says what it is about", "Give it the id at least")


def _unusable(name: str, why: str, remedy: str) -> FigError:
    return FigError("model_unusable", f"no code can be made of '{name}': {why}", f"{remedy}, in the model.", name=name)
