"""Figures of a partition, as the literature on finding services in monoliths computes them, so that results compare.

A partition is a sequence of sets of units (here tables; in the studies classes). Calls are between two units, with how
often. ICP alone says nothing: a partition that puts everything into one part has no call that crosses. So
:func:`figures` gives it with NED and the number of parts, and nothing gives it without.

- SM (structural modularity) and IFN (interface number): W. Jin et al., "Service Candidate Identification from
  Monolithic Systems Based on Execution Traces", IEEE TSE 47(5), 2021.
- ICP (inter-call percentage) and BCP (business context purity): A. Kalia et al., "Mono2Micro: A Practical and Effective
  Tool for Decomposing Monolithic Java Applications to Microservices", ESEC/FSE 2021.
- NED (non-extreme distribution): U. Desai et al., "Graph Neural Network to Dilute Outliers for Refactoring Monolith
  Application", AAAI 2021.
- MQ (modularization quality): S. Mancoridis et al., "Using Automatic Clustering to Produce High-Level System
  Organizations of Source Code", IWPC 1998, in the form TurboMQ.

Where a paper leaves something open (whether calls are weighted, which logarithm), the computation is that of the
replication material of the study of 2021, whose published figures ours are meant to agree with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from math import fsum, log

Partition = Sequence[Set[str]]
Calls = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of one partition; ``bcp`` is None where no use is known."""

    parts: int
    sm: float
    icp: float
    ifn: float
    bcp: float | None
    ned: float
    mq: float


def figures(partition: Partition, calls: Calls, uses: Mapping[str, Collection[str]], sizes: range) -> Figures:
    """The figures of a partition; ``sizes`` are those of parts that are not extreme."""
    return Figures(
        len(partition),
        sm(partition, calls),
        _icp(partition, calls),
        ifn(partition, calls),
        bcp(partition, uses),
        ned(partition, sizes),
        mq(partition, calls),
    )


def _crossing(partition: Partition, calls: Calls) -> dict[tuple[str, str], tuple[int, int]]:
    """The calls between units that are in parts, each with the parts of its two ends."""
    of = {unit: index for index, part in enumerate(partition) for unit in part}
    return {(a, b): (of[a], of[b]) for a, b in calls if a != b and a in of and b in of}


def sm(partition: Partition, calls: Calls) -> float:
    """Structural modularity, -1 to 1, higher is better: how dense parts are inside less how dense between them.

    Pairs of units count, not calls: of a part of m units the share of m² that call each other, as the mean over parts;
    of two parts the share of m1 · m2, as the mean over pairs of parts.
    """
    k = len(partition)
    pairs = {frozenset(pair): frozenset(parts) for pair, parts in _crossing(partition, calls).items()}
    counts = Counter(pairs.values())
    inside = fsum(counts[frozenset({i})] / len(part) ** 2 for i, part in enumerate(partition) if part)
    across = fsum(
        counts[frozenset({i, j})] / (len(partition[i]) * len(partition[j]))
        for i in range(k)
        for j in range(i)
        if partition[i] and partition[j]
    )
    return (inside / k if k else 0.0) - (across / (k * (k - 1) / 2) if k > 1 else 0.0)


def _icp(partition: Partition, calls: Calls) -> float:
    """Inter-call percentage, 0 to 1, lower is better: the share of calls that cross; n calls count as 1 + ln n."""
    weights = {pair: log(calls[pair]) + 1 for pair in _crossing(partition, calls)}
    crossing = sum(weights[pair] for pair, (a, b) in _crossing(partition, calls).items() if a != b)
    return crossing / sum(weights.values()) if weights else 0.0


def ifn(partition: Partition, calls: Calls) -> float:
    """Interface number, lower is better: pairs of units that call each other across parts, by the number of parts."""
    crossing = {frozenset(pair) for pair, (a, b) in _crossing(partition, calls).items() if a != b}
    return len(crossing) / len(partition) if partition else 0.0


def bcp(partition: Partition, uses: Mapping[str, Collection[str]]) -> float:
    """Business context purity, lower is better: how many business uses a part serves, as entropy in nats.

    The mean of ln(number of different uses) over the parts; a unit in no use is in one that is not known.
    """
    served = [{use for unit in part for use in (uses.get(unit) or ("unknown",))} for part in partition]
    return fsum(log(len(each)) for each in served if each) / len(partition) if partition else 0.0


def ned(partition: Partition, sizes: range = range(5, 21)) -> float:
    """Non-extreme distribution, 0 to 1, lower is better: the share of units in parts of an extreme size.

    The studies' bounds, 5 to 20, are for classes.
    """
    units = sum(map(len, partition))
    return 1 - sum(len(part) for part in partition if len(part) in sizes) / units if units else 0.0


def mq(partition: Partition, calls: Calls) -> float:
    """Modularization quality, higher is better: the sum of 2i / (2i + e) over parts.

    i are the pairs of units inside of which one calls the other, e those that call out of the part. It grows with the
    number of parts.
    """
    parts = Counter(_crossing(partition, calls).values())
    shares = []
    for index in range(len(partition)):
        inside = parts[index, index]
        out = sum(count for (a, b), count in parts.items() if a == index != b)
        shares.append(2 * inside / (2 * inside + out) if inside else 0.0)
    return fsum(shares)
