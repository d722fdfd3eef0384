"""By the installed command, under traffic: decommissioning, restored once, then to the drop, and the monolith's end."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from shop_driver import CONTEXT, PLACES, WRITES, Shop, until

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
    the_monolith_ends(shop)


def the_monolith_ends(shop: Shop) -> None:
    """Orders and payments pass to it as long as there is load; once nothing does, the façade answers in its place."""
    name = "shop"
    assert answer(shop, "/api/orders/1") == 200

    def listed() -> set[tuple[str, str]]:
        return {(kind["method"], kind["path"]) for kind in shop.fig("retire")["passing"]}

    until(lambda: {("POST", "/api/orders"), ("GET", "/api/orders/{}")} <= listed(), "what passes to be listed", 30)
    seen = shop.fig("retire")
    assert seen["contexts"] == {CONTEXT: "done"} and not seen["remaining"] and seen["retired"] is None
    assert not any("inventory" in path for _, path in listed())
    assert "POST /api/orders" in shop.text("retire") and "not yet:" in shop.text("retire")
    assert shop.refusal("retire", "--confirm", "inventory").code == "not_confirmed"
    assert shop.refusal("retire", "--confirm", name).code == "still_passing"
    assert shop.refusal("retire", "--confirm", name, "--override", " ").code == "usage"
    assert "passed to the monolith" in shop.fig("retire", "--dry-run")["text"]

    shop.silent()
    until(lambda: not shop.fig("retire")["reasons"], "nothing to pass to the monolith", 60, every=1)
    assert f"fig retire --confirm {name}" in shop.text("retire")
    shop.kill_at("retire")  # between its row and the routes
    assert "is retired" in shop.fig("retire", "--confirm", name)["text"]
    for pin in ("service", "monolith"):
        assert answer(shop, "/api/inventory/1", pin=f"{CONTEXT}={pin}") == 200
    assert [answer(shop, path) for path in ("/api/orders/1", "/", "/api/products/1")] == [410] * 3
    assert answer(shop, "/api/orders", data=b"{}") == 410
    for role in ("controller", "envoy"):
        shop.back(role, shop.kill(role))
    assert answer(shop, "/api/orders/1") == 410 and answer(shop, "/api/inventory/1") == 200
    until(lambda: len(shop.fig("retire")["refused"]) >= 4, "who still asks to be listed", 30)
    assert "GET /api/orders/{}" in shop.text("retire")

    shop.fig("retire", "--restore", "--dry-run")
    shop.kill_at("retire-restore")
    shop.fig("retire", "--restore")
    until(lambda: answer(shop, "/api/orders/1") == 200, "the monolith to answer again", 10)
    assert shop.fig("retire")["retired"] is None
    trail = [(line["action"], line["outcome"]) for line in shop.fig("audit", "--last", "20")["list"]]
    refused, done, back = ("retire", "failed"), ("retire", "done"), ("retire-restore", "done")
    # Dry runs stand in it as well.
    assert [line for line in trail if line[0].startswith("retire")] == [refused, refused, done, done, back, back]


def answer(shop: Shop, path: str, data: bytes | None = None, pin: str = "") -> int:
    """The façade's status for a request."""
    asked = urllib.request.Request(f"{shop.estate.facade_url}{path}", data=data, headers={"x-fig-pin": pin})
    try:
        with urllib.request.urlopen(asked, timeout=10) as found:
            return int(found.status)
    except HTTPError as error:
        return error.code
