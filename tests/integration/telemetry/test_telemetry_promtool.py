"""The rules as Prometheus' own tool judges them: valid, and each alert fires when it must and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from examples.servers.fetch import Missing
from examples.servers.prometheus import promtool
from stranglerfig.telemetry import alerts, shipped
from stranglerfig.telemetry.judging import text
from tests.alert_cases import CASES, STEP, Case
from tests.conftest import required

RULES = shipped.FOLDER / "rules.yml"


def told(*arguments: str) -> tuple[int, str]:
    """What promtool says."""
    try:
        done = promtool(*arguments)
    except Missing as why:
        required(str(why))
    return done.returncode, done.stdout + done.stderr


def series(case: Case) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in {"estate": "shop", **case.labels}.items())
    return f"{case.metric}{{{labels}}}"


def value(case: Case) -> float:
    last = case.values[-1]
    return (len(case.values) - 1) * STEP - last if alerts.BY_NAME[case.alert].form == "age" else last


def unit_test(case: Case) -> dict[str, Any]:
    """As promtool reads it: https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules."""
    alert = alerts.BY_NAME[case.alert]
    labels = tuple((name, {"estate": "shop", **case.labels}[name]) for name in alert.labels)
    expected = {
        "exp_labels": {**dict(labels), "severity": alert.severity},
        "exp_annotations": {
            "summary": text(alert.summary, labels, value(case)),
            "description": text(alert.description, labels, value(case)),
            "runbook_url": f"{alerts.GUIDE}#{alert.anchor}",
        },
    }
    return {
        "interval": f"{STEP}s",
        "input_series": [{"series": series(case), "values": " ".join(f"{each:.15g}" for each in case.values)}],
        "alert_rule_test": [
            {
                "eval_time": f"{(len(case.values) - 1) * STEP}s",
                "alertname": case.alert,
                "exp_alerts": [expected] if case.fires else [],
            }
        ],
    }


def write(folder: Path, tests: list[dict[str, Any]]) -> str:
    file = folder / "tests.yml"
    document = {"rule_files": [str(RULES)], "evaluation_interval": f"{STEP}s", "tests": tests}
    file.write_text(yaml.safe_dump(document))
    return str(file)


def test_the_rules_are_valid() -> None:
    status, said = told("check", "rules", str(RULES))
    assert status == 0, said
    assert f"{len(alerts.ALL) + len(alerts.RECORDED)} rules found" in said


def test_every_alert_fires_when_it_must_and_only_then(tmp_path: Path) -> None:
    status, said = told("test", "rules", write(tmp_path, [unit_test(case) for case in CASES]))
    assert status == 0, said


@pytest.mark.parametrize("fires", [True, False])
def test_a_wrong_expectation_is_noticed(tmp_path: Path, fires: bool) -> None:
    case = next(case for case in CASES if case.fires is fires)
    wrong = unit_test(case._replace(fires=not fires))
    status, said = told("test", "rules", write(tmp_path, [wrong]))
    assert status == 1 and "FAILED" in said


def test_recording_rules_record(tmp_path: Path) -> None:
    answers = 'fig_facade_answer_seconds_bucket{estate="shop",context="a",side="service",kind="read",le="%s"}'
    record = "estate_context_side_kind:fig_facade_answer_seconds:p99_5m"
    found = f'{record}{{estate="shop", context="a", side="service", kind="read"}}'
    tests = [
        {
            "interval": "15s",
            "input_series": [
                {"series": answers % "0.1", "values": "0+10x40"},
                {"series": answers % "+Inf", "values": "0+10x40"},
                {"series": 'fig_sync_rows_total{estate="shop",context="a",direction="forward"}', "values": "0+150x40"},
            ],
            "promql_expr_test": [
                {"expr": record, "eval_time": "10m", "exp_samples": [{"labels": found, "value": 0.099}]},
                {
                    "expr": "estate_context_direction:fig_sync_rows:rate1m",
                    "eval_time": "10m",
                    "exp_samples": [
                        {
                            "labels": "estate_context_direction:fig_sync_rows:rate1m"
                            '{estate="shop", context="a", direction="forward"}',
                            "value": 10,
                        }
                    ],
                },
            ],
        }
    ]
    status, said = told("test", "rules", write(tmp_path, tests))
    assert status == 0, said
