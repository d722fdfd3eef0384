"""Checkouts across the monolith and the service, conducted and not: each ends, whole or not at all, whoever dies."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from shop_driver import WRITES, Shop, until

from examples.shop import ledger

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
OPEN = "SELECT count(*) FROM fig.saga WHERE ended_at IS NULL"
ENDED = (
    "SELECT (SELECT count(*) FROM fig.saga WHERE ended_at IS NOT NULL)"
    " + (SELECT count(*) FROM fig.flow_event WHERE type IN ('shop.OrderConfirmed', 'shop.OrderRejected'))"
)
PENDING = "SELECT count(*) FROM orders WHERE status = 'pending'"


def keys(shop: Shop) -> set[str]:
    """Those of the checkouts that were accepted so far."""
    lines = ledger.read(shop.estate.ledger).writes
    return {line["key"] for line in lines if line["kind"] == "checkout" and line["status"] == 202}


def accepted(shop: Shop) -> int:
    """How many they are."""
    return len(keys(shop))


def test_checkouts_of_both_kinds_end_whoever_dies(shop: Shop) -> None:
    shop.go(WRITES)
    estate = shop.estate
    estate.deploy_checkout(shop.control)
    estate.steer(mix={"reads": 20, "writes": 30, "checkouts": 50})
    until(lambda: accepted(shop) > 150, "checkouts")
    for name, deploy in (
        ("checkout", lambda: estate.deploy_checkout(shop.control)),
        ("service", estate.deploy_service),
    ):
        estate.programs[name].kill()
        deploy()
        before = accepted(shop)
        until(lambda before=before: accepted(shop) > before + 60, f"checkouts after {name} was killed")  # type: ignore[misc]
    for role in shop.roles():
        if role.startswith(("capture", "sync")):
            shop.kill(role)
    shop.silent()
    # One that was accepted by who was killed then has no answer: it is among them, or never was.
    until(lambda: shop.value(estate.checkout_dsn, ENDED) >= accepted(shop), "each checkout to end", 90)
    until(lambda: shop.value(estate.checkout_dsn, OPEN) == 0, "each saga to end", 90)
    until(lambda: shop.value(estate.monolith_dsn, PENDING) == 0, "each order to be confirmed or rejected", 90)
    shop.sound("service", failed=True)
    with psycopg.connect(estate.checkout_dsn) as conn:
        ends = dict(conn.execute("SELECT status, count(*) FROM fig.saga GROUP BY 1").fetchall())
    assert ends.keys() == {"completed", "compensated"} and min(ends.values()) > 5, ends

    # What keeps the record of the flows reads at a pace of its own: the last to begin may not be seen when others end.
    flows: list[dict[str, Any]] = []

    def told() -> bool:
        flows[:] = shop.fig("flow", "list", "--service", "checkout", "--last", "10000").get("list", [])
        known = {flow["id"].removeprefix("purchase:") for flow in flows if flow["state"] == "done"}
        with psycopg.connect(estate.checkout_dsn) as conn:
            known |= {key for (key,) in conn.execute("SELECT key FROM fig.saga")}
        return keys(shop) <= known and all(flow["state"] == "done" for flow in flows)

    until(told, "each checkout to be seen to end", 90)
    assert "checkout.Checkout" in shop.text("saga", "graph", "checkout.Checkout", "--service", "checkout")
    assert {end for flow in flows for end in flow["ends"]} == {"shop.OrderConfirmed", "shop.OrderRejected"}
