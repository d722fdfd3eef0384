"""Debezium's JSON values, made into PostgreSQL's text form again: the one that native capture reads from the stream.

Pure. What Debezium sends for which type was found out against its connector for PostgreSQL 3.0.8; where it sends less
than PostgreSQL had, the type is refused before anything is captured (:func:`undeliverable`).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import orjson

from stranglerfig.changes.model import UNCHANGED, Column, Value
from stranglerfig.databases.numbers import float4, float8

PLACEHOLDER: Final = "__stranglerfig_unchanged_toast_value__"
"""What the connector is told to send for a TOASTed value that the source did not send."""

Reader = Callable[[Any], Value]

_MARK: Final = PLACEHOLDER.encode()
_MARK_BASE64: Final = b64encode(_MARK).decode()
# The connector has a placeholder of its own for each of a few types (Debezium, UnchangedToastedPlaceholder).
_MARK_UUID: Final = str(uuid.UUID(bytes=hashlib.md5(_MARK, usedforsecurity=False).digest(), version=3))
_MARK_LISTS: Final[tuple[list[Any], ...]] = ([PLACEHOLDER], list(_MARK), [_MARK_UUID], [_MARK_BASE64])
_MARK_HSTORE: Final = orjson.dumps({PLACEHOLDER: PLACEHOLDER}).decode()


@dataclass(frozen=True, slots=True)
class Shape:
    """A column as the catalogue describes it, domains resolved.

    Attributes:
        column: as the change stream would describe it.
        base: the type's name in ``pg_type``, such as ``int4``; of an array the element's.
        kind: ``pg_type.typtype`` of that: ``b`` base, ``e`` enumeration, ``c`` composite, ``d`` domain, ``r`` range …
        array: whether it is an array.
        dimensions: as declared; 0 when it is none.
        modifier: type modifier, -1 without one.
        storage: ``p`` plain, ``m`` main, ``x`` extended, ``e`` external.
        builtin: whether the type is PostgreSQL's own.
    """

    column: Column
    base: str
    kind: str = "b"
    array: bool = False
    dimensions: int = 0
    modifier: int = -1
    storage: str = "p"
    builtin: bool = True


# Numbers


def numeric(found: str) -> Value:
    """``decimal.handling.mode=string``: digits, or one of three words. Thousands of digits may be outside the row."""
    if found == PLACEHOLDER:
        return UNCHANGED
    if found in _NUMERIC_WORDS:
        return _NUMERIC_WORDS[found]
    return format(Decimal(found), "f") if "E" in found else found


_NUMERIC_WORDS: Final = {"NAN": "NaN", "POSITIVE_INFINITY": "Infinity", "NEGATIVE_INFINITY": "-Infinity"}


# Dates and times

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAY: Final = 86_400_000_000
# What pgjdbc's infinite dates and timestamps become on their way through the connector.
_INFINITE_DAYS: Final = {-2147472692: "infinity", -2147472691: "-infinity"}
_INFINITE_MILLISECONDS: Final = {9223372036825200: "infinity", -9223372036832400: "-infinity"}


def day(found: int) -> str:
    """Days since 1970."""
    try:
        return date.fromordinal(_EPOCH_DAY + found).isoformat()
    except (ValueError, OverflowError):
        if found in _INFINITE_DAYS:
            return _INFINITE_DAYS[found]
        year, month, number = _civil(found)
        return _era(f"{abs(year if year > 0 else 1 - year):04d}-{month:02d}-{number:02d}", year)


def _era(text: str, year: int) -> str:
    return text if year > 0 else f"{text} BC"


def _civil(days: int) -> tuple[int, int, int]:
    """Year (0 is 1 BC), month and day of a day since 1970, in the proleptic Gregorian calendar.

    Reckoned from March of year 0 in cycles of 400 years, so that leap days come last.
    """
    cycle, rest = divmod(days + 719_468, 146_097)
    years = (rest - rest // 1460 + rest // 36_524 - rest // 146_096) // 365
    rest -= 365 * years + years // 4 - years // 100
    shifted = (5 * rest + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return cycle * 400 + years + (month <= 2), month, rest - (153 * shifted + 2) // 5 + 1


def clock_time(found: int) -> str:
    """Microseconds since midnight; 24:00:00 is a time."""
    seconds, fraction = divmod(found, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{_fraction(fraction)}"


def _fraction(microseconds: int) -> str:
    return f".{microseconds:06d}".rstrip("0") if microseconds else ""


def timestamp(found: int) -> str:
    """Microseconds since 1970."""
    try:
        made = (_EPOCH + timedelta(microseconds=found)).replace(tzinfo=None).isoformat(" ")
    except OverflowError:
        milliseconds = found // 1000
        if milliseconds in _INFINITE_MILLISECONDS:
            return _INFINITE_MILLISECONDS[milliseconds]
        days, rest = divmod(found, _DAY)
        shown, bc = _split_era(day(days))
        return f"{shown} {clock_time(rest)}{bc}"
    return made.rstrip("0") if "." in made else made


def _split_era(text: str) -> tuple[str, str]:
    return (text.removesuffix(" BC"), " BC") if text.endswith(" BC") else (text, "")


def timestamp_of_milliseconds(found: int) -> str:
    """The same for at most three digits of fraction."""
    return _INFINITE_MILLISECONDS.get(found) or timestamp(found * 1000)


def instant(found: str) -> str:
    """ISO 8601 in UTC; years before 1 are astronomical, later ones than 9999 have a sign."""
    if not found.endswith("Z"):
        return found  # infinity, -infinity
    if found[10:11] == "T" and found[0] not in "+-":
        shown, clock, bc = found[:10], found[11:-1], ""
    else:
        moment, _, clock = found[:-1].partition("T")
        year, month, number = moment.rsplit("-", 2)
        reckoned = int(year)
        shown = f"{reckoned if reckoned > 0 else 1 - reckoned:04d}-{month}-{number}"
        bc = "" if reckoned > 0 else " BC"
    if "." in clock:
        clock = clock.rstrip("0").rstrip(".")
    return f"{shown} {clock}+00{bc}"


_INTERVAL = re.compile(r"P(-?\d+)Y(-?\d+)M(-?\d+)DT(-?\d+)H(-?\d+)M(-?\d+)(?:\.(\d+))?S")


def interval(found: str) -> str:
    """ISO 8601 → PostgreSQL's own style (``EncodeInterval`` of its ``datetime.c``)."""
    match = _INTERVAL.fullmatch(found)
    if match is None:
        raise ValueError(f"{found!r} is not an interval")
    years, months, days, hours, minutes, seconds = (int(match[n]) for n in range(1, 7))
    fraction = int((match[7] or "0").ljust(6, "0"))
    parts: list[str] = []
    before = False
    for number, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if number:
            parts.append(f"{'+' if before and number > 0 else ''}{number} {unit}{'' if number == 1 else 's'}")
            before = number < 0
    if not parts or hours or minutes or seconds or fraction:
        minus = match[4].startswith("-") or match[5].startswith("-") or match[6].startswith("-")
        sign = "-" if minus else "+" if before else ""
        parts.append(f"{sign}{abs(hours):02d}:{abs(minutes):02d}:{abs(seconds):02d}{_fraction(fraction)}")
    return " ".join(parts)


_OFFSET = re.compile(r"(\d{4,}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d(?::\d\d){0,2})( BC)?")


def in_utc(found: str) -> str:
    """Times within a range, which the source prints in the zone of Connect's Java, in UTC as our sessions do."""

    def moved(match: re.Match[str]) -> str:
        if match[2] == "+00":
            return match[0]
        hours, *smaller = match[2].split(":")
        offset = abs(int(hours)) * 3600 + sum(int(part) * 60 ** (1 - n) for n, part in enumerate(smaller))
        shown, _, clock = match[1].partition(" ")
        year, month, number = (int(part) for part in shown.split("-"))
        whole, _, fraction = clock.partition(".")
        hour, minute, second = (int(part) for part in whole.split(":"))
        days = _days(1 - year if match[3] else year, month, number)
        seconds = days * 86_400 + hour * 3600 + minute * 60 + second - (-offset if hours[0] == "-" else offset)
        made, bc = _split_era(timestamp(seconds * 1_000_000 + int(fraction.ljust(6, "0") or 0)))
        return f"{made}+00{bc}"

    return _OFFSET.sub(moved, found)


def _days(year: int, month: int, number: int) -> int:
    """The inverse of :func:`_civil`."""
    year -= month <= 2
    shifted = month - 3 if month > 2 else month + 9
    rest = year % 400
    return year // 400 * 146_097 + rest * 365 + rest // 4 - rest // 100 + (153 * shifted + 2) // 5 + number - 719_469


# Texts and bytes


def text(found: str) -> Value:
    """As it is."""
    return UNCHANGED if found == PLACEHOLDER else found


def octets(found: str) -> Value:
    """``bytea``: base64 → hex."""
    return UNCHANGED if found == _MARK_BASE64 else "\\x" + b64decode(found).hex()


def opaque(found: str) -> Value:
    """A type that the connector does not know: its text, in base64."""
    return UNCHANGED if found == _MARK_BASE64 else b64decode(found).decode()


def opaque_in_utc(found: str) -> Value:
    """The same, with times in it."""
    made = opaque(found)
    return in_utc(made) if isinstance(made, str) else made


_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|Infinity|NaN)")


def geometry(found: str) -> Value:
    """Lines, boxes, paths …: PostgreSQL's text, whose numbers went through Java."""
    made = opaque(found)
    if not isinstance(made, str):
        return made
    return _NUMBER.sub(lambda match: float8(float(match[0]) if match[0][-1].isdigit() else match[0]), made)


def point(found: dict[str, Any]) -> str:
    """A structure with x and y."""
    return f"({float8(found['x'])},{float8(found['y'])})"


def bits(length: int) -> Reader:
    """``bit(n)``: little-endian bytes; a single one is a boolean."""

    def read(found: Any) -> str:
        if isinstance(found, bool):
            return "1" if found else "0"
        return f"{int.from_bytes(b64decode(found), 'little'):0{length}b}"

    return read


def boolean(found: bool) -> str:
    """As PostgreSQL prints it."""
    return "t" if found else "f"


def hstore(found: str) -> Value:
    """``hstore.handling.mode=json`` → its own text, in its own order: by length of the key, then by bytes."""
    if found == _MARK_HSTORE:
        return UNCHANGED
    pairs = sorted(orjson.loads(found).items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode()))
    return ", ".join(f"{_quoted(key)}=>{'NULL' if value is None else _quoted(value)}" for key, value in pairs)


def _quoted(part: str) -> str:
    return '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'


def vector(found: list[float]) -> str:
    """pgvector's ``vector`` and ``halfvec``."""
    return f"[{','.join(map(float4, found))}]"


def sparse_vector(found: dict[str, Any]) -> str:
    """pgvector's ``sparsevec``: pairs of index and value."""
    pairs = ",".join(f"{index}:{float4(value)}" for index, value in found["vector"])
    return f"{{{pairs}}}/{found['dimensions']}"


_PLAIN = re.compile(r'[^"\\{},\s]+')


def array(element: Reader) -> Reader:
    """A list → ``{…}`` (``array_out``); of one dimension, from 1."""

    def read(found: list[Any]) -> Value:
        if found in _MARK_LISTS:
            return UNCHANGED
        parts = []
        for value in found:
            made = None if value is None else element(value)
            if made is None:
                parts.append("NULL")
            elif _PLAIN.fullmatch(str(made)) and str(made).upper() != "NULL":
                parts.append(str(made))
            else:
                parts.append(_quoted(str(made)))
        return "{" + ",".join(parts) + "}"

    return read


# Which reader for which column


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_READERS: Final[dict[str, Reader]] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), str),
    **dict.fromkeys(("line", "lseg", "box", "path", "polygon", "circle"), geometry),
    **dict.fromkeys(("vector", "halfvec"), vector),
    "numeric": numeric,
    "float4": float4,
    "float8": float8,
    "bool": boolean,
    "bytea": octets,
    "date": day,
    "time": clock_time,
    "timestamptz": instant,
    "interval": interval,
    "point": point,
    "hstore": hstore,
    "sparsevec": sparse_vector,
    "tstzrange": in_utc,
    "tstzmultirange": opaque_in_utc,
}
_TEXTS: Final = _words(
    "text varchar bpchar name char json jsonb xml citext uuid inet cidr macaddr macaddr8 money"
    " int4range int8range numrange tsrange daterange"
)
# Elements of arrays that arrive whole; others arrive as null, without a word.
_ELEMENTS: Final = _words(
    "int2 int4 int8 oid text varchar bpchar json jsonb bool uuid bytea float4 float8 timestamp timestamptz date time"
    " inet cidr macaddr int4range int8range numrange tsrange daterange tsvector"
)
# Types whose unchanged TOASTed values arrive as the placeholder; of others as null, which might be a value.
_TOASTED: Final = _words("text varchar bpchar json jsonb xml citext bytea hstore")
_TOASTED_ARRAYS: Final = _words("text varchar bpchar json jsonb bytea int4 date int8 uuid")
_LOST: Final = {"timetz": "its zone is lost", "varbit": "its length is lost"}


def known(shape: Shape) -> bool:
    """Whether the connector has a form of its own for the type; others travel as their text."""
    return shape.kind == "e" or shape.base in _READERS or shape.base in _TEXTS or shape.base in ("timestamp", "bit")


def reader(shape: Shape) -> Reader:
    """What reads the column's values (which are not null)."""
    if shape.array:
        return array(_single(shape))
    return _single(shape)


def _single(shape: Shape) -> Reader:
    if shape.kind == "e" or shape.base in _TEXTS:
        return text
    if shape.base == "timestamp":
        return timestamp_of_milliseconds if 0 <= shape.modifier <= 3 else timestamp
    if shape.base == "bit":
        return bits(max(shape.modifier, 1))
    return _READERS.get(shape.base, opaque)


def undeliverable(shape: Shape, *, whole_rows: bool) -> str | None:
    """Why the connector cannot deliver a column as it is, or None when it can.

    ``whole_rows`` says that the table has REPLICA IDENTITY FULL: an unchanged TOASTed value is known from the old row.
    """
    if shape.array:
        if shape.dimensions > 1:
            return "arrays of several dimensions arrive as nulls"
        if shape.builtin and shape.kind not in "ecd" and shape.base not in _ELEMENTS:
            return f"arrays of {shape.base} are left out, or arrive as null"
        named = shape.kind == "b" and shape.base in _TOASTED_ARRAYS
    else:
        if shape.base in _LOST:
            return _LOST[shape.base]
        if shape.base == "bit":
            return None  # of a fixed length, and never that long
        named = shape.base in _TOASTED or not known(shape)
    if not named and not whole_rows and shape.storage in "xe":
        return "a long value that an update does not touch arrives as null unless the table has REPLICA IDENTITY FULL"
    return None
