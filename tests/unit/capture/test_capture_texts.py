"""Debezium's values as PostgreSQL's text: what PostgreSQL prints, beside what the connector was seen to send."""

from __future__ import annotations

import math
import struct
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.capture import texts
from stranglerfig.capture.texts import PLACEHOLDER, Shape, reader, undeliverable
from stranglerfig.changes.model import UNCHANGED, Column


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


def shape(base: str, **more: Any) -> Shape:
    return Shape(Column("c", base), base, **more)


@pytest.mark.parametrize(
    ("made", "found", "expected"),
    [
        (shape("int8"), -(2**63), "-9223372036854775808"),
        (shape("numeric"), "NAN", "NaN"),
        (shape("numeric"), "NEGATIVE_INFINITY", "-Infinity"),
        (shape("numeric"), "1.50E-8", "0.0000000150"),
        (shape("numeric"), "-0.50", "-0.50"),
        (shape("numeric"), PLACEHOLDER, UNCHANGED),
        (shape("float8"), 0.1, "0.1"),
        (shape("float8"), 5, "5"),
        (shape("float8"), "NaN", "NaN"),
        (shape("float8"), 1e15, "1e+15"),
        (shape("float8"), 999999999999999.0, "999999999999999"),
        (shape("float8"), 1e-5, "1e-05"),
        (shape("float8"), 0.0001, "0.0001"),
        (shape("float8"), -0.0, "-0"),
        (shape("float8"), 2e23, "1.9999999999999998e+23"),
        (shape("float8"), 9007199254740992.0, "9.007199254740992e+15"),
        (shape("float8"), 1.7976931348623157e308, "1.7976931348623157e+308"),
        (shape("float4"), "-Infinity", "-Infinity"),
        (shape("float4"), 1e-40, "1e-40"),
        (shape("float4"), 16777216.0, "1.6777216e+07"),
        (shape("float4"), 123456.0, "123456"),
        (shape("float4"), 0.0002, "0.0002"),
        (shape("float4"), 3.4028235e38, "3.4028235e+38"),
        (shape("bool"), True, "t"),
        (shape("bool"), False, "f"),
        (shape("date"), 19782, "2024-02-29"),
        (shape("date"), -735160, "0044-03-15 BC"),
        (shape("date"), 2145042905, "5874897-12-31"),
        (shape("date"), -2147472692, "infinity"),
        (shape("time"), 86400000000, "24:00:00"),
        (shape("time"), 47655123450, "13:14:15.12345"),
        (shape("timestamp"), 1704164645600000, "2024-01-02 03:04:05.6"),
        (shape("timestamp"), -1, "1969-12-31 23:59:59.999999"),
        (shape("timestamp"), -63517780800000000, "0044-03-15 12:00:00 BC"),
        (shape("timestamp"), 9223372036825200000, "infinity"),
        (shape("timestamp", modifier=3), -63517780799877, "0044-03-15 12:00:00.123 BC"),
        (shape("timestamp", modifier=3), -9223372036832400, "-infinity"),
        (shape("timestamptz"), "2024-01-02T01:04:05.600000Z", "2024-01-02 01:04:05.6+00"),
        (shape("timestamptz"), "-0043-03-15T12:00:00.000000Z", "0044-03-15 12:00:00+00 BC"),
        (shape("timestamptz"), "+12345-03-15T12:00:00Z", "12345-03-15 12:00:00+00"),
        (shape("timestamptz"), "infinity", "infinity"),
        (shape("interval"), "P1Y2M-3DT4H5M6.789S", "1 year 2 mons -3 days +04:05:06.789"),
        (shape("interval"), "P0Y0M-1DT0H0M-0.000001S", "-1 days -00:00:00.000001"),
        (shape("interval"), "P-1Y0M2DT0H0M0S", "-1 years +2 days"),
        (shape("interval"), "P0Y0M0DT0H0M0S", "00:00:00"),
        (shape("text"), "a\tb", "a\tb"),
        (shape("mood", kind="e", builtin=False), "it's", "it's"),
        (shape("bytea"), b64("\x00ÿ"), "\\x00c3bf"),
        (shape("bit", modifier=1), True, "1"),
        (shape("bit", modifier=5), "FQ==", "10101"),
        (shape("bit", modifier=16), "eKg=", "1010100001111000"),
        (shape("point"), {"x": 1e20, "y": -0.0}, "(1e+20,-0)"),
        (shape("box"), b64("(1.0,1.0E-7),(0.0,NaN)"), "(1,1e-07),(0,NaN)"),
        (shape("circle"), b64("<(0.0,0.25),Infinity>"), "<(0,0.25),Infinity>"),
        (shape("tsvector"), b64("'a' 'fat'"), "'a' 'fat'"),
        (shape("pair", kind="c", builtin=False), b64('(1,"x y")'), '(1,"x y")'),
        (shape("vector", builtin=False), [1.0, 2.5, 1e20], "[1,2.5,1e+20]"),
        (shape("sparsevec", builtin=False), {"dimensions": 5, "vector": [[1, 1.0], [3, 2.5]]}, "{1:1,3:2.5}/5"),
        (shape("hstore", builtin=False), '{"bb":null,"a":"x\\"y"}', '"a"=>"x\\"y", "bb"=>NULL'),
        (shape("tstzrange"), '["2024-01-01 01:30:00.5+01",infinity)', '["2024-01-01 00:30:00.5+00",infinity)'),
        (shape("tstzrange"), '["0044-01-01 00:00:00-05:30 BC",)', '["0044-01-01 05:30:00+00 BC",)'),
        (shape("tstzmultirange"), b64('{["2024-01-01 00:00:00+00",)}'), '{["2024-01-01 00:00:00+00",)}'),
        (shape("int4", array=True), [1, None, 3], "{1,NULL,3}"),
        (shape("int4", array=True), [], "{}"),
        (shape("text", array=True), ["a b", 'q"x', "NULL", "", "{}", "a\\b", "plain"],
         '{"a b","q\\"x","NULL","","{}","a\\\\b",plain}'),
        (shape("bytea", array=True), [b64("a")], '{"\\\\x61"}'),
        (shape("timestamp", array=True, modifier=3), [1704164645678], '{"2024-01-02 03:04:05.678"}'),
        (shape("positive", kind="d", array=True, builtin=False), [b64("1"), b64("2")], "{1,2}"),
    ],
)  # fmt: skip
def test_values_are_what_postgresql_prints(made: Shape, found: Any, expected: str) -> None:
    assert reader(made)(found) == expected


MARK = list(PLACEHOLDER.encode())


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (shape("text"), PLACEHOLDER),
        (shape("bytea"), b64(PLACEHOLDER)),
        (shape("tsvector"), b64(PLACEHOLDER)),
        (shape("path"), b64(PLACEHOLDER)),
        (shape("tstzmultirange"), b64(PLACEHOLDER)),
        (shape("hstore", builtin=False), '{"' + PLACEHOLDER + '":"' + PLACEHOLDER + '"}'),
        (shape("text", array=True), [PLACEHOLDER]),
        (shape("int4", array=True), MARK),
        (shape("date", array=True), MARK),
        (shape("bytea", array=True), [b64(PLACEHOLDER)]),
        (shape("uuid", array=True), [texts._MARK_UUID]),
    ],
)
def test_what_was_not_sent_is_neither_null_nor_a_value(made: Shape, found: Any) -> None:
    assert reader(made)(found) is UNCHANGED


def test_the_uuid_that_stands_for_the_placeholder_is_javas() -> None:
    # UUID.nameUUIDFromBytes("__unch__"), as the connector sent it.
    import hashlib
    import uuid

    found = uuid.UUID(bytes=hashlib.md5(b"__unch__", usedforsecurity=False).digest(), version=3)
    assert str(found) == "ae7977e5-dec4-3185-a0d7-719c3498fe81"
    assert uuid.UUID(texts._MARK_UUID).version == 3


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float8_reads_back_the_same(value: float) -> None:
    assert float(texts.float8(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_float4_reads_back_the_same(value: float) -> None:
    assert struct.pack("f", float(texts.float4(value))) == struct.pack("f", value)
    assert math.copysign(1, float(texts.float4(value))) == math.copysign(1, value)


@given(st.integers(-2_400_000, 2_145_042_905))
def test_days_of_any_year_are_the_inverse_of_each_other(number: int) -> None:
    assert texts._days(*texts._civil(number)) == number


def test_what_is_no_interval_is_no_interval() -> None:
    with pytest.raises(ValueError, match="not an interval"):
        texts.interval("one day")


@pytest.mark.parametrize(
    ("made", "whole", "why"),
    [
        (shape("timetz"), True, "zone"),
        (shape("varbit", storage="x"), True, "length"),
        (shape("int4", array=True, dimensions=2, storage="x"), True, "several dimensions"),
        (shape("numeric", array=True, dimensions=1, storage="x"), True, "arrays of numeric"),
        (shape("tstzrange", kind="r", array=True, storage="x"), True, "arrays of tstzrange"),
        (shape("float8", array=True, storage="x"), False, "REPLICA IDENTITY FULL"),
        (shape("mood", kind="e", array=True, storage="x", builtin=False), False, "REPLICA IDENTITY FULL"),
        (shape("float8", array=True, storage="x"), True, None),
        (shape("text", array=True, storage="x"), False, None),
        (shape("text", storage="x"), False, None),
        (shape("tsvector", storage="x"), False, None),
        (shape("pair", kind="c", storage="x", builtin=False), False, None),
        (shape("bit", modifier=5, storage="x"), False, None),
        (shape("numeric", storage="m"), False, None),
        (shape("int4"), False, None),
    ],
)
def test_what_cannot_be_delivered_is_known_beforehand(made: Shape, whole: bool, why: str | None) -> None:
    found = undeliverable(made, whole_rows=whole)
    assert found is None if why is None else found is not None and why in found
