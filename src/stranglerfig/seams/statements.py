"""Which tables a SQL statement reads and writes, found by parsing it; what does not parse says nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

_LOOKS_LIKE_SQL = re.compile(
    r"\s*(?:--[^\n]*\n\s*)*(?:SELECT|INSERT\s+INTO|UPDATE(?=[\s\S]*\bSET\b)|DELETE\s+FROM|WITH|MERGE\s+INTO|TRUNCATE|COPY)\s",
    re.IGNORECASE,
)
_VERB_AND_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|AS|SET)\b|\bTRUNCATE\b|\bCOPY\b", re.IGNORECASE)
# Placeholders of drivers and holes of templates: any value may stand there.
_HOLES = re.compile(r"%\(\w+\)s|%s|\{[\w.!:]*\}|:\w+(?<!::)|\$\d+")
_CASTS = re.compile(r"::\s*\w+(?:\[\])?")
_STATEMENT = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|PERFORM|TRUNCATE)\b[^;]*", re.IGNORECASE)
_INTO = re.compile(r"\bINTO\s+(?:STRICT\s+)?[\w.\s,@`]+?\s+(?=FROM\b)", re.IGNORECASE)
_CONTROL = re.compile(r"\b(?:LOOP|THEN|DO)\b", re.IGNORECASE)
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


Parse = Callable[[str], Touched | None]


def looks_like_sql(text: str) -> bool:
    """Whether a string in a program is worth parsing."""
    return bool(_LOOKS_LIKE_SQL.match(text)) and bool(_VERB_AND_TABLE.search(text))


def table_name(schema: str, name: str) -> str:
    """How a table is called in the evidence: without its schema when that is ``public``."""
    return name if schema in ("", "public") else f"{schema}.{name}"


def touched(text: str, views: Mapping[str, Touched] | None = None, dialect: str = "postgres") -> Touched | None:
    """What a statement (or several) touches, or None when it cannot be parsed; ``views`` stand for what they read."""
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    plain = _HOLES.sub("NULL", _CASTS.sub("", text)).replace("%%", "%")
    try:
        parsed = [each for each in sqlglot.parse(plain, read=dialect) if each is not None]
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


def body(text: str, parse: Parse = touched) -> Touched:
    """What a routine's body touches: its statements one by one, as the language around them is not SQL."""
    whole, at = Touched(), 0
    while match := _STATEMENT.search(text, at):
        statement = _balanced(match.group())
        found = _statement(statement, parse)
        if found is None:  # FOR each IN SELECT … LOOP, IF EXISTS (…) THEN
            statement = _CONTROL.split(statement)[0]
            found = _statement(statement, parse)
        whole |= found or Touched()
        at = match.start() + max(1, len(statement))
    return Touched(whole.reads - whole.writes, whole.writes)


def _statement(text: str, parse: Parse) -> Touched | None:
    plain = re.sub(r"^PERFORM", "SELECT", text, flags=re.IGNORECASE)
    if plain[:6].upper() == "SELECT":
        plain = _INTO.sub("", plain)  # variables
    return parse(plain) if looks_like_sql(f"{plain} ") else None


def _balanced(text: str) -> str:
    """The text up to a bracket that closes what was opened before it."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return text[:at]
    return text


def _of(tree: exp.Expr) -> Touched:
    local = {cte.alias for cte in tree.find_all(exp.CTE)}
    targets = set()
    for change in tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.TruncateTable, exp.Copy):
        named = change.expressions[:1] if isinstance(change, exp.TruncateTable) else [change.this]
        # What the parser makes of a slip need not be a table: of "DELETE" as a word it is True.
        table = next((each.find(exp.Table) for each in named if isinstance(each, exp.Expr)), None)
        if table is not None:
            targets.add(id(table))
    reads, writes = set[str](), set[str]()
    for table in tree.find_all(exp.Table):
        if not table.name or (table.name in local and not table.db) or table.db in _UNSEEN or table.name[:3] == "pg_":
            continue
        (writes if id(table) in targets else reads).add(table_name(table.db, table.name))
    return Touched(frozenset(reads - writes), frozenset(writes))
