"""Requests of an access log, and the routes that they belong to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams.model import Evidence, Table, Use
from stranglerfig.seams.traffic import Request, joined, parse, read


def route(methods: str, path: str) -> Use:
    of = frozenset(methods.split(","))
    return Use("route", f"{methods} {path}", f"a.py:{len(path)}", frozenset({"items"}), methods=of)


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b'{"time":"1.5","method":"GET","path":"/items/7?all=1","route":"pass"}\n', ("GET", "/items/7")),
        (b'1.2.3.4 - - [22/Nov/2026:10:00:00 +0000] "POST /items HTTP/1.1" 200 12\n', ("POST", "/items")),
        (b'1.2.3.4 - ada [x] "GET /a?b=1 HTTP/2.0" 200 1 "http://x/" "Mozilla (X)"\n', ("GET", "/a")),
        (b'{"method":"GET","path":null}\n', None),
        (b'{"method":"GE', None),
        (b"\n", None),
        (b'1.2.3.4 - - [x] "-" 408 0\n', None),
    ],
)
def test_a_line_has_a_request_or_is_none(line: bytes, request_: Request | None) -> None:
    assert parse(line) == request_


def test_requests_belong_to_the_route_that_has_more_of_its_path_spelt_out() -> None:
    routes = [
        route("GET,HEAD", "/items/{item_id:int}"),
        route("GET", "/items/newest"),
        route("POST", "/items/<int:pk>/"),
        route("GET", "/files/{name:path}"),
        route("GET", "/a.b/<slug>"),
    ]
    asked = Counter(
        {
            ("GET", "/items/7"): 3,
            ("HEAD", "/items/8"): 1,
            ("GET", "/items/newest"): 5,
            ("POST", "/items/7"): 2,
            ("GET", "/files/a/b"): 4,
            ("GET", "/axb/c"): 7,
            ("GET", "/items/7/more"): 9,
        }
    )
    found = joined(Evidence((Table("items"),), uses=tuple(routes)), asked, 1)
    assert [use.times for use in found.uses] == [4, 5, 2, 4, 0]
    assert found.requests == 15
    (coverage,) = found.coverage
    assert (coverage.source, coverage.state) == ("traffic", "partly")
    assert coverage.said == (
        "31 requests, 15 of them to 4 of the 5 routes that touch tables; of the others most (9) are GET /items/7/more;"
        " 1 lines cannot be read"
    )


def test_files_are_read_together_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "access.log.1", tmp_path / "access.log"
    one.write_text('{"method":"GET","path":"/a"}\n' * 2)
    two.write_text('x "GET /a HTTP/1.1" 200\nnothing\n')
    assert read([one, two]) == (Counter({("GET", "/a"): 3}), 1)
    with pytest.raises(FigError) as refused:
        read([tmp_path / "none"])
    assert refused.value.code == "access_log_unreadable"


def test_of_a_long_log_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stranglerfig.seams.traffic.MOST_BYTES", 30)
    log = tmp_path / "access.log"
    log.write_text("".join(f'"GET /{number} HTTP/1.1"\n' for number in range(9)))
    asked, bad = read([log])
    assert set(asked) == {("GET", "/8")} and not bad
