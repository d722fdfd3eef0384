"""What an operator is warned of: one definition, from which Prometheus' rules are made and by which the webhook judges.

Each alert compares one metric with a threshold; what must be computed is computed where the metric is made. So both
judges can be as simple as each other, and are tested with the same series.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stranglerfig.telemetry import measures

Form = Literal["value", "age", "increase"]
Severity = Literal["critical", "warning"]
JOB = "fig"
"""The Prometheus job under which a project's processes are scraped."""
GUIDE = "docs/how-to/answer-alerts.md"
_MINUTE = 60.0
_DAY = 86_400.0
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        form: ``value``: the metric itself; ``age``: seconds since the timestamp that it is; ``increase``: by how much
            it grew in the last ``window`` seconds.
        over, under: what it must exceed or fall short of; one of them is given.
        hold: seconds for which that must be so without a break.
        by: what tells one such alert from another, beside the estate.
        summary, description: with ``{label}`` for each of ``by``, and ``{value}``.
    """

    name: str
    metric: str
    by: tuple[str, ...]
    summary: str
    description: str
    severity: Severity = "warning"
    form: Form = "value"
    over: float | None = None
    under: float | None = None
    window: float = 0.0
    hold: float = 0.0

    @property
    def labels(self) -> tuple[str, ...]:
        """What its series are grouped by."""
        return ("estate", *self.by)

    @property
    def anchor(self) -> str:
        """Its section in the guide."""
        return self.name.lower()

    def holds(self, value: float) -> bool:
        """Whether a value is one to warn of."""
        return value > self.over if self.over is not None else value < (self.under or 0.0)

    def promql(self) -> str:
        """The condition as PromQL."""
        selector = f'up{{job="{JOB}"}}' if self.metric == "up" else self.metric
        by = ", ".join(self.labels)
        match self.form:
            case "value":
                chosen = "max" if self.over is not None else "min"
                value = f"{chosen} by ({by}) ({selector})"
            case "age":
                value = f"time() - max by ({by}) ({selector})"
            case "increase":
                value = f"sum by ({by}) (increase({selector}[{duration(self.window)}]))"
        sign, bound = (">", self.over) if self.over is not None else ("<", self.under)
        return f"{value} {sign} {bound:.15g}"


def duration(seconds: float) -> str:
    """As Prometheus writes it: ``90s``, ``10m``."""
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else f"{seconds:g}s"


ALL: tuple[Alert, ...] = (
    # processes
    Alert(
        "FigProcessDown",
        "up",
        ("role", "instance"),
        "{role} does not answer",
        "The metrics endpoint of {role} at {instance} has not answered for a minute: the process is gone or stands.",
        severity="critical",
        under=1,
        hold=_MINUTE,
    ),
    Alert(
        "FigProcessRestarting",
        "fig_process_restarts_total",
        ("process",),
        "{process} ends again and again",
        "{process} was started again three times or more within ten minutes.",
        form="increase",
        over=2.5,
        window=10 * _MINUTE,
    ),
    Alert(
        "FigControllerSilent",
        "fig_controller_looked_timestamp_seconds",
        ("context",),
        "The controller does not look at {context}",
        "The controller looks at {context} once a second; its last whole look was {value} s ago. Nothing takes a bad"
        " switch back meanwhile.",
        severity="critical",
        form="age",
        over=30,
        hold=15,
    ),
    Alert(
        "FigDatabaseDown",
        "fig_database_up",
        ("database",),
        "The database of {database} does not answer",
        "The controller has had no answer from the database of {database} for half a minute.",
        severity="critical",
        under=1,
        hold=30,
    ),
    Alert(
        "FigClockSkew",
        "fig_clock_skew_seconds",
        ("database",),
        "The clock of {database} is off by {value} s",
        "The database of {database} and the controller differ by {value} s: latencies between them are wrong by that.",
        over=0.5,
        hold=2 * _MINUTE,
    ),
    Alert(
        "FigCertificateRunsOut",
        "fig_certificate_left_seconds",
        ("certificate",),
        "A certificate runs out: {certificate}",
        "What {certificate} names is valid for {value} s more, less than two weeks.",
        under=14 * _DAY,
        hold=5 * _MINUTE,
    ),
    Alert(
        "FigCertificateIsOut",
        "fig_certificate_left_seconds",
        ("certificate",),
        "A certificate is out, or nearly: {certificate}",
        "What {certificate} names is valid for {value} s more, less than two days: connections fail from then on.",
        severity="critical",
        under=2 * _DAY,
        hold=5 * _MINUTE,
    ),
    # capture and sync
    Alert(
        "FigFlowHalted",
        "fig_flow_halted",
        ("context", "direction", "part"),
        "{part} of {context}, {direction}, stands",
        "{part} of the {direction} flow of {context} has failed, is paused or stands at a change; WAL is kept.",
        severity="critical",
        over=0,
        hold=_MINUTE,
    ),
    Alert(
        "FigSlotNearBudget",
        "fig_capture_slot_used_ratio",
        ("context", "direction"),
        "The slot of {context}, {direction}, nears its budget",
        "The source keeps so much WAL for the slot that {value} of max_slot_wal_keep_size is used. At 1 the slot is"
        " lost and a new snapshot is needed.",
        severity="critical",
        over=0.5,
        hold=_MINUTE,
    ),
    Alert(
        "FigSlotRetainsMuch",
        "fig_capture_slot_retained_bytes",
        ("context", "direction"),
        "The slot of {context}, {direction}, retains much WAL",
        "The source keeps {value} bytes of WAL for the slot. Without max_slot_wal_keep_size its disk fills.",
        over=10 * _GIB,
        hold=5 * _MINUTE,
    ),
    Alert(
        "FigCaptureLagging",
        "fig_capture_lag_seconds",
        ("context", "direction"),
        "Capture of {context}, {direction}, is {value} s behind",
        "The oldest change of {context} that is not durable in the log is {value} s old.",
        over=60,
        hold=2 * _MINUTE,
    ),
    Alert(
        "FigReplicationLagging",
        "fig_sync_latency_p99_seconds",
        ("context", "direction"),
        "Changes of {context}, {direction}, take {value} s",
        "One change in a hundred needs more than {value} s from the commit at the source to the commit in the target.",
        over=10,
        hold=5 * _MINUTE,
    ),
    Alert(
        "FigChangesParked",
        "fig_sync_parked_changes",
        ("context", "direction"),
        "{value} changes of {context}, {direction}, are parked",
        "The target refused changes of {context}; they wait for a person, and bar the next step and the way back.",
        severity="critical",
        over=0,
    ),
    Alert(
        "FigGuardRefusals",
        "fig_guard_refusals_total",
        ("context", "direction"),
        "Somebody writes tables of {context} past their owner",
        "Within ten minutes a guard refused writes to tables of {context}, whose owner is the other side.",
        form="increase",
        over=0,
        window=10 * _MINUTE,
    ),
    # façade and cut-over
    Alert(
        "FigFenceHeldLong",
        "fig_fence_hold_seconds",
        ("context",),
        "Writes of {context} have been held for {value} s",
        "A cut-over of {context} holds writes for {value} s, far longer than its budget: users wait.",
        severity="critical",
        over=5,
    ),
    Alert(
        "FigFenceBlind",
        "fig_fence_blind",
        ("context",),
        "The fence server cannot see who owns {context}",
        "The fence server reads no ownership row of {context} that is fresh enough: fenced writes wait, then get 503.",
        severity="critical",
        over=0,
        hold=30,
    ),
    Alert(
        "FigWritesRefused",
        "fig_fence_refused_total",
        ("context",),
        "Held writes of {context} were answered 503",
        "Within ten minutes held requests of {context} were refused, since nobody could be seen to own the writes.",
        severity="critical",
        form="increase",
        over=0,
        window=10 * _MINUTE,
    ),
    Alert(
        "FigReverseUnhealthy",
        "fig_extraction_reverse_healthy",
        ("context",),
        "The way back of {context} is closed",
        "The service owns the writes of {context}, and the stream back to the monolith does not run: what remains of"
        " the monolith sees old data, and a rollback is refused.",
        severity="critical",
        under=1,
        hold=_MINUTE,
    ),
    Alert(
        "FigRolledBack",
        "fig_extraction_automatic_rollbacks_total",
        ("context",),
        "A switch of {context} was taken back",
        "The KPIs of {context} failed and the switch was taken back by itself.",
        form="increase",
        over=0,
        window=30 * _MINUTE,
    ),
    Alert(
        "FigEvidenceStarving",
        "fig_gate_starving_seconds",
        ("context", "kpi"),
        "{kpi} of {context} gets no evidence",
        "The gate of {context} waits for {kpi}, and no sample has come for {value} s.",
        over=15 * _MINUTE,
    ),
    # services
    Alert(
        "FigOutboxStuck",
        "fig_service_outbox_oldest_seconds",
        ("service",),
        "The outbox of {service} is not emptied",
        "The oldest message in the outbox of {service} has waited for {value} s.",
        over=_MINUTE,
        hold=_MINUTE,
    ),
    Alert(
        "FigMessagesParked",
        "fig_service_parked_messages",
        ("service", "subscription"),
        "{subscription} has {value} parked messages",
        "{subscription} of {service} could not handle {value} messages; later ones of their keys wait behind them.",
        over=0,
    ),
    Alert(
        "FigConsumerLagging",
        "fig_service_subscription_lag_messages",
        ("service", "subscription"),
        "{subscription} is {value} messages behind",
        "The group {subscription} has not committed {value} messages of its topics for ten minutes.",
        over=10_000,
        hold=10 * _MINUTE,
    ),
    Alert(
        "FigSagaOverdue",
        "fig_saga_oldest_due_seconds",
        ("service",),
        "A saga of {service} has been due for {value} s",
        "No worker of {service} takes up what is due: time-outs and compensations do not happen.",
        severity="critical",
        over=2 * _MINUTE,
        hold=_MINUTE,
    ),
    Alert(
        "FigSagaBlocked",
        "fig_saga_blocked_instances",
        ("service",),
        "{value} sagas of {service} need an operator",
        "{value} sagas of {service} can neither go on nor back by themselves.",
        over=0,
    ),
)
BY_NAME = {alert.name: alert for alert in ALL}

RECORDED: tuple[tuple[str, str], ...] = (
    (
        "estate_context_direction:fig_sync_rows:rate1m",
        "sum by (estate, context, direction) (rate(fig_sync_rows_total[1m]))",
    ),
    (
        "estate_context_direction:fig_capture_changes:rate1m",
        "sum by (estate, context, direction) (rate(fig_capture_changes_total[1m]))",
    ),
    (
        "estate_context_side_kind:fig_facade_answers:rate1m",
        "sum by (estate, context, side, kind) (rate(fig_facade_answer_seconds_count[1m]))",
    ),
    (
        "estate_context_side_kind:fig_facade_answer_seconds:p50_5m",
        "histogram_quantile(0.5, sum by (estate, context, side, kind, le)"
        " (rate(fig_facade_answer_seconds_bucket[5m])))",
    ),
    (
        "estate_context_side_kind:fig_facade_answer_seconds:p99_5m",
        "histogram_quantile(0.99, sum by (estate, context, side, kind, le)"
        " (rate(fig_facade_answer_seconds_bucket[5m])))",
    ),
    (
        "estate_context:fig_shadow_mismatched:ratio_rate5m",
        "sum by (estate, context) (rate(fig_shadow_mismatched_total[5m]))"
        " / sum by (estate, context) (rate(fig_shadow_compared_total[5m]))",
    ),
)
"""Recording rules: name (``level:metric:operations``, as Prometheus' practices have it) and PromQL."""

assert all(alert.metric == "up" or alert.metric in measures.BY_NAME for alert in ALL)
