"""For each alert, series at which it must fire and at which it must be silent: for Prometheus and for the webhook."""

from __future__ import annotations

from typing import NamedTuple

STEP = 15
"""Seconds between two values of a series."""
GIB = 2**30
DAY = 86_400


class Case(NamedTuple):
    """Values of one series, the last of them now.

    Attributes:
        labels: the series' own, beside the estate; ``by`` of the alert among them.
    """

    alert: str
    metric: str
    labels: dict[str, str]
    values: list[float]
    fires: bool


def steady(value: float, minutes: float) -> list[float]:
    """``value`` for so long, both ends included."""
    return [value] * (int(minutes * 60 / STEP) + 1)


CONTEXT = {"context": "inventory"}
FLOW = {**CONTEXT, "direction": "forward"}
SERVICE = {"service": "billing"}
UP = {"job": "fig", "role": "sync", "instance": "127.0.0.1:9"}

# The alert, its metric, the labels; values at which it fires; values at which it is silent, twice where time counts.
_TABLE: list[tuple[str, str, dict[str, str], list[float], list[list[float]]]] = [
    ("FigProcessDown", "up", UP, [1, *steady(0, 1)], [[1, *steady(0, 0.75)], [*steady(0, 2), 1], steady(1, 5)]),
    (
        "FigProcessRestarting",
        "fig_process_restarts_total",
        {"process": "sync", "role": "up", "instance": "127.0.0.1:9"},
        [0, 0, 1, 1, 2, 2, 3, *steady(3, 5)],
        [[0, 0, 1, 1, 2, *steady(2, 8)], [0, 1, 2, 3, *steady(3, 11)], steady(7, 10)],
    ),
    (
        "FigControllerSilent",
        "fig_controller_looked_timestamp_seconds",
        CONTEXT,
        [0, 15, 30, *steady(30, 1)],
        [[0, 15, 30, 30, 30], [0, 15, 30, 45, 60, 75, 90, 105, 120]],
    ),
    ("FigDatabaseDown", "fig_database_up", {"database": "control"}, [1, 0, 0, 0], [[1, 0, 0], [0, 0, 0, 1]]),
    (
        "FigCertificateRunsOut",
        "fig_certificate_left_seconds",
        {"certificate": "facade.tls.certificate"},
        [15 * DAY, *steady(13 * DAY, 5)],
        [[14.1 * DAY] * 30, [*steady(13 * DAY, 4), 90 * DAY]],
    ),
    (
        "FigCertificateIsOut",
        "fig_certificate_left_seconds",
        {"certificate": "monolith.tls.ca"},
        [3 * DAY, *steady(-60, 5)],
        [[2.5 * DAY] * 30, [*steady(DAY, 4), 90 * DAY]],
    ),
    (
        "FigClockSkew",
        "fig_clock_skew_seconds",
        {"database": "monolith"},
        [0, *steady(0.6, 2)],
        [[0, *steady(0.6, 1.5)], steady(0.5, 10)],
    ),
    ("FigFlowHalted", "fig_flow_halted", {**FLOW, "part": "sync"}, steady(1, 1), [steady(1, 0.75), steady(0, 5)]),
    ("FigSlotNearBudget", "fig_capture_slot_used_ratio", FLOW, steady(0.75, 1), [steady(0.75, 0.5), steady(0.5, 5)]),
    (
        "FigSlotRetainsMuch",
        "fig_capture_slot_retained_bytes",
        FLOW,
        steady(11 * GIB, 5),
        [steady(11 * GIB, 4.5), steady(10 * GIB, 10), steady(2**20, 10)],
    ),
    ("FigCaptureLagging", "fig_capture_lag_seconds", FLOW, steady(61, 2), [steady(61, 1.5), steady(60, 5)]),
    (
        "FigReplicationLagging",
        "fig_sync_latency_p99_seconds",
        FLOW,
        steady(12.5, 5),
        [steady(12.5, 4.5), steady(10, 10), [*steady(12.5, 4), 0.1, *steady(12.5, 4)]],
    ),
    ("FigChangesParked", "fig_sync_parked_changes", FLOW, [0, 0, 3], [[0, 0, 0], [3, 3, 0]]),
    (
        "FigGuardRefusals",
        "fig_guard_refusals_total",
        FLOW,
        [0, 0, 2, *steady(2, 5)],
        [steady(2, 5), [0, 2, *steady(2, 11)]],
    ),
    ("FigFenceHeldLong", "fig_fence_hold_seconds", CONTEXT, [0, 5.5], [[0, 5], [20, 0]]),
    ("FigFenceBlind", "fig_fence_blind", CONTEXT, [0, 1, 1, 1], [[0, 1, 1], [1, 1, 1, 0]]),
    ("FigWritesRefused", "fig_fence_refused_total", CONTEXT, [0, 0, 4, 4], [[4, 4, 4], [0, 4, *steady(4, 11)]]),
    (
        "FigReverseUnhealthy",
        "fig_extraction_reverse_healthy",
        CONTEXT,
        [1, *steady(0, 1)],
        [[1, *steady(0, 0.75)], steady(1, 5)],
    ),
    (
        "FigRolledBack",
        "fig_extraction_automatic_rollbacks_total",
        CONTEXT,
        [0, 0, 1, *steady(1, 20)],
        [steady(1, 20), [0, 1, *steady(1, 31)]],
    ),
    ("FigEvidenceStarving", "fig_gate_starving_seconds", {**CONTEXT, "kpi": "latency"}, [0, 901], [[0, 900], [901, 0]]),
    (
        "FigOutboxStuck",
        "fig_service_outbox_oldest_seconds",
        SERVICE,
        steady(75, 1),
        [steady(75, 0.75), steady(60, 5)],
    ),
    (
        "FigMessagesParked",
        "fig_service_parked_messages",
        {**SERVICE, "subscription": "billing.orders"},
        [0, 1],
        [[0, 0], [1, 0]],
    ),
    (
        "FigConsumerLagging",
        "fig_service_subscription_lag_messages",
        {**SERVICE, "subscription": "billing.orders"},
        steady(10_001, 10),
        [steady(10_001, 9.5), steady(10_000, 15)],
    ),
    ("FigSagaOverdue", "fig_saga_oldest_due_seconds", SERVICE, steady(150, 1), [steady(150, 0.75), steady(120, 5)]),
    ("FigSagaBlocked", "fig_saga_blocked_instances", SERVICE, [0, 2], [[0, 0], [2, 0]]),
]
CASES = [
    Case(alert, metric, labels, values, fires)
    for alert, metric, labels, firing, silents in _TABLE
    for values, fires in ((firing, True), *((silent, False) for silent in silents))
]
