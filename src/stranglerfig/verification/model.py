"""What the comparison of rows decides without a database: how ranges are cut, and what counts as a difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Key = tuple[str, ...]
Values = tuple[str | None, ...]


class Range(NamedTuple):
    """Keys above ``after`` up to and with ``to``, as text; None means no bound."""

    after: Key | None
    to: Key | None


class Digest(NamedTuple):
    """How many rows a range has, and the sum of their 64-bit hashes."""

    rows: int
    sum: int


class Sighting(NamedTuple):
    """A row as one side has it; ``version`` changes when the row does (None where it is not asked for)."""

    values: Values
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not the same on both sides after everything before a marker was applied.

    Attributes:
        table: the monolith's table.
        service_table: the service's table that it was compared with.
        key: the service's key columns and their values as text.
        kind: ``missing`` from the stream's target, ``extra`` there, or ``differs``.
        columns: for ``differs``: service column → (monolith's value through the mapping, service's value), as text.
    """

    table: str
    service_table: str
    key: Mapping[str, str]
    kind: str
    columns: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For reports and the control database."""
        return {
            "table": self.table,
            "service_table": self.service_table,
            "key": dict(self.key),
            "kind": self.kind,
            "columns": {c: {"monolith": m, "service": s} for c, (m, s) in self.columns.items()},
        }


@dataclass(frozen=True, slots=True)
class RowResult:
    """What a comparison found.

    Attributes:
        marker: nonce of the marker that stood before it; ``lsn`` is its place at the source.
        rows_compared: rows on the monolith's side, counted per pair of tables.
        differences: those that remained; at most ``limit`` are named, ``truncated`` says that there are more.
        unsettled: rows that kept changing through all rounds: neither equal nor different for sure.
        moving: their keys, by the service's table.
        rechecked: rows that looked different at first, and were looked at again behind later markers.
    """

    context: str
    direction: str
    marker: str
    lsn: int
    rows_compared: int
    chunks: int
    seconds: float
    differences: tuple[Difference, ...]
    truncated: bool = False
    unsettled: int = 0
    rechecked: int = 0
    tables: Mapping[str, int] = field(default_factory=dict)
    moving: Mapping[str, tuple[Key, ...]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether both sides hold the same."""
        return not self.differences and not self.unsettled and not self.truncated

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows_compared / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For reports, ``--json`` and the control database."""
        return {
            "context": self.context,
            "direction": self.direction,
            "marker": self.marker,
            "lsn": self.lsn,
            "rows_compared": self.rows_compared,
            "chunks": self.chunks,
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
            "equal": self.equal,
            "differences": len(self.differences),
            "difference_list": [d.as_dict() for d in self.differences],
            "truncated": self.truncated,
            "unsettled": self.unsettled,
            "rechecked": self.rechecked,
            "tables": dict(self.tables),
        }


def divide(whole: Range, bounds: Iterable[Key]) -> list[Range]:
    """Cut a range at ``bounds`` (ascending, inside it); together the parts are the range, gaps included."""
    parts = []
    after = whole.after
    for bound in bounds:
        if bound != whole.to:
            parts.append(Range(after, bound))
            after = bound
    parts.append(Range(after, whole.to))
    return parts


def unlike(monolith: Mapping[Key, Sighting], service: Mapping[Key, Sighting]) -> list[Key]:
    """The keys whose rows are not the same, in order."""
    return sorted(
        key
        for key in monolith.keys() | service.keys()
        if key not in monolith or key not in service or monolith[key].values != service[key].values
    )


class Judgement(NamedTuple):
    """What one round says of candidates."""

    equal: frozenset[Key]
    different: frozenset[Key]
    again: frozenset[Key]


def judge(
    candidates: Iterable[Key],
    before: Mapping[Key, Sighting],
    target: Mapping[Key, Sighting],
    after: Mapping[Key, Sighting],
    beside: Mapping[Key, Sighting] | None = None,
) -> Judgement:
    """Tell traffic from difference: ``before`` and ``after`` are the stream's source, a marker was applied between
    ``before`` and ``target``.

    A row that did not change at the source from before the marker until after the target was read must be in the
    target as it is; what did change is looked at again, behind another marker. ``beside`` is the target as it was at
    the time of ``before``, where it is written as well and a marker of its own was applied: what changed there is
    looked at again, too.
    """
    equal, different, again = set(), set(), set()
    for key in candidates:
        here, there, later = before.get(key), target.get(key), after.get(key)
        if here != later or (beside is not None and beside.get(key) != there):
            again.add(key)
        elif (here.values if here else None) == (there.values if there else None):
            equal.add(key)
        else:
            different.add(key)
    return Judgement(frozenset(equal), frozenset(different), frozenset(again))


def difference(
    tables: tuple[str, str],
    names: tuple[Sequence[str], Sequence[str]],
    key: Key,
    monolith: Sighting | None,
    service: Sighting | None,
    *,
    forward: bool,
) -> Difference:
    """Name what differs in one row; ``names`` are the service's key columns and other columns."""
    keyed = dict(zip(names[0], key, strict=True))
    if monolith is None or service is None:
        source, target = (monolith, service) if forward else (service, monolith)
        assert source is None or target is None
        return Difference(*tables, keyed, "extra" if source is None else "missing")
    columns = {
        name: (here, there)
        for name, here, there in zip(names[1], monolith.values, service.values, strict=True)
        if here != there
    }
    return Difference(*tables, keyed, "differs", columns)
