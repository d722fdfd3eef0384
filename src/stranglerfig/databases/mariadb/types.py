"""MariaDB's types in PostgreSQL's words: which type a column has there, and which text each of its values.

Pure. All rooms above see only what is made here, so a mapping is written against PostgreSQL's types and evaluated by
PostgreSQL. Where a value would not survive the way through Debezium the column is refused beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from stranglerfig.databases.numbers import float4, float8
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Value, quote

Reader = Callable[[str | bytes], str]
"""A value as the server sends it, made PostgreSQL's text."""


@dataclass(frozen=True, slots=True)
class Native:
    """A column as MariaDB's ``information_schema`` describes it.

    Attributes:
        type: its name, such as ``int``.
        full: with its attributes, such as ``int(10) unsigned``.
        length: characters, or bytes of binary types.
        precision, scale: digits; of ``bit`` the bits.
        fraction: digits behind the second.
        key: whether it belongs to the primary key.
        generated: whether the server computes it.
    """

    name: str
    type: str
    full: str
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    fraction: int | None = None
    key: bool = False
    generated: bool = False

    @property
    def unsigned(self) -> bool:
        """Whether it holds no negative numbers."""
        return " unsigned" in self.full

    @property
    def zerofill(self) -> bool:
        """Whether the server pads its text with zeros."""
        return " zerofill" in self.full


_INTEGERS: Final = {
    ("tinyint", False): "smallint",
    ("tinyint", True): "smallint",
    ("smallint", False): "smallint",
    ("smallint", True): "integer",
    ("mediumint", False): "integer",
    ("mediumint", True): "integer",
    ("int", False): "integer",
    ("int", True): "bigint",
    ("bigint", False): "bigint",
    ("bigint", True): "numeric(20,0)",
}
_TEXTS: Final = frozenset({"tinytext", "text", "mediumtext", "longtext", "enum", "set"})
_BYTES: Final = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_WHY: Final = {
    "uuid": "Debezium cannot read a table that has one: keep it as char(36) or binary(16)",
    "inet4": "Debezium cannot read a table that has one: keep it as varchar(15)",
    "inet6": "Debezium cannot read a table that has one: keep it as varchar(45)",
}


def postgres_type(column: Native) -> str | None:
    """The type that holds every value of the column, as ``format_type()`` writes it; None when there is none."""
    kind = column.type
    if (kind, column.unsigned) in _INTEGERS:
        return _INTEGERS[kind, column.unsigned]
    if kind in _TEXTS:
        return "text"
    if kind in _BYTES:
        return "bytea"
    fraction = column.fraction or 0
    return {
        "decimal": f"numeric({column.precision},{column.scale})",
        "float": "real",
        "double": "double precision",
        "char": f"character varying({column.length})",  # which, like MariaDB's, knows no trailing spaces
        "varchar": f"character varying({column.length})",
        "date": "date",
        "datetime": f"timestamp({fraction}) without time zone",
        "timestamp": f"timestamp({fraction}) with time zone",
        "time": "interval",  # it holds up to 838 hours, and less than none
        "year": "smallint",
        "bit": f"bit({column.precision})",
    }.get(kind)


def undeliverable(column: Native) -> str | None:
    """Why a column cannot be captured as it is, or None when it can."""
    if "`" in column.name:
        return "Debezium misreads a name with a backtick in it"
    if column.type in ("enum", "set") and re.search(r"\\|''|[^'],", column.full):
        return "Debezium misreads a label with a comma, a quote or a backslash in it"
    if postgres_type(column) is not None:
        return None
    return _WHY.get(column.type, f"values of type {column.type} have no text that both databases share")


def expression(column: Native) -> str:
    """What a SELECT asks for, so that the server sends the whole value: of a float it shows six digits unasked."""
    name = quote(column.name)
    return f"CAST({name} AS DOUBLE)" if column.type == "float" else name


def reader(column: Native) -> Reader:
    """What makes PostgreSQL's text of the column's values (which are not null).

    The reader raises ``FigError`` with the code ``zero_date`` for a date that is none.
    """
    kind = column.type
    if kind == "year" or (column.zerofill and kind in ("tinyint", "smallint", "mediumint", "int", "bigint")):
        return lambda found: str(int(found))
    if kind == "bit":
        return _bits(column.precision or 1)
    if kind == "decimal" and column.zerofill:
        return _unpadded
    if kind in ("date", "datetime", "timestamp"):
        return _dated(column)
    return _READERS.get(kind, _octets if kind in _BYTES else _text)


def _text(found: str | bytes) -> str:
    return found if isinstance(found, str) else found.decode()


def _octets(found: str | bytes) -> str:
    return "\\x" + (found.encode() if isinstance(found, str) else found).hex()


def _bits(length: int) -> Reader:
    def read(found: str | bytes) -> str:
        packed = found.encode() if isinstance(found, str) else found
        return f"{int.from_bytes(packed, 'big'):0{length}b}"

    return read


def _unpadded(found: str | bytes) -> str:
    shown = _text(found).lstrip("0")
    return f"0{shown}" if not shown or shown.startswith(".") else shown


def without_zeros(shown: str) -> str:
    """A time without what its fraction ends with for nothing, as PostgreSQL shows it."""
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _dated(column: Native) -> Reader:
    zone = "+00" if column.type == "timestamp" else ""  # our sessions are in UTC

    def read(found: str | bytes) -> str:
        shown = _text(found)
        if shown.startswith("0000") or shown[5:7] == "00" or shown[8:10] == "00":
            raise zero_date(column.name, shown)
        return without_zeros(shown) + zone

    return read


def zero_date(column: str, shown: str) -> FigError:
    """A date that PostgreSQL does not know."""
    return FigError(
        "zero_date",
        f"the column {column} holds '{shown}', which is no date",
        "Set such rows to null or to a date, and let sql_mode have NO_ZERO_DATE and NO_ZERO_IN_DATE.",
        column=column,
        found=shown,
    )


_READERS: Final[dict[str, Reader]] = {
    "float": lambda found: float4(float(found)),
    "double": lambda found: float8(float(found)),
    "time": lambda found: without_zeros(_text(found)),
}

_ESCAPES: Final = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPED: Final = re.compile(r"[\\\t\n\r]")


def copy_line(row: tuple[Value, ...], readers: tuple[Reader, ...]) -> bytes:
    """A row as a line of COPY's text format (PostgreSQL's manual, "COPY", "Text Format")."""
    return (
        "\t".join(
            [
                "\\N" if value is None else _ESCAPED.sub(lambda m: _ESCAPES[m[0]], read(value))
                for value, read in zip(row, readers, strict=True)
            ]
        )
        + "\n"
    ).encode()
