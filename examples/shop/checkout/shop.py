"""What a checkout asks of the monolith, by HTTP; asked again, each changes nothing more."""

from __future__ import annotations

import os
from typing import Any, Protocol

import orjson

from examples.shop.client import Client
from stranglerfig.kit import Refused
from stranglerfig.telemetry import traces


class Wanted(Protocol):
    """What is to be bought, and by whom; ``key`` is the customer's."""

    @property
    def key(self) -> str: ...
    @property
    def customer_id(self) -> int: ...
    @property
    def item_id(self) -> int: ...
    @property
    def quantity(self) -> int: ...


class Shop:
    """The monolith's API at ``SHOP_URL``; a client is made when it is first asked."""

    def __init__(self) -> None:
        self._client: Client | None = None

    async def post(self, path: str, content: Any, key: str = "") -> dict[str, Any]:
        """One request, once.

        Raises:
            Refused: it said no, and will not say otherwise.
            Unanswered: nobody knows whether it was done.
        """
        if self._client is None:
            self._client = Client(os.environ["SHOP_URL"], timeout=4)
        headers = {"idempotency-key": key} if key else {}
        if (traceparent := traces.current()) is not None:
            headers["traceparent"] = traceparent
        answer = await self._client.request("POST", path, orjson.dumps(content), headers)
        if answer.status in (402, 404, 409, 422):
            reason = orjson.loads(answer.body)["error"]
            raise Refused(reason, reason=reason)
        if answer.status != 200:
            raise RuntimeError(f"the shop answered {path} with {answer.status}: {answer.body[:200]!r}")
        return dict(orjson.loads(answer.body))


_shop = Shop()


async def open_order(wanted: Wanted) -> int:
    """Have an order opened under the customer's key; its number."""
    lines = [{"item_id": wanted.item_id, "qty": wanted.quantity}]
    opened = await _shop.post("/api/orders/pending", {"customer_id": wanted.customer_id, "lines": lines}, wanted.key)
    return int(opened["id"])


async def charge(order_id: int) -> None:
    """Have an order paid for, once."""
    await _shop.post("/api/payments", {"order_id": order_id})


async def confirm(order_id: int) -> None:
    """Have it confirmed."""
    await _shop.post(f"/api/orders/{order_id}/confirm", {})


async def reject(order_id: int) -> None:
    """Have it rejected."""
    await _shop.post(f"/api/orders/{order_id}/reject", {})
