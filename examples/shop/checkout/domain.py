"""A checkout in both ways: conducted, as a saga whose steps are here; and as a flow of services that react.

The business process is the same: an order is opened, its stock reserved, its payment charged, and it is confirmed; sold
out or declined, it is rejected, with nothing held and nothing charged.
"""

from __future__ import annotations

from typing import Any

from examples.shop.checkout import shop
from examples.shop.service.domain import (
    ItemReserved,
    OrderOpened,
    OrderReleased,
    PaymentDeclined,
    ReleaseOrder,
    ReservationRefused,
    ReserveItem,
)
from stranglerfig.kit import Event
from stranglerfig.sagas import Flow, Retry, Saga, call, step

BEFORE = Retry(attempts=5, first=0.2, most=5)
"""Of what may still be turned back."""
FOR_EVER = Retry(attempts=None, first=0.2, most=5)
"""Of what must be known, or must be done."""


class CheckoutRequested(Event, type="checkout.CheckoutRequested", key="key"):
    """A customer wants pieces of an item; ``key`` is the request's own."""

    key: str
    customer_id: int
    item_id: int
    quantity: int


class CheckoutCompleted(Event, type="checkout.CheckoutCompleted", key="key"):
    key: str
    order_id: int


class CheckoutRefused(Event, type="checkout.CheckoutRefused", key="key"):
    key: str
    order_id: int
    reason: str


async def opened(saga: Checkout, key: str) -> dict[str, Any]:
    """The order, pending. The customer's key makes it one, so ours is not needed; and so for what follows."""
    return {"order_id": await shop.open_order(saga)}


async def rejected(saga: Checkout, key: str) -> None:
    """Taken back. Where its number is not known it is opened first: it may have been, and the answer lost."""
    await shop.reject(saga.order_id or await shop.open_order(saga))


async def charged(saga: Checkout, key: str) -> None:
    """Paid for: from here there is only forward."""
    await shop.charge(saga.order_id)


async def confirmed(saga: Checkout, key: str) -> None:
    """Done."""
    await shop.confirm(saga.order_id)


class Checkout(
    Saga, type="checkout.Checkout", starts=CheckoutRequested, within="1m",
    completed=CheckoutCompleted, compensated=CheckoutRefused,
):  # fmt: skip
    """Conducted: InventoryService reserves on command, the monolith is called."""

    key: str
    customer_id: int
    item_id: int
    quantity: int
    order_id: int = 0
    reason: str = "declined or too late"

    open = call(opened, undo=rejected, timeout="5s", retry=BEFORE)
    reserve = step(
        ReserveItem, ok=ItemReserved, fail=ReservationRefused, undo=ReleaseOrder, undone=OrderReleased,
        timeout="10s", keep=["reason"], using={"order_ref": "order_id"},
    )  # fmt: skip
    charge = call(charged, timeout="5s", retry=FOR_EVER, pivot=True)
    confirm = call(confirmed, timeout="5s", retry=FOR_EVER)


class PurchaseRequested(Event, type="checkout.PurchaseRequested", key="key"):
    """The same wish, which nobody conducts."""

    key: str
    customer_id: int
    item_id: int
    quantity: int


class OrderConfirmed(Event, type="shop.OrderConfirmed", key="order_id"):
    order_id: int


class OrderRejected(Event, type="shop.OrderRejected", key="order_id"):
    order_id: int
    reason: str


purchase = Flow("purchase", starts=[PurchaseRequested], ends=[OrderConfirmed, OrderRejected], within="1m")
purchase.elsewhere("shop", PurchaseRequested, emits=[OrderOpened, OrderRejected])
purchase.elsewhere("inventory", OrderOpened, emits=[ItemReserved, ReservationRefused])
purchase.elsewhere("shop", ItemReserved, emits=[OrderConfirmed, PaymentDeclined])
purchase.elsewhere("inventory", PaymentDeclined, emits=[OrderReleased])
purchase.elsewhere("shop", ReservationRefused, emits=[OrderRejected])
purchase.elsewhere("shop", OrderReleased, emits=[OrderRejected])
