"""A first draft of a model from tables and routes: aggregates, commands, events, all to be corrected by people.

It is a beginning for a group in front of a wall, and says so: a hotspot keeps the gate shut until somebody has looked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stranglerfig.storming.board import SIZES
from stranglerfig.storming.lint import is_past
from stranglerfig.storming.model import Aggregate, Command, Context, Event, Field, Hotspot, Model, Place

_BY_METHOD = {
    "POST": ("Add", "Added"),
    "PUT": ("Set", "Set"),
    "PATCH": ("Change", "Changed"),
    "DELETE": ("Remove", "Removed"),
}
_PAST = {
    "begin": "begun", "bind": "bound", "buy": "bought", "find": "found", "freeze": "frozen", "give": "given",
    "hide": "hidden", "hold": "held", "keep": "kept", "leave": "left", "lose": "lost", "make": "made", "meet": "met",
    "pay": "paid", "put": "put", "read": "read", "run": "run", "sell": "sold", "send": "sent", "set": "set",
    "split": "split", "spend": "spent", "take": "taken", "undo": "undone", "win": "won", "withdraw": "withdrawn",
    "write": "written",
}  # fmt: skip
_DOUBLED = frozenset({"ship", "drop", "plan", "stop", "submit", "refer", "defer", "transfer", "commit", "swap", "tag"})
_TYPES = (
    (r"(small|big)?int(eger)?|serial", "int"), (r"boolean", "bool"), (r"numeric.*|money", "decimal"),
    (r"real|double precision", "float"), (r"timestamp.*", "timestamp"), (r"date", "date"), (r"uuid", "uuid"),
)  # fmt: skip
_LEFT, _TOP, _GAP, _BETWEEN, _COLUMNS = 80, 120, 40, 100, 4
"""Of the layout: where it begins, between stickies of a kind and of two kinds, and how many stand in a row."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A table that becomes an aggregate: its columns (name, PostgreSQL's type, optional) and its key's."""

    table: str
    columns: Sequence[tuple[str, str, bool]] = ()
    key: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """A route that becomes a command: the tables that it writes, the most written first."""

    method: str
    path: str
    tables: Sequence[str]


def draft(context: str, seeds: Sequence[Seed], wishes: Sequence[Wish]) -> Model:
    """The model: an aggregate for each table, and for each route a command and what has happened when it is done."""
    drafted: dict[str, list[tuple[Command, Event]]] = {seed.table: [] for seed in seeds}
    taken = set[str]()
    by_table = {seed.table: seed for seed in seeds}
    for wish in wishes:
        table = _about(wish)
        if table in by_table:
            pair = _pair(wish, by_table[table])
            if pair[0].name not in taken:
                taken.add(pair[0].name)
                drafted[table].append(pair)
    aggregates = tuple(
        Aggregate(
            camel(singular(seed.table)),
            tuple(command for command, _ in drafted[seed.table]),
            tuple(event for _, event in drafted[seed.table]),
            tuple(_field(*column) for column in seed.columns),
        )
        for seed in seeds
    )
    name = camel(context)
    notes = ("# A first draft, from the monolith's tables and routes. Nobody has agreed to it yet.",)
    question = "Are these the words of the business, and these its aggregates?"
    asked = tuple(Hotspot(question, each.name) for each in aggregates[:1])
    required = ("domain expert", "architect")
    return Model((Context(name, aggregates, notes=notes),), asked, required, layout=_laid_out(aggregates))


def _laid_out(aggregates: Sequence[Aggregate]) -> tuple[Place, ...]:
    """Time goes from left to right: commands, their aggregate, its events in one row each; below, what nobody asks."""
    (wide, high), (broad, tall) = SIZES["command"], SIZES["aggregate"]
    at, top = list[Place](), _TOP
    for each in (each for each in aggregates if each.commands):
        rows = max(len(each.commands), len(each.events))
        height = max(tall, rows * (high + _GAP) - _GAP)
        middle, right = _LEFT + wide + _BETWEEN, _LEFT + wide + broad + 2 * _BETWEEN
        at.append(Place(each.name, middle, top + (height - tall) // 2))
        sides: tuple[tuple[int, Sequence[Command | Event]], ...] = ((_LEFT, each.commands), (right, each.events))
        for x, stickies in sides:
            first = top + (height - (len(stickies) * (high + _GAP) - _GAP)) // 2
            at += [Place(sticky.name, x, first + row * (high + _GAP)) for row, sticky in enumerate(stickies)]
        top += height + 2 * _GAP
    for number, each in enumerate(each for each in aggregates if not each.commands):
        row, column = divmod(number, _COLUMNS)
        at.append(Place(each.name, _LEFT + column * (broad + _GAP), top + row * (tall + _GAP)))
    often = Counter(place.name for place in at)
    return tuple(place for place in at if often[place.name] == 1)  # the wall finds a place for what shares its name


def camel(name: str) -> str:
    """``stock_level`` → ``StockLevel``."""
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", name.rpartition(".")[2]))


def singular(name: str) -> str:
    """``order_lines`` → ``order_line``: good enough for people to correct."""
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    if name.endswith(("sses", "shes", "ches", "xes")):
        return name[:-2]
    return name[:-1] if name.endswith("s") and not name.endswith(("ss", "us", "is")) else name


def past(verb: str) -> str:
    """``adjust`` → ``adjusted``, ``send`` → ``sent``."""
    if verb in _PAST:
        return _PAST[verb]
    if verb.endswith("e"):
        return f"{verb}d"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return f"{verb[:-1]}ied"
    return f"{verb}{verb[-1]}ed" if verb in _DOUBLED else f"{verb}ed"


def _about(wish: Wish) -> str:
    """The table that a route is about: one that its path names, else the one that it writes most."""
    said = {singular(part) for part in _said(wish.path)}
    return next((table for table in wish.tables if singular(table.rpartition(".")[2]) in said), wish.tables[0])


def _said(path: str) -> list[str]:
    return [
        part.lower().replace("-", "_") for part in path.strip("/").split("/") if re.fullmatch(r"[A-Za-z][\w-]*", part)
    ]


def _pair(wish: Wish, seed: Seed) -> tuple[Command, Event]:
    noun = camel(singular(seed.table))
    said = _said(wish.path)
    last = wish.path.strip("/").rpartition("/")[2].lower().replace("-", "_")
    about = {singular(seed.table.rpartition(".")[2]), singular(said[0]) if said else ""}
    do, done = _BY_METHOD.get(wish.method, _BY_METHOD["POST"])
    if last in said[1:] and singular(last) not in about:
        verb, _, rest = last.partition("_")
        if is_past(verb) or verb.endswith("ing"):
            noun = camel(last) + noun
        elif last == singular(last):
            do, done = camel(last), camel(past(verb)) + camel(rest)
        else:
            noun += camel(singular(last))
    keys = tuple(_field(*column) for column in seed.columns if column[0] in seed.key)
    key = keys[0].name if keys else None
    return Command(f"{do}{noun}", keys), Event(f"{noun}{done}", keys, key=key)


def _field(name: str, kind: str, optional: bool) -> Field:
    plain = kind.removesuffix("[]")
    found = next((ours for pattern, ours in _TYPES if re.fullmatch(pattern, plain)), "str")
    return Field(re.sub(r"\W", "_", name), f"list[{found}]" if kind != plain else found, optional)
