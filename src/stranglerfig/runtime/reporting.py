"""What a report is made of, gathered from the control database, and what only others know (a load's ledger)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from stranglerfig.changes.flows import Flows
from stranglerfig.changes.model import Direction
from stranglerfig.extraction.store import Store
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.report import build
from stranglerfig.report.model import Cutover, Mark, Point, ReportInput, Rollback, Verification, Visit

GIVEN = ("outcome", "mode", "duration_seconds", "ledger", "settings")
"""Facts that have a place of their own in the report; others go beside it."""
_CUTOVER = ("direction", "epoch", "held_requests", "hold_p50_ms", "hold_p99_ms", "hold_max_ms", "duration_ms", "at")


def read_facts(file: Path) -> dict[str, Any]:
    """The object in ``file``.

    Raises:
        FigError: ``bad_facts``.
    """
    try:
        found = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise FigError("bad_facts", f"{file} cannot be read: {error}", "Give a file with one JSON object.") from error
    if not isinstance(found, dict):
        raise FigError("bad_facts", f"{file} does not hold a JSON object", "Give a file with one JSON object.")
    return found


async def write(control: str, context: str, folder: Path, facts: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.html``; returns both paths."""
    store = await Store.open(control, what="report")
    try:
        standing = await store.standing(context)
        visits = await store.visits(context)
        milestones = await store.milestones(context)
        series = await store.series(context)
    finally:
        await store.close()
    flow = await Flows(control).get(context, Direction.FORWARD)
    synced = standing.facts.get("sync") or (flow.sync if flow is not None else {})
    gathered = gather(context, standing.place.stage.value, standing.facts, visits, milestones, series, synced, facts)
    return build.write(gathered, folder)


def gather(
    context: str,
    stage: str,
    kept: Mapping[str, Any],
    visits: Sequence[Mapping[str, Any]],
    milestones: Sequence[Mapping[str, Any]],
    series: Sequence[Mapping[str, Any]],
    synced: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> ReportInput:
    """Put it together. ``kept`` are the extraction's facts, ``synced`` the forward sync's last report."""
    began = visits[0]["entered_at"] if visits else None
    ended = (visits[-1]["left_at"] or clock.now()) if visits else None
    lasted = (ended - began).total_seconds() if began is not None and ended is not None else 0.0
    return ReportInput(
        context=context,
        # An extraction that has not come to its end has not completed, whatever it may become.
        outcome=str(facts.get("outcome") or ("completed" if stage == "done" else "failed")),
        mode=str(facts.get("mode") or ""),
        duration_seconds=float(facts.get("duration_seconds") or round(lasted, 1)),
        started_at=began,
        settings=dict(facts.get("settings") or {}),
        stages=[
            Visit(v["stage"], v["entered_at"], v["left_at"], v["gate"], v["step"], v["left_by"] or "") for v in visits
        ],
        cutovers=[_cutover(m) for m in milestones if m["kind"] == "cutover"],
        rollbacks=[
            Rollback(m["stage"], m["cause"], bool(m["automatic"]), m["at"])
            for m in milestones
            if m["kind"] == "rollback"
        ],
        ledger=dict(facts.get("ledger") or {}),
        verification=[
            Verification(m["rows_compared"], m["differences"], m["seconds"], m["at"], str(m.get("place") or ""))
            for m in milestones
            if m["kind"] == "verification"
        ],
        sync=sync_figures(synced),
        decommission=dict(kept.get("decommission") or {}),
        series=[Point.from_row(row) for row in series],
        marks=[_mark(m) for m in milestones if m["kind"] in ("switch", "cutover", "rollback")],
        overrides=[dict(m) for m in milestones if m["kind"] == "override"],
        refusals=[dict(m) for m in milestones if m["kind"] == "refusal"],
        more={key: value for key, value in facts.items() if key not in GIVEN},
    )


def _cutover(milestone: Mapping[str, Any]) -> Cutover:
    known: dict[str, Any] = {key: milestone.get(key) for key in _CUTOVER}
    more = {key: value for key, value in milestone.items() if key not in (*_CUTOVER, "kind", "holds_ms")}
    return Cutover(**known, holds_ms=milestone.get("holds_ms") or (), more=more)


def _mark(milestone: Mapping[str, Any]) -> Mark:
    match milestone["kind"]:
        case "cutover":
            return Mark(milestone["at"], f"cut-over {milestone['direction']}", "cutover")
        case "rollback":
            return Mark(milestone["at"], f"back from {milestone['stage']}", "rollback")
        case _:
            return Mark(milestone["at"], str(milestone.get("what", "switch")), "switch")


def sync_figures(said: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of ``report.json``'s ``sync`` from a sync's report."""
    latency = said.get("latency_total_ms") or said.get("latency_ms") or {}
    return {
        "snapshot_rows": said.get("snapshot_rows"),
        "snapshot_seconds": said.get("snapshot_seconds"),
        "latency_p50_ms": said.get("latency_p50_ms", latency.get("p50")),
        "latency_p99_ms": said.get("latency_p99_ms", latency.get("p99")),
    }
