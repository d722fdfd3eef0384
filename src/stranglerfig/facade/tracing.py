"""What Envoy is told about traces: where its spans go, which requests are sampled, and what a span may say.

The façade decides what is sampled; everybody behind it follows the flag of the ``traceparent`` that it hands on.
Pure, as :mod:`.model` is. Field names as tried on Envoy 1.40.
"""

from __future__ import annotations

from typing import Any, Final

from stranglerfig.telemetry.model import Destination

Json = dict[str, Any]
CLUSTER: Final = "traces"
WITHHELD: Final = "-"
PACE: Final = {
    f"tracing.{tracer}.{name}": value
    for tracer in ("opentelemetry", "zipkin")
    for name, value in (("flush_interval_ms", 1000), ("min_flush_spans", 200))
}
"""How spans are let gather: by default every five of them are a request to the collector."""
# What Envoy would say of its own accord that may be personal or secret: an address, a program, a query's values.
_SILENCED: Final = ("http.url", "peer.address", "user_agent")


def connection(to: Destination, service: str) -> Json:
    """The ``tracing`` of an HTTP connection manager."""
    provider = _otlp(to, service) if to.form == "otlp" else _zipkin(to)
    return {
        "provider": provider,
        # The tracer's sampler decides for OTLP; Zipkin's tracer has none, and this is for what comes without a trace.
        "random_sampling": {"value": 100.0 if to.form == "otlp" else to.sampling * 100},
        "client_sampling": {"value": 0},
        "custom_tags": [{"tag": name, "literal": {"value": WITHHELD}} for name in _SILENCED],
        "max_path_tag_length": 1,
    }


def _otlp(to: Destination, service: str) -> Json:
    package = "envoy.extensions.tracers.opentelemetry.samplers.v3"
    return {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "http_service": {"http_uri": {"uri": f"{to.url}/v1/traces", "cluster": CLUSTER, "timeout": "2s"}},
            "service_name": service,
            # By the trace's id, whatever a client's flag says: nobody outside may have us record every request.
            "sampler": {
                "name": "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
                "typed_config": {
                    "@type": f"type.googleapis.com/{package}.TraceIdRatioBasedSamplerConfig",
                    "sampling_percentage": {
                        "numerator": round(to.sampling * 1_000_000),
                        "denominator": "MILLION",
                    },
                },
            },
        },
    }


def _zipkin(to: Destination) -> Json:
    return {
        "name": "envoy.tracers.zipkin",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
            "collector_cluster": CLUSTER,
            "collector_endpoint": "/api/v2/spans",
            "collector_endpoint_version": "HTTP_JSON",
            "trace_id_128bit": True,
            "shared_span_context": False,
            "trace_context_option": "USE_B3_WITH_W3C_PROPAGATION",
        },
    }
