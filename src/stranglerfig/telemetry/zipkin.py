"""Spans in Zipkin's JSON, version 2 (https://zipkin.io/zipkin-api/#/default/post_spans).

OpenTelemetry has deprecated its own exporter for it, which leaves links out. Zipkin has no links either: they are tags
here, ``link.0`` and so on, each a ``traceparent``'s trace and span.
"""

# mypy: disable-error-code="attr-defined,import-not-found"
# (opentelemetry is a namespace package, which mypy finds or not by how it is called)
from __future__ import annotations

import logging
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Final

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

from stranglerfig.telemetry.model import LINK

log = logging.getLogger(__name__)

_KINDS: Final = {kind: kind.name for kind in SpanKind if kind is not SpanKind.INTERNAL}


def encoded(span: ReadableSpan) -> dict[str, Any]:
    """A span as Zipkin has it; times in microseconds."""
    assert span.context is not None and span.start_time is not None and span.end_time is not None
    tags = {name: _text(value) for name, value in (span.attributes or {}).items()}
    for number, link in enumerate(span.links):
        tags[f"{LINK}{number}"] = f"{link.context.trace_id:032x}-{link.context.span_id:016x}"
    if span.status.status_code is StatusCode.ERROR:
        tags["error"] = tags.get("error.type", "true")
    found: dict[str, Any] = {
        "traceId": f"{span.context.trace_id:032x}",
        "id": f"{span.context.span_id:016x}",
        "name": span.name,
        "timestamp": span.start_time // 1000,
        "duration": max(1, (span.end_time - span.start_time) // 1000),
        "localEndpoint": {"serviceName": str(span.resource.attributes.get("service.name", "unknown"))},
        "tags": tags,
    }
    if span.parent is not None:
        found["parentId"] = f"{span.parent.span_id:016x}"
    if span.kind in _KINDS:
        found["kind"] = _KINDS[span.kind]
    return found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class ZipkinExporter(SpanExporter):
    """Posts spans to ``<url>/api/v2/spans``; what cannot be sent is lost, and said once."""

    def __init__(self, url: str, *, timeout: float = 5.0) -> None:
        self._url = f"{url}/api/v2/spans"
        self._timeout = timeout
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, in the processor's own thread."""
        request = urllib.request.Request(  # noqa: S310  fig.yaml takes http and https alone
            self._url,
            orjson.dumps([encoded(span) for span in spans]),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout):  # noqa: S310
                pass
        except (OSError, urllib.error.URLError) as error:
            if not self._failing:
                log.warning("traces do not reach Zipkin, and are lost: %s", error, extra={"action": "traces_lost"})
            self._failing = True
            return SpanExportResult.FAILURE
        self._failing = False
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is kept open."""
