"""Server spans: named by route, handed on in the header, silent about what a path or an error says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from stranglerfig.telemetry import traces
from stranglerfig.telemetry.asgi import Traced, template

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.headers.get("traceparent", "none"), int(request.query_params.get("status", "200")))


async def failing(_: Request) -> PlainTextResponse:
    raise ValueError("anna's order")


APP = Traced(
    Starlette(routes=[Route("/items/{item_id:int}", echo), Route("/files/{rest:path}", echo), Route("/fails", failing)])
)


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    found = InMemorySpanExporter()
    traces.install("test", None, exporter=found)
    yield found
    traces.close()


async def ask(path: str, traceparent: str | None = PARENT) -> str:
    """A GET without a server; its answer's body, or nothing where there was none."""
    body = b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal body
        body += message.get("body", b"")

    bare, _, query = path.partition("?")
    headers = [] if traceparent is None else [(b"traceparent", traceparent.encode())]
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "server": ("shop", 80),
        "path": bare, "raw_path": bare.encode(), "query_string": query.encode(), "headers": headers,
    }  # fmt: skip
    with contextlib.suppress(ValueError):  # the handler's own
        await APP(scope, receive, send)
    return body.decode()


def finished(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    traces.flush()
    return list(exporter.get_finished_spans())


async def test_a_request_is_a_span_that_is_handed_on(exporter: InMemorySpanExporter) -> None:
    given = await ask("/items/17?token=geheim")
    (span,) = finished(exporter)
    assert span.context is not None and span.parent is not None
    assert given == f"00-{TRACE}-{span.context.span_id:016x}-01" != PARENT
    assert f"{span.parent.span_id:016x}" == CALLER
    assert (span.name, span.kind, span.status.status_code) == (
        "GET /items/{item_id}",
        SpanKind.SERVER,
        StatusCode.UNSET,
    )
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/items/{item_id}",
    }


@pytest.mark.parametrize("path", ["/nowhere/anna", "/files/anna/17"])
async def test_a_path_that_cannot_be_told_from_its_values_is_not_said(
    path: str, exporter: InMemorySpanExporter
) -> None:
    await ask(path)
    (span,) = finished(exporter)
    assert span.name == "GET" and "anna" not in str(span.to_json())


async def test_failures_are_errors_of_a_kind(exporter: InMemorySpanExporter) -> None:
    await ask("/fails")
    await ask("/items/17?status=503")
    await ask("/items/17?status=404")
    raised, unavailable, missing = finished(exporter)
    assert raised.status.status_code is unavailable.status.status_code is StatusCode.ERROR
    assert (raised.attributes or {})["error.type"] == "ValueError" and "anna" not in str(raised.to_json())
    assert (unavailable.attributes or {})["error.type"] == "503"
    assert missing.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("traceparent", [None, PARENT[:-2] + "00", "nonsense"])
async def test_what_nobody_sampled_passes_as_it_is(traceparent: str | None, exporter: InMemorySpanExporter) -> None:
    assert await ask("/items/17", traceparent) == (traceparent or "none")
    assert finished(exporter) == []


async def test_without_a_destination_nothing_is_done() -> None:
    assert await ask("/items/17") == PARENT
    assert template({"path": "/", "endpoint": None}) is None
