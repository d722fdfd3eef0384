"""The mapping compiled: which SQL turns rows of one model into rows of the other, in both directions.

Pure but for :func:`check` and :func:`identity_violations`, which ask a database what only it can know. Sync applies
what is compiled here, verification compares by the same expressions, so that the two cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from stranglerfig.changes.model import Direction
from stranglerfig.changes.settings import TableMapping
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError


class CatalogueColumn(Protocol):
    """What the mapping asks of a column of the catalogue."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def not_null(self) -> bool: ...  # noqa: D102
    @property
    def generated(self) -> bool: ...  # noqa: D102


class CatalogueTable(Protocol):
    """What the mapping asks of a table of the catalogue."""

    @property
    def schema(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def columns(self) -> Sequence[CatalogueColumn]: ...  # noqa: D102
    @property
    def primary_key(self) -> tuple[str, ...]: ...  # noqa: D102


Catalogue = MappingABC[str, CatalogueTable]


@dataclass(frozen=True, slots=True)
class Assignment:
    """``column`` of the output row gets ``expression`` over the input row.

    Attributes:
        type: the output column's type.
        needs: the input columns that the expression reads (at least those: a word that happens to be a column's name
            counts as well, which costs nothing but an *unchanged* value that is asked for in vain).
    """

    column: str
    type: str
    expression: str
    needs: frozenset[str]

    @property
    def plain(self) -> bool:
        """Whether the expression is a column and nothing else."""
        return plain_column(self.expression) is not None

    @property
    def value(self) -> str:
        """The expression where its value is computed before it is put in place: in a subquery a literal or NULL alone
        would become a text, which no date, number or enumeration takes."""
        return f"({self.expression})" if self.needs else f"({self.expression})::{canonical(self.type)}"


@dataclass(frozen=True, slots=True)
class Entry:
    """Rows of one input table become rows, or parts of rows, of one output table.

    Attributes:
        source: the input table, ``schema.name``.
        target: the output table, ``schema.name``.
        key: how the output's key comes from the input's (plain columns).
        columns: the other columns.
        where: condition on the input row; a row that does not match has no output row.
        anchor: whether its rows make and unmake the output's rows; others only fill in columns.
    """

    source: str
    target: str
    key: tuple[Assignment, ...]
    columns: tuple[Assignment, ...]
    where: str | None = None
    where_needs: frozenset[str] = frozenset()
    anchor: bool = True

    @property
    def source_key(self) -> tuple[str, ...]:
        """The input's key columns, in the order of :attr:`key`."""
        return tuple(name for a in self.key if (name := plain_column(a.expression)) is not None)

    @property
    def needs(self) -> frozenset[str]:
        """Every input column that is read."""
        return frozenset().union(self.where_needs, *(a.needs for a in (*self.key, *self.columns)))


@dataclass(frozen=True, slots=True)
class Mapping:
    """Both directions, compiled.

    Attributes:
        forward: one entry per mapped pair of tables, in the order of ``extraction.yaml`` (parents first).
        reverse: one entry per pair that has a ``reverse``; the first of each monolith table is its anchor.
        source_types: the types of the input columns, by table: what stages and checks are made of.
        target_types: the same of the service's tables.
        irreversible: monolith tables with the columns that no ``reverse`` fills.
    """

    forward: tuple[Entry, ...]
    reverse: tuple[Entry, ...]
    source_types: MappingABC[str, MappingABC[str, str]]
    target_types: MappingABC[str, MappingABC[str, str]]
    irreversible: MappingABC[str, tuple[str, ...]]

    def entries(self, direction: Direction) -> tuple[Entry, ...]:
        """What sync applies in ``direction``."""
        return self.forward if direction is Direction.FORWARD else self.reverse

    def inputs(self, direction: Direction) -> tuple[str, ...]:
        """The tables that capture reads for ``direction``: what a publication lists."""
        return tuple(dict.fromkeys(e.source for e in self.entries(direction)))

    def outputs(self, direction: Direction) -> tuple[str, ...]:
        """The tables that sync writes in ``direction``: what it needs INSERT, UPDATE, DELETE and TRUNCATE on."""
        return tuple(dict.fromkeys(e.target for e in self.entries(direction)))

    @property
    def roles(self) -> dict[Direction, tuple[str, ...]]:
        """Which tables each direction writes."""
        return {direction: self.outputs(direction) for direction in Direction}

    def require_reversible(self) -> None:
        """Refuse what may be synced but could not be brought back.

        Raises:
            FigError: ``mapping_not_reversible`` naming the columns.
        """
        if self.irreversible:
            lost = [f"{table}.{column}" for table, columns in self.irreversible.items() for column in columns]
            raise FigError(
                "mapping_not_reversible",
                f"no reverse gives back {', '.join(lost)}",
                "Add each column to the 'reverse' of an entry of its table: without it the writes stage is refused.",
                columns=lost,
            )


_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | \$(\w*)\$.*?\$\1\$ | [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*'
      | "(?P<quoted>(?:[^"]|"")+)" | (?P<word>[^\W\d][\w$]*)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<word>[^\W\d][\w$]*))\s*')
_NOT_COLUMNS = frozenset(
    ("null", "true", "false", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")
)


def identifiers(expression: str) -> frozenset[str]:
    """The words of an SQL expression that could name columns: outside literals, folded as PostgreSQL folds them."""
    found = set()
    for token in _TOKEN.finditer(expression):
        if (quoted := token["quoted"]) is not None:
            found.add(quoted.replace('""', '"'))
        elif (word := token["word"]) is not None:
            found.add(word.lower())
    return frozenset(found)


def plain_column(expression: str) -> str | None:
    """The column that the expression is, or None when it is more than a column."""
    match = _PLAIN.fullmatch(expression)
    if match is None:
        return None
    if match["quoted"] is not None:
        return match["quoted"].replace('""', '"')
    word = str(match["word"]).lower()
    return None if word in _NOT_COLUMNS else word


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_table(qualified: str) -> str:
    """``schema.name`` as SQL identifiers."""
    schema, _, name = qualified.partition(".")
    return f"{quote(schema)}.{quote(name)}"


_CATEGORIES = {
    "number": ("smallint", "integer", "bigint", "numeric", "real", "double precision", "money"),
    "boolean": ("boolean",),
    "time": ("timestamp", "date"),
    "document": ("json", "jsonb"),
    "uuid": ("uuid",),
    "bytes": ("bytea",),
    "text": ("text", "character", "character varying", '"char"', "name"),
}


def category(type_name: str) -> str | None:
    """A coarse kind of type, of which two different ones are never assigned to each other; None when not known."""
    base = re.sub(r"\(.*?\)", "", type_name).strip()
    if base.endswith("[]"):
        return None
    base = base.removesuffix(" with time zone").removesuffix(" without time zone").strip()
    return next((kind for kind, types in _CATEGORIES.items() if base in types), None)


@dataclass(frozen=True, slots=True)
class _Side:
    """One catalogue's table, with what the compiler asks of it."""

    qualified: str
    types: dict[str, str]
    generated: frozenset[str]
    primary_key: tuple[str, ...]


def _side(catalogue: Catalogue, qualified: str, place: str) -> _Side:
    table = catalogue.get(qualified)
    if table is None:
        raise FigError(
            "mapping_unknown_table",
            f"{place}: there is no table {qualified}",
            "Correct the name (with its schema) or create the table first.",
            place=place,
            table=qualified,
        )
    return _Side(
        qualified,
        {c.name: c.type for c in table.columns},
        frozenset(c.name for c in table.columns if c.generated),
        tuple(table.primary_key),
    )


def _assign(column: str, expression: str, output: _Side, source: _Side, place: str) -> Assignment:
    if column not in output.types:
        raise _unknown_column(column, output, place)
    if column in output.generated:
        raise FigError(
            "mapping_generated_column",
            f"{place}: {output.qualified}.{column} is generated by the database",
            "Leave the column out of the mapping.",
            place=place,
        )
    plain = plain_column(expression)
    if plain is not None and plain not in source.types:
        raise _unknown_column(plain, source, place)
    if plain is not None:
        here, there = category(source.types[plain]), category(output.types[column])
        if here and there and here != there and there != "text":
            raise FigError(
                "mapping_type_mismatch",
                f"{place}: {source.qualified}.{plain} is {source.types[plain]}, "
                f"{output.qualified}.{column} is {output.types[column]}",
                "Write an expression that converts the value.",
                place=place,
            )
    return Assignment(column, output.types[column], expression, identifiers(expression) & source.types.keys())


def _unknown_column(column: str, table: _Side, place: str) -> FigError:
    return FigError(
        "mapping_unknown_column",
        f"{place}: {table.qualified} has no column '{column}'; it has {', '.join(table.types)}",
        "Correct the name, or put a text value between single quotes.",
        place=place,
        column=column,
        table=table.qualified,
    )


def compile_mapping(
    tables: Sequence[TableMapping], source_catalogue: Catalogue, target_catalogue: Catalogue
) -> Mapping:
    """Compile ``tables`` against both catalogues (``schema.name`` → table).

    Raises:
        FigError: ``mapping_unknown_table``, ``mapping_unknown_column``, ``mapping_type_mismatch``,
            ``mapping_key_not_column``, ``mapping_key_not_unique``, ``mapping_generated_column``,
            ``mapping_target_twice``, ``mapping_column_twice``; each with the place in ``extraction.yaml``.
    """
    forward: list[Entry] = []
    reverse: list[Entry] = []
    sources: dict[str, _Side] = {}
    targets: dict[str, _Side] = {}
    covered: dict[str, set[str]] = {}
    for number, table in enumerate(tables):
        place = f"tables[{number}]"
        source = sources.setdefault(table.source, _side(source_catalogue, table.source, f"{place}.from"))
        target = _side(target_catalogue, table.target, f"{place}.to")
        if target.qualified in targets:
            raise FigError(
                "mapping_target_twice",
                f"{place}.to: {target.qualified} is filled from another table already",
                "Fill each table of the service from one table of the monolith.",
                place=place,
            )
        targets[target.qualified] = target
        entry = _forward(table, source, target, place)
        forward.append(entry)
        done = covered.setdefault(source.qualified, set(entry.source_key) | source.generated)
        if table.reverse is not None:
            anchor = all(e.target != source.qualified for e in reverse)
            reverse.append(_reverse(table, entry, source, target, done, anchor, place))
    lost = {name: tuple(c for c in sources[name].types if c not in done) for name, done in covered.items()}
    for name in sources:
        if all(e.target != name for e in reverse):
            lost[name] = tuple(c for c in sources[name].types if c not in sources[name].generated)
    return Mapping(
        tuple(forward),
        tuple(reverse),
        {name: side.types for name, side in sources.items()},
        {name: side.types for name, side in targets.items()},
        {name: columns for name, columns in lost.items() if columns},
    )


def _forward(table: TableMapping, source: _Side, target: _Side, place: str) -> Entry:
    for column, expression in table.key.items():
        if plain_column(expression) is None:
            raise FigError(
                "mapping_key_not_column",
                f"{place}.key.{column}: '{expression}' is not a plain column, so the way back could not be found",
                "Map each key column to a column of the monolith's key.",
                place=f"{place}.key.{column}",
            )
    key = tuple(_assign(c, e, target, source, f"{place}.key.{c}") for c, e in table.key.items())
    if set(target.primary_key) != set(table.key):
        _refuse_key(target, tuple(table.key), f"{place}.key")
    used = tuple(name for a in key if (name := plain_column(a.expression)))
    if set(source.primary_key) != set(used):
        _refuse_key(source, used, f"{place}.key")
    columns = tuple(_assign(c, e, target, source, f"{place}.columns.{c}") for c, e in table.columns.items())
    needs = identifiers(table.where or "") & source.types.keys()
    return Entry(source.qualified, target.qualified, key, columns, table.where, needs)


def _refuse_key(table: _Side, used: tuple[str, ...], place: str) -> None:
    raise FigError(
        "mapping_key_not_unique",
        f"{place}: {', '.join(used)} is not the primary key of {table.qualified}"
        f" ({', '.join(table.primary_key) or 'it has none'})",
        "Map the whole primary key of one side to the whole primary key of the other.",
        place=place,
    )


def _reverse(
    table: TableMapping, entry: Entry, source: _Side, target: _Side, done: set[str], anchor: bool, place: str
) -> Entry:
    assert table.reverse is not None
    key = tuple(
        _assign(str(plain_column(a.expression)), quote(a.column), source, target, f"{place}.key.{a.column}")
        for a in entry.key
    )
    keys = {a.column for a in key}
    columns = []
    for column, expression in table.reverse.items():
        if column in keys:
            continue
        made = _assign(column, expression, source, target, f"{place}.reverse.{column}")
        if column in done:
            raise FigError(
                "mapping_column_twice",
                f"{place}.reverse.{column}: {source.qualified}.{column} is given back by another entry already",
                "Give each column back once.",
                place=f"{place}.reverse.{column}",
            )
        columns.append(made)
        done.add(column)
    return Entry(target.qualified, source.qualified, key, tuple(columns), anchor=anchor)


def canonical(type_name: str) -> str:
    """The type in which a value is compared: the column's own, but never one whose cast cuts a text short."""
    return "text" if type_name.startswith("character varying") else type_name


def empty_row(types: MappingABC[str, str]) -> str:
    """A subquery with no row and the columns of a table: what an expression is checked against."""
    return "(SELECT " + ", ".join(f"NULL::{t} AS {quote(c)}" for c, t in types.items()) + " LIMIT 0) AS input"


async def check(conn: postgres.Connection, mapping: Mapping, direction: Direction, *, elsewhere: bool = False) -> None:
    """Let the database that sync writes in ``direction`` judge each expression; nothing is changed.

    ``elsewhere``: the rows go to a database of another kind, and ``conn`` is only where the expressions are evaluated.

    Raises:
        FigError: ``mapping_unknown_column``, ``mapping_type_mismatch``, ``mapping_invalid_expression``.
    """
    types = mapping.source_types if direction is Direction.FORWARD else mapping.target_types
    for entry in mapping.entries(direction):
        row = empty_row(types[entry.source])
        for assignment in (*entry.key, *entry.columns):
            place = f"{entry.source} → {entry.target}.{assignment.column}"
            into = f"INSERT INTO {quote_table(entry.target)} ({quote(assignment.column)}) OVERRIDING SYSTEM VALUE"
            selected = f"SELECT s.v FROM (SELECT {assignment.value} AS v FROM {row}) AS s"  # noqa: S608
            if elsewhere:
                into, selected = "", f"SELECT ({assignment.expression})::{canonical(assignment.type)} FROM {row}"  # noqa: S608
            await _judge(conn, f"EXPLAIN {into} {selected}", place)
        if entry.where:
            await _judge(conn, f"EXPLAIN SELECT FROM {row} WHERE {entry.where}", f"{entry.source}: where")


async def _judge(conn: postgres.Connection, statement: str, place: str) -> None:
    try:
        await conn.execute(statement)
    except psycopg.Error as error:
        code = {"42703": "mapping_unknown_column", "42804": "mapping_type_mismatch"}.get(
            error.sqlstate or "", "mapping_invalid_expression"
        )
        said = error.diag.message_primary or str(error)
        raise FigError(code, f"{place}: {said}", "Correct the expression in extraction.yaml.", place=place) from error


@dataclass(frozen=True, slots=True)
class Violation:
    """A column that does not come back as it went: ``rows`` of them, with up to five keys as text."""

    table: str
    column: str
    rows: int
    examples: tuple[str, ...]


async def identity_violations(
    conn: postgres.Connection, mapping: Mapping, copies: MappingABC[str, str] | None = None
) -> list[Violation]:
    """Run reverse ∘ forward over every row of the monolith's tables, in the monolith's database.

    The writes stage is refused unless this is empty: otherwise the way back jams on the first row that differs.
    ``copies``: the temporary tables of ``conn`` in which their rows lie, where the monolith's is of another kind.
    """
    found: list[Violation] = []
    backward = {(e.source, e.target): e for e in mapping.reverse}
    for entry in mapping.forward:
        back = backward.get((entry.target, entry.source))
        if back is None or not back.columns:
            continue
        there = ", ".join(f"({a.expression})::{a.type} AS {quote(a.column)}" for a in (*entry.key, *entry.columns))
        absent = mapping.target_types[entry.target].keys() - {a.column for a in (*entry.key, *entry.columns)}
        rest = "".join(f", NULL::{mapping.target_types[entry.target][c]} AS {quote(c)}" for c in sorted(absent))
        again = ", ".join(f"({a.expression})::{a.type} AS r{n}" for n, a in enumerate(back.columns))
        key = "concat_ws(', ', " + ", ".join(f"o.{quote(c)}" for c in entry.source_key) + ")"
        where = f" WHERE EXISTS (SELECT FROM (SELECT o.*) AS w WHERE {entry.where})" if entry.where else ""
        tests = [f"o.{quote(a.column)}::text IS DISTINCT FROM r.r{n}::text" for n, a in enumerate(back.columns)]
        select = ", ".join(f"count(*) FILTER (WHERE {t}), (array_agg({key}) FILTER (WHERE {t}))[1:5]" for t in tests)
        row: Sequence[Any] = (
            await postgres.one(
                conn,
                f"SELECT {select} FROM {copies[entry.source] if copies else quote_table(entry.source)} AS o"  # noqa: S608
                f" CROSS JOIN LATERAL (SELECT {there}{rest} FROM (SELECT o.*) AS input) AS f"
                f" CROSS JOIN LATERAL (SELECT {again} FROM (SELECT f.*) AS input) AS r{where}",
            )
            or ()
        )
        for number, assignment in enumerate(back.columns):
            if count := row[2 * number]:
                found.append(Violation(entry.source, assignment.column, count, tuple(row[2 * number + 1])))
    return found
