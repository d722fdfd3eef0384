"""How the rows' changes of a flow are divided among the partitions of its topic: by key, so that each row's keep their
order. What may not be divided goes to the first partition whole, or is a barrier. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stranglerfig.changes.mapping import Entry, plain_column
from stranglerfig.changes.model import UNCHANGED, Change, Message, Relation, Transaction
from stranglerfig.changes.settings import DerivedEvent
from stranglerfig.databases.model import Table
from stranglerfig.eventlog.model import partition_of

_BETWEEN = "\x1f"


@dataclass(frozen=True)
class Spread:
    """Which partition a change goes to.

    Attributes:
        partitions: how many there are.
        keys: input table (``schema.name``) → the columns by whose values its changes are divided. A table that is not
            here goes to the first partition whole.
    """

    partitions: int = 1
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def over(self, partitions: int) -> Spread:
        """The same tables over another number of partitions."""
        return replace(self, partitions=partitions)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"partitions": self.partitions, "keys": {table: list(names) for table, names in self.keys.items()}}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Spread:
        """The inverse of :meth:`as_dict`."""
        return cls(found["partitions"], {table: tuple(names) for table, names in found["keys"].items()})


class Router:
    """Divides transactions as a spread says; knows where each relation has its key."""

    def __init__(self, spread: Spread) -> None:
        self.spread = spread
        # By identity: a stream makes one object per relation, and hashing one for each change would cost.
        self._places: dict[int, tuple[Relation, tuple[int, ...] | None]] = {}

    def divide(self, transaction: Transaction) -> dict[int, list[Change]] | None:
        """Each partition's part of a whole transaction, in order; None where it has to be applied by itself.

        That is where it says something to all (a marker, an activation), empties a table, moves a row to another key,
        or where the source did not send a key.
        """
        found: dict[int, list[Change]] = {}
        for item in transaction.items:
            if isinstance(item, Message) or item.op == "t":
                return None
            number = self._partition(item)
            if number is None:
                return None
            found.setdefault(number, []).append(item)
        return found

    def _partition(self, change: Change) -> int | None:
        """Where one change goes; None when its key moved or is not known."""
        places = self._places_of(change.relation)
        if places is None:
            return 0
        row = change.after if change.after is not None else change.before
        if row is None:
            return None
        key = [row[place] for place in places]
        if any(type(value) is not str for value in key):
            return None
        before = change.before
        if before is not None and change.after is not None:
            old = [before[place] for place in places]
            # Under REPLICA IDENTITY FULL every update carries the old row.
            if UNCHANGED not in old and old != key:
                return None
        return partition_of(_BETWEEN.join(map(str, key)), self.spread.partitions)

    def _places_of(self, relation: Relation) -> tuple[int, ...] | None:
        known = self._places.get(id(relation))
        if known is None or known[0] is not relation:
            known = self._places[id(relation)] = (relation, self._find(relation))
        return known[1]

    def _find(self, relation: Relation) -> tuple[int, ...] | None:
        names = self.spread.keys.get(relation.qualified)
        columns = {column.name: number for number, column in enumerate(relation.columns)}
        if names is None or not names or any(name not in columns for name in names):
            return None
        return tuple(columns[name] for name in names)


@dataclass(frozen=True)
class Divided:
    """What :func:`divide_tables` decided: ``keys`` as of :class:`Spread`, and why the other tables stay whole."""

    keys: Mapping[str, tuple[str, ...]]
    whole: Mapping[str, str]


def divide_tables(
    entries: Sequence[Entry],
    inputs: Mapping[str, Table],
    outputs: Mapping[str, Table],
    excluding: Collection[str],
    derived: Sequence[DerivedEvent] = (),
) -> Divided:
    """Which input tables may be divided by key, and by which columns.

    Rows that meet in one output row go to the same partition: they are divided by the values of its key, in one order.

    Args:
        entries: the mapping of one direction.
        inputs, outputs: the catalogues' tables by ``schema.name``.
        excluding: output tables with an exclusion constraint.
        derived: the events whose order per key must hold as well.
    """
    by_source: dict[str, list[Entry]] = {}
    by_target: dict[str, list[Entry]] = {}
    for entry in entries:
        by_source.setdefault(entry.source, []).append(entry)
        by_target.setdefault(entry.target, []).append(entry)
    whole = {
        source: reason
        for source, own in by_source.items()
        if (reason := _own_reason(own, inputs, outputs, excluding, derived)) is not None
    }
    keys: dict[str, tuple[str, ...]] = {}
    for source, own in by_source.items():
        if source in whole:
            continue
        joined = [entry for e in own for entry in by_target[e.target] if len(by_target[e.target]) > 1]
        if not joined:
            keys[source] = tuple(sorted(own[0].source_key))
        elif (reason := _joined_reason(own, joined, inputs, whole, by_source)) is None:
            # In the order of the shared row's key columns, whatever they are called here.
            keys[source] = tuple(name for _, name in sorted(_pairs(own[0])))
        else:
            whole[source] = reason
    # What is joined with a table that stays whole stays with it.
    for source in list(keys):
        for entry in by_source[source]:
            others = {e.source for e in by_target[entry.target]} - {source}
            if others & whole.keys():
                keys.pop(source, None)
                whole[source] = f"its rows complete those of {', '.join(sorted(others & whole.keys()))}"
    return Divided(keys, whole)


def _pairs(entry: Entry) -> list[tuple[str, str]]:
    """(output key column, input key column) of an entry."""
    return [(a.column, name) for a, name in zip(entry.key, entry.source_key, strict=True)]


def _own_reason(
    own: Sequence[Entry],
    inputs: Mapping[str, Table],
    outputs: Mapping[str, Table],
    excluding: Collection[str],
    derived: Sequence[DerivedEvent],
) -> str | None:
    """Why a table must stay whole by itself."""
    source, key = own[0].source, set(own[0].source_key)
    if any(set(entry.source_key) != key for entry in own):
        return "its entries in the mapping have different keys"
    if not key <= set(inputs[source].identity_columns):
        return "its replica identity does not hold the mapped key"
    for entry in own:
        target = set(a.column for a in entry.key)
        if entry.target in excluding:
            return f"{entry.target} has an exclusion constraint"
        for unique in outputs[entry.target].uniques:
            if not target <= set(unique.columns):
                return f"{unique.name} makes other columns of {entry.target} unique"
    for rule in derived:
        if rule.on.table == source and not _of_key(rule.key, key):
            return f"events {rule.event} are ordered by '{rule.key}', not by its key"
    return None


def _of_key(expression: str, key: set[str]) -> bool:
    """Whether an event's key is the row's: only then has one partition all events of a key."""
    words = "".join(expression.split()).removesuffix("::text").removeprefix("new.")
    return len(key) == 1 and plain_column(words) in key


def _joined_reason(
    own: Sequence[Entry],
    joined: Sequence[Entry],
    inputs: Mapping[str, Table],
    whole: Mapping[str, str],
    by_source: Mapping[str, Sequence[Entry]],
) -> str | None:
    """Why tables that give parts of the same rows must stay whole."""
    if any(len(by_source[entry.source]) > 1 for entry in joined):
        return f"{own[0].target} is made of tables that make other tables as well"
    types = {
        tuple(kinds[name] for _, name in sorted(_pairs(entry)))
        for entry in joined
        for kinds in [{column.name: column.type for column in inputs[entry.source].columns}]
    }
    # One value has one text within a type only: 1 and 1.0 would be two keys.
    return None if len(types) == 1 else f"the keys that meet in {own[0].target} have different types"
