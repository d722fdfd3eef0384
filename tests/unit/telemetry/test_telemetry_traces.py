"""Trace context in and out, spans where they are wanted, metrics where they are asked for."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import free_port
from stranglerfig.telemetry import metrics, traces

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    found = InMemorySpanExporter()
    traces.install("test", None, exporter=found)
    yield found
    traces.close()


def test_a_traceparent_goes_in_and_out() -> None:
    found = traces.parse(PARENT)
    assert found is not None and found.sampled and str(found) == PARENT
    assert found.child().trace == found.trace and found.child().span != found.span
    assert traces.parse(PARENT[:-2] + "00") == found._replace(sampled=False)
    assert str(traces.new()).count("-") == 3


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nonsense",
        PARENT.upper(),
        PARENT + "-more",
        "ff" + PARENT[2:],
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01",
    ],
)
def test_an_invalid_traceparent_is_ignored(text: str | None) -> None:
    assert traces.parse(text) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert traces.parse("01" + PARENT[2:] + "-future") is not None


def test_without_an_endpoint_a_span_hands_on_what_came() -> None:
    traces.install("test", None)
    with traces.span("apply", traceparent=PARENT) as given:
        assert given == PARENT


def test_a_span_continues_its_callers_trace(exporter: InMemorySpanExporter) -> None:
    with traces.span("apply", traceparent=PARENT, rows=3) as given, traces.span("inner"):
        found = traces.parse(given)
        assert found is not None and found.trace == PARENT[3:35] and found.span != PARENT[36:52]
    with traces.span("alone") as given:
        alone = traces.parse(given)
        assert alone is not None and alone.trace != PARENT[3:35]
    assert traces._provider is not None
    traces._provider.force_flush()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans["apply"].attributes == {"rows": 3}
    assert spans["apply"].parent is not None and spans["inner"].parent is not None


def test_what_is_over_is_recorded_with_its_own_times(exporter: InMemorySpanExporter) -> None:
    traces.record("apply", PARENT, 1.5, 2.0, rows=3)
    traces.record("not sampled", PARENT[:-2] + "00", 1.5, 2.0)
    traces.record("nonsense", "", 1.5, 2.0)
    assert traces._provider is not None
    traces._provider.force_flush()
    [span] = exporter.get_finished_spans()
    assert (span.name, span.start_time, span.end_time) == ("apply", 1_500_000_000, 2_000_000_000)
    assert span.parent is not None and span.context is not None and span.attributes == {"rows": 3}
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (PARENT[3:35], PARENT[36:52])


def test_an_endpoint_is_an_otlp_exporters() -> None:
    traces.install("test", "http://127.0.0.1:1/")
    assert traces._provider is not None
    traces.close()
    assert traces._provider is None
    traces.close()


def test_metrics_are_served() -> None:
    said = {"rows": 3, "latency_ms": {"p99": 7.0}}
    metrics.flow("inventory", "forward", "sync", said)
    metrics.counted("inventory", "forward", "sync", said)
    metrics.state("inventory", "forward", "sync", "running", None)
    metrics.state("inventory", "forward", "sync", "stopped", "running")
    port = free_port()
    stop = metrics.serve(port)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        stop()
    assert 'fig_sync_rows_total{context="inventory",direction="forward"} 3.0' in text
    assert 'fig_sync_latency_p99_seconds{context="inventory",direction="forward"} 0.007' in text
    assert 'fig_flow_state{context="inventory",direction="forward",part="sync",state="running"} 0.0' in text


def test_a_taken_metrics_port_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(FigError) as caught:
            metrics.serve(taken.getsockname()[1])
    assert caught.value.code == "port_in_use"
