"""Spans of this process: opened, handed on as a W3C ``traceparent``, recorded when they are over.

Nothing is recorded without a destination, nor of what the façade did not sample; the context is handed on all the same.
No attribute may hold what a row, a message or a request says: names, ids, counts and places in a log are enough.
"""

# mypy: disable-error-code="attr-defined,import-not-found"
# (opentelemetry is a namespace package, which mypy finds or not by how it is called)
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from stranglerfig.foundation import clock
from stranglerfig.telemetry.model import Destination, TraceContext, new, parse

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import SpanContext

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attribute = str | int | float | bool
MOST_LINKS: Final = 128
"""Of a span, as OpenTelemetry's SDKs have it (OTEL_SPAN_LINK_COUNT_LIMIT)."""
QUEUE: Final = 16_384
"""Spans that may wait to be sent; more are dropped, so that a slow collector costs memory to this limit and no time."""
DELAY: Final = 1.0
"""Seconds for which spans are let gather."""

_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


class Opened(NamedTuple):
    """A span that has begun.

    Attributes:
        parent: the ``traceparent`` that it goes on from.
        own: the ``traceparent`` to hand on.
        began: seconds since 1970.
    """

    name: str
    parent: TraceContext
    own: TraceContext
    began: float
    kind: Kind
    attributes: Mapping[str, Attribute]


def install(service: str, to: Destination | None, *, exporter: SpanExporter | None = None) -> None:
    """Send spans of this process to a destination, under the name of ``service``; None: record none.

    ``exporter`` takes the place of the destination's.
    """
    global _sink
    close()
    if exporter is None:
        if to is None:
            return
        exporter = _exporter(to)
    _sink = _Sink(service, exporter)


def _exporter(to: Destination) -> SpanExporter:
    if to.form == "zipkin":
        from stranglerfig.telemetry.zipkin import ZipkinExporter

        return ZipkinExporter(to.url)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=f"{to.url}/v1/traces", timeout=5)


def destination(environment: Mapping[str, str], *, sampling: float = 1.0) -> Destination | None:
    """Where OpenTelemetry's own variables say that spans go: ``OTEL_EXPORTER_OTLP_ENDPOINT`` (a base) or
    ``OTEL_EXPORTER_ZIPKIN_ENDPOINT`` (with its path); None without them, and with ``OTEL_SDK_DISABLED``.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if url := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return Destination("otlp", url.rstrip("/"), sampling)
    if url := environment.get("OTEL_EXPORTER_ZIPKIN_ENDPOINT"):
        return Destination("zipkin", url.rstrip("/").removesuffix("/api/v2/spans"), sampling)
    return None


def install_from(environment: Mapping[str, str], service: str) -> None:
    """:func:`install` by the environment, whose ``OTEL_SERVICE_NAME`` comes before ``service``."""
    install(environment.get("OTEL_SERVICE_NAME") or service, destination(environment))


def installed() -> bool:
    """Whether spans of this process go anywhere."""
    return _sink is not None


def flush() -> None:
    """Send what waits."""
    if _sink is not None:
        _sink.processor.force_flush()


def close() -> None:
    """Send what waits, and stop."""
    global _sink
    if _sink is not None:
        found, _sink = _sink, None
        found.processor.shutdown()  # type: ignore[no-untyped-call]


def current() -> str | None:
    """The ``traceparent`` of the :func:`span` around; None outside of any."""
    return _current.get()


def begin(name: str, traceparent: str | None, kind: Kind = "internal", **attributes: Attribute) -> Opened | None:
    """Open a span that goes on from ``traceparent``; None when it is not to be recorded."""
    if _sink is None or (parent := parse(traceparent)) is None or not parent.sampled:
        return None
    return Opened(name, parent, parent.child(), clock.epoch(), kind, attributes)


def end(opened: Opened | None, *, error: str | None = None, **attributes: Attribute) -> None:
    """Record that a span is over; ``error`` is the code or kind of what went wrong, not its text."""
    if opened is not None:
        _write(
            opened.name, opened.own, opened.parent, opened.began, clock.epoch(), opened.kind,
            {**opened.attributes, **attributes}, error=error,
        )  # fmt: skip


def end_together(name: str, opened: Sequence[Opened], *, size: int) -> None:
    """Record spans that end with one batch: each in its own trace, and the batch in one of its own that is linked with
    them, both ways, for it belongs to none of them alone. What is alone in its batch has no such span.

    Args:
        size: of the batch, those included that are not recorded.
    """
    if not opened:
        return
    now = clock.epoch()
    batch = new() if size > 1 else None
    links = [] if batch is None else [batch]
    for each in opened:
        _write(each.name, each.own, each.parent, each.began, now, each.kind, each.attributes, links)
    if batch is not None:
        first = min(each.began for each in opened)
        attributes = {"batch.size": size, "batch.sampled": len(opened)}
        _write(name, batch, None, first, now, "internal", attributes, [each.own for each in opened[:MOST_LINKS]])


def since(
    name: str, traceparent: str | None, began: float, kind: Kind = "internal", **attributes: Attribute
) -> Opened | None:
    """:func:`begin` for what began some time ago (seconds since 1970)."""
    opened = begin(name, traceparent, kind, **attributes)
    return None if opened is None else opened._replace(began=began)


@contextmanager
def span(
    name: str, *, traceparent: str | None = None, kind: Kind = "internal", **attributes: Attribute
) -> Iterator[str | None]:
    """A span for the length of a block; gives the ``traceparent`` to hand on, which is :func:`current` meanwhile.

    It goes on from ``traceparent``, or from the span around. Without a destination, or when that is not sampled,
    nothing is recorded and it is handed on as it came. What is raised ends the span as an error of its class's name.
    """
    traceparent = traceparent or _current.get()
    opened = begin(name, traceparent, kind, **attributes)
    given = traceparent if opened is None else str(opened.own)
    token = _current.set(given)
    try:
        yield given
    except BaseException as error:
        end(opened, error=type(error).__name__)
        raise
    else:
        end(opened)
    finally:
        _current.reset(token)


def _write(
    name: str,
    own: TraceContext,
    parent: TraceContext | None,
    began: float,
    ended: float,
    kind: Kind,
    attributes: Mapping[str, Attribute],
    links: Sequence[TraceContext] = (),
    error: str | None = None,
) -> None:
    if _sink is not None:
        _sink(name, own, parent, int(began * 1e9), int(max(began, ended) * 1e9), kind, attributes, links, error)


class _Sink:
    """Makes spans of OpenTelemetry's and gives them to a processor.

    They are made by hand: an SDK's tracer draws the id of a span itself, and ours was handed on before the span is
    known to be worth recording (a transaction that is done again was none).
    """

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        # Imported here, once: the SDK costs 100 ms and 15 MB that a process without traces need not spend.
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

        self.processor = BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUE,
            max_export_batch_size=QUEUE // 8,
            schedule_delay_millis=DELAY * 1000,
        )
        self._span, self._link, self._context = ReadableSpan, Link, SpanContext
        self._resource = Resource.create({"service.name": service})
        self._scope = InstrumentationScope("stranglerfig")
        self._kinds = {kind.name.lower(): kind for kind in SpanKind}
        self._right, self._wrong = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
        self._flags = TraceFlags(TraceFlags.SAMPLED)

    def _at(self, of: TraceContext, *, is_remote: bool = True) -> SpanContext:
        return self._context(int(of.trace, 16), int(of.span, 16), is_remote, self._flags)

    def __call__(
        self,
        name: str,
        own: TraceContext,
        parent: TraceContext | None,
        began: int,
        ended: int,
        kind: Kind,
        attributes: Mapping[str, Attribute],
        links: Sequence[TraceContext],
        error: str | None,
    ) -> None:
        """Record a span; times are nanoseconds since 1970."""
        self.processor.on_end(
            self._span(
                name,
                context=self._at(own, is_remote=False),
                parent=None if parent is None else self._at(parent),
                resource=self._resource,
                attributes=attributes if error is None else {**attributes, "error.type": error},
                links=tuple([self._link(self._at(each)) for each in links]),
                kind=self._kinds[kind],
                instrumentation_scope=self._scope,
                status=self._right if error is None else self._wrong,
                start_time=began,
                end_time=ended,
            )
        )


_sink: _Sink | None = None
