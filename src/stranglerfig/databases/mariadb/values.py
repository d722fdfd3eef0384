"""PostgreSQL's texts made what MariaDB takes for a column: the way back of :func:`~.types.reader`. Pure.

A value that the server would take for another one is refused here: strict mode refuses what is too long or out of
range, but a number for an ``enum`` is the place of a label to it, ``5`` for a ``year`` is 2005, a ``char`` loses the
spaces at its end, and a ``time`` the digits that it has no room for. A row under such a key would not be found again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from stranglerfig.databases.mariadb.types import Native, postgres_type
from stranglerfig.foundation.errors import FigError

Param = str | bytes | int | Decimal
"""As a statement's parameter: numbers bare, for beside a text MariaDB compares numbers as floating point."""
Writer = Callable[[str], Param]

_LABEL: Final = re.compile(r"'((?:[^']|'')*)'")
_DATED: Final = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d+)?)?")
_INTERVAL: Final = re.compile(
    r"(?:(?P<days>-?\d+) days? ?)?"
    r"(?:(?P<sign>[-+])?(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d)(?P<rest>\.\d+)?)?"
)


def writer(column: Native) -> Writer:
    """What makes a parameter of a value's text (which is not null).

    It raises ``FigError`` with the code ``value_refused`` for a text that the column has no value for.
    """
    kind = column.type
    if kind in ("tinyint", "smallint", "mediumint", "int", "bigint"):
        return _integer(column)
    if kind in ("date", "datetime", "timestamp"):
        return _dated(column)
    if kind in ("enum", "set"):
        return _labelled(column)
    if kind == "decimal":
        return _decimal(column)
    if kind == "year":
        return _year(column)
    if kind == "time":
        return _time(column)
    if kind == "bit":
        return lambda text: int(text, 2)
    if kind == "binary":
        return _filled(column)
    if kind == "char":
        return _unpadded(column)
    if postgres_type(column) == "bytea":
        return lambda text: bytes.fromhex(text.removeprefix("\\x"))
    return str


def _refused(column: Native, text: str, why: str) -> FigError:
    return FigError(
        "value_refused",
        f"the column {column.name} ({column.full}) has no value for '{text}': {why}",
        "Correct the row in the service or the mapping's 'reverse', then let sync try it again.",
        column=column.name,
        found=text,
    )


def _integer(column: Native) -> Writer:
    def write(text: str) -> Param:
        try:
            return int(text)
        except ValueError:
            raise _refused(column, text, "it is no whole number") from None

    return write


def _decimal(column: Native) -> Writer:
    def write(text: str) -> Param:
        found = Decimal(text)
        if not found.is_finite():
            raise _refused(column, text, "MariaDB's decimals are numbers only")
        return found

    return write


def _dated(column: Native) -> Writer:
    def write(text: str) -> Param:
        shown = text.removesuffix("+00")  # our sessions are in UTC, on both sides
        if not _DATED.fullmatch(shown):
            raise _refused(column, text, "MariaDB's dates have years from 1 to 9999")
        return shown

    return write


def _unpadded(column: Native) -> Writer:
    def write(text: str) -> Param:
        if text.endswith(" "):
            raise _refused(column, text, "a char has no spaces at its end")
        return text

    return write


def _filled(column: Native) -> Writer:
    def write(text: str) -> Param:
        found = bytes.fromhex(text.removeprefix("\\x"))
        if len(found) != column.length:
            raise _refused(column, text, f"it always has {column.length} bytes")
        return found

    return write


def _labelled(column: Native) -> Writer:
    labels = dict.fromkeys(found.replace("''", "'") for found in _LABEL.findall(column.full))

    def write(text: str) -> Param:
        members = text.split(",") if column.type == "set" and text else [text]
        if column.type == "set" and not text:
            return text
        if unknown := [member for member in members if member not in labels]:
            raise _refused(column, text, f"'{unknown[0]}' is none of its labels")
        if column.type == "set" and members != [label for label in labels if label in members]:
            raise _refused(column, text, "a set has each member once, in the order of its labels")
        return text

    return write


def _year(column: Native) -> Writer:
    def write(text: str) -> Param:
        if text != "0" and not (text.isdecimal() and 1901 <= int(text) <= 2155):
            raise _refused(column, text, "a year is from 1901 to 2155, or 0")
        return int(text)

    return write


def _time(column: Native) -> Writer:
    def write(text: str) -> Param:
        found = _INTERVAL.fullmatch(text)
        if found is None or not text:
            raise _refused(column, text, "months are no length of time there")
        seconds = Decimal(0)
        if found["hours"] is not None:
            seconds = Decimal(int(found["hours"]) * 3600 + int(found["minutes"]) * 60 + int(found["seconds"]))
            seconds += Decimal(f"0{found['rest']}") if found["rest"] else 0
            seconds = -seconds if found["sign"] == "-" else seconds
        seconds += int(found["days"] or 0) * 86_400
        if (digits := len((found["rest"] or "").lstrip(".").rstrip("0"))) > (column.fraction or 0):
            raise _refused(column, text, f"it has {column.fraction or 0} digits behind the second, not {digits}")
        whole, rest = divmod(abs(seconds), 1)
        minutes, second = divmod(int(whole), 60)
        hour, minute = divmod(minutes, 60)
        fraction = f"{rest:f}"[1:] if rest else ""
        return f"{'-' if seconds < 0 else ''}{hour:02d}:{minute:02d}:{second:02d}{fraction}"

    return write
