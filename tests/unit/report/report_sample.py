"""A run as the demonstration gives it, made up: all six stages, a bad release, three cut-overs."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from stranglerfig.report.model import Cutover, Mark, Point, ReportInput, Rollback, Verification, Visit

BEGIN = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def kpi(
    name: str, kind: str, says: str, threshold: Any, observed: Any, bound: Any, verdict: str, **more: Any
) -> dict[str, Any]:
    found = {"confidence": 0.95 if bound is not None else None, "samples": 50_000 if bound is not None else 1}
    return {
        "name": name,
        "kind": kind,
        "says": says,
        "threshold": threshold,
        "observed": observed,
        "bound": bound,
        "verdict": verdict,
        "needed": 0,
        "reason": "",
        "loosened": "",
        **found,
        **more,
    }


READS = [
    kpi("latency", "share below limit", "99 % below 50 ms", 0.99, 0.9987, 0.9982, "pass", samples=5000),
    kpi("error_rate", "rate below", "below 0.01 %", 0.0001, 0.00002, 0.0000949, "pass"),
    kpi(
        "shadow_mismatch",
        "rate below",
        "below 0.5 %",
        0.005,
        0.0,
        0.00299,
        "pass",
        loosened="below 0.005 instead of 0.0001",
    ),
    kpi("no_worse", "no worse", "at most 25 % slower than the monolith", 0.5, 0.31, 0.34, "pass"),
]
BAD = [
    kpi(
        "latency",
        "share below limit",
        "99 % below 50 ms",
        0.99,
        0.91,
        0.93,
        "fail",
        reason="worse: 27 of 300",
        samples=300,
    ),
    kpi(
        "shadow_mismatch",
        "rate below",
        "below 0.01 %",
        0.0001,
        0.03,
        0.018,
        "fail",
        reason="worse: 9 of 300",
        samples=300,
    ),
    kpi("error_rate", "rate below", "below 0.01 %", 0.0001, 0.0, 0.0099, "inconclusive", needed=49_700, samples=300),
]
FACTS = [
    kpi("model_signed", "state", "must hold", True, True, None, "pass"),
    kpi("coverage", "value at least", "at least 0.9", 0.9, 0.946, None, "pass"),
]


def gate(kpis: list[dict[str, Any]], verdict: str = "pass") -> dict[str, Any]:
    return {"verdict": verdict, "kpis": kpis}


def sample() -> ReportInput:
    """The whole of it; the same every time."""
    chance = random.Random(5)
    series = []
    for second in range(620):
        share = (
            0
            if second < 200
            else 0.01
            if second < 240
            else 0.1
            if second < 270
            else 0
            if second < 300
            else min(1, (second - 299) / 60)
        )
        bad = 255 <= second < 270
        base = 3 + chance.random()
        stage = "sync" if second < 130 else "reads" if second < 400 else "writes" if second < 540 else "decommission"
        series.append(
            Point(
                at(40 + second),
                rps={"monolith": 300 * (1 - share) + chance.random() * 9, "service": 300 * share},
                p50_ms={"monolith": base if share < 1 else None, "service": 1.5 + chance.random() if share else None},
                p99_ms={
                    "monolith": base * 6 + 3 * math.sin(second / 20) if share < 1 else None,
                    "service": (120 if bad else 9) + chance.random() * 6 if share else None,
                },
                lag_forward_ms=8 + chance.random() * 9 if second > 20 and second < 410 else None,
                lag_reverse_ms=6 + chance.random() * 9 if second > 410 else None,
                held=40 if second in (410, 450, 490) else 0,
                stage=stage,
            )
        )
    holds = sorted(min(130, max(4.0, chance.gauss(60, 22))) for _ in range(83))
    return ReportInput(
        context="inventory",
        outcome="completed",
        mode="quick",
        duration_seconds=668.2,
        started_at=BEGIN,
        settings={"rate": 300, "items": 100_000, "seed": 1},
        stages=(
            Visit("prepare", at(0), at(8), gate(FACTS[:1]), left_by="advance"),
            Visit("build", at(8), at(40), gate(FACTS[1:]), left_by="advance"),
            Visit("sync", at(40), at(170), gate(READS[:1]), left_by="advance"),
            Visit("reads", at(170), at(240), gate(READS[1:2]), step="shadow", left_by="advance"),
            Visit("reads", at(240), at(310), gate(BAD, "fail"), step="10 %", left_by="rollback"),
            Visit("reads", at(310), at(440), gate(READS), step="100 %", left_by="advance"),
            Visit("writes", at(440), at(580), gate(READS[1:3]), left_by="advance"),
            Visit("decommission", at(580), None),
        ),
        cutovers=(
            Cutover("forward", 2, 83, 61.2, 118.4, 129.9, 141.0, at(450), tuple(holds)),
            Cutover("back", 3, 61, 55.0, 101.2, 120.0, 128.0, at(490), tuple(holds[:61])),
            Cutover("forward", 4, 0, None, None, None, 77.0, at(530), more={"steps": {"cede": 3}}),
        ),
        rollbacks=(Rollback("reads", "latency: 27 of 300 not below 50 ms; shadow_mismatch: 9 of 300", True, at(310)),),
        ledger={
            "requests": 100_482,
            "failed_requests": 0,
            "acknowledged_writes": 50_211,
            "lost_writes": 0,
            "duplicated_writes": 0,
            "phantom_writes": 0,
            "unknown_writes": 2,
        },
        verification=(
            Verification(100_000, 3, 0.61, at(120), "sync"),
            Verification(100_000, 0, 0.58, at(600), "decommission"),
        ),
        sync={"snapshot_rows": 100_000, "snapshot_seconds": 1.31, "latency_p50_ms": 7.9, "latency_p99_ms": 21.4},
        decommission={
            "before": {
                "tables": 14,
                "routes": 22,
                "lines_of_code": 2_310,
                "statements_per_second": 1_180.5,
                "green": True,
            },
            "after": {
                "tables": 11,
                "routes": 18,
                "lines_of_code": 1_702,
                "statements_per_second": 633.0,
                "green": True,
            },
        },
        series=tuple(series),
        marks=(
            Mark(at(240), "reads 1 %"),
            Mark(at(280), "reads 10 %"),
            Mark(at(310), "rolled back by itself", "rollback"),
            Mark(at(380), "reads 100 %"),
            Mark(at(450), "writes to the service", "cutover"),
            Mark(at(490), "writes back", "cutover"),
            Mark(at(530), "writes to the service again", "cutover"),
        ),
        refusals=({"application": "nightly", "statement": "UPDATE inventory SET on_hand = …", "count": 12},),
        more={"replay": {"equal": True}},
    )
