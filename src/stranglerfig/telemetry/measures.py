"""The metrics that there are, as data: what the reference, the alerts and the dashboard name must be one of these.

Names follow Prometheus' conventions (https://prometheus.io/docs/practices/naming): base units (seconds, bytes, ratios
between 0 and 1), ``_total`` for what only grows, a timestamp is seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter", "histogram"]
_FLOW = ("context", "direction")
_SUBSCRIPTION = ("service", "subscription")


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric.

    Attributes:
        of: which process serves it.
        labels: what its series are told apart by.
    """

    name: str
    of: str
    kind: Kind
    labels: tuple[str, ...]
    about: str


ALL: tuple[Measure, ...] = (
    Measure("fig_build_info", "every", "gauge", ("version",), "1; the version that runs."),
    # fig up
    Measure("fig_process_up", "up", "gauge", ("process",), "1 while the process is ready."),
    Measure("fig_process_restarts_total", "up", "counter", ("process",), "How often the process was started again."),
    Measure(
        "fig_certificate_left_seconds",
        "up",
        "gauge",
        ("certificate",),
        "Until the certificate runs out that this key of a file or an address names; below 0 it has.",
    ),
    # capture
    Measure("fig_capture_changes_total", "capture", "counter", _FLOW, "Changes read from the source."),
    Measure("fig_capture_transactions_total", "capture", "counter", _FLOW, "Transactions read from the source."),
    Measure("fig_capture_snapshot_rows", "capture", "gauge", _FLOW, "Rows that the snapshot has read."),
    Measure("fig_capture_lag_bytes", "capture", "gauge", _FLOW, "WAL that the source has written and the log has not."),
    Measure(
        "fig_capture_lag_seconds", "capture", "gauge", _FLOW, "Age of the oldest change that is not durable in the log."
    ),
    Measure("fig_capture_slot_retained_bytes", "capture", "gauge", _FLOW, "WAL that the source keeps for the slot."),
    Measure(
        "fig_capture_slot_safe_bytes",
        "capture",
        "gauge",
        _FLOW,
        "WAL that can be written before the slot may be lost (safe_wal_size); none where max_slot_wal_keep_size is -1.",
    ),
    Measure(
        "fig_capture_slot_used_ratio",
        "capture",
        "gauge",
        _FLOW,
        "Share of the slot's budget that is used: retained of retained and safe; none where there is no budget.",
    ),
    Measure(
        "fig_guard_refusals_total",
        "capture",
        "counter",
        _FLOW,
        "Writes that a guard in the source refused, since its side owns them no more.",
    ),
    # capture and sync
    Measure(
        "fig_flow_state",
        "capture, sync",
        "gauge",
        (*_FLOW, "part", "state"),
        "1 for the state that the flow's part is in.",
    ),
    Measure(
        "fig_flow_halted",
        "capture, sync",
        "gauge",
        (*_FLOW, "part"),
        "1 while the flow's part stands (failed, paused, stopped) and does not go on by itself.",
    ),
    # sync
    Measure("fig_sync_rows_total", "sync", "counter", _FLOW, "Rows applied in the target."),
    Measure("fig_sync_transactions_total", "sync", "counter", _FLOW, "Transactions applied in the target."),
    Measure("fig_sync_parked_changes", "sync", "gauge", _FLOW, "Changes that could not be applied and wait."),
    Measure("fig_sync_conflicts_total", "sync", "counter", _FLOW, "Rows that were changed on both sides."),
    Measure("fig_sync_behind_records", "sync", "gauge", _FLOW, "Records of the change topic that are not applied yet."),
    Measure(
        "fig_sync_latency_p99_seconds",
        "sync",
        "gauge",
        _FLOW,
        "From the commit at the source to the commit in the target, over the last seconds.",
    ),
    # façade
    Measure("fig_fence_held_requests", "fence, router", "gauge", ("context",), "Requests or commands held now."),
    Measure("fig_fence_hold_seconds", "fence", "gauge", ("context",), "How long writes have been held; 0 when open."),
    Measure("fig_fence_oldest_wait_seconds", "fence", "gauge", ("context",), "How long the oldest request has waited."),
    Measure("fig_fence_blind", "fence", "gauge", ("context",), "1 while the fence server cannot see who owns writes."),
    Measure("fig_fence_refused_total", "fence", "counter", ("context",), "Held requests that were answered 503."),
    Measure("fig_fence_given_up_total", "fence", "counter", ("context",), "Holds that were ended by their budget."),
    Measure(
        "fig_facade_answer_seconds",
        "controller",
        "histogram",
        ("context", "side", "kind"),
        "Answers to a context's requests, by who gave them, for reads and writes.",
    ),
    # shadow, registry
    Measure("fig_shadow_compared_total", "shadow", "counter", ("context",), "Answers of both sides compared."),
    Measure("fig_shadow_mismatched_total", "shadow", "counter", ("context",), "Compared answers that differ."),
    Measure(
        "fig_registry_request_seconds",
        "registry",
        "histogram",
        ("method", "status"),
        "Requests to the schema registry.",
    ),
    # extraction
    Measure("fig_extraction_stage", "controller", "gauge", ("context", "stage"), "1 for the stage of the context."),
    Measure("fig_extraction_epoch", "controller", "gauge", ("context",), "Epoch of the ownership."),
    Measure(
        "fig_extraction_reverse_healthy",
        "controller",
        "gauge",
        ("context",),
        "Whether the stream back to the monolith runs (1) or not (0); only while the service owns the writes.",
    ),
    Measure(
        "fig_extraction_automatic_rollbacks_total",
        "controller",
        "counter",
        ("context",),
        "Switches that were taken back because their KPIs failed.",
    ),
    Measure("fig_gate_samples", "controller", "gauge", ("context", "kpi"), "Samples that the verdict rests on."),
    Measure(
        "fig_gate_samples_needed",
        "controller",
        "gauge",
        ("context", "kpi"),
        "How many more until the next look that could pass.",
    ),
    Measure(
        "fig_gate_verdict",
        "controller",
        "gauge",
        ("context", "verdict"),
        "1 for what the gate says: pass, fail or inconclusive.",
    ),
    Measure(
        "fig_gate_starving_seconds",
        "controller",
        "gauge",
        ("context", "kpi"),
        "How long an undecided KPI has had no new sample; 0 when it is decided.",
    ),
    Measure(
        "fig_controller_looked_timestamp_seconds",
        "controller",
        "gauge",
        ("context",),
        "When the controller last looked at the context to the end.",
    ),
    Measure("fig_database_up", "controller", "gauge", ("database",), "1 while the database answers."),
    Measure(
        "fig_clock_skew_seconds",
        "controller",
        "gauge",
        ("database",),
        "By how much the database's clock differs from the controller's, either way, at least.",
    ),
    # services of the kit, read by the controller from their databases, and by the services themselves
    Measure("fig_service_outbox_messages", "controller, services", "gauge", ("service",), "Messages in the outbox."),
    Measure(
        "fig_service_outbox_oldest_seconds",
        "controller, services",
        "gauge",
        ("service",),
        "Age of the oldest message in the outbox; 0 when it is empty.",
    ),
    Measure(
        "fig_service_parked_messages",
        "controller, services",
        "gauge",
        _SUBSCRIPTION,
        "Messages that could not be handled and wait for a person.",
    ),
    Measure(
        "fig_service_waiting_messages",
        "controller, services",
        "gauge",
        _SUBSCRIPTION,
        "Messages that wait behind parked ones of their key.",
    ),
    Measure(
        "fig_service_subscription_lag_messages",
        "controller",
        "gauge",
        _SUBSCRIPTION,
        "Messages of the subscription's topics that its group has not committed; where positions have gaps, at most.",
    ),
    Measure("fig_service_handled_total", "services", "counter", ("subscription",), "Messages that were handled."),
    Measure("fig_service_parked_total", "services", "counter", ("subscription",), "Messages that were parked."),
    Measure(
        "fig_saga_instances", "controller, services", "gauge", ("service", "name", "status"), "Sagas, by their status."
    ),
    Measure(
        "fig_saga_blocked_instances",
        "controller, services",
        "gauge",
        ("service",),
        "Sagas that need an operator's word.",
    ),
    Measure(
        "fig_saga_oldest_due_seconds",
        "controller, services",
        "gauge",
        ("service",),
        "For how long the oldest due saga has waited for a worker; 0 when none does.",
    ),
    # alerts
    Measure("fig_alerts_firing", "alerts", "gauge", ("alertname",), "Alerts that the webhook was or will be told of."),
    Measure("fig_alerts_posts_total", "alerts", "counter", ("outcome",), "Calls of the webhook: accepted, or failed."),
)
BY_NAME = {measure.name: measure for measure in ALL}


def series(measure: Measure) -> tuple[str, ...]:
    """The names under which its samples are served."""
    if measure.kind == "histogram":
        return tuple(f"{measure.name}_{part}" for part in ("bucket", "count", "sum"))
    return (measure.name,)
