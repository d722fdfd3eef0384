"""Which candidate to move first: figures of each, fronts of those that none beats, and reasons with their evidence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams.communities import Found, Part
from stranglerfig.seams.metrics import Figures, figures
from stranglerfig.seams.model import MODULE, ROUTE, TABLE, WRITING, Evidence, Node, Reference, Ties, Use, facts, ties

CLASSES = range(5, 21)
"""Sizes of parts that the literature calls not extreme."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something said for or against a candidate, and where it was found."""

    text: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate context with its figures.

    Attributes:
        keys_out: foreign keys from its tables to others; ``keys_in`` from others to its.
        cut: units (routes, statements, routines) that write its tables and others in one.
        writers: modules outside that write its tables; ``readers`` those that only read them.
        cross: the share of its ties' weight that leads out, 0 to 1.
        routes: those that touch it; ``exclusive`` those of them that touch nothing else.
        changed: the share of commits to its modules that change others as well; None where no history was read.
        value: what the team says that it is worth; 0 when it says nothing.
        front: 1 for those that no other beats in every figure, 2 for those that only these beat, …
    """

    name: str
    tables: tuple[str, ...]
    modules: tuple[str, ...]
    stability: float
    keys_out: tuple[Reference, ...]
    keys_in: tuple[Reference, ...]
    cut: tuple[Use, ...]
    writers: tuple[Use, ...]
    readers: tuple[Use, ...]
    routes: tuple[Use, ...]
    exclusive: tuple[Use, ...]
    cross: float
    changed: float | None
    value: float
    front: int = 0
    place: int = 0
    reasons: tuple[Claim, ...] = field(default=())
    doubts: tuple[Claim, ...] = field(default=())

    def objectives(self) -> tuple[float, ...]:
        """What is compared; lower is better in each."""
        return (
            len(self.keys_in) + len(self.keys_out),
            len(self.cut),
            len(self.writers) + len(self.readers) / 2,
            round(self.cross, 3),
            -len(self.exclusive),
            -self.value,
        )


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates in the order in which to move them, and the figures of them all together."""

    candidates: tuple[Candidate, ...]
    figures: Figures


def rank(evidence: Evidence, found: Found, values: Mapping[str, float] | None = None) -> Ranking:
    """The candidates, best first: by front, then by the mean of their ranks in each figure.

    ``values`` are what the team says a context is worth, by one of its tables.

    Raises:
        FigError: ``unknown_table`` for a value of a table that is not there.
    """
    values = values or {}
    names = {table.name for table in evidence.tables}
    if wrong := sorted(set(values) - names):
        raise FigError(
            "unknown_table",
            f"a value is given for '{wrong[0]}', and there is no such table",
            f"Name one of: {', '.join(sorted(names)[:10])} …",
            table=wrong[0],
        )
    whole = ties([(fact, 1.0) for fact in facts(evidence)])
    plain = [_candidate(part, evidence, whole, values) for part in found.parts]
    ordered = _ordered(_named_apart(plain))
    return Ranking(tuple(_argued(each) for each in ordered), _figures(evidence, found))


def _candidate(part: Part, evidence: Evidence, whole: Ties, values: Mapping[str, float]) -> Candidate:
    inside = part.tables
    modules = frozenset(node.name for node in part.others if node.kind == MODULE)
    touching = [use for use in evidence.uses if use.tables & inside]
    foreign = [use for use in touching if use.kind == MODULE and use.name not in modules]
    routes = [use for use in touching if use.kind == ROUTE]
    own = [commit for commit in evidence.commits if commit.modules & modules]
    wider = [commit for commit in own if commit.modules - modules]
    return Candidate(
        _name(inside, whole),
        tuple(sorted(inside)),
        tuple(sorted(modules)),
        part.stability,
        tuple(r for r in evidence.references if r.table in inside and r.target not in inside),
        tuple(r for r in evidence.references if r.target in inside and r.table not in inside),
        tuple(use for use in touching if use.kind != MODULE and use.writes & inside and use.writes - inside),
        tuple(use for use in foreign if use.writes & inside),
        tuple(use for use in foreign if not use.writes & inside),
        tuple(routes),
        tuple(use for use in routes if use.tables <= inside),
        _cross({*(Node(TABLE, name) for name in inside), *part.others}, inside, whole),
        len(wider) / len(own) if own else None,
        sum(value for table, value in values.items() if table in inside),
    )


def _cross(members: set[Node], inside: frozenset[str], whole: Ties) -> float:
    within = across = 0.0
    for (a, b), kinds in whole.items():
        if any(node.kind == TABLE and node.name in inside for node in (a, b)):
            if a in members and b in members:
                within += sum(kinds.values())
            else:
                across += sum(kinds.values())
    return across / (within + across) if within + across else 0.0


def _name(tables: frozenset[str], whole: Ties) -> str:
    """A word that most of the tables' names share, else the table that most inside is tied to."""
    words = Counter(word for table in tables for word in set(table.rpartition(".")[2].split("_")) if len(word) > 2)
    common = [word for word, count in words.items() if count > len(tables) / 2]
    if len(tables) > 1 and common:
        return max(common, key=lambda word: (words[word], len(word), word))
    pulled: Counter[str] = Counter()
    for pair, kinds in whole.items():
        if all(node.kind == TABLE and node.name in tables for node in pair):
            for node in pair:
                pulled[node.name] += sum(kinds.values())  # type: ignore[assignment]
    return min(tables, key=lambda table: (-pulled[table], len(table), table)).rpartition(".")[2]


def _named_apart(candidates: Sequence[Candidate]) -> list[Candidate]:
    seen: Counter[str] = Counter()
    result = []
    for each in candidates:
        seen[each.name] += 1
        result.append(replace(each, name=f"{each.name}_{seen[each.name]}") if seen[each.name] > 1 else each)
    return result


def fronts(points: Sequence[tuple[float, ...]]) -> list[int]:
    """The Pareto front of each point, from 1: no point of a front is beaten by another of it or of a later one."""
    result = [0] * len(points)
    left, front = set(range(len(points))), 0
    while left:
        front += 1
        best = {i for i in left if not any(_beats(points[j], points[i]) for j in left)}
        for i in best:
            result[i] = front
        left -= best
    return result


def _beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def mean_ranks(points: Sequence[tuple[float, ...]]) -> list[float]:
    """Of each point the mean of its ranks (0 best; those who share a place share its rank) over the dimensions."""
    sums = [0.0] * len(points)
    for values in zip(*points, strict=True):
        for index, value in enumerate(values):
            sums[index] += sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2
    return [total / max(1, len(points[0])) for total in sums]


def _ordered(candidates: Sequence[Candidate]) -> list[Candidate]:
    points = [each.objectives() for each in candidates]
    layers, means = fronts(points), mean_ranks(points) if points else []
    order = sorted(range(len(candidates)), key=lambda i: (layers[i], means[i], candidates[i].name))
    return [replace(candidates[i], front=layers[i], place=place) for place, i in enumerate(order, start=1)]


def _argued(candidate: Candidate) -> Candidate:
    return replace(candidate, reasons=tuple(_reasons(candidate)), doubts=tuple(_doubts(candidate)))


def _reasons(c: Candidate) -> Iterable[Claim]:
    if not c.keys_in and not c.keys_out:
        yield Claim("no foreign key crosses its boundary")
    elif not c.keys_in:
        yield Claim("no other table refers to its tables")
    if not c.cut:
        yield Claim("nothing writes its tables and others in one")
    if not c.writers:
        yield Claim("no module outside writes its tables")
    if c.exclusive:
        text = f"{_count(len(c.exclusive), 'route')} of {len(c.routes)} touch nothing else"
        yield Claim(text, _where(c.exclusive))
    if c.stability >= 0.75:
        yield Claim(f"stable: {c.stability:.0%} of it stays together when the evidence is drawn anew")
    if c.value:
        yield Claim(f"the team values it at {c.value:g}")


def _doubts(c: Candidate) -> Iterable[Claim]:
    if c.cut:
        text = f"{_count(len(c.cut), 'unit')} write its tables and others in one: each becomes a saga, or waits for an event"
        yield Claim(text, _where(c.cut))
    inside = set(c.tables)
    if c.writers:
        text = f"{_count(len(c.writers), 'module')} outside write its tables directly"
        yield Claim(text, tuple(place for use in c.writers for place in _places(use, use.writes & inside)))
    if c.readers:
        text = f"{_count(len(c.readers), 'module')} outside read its tables directly"
        yield Claim(text, tuple(place for use in c.readers for place in _places(use, use.reads & inside)))
    if c.keys_in:
        text = f"{_count(len(c.keys_in), 'foreign key')} of other tables point to it"
        yield Claim(text, tuple(f"{r.table} → {r.target} ({r.where})" for r in c.keys_in))
    if c.keys_out:
        text = f"{_count(len(c.keys_out), 'foreign key')} point out of it, and are lost when it moves"
        yield Claim(text, tuple(f"{r.table} → {r.target} ({r.where})" for r in c.keys_out))
    if c.changed is not None and c.changed > 0.5:
        yield Claim(f"{c.changed:.0%} of the commits to its modules change others as well")
    if c.stability < 0.6:
        yield Claim(f"not stable: {c.stability:.0%} of it stays together when the evidence is drawn anew")
    if len(c.tables) == 1 and not any(use.methods & WRITING for use in c.exclusive):
        yield Claim("one table that no route of its own writes: reference data rather than a capability")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _where(uses: Iterable[Use]) -> tuple[str, ...]:
    return tuple(f"{use.name} ({use.where})" for use in uses)


def _places(use: Use, tables: Iterable[str]) -> list[str]:
    return [f"{use.places.get(table, use.where)} {table}" for table in sorted(tables)]


def _figures(evidence: Evidence, found: Found) -> Figures:
    """The literature's figures; units are tables and modules, uses are routes, calls are what ties them directly."""
    calls: dict[tuple[str, str], float] = defaultdict(float)
    served: dict[str, set[str]] = defaultdict(set)
    for reference in evidence.references:
        calls[f"table:{reference.table}", f"table:{reference.target}"] += 1
    for each in evidence.imports:
        calls[f"module:{each.module}", f"module:{each.target}"] += 1
    for use in evidence.uses:
        for table in use.tables:
            if use.kind == MODULE:
                calls[f"module:{use.name}", f"table:{table}"] += use.counts.get(table, 1)
            elif use.kind == ROUTE:
                served[f"table:{table}"].add(use.name)
        if use.kind == ROUTE and use.module:
            served[f"module:{use.module}"].add(use.name)
    partition = [
        {*(f"table:{name}" for name in part.tables), *(str(node) for node in part.others if node.kind == MODULE)}
        for part in found.parts
    ]
    return figures(partition, calls, served, CLASSES)
