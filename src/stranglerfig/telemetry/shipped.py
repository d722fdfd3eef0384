"""The files for Prometheus and Grafana that come with the package, made from the alerts and the metrics.

``python -m stranglerfig.cli.reference`` writes them into ``telemetry/prometheus``; what is there must be what this
makes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import yaml

from stranglerfig.telemetry import alerts

FOLDER = Path(__file__).parent / "prometheus"
_EVERY = "15s"


def rules(guide: str = alerts.GUIDE) -> str:
    """``rules.yml``: recording and alerting rules.

    Args:
        guide: where the page with the alerts' answers is, as a path or a URL.
    """
    recorded = [{"record": name, "expr": expression} for name, expression in alerts.RECORDED]
    groups = [
        {"name": "fig-recorded", "interval": _EVERY, "rules": recorded},
        {"name": "fig-alerts", "interval": _EVERY, "rules": [_rule(alert, guide) for alert in alerts.ALL]},
    ]
    return "# Made by `make docs` from the code: do not edit.\n" + yaml.safe_dump(
        {"groups": groups}, sort_keys=False, width=110
    )


def _rule(alert: alerts.Alert, guide: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.promql()}
    if alert.hold:
        rule["for"] = alerts.duration(alert.hold)
    rule["labels"] = {"severity": alert.severity}
    rule["annotations"] = {
        "summary": _templated(alert.summary),
        "description": _templated(alert.description),
        "runbook_url": f"{guide}#{alert.anchor}",
    }
    return rule


def _templated(text: str) -> str:
    """In the language of Prometheus' templates."""

    def put(found: re.Match[str]) -> str:
        name = found[1]
        return '{{ printf "%.4g" $value }}' if name == "value" else f"{{{{ $labels.{name} }}}}"

    return re.sub(r"\{(\w+)\}", put, text)


_ROWS: tuple[tuple[str, tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]], ...] = (
    (
        "Extractions",
        (
            ("Stage", "none", (("fig_extraction_stage == 1", "{{context}}: {{stage}}"),)),
            ("Alerts that fire", "none", (('ALERTS{alertstate="firing", alertname=~"Fig.+"}', "{{alertname}}"),)),
            ("Processes", "none", (("fig_process_up", "{{process}}"),)),
        ),
    ),
    (
        "Façade",
        (
            (
                "Answers a second",
                "reqps",
                (("estate_context_side_kind:fig_facade_answers:rate1m", "{{context}} {{kind}} {{side}}"),),
            ),
            (
                "Answer time, p50 and p99",
                "s",
                (
                    ("estate_context_side_kind:fig_facade_answer_seconds:p50_5m", "p50 {{context}} {{kind}} {{side}}"),
                    ("estate_context_side_kind:fig_facade_answer_seconds:p99_5m", "p99 {{context}} {{kind}} {{side}}"),
                ),
            ),
            (
                "Held requests, and for how long",
                "none",
                (
                    ("fig_fence_held_requests", "{{context}}"),
                    ("fig_fence_hold_seconds", "{{context}} seconds"),
                ),
            ),
        ),
    ),
    (
        "Changes",
        (
            (
                "Rows a second",
                "none",
                (
                    ("estate_context_direction:fig_capture_changes:rate1m", "captured {{context}} {{direction}}"),
                    ("estate_context_direction:fig_sync_rows:rate1m", "applied {{context}} {{direction}}"),
                ),
            ),
            (
                "Lag",
                "s",
                (
                    ("fig_capture_lag_seconds", "capture {{context}} {{direction}}"),
                    ("fig_sync_latency_p99_seconds", "end to end, p99 {{context}} {{direction}}"),
                ),
            ),
            (
                "WAL kept for slots",
                "bytes",
                (
                    ("fig_capture_slot_retained_bytes", "kept {{context}} {{direction}}"),
                    ("fig_capture_slot_safe_bytes", "left {{context}} {{direction}}"),
                ),
            ),
            (
                "Parked changes, refused writes",
                "none",
                (
                    ("fig_sync_parked_changes", "parked {{context}} {{direction}}"),
                    ("increase(fig_guard_refusals_total[5m])", "refused in 5 minutes {{context}} {{direction}}"),
                ),
            ),
        ),
    ),
    (
        "Evidence",
        (
            ("Samples", "none", (("fig_gate_samples", "{{context}} {{kpi}}"),)),
            ("Samples still needed", "none", (("fig_gate_samples_needed", "{{context}} {{kpi}}"),)),
            (
                "Shadow reads that differ",
                "percentunit",
                (("estate_context:fig_shadow_mismatched:ratio_rate5m", "{{context}}"),),
            ),
        ),
    ),
    (
        "Services",
        (
            (
                "Outbox",
                "none",
                (
                    ("fig_service_outbox_messages", "messages {{service}}"),
                    ("fig_service_outbox_oldest_seconds", "oldest, seconds {{service}}"),
                ),
            ),
            (
                "Subscriptions",
                "none",
                (
                    ("fig_service_subscription_lag_messages", "behind {{subscription}}"),
                    ("fig_service_parked_messages", "parked {{subscription}}"),
                ),
            ),
            (
                "Sagas",
                "none",
                (
                    ("fig_saga_instances", "{{name}} {{status}}"),
                    ("fig_saga_oldest_due_seconds", "oldest due, seconds {{service}}"),
                ),
            ),
        ),
    ),
)


def dashboard() -> str:
    """``dashboard.json``: a dashboard for Grafana 9 or later; it asks for the Prometheus at its import."""
    panels: list[dict[str, Any]] = []
    number = top = 0
    for title, charts in _ROWS:
        number += 1
        panels.append({"id": number, "type": "row", "title": title, "gridPos": _place(0, top, 24, 1), "panels": []})
        top += 1
        width = 24 // len(charts)
        for column, (name, unit, targets) in enumerate(charts):
            number += 1
            panels.append(_panel(number, name, unit, targets, _place(column * width, top, width, 8)))
        top += 8
    made = {
        "__inputs": [{"name": "DS", "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"}],
        "uid": "stranglerfig",
        "title": "stranglerfig",
        "tags": ["stranglerfig"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": []},
        "panels": panels,
    }
    return orjson.dumps(made, option=orjson.OPT_INDENT_2).decode() + "\n"


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(
    number: int, title: str, unit: str, targets: Sequence[tuple[str, str]], place: dict[str, int]
) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${DS}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "gridPos": place,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"showLegend": True, "displayMode": "list"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend, "datasource": source}
            for at, (expression, legend) in enumerate(targets)
        ],
    }


def files() -> dict[str, str]:
    """The package's files by name."""
    return {"rules.yml": rules(), "dashboard.json": dashboard()}
