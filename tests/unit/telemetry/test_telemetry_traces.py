"""Trace context in and out, spans where they are wanted, metrics where they are asked for."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import free_port
from stranglerfig.telemetry import metrics, traces
from stranglerfig.telemetry.model import Destination, new, parse
from stranglerfig.telemetry.zipkin import ZipkinExporter, encoded

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-2] + "00"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    found = InMemorySpanExporter()
    traces.install("test", None, exporter=found)
    yield found
    traces.close()


def finished(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    traces.flush()
    return {span.name: span for span in exporter.get_finished_spans()}


def ids(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def test_a_traceparent_goes_in_and_out() -> None:
    found = parse(PARENT)
    assert found is not None and found.sampled and str(found) == PARENT
    assert found.child().trace == found.trace and found.child().span != found.span
    assert parse(UNSAMPLED) == found._replace(sampled=False)
    assert str(new()).count("-") == 3


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
    assert parse(text) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert parse("01" + PARENT[2:] + "-future") is not None


def test_without_a_destination_a_span_hands_on_what_came() -> None:
    traces.install("test", None)
    with traces.span("apply", traceparent=PARENT) as given:
        assert given == traces.current() == PARENT
    assert traces.current() is None
    assert traces.begin("apply", PARENT) is None
    traces.end(None)
    traces.flush()


def test_a_span_continues_its_callers_trace(exporter: InMemorySpanExporter) -> None:
    with traces.span("apply", traceparent=PARENT, kind="client", rows=3) as given:
        found = parse(given)
        assert found is not None and found.trace == PARENT[3:35] and found.span != PARENT[36:52]
        with traces.span("inner") as inner:
            assert traces.current() == inner != given
    with pytest.raises(KeyError), traces.span("wrong", traceparent=PARENT):
        raise KeyError("a customer's name")
    spans = finished(exporter)
    assert spans["apply"].attributes == {"rows": 3} and spans["apply"].kind.name == "CLIENT"
    assert spans["inner"].parent is not None and f"{spans['inner'].parent.span_id:016x}" == ids(spans["apply"])[1]
    assert spans["wrong"].status.status_code is StatusCode.ERROR
    assert spans["wrong"].attributes == {"error.type": "KeyError"}  # what an error says may be personal


def test_nothing_is_recorded_of_what_is_not_sampled(exporter: InMemorySpanExporter) -> None:
    for traceparent in (UNSAMPLED, None, "nonsense"):
        with traces.span("span", traceparent=traceparent) as given:
            assert given == traceparent
        assert traces.begin("span", traceparent) is traces.since("span", traceparent, 1.0) is None
    traces.end_together("batch", [], size=7)
    assert finished(exporter) == {}


def test_what_began_some_time_ago_has_its_own_times(exporter: InMemorySpanExporter) -> None:
    traces.end(traces.since("apply", PARENT, 1.5, rows=3), error="parked", attempts=2)
    span = finished(exporter)["apply"]
    assert span.start_time == 1_500_000_000 and span.end_time is not None and span.end_time > span.start_time
    assert span.attributes == {"rows": 3, "error.type": "parked", "attempts": 2}
    assert span.parent is not None and (ids(span)[0], f"{span.parent.span_id:016x}") == (PARENT[3:35], PARENT[36:52])


def test_a_batch_is_linked_with_what_is_in_it_and_contains_none_of_it(exporter: InMemorySpanExporter) -> None:
    opened = [traces.since(f"apply {number}", str(new()), 1.0 + number) for number in range(2)]
    traces.end_together("commit", [each for each in opened if each is not None], size=50)
    traces.end_together("commit alone", [each for each in [traces.begin("alone", PARENT)] if each], size=1)
    spans = finished(exporter)
    assert set(spans) == {"apply 0", "apply 1", "commit", "alone"}
    batch = spans["commit"]
    assert batch.parent is None and batch.start_time == 1_000_000_000
    assert batch.attributes == {"batch.size": 50, "batch.sampled": 2}
    linked = {(f"{each.context.trace_id:032x}", f"{each.context.span_id:016x}") for each in batch.links}
    assert linked == {ids(spans["apply 0"]), ids(spans["apply 1"])}
    for number in range(2):
        (back,) = spans[f"apply {number}"].links
        assert (f"{back.context.trace_id:032x}", f"{back.context.span_id:016x}") == ids(batch)
    assert not spans["alone"].links


def test_a_batch_links_as_many_as_a_span_may(exporter: InMemorySpanExporter) -> None:
    opened = [each for _ in range(200) if (each := traces.begin("apply", str(new()))) is not None]
    traces.end_together("commit", opened, size=200)
    assert len(finished(exporter)["commit"].links) == traces.MOST_LINKS


def test_zipkin_is_told_what_it_has_names_for(exporter: InMemorySpanExporter) -> None:
    opened = [
        each
        for each in (
            traces.since("apply", PARENT, 1.5, "consumer", rows=3, first=True),
            traces.since("other", PARENT, 2.0),
        )
        if each is not None
    ]
    traces.end_together("commit", opened, size=2)
    traces.end(traces.begin("wrong", PARENT), error="500")
    spans = finished(exporter)
    found = encoded(spans["apply"])
    batch = ids(spans["commit"])
    assert found["duration"] > 0
    assert {name: found[name] for name in found if name not in ("duration", "id")} == {
        "traceId": PARENT[3:35],
        "parentId": PARENT[36:52],
        "name": "apply",
        "kind": "CONSUMER",
        "timestamp": 1_500_000,
        "localEndpoint": {"serviceName": "test"},
        "tags": {"rows": "3", "first": "true", "link.0": f"{batch[0]}-{batch[1]}"},
    }
    assert "kind" not in encoded(spans["commit"]) and "parentId" not in encoded(spans["commit"])
    assert encoded(spans["wrong"])["tags"] == {"error": "500", "error.type": "500"}


def test_a_zipkin_that_is_away_loses_spans_and_nothing_else(
    exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    traces.end(traces.begin("apply", PARENT))
    spans = [*finished(exporter).values()]
    away = ZipkinExporter(f"http://127.0.0.1:{free_port()}", timeout=1)
    assert [away.export(spans).name, away.export(spans).name] == ["FAILURE", "FAILURE"]
    assert len(caplog.records) == 1
    away.shutdown()


@pytest.mark.parametrize("form", ["otlp", "zipkin"])
def test_a_destination_has_an_exporter(form: str) -> None:
    traces.install("test", Destination("otlp" if form == "otlp" else "zipkin", "http://127.0.0.1:1"))
    assert traces.installed()
    traces.close()
    assert not traces.installed()
    traces.close()


def test_the_environment_names_a_destination_as_opentelemetry_does() -> None:
    found = traces.destination({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318/"}, sampling=0.5)
    assert found == Destination("otlp", "http://a:4318", 0.5)
    zipkin = {"OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://a:9411/api/v2/spans"}
    assert traces.destination(zipkin) == Destination("zipkin", "http://a:9411")
    assert traces.destination({}) is None
    assert traces.destination(zipkin | {"OTEL_SDK_DISABLED": "true"}) is None
    traces.install_from({}, "test")
    assert not traces.installed()


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
