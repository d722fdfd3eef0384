"""Statements and requests of one trace, and the routes that they make known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams.model import Evidence, Table, Use
from stranglerfig.seams.traces import joined, read, taken_apart

T = [f"{number:032x}" for number in range(1, 9)]


def traced(sql: str, trace: str) -> str:
    return f"{sql} /*db_driver='psycopg',traceparent='00-{trace}-00f067aa0ba902b7-01'*/"


def statements(file: Path, *said: str) -> Path:
    file.write_text("".join(json.dumps({"message": f"statement: {each}", "pid": 1}) + "\n" for each in said))
    return file


def requests(file: Path, *asked: tuple[str, str, str]) -> Path:
    file.write_text(
        "".join(
            json.dumps({"method": method, "path": path, "traceparent": f"00-{trace}-b7ad6b7169203331-01"}) + "\n"
            for method, path, trace in asked
        )
    )
    return file


ORDER = Use(
    "route",
    "POST /orders",
    "app.py:7",
    frozenset({"items"}),
    frozenset({"orders"}),
    {"items": 2, "orders": 1},
    methods=frozenset({"POST"}),
    places={"orders": "app.py:9"},
)
EVIDENCE = Evidence(tuple(Table(name) for name in ("items", "orders", "stock", "Audit")), uses=(ORDER,))


def test_a_route_has_what_its_source_says_and_what_its_requests_did(tmp_path: Path) -> None:
    log = statements(
        tmp_path / "pg.json",
        traced("UPDATE Stock SET n = n - 1", T[0]),
        traced("INSERT INTO audit SELECT id FROM items", T[0]),
        "DELETE FROM stock",
        traced("SELECT * FROM stock WHERE x = '/*'", T[1]),
        traced("DELETE FROM orders", T[7]),
        "BEGIN",
    )
    access = requests(
        tmp_path / "access.log",
        ("POST", "/orders?x=1", T[0]),
        ("GET", "/stock/17/of/3f2504e0-4f89-11d3-9a0c-0305e82c3301", T[1]),
        ("GET", "/stock/18/of/3f2504e0-4f89-11d3-9a0c-0305e82c3302", T[1]),
        ("GET", "/health", T[2]),
    )
    found = joined(EVIDENCE, [log], [access])
    order, stock = found.of("route")
    assert (order.name, order.where) == ("POST /orders", "app.py:7")
    assert (order.reads, order.writes) == ({"items"}, {"orders", "stock", "Audit"})
    assert order.counts == {"items": 3, "orders": 1, "stock": 1, "Audit": 1}
    assert order.places == {"items": "pg.json:2", "orders": "app.py:9", "stock": "pg.json:1", "Audit": "pg.json:2"}
    assert (stock.name, stock.where, stock.reads, stock.writes) == (
        "GET /stock/{id}/of/{id}",
        "pg.json:4",
        {"stock"},
        frozenset(),
    )
    (said,) = found.coverage
    assert (said.source, said.state) == ("traces", "read")
    assert said.said == (
        "4 of 5 statements carry a trace; 2 traces are of requests in the access log, "
        "to 1 routes of the sources and 1 others"
    )


def test_a_trace_with_several_routes_does_not_say_which_ran_a_statement(tmp_path: Path) -> None:
    log = statements(tmp_path / "pg.json", traced("DELETE FROM stock", T[0]), traced("SELECT FROM WHERE FROM )", T[1]))
    asked = [("POST", "/orders", T[0]), ("GET", "/items/1", T[0]), ("POST", "/orders", T[1])]
    found = joined(EVIDENCE, [log], [requests(tmp_path / "access.log", *asked)])
    assert found.uses == (ORDER,)
    (said,) = found.coverage
    assert said.state == "partly"
    assert said.said.endswith("1 traces with several routes left out; 1 statements do not parse")


def test_without_a_trace_nothing_is_joined_by_time(tmp_path: Path) -> None:
    access = requests(tmp_path / "access.log", ("POST", "/orders", T[0]))
    for said, expected in (
        ("DELETE FROM stock", "none of 1 statements in the log carries a trace; by time alone they are not joined"),
        (traced("DELETE FROM stock", T[1]), "1 of 1 statements carry a trace that no request in an access log has"),
    ):
        found = joined(EVIDENCE, [statements(tmp_path / "pg.json", said)], [access])
        assert found.uses == EVIDENCE.uses
        assert [(each.state, each.said) for each in found.coverage] == [("absent", expected)]


@pytest.mark.parametrize(
    ("statement", "plain", "trace"),
    [
        (traced("SELECT 1", T[0]), "SELECT 1", T[0]),
        (f"/*traceparent=%2700-{T[0]}-00f067aa0ba902b7-01%27*/ SELECT 1", "SELECT 1", T[0]),
        (f"SELECT '{traced('it', T[0]).replace(chr(39), chr(39) * 2)}'", None, ""),
        (f'SELECT "{traced("it", T[0])}"', None, ""),
        ("SELECT 1 /* plain */", "SELECT 1", ""),
        ("SELECT 1 /*traceparent='00-xyz'*/", "SELECT 1", ""),
        ("SELECT 1 /* open", None, ""),
    ],
)
def test_the_trace_is_a_comments_and_not_a_values(statement: str, plain: str | None, trace: str) -> None:
    assert taken_apart(statement) == (statement if plain is None else plain, trace)


def test_each_format_of_postgresqls_log_is_read(tmp_path: Path) -> None:
    sql = traced("SELECT *\n FROM stock", T[0])
    (tmp_path / "a.json").write_text(
        json.dumps({"message": f"duration: 1.5 ms  execute <unnamed>: {sql}"}) + "\n"
        + json.dumps({"message": f"duration: 1.5 ms  parse <unnamed>: {sql}"}) + '\n[1]\n{"mess'
    )  # fmt: skip
    quoted = sql.replace('"', '""')
    (tmp_path / "a.csv").write_text(
        '2026-11-22 10:00:00.123 UTC,"a","b",1,"",6.1,1,"x",2026-11-22 10:00:00 UTC,1/2,0,LOG,00000,'
        f'"statement: {quoted}",,,,,,,,,"psql","client backend",,0\nshort,row\n'
    )
    tabbed = sql.replace("\n", "\n\t")
    (tmp_path / "a.log").write_text(
        "2026-11-22 10:00:00 UTC [1] LOG:  connection received\n"
        f"2026-11-22 10:00:00 UTC [1] LOG:  statement: {tabbed}\n2026-11-22 10:00:00 UTC [1] ERROR:  no\n"
    )
    for name, line in (("a.json", 1), ("a.csv", 2), ("a.log", 2)):
        found = read([tmp_path / name])
        assert (found.total, found.by_trace) == (1, {T[0]: {"SELECT *\n FROM stock": f"{name}:{line}"}}), name


def test_a_log_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FigError) as refused:
        read([tmp_path / "none"])
    assert refused.value.code == "statement_log_unreadable"
    log = statements(tmp_path / "pg.json", traced("DELETE FROM stock", T[0]))
    with pytest.raises(FigError) as refused:
        joined(EVIDENCE, [log], [tmp_path / "none"])
    assert refused.value.code == "access_log_unreadable"


PIECES = st.sampled_from(
    [
        "2026-11-22 10:00:00.1 UTC,",
        "LOG:  ",
        "statement: ",
        "SELECT 1 FROM a",
        '"',
        "'",
        "/*",
        "*/",
        ",",
        "\n",
        "\t",
        "{",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80) | st.lists(PIECES).map(lambda parts: "".join(parts).encode()))
def test_no_log_is_too_strange(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "strange").write_bytes(data)
    assert read([tmp_path / "strange"]).traced == 0
