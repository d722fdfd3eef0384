"""Metrics for Prometheus: one registry per process, filled by the rooms, served on loopback by its role."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from stranglerfig.foundation.errors import FigError

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_FLOW = ("context", "direction")
_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# capture
CAPTURED = Counter("fig_capture_changes", "Changes read from the source.", _FLOW, registry=REGISTRY)
CAPTURED_ROWS = Gauge("fig_capture_snapshot_rows", "Rows that the snapshot has read.", _FLOW, registry=REGISTRY)
CAPTURE_LAG = Gauge(
    "fig_capture_lag_bytes", "WAL that the source has written and the log has not.", _FLOW, registry=REGISTRY
)
# sync
APPLIED = Counter("fig_sync_changes", "Changes applied in the target.", _FLOW, registry=REGISTRY)
PARKED = Gauge("fig_sync_parked", "Changes that could not be applied and wait.", _FLOW, registry=REGISTRY)
SYNC_LATENCY = Histogram(
    "fig_sync_latency_seconds",
    "From the commit at the source to the commit in the target.",
    _FLOW,
    buckets=_LATENCIES,
    registry=REGISTRY,
)
# façade
HELD = Histogram(
    "fig_fence_held_seconds", "How long a request was held.", ("context",), buckets=_LATENCIES, registry=REGISTRY
)
HOLDING = Gauge("fig_fence_holding", "Requests that are held now.", ("context",), registry=REGISTRY)
ANSWERS = Histogram(
    "fig_facade_answer_seconds",
    "Answers to a context's requests, by who gave them.",
    ("context", "side", "kind"),
    buckets=_LATENCIES,
    registry=REGISTRY,
)
SHADOWED = Counter(
    "fig_shadow_comparisons", "Shadow reads by what came of them.", ("context", "outcome"), registry=REGISTRY
)
# extraction
STAGE = Gauge(
    "fig_extraction_stage", "1 for the stage that the context is in.", ("context", "stage"), registry=REGISTRY
)
EPOCH = Gauge("fig_extraction_epoch", "Epoch of the ownership.", ("context",), registry=REGISTRY)
VERDICTS = Counter("fig_gate_verdicts", "Verdicts by KPI.", ("context", "kpi", "verdict"), registry=REGISTRY)
# every flow: 1 for the state that it says it is in
FLOW_STATE = Gauge(
    "fig_flow_state", "1 for the state that the flow's part is in.", (*_FLOW, "part", "state"), registry=REGISTRY
)


def state(context: str, direction: str, part: str, now: str, before: str | None) -> None:
    """A flow's capture or sync went from state ``before`` to ``now``."""
    if before is not None:
        FLOW_STATE.labels(context, direction, part, before).set(0)
    FLOW_STATE.labels(context, direction, part, now).set(1)


def serve(port: int, host: str = "127.0.0.1") -> Callable[[], None]:
    """Serve ``/metrics``; returns what ends it.

    Raises:
        FigError: ``port_in_use``.
    """
    try:
        server, thread = start_http_server(port, host, registry=REGISTRY)
    except OSError as error:
        raise FigError(
            "port_in_use",
            f"the metrics cannot be served on {host}:{port}: the port is taken",
            "End what listens there.",
            port=port,
            host=host,
        ) from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
