"""What changed between two models: in meaning, beside it, and whether an event's readers and writers still get on.

Two models mean the same exactly when their hashes are the same; then there are no changes here, and sign-offs hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from stranglerfig.schemas import succession
from stranglerfig.schemas.formats import Format, Level, Problem, Text
from stranglerfig.storming import generate
from stranglerfig.storming.model import (
    Aggregate,
    Command,
    Context,
    Event,
    Field,
    Model,
    Policy,
    ReadModel,
    Signature,
    missing_signatures,
    semantic_hash,
)

Item = Context | Aggregate | Command | Event | Policy | ReadModel
Key = tuple[str, str]
"""The kind of an item, and its name behind its context's."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change: ``added``, ``removed`` or ``changed``; ``words`` say how."""

    change: str
    kind: str
    place: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class Succession:
    """Whether an event's new schema may follow its old one as the registry asks of events: in both directions."""

    event: str
    problems: tuple[Problem, ...]

    @property
    def compatible(self) -> bool:
        """Whether it may."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Differences:
    """All that is different.

    Attributes:
        changes: those of meaning; none when the hash is the same.
        events: the events that are in both and whose schema is another.
        beside: what has no part in the meaning, in words: questions, roles, comments, sign-offs.
        layout: whether stickies or the wall are otherwise.
        void: the sign-offs that were valid and are not any more.
        missing: the roles in which nobody has signed the new model.
    """

    changes: tuple[Change, ...]
    events: tuple[Succession, ...]
    beside: tuple[str, ...]
    layout: bool
    void: tuple[Signature, ...]
    missing: tuple[str, ...]

    @property
    def layout_only(self) -> bool:
        """Whether nothing changed but where stickies hang."""
        return self.layout and not self.changes and not self.beside

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "same_meaning": not self.changes,
            "layout_only": self.layout_only,
            "changes": [asdict(change) for change in self.changes],
            "events": [
                {
                    "event": found.event,
                    "compatible": found.compatible,
                    "problems": [{"path": p.path, "words": p.words} for p in found.problems],
                }
                for found in self.events
            ],
            "beside": list(self.beside),
            "void": [{"name": s.name, "role": s.role} for s in self.void],
            "missing": list(self.missing),
        }

    def lines(self) -> list[str]:
        """For people."""
        signs = {"added": "+", "removed": "-", "changed": "~"}
        found = [f"{signs[c.change]} {c.kind} {c.place}" + (f": {c.words}" if c.words else "") for c in self.changes]
        for each in self.events:
            if each.compatible:
                found.append(f"{each.event} stays compatible in both directions")
            found += [f"{each.event} is not compatible: {problem.path}: {problem.words}" for problem in each.problems]
        found += list(self.beside)
        if self.layout_only:
            found.append("Only the layout changed; the meaning is the same.")
        elif not self.changes:
            found.append("The meaning is the same.")
        if self.void:
            found.append("Void now: " + ", ".join(f"{s.name} ({s.role})" for s in self.void))
        if self.missing:
            found.append(f"To be signed: {', '.join(self.missing)}")
        return found


def differences(old: Model, new: Model) -> Differences:
    """What became of ``old`` in ``new``."""
    before, now = semantic_hash(old), semantic_hash(new)
    changes = list(_changes(old, new)) if before != now else []
    if before != now and not changes:
        changes = [Change("changed", "model", "model", "lines stand in another order, or something is there twice")]
    valid = [s for s in (*old.signatures, *new.signatures) if s.of == before != now]
    return Differences(
        tuple(changes),
        tuple(_succession(old, new)),
        tuple(_beside(old, new)),
        (old.layout, old.wall) != (new.layout, new.wall),
        tuple({(s.name, s.role): s for s in valid}.values()),
        missing_signatures(new),
    )


def _items(model: Model) -> dict[Key, tuple[str, Item]]:
    """All that a model says, each with the aggregate that it stands under."""
    found: dict[Key, tuple[str, Item]] = {}
    for context in model.contexts:
        found["context", context.name] = ("", context)
        for aggregate in context.aggregates:
            found["aggregate", f"{context.name}.{aggregate.name}"] = ("", aggregate)
            for command in aggregate.commands:
                found["command", f"{context.name}.{command.name}"] = (aggregate.name, command)
            for event in aggregate.events:
                found["event", f"{context.name}.{event.name}"] = (aggregate.name, event)
        for policy in context.policies:
            found["policy", f'{context.name}."{policy.name}"'] = ("", policy)
        for seen in context.readmodels:
            found["read model", f"{context.name}.{seen.name}"] = ("", seen)
    return found


def _changes(old: Model, new: Model) -> Iterator[Change]:
    before, after = _items(old), _items(new)
    for key in sorted(before.keys() | after.keys(), key=lambda key: (key[1], key[0])):
        if key not in before:
            yield Change("added", *key, _said(*after[key]))
        elif key not in after:
            yield Change("removed", *key)
        else:
            yield from _changed(key, before[key], after[key])
    yield from _strange("model", "model", old.unknown, new.unknown)


def _said(home: str, item: Item) -> str:
    match item:
        case Event() | Command():
            return f"of {home}"
        case Policy():
            return f"{', '.join(item.events)} -> {', '.join(item.commands)}"
        case ReadModel():
            return f"from {', '.join(item.events)}"
    return ""


def _changed(key: Key, before: tuple[str, Item], after: tuple[str, Item]) -> Iterator[Change]:
    (home, old), (moved, new) = before, after
    if home != moved:
        yield Change("changed", *key, f"of {moved}, no longer of {home}")
    match old, new:
        case Event(), Event():
            if old.version != new.version:
                yield Change("changed", *key, f"version {old.version} is {new.version} now")
            if old.key != new.key:
                yield Change("changed", *key, f"its key was {old.key or 'none'}, is {new.key or 'none'} now")
            yield from _fields(key, old.fields, new.fields)
        case Command(), Command():
            yield from _fields(key, old.fields, new.fields)
        case Aggregate(), Aggregate():
            yield from _fields(key, old.fields, new.fields)
            yield from _strange(*key, old.unknown, new.unknown)
        case Context(), Context():
            yield from _strange(*key, old.unknown, new.unknown)
        case (Policy(), Policy()) | (ReadModel(), ReadModel()):
            if (was := _said(home, old)) != (says := _said(moved, new)):
                yield Change("changed", *key, f"{says} (was {was})")


def _fields(key: Key, old: tuple[Field, ...], new: tuple[Field, ...]) -> Iterator[Change]:
    before, after = {f.name: f for f in old}, {f.name: f for f in new}
    for name in [*before, *(name for name in after if name not in before)]:
        place = f"{key[1]}.{name}"
        if name not in after:
            yield Change("removed", "field", place)
        elif name not in before:
            yield Change("added", "field", place, _type(after[name]))
        elif before[name] != after[name]:
            yield Change("changed", "field", place, f"{_type(before[name])} is {_type(after[name])} now")
    if old != new and sorted(before) == sorted(after) and list(before) != list(after):
        yield Change("changed", *key, "its fields stand in another order")


def _type(field: Field) -> str:
    return f"{field.type}{'?' if field.optional else ''}{' personal' if field.personal else ''}"


def _strange(kind: str, place: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
    before, after = ([line for line in lines if not line.startswith("#")] for lines in (old, new))
    for line in before:
        if line not in after:
            yield Change("removed", kind, place, f"the line that is not understood: {line}")
    for line in after:
        if line not in before:
            yield Change("added", kind, place, f"a line that is not understood: {line}")


def _succession(old: Model, new: Model) -> Iterator[Succession]:
    before: dict[str, list[Text]] = {}  # of a name that stands twice (lint says so) the last is what others know
    for context, _, event in old.events():
        before.setdefault(context.event_type(event), []).append(_schema(context, event))
    for context, _, event in new.events():
        name, now = context.event_type(event), _schema(context, event)
        if name in before and now not in before[name]:
            yield Succession(name, tuple(succession.problems(now, before[name][-1:], Level.FULL)))


def _schema(context: Context, event: Event) -> Text:
    return Text(Format.JSON, json.dumps(generate.schema(context, event)))


def _beside(old: Model, new: Model) -> Iterator[str]:
    before, after = ({(h.name, h.on): h.answer for h in model.hotspots} for model in (old, new))
    for question, on in sorted(before.keys() | after.keys()):
        said = f'the question "{question}" on {on}'
        if (question, on) not in before:
            yield f"asked: {said}" if after[question, on] is None else f"asked and answered: {said}"
        elif (question, on) not in after:
            yield f"no longer asked: {said}"
        elif (answer := after[question, on]) != before[question, on]:
            yield f"answered: {said}: {answer}" if answer else f"open again: {said}"
    for role in sorted({*old.required} ^ {*new.required}):
        yield f"{'must' if role in new.required else 'need no longer'} sign: {role}"
    signed, signs = ({(s.name, s.role, s.on, s.of) for s in model.signatures} for model in (old, new))
    for name, role, day, _ in sorted(signs - signed):
        yield f"signed: {name} ({role}, {day})"
    for name, role, day, _ in sorted(signed - signs):
        yield f"no longer signed: {name} ({role}, {day})"
    if _notes(old) != _notes(new):
        yield "comments changed"


def _notes(model: Model) -> list[str]:
    scopes = [model.notes, model.unknown, *(hotspot.notes for hotspot in model.hotspots)]
    for _, item in _items(model).values():
        scopes += [item.notes, item.unknown if isinstance(item, (Context, Aggregate)) else ()]
    return sorted(line for lines in scopes for line in lines if line.startswith("#"))
