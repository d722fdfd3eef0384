"""What is true of a database, as plain facts: tables and their belongings, who owns a context's writes, findings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Side = Literal["monolith", "service"]
State = Literal["owner", "intent", "fenced", "ceded", "standby"]


@dataclass(frozen=True, slots=True)
class Ownership:
    """A database's ownership row.

    Attributes:
        side: which side this database is.
        state: what it is; writes are accepted in ``owner`` and ``intent`` only.
        epoch: the highest ownership number that this side has taken part in.
        nonce: of the fence that stands, stood last, or made this side the owner.
        enforcing: whether its guards refuse, or only observe.
    """

    context: str
    side: Side
    state: State
    epoch: int
    nonce: str | None
    enforcing: bool

    @property
    def writable(self) -> bool:
        """Whether direct writes are accepted here."""
        return self.state in ("owner", "intent")

    def as_dict(self) -> dict[str, Any]:
        """The row, JSON-able."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``type`` is ``format_type()``'s text (``numeric(10,2)``), ``default`` its expression."""

    name: str
    type: str
    not_null: bool
    default: str | None = None
    generated: bool = False
    identity: bool = False
    collation: str | None = None


@dataclass(frozen=True, slots=True)
class Unique:
    """A unique constraint or index (the primary key too). ``plain``: on columns alone, without a condition."""

    name: str
    columns: tuple[str, ...]
    primary: bool = False
    deferrable: bool = False
    plain: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    """A check constraint; ``expression`` without the word CHECK."""

    name: str
    expression: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user's trigger; ``enabled`` is pg_trigger's letter (O origin, A always, R replica, D disabled)."""

    table: str
    name: str
    definition: str
    enabled: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence that a table's column uses.

    Attributes:
        name: ``schema.sequence``.
        owned: whether it goes with the column (serial, identity) or is only named in the default.
        cache: how many values a session takes at once.
        last: the last value given out, None when it was never used.
    """

    name: str
    table: str
    column: str
    owned: bool
    increment: int
    cache: int
    last: int | None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key; ``table`` refers to ``refers_to``, both ``schema.table``."""

    name: str
    table: str
    columns: tuple[str, ...]
    refers_to: str
    refers_to_columns: tuple[str, ...]
    definition: str

    @property
    def label(self) -> str:
        """How it is accepted by name: ``schema.table.constraint``."""
        return f"{self.table}.{self.name}"


@dataclass(frozen=True, slots=True)
class Dependent:
    """Something that uses a table: ``kind`` is ``view``, ``materialized view`` or ``function`` (found by its text)."""

    kind: str
    name: str
    table: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        oid: its object id in this database.
        kind: ``table``, ``partitioned`` or ``partition``; ``root`` names the partitioned table above a partition.
        replica_identity: pg_class's letter: d default, n nothing, f full, i index (then ``identity_columns``).
        identity_columns: the columns that identify a row in the change stream; empty when nothing does.
        rows: estimated number, -1 when never analysed.
        bytes: with indexes and TOAST, partitions included.
    """

    schema: str
    name: str
    oid: int
    kind: Literal["table", "partitioned", "partition"]
    root: str | None
    leaves: tuple[str, ...]
    owner: str
    replica_identity: str
    columns: tuple[Column, ...]
    uniques: tuple[Unique, ...]
    checks: tuple[Check, ...]
    identity_columns: tuple[str, ...]
    rows: int
    bytes: int
    row_security: bool = False

    @property
    def qualified(self) -> str:
        """``schema.table``."""
        return f"{self.schema}.{self.name}"

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Its columns in the key's order; empty without one."""
        return next((unique.columns for unique in self.uniques if unique.primary), ())

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Finding:
    """What preflight found: ``refuse`` stands in the way, ``warn`` is to be known.

    ``statements`` are the SQL statements that would mend it, when SQL does.
    """

    code: str
    severity: Literal["refuse", "warn"]
    message: str
    remedy: str
    context: dict[str, Any] = field(default_factory=dict)
    statements: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The finding, JSON-able."""
        return asdict(self)


def split_name(table: str) -> tuple[str, str]:
    """``schema.table`` → (schema, table); ``public`` when no schema is named."""
    schema, _, name = table.rpartition(".")
    return schema or "public", name


def sequence_start(
    target: int | None, source: int, *, cache: int, sessions: int, margin: int, increment: int = 1
) -> int:
    """The value that a target sequence is set to, so that no value already given out by the source comes again.

    ``cache * sessions`` values may have been taken in advance by sessions of the source and not be in any row yet. A
    sequence that counts down is set mirrored.
    """
    reserve = cache * sessions + margin
    if increment < 0:
        low = source + reserve * increment
        return low if target is None else min(target, low)
    high = source + reserve * increment
    return high if target is None else max(target, high)
