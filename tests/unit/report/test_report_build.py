"""The report's data: every promised field under its promised name, and when it supports success."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from report_sample import BEGIN, sample

from stranglerfig.report.build import build, headline, is_proven, write
from stranglerfig.report.model import Point, ReportInput, Verification


@pytest.fixture
def report() -> dict[str, Any]:
    return build(sample())


def test_the_promised_fields(report: dict[str, Any]) -> None:
    assert {
        "outcome",
        "mode",
        "duration_seconds",
        "stages",
        "cutovers",
        "rollbacks",
        "ledger",
        "verification",
    } <= report.keys()
    assert {"sync", "decommission", "series", "replay"} <= report.keys()
    visit = report["stages"][4]
    assert {"name", "entered_at", "left_at", "gate"} <= visit.keys() and visit["gate"]["verdict"] == "fail"
    kpi = {"name", "threshold", "observed", "bound", "confidence", "samples", "verdict"}
    assert all(kpi <= found.keys() for stage in report["stages"] for found in stage["gate"]["kpis"])
    cutover = {"direction", "epoch", "held_requests", "hold_p50_ms", "hold_p99_ms", "hold_max_ms", "duration_ms"}
    assert all(cutover <= found.keys() for found in report["cutovers"])
    assert report["cutovers"][2]["steps"] == {"cede": 3} and "more" not in report["cutovers"][2]
    assert {"stage", "cause", "automatic"} <= report["rollbacks"][0].keys()
    ledger = {
        "requests",
        "failed_requests",
        "acknowledged_writes",
        "lost_writes",
        "duplicated_writes",
        "phantom_writes",
    }
    assert ledger | {"unknown_writes"} <= report["ledger"].keys()
    assert {"rows_compared", "differences", "seconds"} <= report["verification"][0].keys()
    assert {"before", "after"} <= report["decommission"].keys()
    assert json.loads(json.dumps(report)) == report


def test_an_empty_report_has_the_fields_too() -> None:
    report = build(ReportInput("inventory", "failed"))
    assert report["ledger"]["lost_writes"] is None and report["decommission"] == {"before": {}, "after": {}}
    assert report["headline"] == "Failed." and not is_proven(report)


def test_the_headline_says_the_verdict_first() -> None:
    assert headline(sample()) == "Completed: 100,482 requests, 0 failed, 0 lost, 0 doubled, 0 rows differ."
    made_up = replace(sample(), outcome="failed", ledger={"requests": 5, "phantom_writes": 2}, verification=())
    assert headline(made_up) == "Failed: 5 requests, 2 made up."


@pytest.mark.parametrize(
    ("change", "proven"),
    [
        ({}, True),
        ({"outcome": "failed"}, False),
        ({"verification": ()}, False),
        ({"verification": (Verification(10, 1, 0.1),)}, False),
        ({"ledger": {"failed_requests": 0, "lost_writes": 1, "duplicated_writes": 0, "phantom_writes": 0}}, False),
        ({"ledger": {"failed_requests": 0, "lost_writes": 0, "duplicated_writes": 0}}, False),
    ],
)
def test_only_proof_is_success(change: dict[str, Any], proven: bool) -> None:
    assert is_proven(build(replace(sample(), **change))) is proven


def test_points_come_from_rows_of_the_series() -> None:
    row = {
        "at": BEGIN,
        "monolith": {"reads": 3, "writes": 2, "errors": 1, "p50_ms": 1.0, "p99_ms": 2.0},
        "facade": {"errors": 1},
        "lag_forward_ms": 4.0,
        "held": 7,
        "stage": "sync",
    }
    point = Point.from_row(row)
    assert point.rps == {"monolith": 5, "service": 0} and point.errors == 2 and point.held == 7
    assert point.p99_ms == {"monolith": 2.0, "service": None} and point.lag_reverse_ms is None


def test_both_files_are_written(tmp_path: Path) -> None:
    data, drawn = write(sample(), tmp_path / "deep" / "report")
    assert json.loads(data.read_text())["outcome"] == "completed"
    assert drawn.read_text().startswith("<!doctype html>")
