"""The report as one JSON document, and as files: ``report.json`` and the page drawn from it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from stranglerfig.report.model import ReportInput, Visit

LEDGER = (
    "requests",
    "failed_requests",
    "acknowledged_writes",
    "lost_writes",
    "duplicated_writes",
    "phantom_writes",
    "unknown_writes",
)
NO_GATE = {"verdict": "inconclusive", "kpis": []}


def build(found: ReportInput) -> dict[str, Any]:
    """``report.json`` as plain data; times are ISO 8601 in it, durations in the unit that their name says."""
    document = {
        "context": found.context,
        "outcome": found.outcome,
        "mode": found.mode,
        "started_at": found.started_at,
        "duration_seconds": found.duration_seconds,
        "headline": headline(found),
        "settings": dict(found.settings),
        "stages": [_visit(visit) for visit in found.stages],
        "cutovers": [{**_flat(asdict(cutover)), **cutover.more} for cutover in found.cutovers],
        "rollbacks": [asdict(rollback) for rollback in found.rollbacks],
        "ledger": {**dict.fromkeys(LEDGER), **found.ledger},
        "verification": [asdict(verification) for verification in found.verification],
        "sync": dict(found.sync),
        "decommission": {"before": {}, "after": {}, **found.decommission},
        "overrides": [dict(override) for override in found.overrides],
        "refusals": [dict(refusal) for refusal in found.refusals],
        "marks": [asdict(mark) for mark in found.marks],
        "series": [asdict(point) for point in found.series],
        **found.more,
    }
    plain: dict[str, Any] = orjson.loads(orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS))
    return plain


def _flat(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in plain.items() if key != "more"}


def _visit(visit: Visit) -> dict[str, Any]:
    return {**asdict(visit), "gate": dict(visit.gate or NO_GATE)}


def headline(found: ReportInput) -> str:
    """The verdict in one sentence, first what went wrong."""
    ledger, begin = found.ledger, "Completed" if found.outcome == "completed" else "Failed"
    parts: list[str] = []
    if ledger.get("requests") is not None:
        parts.append(f"{ledger['requests']:,} requests")
    for key, word in (("failed_requests", "failed"), ("lost_writes", "lost"), ("duplicated_writes", "doubled")):
        if ledger.get(key) is not None:
            parts.append(f"{ledger[key]:,} {word}")
    if ledger.get("phantom_writes"):
        parts.append(f"{ledger['phantom_writes']:,} made up")
    if found.verification:
        parts.append(f"{found.verification[-1].differences:,} rows differ")
    return f"{begin}: {', '.join(parts)}." if parts else f"{begin}."


def is_proven(report: Mapping[str, Any]) -> bool:
    """Whether a report (as ``build`` gives it) supports exit status 0: completed, nothing lost, all rows equal."""
    ledger = report["ledger"]
    clean = all(ledger.get(f"{what}") == 0 for what in LEDGER[1:2] + LEDGER[3:6])
    equal = bool(report["verification"]) and report["verification"][-1]["differences"] == 0
    return report["outcome"] == "completed" and clean and equal


def write(found: ReportInput, directory: Path) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.html`` into ``directory`` (made if missing); returns both paths."""
    from stranglerfig.report.page import page

    report = build(found)
    directory.mkdir(parents=True, exist_ok=True)
    data, drawn = directory / "report.json", directory / "report.html"
    data.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    drawn.write_text(page(report), encoding="utf-8")
    return data, drawn
