"""The rules for rows that both sides change, compiled against both catalogues. Pure.

A *pair* is one entry of the mapping: the rows of a monolith's table that become rows of one of the service's tables. It
is called after the service's table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from dataclasses import dataclass

from stranglerfig.changes.mapping import Catalogue, Entry, Mapping, plain_column
from stranglerfig.changes.model import Direction
from stranglerfig.changes.settings import Rule, TableMapping
from stranglerfig.foundation.errors import FigError

# Addition of these is exact and its order does not matter, so both sides end at the same sum.
_COUNTS = re.compile(r"(smallint|integer|bigint|numeric(\(.*\))?)$")
# Keys whose text is the same on both sides, whatever a session has set.
_KEYS = (frozenset({"smallint", "integer", "bigint"}), frozenset({"text"}), frozenset({"uuid"}))


@dataclass(frozen=True, slots=True)
class Settlement:
    """How the conflicts of one pair are settled.

    Attributes:
        pair: the service's table.
        rule: None stops the flow.
        delta: by direction, the output's columns to which differences are applied.
        existence: whether the rule settles that a row was made or removed. Where several tables make one row, or
            something is counted, no rule can: half a row would stay, or a sum would have no beginning.
    """

    pair: str
    rule: Rule | None
    delta: MappingABC[Direction, frozenset[str]]
    existence: bool


def compile_conflicts(
    tables: Sequence[TableMapping], mapping: Mapping, source: Catalogue, target: Catalogue
) -> dict[str, Settlement]:
    """The settlement of each pair.

    Raises:
        FigError: ``conflict_rule_refused`` with the place in ``extraction.yaml``, ``bidirectional_key``,
            ``mapping_not_reversible``.
    """
    mapping.require_reversible()
    found = {}
    backward = {entry.source: entry for entry in mapping.reverse}
    for number, (table, entry) in enumerate(zip(tables, mapping.forward, strict=True)):
        back = backward.get(entry.target)
        if back is None:
            raise FigError(
                "mapping_not_reversible",
                f"tables[{number}]: changes of {entry.target} have no way back into {entry.source}",
                "Give the entry a reverse, also where it gives nothing back: reverse: {}.",
            )
        _check_keys(entry, mapping, f"tables[{number}].key")
        wanted = table.conflicts.delta if table.conflicts else ()
        columns = {
            name: _counted(name, entry, back, (source, target), f"tables[{number}].conflicts.delta") for name in wanted
        }
        alone = sum(other.source == entry.source for other in mapping.forward) == 1
        found[entry.target] = Settlement(
            entry.target,
            table.conflicts.rule if table.conflicts else None,
            {Direction.FORWARD: frozenset(columns), Direction.REVERSE: frozenset(columns.values())},
            alone and not columns,
        )
    return found


def _check_keys(entry: Entry, mapping: Mapping, place: str) -> None:
    for assignment, name in zip(entry.key, entry.source_key, strict=True):
        types = {assignment.type, mapping.source_types[entry.source][name]}
        if not any(types <= kind for kind in _KEYS):
            raise FigError(
                "bidirectional_key",
                f"{place}.{assignment.column}: a key of type {' and '.join(sorted(types))} cannot be told from the"
                " other side's by its text",
                "Where both sides write, keys are integers, text or uuid, of the same kind on both sides.",
                place=place,
            )


def _counted(name: str, entry: Entry, back: Entry, catalogues: tuple[Catalogue, Catalogue], place: str) -> str:
    """The monolith's column that ``name`` counts with.

    Raises:
        FigError: ``conflict_rule_refused``.
    """

    def refuse(why: str, remedy: str) -> FigError:
        return FigError("conflict_rule_refused", f"{place}: {entry.target}.{name} {why}", remedy, place=place)

    there = next((a for a in entry.columns if a.column == name), None)
    if there is None:
        known = ", ".join(a.column for a in entry.columns)
        raise refuse(f"is no mapped column; mapped are {known or 'none'}", "Name a column of the service's table.")
    here = plain_column(there.expression)
    again = next((a for a in back.columns if a.column == here), None)
    if here is None or again is None or plain_column(again.expression) != name:
        raise refuse(
            "is not a plain column both ways, so a difference on one side is not the same on the other",
            "Map the counter by name in columns and in reverse, or choose a rule for it.",
        )
    for table, column, assignments in (
        (entry.target, name, (a for a in back.columns if a.column != here)),
        (entry.source, here, (a for a in entry.columns if a.column != name)),
    ):
        if any(column in a.needs for a in assignments):
            raise refuse(
                f"is read by another expression of the entry ({table}.{column})",
                "Compute what follows from a counter where it is read, or choose a rule for it.",
            )
    kinds = []
    for catalogue, table, column in ((catalogues[1], entry.target, name), (catalogues[0], entry.source, here)):
        facts = next(c for c in catalogue[table].columns if c.name == column)
        if not _COUNTS.match(facts.type):
            raise refuse(
                f"is no exact number ({table}.{column} is {facts.type})",
                "Differences are applied to smallint, integer, bigint and numeric; choose a rule for it.",
            )
        if not facts.not_null:
            raise refuse(f"may be null in {table}", "Declare the column NOT NULL on both sides.")
        kinds.append(facts.type)
    if _scale(kinds[0]) != _scale(kinds[1]):
        raise refuse(
            f"is {kinds[0]}, and {entry.source}.{here} is {kinds[1]}: a difference that one side rounds is not the same"
            " on the other",
            "Give both columns as many digits behind the point, or choose a rule for it.",
        )
    return here


def _scale(kind: str) -> int | None:
    """The digits behind the point that a type of :data:`_COUNTS` rounds to; None when it keeps them all."""
    if kind == "numeric":
        return None
    stated = re.search(r",(-?\d+)\)$", kind)
    return int(stated[1]) if stated else 0
