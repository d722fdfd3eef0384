"""A project whose inventory is half way through its extraction, written by the stores that the controller uses."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from stranglerfig.changes.flows import Flows
from stranglerfig.changes.model import Direction
from stranglerfig.extraction import steps
from stranglerfig.extraction.journal import Journal
from stranglerfig.extraction.model import STEPS
from stranglerfig.extraction.ports import Entry
from stranglerfig.extraction.stages import Place, Stage
from stranglerfig.extraction.store import Store
from stranglerfig.foundation import clock, postgres
from stranglerfig.gates.evidence import EvidenceStore, Samples
from stranglerfig.runtime.settings import Project, load_project
from stranglerfig.verification import shadow

ESTATE = """
name: shop
monolith: {{url: 'http://127.0.0.1:9', database: 'postgresql://127.0.0.1:9/shop'}}
facade: {{listen: '127.0.0.1:8080'}}
control: '{control}'
"""
EXTRACTION = """
context: {context}
service: {{url: 'http://127.0.0.1:9', database: 'postgresql://127.0.0.1:9/{context}'}}
routes:
  reads: [{{path: '/api/{context}/{{itemId}}', methods: [GET]}}]
  writes: [{{path: '/api/{context}/adjust', methods: [POST]}}]
tables:
  - {{from: public.{context}, to: item, key: {{id: id}}, columns: {{name: name}}, reverse: {{name: name}}}}
gates:
  reads:
    steps: [10, 50, 100]
    latency: {{below: 50ms, share: 0.99, samples: 300}}
    error_rate: {{below: 0.01, samples: 300}}
"""
DIFFERENCE = {
    "table": "public.inventory",
    "service_table": "stock_level",
    "key": {"item_id": "118"},
    "kind": "different",
    "columns": {"on_hand": {"monolith": "41", "service": "40"}},
}


def write(folder: Path, control: str, contexts: tuple[str, ...] = ("catalogue", "inventory")) -> Project:
    """The project's files."""
    (folder / "fig.yaml").write_text(ESTATE.format(control=control))
    for context in contexts:
        (inner := folder / "contexts" / context).mkdir(parents=True)
        (inner / "extraction.yaml").write_text(EXTRACTION.format(context=context))
    return load_project(folder)


async def begin(project: Project, control: str) -> None:
    """``inventory`` went to the service and back, and stands at 10 % of the reads."""
    store = await Store.open(control)
    evidence, flows = EvidenceStore(control), Flows(control)
    await evidence.migrate()
    await flows.migrate()
    try:
        standing = await store.standing("inventory")
        passed = {"verdict": "pass", "kpis": [_kpi("model_complete", "must hold")]}
        for place in (Stage.BUILD, Stage.SYNC, (Stage.READS, "shadow"), (Stage.READS, "100"), Stage.WRITES):
            to = Place(*place) if isinstance(place, tuple) else Place(place)
            standing = await store.enter(standing, to, by="ann@desk", gate=passed)
        await cut_over(store, control)
        standing = await store.enter(standing, Place(Stage.READS, "10"), by="fig")
        rolled = {
            "stage": "writes",
            "step": "",
            "to": "reads at 10 %",
            "cause": "error_rate: 12 of 400",
            "automatic": True,
        }
        await store.milestone("inventory", "rollback", rolled)
        await store.milestone("inventory", "verification", _verification())
        await store.owns("inventory", "monolith", 2)
        await flows.want("inventory", Direction.FORWARD, capture=True, sync=True)
        applying = {"state": "applying", "lag_seconds": 0.012, "latency_p50_ms": 4.2, "latency_p99_ms": 18.5}
        await flows.report("inventory", Direction.FORWARD, "capture", {"state": "streaming", "lag_bytes": 512})
        await flows.report("inventory", Direction.FORWARD, "sync", applying)
        await _mismatch(control)
        now = int(clock.epoch())
        for back in range(300, 0, -1):
            await pass_by(store, evidence, now - back)
        await lead_to(store, control)
        await judge(project, store, evidence)
        number = await store.submit("inventory", "advance", {"dry_run": False}, "ann@desk")
        await store.tell(number, "note", "the gate is looked at", {})
        await store.end(number, "failed", "there is not enough evidence yet", {"code": "gate_inconclusive"})
    finally:
        await store.close()
        await evidence.close()


async def pass_by(store: Store, evidence: EvidenceStore, second: int) -> None:
    """A second of traffic: nine of ten reads at the monolith."""
    visit = (await store.standing("inventory")).evidence
    samples = Samples()
    wave = math.sin(second / 17)
    for each in range(3):
        samples.time("latency", second, 8 + 3 * wave + each, limit=50)
        samples.count("error_rate", second, failed=second % 151 == 0 and each == 0)
    await evidence.add("inventory", visit, samples)
    sides: dict[str, Any] = {
        "monolith": {"reads": 27, "writes": 12, "errors": 0, "p50_ms": 9.1 + wave, "p99_ms": 31 + 6 * wave},
        "service": {"reads": 3, "writes": 0, "errors": int(second % 151 == 0), "p50_ms": 3.2, "p99_ms": 11 + 3 * wave},
        "facade": {"reads": 0, "writes": 0, "errors": 0, "p50_ms": None, "p99_ms": None},
    }
    one = {"reads": 1, "writes": 0, "errors": 0, "p50_ms": 3.2, "p99_ms": 11.0, "busy_ms": 3.2, "share": 0.33}
    if second > int(clock.epoch()) - 120:
        other = one | {"reads": 2, "busy_ms": 6.4, "share": 0.67, "serving": True}
        alone = {"serving": False} if second > int(clock.epoch()) - 15 else one | {"serving": True}
        sides["instances"] = {"10.0.0.7:8000": alone, "10.0.0.8:8000": other}
    else:
        sides["instances"] = {"10.0.0.7:8000": one | {"reads": 3, "share": 1.0, "serving": True}}
        sides["service"] |= {"p50_ms": 12.8, "p99_ms": 71.0}
    at = datetime.fromtimestamp(second).astimezone()
    await store.sample("inventory", at, sides | {"lag_forward_ms": 14 + 6 * wave, "held": 0, "stage": "reads"})


async def depart(control: str, *, dropped: bool = False) -> None:
    """``catalogue`` is about to be dropped, or was; an order passed to the monolith a moment ago, or it is retired."""
    store = await Store.open(control)
    try:
        standing = await store.standing("catalogue")
        user = {"application": "nightly", "role": "app", "statement": "SELECT", "table": "public.product", "seen": 3}
        await store.learn(
            "catalogue",
            retired=not dropped,
            watch={"users": [user], "dependents": [{"kind": "view", "name": "cheap", "on": "public.product"}]},
            brownout_users=[],
        )
        if dropped:
            sides = {
                side: {"code": {"files": files, "lines": 90 * files}, "routes": files, "tables": files, "bytes": 8192}
                for side, files in (("before", 4), ("after", 0))
            }
            file = {"table": "public.product", "file": "/data/archive/product.gz", "rows": 900, "bytes": 4096}
            await store.learn("catalogue", archive=[{**file, "sha256": "ab" * 32}], decommission=sides)
            await store.enter(standing, Place(Stage.DONE), by="ann@desk")
            await store.retire(by="ann@desk", evidence={})
        else:
            await store.enter(standing, Place(Stage.DECOMMISSION, "report"), by="ann@desk")
    finally:
        await store.close()
    async with postgres.session(control, what="test") as conn:
        await conn.execute(
            "INSERT INTO fig.passed SELECT date_trunc('hour', now()), %s, 'pass', 'GET', '/orders/{}', 7, now()",
            ("facade" if dropped else "monolith",),
        )
        await conn.execute(
            "INSERT INTO fig.passing (since, until, read_to) VALUES (now() - interval '3 days', now(), 0)"
            " ON CONFLICT (one) DO UPDATE SET until = now()"
        )


async def lead_to(store: Store, control: str) -> None:
    """A second instance was named two minutes ago."""
    addresses = ["http://10.0.0.7:8000", "http://10.0.0.8:8000"]
    await store.milestone("inventory", "configuration", {"before": addresses[:1], "urls": addresses})
    async with postgres.session(control, what="test") as conn:
        await conn.execute("UPDATE fig.milestone SET at = now() - interval '2 min' WHERE kind = 'configuration'")


async def judge(project: Project, store: Store, evidence: EvidenceStore) -> None:
    """The gate, as the controller judges it."""
    standing = await store.standing("inventory")
    kpis = steps.kpis(project.extractions["inventory"], standing.place)
    gate = await evidence.judge("inventory", standing.evidence, kpis)
    await store.judged(standing.visit, gate.as_dict())


async def cut_over(store: Store, control: str) -> None:
    """One that succeeded: its journal and its milestone."""
    journal = Journal(control)
    await journal.migrate()
    for step in STEPS:
        detail = {"loser": "owner", "winner": "standby"}
        await journal.append([Entry("inventory", 1, "forward", str(step), "before", detail)])
        await journal.append([Entry("inventory", 1, "forward", str(step), "after", detail)])
    await journal.close()
    figures = {"held_requests": 31, "hold_p50_ms": 48.0, "hold_p99_ms": 91.5, "hold_max_ms": 97.2, "duration_ms": 104.0}
    await store.milestone("inventory", "cutover", {"direction": "forward", "epoch": 1, **figures})


def _kpi(name: str, says: str) -> dict[str, Any]:
    return {"name": name, "kind": "state", "threshold": True, "observed": True, "verdict": "pass", "says": says}


def _verification() -> dict[str, Any]:
    return {
        "rows_compared": 120_000, "differences": 1, "seconds": 2.4, "difference_list": [DIFFERENCE], "truncated": False,
        "unsettled": 0, "place": "reads at 10 %", "direction": "forward",
    }  # fmt: skip


async def _mismatch(control: str) -> None:
    findings = shadow.Findings()
    at = clock.epoch() + 1  # counts are by whole seconds, and of those since the place was entered
    copy = shadow.Copy("inventory:read:0", "GET", "/api/inventory/118", {}, at)
    for _ in range(400):
        findings.count("inventory", copy, "equal")
    findings.count("inventory", copy, "mismatched")
    sides = {
        "monolith": {"item_id": 118, "on_hand": 41, "name": "Blue lamp"},
        "service": {"item_id": 118, "on_hand": 40, "name": "Blue lamp"},
    }
    differs = [{"field": "$.on_hand", "monolith": 41, "service": 40}]
    findings.samples.append(
        {
            "context": "inventory",
            "route": "inventory:read:0",
            "at": at,
            "verdict": "mismatched",
            "request_id": "r-1",
            "path": "/api/inventory/118",
            "differences": Jsonb(differs),
            **{side: Jsonb(body) for side, body in sides.items()},
        }
    )
    async with postgres.session(control, what="test") as conn:
        await shadow.migrate(conn)
        await findings.flush(conn, {"inventory": 20}, {})
