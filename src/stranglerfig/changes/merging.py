"""What several workers say of one flow, as one report: nothing looks better than its worst partition. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

_STATES = ("failed", "stopped", "starting", "snapshot", "applying")
"""From worst to best."""
_SUMMED = ("behind", "rows", "transactions", "rate", "parked")
_SHARED = "conflicts"
"""Counted by context, so that each worker says the same."""
_OF_FIRST = (
    *("generation", "log_position", "log_end", "snapshot_rows", "snapshot_total"),
    *("snapshot_done", "snapshot_seconds", "remaining_seconds"),
)
"""What only the first partition knows: markers and snapshots travel in it."""


class Said(NamedTuple):
    """A worker's newest report of one partition."""

    worker: str
    report: Mapping[str, Any]
    at: datetime


def merged(parts: Mapping[int, Said]) -> tuple[dict[str, Any], datetime]:
    """One report of all partitions, and the time of the oldest of theirs.

    Quantiles of latencies are those of the slowest partition. Histograms are added up, and given singly as well
    (``latency_histograms``: they begin anew with each worker), so that whoever counts misses no sample.
    """
    count = max(int(said.report.get("partitions", 1)) for said in parts.values())
    there = {number: said for number, said in sorted(parts.items()) if number < count}
    reports = [said.report for said in there.values()]
    states = [str(report.get("state", "starting")) for report in reports]
    if len(there) < count:
        states.append("starting")
    state = min(states, key=rank)
    behind = [report for report in reports if report.get("behind")]
    at = max if not behind else min
    place = at(behind or reports, key=_place)
    first = there[0].report if 0 in there else {}
    made: dict[str, Any] = {
        "state": state,
        "error": next((r["error"] for r in reports if r.get("error") and r.get("state") == state), None),
        **{key: first.get(key) for key in _OF_FIRST},
        "applied_lsn": place.get("applied_lsn"),
        "applied_ordinal": place.get("applied_ordinal"),
        "activated": min((int(report.get("activated") or 0) for report in reports), default=0),
        **{key: _sum(report.get(key) for report in reports) for key in _SUMMED},
        "waits_for": [holder for report in reports for holder in report.get("waits_for") or ()],
        _SHARED: max((int(report.get(_SHARED) or 0) for report in reports), default=0),
        "latency_ms": _slowest([report.get("latency_ms") or {} for report in reports]),
        "latency_total_ms": _slowest([report.get("latency_total_ms") or {} for report in reports]),
        "latency_histogram": _added([report.get("latency_histogram") or [] for report in reports]),
        "latency_histograms": {
            f"{number}/{said.report.get('run', said.worker)}": said.report.get("latency_histogram") or []
            for number, said in there.items()
        },
        "last_source_committed_at": max(
            (r["last_source_committed_at"] for r in reports if r.get("last_source_committed_at") is not None),
            default=None,
        ),
        "partitions": count,
        "parts": [
            {
                "partition": number,
                "worker": said.worker,
                "state": said.report.get("state"),
                "behind": said.report.get("behind"),
                "p99_ms": (said.report.get("latency_ms") or {}).get("p99"),
                "at": said.at.isoformat(),
            }
            for number, said in there.items()
        ],
        "workers": len({said.worker for said in there.values()}),
    }
    derived = [report["derive"] for report in reports if report.get("derive")]
    if derived:
        made["derive"] = _derived(derived)
    return made, min(said.at for said in there.values()) if there else max(said.at for said in parts.values())


def rank(state: str) -> int:
    """How good a state is; one that is not known is the worst."""
    return _STATES.index(state) if state in _STATES else 0


def _place(report: Mapping[str, Any]) -> tuple[int, int]:
    high, _, low = str(report.get("applied_lsn") or "0/0").partition("/")
    return int(high, 16) << 32 | int(low, 16), int(report.get("applied_ordinal") or 0)


def _sum(values: Iterable[Any]) -> Any:
    return sum(value for value in values if value is not None)


def _slowest(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: max((one[key] for one in summaries if one.get(key) is not None), default=None)
        for key in ("p50", "p95", "p99", "max")
    }
    return found | {"count": _sum(one.get("count") for one in summaries)}


def _added(histograms: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    found: dict[float, int] = {}
    for histogram in histograms:
        for edge, count in histogram:
            found[float(edge)] = found.get(float(edge), 0) + int(count)
    return [[edge, found[edge]] for edge in sorted(found)]


def _derived(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    order = ("stopped", "starting", "deriving")
    worst = min(reports, key=lambda report: order.index(report["state"]) if report.get("state") in order else 0)
    return {**worst, "events": _sum(report.get("events") for report in reports)}
