"""Metrics for Prometheus: one registry per process, filled by the rooms, served on loopback by its role."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from stranglerfig.foundation.errors import FigError
from stranglerfig.telemetry import measures

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
SERVICE = CollectorRegistry()
"""What a service of the kit counts in its own process; a service serves it beside its own."""

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_HALTED = frozenset({"failed", "paused", "stopped"})


def gauge(name: str, registry: CollectorRegistry = REGISTRY) -> Gauge:
    """The gauge that :mod:`measures` describes."""
    measure = measures.BY_NAME[name]
    assert measure.kind == "gauge", name
    return Gauge(name, measure.about, measure.labels, registry=registry)


def counter(name: str, registry: CollectorRegistry = REGISTRY) -> Counter:
    """The counter that :mod:`measures` describes."""
    measure = measures.BY_NAME[name]
    assert measure.kind == "counter", name
    return Counter(name, measure.about, measure.labels, registry=registry)


def histogram(name: str, registry: CollectorRegistry = REGISTRY) -> Histogram:
    """The histogram of seconds that :mod:`measures` describes."""
    measure = measures.BY_NAME[name]
    assert measure.kind == "histogram", name
    return Histogram(name, measure.about, measure.labels, buckets=_LATENCIES, registry=registry)


class Followed:
    """A counter that follows counts which others keep, and which begin anew with whoever keeps them."""

    def __init__(self, name: str) -> None:
        self._counter = counter(name)
        self._seen: dict[tuple[str, ...], float] = {}

    def see(self, labels: tuple[str, ...], value: float, *, source: str = "") -> None:
        """``source`` has counted up to ``value``; less than before means that it began anew."""
        key = (*labels, source)
        before = self._seen.get(key, 0.0)
        self._counter.labels(*labels).inc(value - before if value >= before else value)
        self._seen[key] = value


BUILD = gauge("fig_build_info")
PROCESS_UP = gauge("fig_process_up")
PROCESS_RESTARTS = counter("fig_process_restarts_total")
# capture and sync: what each flow reports of itself
_GAUGES = {
    "capture": {
        "snapshot_rows": (gauge("fig_capture_snapshot_rows"), 1),
        "lag_bytes": (gauge("fig_capture_lag_bytes"), 1),
        "lag_ms": (gauge("fig_capture_lag_seconds"), 1000),
        "slot_retained": (gauge("fig_capture_slot_retained_bytes"), 1),
        "safe_wal_size": (gauge("fig_capture_slot_safe_bytes"), 1),
    },
    "sync": {
        "parked": (gauge("fig_sync_parked_changes"), 1),
        "behind": (gauge("fig_sync_behind_records"), 1),
        "p99_ms": (gauge("fig_sync_latency_p99_seconds"), 1000),
    },
}
_COUNTERS = {
    "capture": {
        "changes": Followed("fig_capture_changes_total"),
        "transactions": Followed("fig_capture_transactions_total"),
        "refusals": Followed("fig_guard_refusals_total"),
    },
    "sync": {"rows": Followed("fig_sync_rows_total"), "transactions": Followed("fig_sync_transactions_total")},
}
_CONFLICTS = Followed("fig_sync_conflicts_total")
_SLOT_USED = gauge("fig_capture_slot_used_ratio")
_FLOW_STATE = gauge("fig_flow_state")
_FLOW_HALTED = gauge("fig_flow_halted")
# façade
HELD = gauge("fig_fence_held_requests")
HOLD_SECONDS = gauge("fig_fence_hold_seconds")
OLDEST_WAIT = gauge("fig_fence_oldest_wait_seconds")
BLIND = gauge("fig_fence_blind")
REFUSED = counter("fig_fence_refused_total")
GIVEN_UP = counter("fig_fence_given_up_total")
ANSWERS = histogram("fig_facade_answer_seconds")
COMPARED = counter("fig_shadow_compared_total")
MISMATCHED = counter("fig_shadow_mismatched_total")
REGISTRY_REQUESTS = histogram("fig_registry_request_seconds")
# extraction
STAGE = gauge("fig_extraction_stage")
EPOCH = gauge("fig_extraction_epoch")
REVERSE_HEALTHY = gauge("fig_extraction_reverse_healthy")
ROLLBACKS = counter("fig_extraction_automatic_rollbacks_total")
GATE_SAMPLES = gauge("fig_gate_samples")
GATE_NEEDED = gauge("fig_gate_samples_needed")
GATE_VERDICT = gauge("fig_gate_verdict")
GATE_STARVING = gauge("fig_gate_starving_seconds")
LOOKED = gauge("fig_controller_looked_timestamp_seconds")
DATABASE_UP = gauge("fig_database_up")
CLOCK_SKEW = gauge("fig_clock_skew_seconds")
CERTIFICATE_LEFT = gauge("fig_certificate_left_seconds")
SUBSCRIPTION_LAG = gauge("fig_service_subscription_lag_messages")
# services
HANDLED = counter("fig_service_handled_total", SERVICE)
PARKED = counter("fig_service_parked_total", SERVICE)
# alerts
ALERTS_FIRING = gauge("fig_alerts_firing")
ALERT_POSTS = counter("fig_alerts_posts_total")


class ServiceFigures:
    """What a service's database says of its outbox, its parked messages and its sagas, as gauges.

    Args:
        registry: where they are registered; a registry takes one of them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        names = ("outbox_messages", "outbox_oldest_seconds", "parked_messages", "waiting_messages")
        self._kit = {name: gauge(f"fig_service_{name}", registry) for name in names}
        self._instances = gauge("fig_saga_instances", registry)
        self._blocked = gauge("fig_saga_blocked_instances", registry)
        self._due = gauge("fig_saga_oldest_due_seconds", registry)
        self._shown: dict[str, set[tuple[Gauge, tuple[str, ...]]]] = {}

    def show(
        self,
        service: str,
        kit: Mapping[str, float],
        parked: Iterable[tuple[str, int, int]],
        sagas: Iterable[tuple[str, str, int]] | None,
        due: float = 0,
        blocked: int = 0,
    ) -> None:
        """Say what was found; series of what is no more are removed.

        Args:
            kit: ``outbox_messages`` and ``outbox_oldest_seconds``.
            parked: by subscription, how many are parked, and wait behind such.
            sagas: by name and status, how many; None where the database keeps none.
        """
        found: dict[tuple[Gauge, tuple[str, ...]], float] = {}
        for name, value in kit.items():
            found[self._kit[name], (service,)] = value
        for subscription, letters, waiting in parked:
            found[self._kit["parked_messages"], (service, subscription)] = letters
            found[self._kit["waiting_messages"], (service, subscription)] = waiting
        if sagas is not None:
            found[self._due, (service,)], found[self._blocked, (service,)] = due, blocked
            for name, status, count in sagas:
                found[self._instances, (service, name, status)] = count
        for each, labels in self._shown.get(service, set()) - found.keys():
            each.remove(*labels)
        for (each, labels), value in found.items():
            each.labels(*labels).set(value)
        self._shown[service] = set(found)

    def unregister(self) -> None:
        """Take them out of their registry: others may be put there."""
        for each in (*self._kit.values(), self._instances, self._blocked, self._due):
            self._registry.unregister(each)

    def unknown(self, service: str) -> None:
        """The database does not answer: nothing is known, which is not the same as nothing waits."""
        for each, labels in self._shown.pop(service, set()):
            each.remove(*labels)


def clear(each: Gauge | Counter, **labels: str) -> None:
    """Remove the series whose labels are so: what they speak of is no more."""
    for sample in {tuple(sorted(sample.labels.items())) for family in each.collect() for sample in family.samples}:
        found = dict(sample)
        if labels.items() <= found.items():
            each.remove(*(found[name] for name in measures.BY_NAME[_name(each)].labels))


def _name(each: Gauge | Counter) -> str:
    (family,) = each.collect()
    return family.name + ("_total" if family.type == "counter" else "")


def state(context: str, direction: str, part: str, now: str, before: str | None) -> None:
    """A flow's capture or sync went from state ``before`` to ``now``."""
    if before is not None:
        _FLOW_STATE.labels(context, direction, part, before).set(0)
    _FLOW_STATE.labels(context, direction, part, now).set(1)
    _FLOW_HALTED.labels(context, direction, part).set(now in _HALTED)


def flow(context: str, direction: str, part: str, said: Mapping[str, Any]) -> None:
    """What a flow's part reports of itself: what is so now."""
    latency = said.get("latency_ms") or {}
    for key, (each, divisor) in _GAUGES[part].items():
        value = latency.get("p99") if key == "p99_ms" else said.get(key)
        if isinstance(value, int | float):
            each.labels(context, direction).set(value / divisor)
    retained, safe = said.get("slot_retained"), said.get("safe_wal_size")
    if retained is not None and safe is not None:
        # What is not safe any more counts as used up: the server reports it as negative.
        whole = retained + max(0, safe)
        _SLOT_USED.labels(context, direction).set(retained / whole if whole else 0)


def counted(context: str, direction: str, part: str, said: Mapping[str, Any], *, source: str = "") -> None:
    """What a flow's part, or one partition of it (``source``), reports to have counted since it began."""
    for key, each in _COUNTERS[part].items():
        value = said.get(key)
        if isinstance(value, int | float):
            each.see((context, direction), value, source=source)
    if isinstance(conflicts := said.get("conflicts"), int):
        _CONFLICTS.see((context, direction), conflicts)


def forget(context: str, direction: str, part: str) -> None:
    """A flow is no longer wanted here: what it was like would else be told for ever."""
    for each, _ in _GAUGES[part].values():
        clear(each, context=context, direction=direction)
    if part == "capture":
        clear(_SLOT_USED, context=context, direction=direction)
    for each in (_FLOW_STATE, _FLOW_HALTED):
        clear(each, context=context, direction=direction, part=part)


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
