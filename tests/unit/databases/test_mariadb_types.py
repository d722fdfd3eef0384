"""MariaDB's types in PostgreSQL's words."""

from __future__ import annotations

import pytest

from stranglerfig.databases.mariadb import types
from stranglerfig.databases.mariadb.types import Native
from stranglerfig.foundation.errors import FigError

NOON = "2024-02-29 01:02:03.12"


def column(kind: str, full: str = "", **more: int) -> Native:
    return Native("c", kind, full or kind, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("native", "type_", "sent", "text"),
    [
        (column("tinyint", "tinyint(1)"), "smallint", "1", "1"),
        (column("smallint", "smallint(5) unsigned"), "integer", "65535", "65535"),
        (column("int", "int(5) unsigned zerofill"), "bigint", "00042", "42"),
        (column("bigint", "bigint(20) unsigned"), "numeric(20,0)", "18446744073709551615", "18446744073709551615"),
        (column("decimal", precision=10, scale=2), "numeric(10,2)", "-1.50", "-1.50"),
        (column("decimal", "decimal(6,2) unsigned zerofill", precision=6, scale=2), "numeric(6,2)", "0000.50", "0.50"),
        (column("decimal", "decimal(6,0) unsigned zerofill", precision=6, scale=0), "numeric(6,0)", "000000", "0"),
        (column("float"), "real", "0.10000000149011612", "0.1"),
        (column("double"), "double precision", "1e20", "1e+20"),
        (column("date"), "date", "2024-02-29", "2024-02-29"),
        (column("datetime", fraction=3), "timestamp(3) without time zone", "2024-02-29 01:02:03.120", NOON),
        (column("timestamp", fraction=2), "timestamp(2) with time zone", "2024-02-29 01:02:03.12", f"{NOON}+00"),
        (column("time", fraction=3), "interval", "-838:59:59.000", "-838:59:59"),
        (column("year"), "smallint", "0000", "0"),
        (column("bit", precision=12), "bit(12)", b"\x0a\xab", "101010101011"),
        (column("bit", precision=1), "bit(1)", "\x01", "1"),
        (column("char", length=5), "character varying(5)", "ab", "ab"),
        (column("varchar", length=5), "character varying(5)", "a\\b", "a\\b"),
        (column("longtext"), "text", '{"a": 1}', '{"a": 1}'),
        (column("enum"), "text", "é", "é"),
        (column("set"), "text", "x,z", "x,z"),
        (column("blob"), "bytea", b"\x00\xff", "\\x00ff"),
        (column("binary", length=2), "bytea", "A\0", "\\x4100"),
    ],
)  # fmt: skip
def test_each_type_has_one_of_postgresql_and_its_text(native: Native, type_: str, sent: str | bytes, text: str) -> None:
    assert types.postgres_type(native) == type_
    assert types.undeliverable(native) is None
    assert types.reader(native)(sent) == text


@pytest.mark.parametrize("kind", ["uuid", "inet6", "point", "geometry"])
def test_what_would_not_arrive_is_refused_with_its_reason(kind: str) -> None:
    assert types.postgres_type(column(kind)) is None
    assert types.undeliverable(column(kind))


@pytest.mark.parametrize("labels", ["'a','b,c'", "'it''s'", r"'a\b'"])
def test_labels_that_are_misread_are_refused(labels: str) -> None:
    assert types.undeliverable(column("enum", f"enum({labels})"))
    assert types.undeliverable(column("enum", "enum('a','b c')")) is None


def test_a_name_that_is_misread_is_refused() -> None:
    assert types.undeliverable(Native("a`b", "int", "int(11)"))


@pytest.mark.parametrize("found", ["0000-00-00", "2024-00-15", "2024-01-00", "0000-01-01"])
def test_a_date_that_is_none_is_refused(found: str) -> None:
    with pytest.raises(FigError) as raised:
        types.reader(column("date"))(found)
    assert raised.value.code == "zero_date" and found in raised.value.message


def test_a_float_is_asked_for_whole() -> None:
    assert types.expression(column("float")) == "CAST(`c` AS DOUBLE)"
    assert types.expression(column("double")) == "`c`"


def test_rows_become_lines_of_copy() -> None:
    text = types.reader(column("text"))
    assert types.copy_line(("a\tb\\c\nd\re", None, "é"), (text, text, text)) == "a\\tb\\\\c\\nd\\re\t\\N\té\n".encode()
