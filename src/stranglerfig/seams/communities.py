"""Which tables stay together, however the evidence is drawn and however coarsely one looks: the candidate contexts.

One run of community detection depends on its resolution, and on single facts. So the evidence is resampled (bootstrap)
again and again, each sample divided at one of several resolutions (Louvain: V. Blondel et al., "Fast unfolding of
communities in large networks", J. Stat. Mech. P10008, 2008), and the candidates are the communities among the tables
that are together more often than not (consensus clustering: A. Lancichinetti, S. Fortunato, "Consensus clustering in
complex networks", Scientific Reports 2, 2012). So no resolution has to be chosen. Of several divisions of that kind the
one is taken that has the greatest modularity in the whole graph.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import networkx

from stranglerfig.seams.model import TABLE, Evidence, Node, Ties, Told, all_ties, facts, resampled, ties, untold

SAMPLES, RUNS, SEED = 40, 10, 20
"""Samples for each resolution; divisions of the consensus; where chance begins."""
RESOLUTIONS = (0.7, 1.0, 1.4, 2.0)


@dataclass(frozen=True, slots=True)
class Part:
    """One candidate: tables with the modules and routes that are tied to them most.

    ``stability`` is the mean over the samples of its greatest overlap (Jaccard) with a community there; below 0.6 it
    should not be trusted, from 0.75 on it is called stable (C. Hennig, "Cluster-wise assessment of cluster stability",
    Computational Statistics & Data Analysis 52, 2007). ``name`` is empty where nobody gave it one.
    """

    tables: frozenset[str]
    others: frozenset[Node]
    stability: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The candidates, largest first; their modularity; in which share of the divisions two tables were together.

    ``drawn`` are these divisions.
    """

    parts: tuple[Part, ...]
    modularity: float
    together: Mapping[tuple[str, str], float]
    drawn: Sequence[Sequence[frozenset[str]]]

    @property
    def divisions(self) -> int:
        """How many there were."""
        return len(self.drawn)


def find(evidence: Evidence, *, samples: int = SAMPLES, seed: int = SEED, told: Told = untold) -> Found:
    """The candidate contexts in the evidence; the same evidence gives the same."""
    every = facts(evidence)
    names = sorted(table.name for table in evidence.tables)
    found = all_ties(evidence)
    whole = graph(found, names)
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    drawn = list[list[frozenset[str]]]()
    for resolution in RESOLUTIONS * samples:
        drawn.append(_louvain(graph(ties(resampled(every, chance)), names), resolution, chance.randrange(2**31)))
        told("divisions of resampled evidence", len(drawn), samples * len(RESOLUTIONS))
    together = _together(drawn)
    alone = Counter(table for sample in drawn for part in sample if len(part) == 1 for table in part)
    seldom = [name for name in names if alone[name] <= len(drawn) / 2]
    tried = [joined(_consensus(names, together, seed + run), together, seldom) for run in range(RUNS)]
    others = [_assigned(found, each) for each in tried]
    modularity = [round(_modularity(whole, *each), 6) for each in zip(tried, others, strict=True)]
    best = modularity.index(max(modularity))
    parts = tuple(
        Part(tables, others[best][index], _stability(tables, drawn)) for index, tables in enumerate(tried[best])
    )
    return Found(parts, modularity[best], together, drawn)


def divided(evidence: Evidence, found: Found, partition: Mapping[str, frozenset[str]], whole: Ties) -> Found:
    """What was found, had a person divided the tables; modules and routes go where they are tied most."""
    tables = list(partition.values())
    others = _assigned(whole, tables)
    stable = {part.tables: part.stability for part in found.parts}  # most stay as they are, and this takes longest
    parts = tuple(
        Part(each, more, stable[each] if each in stable else _stability(each, found.drawn), name)
        for (name, each), more in zip(partition.items(), others, strict=True)
    )
    known = graph(whole, sorted(table.name for table in evidence.tables))
    return replace(found, parts=parts, modularity=round(_modularity(known, tables, others), 6))


def _stability(tables: frozenset[str], drawn: Sequence[Sequence[frozenset[str]]]) -> float:
    return _mean(max(_jaccard(tables, each) for each in sample) for sample in drawn)


def graph(found: Ties, tables: Iterable[str]) -> networkx.Graph[Node]:
    """The graph of all tables and of what is tied to them."""
    result: networkx.Graph[Node] = networkx.Graph()
    result.add_nodes_from(Node(TABLE, name) for name in tables)
    for (a, b), kinds in found.items():
        result.add_edge(a, b, weight=sum(kinds.values()))
    return result


def _louvain(of: networkx.Graph[Node], resolution: float, seed: int) -> list[frozenset[str]]:
    """The tables of each community that has some."""
    found = networkx.community.louvain_communities(of, weight="weight", resolution=resolution, seed=seed)
    parts = (frozenset(node.name for node in part if node.kind == TABLE) for part in found)
    return [part for part in parts if part]


def _together(drawn: Sequence[Sequence[frozenset[str]]]) -> dict[tuple[str, str], float]:
    counted = Counter(pair for sample in drawn for part in sample for pair in combinations(sorted(part), 2))
    return {pair: count / len(drawn) for pair, count in sorted(counted.items())}


def _consensus(names: Sequence[str], together: Mapping[tuple[str, str], float], seed: int) -> list[frozenset[str]]:
    result: networkx.Graph[str] = networkx.Graph()
    result.add_nodes_from(names)
    result.add_weighted_edges_from((a, b, often) for (a, b), often in together.items() if often > 0.5)
    found = networkx.community.louvain_communities(result, weight="weight", seed=seed)
    return list(map(frozenset, found))


def joined(
    partition: Sequence[frozenset[str]], together: Mapping[tuple[str, str], float], seldom: Sequence[str]
) -> list[frozenset[str]]:
    """A table that is left alone, and seldom is in the divisions, goes where it is most often."""
    parts = list(partition)
    for name in seldom:
        single = frozenset({name})
        if single in parts:
            often = {
                part: _mean(together.get((min(name, other), max(name, other)), 0.0) for other in part)
                for part in parts
                if part != single
            }
            nearest = max(often, key=lambda part: (often[part], min(part)), default=None)
            if nearest is not None and often[nearest] > 0:
                parts = [nearest | single if part == nearest else part for part in parts if part != single]
    return sorted(parts, key=lambda part: (-len(part), min(part)))


def _assigned(found: Ties, partition: Sequence[frozenset[str]]) -> list[frozenset[Node]]:
    """Modules and routes, each where it is tied most; those that are tied to no table follow their neighbours."""
    of = {Node(TABLE, name): index for index, part in enumerate(partition) for name in part}
    for _ in range(3):
        pulled: dict[Node, Counter[int]] = defaultdict(Counter)
        for (a, b), kinds in found.items():
            for one, other in ((a, b), (b, a)):
                if one not in of and other in of:
                    pulled[one][of[other]] += sum(kinds.values())  # type: ignore[assignment]
        of |= {node: min(pull, key=lambda index: (-pull[index], index)) for node, pull in pulled.items()}
    return [
        frozenset(node for node, at in of.items() if at == index and node.kind != TABLE)
        for index in range(len(partition))
    ]


def _modularity(
    whole: networkx.Graph[Node], partition: Sequence[frozenset[str]], others: Sequence[frozenset[Node]]
) -> float:
    parts = [{Node(TABLE, name) for name in part} | more for part, more in zip(partition, others, strict=True)]
    rest = set(whole) - set[Node]().union(*parts)
    if not whole.number_of_edges():
        return 0.0
    return float(networkx.community.modularity(whole, [*parts, *({node} for node in rest)], weight="weight"))


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    both = len(a & b)
    return both / (len(a) + len(b) - both)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
