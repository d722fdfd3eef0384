"""Traces: W3C trace context in and out, spans by OpenTelemetry when an endpoint is configured, nothing otherwise."""

# mypy: disable-error-code="attr-defined,import-not-found"
# (opentelemetry is a namespace package, which mypy finds or not by how it is called)
from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_FORM = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")
_provider: TracerProvider | None = None


class TraceContext(NamedTuple):
    """Where in which trace something happens (W3C Trace Context, level 1).

    Attributes:
        trace: 32 hexadecimal digits, not all zero.
        span: 16 hexadecimal digits, not all zero: the caller's span.
    """

    trace: str
    span: str
    sampled: bool = True

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"

    def child(self) -> TraceContext:
        """The same trace, a new span."""
        return self._replace(span=_random(8))


def _random(size: int) -> str:
    return secrets.token_hex(size)


def new() -> TraceContext:
    """The beginning of a trace."""
    return TraceContext(_random(16), _random(8))


def parse(traceparent: str | None) -> TraceContext | None:
    """A ``traceparent`` header; None for a missing or invalid one, which by the standard is to be ignored."""
    match = _FORM.match(traceparent.strip()) if traceparent else None
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not span.strip("0"):
        return None
    return TraceContext(trace, span, bool(int(flags, 16) & 1))


def install(service: str, endpoint: str | None, *, exporter: SpanExporter | None = None) -> None:
    """Send spans of this process to an OTLP/HTTP ``endpoint`` (its base, such as http://127.0.0.1:4318); None: do not.

    ``exporter`` takes the place of the OTLP one.
    """
    global _provider
    if endpoint is None and exporter is None:
        _provider = None
        return
    # Imported here: the SDK costs 100 ms and 15 MB that a process without traces need not spend.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if exporter is None:
        assert endpoint is not None
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _provider = provider


def close() -> None:
    """Send what waits, and stop."""
    global _provider
    if _provider is not None:
        _provider.shutdown()
        _provider = None


def record(name: str, traceparent: str, began: float, ended: float, **attributes: str | int | float | bool) -> None:
    """A span that is over; its times are seconds since 1970. Nothing without an endpoint, or when not sampled."""
    if _provider is None or (parent := parse(traceparent)) is None or not parent.sampled:
        return
    made = _provider.get_tracer("stranglerfig").start_span(
        name, context=_within(parent), attributes=attributes, start_time=int(began * 1e9)
    )
    made.end(int(ended * 1e9))


def _within(parent: TraceContext) -> Context:
    from opentelemetry import trace

    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if parent.sampled else 0)
    remote = trace.SpanContext(int(parent.trace, 16), int(parent.span, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(remote))


@contextmanager
def span(name: str, *, traceparent: str | None = None, **attributes: str | int | float | bool) -> Iterator[str | None]:
    """A span for the length of a block; gives the ``traceparent`` to hand on.

    Without an endpoint nothing is recorded and ``traceparent`` is handed on as it came.
    """
    if _provider is None:
        yield traceparent
        return
    parent = parse(traceparent)
    context = _within(parent) if parent is not None else None
    tracer = _provider.get_tracer("stranglerfig")
    with tracer.start_as_current_span(name, context=context, attributes=attributes) as current:
        found = current.get_span_context()
        yield str(TraceContext(f"{found.trace_id:032x}", f"{found.span_id:016x}", found.trace_flags.sampled))
