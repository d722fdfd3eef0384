"""Catalogue, customers, and orders that reserve through the inventory's API: what stays in the monolith."""

from __future__ import annotations

from http.server import ThreadingHTTPServer
from typing import Any

from .conftest import Shop


def order(item: int, qty: int = 2, customer: int = 1) -> dict[str, Any]:
    return {"customer_id": customer, "lines": [{"item_id": item, "qty": qty}]}


def test_the_catalogue(shop_by_api: Shop) -> None:
    status, product = shop_by_api.call("GET", "/api/products/7")
    assert (status, product["sku"]) == (200, "SKU-0000007")
    page = shop_by_api.call("GET", "/api/products?after=7&limit=2")[1]
    assert [p["id"] for p in page] == [8, 9]
    assert shop_by_api.call("GET", "/api/products?limit=x")[0] == 400
    assert shop_by_api.call("GET", "/api/products/99999999")[0] == 404


def test_a_customer(shop_by_api: Shop) -> None:
    assert shop_by_api.call("GET", "/api/customers/3")[1]["email"] == "c3@example.org"
    assert shop_by_api.call("GET", "/api/customers/99999999")[0] == 404


def test_an_order_reserves_by_the_api_under_its_own_key(
    shop_by_api: Shop, inventory_api: ThreadingHTTPServer, key: str
) -> None:
    status, placed = shop_by_api.call("POST", "/api/orders", order(5), key)
    assert (status, placed["status"], placed["lines"]) == (200, "confirmed", [{"item_id": 5, "qty": 2}])
    wanted = {"item_id": 5, "qty": 2, "order_id": placed["id"]}
    assert ("/api/inventory/reserve", f"order:{placed['id']}:1", wanted) in inventory_api.seen  # type: ignore[attr-defined]
    assert shop_by_api.call("GET", f"/api/orders/{placed['id']}") == (200, placed)
    assert shop_by_api.one("SELECT state FROM payments WHERE order_id = %s", placed["id"]) == ("authorised",)
    assert shop_by_api.call("POST", "/api/orders", order(5), key) == (200, placed)
    assert shop_by_api.one("SELECT count(*) FROM payments WHERE order_id = %s", placed["id"]) == (1,)


def test_an_order_that_cannot_be_filled_is_refused_and_gives_back(
    shop_by_api: Shop, inventory_api: ThreadingHTTPServer, key: str
) -> None:
    content = {"customer_id": 1, "lines": [{"item_id": 6, "qty": 1}, {"item_id": 101, "qty": 1}]}
    assert shop_by_api.call("POST", "/api/orders", content, key)[0] == 409
    number, status = shop_by_api.one("SELECT id, status FROM orders WHERE request_key = %s", key)
    assert status == "rejected"
    assert f"order:{number}:1:undo" in [seen[1] for seen in inventory_api.seen]  # type: ignore[attr-defined]


def test_an_order_for_what_is_not_there(shop_by_api: Shop, key: str) -> None:
    assert shop_by_api.call("POST", "/api/orders", order(99_999_999), key)[0] == 422
    assert shop_by_api.call("POST", "/api/orders", order(5, customer=99_999_999), key)[0] == 422
    assert shop_by_api.call("POST", "/api/orders", order(5, qty=0), key)[0] == 400
    assert shop_by_api.call("POST", "/api/orders", order(5))[0] == 400
    assert shop_by_api.call("GET", "/api/orders/99999999")[0] == 404


def pending(shop: Shop, key: str, customer: int = 1) -> int:
    status, opened = shop.call("POST", "/api/orders/pending", order(7, customer=customer), key)
    assert status == 200 and shop.call("GET", f"/api/orders/{opened['id']}")[1]["status"] == "pending"
    assert shop.call("POST", "/api/orders/pending", order(7, customer=customer), key) == (200, opened)
    return int(opened["id"])


def test_an_order_is_seen_to_from_outside_each_step_once(shop_by_api: Shop, key: str) -> None:
    number = pending(shop_by_api, key)
    assert shop_by_api.call("POST", f"/api/orders/{number}/confirm")[0] == 409  # it is not paid for
    for _ in range(2):
        status, paid = shop_by_api.call("POST", "/api/payments", {"order_id": number})
        assert status == 200 and paid["amount_cents"] > 0
    for _ in range(2):
        status, confirmed = shop_by_api.call("POST", f"/api/orders/{number}/confirm")
        assert (status, confirmed["status"]) == (200, "confirmed")
    assert shop_by_api.one("SELECT count(*) FROM payments WHERE order_id = %s", number) == (1,)
    assert shop_by_api.call("POST", f"/api/orders/{number}/reject")[0] == 409


def test_a_declined_card_leaves_an_order_to_be_rejected(shop_by_api: Shop, key: str) -> None:
    number = pending(shop_by_api, key, customer=40)
    assert shop_by_api.call("POST", "/api/payments", {"order_id": number}) == (402, {"error": "declined"})
    for _ in range(2):
        assert shop_by_api.call("POST", f"/api/orders/{number}/reject")[1]["status"] == "rejected"
    assert shop_by_api.call("POST", "/api/payments", {"order_id": number})[0] == 409
    assert shop_by_api.call("POST", f"/api/orders/{number}/confirm")[0] == 409
    assert shop_by_api.one("SELECT count(*) FROM payments WHERE order_id = %s", number) == (0,)


def test_what_cannot_be_seen_to(shop_by_api: Shop, key: str) -> None:
    assert shop_by_api.call("POST", "/api/orders/pending", order(99_999_999), key)[0] == 422
    assert shop_by_api.call("POST", "/api/payments", {"order_id": 99_999_999})[0] == 404
    assert shop_by_api.call("POST", "/api/orders/99999999/confirm")[0] == 404
    assert shop_by_api.call("POST", "/api/orders/1/forget")[0] == 404
