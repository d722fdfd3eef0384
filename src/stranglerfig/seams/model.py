"""The evidence for seams, and the graph that it makes: tables, modules and routes, tied by what was found.

Each fact keeps where it was found, so that whatever is concluded can be shown. No I/O here.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import log2, sqrt

TABLE, MODULE, ROUTE, STATEMENT, TRANSACTION = "table", "module", "route", "statement", "transaction"

WEIGHTS: Mapping[str, float] = {
    "foreign_key": 1.0,
    "statement": 1.0,
    "transaction": 1.0,
    "routine": 1.0,
    "view": 0.5,
    "module": 1.0,
    "route": 0.5,
    "import": 0.2,
    "commit": 0.5,
}
"""How much one fact of a kind counts; a judgement of ours, the same for every monolith, not fitted to any."""

LONGEST = 4000
"""Characters that are kept of a text, such as a statement's, as evidence."""

FEW = 4
"""Sampled transactions that say little: a set of tables that was written in one n times, of m, counts n / (m + FEW)."""


@dataclass(frozen=True, slots=True)
class Node:
    """A table, a module or a route; ``str(node)`` is ``table:orders``."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the catalogue calls it; ``type`` is PostgreSQL's."""

    name: str
    type: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the monolith; ``columns`` and ``key`` are empty where only sources speak of it."""

    name: str
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key from ``table`` to ``target``; ``where`` is its definition, or the line of the model's field."""

    table: str
    target: str
    where: str


@dataclass(frozen=True, slots=True)
class Use:
    """Something that touches tables: a statement, a transaction, a routine, a view, a module or a route.

    ``counts`` says how often it names each table; ``times`` how often it was executed, where that is known, and ``of``
    how many sampled transactions wrote any of a transaction's tables; ``excerpt`` is its text; ``methods`` and
    ``module`` are a route's.
    """

    kind: str
    name: str
    where: str
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    counts: Mapping[str, int] = field(default_factory=dict)
    times: int = 1
    of: int = 0
    excerpt: str = ""
    methods: frozenset[str] = frozenset()
    module: str = ""
    places: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_route(
        cls, methods: frozenset[str], path: str, where: str, module: str, reads: frozenset[str],
        writes: frozenset[str], counts: Mapping[str, int], places: Mapping[str, str] | None = None,
    ) -> Use:  # fmt: skip
        """What a route touches; one that says no ``methods`` is taken to be a POST where it writes, else a GET."""
        methods = methods or (frozenset({"POST"}) if writes else frozenset({"GET"}))
        name = f"{','.join(sorted(methods))} {path}"
        return cls(
            ROUTE,
            name,
            where,
            reads - writes,
            writes,
            dict(counts),
            methods=methods,
            module=module,
            places=places or {},
        )

    @property
    def tables(self) -> frozenset[str]:
        """All tables it touches."""
        return self.reads | self.writes


@dataclass(frozen=True, slots=True)
class Import:
    """One module imports another."""

    module: str
    target: str
    where: str


@dataclass(frozen=True, slots=True)
class Commit:
    """Modules that changed together."""

    id: str
    modules: frozenset[str]
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a source of evidence gave: ``state`` is read, partly, absent or not asked; ``said`` is for people."""

    source: str
    state: str
    said: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was found; ``requests`` is how many of an access log are to its routes, 0 where none was read."""

    tables: tuple[Table, ...] = ()
    references: tuple[Reference, ...] = ()
    uses: tuple[Use, ...] = ()
    imports: tuple[Import, ...] = ()
    commits: tuple[Commit, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    requests: int = 0

    def __add__(self, other: Evidence) -> Evidence:
        tables = {table.name: table for table in (*other.tables, *self.tables)}
        return Evidence(
            tuple(tables[name] for name in sorted(tables)),
            (*self.references, *other.references),
            (*self.uses, *other.uses),
            (*self.imports, *other.imports),
            (*self.commits, *other.commits),
            (*self.coverage, *other.coverage),
            self.requests + other.requests,
        )

    def of(self, kind: str) -> list[Use]:
        """The uses of a kind."""
        return [use for use in self.uses if use.kind == kind]


def known(evidence: Evidence) -> Evidence:
    """The evidence without what speaks of tables that are not there, and with each foreign key once."""
    names = {table.name for table in evidence.tables}
    references = {(r.table, r.target): r for r in reversed(evidence.references) if {r.table, r.target} <= names}
    uses = [
        replace(use, reads=use.reads & names, writes=use.writes & names) for use in evidence.uses if use.tables & names
    ]
    return replace(
        evidence,
        references=tuple(references[pair] for pair in sorted(references)),
        uses=tuple(sorted(uses, key=lambda use: (use.kind, use.name, use.where))),
    )


Told = Callable[[str, float, float], None]
"""Hears how far something is: what is counted, how much is done, and of how much."""


def untold(_what: str, _done: float, _of: float) -> None:
    """Nobody listens."""


Fact = Reference | Use | Import | Commit
Pair = tuple[Node, Node]
Tie = Callable[[Node, Node, str, float], None]
Ties = dict[Pair, dict[str, float]]
"""For each two nodes (sorted by name), how strongly each kind of evidence ties them."""


def facts(evidence: Evidence) -> list[Fact]:
    """Each single fact: what a bootstrap draws from."""
    return [*evidence.references, *evidence.uses, *evidence.imports, *evidence.commits]


def ties(found: Sequence[tuple[Fact, float]]) -> Ties:
    """The graph of facts with their weights.

    A unit that touches n tables ties each two of them by 1/(n-1), so that one that touches everything says little; a
    table, or module, that much else points to says little as well: a pointer counts 1/sqrt of how many there are.
    """
    result: Ties = defaultdict(lambda: defaultdict(float))
    pointed: Counter[str] = Counter()
    for fact, _ in found:
        if isinstance(fact, Reference):
            pointed[f"table:{fact.target}"] += 1
        elif isinstance(fact, Import):
            pointed[f"module:{fact.target}"] += 1
    users: Counter[str] = Counter(
        table for fact, _ in found if isinstance(fact, Use) and fact.kind == "module" for table in fact.tables
    )

    def tie(a: Node, b: Node, kind: str, weight: float) -> None:
        if a != b and weight > 0:
            first, second = sorted((a, b), key=str)
            result[first, second][kind] += WEIGHTS[kind] * weight

    for fact, times in found:
        match fact:
            case Reference(table, target):
                tie(Node(TABLE, table), Node(TABLE, target), "foreign_key", times / sqrt(pointed[f"table:{target}"]))
            case Import(module, target):
                tie(Node(MODULE, module), Node(MODULE, target), "import", times / sqrt(pointed[f"module:{target}"]))
            case Commit():
                _clique(tie, MODULE, fact.modules, "commit", times)
            case Use(kind="module" | "route"):
                _star(tie, fact, times, users)
            case Use():
                _clique(tie, TABLE, fact.tables, fact.kind, times * _strength(fact))
    return {pair: dict(kinds) for pair, kinds in sorted(result.items(), key=lambda item: tuple(map(str, item[0])))}


def all_ties(evidence: Evidence) -> Ties:
    """The graph of all facts, each once."""
    return ties([(fact, 1.0) for fact in facts(evidence)])


def _strength(use: Use) -> float:
    """Of what touches tables in one: more when it writes several, and by how often where that is known."""
    if use.kind == TRANSACTION:
        return use.times / (use.of + FEW)
    return (1 + log2(max(1, use.times)) / 10) * (1.0 if len(use.writes) > 1 else 0.5)


def _clique(tie: Tie, kind: str, names: Iterable[str], evidence: str, weight: float) -> None:
    members = sorted(names)
    for a, b in combinations(members, 2):
        tie(Node(kind, a), Node(kind, b), evidence, weight / (len(members) - 1))


def _star(tie: Tie, use: Use, times: float, users: Mapping[str, int]) -> None:
    """A module or route and its tables: by how much of its attention each has, less where all modules use the table."""
    counts = {table: use.counts.get(table, 1) for table in use.tables}
    whole = sum(counts.values())
    for table, count in sorted(counts.items()):
        share = count / whole / sqrt(max(1, users[table]) if use.kind == "module" else 1)
        tie(Node(use.kind, use.name), Node(TABLE, table), use.kind, times * 2 * share)
    if use.kind == ROUTE and use.module:
        tie(Node(ROUTE, use.name), Node(MODULE, use.module), "route", times)


def resampled(found: Sequence[Fact], chance: random.Random) -> list[tuple[Fact, float]]:
    """A bootstrap sample: as many facts, drawn with replacement, each with how often it was drawn."""
    drawn = Counter(chance.choices(range(len(found)), k=len(found))) if found else Counter()
    return [(found[index], float(times)) for index, times in sorted(drawn.items())]
