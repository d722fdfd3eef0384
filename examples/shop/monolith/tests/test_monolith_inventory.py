"""Inventory, and orders that reserve in its tables inside their own transaction."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest

from .conftest import PACKAGE, Shop

pytestmark = pytest.mark.skipif("SHOP_TEST_DSN" in os.environ, reason="changes stock: only on a database of its own")


@pytest.fixture(scope="module")
def shop(start: Callable[..., Shop]) -> Shop:
    """The monolith as it always was."""
    return start()


def test_an_adjustment_and_its_repetition(shop: Shop, key: str) -> None:
    before = shop.call("GET", "/api/inventory/7")[1]
    status, after = shop.call("POST", "/api/inventory/adjust", {"item_id": 7, "delta": -3, "reason": "sold"}, key)
    assert (status, after["on_hand"]) == (200, before["on_hand"] - 3)
    assert shop.call("POST", "/api/inventory/adjust", {"item_id": 7, "delta": -3}, key) == (200, after)
    assert shop.call("GET", "/api/inventory/7") == (200, after)


def test_refusals(shop: Shop, key: str) -> None:
    assert shop.call("POST", "/api/inventory/adjust", {"item_id": 7, "delta": -100_000}, key)[0] == 409
    assert shop.call("POST", "/api/inventory/adjust", {"item_id": 77_777_777, "delta": 1}, key)[0] == 404
    assert shop.call("POST", "/api/inventory/adjust", {"item_id": 7, "delta": 1})[0] == 400
    assert shop.call("GET", "/api/inventory/77777777")[0] == 404
    assert shop.call("GET", "/api/inventory/99999999999999999999")[0] == 404
    assert shop.one("SELECT count(*) FROM inventory_requests WHERE key = %s", key) == (0,)


def test_a_reservation_is_released_once(shop: Shop, key: str) -> None:
    status, held = shop.call("POST", "/api/inventory/reserve", {"item_id": 9, "qty": 2}, key)
    assert status == 200
    content = {"reservation_id": held["reservation_id"]}
    status, freed = shop.call("POST", "/api/inventory/release", content, key + ":f")
    assert (status, freed["reserved"]) == (200, held["reserved"] - 2)
    assert shop.call("POST", "/api/inventory/release", content, key + ":f") == (200, freed)
    assert shop.call("POST", "/api/inventory/release", content, key + ":g")[0] == 409
    assert shop.call("POST", "/api/inventory/release", {"reservation_id": 77_777_777}, key + ":h")[0] == 404


def test_an_order_takes_its_stock_in_its_own_transaction(shop: Shop, key: str) -> None:
    before = shop.call("GET", "/api/inventory/11")[1]["reserved"]
    content = {"customer_id": 1, "lines": [{"item_id": 11, "qty": 2}]}
    status, placed = shop.call("POST", "/api/orders", content, key)
    assert status == 200
    assert shop.call("GET", "/api/inventory/11")[1]["reserved"] == before + 2
    assert shop.one("SELECT item_id, qty FROM reservations WHERE order_id = %s", placed["id"]) == (11, 2)
    content["lines"] = [{"item_id": 12, "qty": 1}, {"item_id": 11, "qty": 100_000}]
    assert shop.call("POST", "/api/orders", content, key + ":big")[0] == 409
    assert shop.one("SELECT count(*) FROM orders WHERE request_key = %s", key + ":big") == (0,)


def test_the_nightly_recount_writes_the_table(shop: Shop, dsn: str) -> None:
    def recount() -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ) | {"SHOP_NIGHTLY_DSN": dsn.replace("shop_app", "shop_nightly")}
        command = [sys.executable, "-m", f"{PACKAGE.name}.nightly", "--every", "100"]
        return subprocess.run(command, cwd=PACKAGE.parent, env=environment, capture_output=True, text=True, check=False)

    assert (recount().returncode, recount().stdout) == (0, "recounted 2 items\n")
    owner = dsn.replace("shop_app@", "postgres@")
    with psycopg.connect(owner, autocommit=True) as conn:
        conn.execute("REVOKE UPDATE ON inventory FROM shop_nightly")
        try:
            refused = recount()
        finally:
            conn.execute("GRANT UPDATE ON inventory TO shop_nightly")
    assert refused.returncode == 1 and "permission denied" in refused.stdout
