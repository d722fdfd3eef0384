"""What an Event Storming found out: contexts with their aggregates, commands, events, policies and read models.

Everything is kept sorted by name, so that two models that mean the same are equal and print the same text. ``notes``
are the comment lines above an item, ``line`` is where it stood in the text (1-based; it plays no part in equality).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any

from stranglerfig.foundation.errors import FigError

TYPES = ("int", "str", "bool", "decimal", "float", "timestamp", "date", "uuid")


def _line() -> Any:
    return field(default=0, compare=False, repr=False)


def _sort(item: Any, *names: str) -> None:
    for name in names:
        object.__setattr__(item, name, tuple(sorted(getattr(item, name), key=lambda part: (part.name, repr(part)))))


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a command, an event or an aggregate's state: ``type`` is one of ``TYPES`` or ``list[…]`` of one."""

    name: str
    type: str
    optional: bool = False
    personal: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """Something somebody wants to happen."""

    name: str
    fields: tuple[Field, ...] = ()
    notes: tuple[str, ...] = ()
    line: int = _line()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened; ``key`` is the field whose events keep their order."""

    name: str
    fields: tuple[Field, ...] = ()
    version: int = 1
    key: str | None = None
    notes: tuple[str, ...] = ()
    line: int = _line()


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What takes commands and makes events; ``fields`` are those of its state that events may carry."""

    name: str
    commands: tuple[Command, ...] = ()
    events: tuple[Event, ...] = ()
    fields: tuple[Field, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    line: int = _line()

    def __post_init__(self) -> None:
        _sort(self, "commands", "events")


@dataclass(frozen=True, slots=True)
class Policy:
    """Whenever one of ``events`` happens, ``commands`` follow. ``Context.Event`` names one outside the model."""

    name: str
    events: tuple[str, ...]
    commands: tuple[str, ...]
    notes: tuple[str, ...] = ()
    line: int = _line()


@dataclass(frozen=True, slots=True)
class ReadModel:
    """What people look at, computed from ``events``."""

    name: str
    events: tuple[str, ...]
    notes: tuple[str, ...] = ()
    line: int = _line()


@dataclass(frozen=True, slots=True)
class Context:
    """A bounded context."""

    name: str
    aggregates: tuple[Aggregate, ...] = ()
    policies: tuple[Policy, ...] = ()
    readmodels: tuple[ReadModel, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    line: int = _line()

    def __post_init__(self) -> None:
        _sort(self, "aggregates", "policies", "readmodels")

    @property
    def slug(self) -> str:
        """The name as in topics and folders: ``inventory``."""
        return self.name.lower()

    @property
    def topic(self) -> str:
        """The topic of its events."""
        return f"events.{self.slug}"

    def events(self) -> Iterator[Event]:
        """All events, by aggregate."""
        for aggregate in self.aggregates:
            yield from aggregate.events

    def event_type(self, event: Event) -> str:
        """The CloudEvents type, which is the schema's subject: ``inventory.StockAdjusted``."""
        return f"{self.slug}.{event.name}"


@dataclass(frozen=True, slots=True)
class Hotspot:
    """An open question (``name``) on something; no longer open once it has an answer."""

    name: str
    on: str
    answer: str | None = None
    notes: tuple[str, ...] = ()
    line: int = _line()


@dataclass(frozen=True, slots=True)
class Signature:
    """Somebody agreed, in a role, to the model with the hash ``of``."""

    name: str
    role: str
    on: date
    of: str
    line: int = _line()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sticky hangs on the wall."""

    name: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Sticky:
    """What hangs on the wall and is not, or not yet, part of a context's model.

    Attributes:
        name: its words, as they stand; no line breaks, no quotation marks.
        spec: its fields, version and key as the text of a command or an event has them.
        inside: the bounded context drawn around it.
    """

    kind: str
    name: str
    x: int
    y: int
    spec: str = ""
    inside: str | None = None


@dataclass(frozen=True, slots=True)
class Area:
    """Where a bounded context is drawn."""

    name: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Lane:
    """A swimlane: a horizontal band across the whole timeline."""

    name: str
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Link:
    """An arrow that the contexts do not say."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody said on a hotspot."""

    on: str
    by: str
    words: str


@dataclass(frozen=True, slots=True)
class Wall:
    """The rest of the wall; it has no part in the meaning that is signed."""

    areas: tuple[Area, ...] = ()
    stickies: tuple[Sticky, ...] = ()
    links: tuple[Link, ...] = ()
    pivotal: tuple[str, ...] = ()
    comments: tuple[Comment, ...] = ()
    lanes: tuple[Lane, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "lanes", tuple(sorted(self.lanes, key=lambda lane: (lane.y, lane.height, lane.name))))
        for name in ("areas", "stickies", "links", "pivotal"):
            object.__setattr__(self, name, tuple(sorted(getattr(self, name), key=repr)))


@dataclass(frozen=True, slots=True)
class Model:
    """The whole model. ``required`` are the roles that must sign."""

    contexts: tuple[Context, ...] = ()
    hotspots: tuple[Hotspot, ...] = ()
    required: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] = ()
    layout: tuple[Place, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    wall: Wall = Wall()

    def __post_init__(self) -> None:
        _sort(self, "contexts", "hotspots", "layout")
        object.__setattr__(self, "signatures", tuple(sorted(self.signatures, key=lambda s: (s.role, s.name, repr(s)))))

    def context(self, name: str) -> Context | None:
        """The context of that name, whatever its case."""
        return next((context for context in self.contexts if context.slug == name.lower()), None)

    def commands(self) -> Iterator[tuple[Context, Aggregate, Command]]:
        """All commands with where they are."""
        for context in self.contexts:
            for aggregate in context.aggregates:
                for command in aggregate.commands:
                    yield context, aggregate, command

    def events(self) -> Iterator[tuple[Context, Aggregate, Event]]:
        """All events with where they are."""
        for context in self.contexts:
            for aggregate in context.aggregates:
                for event in aggregate.events:
                    yield context, aggregate, event


def semantic_hash(model: Model) -> str:
    """The hash that sign-offs are bound to: of what the contexts say.

    Layout, wall, comments, hotspots and the sign-offs themselves play no part; lines that this version does not know
    do, for they may mean something.
    """
    parts = [_meaning(context) for context in model.contexts]
    text = repr((parts, [line for line in model.unknown if not line.startswith("#")]))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _meaning(item: Any) -> Any:
    if isinstance(item, tuple):
        return [_meaning(part) for part in item if not (isinstance(part, str) and part.startswith("#"))]
    if hasattr(item, "__dataclass_fields__"):
        names = [f.name for f in fields(item) if f.name not in ("notes", "line")]
        return [type(item).__name__, *((name, _meaning(getattr(item, name))) for name in names)]
    return item


def missing_signatures(model: Model) -> tuple[str, ...]:
    """The required roles that nobody has signed for as the model is now."""
    now = semantic_hash(model)
    signed = {signature.role for signature in model.signatures if signature.of == now}
    return tuple(role for role in model.required if role not in signed)


def void_signatures(model: Model) -> tuple[Signature, ...]:
    """Sign-offs of a model that meant something else."""
    now = semantic_hash(model)
    return tuple(signature for signature in model.signatures if signature.of != now)


def sign(model: Model, name: str, role: str, at: date) -> Model:
    """The model with one more sign-off, in place of an earlier one of that person in that role.

    Raises:
        FigError: ``role_not_required`` for a role that the model does not ask for; ``name_not_writable`` for a name
            with quotation marks or line breaks.
    """
    if role not in model.required:
        raise FigError(
            "role_not_required",
            f"the model asks nobody to sign as '{role}'; it asks for: {', '.join(model.required) or 'nobody'}",
            "Sign in one of these roles, or add the role to the line 'signoff required:'.",
            role=role,
            required=list(model.required),
        )
    if not name.strip() or any(mark in name for mark in '"\n\r'):
        raise FigError("name_not_writable", f"a sign-off cannot be written with the name {name!r}", "Write it plainly.")
    others = [s for s in model.signatures if (s.name, s.role) != (name, role)]
    return replace(model, signatures=(*others, Signature(name, role, at, semantic_hash(model))))
