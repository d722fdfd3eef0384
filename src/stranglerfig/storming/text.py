"""``model.storm``: the model as text, one sticky a line, sorted; ``parse(show(model)) == model``.

What this version does not understand is kept where it stands, and linted, never dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date

from stranglerfig.storming import wall
from stranglerfig.storming.model import (
    Aggregate,
    Command,
    Context,
    Event,
    Field,
    Hotspot,
    Model,
    Place,
    Policy,
    ReadModel,
    Signature,
    Wall,
)

_NAME = r"[A-Za-z_]\w*"
_DOTTED = rf"{_NAME}(?:\.{_NAME})?"
_LIST = rf"{_DOTTED}(?:\s*,\s*{_DOTTED})*"
_FIELDS = r"(?:\((?P<fields>[^()]*)\))?"
_PATTERNS = {
    "context": re.compile(rf"context\s+(?P<name>{_NAME})"),
    "aggregate": re.compile(rf"aggregate\s+(?P<name>{_NAME}){_FIELDS}"),
    "command": re.compile(rf"command\s+(?P<name>{_NAME}){_FIELDS}"),
    "event": re.compile(
        rf"event\s+(?P<name>{_NAME}){_FIELDS}(?:\s+v(?P<version>\d{{1,9}}))?(?:\s+key\s+(?P<key>{_NAME}))?"
    ),
    "policy": re.compile(rf'policy\s+"(?P<name>[^"]+)"\s*:\s*(?P<events>{_LIST})?\s*->\s*(?P<commands>{_LIST})?'),
    "readmodel": re.compile(rf"readmodel\s+(?P<name>{_NAME})\s*(?:<-\s*(?P<events>{_LIST})?)?"),
    "hotspot": re.compile(
        rf'hotspot\s+"(?P<name>[^"]+)"\s+on\s+(?P<on>{_DOTTED})(?:\s+answered\s+"(?P<answer>[^"]+)")?'
    ),
    "required": re.compile(r"signoff\s+required\s*:\s*(?P<roles>[^:\"]+)"),
    "signature": re.compile(
        r'signoff\s+by\s+"(?P<name>[^"]+)"\s+as\s+(?P<role>[^":]+?)\s+on\s+(?P<on>\d{4}-\d\d-\d\d)\s+of\s+(?P<of>[0-9a-f]+)'
    ),
}
_FIELD = re.compile(
    rf"(?P<name>{_NAME})\s*:\s*(?P<type>{_NAME}(?:\[{_NAME}\])?)(?P<optional>\?)?(?P<personal>\s+personal)?"
)
_PLACE = re.compile(r"(?P<name>.+?)\s+(?P<x>-?\d{1,9})\s+(?P<y>-?\d{1,9})")


@dataclass
class _Draft:
    """An item of the text whose parts are still coming."""

    item: Context | Aggregate
    parts: dict[str, list[object]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


@dataclass
class _Reader:
    model: _Draft | None = None
    contexts: list[Context] = field(default_factory=list)
    context: _Draft | None = None
    aggregate: _Draft | None = None
    hotspots: list[Hotspot] = field(default_factory=list)
    required: list[str] = field(default_factory=list)
    signatures: list[Signature] = field(default_factory=list)
    layout: list[Place] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    in_layout: bool = False
    in_wall: bool = False
    hung: wall.Draft | None = None

    def take_notes(self) -> tuple[str, ...]:
        notes, self.notes = tuple(self.notes), []
        return notes

    def close_aggregate(self) -> None:
        if self.aggregate is not None and self.context is not None:
            draft, a = self.aggregate, self.aggregate.item
            assert isinstance(a, Aggregate)
            commands = tuple(c for c in draft.parts.get("command", []) if isinstance(c, Command))
            events = tuple(e for e in draft.parts.get("event", []) if isinstance(e, Event))
            done = Aggregate(a.name, commands, events, a.fields, tuple(draft.unknown), a.notes, a.line)
            self.context.parts.setdefault("aggregate", []).append(done)
        self.aggregate = None

    def close_context(self) -> None:
        self.close_aggregate()
        if self.context is not None:
            draft, c = self.context, self.context.item
            self.contexts.append(
                Context(
                    c.name,
                    tuple(a for a in draft.parts.get("aggregate", []) if isinstance(a, Aggregate)),
                    tuple(p for p in draft.parts.get("policy", []) if isinstance(p, Policy)),
                    tuple(r for r in draft.parts.get("readmodel", []) if isinstance(r, ReadModel)),
                    tuple(draft.unknown),
                    c.notes,
                    c.line,
                )
            )
        self.context = None

    def keep(self, line: str, indent: int) -> None:
        """A line that means nothing to us: it stays in the scope that its indentation says."""
        lines = [*self.take_notes(), line]
        if self.aggregate is not None and indent >= 4:
            self.aggregate.unknown += lines
        elif self.context is not None and indent >= 2:
            self.context.unknown += lines
        else:
            self.unknown += lines


def parse(text: str) -> Model:
    """The model that a text says; never fails: what is not understood becomes ``unknown`` and is found by lint."""
    reader = _Reader()
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line:
            continue
        _read(reader, line, len(raw) - len(raw.lstrip()), number)
    trailing = reader.take_notes()
    reader.close_context()
    return Model(
        tuple(reader.contexts),
        tuple(reader.hotspots),
        tuple(reader.required),
        tuple(reader.signatures),
        tuple(reader.layout),
        tuple(reader.unknown),
        trailing,
        reader.hung.done() if reader.hung is not None else Wall(),
    )


def _read(reader: _Reader, line: str, indent: int, number: int) -> None:
    if line.startswith("#"):
        reader.notes.append(line)
        return
    if line == "layout":
        reader.close_context()
        reader.in_layout, reader.in_wall = True, False
        return
    if line == "wall":
        reader.close_context()
        reader.in_layout, reader.hung = False, reader.hung or wall.Draft()
        reader.in_wall = True
        return
    if reader.in_wall and indent > 0 and reader.hung is not None and reader.hung.take(line):
        return
    if reader.in_layout and indent > 0 and (place := _PLACE.fullmatch(line)):
        reader.layout.append(Place(place["name"], int(place["x"]), int(place["y"])))
        return
    kind, match = next(((k, m) for k, p in _PATTERNS.items() if (m := p.fullmatch(line))), ("", None))
    if match is None or not _take(reader, kind, match.groupdict(), number):
        reader.keep(line, indent)


def _take(reader: _Reader, kind: str, found: dict[str, str | None], number: int) -> bool:
    """Put an understood line where it belongs; False when it has no place there."""
    name = found.get("name") or ""
    fields = read_fields(found.get("fields") or "")
    if fields is None:
        return False
    match kind:
        case "context":
            reader.close_context()
            reader.in_layout = reader.in_wall = False
            reader.context = _Draft(Context(name, notes=reader.take_notes(), line=number))
        case "aggregate" if reader.context is not None:
            reader.close_aggregate()
            reader.aggregate = _Draft(Aggregate(name, fields=fields, notes=reader.take_notes(), line=number))
        case "command" if reader.aggregate is not None:
            command = Command(name, fields, reader.take_notes(), number)
            reader.aggregate.parts.setdefault(kind, []).append(command)
        case "event" if reader.aggregate is not None:
            version = int(found["version"] or 1)
            event = Event(name, fields, version, found["key"], reader.take_notes(), number)
            reader.aggregate.parts.setdefault(kind, []).append(event)
        case "policy" if reader.context is not None:
            policy = Policy(name, _names(found["events"]), _names(found["commands"]), reader.take_notes(), number)
            reader.context.parts.setdefault(kind, []).append(policy)
        case "readmodel" if reader.context is not None:
            seen = ReadModel(name, _names(found["events"]), reader.take_notes(), number)
            reader.context.parts.setdefault(kind, []).append(seen)
        case "hotspot":
            reader.hotspots.append(Hotspot(name, found["on"] or "", found["answer"], reader.take_notes(), number))
        case "required":
            reader.required += [role for part in (found["roles"] or "").split(",") if (role := part.strip())]
        case "signature":
            return _take_signature(reader, found, number)
        case _:
            return False
    return True


def _take_signature(reader: _Reader, found: dict[str, str | None], number: int) -> bool:
    try:
        day = date.fromisoformat(found["on"] or "")
    except ValueError:
        return False
    reader.signatures.append(Signature(found["name"] or "", found["role"] or "", day, found["of"] or "", number))
    return True


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def read_fields(text: str) -> tuple[Field, ...] | None:
    """The fields that a text between brackets says; None when it is not understood."""
    if not text.strip():
        return ()
    found = []
    for part in text.split(","):
        match = _FIELD.fullmatch(part.strip())
        if match is None:
            return None
        found.append(Field(match["name"], match["type"], bool(match["optional"]), bool(match["personal"])))
    return tuple(found)


def show(model: Model) -> str:
    """The model as text; the same model gives the same text."""
    lines: list[str] = []
    if model.unknown:  # first: further down they might be taken for parts of a context
        lines += [*model.unknown, ""]
    for context in model.contexts:
        lines += [*_context(context), ""]
    for hotspot in model.hotspots:
        answer = f' answered "{hotspot.answer}"' if hotspot.answer else ""
        lines += [*hotspot.notes, f'hotspot "{hotspot.name}" on {hotspot.on}{answer}']
    if model.required:
        lines.append(f"signoff required: {', '.join(model.required)}")
    for s in model.signatures:
        lines.append(f'signoff by "{s.name}" as {s.role} on {s.on.isoformat()} of {s.of}')
    if model.layout:
        lines += ["", "layout", *(f"  {place.name} {place.x} {place.y}" for place in model.layout)]
    if hung := wall.show(model.wall):
        lines += ["", "wall", *(f"  {line}" for line in hung)]
    lines += model.notes
    return "\n".join(lines).strip("\n") + "\n" if lines else ""


def _context(context: Context) -> list[str]:
    lines = [*context.notes, f"context {context.name}"]
    lines += [f"  {line}" for line in context.unknown]
    for aggregate in context.aggregates:
        lines += [f"  {note}" for note in aggregate.notes]
        lines.append(f"  aggregate {aggregate.name}{show_fields(aggregate.fields)}")
        lines += [f"    {line}" for line in aggregate.unknown]
        for command in aggregate.commands:
            lines += [f"    {note}" for note in command.notes]
            lines.append(f"    command {command.name}{show_fields(command.fields)}")
        for event in aggregate.events:
            key = f" key {event.key}" if event.key else ""
            lines += [f"    {note}" for note in event.notes]
            lines.append(f"    event {event.name}{show_fields(event.fields)} v{event.version}{key}")
    for policy in context.policies:
        lines += [f"  {note}" for note in policy.notes]
        lines.append(f'  policy "{policy.name}": {", ".join(policy.events)} -> {", ".join(policy.commands)}'.rstrip())
    for seen in context.readmodels:
        lines += [f"  {note}" for note in seen.notes]
        lines.append(f"  readmodel {seen.name} <- {', '.join(seen.events)}".rstrip())
    return lines


def show_fields(fields: tuple[Field, ...]) -> str:
    """Fields as text, in brackets; nothing when there are none."""
    shown = [f"{f.name}: {f.type}{'?' if f.optional else ''}{' personal' if f.personal else ''}" for f in fields]
    return f"({', '.join(shown)})" if shown else ""
