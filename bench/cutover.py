"""The cut-over of the shop's inventory under 500 requests a second: how long writes wait, and whether one fails."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from bench.context import Context
from bench.part import peak_megabytes
from bench.result import Result
from bench.shop import VALUES, Fig, shop
from examples.shop.demo import Refused
from examples.shop.estate import Estate

RATES = (500, 250)
"""The one that counts, and one that the shop itself, on the same cores, can take; requests a second."""
CONTEXT = "inventory"
MIXED = {"reads": 70, "writes": 25, "orders": 5}
CALM = 100
"""Requests a second while nothing is measured that a full machine would spoil."""


def held(context: Context) -> list[Result]:
    """``cutover_hold``: over, back and over again; what the held writes waited beyond their usual time."""
    with shop(context, items=context.rows(20_000)) as (estate, fig):
        estate.write_project(VALUES)
        up = fig("up", "--detach")
        # The load's rate is for the cut-over; gathering evidence before it needs less, and leaves the cores free.
        estate.start_load(rate=250, mix=MIXED)
        _advance(context, fig, estate)
        _until_no_writer(context, fig, estate)
        given_up: list[str] = []
        for rate in RATES:
            estate.steer(rate=rate, mix=MIXED)
            time.sleep(5)
            before, begun = estate.load_status(), time.time()
            try:
                _over_back_over(context, fig, rate)
            except Refused as refused:
                given_up.append(f"at {rate} requests/s: {refused}")
                context.say(f"cutover_hold: {given_up[-1]}")
                estate.steer(rate=CALM)
                time.sleep(10)
                _back(fig)
                continue
            after = estate.load_status()
            break
        else:
            raise RuntimeError("; ".join(given_up))
        _memory(context, up)
        fig("report", CONTEXT, "--output", str(estate.root / "report"))
        report = json.loads((estate.root / "report" / "report.json").read_text())
        estate.stop_load()
    cutovers = [c for c in report["cutovers"] if datetime.fromisoformat(c["at"]).timestamp() > begun]
    return _results(cutovers, before, after, given_up)


def _over_back_over(context: Context, fig: Fig, rate: float) -> None:
    for command in (
        ("advance", CONTEXT, "--wait", "120"),
        ("rollback", CONTEXT, "--reason", "bench"),
        ("advance", CONTEXT, "--wait", "120"),
    ):
        context.say(f"cutover_hold: fig {command[0]} at {rate} requests/s")
        reached = fig(*command)["place"]
        if reached not in ("writes", "reads at 100 %"):
            raise RuntimeError(f"fig {command[0]} led to {reached}")
        time.sleep(3)


def _back(fig: Fig) -> None:
    """The monolith owns, where it does not already."""
    if fig("status", CONTEXT)["extractions"][0]["owner"] == "service":
        fig("rollback", CONTEXT, "--reason", "bench")


def _results(
    cutovers: list[dict[str, Any]], before: dict[str, Any], after: dict[str, Any], given_up: list[str]
) -> list[Result]:
    rate = (after["requests"] - before["requests"]) / (after["at"] - before["at"])
    listed = "; ".join(
        f"{c['direction']}: {c['held_requests']} held, p50 {c['hold_p50_ms']:.0f}, p99 {c['hold_p99_ms']:.0f},"
        f" max {c['hold_max_ms']:.0f} ms, {c['duration_ms']:.0f} ms in all"
        for c in cutovers
    )
    instead = f"measured at {rate:.0f} requests/s, because {'; '.join(given_up)}" if given_up else ""
    return [
        Result(
            "cutover_hold",
            max(c["hold_p99_ms"] for c in cutovers),
            "ms",
            target=250.0,
            note=f"p99 of the worst of {len(cutovers)} cut-overs at {rate:.0f} requests/s mixed; {listed}",
            failed=instead,
        ),
        Result(
            "cutover_failed",
            after["failed"] - before["failed"],
            "requests",
            target=0.0,
            note=f"of {after['requests'] - before['requests']:,} during the three",
            failed=instead,
        ),
    ]


def _advance(context: Context, fig: Fig, estate: Estate) -> None:
    """Prepare, sync, reads up to 100 %."""
    for _ in range(12):
        status = fig("status", CONTEXT)["extractions"]
        place = (status[0]["stage"], status[0]["step"]) if status else ("", "")
        load = estate.load_status()
        context.say(
            f"cutover_hold: at {place[0]} {place[1]};"
            f" {load.get('requests', 0):,} requests, {load.get('failed', 0)} failed"
        )
        if place == ("reads", "100"):
            return
        fig("advance", CONTEXT, "--wait", "120")
    raise RuntimeError(f"reads never came to 100 %: {place}")


def _until_no_writer(context: Context, fig: Fig, estate: Estate) -> None:
    estate.deploy_monolith(reserve="api")
    deadline = time.perf_counter() + 60
    while [w for w in fig("plan", CONTEXT)["writers"] if w["recent"] and not w["explained"]]:
        if time.perf_counter() > deadline:
            raise RuntimeError("writers remain")
        time.sleep(1)


def _memory(context: Context, up: dict[str, Any]) -> None:
    """What the processes of ``fig up`` held at most."""
    for name, pid in dict(up.get("processes", {})).items():
        context.peak(f"cutover_hold/{name}", peak_megabytes(pid))
