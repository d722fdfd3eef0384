"""PostgreSQL's texts made what MariaDB takes."""

from __future__ import annotations

from decimal import Decimal

import pytest

from stranglerfig.databases.mariadb import values
from stranglerfig.databases.mariadb.types import Native
from stranglerfig.foundation.errors import FigError


def column(kind: str, full: str = "", **more: int) -> Native:
    return Native("c", kind, full or kind, **more)  # type: ignore[arg-type]


LABELS = "enum('a','b-c','it''s','1')"


@pytest.mark.parametrize(
    ("native", "text", "param"),
    [
        (column("tinyint"), "-1", -1),
        (column("bigint", "bigint(20) unsigned"), "18446744073709551615", 18446744073709551615),
        (column("decimal"), "-1.50", Decimal("-1.50")),
        (column("double"), "1e+20", "1e+20"),
        (column("varchar"), "it's", "it's"),
        (column("varbinary"), "\\x00ff", b"\x00\xff"),
        (column("date"), "2024-02-29", "2024-02-29"),
        (column("datetime"), "2024-02-29 01:02:03.5", "2024-02-29 01:02:03.5"),
        (column("timestamp"), "2024-02-29 01:02:03+00", "2024-02-29 01:02:03"),
        (column("time"), "838:59:59", "838:59:59"),
        (column("time", fraction=1), "-00:00:00.5", "-00:00:00.5"),
        (column("time"), "00:00:01.000", "00:00:01"),
        (column("time"), "1 day 02:00:00", "26:00:00"),
        (column("time", fraction=3), "-2 days +01:00:00.25", "-46:59:59.75"),
        (column("time"), "3 days", "72:00:00"),
        (column("year"), "0", 0),
        (column("year"), "2024", 2024),
        (column("bit", precision=12), "000000000101", 5),
        (column("enum", LABELS), "it's", "it's"),
        (column("enum", LABELS), "1", "1"),
        (column("set", "set('x','y')"), "x,y", "x,y"),
        (column("set", "set('x','y')"), "", ""),
        (column("char", length=4), " a", " a"),
        (column("binary", length=2), "\\x00ff", b"\x00\xff"),
    ],
)
def test_a_text_becomes_a_parameter(native: Native, text: str, param: values.Param) -> None:
    assert values.writer(native)(text) == param


@pytest.mark.parametrize(
    ("native", "text"),
    [
        (column("int"), "1.5"),
        (column("decimal"), "NaN"),
        (column("decimal"), "-Infinity"),
        (column("date"), "infinity"),
        (column("date"), "0044-03-15 BC"),
        (column("datetime"), "10000-01-01 00:00:00"),
        (column("timestamp"), "2024-02-29 01:02:03+01"),
        (column("time"), "1 mon"),
        (column("time"), ""),
        (column("year"), "5"),
        (column("year"), "1900"),
        (column("enum", LABELS), "2"),
        (column("enum", LABELS), ""),
        (column("set", "set('x','y')"), "x,3"),
        (column("set", "set('x','y')"), "y,x"),
        (column("set", "set('x','y')"), "x,x"),
        (column("char", length=4), "a "),
        (column("binary", length=2), "\\x00"),
        (column("time", fraction=3), "00:00:00.1234"),
    ],
)
def test_what_the_server_would_take_for_another_value_is_refused(native: Native, text: str) -> None:
    with pytest.raises(FigError) as refused:
        values.writer(native)(text)
    assert refused.value.code == "value_refused" and text in refused.value.message
