"""Decommissioning by the installed command, under traffic: restored once, then to the drop; and what a person sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shop_driver import CONTEXT, PLACES, WRITES, Shop

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


def test_decommission_restored_once_then_to_the_drop(shop: Shop, tmp_path: Path) -> None:
    estate = shop.estate
    shop.go(WRITES)
    assert shop.refusal("decommission", "restore", CONTEXT).code == "nothing_behind"
    for step in ("watch", "brownout", "retire"):
        shop.fig("decommission", step, CONTEXT, "--dry-run")
        shop.decommission(step)
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
    # The service's events go on being published: its slot and publication stay, for the outbox alone.
    assert shop.left_behind() == {"monolith": [], "service": ["fig_inventory_reverse"] * 2}
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
    assert [cut["direction"] for cut in report["cutovers"]] == ["forward", "back", "forward"]
    assert all(not entry["automatic"] for entry in report["rollbacks"])
    assert report["verification"][-1]["differences"] == 0
