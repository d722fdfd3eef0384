"""Traces as Jaeger and Zipkin tell them, as trees, and as the terminal shows them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from stranglerfig.cli.main import Fig
from stranglerfig.cli.trace import lines, told, trace
from stranglerfig.foundation.errors import FigError
from stranglerfig.telemetry import tree as tree_module
from stranglerfig.telemetry.tree import Told, from_jaeger, from_zipkin, tree

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "1" * 32


def jaeger() -> dict[str, Any]:
    def span(id: str, name: str, start: int, references: list[tuple[str, str, str]], **tags: str) -> dict[str, Any]:
        return {
            "traceID": TRACE, "spanID": id, "operationName": name, "startTime": 1_000_000 + start, "duration": 500,
            "references": [{"refType": kind, "traceID": of, "spanID": at} for kind, of, at in references],
            "tags": [{"key": key.replace("__", "."), "value": value} for key, value in tags.items()],
            "processID": "p1",
        }  # fmt: skip

    apply = span("cc", "apply", 400, [("CHILD_OF", TRACE, "bb"), ("FOLLOWS_FROM", OTHER, "dd")], error__type="parked")
    server = span("bb", "POST", 100, [("CHILD_OF", TRACE, "aa")], span__kind="server", user_agent="-", lsn="0/1")
    return {"data": [{"processes": {"p1": {"serviceName": "shop"}}, "spans": [apply, server, span("aa", "in", 0, [])]}]}


def zipkin() -> list[dict[str, Any]]:
    return [
        {
            "traceId": TRACE.lstrip("0"), "id": "cc", "parentId": "bb", "name": "apply", "timestamp": 1_000_400,
            "duration": 500, "localEndpoint": {"serviceName": "shop"},
            "tags": {"link.0": f"{OTHER}-dd", "error": "parked", "error.type": "parked"},
        },
        {
            "traceId": TRACE, "id": "bb", "parentId": "aa", "name": "POST", "kind": "SERVER", "timestamp": 1_000_100,
            "duration": 500, "localEndpoint": {"serviceName": "shop"}, "tags": {"lsn": "0/1", "user_agent": "-"},
        },
        {
            "traceId": TRACE, "id": "aa", "name": "in", "timestamp": 1_000_000, "duration": 500,
            "localEndpoint": {"serviceName": "shop"},
        },
    ]  # fmt: skip


@pytest.mark.parametrize("spans", [from_jaeger(jaeger()), from_zipkin(zipkin())], ids=["jaeger", "zipkin"])
def test_both_tell_the_same(spans: list[Told]) -> None:
    found = [*tree(spans)]
    assert [(depth, span.id, span.name) for depth, span in found] == [
        (0, "aa", "in"),
        (1, "bb", "POST"),
        (2, "cc", "apply"),
    ]
    _, server, apply = (span for _, span in found)
    assert {span.trace for span in spans} == {TRACE} and {span.service for span in spans} == {"shop"}
    assert (server.kind, apply.kind, server.attributes) == ("server", "internal", {"lsn": "0/1"})
    assert apply.links == ((OTHER, "dd"),) and apply.error == "parked" and server.error is None
    assert (apply.began, apply.seconds) == (1.0004, 0.0005)
    said = told(TRACE, spans)
    assert [span["offset_ms"] for span in said["spans"]] == [0.0, 0.1, 0.4] and said["duration_ms"] == 0.9
    assert said["services"] == ["shop"] and said["spans"][2]["links"] == [{"trace": OTHER, "span": "dd"}]


def test_the_terminal_shows_begin_length_service_and_links() -> None:
    shown = lines(from_jaeger(jaeger()), attributes=True)
    assert [line.split() for line in shown] == [
        ["begins", "takes", "service", "span"],
        ["+0.0", "ms", "0.5", "ms", "shop", "in"],
        ["+0.1", "ms", "0.5", "ms", "shop", "POST"],
        ["lsn", "=", "0/1"],
        ["+0.4", "ms", "0.5", "ms", "shop", "apply", "ERROR", "parked"],
        ["linked", "with", OTHER, "(span", "dd)"],
        ["error.type", "=", "parked"],
    ]
    assert shown[4].index("apply") - shown[1].index("in") == 4
    assert len(lines(from_jaeger(jaeger()))) == 5


def test_spans_without_their_parents_and_rings_are_shown() -> None:
    def span(id: str, parent: str | None, began: float) -> Told:
        return Told(TRACE, id, parent, "s", id, "internal", began, 0.0)

    found = [*tree([span("b", "lost", 2), span("a", None, 1), span("x", "y", 3), span("y", "x", 4), span("z", "z", 0)])]
    assert [(depth, each.id) for depth, each in found] == [(0, "z"), (0, "a"), (0, "b"), (0, "x"), (0, "y")]


def test_an_empty_answer_is_no_span() -> None:
    assert from_jaeger({"data": None, "errors": [{"code": 404}]}) == [] == from_zipkin([])
    assert tree_module._error({"error": "true"}) == "true" and tree_module._error({"error": "false"}) is None


class _Settings:
    class estate:
        class telemetry:
            query = None
            zipkin = None


def test_the_command_says_what_it_lacks() -> None:
    given = Fig.__new__(Fig)
    given.__dict__["project"] = _Settings
    result = CliRunner().invoke(trace, ["nonsense"], obj=given)
    assert result.exit_code == 2 and "32 hexadecimal digits" in result.output
    result = CliRunner().invoke(trace, [f"00-{TRACE}-b7ad6b7169203331-01"], obj=given)
    assert isinstance(result.exception, FigError) and result.exception.code == "no_trace_query"
    assert json.dumps(result.exception.as_dict())
