"""Which candidate to move first: figures of each, fronts of those that none beats, and reasons with their evidence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams.communities import Found, Part
from stranglerfig.seams.metrics import Figures, figures
from stranglerfig.seams.model import (
    MODULE,
    ROUTE,
    STATEMENT,
    TABLE,
    TRANSACTION,
    Commit,
    Evidence,
    Node,
    Reference,
    Table,
    Ties,
    Use,
    all_ties,
)

TRUSTED, STABLE = 0.6, 0.75
"""Below and from which a community is not to be trusted and called stable: Hennig, as in :mod:`.communities`."""
FEWEST_COMMITS = 10
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
        transactions: the sampled ones that write its tables, each set of tables once.
        writers: modules outside that write its tables; ``readers`` those that only read them.
        cross: the share of its ties' weight that leads out, 0 to 1.
        routes: those that touch it; ``exclusive`` those of them that touch nothing else.
        changed: of the commits of several modules that change its own, the share that changes others as well; None
            where they are too few. ``commits`` are those that do.
        value: what the team says that it is worth; 0 when it says nothing.
        traffic: the share of the requests in the access log that go to routes to it; ``own_traffic`` to its exclusive
            ones; None where no log was read.
        touched: whether any module touches its tables.
        front: 1 for those that no other beats in every figure, 2 for those that only these beat, …
    """

    name: str
    tables: tuple[str, ...]
    modules: tuple[str, ...]
    stability: float
    keys_out: tuple[Reference, ...]
    keys_in: tuple[Reference, ...]
    cut: tuple[Use, ...]
    transactions: tuple[Use, ...]
    writers: tuple[Use, ...]
    readers: tuple[Use, ...]
    routes: tuple[Use, ...]
    exclusive: tuple[Use, ...]
    cross: float
    changed: float | None
    value: float
    traffic: float | None
    own_traffic: float | None
    touched: bool
    commits: tuple[Commit, ...] = ()
    front: int = 0
    place: int = 0
    reasons: tuple[Claim, ...] = field(default=())
    doubts: tuple[Claim, ...] = field(default=())

    @property
    def writing(self) -> tuple[Use, ...]:
        """Its exclusive routes that write."""
        return tuple(use for use in self.exclusive if use.writes)

    @property
    def entangled(self) -> float | None:
        """The share of the sampled transactions that write its tables and others in one; None where there are none."""
        whole = sum(use.times for use in self.transactions)
        return sum(use.times for use in self._wider) / whole if whole else None

    @property
    def _wider(self) -> tuple[Use, ...]:
        return tuple(use for use in self.transactions if not use.writes <= set(self.tables))

    @property
    def shared(self) -> tuple[str, ...]:
        """Its tables that modules outside touch."""
        touched = {table for use in (*self.writers, *self.readers) for table in use.tables}
        return tuple(table for table in self.tables if table in touched)

    def together(self) -> list[tuple[str, int, int]]:
        """Each other table, in how many of how many sampled transactions it was written in one with its own."""
        often = Counter[str]()
        for use in self._wider:
            often.update(dict.fromkeys(use.writes - set(self.tables), use.times))
        whole = sum(use.times for use in self.transactions)
        return [(table, times, whole) for table, times in sorted(often.items(), key=lambda each: (-each[1], each[0]))]

    def objectives(self) -> tuple[float, ...]:
        """What is compared; lower is better in each."""
        return (
            len(self.keys_in) + len(self.keys_out),
            len(self.cut),
            round(self.entangled or 0.0, 3),
            len(self.writers) + len(self.readers) / 2,
            round(self.cross, 3),
            -len(self.exclusive),
            -self.value,
            -round(self.own_traffic or 0.0, 3),
        )


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates in the order in which to move them, and the figures of them all together.

    ``first`` is the name of the one to begin with, ``passed_over`` why not with one that stands before it.
    """

    candidates: tuple[Candidate, ...]
    figures: Figures
    first: str
    passed_over: tuple[Claim, ...]


def rank(
    evidence: Evidence, found: Found, values: Mapping[str, float] | None = None, whole: Ties | None = None
) -> Ranking:
    """The candidates, best first: by front, then by the mean of their ranks in each figure.

    Tables that nothing in the sources touches come last however isolated they are: they are a framework's, or dead, and
    there is nothing to move.

    ``values`` are what the team says a context is worth, by one of its tables; ``whole`` are the ties of all evidence,
    where they are at hand.

    Raises:
        FigError: ``unknown_table`` for a value of a table that is not there.
    """
    values = values or {}
    names = {table.name for table in evidence.tables}
    if wrong := sorted(set(values) - names):
        raise unknown_table(wrong[0], "a value is given for", names)
    whole = all_ties(evidence) if whole is None else whole
    plain = [_candidate(part, evidence, whole, values) for part in found.parts]
    ordered = tuple(_argued(each, evidence) for each in _ordered(_named_apart(plain), evidence))
    return Ranking(ordered, _figures(evidence, found), *_first(ordered))


def unknown_table(table: str, said: str, names: Iterable[str]) -> FigError:
    """The one error for a table that a person named and that is not there."""
    return FigError(
        "unknown_table",
        f"{said} '{table}', and there is no such table",
        f"Name one of: {', '.join(sorted(names)[:10])} …",
        table=table,
    )


def _candidate(part: Part, evidence: Evidence, whole: Ties, values: Mapping[str, float]) -> Candidate:
    inside = part.tables
    modules = frozenset(node.name for node in part.others if node.kind == MODULE)
    touching = [use for use in evidence.uses if use.tables & inside]
    foreign = [use for use in touching if use.kind == MODULE and use.name not in modules]
    routes = [use for use in touching if use.kind == ROUTE]
    exclusive = [use for use in routes if use.tables <= inside]
    own = [commit for commit in evidence.commits if commit.modules & modules]
    wider = [commit for commit in own if commit.modules - modules]
    return Candidate(
        part.name or _name(inside, whole),
        tuple(sorted(inside)),
        tuple(sorted(modules)),
        part.stability,
        tuple(r for r in evidence.references if r.table in inside and r.target not in inside),
        tuple(r for r in evidence.references if r.target in inside and r.table not in inside),
        tuple(
            use
            for use in touching
            if use.kind not in (MODULE, TRANSACTION) and use.writes & inside and use.writes - inside
        ),
        tuple(use for use in touching if use.kind == TRANSACTION),
        tuple(use for use in foreign if use.writes & inside),
        tuple(use for use in foreign if not use.writes & inside),
        tuple(routes),
        tuple(exclusive),
        _cross({*(Node(TABLE, name) for name in inside), *part.others}, inside, whole),
        len(wider) / len(own) if len(own) >= FEWEST_COMMITS else None,
        sum(value for table, value in values.items() if table in inside),
        _share(routes, evidence),
        _share(exclusive, evidence),
        any(use.kind == MODULE for use in touching),
        tuple(wider),
    )


def _share(routes: Iterable[Use], evidence: Evidence) -> float | None:
    return sum(use.times for use in routes) / evidence.requests if evidence.requests else None


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
    return [total / len(points[0]) for total in sums]


def _ordered(candidates: Sequence[Candidate], evidence: Evidence) -> list[Candidate]:
    spoken = bool(evidence.of(MODULE))
    alive = [each for each in candidates if not spoken or each.touched]
    dead = [each for each in candidates if spoken and not each.touched]
    ordered: list[Candidate] = []
    for group in (alive, dead):
        points = [each.objectives() for each in group]
        layers, means = fronts(points), mean_ranks(points)
        last = max((each.front for each in ordered), default=0)
        keys = sorted(range(len(group)), key=lambda i: (layers[i], means[i], group[i].name))
        ordered += [replace(group[i], front=last + layers[i]) for i in keys]
    return [replace(each, place=place) for place, each in enumerate(ordered, start=1)]


def _first(ordered: Sequence[Candidate]) -> tuple[str, tuple[Claim, ...]]:
    """The first that is stable and a capability; the very first where none is."""
    passed: list[Claim] = []
    for each in ordered:
        if each.stability < TRUSTED:
            passed.append(Claim(f"{each.name} is not stable"))
        elif not each.touched and any(other.touched for other in ordered):
            passed.append(Claim(f"nothing in the sources touches {each.name}"))
        elif any(other.routes for other in ordered) and not each.writing and not each.value:
            passed.append(Claim(f"{each.name} has no route that writes it alone: reference data, not a capability"))
        else:
            return each.name, tuple(passed)
    return (ordered[0].name if ordered else ""), ()


def _argued(candidate: Candidate, evidence: Evidence) -> Candidate:
    return replace(candidate, reasons=tuple(_reasons(candidate, evidence)), doubts=tuple(_doubts(candidate, evidence)))


def _reasons(c: Candidate, evidence: Evidence) -> Iterable[Claim]:
    """That nothing was found is said only where it was looked for."""
    if not c.keys_in and not c.keys_out:
        yield Claim("no foreign key crosses its boundary")
    elif not c.keys_in:
        yield Claim("no other table refers to its tables")
    if not c.cut and not c.entangled and any(use.kind != MODULE for use in evidence.uses):
        yield Claim("nothing writes its tables and others in one")
    if c.entangled == 0:
        whole = sum(use.times for use in c.transactions)
        yield Claim(f"none of the {_count(whole, 'sampled transaction')} that write its tables wrote others as well")
    if not c.writers and evidence.of(MODULE):
        yield Claim("no module outside writes its tables")
    if c.exclusive:
        text = f"{len(c.exclusive)} of the {_count(len(c.routes), 'route')} to it touch nothing else"
        yield Claim(text, _where(c.exclusive))
    if c.stability >= STABLE:
        yield Claim(f"stable: {c.stability:.0%} of it stays together when the evidence is drawn anew")
    if c.own_traffic:
        asked = sorted((use for use in c.exclusive if use.times), key=lambda use: -use.times)
        text = f"{c.own_traffic:.0%} of the requests go to routes that touch nothing else"
        yield Claim(text, tuple(f"{use.name}: {use.times} of {evidence.requests} requests" for use in asked))
    if c.value:
        yield Claim(f"the team values it at {c.value:g}")


def _doubts(c: Candidate, evidence: Evidence) -> Iterable[Claim]:
    if c.cut:
        text = (
            f"its tables and others are written in one by {_count(len(c.cut), 'unit')}: a saga, or a wait for an event"
        )
        yield Claim(text, _where(c.cut))
    if c.entangled:
        text = f"{c.entangled:.0%} of the sampled transactions that write its tables wrote others in one"
        yield Claim(text, tuple(f"written in one with {t} in {n} of {m} transactions" for t, n, m in c.together()))
    inside = set(c.tables)
    if c.writers:
        text = f"its tables are written from outside by {_count(len(c.writers), 'module')}"
        places = [place for use in c.writers for place in _places(use, use.writes & inside)]
        outside = {use.name for use in c.writers}
        said = [
            f"{use.where} {use.excerpt}"
            for use in evidence.of(STATEMENT)
            if use.writes & inside and use.where.rpartition(":")[0] in outside
        ]
        yield Claim(text, (*places, *said))
    if c.readers:
        text = f"its tables are read from outside by {_count(len(c.readers), 'module')}"
        yield Claim(text, tuple(place for use in c.readers for place in _places(use, use.reads & inside)))
    if c.keys_in:
        text = f"other tables refer to it by {_count(len(c.keys_in), 'foreign key')}"
        yield Claim(text, tuple(f"{r.table} → {r.target} ({r.where})" for r in c.keys_in))
    if c.keys_out:
        text = f"it refers to other tables by {_count(len(c.keys_out), 'foreign key')}, lost when it moves"
        yield Claim(text, tuple(f"{r.table} → {r.target} ({r.where})" for r in c.keys_out))
    if c.changed is not None and c.changed > 0.5:
        text = f"{c.changed:.0%} of the commits of several modules that change its own change others as well"
        yield Claim(text, tuple(f"{commit.id} {commit.subject}" for commit in c.commits))
    if c.stability < TRUSTED:
        yield Claim(f"not stable: {c.stability:.0%} of it stays together when the evidence is drawn anew")
    if c.routes and not c.writing:
        yield Claim("no route writes it alone: reference data rather than a capability")
    if c.traffic == 0 and c.routes:
        yield Claim(f"none of the {_count(evidence.requests, 'request')} in the access log goes to a route to it")
    if not c.touched and evidence.of(MODULE):
        yield Claim("nothing in the sources touches its tables")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _where(uses: Iterable[Use]) -> tuple[str, ...]:
    """A statement by all of its text that was kept, as its name is only how it begins."""
    return tuple(f"{use.excerpt if use.kind == STATEMENT and use.excerpt else use.name} ({use.where})" for use in uses)


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
    whole = figures(partition, calls, served, CLASSES)
    return whole if served else replace(whole, bcp=None)


@dataclass(frozen=True, slots=True)
class Writing:
    """A route that writes a candidate's tables and no others: what the first draft of its model comes from."""

    method: str
    path: str
    tables: tuple[str, ...]


def contents(evidence: Evidence, ranking: Ranking, name: str) -> tuple[tuple[Table, ...], tuple[Writing, ...]]:
    """The tables of the candidate of that name, and the routes that write nothing else.

    Raises:
        FigError: ``unknown_candidate``.
    """
    candidate = next((each for each in ranking.candidates if each.name.lower() == name.lower()), None)
    if candidate is None:
        raise FigError(
            "unknown_candidate",
            f"there is no candidate '{name}'; there are: {', '.join(each.name for each in ranking.candidates)}",
            "Name one of these.",
            candidate=name,
        )
    tables = tuple(table for table in evidence.tables if table.name in candidate.tables)
    return tables, tuple(
        Writing(use.name.partition(" ")[0].split(",")[-1], use.name.partition(" ")[2], _by_count(use))
        for use in candidate.routes
        if use.writes and use.writes <= set(candidate.tables)
    )


def _by_count(use: Use) -> tuple[str, ...]:
    return tuple(sorted(use.writes, key=lambda table: (-use.counts.get(table, 0), table)))
