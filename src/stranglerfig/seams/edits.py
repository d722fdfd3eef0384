"""What people change in a proposal: tables moved, contexts renamed. Steps that can be undone, kept as text.

A step speaks of contexts by the names that they had at that moment. Steps are replayed on the proposal each time, so
that a proposal from newer evidence takes what still fits of them. Pure: who reads and writes the file is elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams.ranking import Ranking, unknown_table

VERSION = 1
NAME = re.compile(r"[A-Za-z]\w*")
"""A context's name; lower case is made of it, so that two never differ in their case alone."""


@dataclass(frozen=True, slots=True)
class Move:
    """Put tables into the context of that name; one that is not there is made."""

    tables: tuple[str, ...]
    to: str


@dataclass(frozen=True, slots=True)
class Rename:
    """Give a context another name."""

    context: str
    to: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Back to what was proposed; what was done before can still be had by undoing this."""


Step = Move | Rename | Proposal


@dataclass(frozen=True, slots=True)
class Edits:
    """Steps in the order in which they were done; ``undone`` are those that can be done again, the next one last."""

    steps: tuple[Step, ...] = ()
    undone: tuple[Step, ...] = ()

    def did(self, step: Step) -> Edits:
        """With one more step; what was undone is forgotten."""
        return Edits((*self.steps, step))

    def undo(self) -> Edits:
        """Without the last step; the same where there is none."""
        return Edits(self.steps[:-1], (*self.undone, self.steps[-1])) if self.steps else self

    def redo(self) -> Edits:
        """With the step that was undone last; the same where there is none."""
        return Edits((*self.steps, self.undone[-1]), self.undone[:-1]) if self.undone else self


@dataclass(frozen=True, slots=True)
class Division:
    """The tables of each context by its name, and how the proposal calls those contexts that it has."""

    contexts: Mapping[str, frozenset[str]]
    origins: Mapping[str, str] = field(default_factory=dict)

    def of(self, table: str) -> str:
        """The context that a table is in."""
        return next(name for name, tables in self.contexts.items() if table in tables)


def proposed(ranking: Ranking) -> Division:
    """What was proposed."""
    names = [each.name for each in ranking.candidates]
    return Division(
        {each.name: frozenset(each.tables) for each in ranking.candidates}, dict(zip(names, names, strict=True))
    )


def after(step: Step, now: Division, proposal: Division) -> Division:
    """What a step makes of a division.

    Raises:
        FigError: ``unknown_table``, ``unknown_candidate``, ``context_name`` for one that is none or is taken.
    """
    match step:
        case Move(tables, to):
            return _moved(tables, to, now, proposal)
        case Rename(context, to):
            return _renamed(context, to, now)
        case Proposal():
            return proposal


def _moved(tables: Sequence[str], to: str, now: Division, proposal: Division) -> Division:
    known = {table for each in now.contexts.values() for table in each}
    if wrong := sorted(set(tables) - known):
        raise unknown_table(wrong[0], "a move is given for", known)
    name = to if to in now.contexts else _valid(to)
    going = frozenset(tables)
    contexts = {each: inside - going for each, inside in now.contexts.items()}
    contexts[name] = contexts.get(name, frozenset()) | going
    origins = dict(now.origins)
    if name not in now.contexts and name in proposal.contexts and name not in origins.values():
        origins[name] = name  # it had lost its last table, and has one again
    left = {each: inside for each, inside in contexts.items() if inside}
    return Division(left, {each: origin for each, origin in origins.items() if each in left})


def _renamed(context: str, to: str, now: Division) -> Division:
    if context not in now.contexts:
        raise FigError(
            "unknown_candidate",
            f"there is no candidate '{context}'; there are: {', '.join(now.contexts)}",
            "Name one of these.",
            candidate=context,
        )
    name = _valid(to)
    if name == context:
        return now
    if name in now.contexts:
        raise FigError(
            "context_name",
            f"there is a context '{name}' already",
            "Choose another name; to make one of two contexts, move the tables of one into the other.",
            context=name,
        )
    return Division(
        {name if each == context else each: inside for each, inside in now.contexts.items()},
        {name if each == context else each: origin for each, origin in now.origins.items()},
    )


def _valid(name: str) -> str:
    if not NAME.fullmatch(name):
        raise FigError(
            "context_name",
            f"'{name}' is no name of a context",
            "Begin with a letter, and use letters, digits and _ only.",
            context=name,
        )
    return name.lower()


def fresh(table: str, now: Division) -> str:
    """A name for a new context that begins with that table."""
    word = re.sub(r"\W", "_", table.rpartition(".")[2]).strip("_").lower()
    word = word if NAME.fullmatch(word) else f"context_{word}".rstrip("_")
    number, name = 1, word
    while name in now.contexts:
        number += 1
        name = f"{word}_{number}"
    return name


def replayed(edits: Edits, proposal: Division) -> tuple[Division, tuple[Step, ...]]:
    """The proposal after all steps, and the steps that fit it no longer and were left out."""
    now, left = proposal, list[Step]()
    for step in edits.steps:
        try:
            now = after(step, now, proposal)
        except FigError:
            left.append(step)
    return now, tuple(left)


def as_moves(now: Division, proposal: Division) -> dict[str, str]:
    """The moves that make the division of the proposal in one: what ``--move`` is given for the same."""
    before = {table: name for name, tables in proposal.contexts.items() for table in tables}
    moved = {table: name for name, tables in now.contexts.items() for table in tables if before.get(table) != name}
    return dict(sorted(moved.items()))


def show(edits: Edits) -> str:
    """The edits as JSON text, a step a line: made for differences, and the same for the same edits."""

    def lines(steps: Sequence[Step]) -> str:
        return ",".join(f"\n    {json.dumps(_said(step), ensure_ascii=False)}" for step in steps) + (
            "\n  " if steps else ""
        )

    return f'{{\n  "version": {VERSION},\n  "steps": [{lines(edits.steps)}],\n  "undone": [{lines(edits.undone)}]\n}}\n'


def parse(text: str) -> Edits:
    """What :func:`show` wrote.

    Raises:
        FigError: ``seams_edits_invalid``.
    """
    try:
        said = json.loads(text)
    except ValueError as error:
        raise _invalid(str(error)) from error
    if not isinstance(said, dict) or said.get("version") != VERSION:
        raise _invalid(f"it is no object with version {VERSION}")
    steps, undone = (said.get(name, []) for name in ("steps", "undone"))
    if not isinstance(steps, list) or not isinstance(undone, list):
        raise _invalid("steps and undone are lists")
    return Edits(tuple(map(step_of, steps)), tuple(map(step_of, undone)))


def step_of(said: Any) -> Step:
    """A step from its JSON.

    Raises:
        FigError: ``seams_edits_invalid``.
    """
    match said:
        case {"move": [_, *_] as tables, "to": str(to)} if all(isinstance(table, str) for table in tables):
            return Move(tuple(tables), to)
        case {"rename": str(context), "to": str(to)}:
            return Rename(context, to)
        case {"proposal": True}:
            return Proposal()
    raise _invalid(f"{json.dumps(said)[:200]} is no step")


def _said(step: Step) -> dict[str, Any]:
    match step:
        case Move(tables, to):
            return {"move": list(tables), "to": to}
        case Rename(context, to):
            return {"rename": context, "to": to}
        case Proposal():
            return {"proposal": True}


def _invalid(why: str) -> FigError:
    return FigError(
        "seams_edits_invalid",
        f"these are not edits of candidate contexts: {why}",
        "Correct the file, or move it away and begin with the proposal.",
    )
