"""Debezium's JSON values of MariaDB's columns, made PostgreSQL's text: the one that the snapshot has as well. Pure.

What the connector sends for which type was found out against its version 3.1.0.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final

from stranglerfig.capture import texts
from stranglerfig.changes.model import Value
from stranglerfig.databases.mariadb.types import Native, postgres_type
from stranglerfig.databases.numbers import float4, float8

Reader = Callable[[Any], Value]


def reader(column: Native) -> Reader:
    """What reads the column's values (which are not null)."""
    kind = column.type
    if kind == "bigint" and column.unsigned:
        return _unsigned
    if kind == "datetime":
        return texts.timestamp_of_milliseconds if (column.fraction or 0) <= 3 else texts.timestamp
    if kind == "bit":
        return texts.bits(column.precision or 1)
    if postgres_type(column) == "bytea":
        return _octets
    return _READERS.get(kind, str)


def _unsigned(found: str) -> str:
    """``bigint.unsigned.handling.mode=precise``: an unscaled decimal, big-endian, in base64."""
    return str(int.from_bytes(b64decode(found), "big", signed=True))


def _octets(found: str) -> str:
    return "\\x" + b64decode(found).hex()


def _year(found: int) -> str:
    """The year 0 arrives as 1900, which MariaDB's type does not have."""
    return "0" if found == 1900 else str(found)


def duration(found: int) -> str:
    """Microseconds, of either sign."""
    return ("-" if found < 0 else "") + texts.clock_time(abs(found))


_READERS: Final[dict[str, Reader]] = {
    "decimal": texts.numeric,
    "float": float4,
    "double": float8,
    "date": texts.day,
    "timestamp": texts.instant,
    "time": duration,
    "year": _year,
}
