"""One extraction from the first plan to the drop, through the installed command, under traffic: every stage, every
command, forward and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from shop_driver import CONTEXT, PLACES, READS, WRITES, Shop, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


def left_behind(shop: Shop) -> dict[str, Any]:
    """What of us is in the two databases: slots, publications, guards."""
    found: dict[str, Any] = {}
    for side, dsn in (("monolith", shop.estate.monolith_dsn), ("service", shop.estate.service_dsn)):
        with psycopg.connect(dsn, autocommit=True) as conn:

            def names(statement: str, conn: psycopg.Connection[Any] = conn) -> list[str]:
                return [row[0] for row in conn.execute(statement.encode())]

            installed = names("SELECT 1 WHERE to_regclass('fig.ownership') IS NOT NULL")
            found[side] = (
                names("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
                + names("SELECT pubname FROM pg_publication")
                + names("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'fig%' AND NOT tgisinternal")
                + (names("SELECT context FROM fig.ownership") if installed else [])
            )
    return found


def test_every_stage_forward_and_back_to_the_drop(untouched_shop: Shop, tmp_path: Path) -> None:
    shop, estate = untouched_shop, untouched_shop.estate
    # What can be asked before anything has begun.
    shop.fig("model", "lint", CONTEXT)
    plan = shop.fig("plan", CONTEXT)
    assert (plan["place"], plan["next"], plan["fence_budget_seconds"]) == ("prepare", "build", 2.0)
    assert not [finding for finding in plan["findings"] if finding["severity"] == "refuse"]
    assert shop.refusal("rollback", CONTEXT).code == "nothing_behind"
    assert shop.refusal("verify", CONTEXT).code == "nothing_to_verify"
    assert shop.refusal("decommission", "retire", CONTEXT).code == "not_the_next_step"
    assert shop.refusal("abort", CONTEXT).code == "not_confirmed"
    dry = shop.fig("advance", CONTEXT, "--dry-run")
    assert dry["effects"] and dry["gate"]["verdict"] == "pass" and shop.place() == ("prepare", "")
    shop.advance()
    shop.rollback("--dry-run")
    shop.rollback("--reason", "to look once more")
    assert shop.place() == ("prepare", "")
    shop.go(("build", ""))

    # Sync, taken back without a trace, and again.
    dry = shop.fig("advance", CONTEXT, "--dry-run")
    assert any("slot" in effect for effect in dry["effects"]) and not left_behind(shop)["monolith"]
    said = shop.advance()
    assert said["place"] == "sync"
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    until(lambda: shop.flow("reverse", "capture").get("state") == "streaming", "the reverse stream")
    shop.rollback()
    assert shop.value(estate.service_dsn, "SELECT count(*) FROM stock_level") == 0
    assert left_behind(shop) == {"monolith": [], "service": []}
    shop.go(("sync", ""))
    assert "would" in shop.fig("sync", "resnapshot", CONTEXT, "--dry-run")["text"]
    shop.sound("monolith")

    # Reads.
    for step in ("shadow", "10", "100"):
        shop.advance()
        assert shop.place() == ("reads", step)
    shop.rollback("--reason", "one switch takes all reads back")
    assert shop.place() == ("reads", "shadow")
    shop.go(READS)
    assert shop.refusal("sync", "resnapshot", CONTEXT).code == "resnapshot_needs_sync"

    # Writes: orders still write the table; the guards have seen it.
    found = shop.refusal("advance", CONTEXT, "--wait", "60")
    assert found.code == "writers_remain" and "shop:orders" in found.message
    estate.deploy_monolith(reserve="api")
    until(
        lambda: not [w for w in shop.fig("plan", CONTEXT)["writers"] if w["recent"] and not w["explained"]],
        "the guards to see no other writer",
        every=0.5,
    )
    dry = shop.fig("advance", CONTEXT, "--dry-run")
    assert any("cut over" in effect for effect in dry["effects"]) and shop.owner() == "monolith"
    shop.advance()
    assert shop.place() == WRITES and shop.ownership()["monolith"][0] == "ceded"
    status, said_by_job = estate.nightly(every=50)
    assert status != 0, said_by_job
    until(lambda: [w for w in shop.fig("plan", CONTEXT)["writers"] if w["mode"] == "refused"], "the refusal", every=0.5)
    dry = shop.rollback("--dry-run")
    assert dry["effects"] and shop.owner() == "service"
    shop.rollback("--reason", "to show the way back")
    assert shop.place() == READS and shop.owner() == "monolith"
    shop.sound("monolith")
    shop.advance()
    shop.sound("service")
    assert shop.fig("verify", CONTEXT)["differences"] == 0

    # Decommission, restored once from the retirement.
    for step in ("watch", "brownout", "retire"):
        shop.fig("decommission", step, CONTEXT, "--dry-run")
        shop.fig("decommission", step, CONTEXT)
        assert shop.place() == ("decommission", step)
    assert shop.value(estate.monolith_dsn, "SELECT to_regclass('public.inventory')") is None
    shop.fig("decommission", "restore", CONTEXT, "--dry-run")
    shop.fig("decommission", "restore", CONTEXT)
    assert shop.place() == WRITES
    assert shop.value(estate.monolith_dsn, "SELECT to_regclass('public.inventory')") == "inventory"
    shop.sound("service")
    shop.rollback()  # the way back is still one cut-over
    shop.sound("monolith")
    shop.go(("decommission", "retire"))
    estate.deploy_monolith(code=estate.reduced_monolith())
    assert shop.refusal("decommission", "drop", CONTEXT, "--confirm", CONTEXT).code == "not_the_next_step"
    shop.fig("decommission", "report", CONTEXT)
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    assert shop.refusal("advance", CONTEXT, "--wait", "30").code == "drop_is_explicit"
    shop.fig("decommission", "drop", CONTEXT, "--confirm", CONTEXT, "--dry-run")
    done = shop.fig("decommission", "drop", CONTEXT, "--confirm", CONTEXT)
    assert done["archive"] and shop.place() == ("done", "")
    assert shop.refusal("rollback", CONTEXT).code == "irreversible"
    assert shop.refusal("abort", CONTEXT, "--confirm", CONTEXT).code == "nothing_behind"
    assert shop.refusal("advance", CONTEXT).code == "nothing_ahead"
    assert left_behind(shop) == {"monolith": [], "service": []}
    assert shop.value(estate.monolith_dsn, "SELECT count(*) FROM pg_class WHERE relname = 'reservations'") == 0

    with shop.quiet():
        assert not shop.failures
    # What a person sees of it.
    assert CONTEXT in shop.text("status")
    assert CONTEXT in shop.text("watch", CONTEXT, "--count", "2", "--every", "0.2")
    assert "writers_remain" in shop.text("explain", "writers_remain")
    shop.text("report", CONTEXT, "--output", str(tmp_path / "report"))
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert {stage["name"] for stage in report["stages"]} == {stage for stage, _ in PLACES}
    assert [cut["direction"] for cut in report["cutovers"]] == ["forward", "back"] * 2 + ["forward"]
    assert all(not entry["automatic"] for entry in report["rollbacks"])
    assert report["verification"][-1]["differences"] == 0
