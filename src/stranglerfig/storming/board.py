"""The board that people share and the model that they agree on: each made from the other, without loss.

A board is stickies, arrows and contexts by id; a model is what the text form says. What fits the model's grammar
becomes part of a context; anything else stays a sticky of the section ``wall``. Signatures, required roles and lines
that nobody understands are not on the board: :func:`to_model` takes them from the model that was there before.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from stranglerfig.storming.model import (
    Aggregate,
    Area,
    Command,
    Comment,
    Context,
    Event,
    Field,
    Hotspot,
    Lane,
    Link,
    Model,
    Place,
    Policy,
    ReadModel,
    Sticky,
    Wall,
)
from stranglerfig.storming.text import read_fields, show_fields

_NAME = re.compile(r"[A-Za-z_]\w*")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")
_SPEC = re.compile(r"(?:\((?P<fields>[^()]*)\))?(?: ?v(?P<version>\d+))?(?: key (?P<key>\w+))?")
SIZES: Mapping[str, tuple[int, int]] = {
    "event": (160, 96),
    "command": (160, 96),
    "aggregate": (200, 136),
    "policy": (200, 120),
    "readmodel": (160, 96),
    "external": (230, 96),
    "actor": (120, 72),
    "hotspot": (150, 96),
}
"""Width and height of a sticky, as the page draws it."""
_FLOW = ("actor", "policy", "command", "external", "aggregate", "event", "readmodel", "hotspot")
_ROWS, _GAP = 4, 40
_MARGIN = 60
_LATER = 1 << 30


@dataclass(frozen=True, slots=True)
class Note:
    """A sticky. ``spec`` is its fields, version and key; ``remarks`` the text's comment lines above it; ``kept`` lines
    inside it that nobody understands; ``answer`` that of a hotspot."""

    id: str
    kind: str
    text: str
    x: int
    y: int
    context: str | None = None
    spec: str = ""
    answer: str | None = None
    pivotal: bool = False
    remarks: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow. ``written`` is how the text names its far end; ``order`` where it stands in the text's list."""

    source: str
    target: str
    written: str | None = None
    order: int | None = None

    @property
    def id(self) -> str:
        """Two people who draw the same arrow draw one."""
        return f"{self.source}>{self.target}"


@dataclass(frozen=True, slots=True)
class Boundary:
    """A bounded context, drawn."""

    id: str
    name: str
    x: int
    y: int
    width: int
    height: int
    remarks: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Band:
    """A swimlane: all of the wall between ``y`` and ``y + height``."""

    id: str
    name: str
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Said:
    """A comment on a hotspot; ``order`` is when."""

    id: str
    note: str
    by: str
    words: str
    order: int = 0


@dataclass(frozen=True, slots=True)
class Board:
    """All that hangs on the wall, by id."""

    notes: Mapping[str, Note] = field(default_factory=dict)
    edges: Mapping[str, Edge] = field(default_factory=dict)
    contexts: Mapping[str, Boundary] = field(default_factory=dict)
    comments: Mapping[str, Said] = field(default_factory=dict)
    lanes: Mapping[str, Band] = field(default_factory=dict)


def cleaned(words: str) -> str:
    """Words as a line of text can hold them."""
    return " ".join(words.replace('"', "'").split())


class _Names:
    """Whom a reference in the text means: ``parts`` are what the contexts hold, as (kind, context, name)."""

    def __init__(self, parts: Mapping[str, tuple[str, str, str]], loose: Iterable[Note]) -> None:
        self._plain: dict[tuple[str | None, str], list[tuple[str, str]]] = {}
        self._loose: dict[tuple[str, str], str] = {}
        for id_, (kind, context, name) in parts.items():
            for wanted in (kind, None) if kind != "hotspot" else ():  # a question is on anything but a question
                self._plain.setdefault((wanted, name), []).append((context, id_))
        for note in loose:
            self._loose.setdefault((note.kind, note.text), note.id)

    def resolve(self, name: str, kind: str | None, home: str) -> str | None:
        """The note that ``name`` means in the context ``home``."""
        found = self._plain.get((kind, name), [])
        here = [id_ for context, id_ in found if context == home]
        if len(here) == 1 or len(found) == 1:
            return here[0] if here else found[0][1]
        context, dot, rest = name.partition(".")
        there = [id_ for each, id_ in self._plain.get((kind, rest), []) if each == context] if dot else []
        if len(there) == 1:
            return there[0]
        return self._loose.get((kind, name)) if kind is not None and not found else None


# From the board to the model.


class _Writer:
    def __init__(self, board: Board) -> None:
        self.board = board
        self.notes = {n.id: replace(n, text=cleaned(n.text), spec=cleaned(n.spec)) for n in board.notes.values()}
        known = [e for e in board.edges.values() if e.source in self.notes and e.target in self.notes]
        self.edges = sorted(known, key=self._rank)
        self.home: dict[str, str] = {}  # of a note that is part of a context's model: the boundary
        self.owner: dict[str, str] = {}  # of a command or an event: its aggregate
        self.said: set[str] = set()  # arrows that the contexts say
        self.keys: dict[str, str] = {}
        self.names = self._boundaries()
        self._settle()
        self.meant = _Names(self.parts(), self.loose())

    def parts(self) -> dict[str, tuple[str, str, str]]:
        """Kind, context and name of what the contexts take."""
        return {i: (self.notes[i].kind, self.names.get(home, ""), self.notes[i].text) for i, home in self.home.items()}

    def _rank(self, edge: Edge) -> tuple[int, int, int, str]:
        order = _LATER if edge.order is None else edge.order
        return order, self.notes[edge.source].x, self.notes[edge.target].x, edge.id

    def _boundaries(self) -> dict[str, str]:
        """A name for each boundary that no other has."""
        taken: set[str] = set()
        names = {}
        for each in sorted(self.board.contexts.values(), key=lambda c: (cleaned(c.name), c.x, c.y, c.id)):
            names[each.id] = _free(cleaned(each.name), taken)
        return names

    def _settle(self) -> None:
        """Say which notes the contexts' model takes, and under which aggregate."""
        taken: set[tuple[str, str, str]] = set()

        def settle(note: Note, home: str | None) -> bool:
            if home is None or not _NAME.fullmatch(self.names.get(home, "")):
                return False
            plain = note.text if note.kind == "policy" else _NAME.fullmatch(note.text)
            if not plain or (home, note.kind, note.text) in taken or not _fits(note):
                return False
            taken.add((home, note.kind, note.text))
            self.home[note.id] = home
            return True

        for note in self._by_place("aggregate", "policy", "readmodel"):
            settle(note, note.context)
        for edge in self.edges:
            source, target = self.notes[edge.source], self.notes[edge.target]
            if (source.kind, target.kind) == ("command", "aggregate"):
                part, owner = source, target
            elif (source.kind, target.kind) == ("aggregate", "event"):
                part, owner = target, source
            else:
                continue
            together = owner.id in self.home and part.context == self.home[owner.id]
            if part.id not in self.owner and together and settle(part, part.context):
                self.owner[part.id] = owner.id
                self.said.add(edge.id)

    def _by_place(self, *kinds: str) -> list[Note]:
        chosen = [n for n in self.notes.values() if n.kind in kinds]
        return sorted(chosen, key=lambda n: (n.x, n.y, n.text, n.id))

    def reference(self, note: Note, edge: Edge, home: str, *, kind: str | None) -> str | None:
        """How a policy, a read model or a hotspot of the context ``home`` names ``note``; None when it cannot."""
        wanted = [edge.written] if edge.written is not None else []
        wanted.append(note.text)
        if note.id in self.home:
            wanted.append(f"{self.names[self.home[note.id]]}.{note.text}")
        for name in wanted:
            if _REFERENCE.fullmatch(name) and self.meant.resolve(name, kind, home) == note.id:
                return name
        return None

    def ends(self, note: Note, kind: str, *, into: bool) -> tuple[str, ...]:
        """The names of what is joined to ``note`` by arrows from (or to) notes of ``kind``."""
        names: list[str] = []
        for edge in self.edges:
            near, far = (edge.target, edge.source) if into else (edge.source, edge.target)
            if near != note.id or self.notes[far].kind != kind:
                continue
            name = self.reference(self.notes[far], edge, self.names[self.home[note.id]], kind=kind)
            if name is not None and name not in names:
                names.append(name)
                self.said.add(edge.id)
        return tuple(names)

    def context(self, boundary: Boundary) -> Context:
        inside = [n for n in self.notes.values() if self.home.get(n.id) == boundary.id]
        aggregates = []
        for note in inside:
            if note.kind != "aggregate":
                continue
            parts = [p for p in inside if self.owner.get(p.id) == note.id]
            commands = tuple(Command(p.text, _fields(p), p.remarks) for p in parts if p.kind == "command")
            events = tuple(_event(p) for p in parts if p.kind == "event")
            aggregates.append(Aggregate(note.text, commands, events, _fields(note), note.kept, note.remarks))
        policies = (
            Policy(n.text, self.ends(n, "event", into=True), self.ends(n, "command", into=False), n.remarks)
            for n in inside
            if n.kind == "policy"
        )
        seen = (ReadModel(n.text, self.ends(n, "event", into=True), n.remarks) for n in inside if n.kind == "readmodel")
        return Context(
            self.names[boundary.id], tuple(aggregates), tuple(policies), tuple(seen), boundary.kept, boundary.remarks
        )

    def hotspots(self) -> tuple[Hotspot, ...]:
        found = []
        taken: set[str] = set()
        for note in self._by_place("hotspot"):
            on, said = note.spec.removeprefix("on ") if note.spec.startswith("on ") else None, None
            for edge in self.edges:
                if on is None and edge.source == note.id:
                    on = self.reference(self.notes[edge.target], edge, "", kind=None)
                    said = edge.id if on is not None else None
            if on is None or not _REFERENCE.fullmatch(on) or not note.text or note.text in taken:
                continue
            taken.add(note.text)
            self.said |= {said} if said is not None else set()
            self.home[note.id] = ""
            found.append(Hotspot(note.text, on, cleaned(note.answer or "") or None, note.remarks))
        return tuple(found)

    def name_all(self) -> None:
        """Give each note the key by which layout and wall name it."""
        self.keys = _keys(self.parts())
        taken = set(self.keys.values())
        for note in self.loose():
            self.keys[note.id] = _free(note.text, taken)

    def loose(self) -> list[Note]:
        """The notes that the contexts do not take, in the order of the text."""
        chosen = [n for n in self.notes.values() if n.id not in self.home]
        return sorted(chosen, key=lambda n: (repr(self.sticky(n)), n.id))

    def sticky(self, note: Note) -> Sticky:
        spec = note.spec or (f"answered {answer}" if (answer := cleaned(note.answer or "")) else "")
        inside = self.names.get(note.context) if note.context is not None else None
        return Sticky(note.kind, note.text, note.x, note.y, spec, inside)

    def wall(self) -> Wall:
        loose = self.loose()
        areas = (Area(self.names[c.id], c.x, c.y, c.width, c.height) for c in self.board.contexts.values())
        links = (Link(self.keys[e.source], self.keys[e.target]) for e in self.edges if e.id not in self.said)
        comments = sorted(self.board.comments.values(), key=lambda c: (c.order, c.id))
        return Wall(
            tuple(areas),
            tuple(self.sticky(n) for n in loose),
            tuple(links),
            tuple(self.keys[n.id] for n in self.notes.values() if n.pivotal),
            tuple(Comment(self.keys[c.note], cleaned(c.by), cleaned(c.words)) for c in comments if c.note in self.keys),
            tuple(Lane(cleaned(b.name), b.y, b.height) for b in self.board.lanes.values()),
        )


def to_model(board: Board, before: Model) -> Model:
    """The model that a board says; ``before`` gives what is not on the board."""
    writer = _Writer(board)
    named = {id_ for id_, name in writer.names.items() if _NAME.fullmatch(name)}
    # A boundary with nothing that the model takes is a rectangle on the wall, unless the text had it before.
    full = set(writer.home.values()) | {id_ for id_ in named if before.context(writer.names[id_]) is not None}
    contexts = tuple(writer.context(board.contexts[id_]) for id_ in sorted(named & full))
    hotspots = writer.hotspots()
    writer.name_all()
    layout = tuple(Place(writer.keys[id_], writer.notes[id_].x, writer.notes[id_].y) for id_ in writer.home)
    return replace(before, contexts=contexts, hotspots=hotspots, layout=layout, wall=writer.wall())


def spec_of(note: Note) -> tuple[str, int, str | None] | None:
    """A note's fields (as text), version and key; None when they are not understood."""
    match = _SPEC.fullmatch(note.spec)
    if match is None or read_fields(match["fields"] or "") is None:
        return None
    return match["fields"] or "", int(match["version"] or 1), match["key"]


def _fits(note: Note) -> bool:
    """Whether the text has words for a note's spec: only events have versions and keys."""
    if note.kind in ("policy", "readmodel"):
        return not note.spec
    spec = spec_of(note)
    return spec is not None and (note.kind == "event" or spec[1:] == (1, None))


def _fields(note: Note) -> tuple[Field, ...]:
    spec = spec_of(note)
    return (read_fields(spec[0]) or ()) if spec is not None else ()


def _event(note: Note) -> Event:
    _, version, key = spec_of(note) or ("", 1, None)
    return Event(note.text, _fields(note), version, key, note.remarks)


def _free(name: str, taken: set[str]) -> str:
    """``name``, or with the first number that makes it nobody else's."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} #{number}".strip()
    taken.add(free)
    return free


def _keys(items: Mapping[str, tuple[str, str, str]]) -> dict[str, str]:
    """Keys of a model's items, from kind, context and name: the name where it is the only one of that name."""
    often = Counter(name for _, _, name in items.values())
    taken: set[str] = {name for _, _, name in items.values() if often[name] == 1}
    keys = {}
    for id_, (kind, context, name) in items.items():
        keys[id_] = name if often[name] == 1 else _free(f"{kind} {context}.{name}", taken)
    return keys


# From the model to the board.

_Join: TypeAlias = tuple[str, str, str, str, int, bool]
"""A sticky; the name, kind and context of what it is joined to; where in the list; whether the arrow is into it."""


class _Hanger:
    def __init__(self, model: Model, board: Board) -> None:
        self.model = model
        self.old = board
        self.free = dict(board.notes)
        self.notes: dict[str, Note] = {}
        self.edges: dict[str, Edge] = {}
        self.parts: dict[str, tuple[str, str, str]] = {}
        self.unplaced: list[str] = []
        self.places: dict[str, tuple[int, int]] = {p.name: (p.x, p.y) for p in model.layout}

    def id_of(self, kind: str, home: str, text: str) -> str:
        """That of the note that is this one already, or a new one that two imports would choose alike."""
        same = [n for n in self.free.values() if (n.kind, n.text) == (kind, text)]
        names = {c.id: c.name for c in self.old.contexts.values()}
        same.sort(key=lambda n: (names.get(n.context or "", "") != home, n.id))
        if same:
            return self.free.pop(same[0].id).id
        number, id_ = 0, ""
        while not id_ or id_ in self.notes or id_ in self.old.notes:
            id_ = _digest(kind, home, text, str(number))
            number += 1
        return id_

    def join(self, source: str, target: str, written: str | None = None, order: int = 0) -> None:
        edge = Edge(source, target, written, order)
        self.edges.setdefault(edge.id, edge)

    def boundaries(self) -> dict[str, Boundary]:
        """The contexts by name; those that nobody has drawn have no size yet."""
        drawn = {area.name: area for area in self.model.wall.areas}
        known = {c.name: c for c in self.old.contexts.values()}
        said = {c.name: c for c in self.model.contexts}
        found = {}
        for name in [*said, *(name for name in drawn if name not in said)]:
            id_ = known[name].id if name in known else _digest("context", name)
            area = drawn.get(name) or known.get(name)
            place = (area.x, area.y, area.width, area.height) if area is not None else (0, 0, 0, 0)
            remarks, kept = (said[name].notes, said[name].unknown) if name in said else ((), ())
            found[name] = Boundary(id_, name, *place, remarks, kept)
        return found

    def part(self, kind: str, home: Boundary | None, text: str, **more: Any) -> str:
        name = home.name if home is not None else ""
        id_ = self.id_of(kind, name, text)
        self.parts[id_] = (kind, name, text)
        self.notes[id_] = Note(id_, kind, text, 0, 0, home.id if home is not None else None, **more)
        return id_

    def loose(self, kind: str, text: str, x: int, y: int, **more: Any) -> str:
        id_ = self.id_of(kind, "", text)
        self.notes[id_] = Note(id_, kind, text, x, y, **more)
        return id_

    def hang(self) -> Board:
        boundaries = self.boundaries()
        joins: list[_Join] = []
        for context in self.model.contexts:
            self._context(context, boundaries[context.name], joins)
        hot = [(self.part("hotspot", None, h.name, answer=h.answer, remarks=h.notes), h) for h in self.model.hotspots]
        named = self._put()
        self._stickies(boundaries, named)
        meant = self._join_all(joins)
        for id_, hotspot in hot:
            on = meant.resolve(hotspot.on, None, "")
            if on is None:
                self.notes[id_] = replace(self.notes[id_], spec=f"on {hotspot.on}")
            else:
                self.join(id_, on, hotspot.on)
        self._extras(named)
        self._place()
        drawn = {b.id: b if b.width else self._around(b) for b in boundaries.values()}
        for id_, _ in hot:  # the text says what a question is on, not where it is: it is where it hangs, as on the page
            self.notes[id_] = replace(self.notes[id_], context=_context_at(self.notes[id_], drawn.values()))
        edges = {e.id: e for e in self.edges.values()}
        return Board(self.notes, edges, drawn, self._comments(named), self._lanes())

    def _lanes(self) -> dict[str, Band]:
        """The swimlanes; one of a name that is on the wall keeps its id."""
        free = sorted(self.old.lanes.values(), key=lambda band: (band.y, band.id))
        found: dict[str, Band] = {}
        for lane in self.model.wall.lanes:
            same = next((band for band in free if cleaned(band.name) == lane.name), None)
            if same is not None:
                free.remove(same)
            number, id_ = 0, same.id if same is not None else ""
            while not id_ or (same is None and (id_ in found or id_ in self.old.lanes)):
                id_ = _digest("lane", lane.name, str(number))
                number += 1
            found[id_] = Band(id_, lane.name, lane.y, lane.height)
        return found

    def _put(self) -> dict[str, str]:
        """Put what the contexts hold where the layout, or the board before, says; returns the notes by key."""
        keys = _keys(self.parts)
        for id_, key in keys.items():
            note, was = self.notes[id_], self.old.notes.get(id_)
            if key in self.places:
                x, y = self.places[key]
            elif was is not None:
                x, y = was.x, was.y
            else:
                self.unplaced.append(id_)
                continue
            self.notes[id_] = replace(note, x=x, y=y)
        return {key: id_ for id_, key in keys.items()}

    def _meant(self) -> _Names:
        return _Names(self.parts, [n for n in self.notes.values() if n.id not in self.parts])

    def _join_all(self, joins: Iterable[_Join]) -> _Names:
        """Draw the arrows of policies and read models; what they name and nobody has becomes a sticky."""
        meant = self._meant()
        for near, name, kind, home, order, into in joins:
            far = meant.resolve(name, kind, home)
            if far is None:
                far = self.loose(kind, name, 0, 0)
                self.unplaced.append(far)
                meant = self._meant()
            self.join(far if into else near, near if into else far, name, order)
        return meant

    def _extras(self, named: Mapping[str, str]) -> None:
        for number, link in enumerate(self.model.wall.links):
            if link.source in named and link.target in named:
                self.join(named[link.source], named[link.target], None, 1000 + number)
        for name in self.model.wall.pivotal:
            if name in named:
                self.notes[named[name]] = replace(self.notes[named[name]], pivotal=True)

    def _context(self, context: Context, home: Boundary, joins: list[_Join]) -> None:
        for aggregate in context.aggregates:
            more = {"remarks": aggregate.notes, "kept": aggregate.unknown}
            owner = self.part("aggregate", home, aggregate.name, spec=show_fields(aggregate.fields), **more)
            for command in aggregate.commands:
                spec = show_fields(command.fields)
                self.join(self.part("command", home, command.name, spec=spec, remarks=command.notes), owner)
            for event in aggregate.events:
                version = f" v{event.version}" if event.version != 1 else ""
                spec = f"{show_fields(event.fields)}{version}" + (f" key {event.key}" if event.key else "")
                id_ = self.part("event", home, event.name, spec=spec.strip(), remarks=event.notes)
                self.join(owner, id_)
        for policy in context.policies:
            id_ = self.part("policy", home, policy.name, remarks=policy.notes)
            joins += [(id_, name, "event", home.name, i, True) for i, name in enumerate(policy.events)]
            joins += [(id_, name, "command", home.name, i, False) for i, name in enumerate(policy.commands)]
        for seen in context.readmodels:
            id_ = self.part("readmodel", home, seen.name, remarks=seen.notes)
            joins += [(id_, name, "event", home.name, i, True) for i, name in enumerate(seen.events)]

    def _stickies(self, boundaries: Mapping[str, Boundary], named: dict[str, str]) -> None:
        taken = set(named)
        for sticky in self.model.wall.stickies:
            home = boundaries.get(sticky.inside) if sticky.inside is not None else None
            answer = sticky.spec.removeprefix("answered ") if sticky.spec.startswith("answered ") else None
            more = {"context": home.id if home is not None else None, "answer": answer}
            spec = sticky.spec if answer is None else ""
            key = _free(sticky.name, taken)
            named[key] = self.loose(sticky.kind, sticky.name, sticky.x, sticky.y, spec=spec, **more)

    def _comments(self, named: Mapping[str, str]) -> dict[str, Said]:
        found = {}
        old = {(c.note, cleaned(c.by), cleaned(c.words)): c for c in self.old.comments.values()}
        for number, comment in enumerate(self.model.wall.comments):
            if comment.on in named:
                note = named[comment.on]
                id_ = _digest("comment", note, comment.by, comment.words, str(number))
                said = old.get((note, comment.by, comment.words)) or Said(id_, note, comment.by, comment.words, number)
                found[said.id] = said
        return found

    def _place(self) -> None:
        """Hang what has no place in columns, by context, below what has one."""
        on = {e.source: self.notes[e.target] for e in self.edges.values() if e.target not in self.unplaced}
        for id_ in [id_ for id_ in self.unplaced if self.notes[id_].kind == "hotspot" and id_ in on]:
            self.unplaced.remove(id_)
            self.notes[id_] = replace(self.notes[id_], x=on[id_].x - 90, y=on[id_].y - 84)
        bottom = max(
            (n.y + SIZES[n.kind][1] + _MARGIN for n in self.notes.values() if n.id not in self.unplaced), default=80
        )
        groups: dict[str, list[Note]] = {}
        for id_ in self.unplaced:
            groups.setdefault(self.notes[id_].context or "", []).append(self.notes[id_])
        for group in groups.values():
            left, low = 80, bottom
            for kind in _FLOW:
                width, height = SIZES[kind]
                hung = [note for note in group if note.kind == kind]
                for number, note in enumerate(hung):
                    column, row = divmod(number, _ROWS)
                    x, y = left + column * (width + _GAP), bottom + row * (height + _GAP)
                    self.notes[note.id] = replace(note, x=x, y=y)
                    low = max(low, y + height)
                left += -(-len(hung) // _ROWS) * (width + _GAP) + (_GAP if hung else 0)
            bottom = low + 3 * _MARGIN

    def _around(self, boundary: Boundary) -> Boundary:
        inside = [n for n in self.notes.values() if n.context == boundary.id]
        left, top = min((n.x for n in inside), default=80), min((n.y for n in inside), default=80)
        right = max((n.x + SIZES[n.kind][0] for n in inside), default=480)
        bottom = max((n.y + SIZES[n.kind][1] for n in inside), default=380)
        width, height = right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN
        return replace(boundary, x=left - _MARGIN, y=top - _MARGIN, width=width, height=height)


def _context_at(note: Note, drawn: Iterable[Boundary]) -> str | None:
    """The smallest boundary that the note's middle is in."""
    x, y = note.x + SIZES[note.kind][0] / 2, note.y + SIZES[note.kind][1] / 2
    around = [c for c in drawn if c.x <= x <= c.x + c.width and c.y <= y <= c.y + c.height]
    return min(around, key=lambda c: (c.width * c.height, c.id)).id if around else None


def _digest(*parts: str) -> str:
    return f"{parts[0]}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"


def to_board(model: Model, board: Board | None = None) -> Board:
    """The board that a model says; what hangs on ``board`` already keeps its id, and its place where none is said."""
    return _Hanger(model, board or Board()).hang()
