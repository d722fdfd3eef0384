"""An extraction from the first plan to the writes and back, by the installed command, under traffic."""

from __future__ import annotations

from typing import Any

import pytest
from shop_driver import CONTEXT, READS, WRITES, Shop, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


def remaining_writers(shop: Shop) -> list[dict[str, Any]]:
    """Who wrote the context's tables of late, by what the guards have seen, and is not named in extraction.yaml."""
    return [w for w in shop.fig("plan", CONTEXT)["writers"] if w["recent"] and not w["explained"]]


def test_from_the_first_plan_to_the_writes_and_back(untouched_shop: Shop) -> None:
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
    assert any("slot" in effect for effect in dry["effects"]) and not shop.left_behind()["monolith"]
    said = shop.advance()
    assert said["place"] == "sync"
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    until(lambda: shop.flow("reverse", "capture").get("state") == "streaming", "the reverse stream")
    shop.rollback()
    assert shop.value(estate.service_dsn, "SELECT count(*) FROM stock_level") == 0
    assert shop.left_behind() == {"monolith": [], "service": []}
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
    until(lambda: remaining_writers(shop), "an order of late")
    found = shop.refusal("advance", CONTEXT, "--wait", "60")
    assert found.code == "writers_remain" and "shop:orders" in found.message
    estate.deploy_monolith(reserve="api")
    until(lambda: not remaining_writers(shop), "the guards to see no other writer", every=0.5)
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
    until(
        lambda: (now := shop.status()["now"]) and now["service"]["reads"] and not now["monolith"]["reads"],
        "the service to answer the reads still",
        every=0.5,
    )
    shop.sound("monolith")
    shop.advance()
    shop.sound("service")
    assert shop.fig("verify", CONTEXT)["differences"] == 0
