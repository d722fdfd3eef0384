"""Which tables a SQL statement reads and writes, found by parsing it; what does not parse says nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

_LOOKS_LIKE_SQL = re.compile(
    r"\s*(?:--[^\n]*\n\s*)*(?:SELECT|INSERT\s+INTO|UPDATE|DELETE\s+FROM|WITH|MERGE\s+INTO|TRUNCATE|COPY)\s",
    re.IGNORECASE,
)
_VERB_AND_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|AS|SET)\b|\bTRUNCATE\b|\bCOPY\b", re.IGNORECASE)
# Placeholders of drivers and holes of templates: any value may stand there.
_HOLES = re.compile(r"%\(\w+\)s|%s|\{[\w.!:]*\}|:\w+(?<!::)|\$\d+")
_CASTS = re.compile(r"::\s*\w+(?:\[\])?")
_UNSEEN = frozenset({"pg_catalog", "information_schema"})


@dataclass(frozen=True, slots=True)
class Touched:
    """The tables that a statement reads and those that it writes, as they are called in :mod:`.model`."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    @property
    def tables(self) -> frozenset[str]:
        """All of them."""
        return self.reads | self.writes

    def __or__(self, other: Touched) -> Touched:
        return Touched(self.reads | other.reads, self.writes | other.writes)


def looks_like_sql(text: str) -> bool:
    """Whether a string in a program is worth parsing."""
    return bool(_LOOKS_LIKE_SQL.match(text)) and bool(_VERB_AND_TABLE.search(text))


def table_name(schema: str, name: str) -> str:
    """How a table is called in the evidence: without its schema when that is ``public``."""
    return name if schema in ("", "public") else f"{schema}.{name}"


def touched(text: str, views: Mapping[str, Touched] | None = None) -> Touched | None:
    """What a statement (or several) touches, or None when it cannot be parsed; ``views`` stand for what they read."""
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    plain = _HOLES.sub("NULL", _CASTS.sub("", text)).replace("%%", "%")
    try:
        parsed = [each for each in sqlglot.parse(plain, read="postgres") if each is not None]
    except (SqlglotError, RecursionError):
        return None
    if not parsed or any(isinstance(each, exp.Command) for each in parsed):
        return None
    found = Touched()
    for tree in parsed:
        found |= _of(tree)
    for name in sorted(found.tables):
        if views and name in views:
            found = Touched(found.reads - {name}, found.writes - {name}) | views[name]
    return found


def _of(tree: exp.Expr) -> Touched:
    local = {cte.alias for cte in tree.find_all(exp.CTE)}
    targets = set()
    for change in tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.TruncateTable, exp.Copy):
        target = change.expressions[0] if isinstance(change, exp.TruncateTable) else change.this
        table = target.find(exp.Table) if target is not None else None
        if table is not None:
            targets.add(id(table))
    reads, writes = set[str](), set[str]()
    for table in tree.find_all(exp.Table):
        if not table.name or (table.name in local and not table.db) or table.db in _UNSEEN or table.name[:3] == "pg_":
            continue
        (writes if id(table) in targets else reads).add(table_name(table.db, table.name))
    return Touched(frozenset(reads - writes), frozenset(writes))
