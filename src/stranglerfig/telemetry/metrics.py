"""Metrics for Prometheus: one registry per process, filled by the rooms, served on loopback by its role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, start_http_server
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from stranglerfig.foundation.errors import FigError

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_FLOW = ("context", "direction")
_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


# capture and sync: what each flow reports of itself
def _figures(part: str, figures: Mapping[str, str]) -> dict[str, Gauge]:
    return {key: Gauge(f"fig_{part}_{key}", about, _FLOW, registry=REGISTRY) for key, about in figures.items()}


CAPTURE_FIGURES = _figures(
    "capture",
    {
        "changes": "Changes read from the source since the process began.",
        "snapshot_rows": "Rows that the snapshot has read.",
        "lag_bytes": "WAL that the source has written and the log has not.",
        "lag_ms": "Age of the oldest change that is not yet durable in the log, milliseconds.",
        "safe_wal_size": "Bytes that can be written before the slot is in danger of being lost.",
    },
)
SYNC_FIGURES = _figures(
    "sync",
    {
        "rows": "Rows applied in the target since the process began.",
        "transactions": "Transactions applied in the target since the process began.",
        "rate": "Rows applied a second.",
        "parked": "Changes that could not be applied and wait.",
        "conflicts": "Rows that were changed on both sides, since the extraction began.",
        "behind": "Records of the change topic that are not applied yet.",
    },
)
SYNC_P99 = Gauge(
    "fig_sync_latency_p99_seconds",
    "From the commit at the source to the commit in the target, over the last seconds.",
    _FLOW,
    registry=REGISTRY,
)
# façade
HOLDING = Gauge("fig_fence_holding", "Requests that are held now.", ("context",), registry=REGISTRY)
ANSWERS = Histogram(
    "fig_facade_answer_seconds",
    "Answers to a context's requests, by who gave them.",
    ("context", "side", "kind"),
    buckets=_LATENCIES,
    registry=REGISTRY,
)
# extraction
STAGE = Gauge(
    "fig_extraction_stage", "1 for the stage that the context is in.", ("context", "stage"), registry=REGISTRY
)
EPOCH = Gauge("fig_extraction_epoch", "Epoch of the ownership.", ("context",), registry=REGISTRY)
# every flow: 1 for the state that it says it is in
FLOW_STATE = Gauge(
    "fig_flow_state", "1 for the state that the flow's part is in.", (*_FLOW, "part", "state"), registry=REGISTRY
)


def state(context: str, direction: str, part: str, now: str, before: str | None) -> None:
    """A flow's capture or sync went from state ``before`` to ``now``."""
    if before is not None:
        FLOW_STATE.labels(context, direction, part, before).set(0)
    FLOW_STATE.labels(context, direction, part, now).set(1)


def flow(context: str, direction: str, part: str, said: Mapping[str, Any]) -> None:
    """What a flow's part reports of itself, as gauges (its own counts, which begin anew with the process)."""
    names = {"capture": CAPTURE_FIGURES, "sync": SYNC_FIGURES}[part]
    for key, gauge in names.items():
        value = said.get(key)
        if isinstance(value, int | float):
            gauge.labels(context, direction).set(value)
    latency = said.get("latency_ms") or {}
    if isinstance(p99 := latency.get("p99"), int | float):
        SYNC_P99.labels(context, direction).set(p99 / 1000)


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
