"""Two contexts on their way at once: the second moves while the first is in its writes stage, and neither notices."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from shop_driver import READS, SYNC, WRITES, Shop, until

from examples.shop import prices

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
MIX = {"reads": 45, "writes": 30, "orders": 5, "prices": 20}


def priced(shop: Shop, owner: prices.Owner) -> dict[str, Any]:
    """The ledger's prices, held against both catalogues once they are equal."""
    estate = shop.estate
    with shop.quiet():

        def found() -> dict[str, Any]:
            return prices.check(estate.ledger, estate.monolith_dsn, estate.catalogue_dsn, owner)

        until(lambda: not found()["unequal_sides"], f"both catalogues to be equal: {found()['examples'][:5]}", 30)
        said = found()
    wrong = {name: said[f"{name}_writes"] for name in ("lost", "duplicated", "phantom") if said[f"{name}_writes"]}
    assert not wrong, f"{wrong}: {said['examples'][:10]}"
    assert said["acknowledged_writes"] > 20
    return said


def last_cut_over(shop: Shop) -> tuple[float, float]:
    """When a context's last cut-over began and ended, seconds since 1970."""
    found = [each for each in shop.status()["milestones"] if each["kind"] == "cutover"][-1]
    ended = datetime.fromisoformat(found["at"]).timestamp()
    return ended - found["duration_ms"] / 1000, ended


def test_the_catalogue_moves_while_the_inventory_is_in_its_writes(shop_with_two: Shop) -> None:
    shop = shop_with_two
    catalogue = shop.of("catalogue")
    shop.estate.steer(mix=MIX)
    shop.go(WRITES)
    catalogue.go(SYNC)
    assert (shop.owner(), catalogue.owner()) == ("service", "monolith")

    catalogue.go(WRITES)
    assert (catalogue.owner(), shop.owner(), shop.place()) == ("service", "service", WRITES)
    shop.sound("service")
    priced(shop, "service")

    # One goes back, the other stays; then the other way round.
    shop.go(READS)
    assert (shop.owner(), catalogue.owner()) == ("monolith", "service")
    shop.sound("monolith")
    catalogue.go(READS)
    shop.go(WRITES)
    assert (shop.owner(), catalogue.owner()) == ("service", "monolith")
    shop.sound("service")
    priced(shop, "monolith")


def test_two_cut_overs_that_are_asked_for_together_come_one_after_the_other(shop_with_two: Shop) -> None:
    shop = shop_with_two
    catalogue = shop.of("catalogue")
    shop.estate.steer(mix=MIX)
    shop.go(READS)
    catalogue.go(READS)
    asked = [each.ask("advance", each.context, "--wait", "60") for each in (shop, catalogue)]
    for each in asked:
        until(lambda each=each: not each.running(), "a cut-over to end", 120)  # type: ignore[misc]
    shop.go(WRITES)  # what a busy machine alone refused
    catalogue.go(WRITES)
    (began, ended), (began_later, _) = sorted(map(last_cut_over, (shop, catalogue)))
    assert began < ended <= began_later
    shop.sound("service")
    priced(shop, "service")


def test_a_command_that_waits_goes_on_with_the_gate_that_was_changed_meanwhile(shop_with_two: Shop) -> None:
    shop = shop_with_two
    catalogue = shop.of("catalogue")
    shop.estate.steer(mix=MIX)
    shop.go(WRITES)
    catalogue.go(SYNC)

    def samples(number: int) -> None:
        def change(settings: dict[str, Any]) -> None:
            settings["gates"]["sync"]["cdc_latency"]["samples"] = number

        catalogue.configure(change)
        catalogue.known()

    samples(10_000_000)
    asked = catalogue.ask("advance", "catalogue", "--wait", "300")
    until(lambda: asked.lines(), "the gate's first word")
    controller = shop.pid("controller")
    samples(10)
    assert shop.pid("controller") != controller
    assert asked.result(200)["place"] == "reads, shadow", asked.lines()
    assert shop.place() == WRITES
    shop.sound("service")


def test_the_death_of_what_they_share_costs_neither_anything(shop_with_two: Shop) -> None:
    shop = shop_with_two
    catalogue = shop.of("catalogue")
    shop.estate.steer(mix=MIX)
    shop.go(WRITES)
    catalogue.go(READS)
    for role in shop.roles():
        if role.startswith(("capture", "sync", "controller")):
            shop.back(role, shop.kill(role))
    shop.sound("service")
    priced(shop, "monolith")
    assert catalogue.fig("verify", "catalogue")["differences"] == shop.fig("verify", "inventory")["differences"] == 0
