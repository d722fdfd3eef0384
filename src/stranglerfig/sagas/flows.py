"""Choreographed flows: services react to each other's events, and nobody conducts. Pure: no I/O.

Each reaction is declared: the event, who reacts, and what may follow. So the flow can be drawn in one place, found to
run in circles before it does, and held against what really happened: events of one correlation, each naming the one
that caused it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stranglerfig.foundation.errors import FigError


class Reaction(NamedTuple):
    """A service reacts to a type of event, and then says one of these, or nothing where it ``may_stay_silent``."""

    service: str
    event: str
    emits: tuple[str, ...]
    may_stay_silent: bool = False


@dataclass(frozen=True)
class Drawing:
    """A flow as declared.

    Attributes:
        starts: the types that begin one.
        ends: the types after which nothing need follow.
        within: seconds after which a reaction that has not come is missed.
        max_hops: how long a path may get, where the flow runs in circles on purpose; None: it does not.
    """

    name: str
    starts: tuple[str, ...]
    ends: tuple[str, ...]
    reactions: tuple[Reaction, ...] = ()
    within: float = 60.0
    max_hops: int | None = None

    def reactions_to(self, event: str) -> list[Reaction]:
        """Who reacts to a type of event."""
        return [each for each in self.reactions if each.event == event]

    @property
    def events(self) -> list[str]:
        """All types that play a part, in the order in which they are met."""
        found = dict.fromkeys(self.starts)
        for reaction in self.reactions:
            found |= dict.fromkeys((reaction.event, *reaction.emits))
        return [*(found | dict.fromkeys(self.ends))]


class Happened(NamedTuple):
    """An event of a flow that was seen: ``cause`` is another one's id, ``at`` in seconds since 1970."""

    id: str
    type: str
    source: str
    cause: str | None
    at: float


@dataclass(frozen=True)
class Course:
    """One flow as it went.

    Attributes:
        path: what happened, each with the number of hops from the start, in order of time.
        missed: reactions that should have come: who did not react to which event.
        waiting: reactions that may still come.
        early: what was seen before its cause was, which may still come: each topic is read at a pace of its own.
        surprises: what happened and is not drawn, in words.
        ends: the ends that were reached.
    """

    path: list[tuple[Happened, int]]
    missed: list[tuple[Reaction, Happened]] = field(default_factory=list)
    waiting: list[tuple[Reaction, Happened]] = field(default_factory=list)
    early: list[Happened] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """``stopped`` (somebody did not react), ``surprising``, ``running`` or ``done``."""
        if self.missed:
            return "stopped"
        if self.surprises:
            return "surprising"
        return "running" if self.waiting or self.early or not self.ends else "done"


def cycles(reactions: Iterable[Reaction]) -> list[list[str]]:
    """The circles that a flow can run in: its strongly connected components (Tarjan 1972) of more than one event type,
    or of one that follows from itself."""
    follow: dict[str, list[str]] = defaultdict(list)
    for each in reactions:
        follow[each.event] += each.emits
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(event: str) -> None:
        numbers[event] = lowest[event] = len(numbers)
        stack.append(event)
        for after in follow.get(event, ()):
            if after not in numbers:
                visit(after)
                lowest[event] = min(lowest[event], lowest[after])
            elif after in stack:
                lowest[event] = min(lowest[event], numbers[after])
        if lowest[event] == numbers[event]:
            circle = [stack.pop()]
            while circle[-1] != event:
                circle.append(stack.pop())
            if len(circle) > 1 or event in follow.get(event, ()):
                found.append(circle[::-1])

    for event in [*follow]:
        if event not in numbers:
            visit(event)
    return found


def check(drawing: Drawing) -> None:
    """Refuse a flow that cannot be kept to: one that runs in circles without a limit, or leads nowhere.

    Raises:
        FigError: ``flow_misdeclared``.
    """
    circles = cycles(drawing.reactions)
    if circles and drawing.max_hops is None:
        told = "; ".join(" → ".join([*circle, circle[0]]) for circle in circles)
        raise _misdeclared(
            drawing, f"it runs in circles: {told}", "break the circle, or say max_hops= where it is meant"
        )
    said = {event for reaction in drawing.reactions for event in reaction.emits} | {*drawing.starts}
    reacted = {reaction.event for reaction in drawing.reactions}
    if loose := sorted(said - reacted - {*drawing.ends}):
        raise _misdeclared(
            drawing, f"nobody reacts to {', '.join(loose)}, and that is no end of it", "declare who does, or the end"
        )
    if never := sorted(reacted - said):
        raise _misdeclared(drawing, f"nothing in it says {', '.join(never)}", "name it as a start, or who says it")


def course(drawing: Drawing, happened: Sequence[Happened], *, now: float) -> Course:
    """What became of one flow: its path, and where it is not as drawn.

    Args:
        happened: all events of one correlation, in any order, each once.
        now: seconds since 1970.
    """
    by_id = {each.id: each for each in happened}
    effects: dict[str, list[Happened]] = defaultdict(list)
    for each in happened:
        if each.cause is not None and each.cause in by_id and each.cause != each.id:
            effects[each.cause].append(each)
    hops = _hops(drawing, happened, by_id)
    found = Course(sorted(((by_id[id], hop) for id, hop in hops.items()), key=lambda step: (step[0].at, step[1])))
    known = {*drawing.events}
    for event, hop in found.path:
        if event.type not in known:
            found.surprises.append(f"{event.type} ({event.id}) is not drawn")
            continue
        if hop < 0 and now - event.at <= drawing.within:
            found.early.append(event)
        elif hop < 0:
            found.surprises.append(f"{event.type} ({event.id}) follows from nothing that was seen")
        if drawing.max_hops is not None and hop > drawing.max_hops:
            found.surprises.append(
                f"{event.type} ({event.id}) is {hop} steps from the start, more than {drawing.max_hops}"
            )
        if event.type in drawing.ends:
            found.ends.append(event.type)
        _reacted(drawing, event, effects[event.id], now, found)
    return found


def _reacted(drawing: Drawing, event: Happened, effects: Sequence[Happened], now: float, found: Course) -> None:
    """Hold what followed from an event against who should have reacted to it."""
    drawn: set[str] = set()
    for reaction in drawing.reactions_to(event.type):
        drawn |= {*reaction.emits}
        if reaction.may_stay_silent or any(effect.type in reaction.emits for effect in effects):
            continue
        (found.missed if now - event.at > drawing.within else found.waiting).append((reaction, event))
    for effect in effects:
        if effect.type not in drawn and effect.type in {*drawing.events}:
            found.surprises.append(f"{effect.type} ({effect.id}) followed from {event.type}, which is not drawn")


def _hops(drawing: Drawing, happened: Sequence[Happened], by_id: Mapping[str, Happened]) -> dict[str, int]:
    """How far each event is from a start of the flow; -1 where it follows from nothing that was seen."""
    hops: dict[str, int] = {}
    for each in happened:
        way, at = [], each
        while at.id not in hops and at not in way:
            way.append(at)
            if at.cause is None or at.cause not in by_id or at.cause == at.id:
                hops[at.id] = 0 if at.type in drawing.starts else -1
                way.pop()
                break
            at = by_id[at.cause]
        base = hops.get(at.id, -1)
        for step in reversed(way):
            base = base + 1 if base >= 0 else -1
            hops[step.id] = base
    return hops


def as_data(drawing: Drawing) -> dict[str, Any]:
    """The drawing as JSON."""
    return {
        "name": drawing.name, "starts": [*drawing.starts], "ends": [*drawing.ends], "within": drawing.within,
        "max_hops": drawing.max_hops,
        "reactions": [[*each[:2], [*each.emits], each.may_stay_silent] for each in drawing.reactions],
    }  # fmt: skip


def of_data(data: Mapping[str, Any]) -> Drawing:
    """The drawing of :func:`as_data`."""
    reactions = tuple(
        Reaction(service, event, tuple(emits), silent) for service, event, emits, silent in data["reactions"]
    )
    return Drawing(
        data["name"], tuple(data["starts"]), tuple(data["ends"]), reactions, data["within"], data["max_hops"]
    )


def _misdeclared(drawing: Drawing, what: str, remedy: str) -> FigError:
    return FigError("flow_misdeclared", f"the flow {drawing.name}: {what}", f"Mend its declaration: {remedy}.")
