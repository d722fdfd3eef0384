"""The inventory's rules: its aggregates, what they decide, and the events that say so. No I/O, no clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from stranglerfig.kit import Aggregate, Command, Event, Refused, evolves

LARGEST = 2**31 - 1


class StockAdjusted(Event, type="inventory.StockAdjusted", key="item_id"):
    """What is on hand was changed by ``delta``; both figures are those after it."""

    item_id: int
    delta: int
    on_hand: int
    reserved: int
    reason: str


class ItemReserved(Event, type="inventory.ItemReserved", key="item_id"):
    """``quantity`` was set aside; both figures are those after it."""

    item_id: int
    quantity: int
    order_ref: int | None
    on_hand: int
    reserved: int
    reservation_id: int


class ReservationReleased(Event, type="inventory.ReservationReleased", key="item_id"):
    """A reservation was given back; both figures are those after it."""

    item_id: int
    reservation_id: int
    quantity: int
    on_hand: int
    reserved: int


class ReserveItem(Command, type="inventory.ReserveItem", key="item_id"):
    """Promise ``quantity`` to an order: answered by ItemReserved or ReservationRefused."""

    item_id: int
    quantity: int
    order_ref: int | None


class ReservationRefused(Event, type="inventory.ReservationRefused", key="item_id"):
    """What an order asked for cannot be promised."""

    item_id: int
    order_ref: int | None
    reason: str


class ReleaseOrder(Command, type="inventory.ReleaseOrder", key="item_id"):
    """Take back what was promised to an order, if anything was: answered by OrderReleased."""

    item_id: int
    order_ref: int


class OrderReleased(Event, type="inventory.OrderReleased", key="item_id"):
    """Nothing of the item is promised to the order any more."""

    item_id: int
    order_ref: int


class OrderOpened(Event, type="shop.OrderOpened", key="order_id"):
    """The shop's: an order wants its pieces, and nobody conducts what follows."""

    order_id: int
    item_id: int
    quantity: int


class PaymentDeclined(Event, type="shop.PaymentDeclined", key="order_id"):
    """The shop's: an order's pieces will not be paid for."""

    order_id: int
    item_id: int


class InventoryItem(Aggregate, table="inventory_item", id="item_id"):
    """What is kept in stock, and from which level on it should be ordered again."""

    item_id: int
    sku: str
    name: str
    reorder_level: int


class Reservation(Aggregate, table="reservation", id="reservation_id"):
    """Pieces that are promised to an order, or to whoever asked."""

    reservation_id: int
    item_id: int
    order_ref: int | None
    quantity: int
    state: str = "held"

    def release(self) -> None:
        """Give them back, once.

        Raises:
            Refused: ``already_released``.
        """
        if self.state != "held":
            raise Refused("already_released")
        self.state = "released"


class Hold(Aggregate, table="order_hold", id="order_ref"):
    """The reservation of an order that asked by command, and may take it back without knowing its number."""

    order_ref: int
    reservation_id: int


class StockLevel(Aggregate, table="stock_level", id="item_id"):
    """How many pieces of an item are on hand, and how many of those are promised to somebody."""

    item_id: int
    on_hand: int
    reserved: int
    updated_at: datetime | None = None

    def adjust(self, delta: int, reason: str) -> StockAdjusted:
        """Pieces came or went; never fewer than are promised.

        Raises:
            Refused: ``insufficient_stock``, ``too_many``.
        """
        on_hand = self.on_hand + delta
        if on_hand < self.reserved:
            raise Refused("insufficient_stock")
        if on_hand > LARGEST:
            raise Refused("too_many")
        return self.record(StockAdjusted(self.item_id, delta, on_hand, self.reserved, reason))

    def reserve(self, reservation: Reservation) -> ItemReserved:
        """Promise a reservation's pieces.

        Raises:
            Refused: ``insufficient_stock``.
        """
        quantity = reservation.quantity
        if quantity > self.on_hand - self.reserved:
            raise Refused("insufficient_stock")
        reserved, id = self.reserved + quantity, reservation.reservation_id
        return self.record(ItemReserved(self.item_id, quantity, reservation.order_ref, self.on_hand, reserved, id))

    def release(self, reservation: Reservation) -> ReservationReleased:
        """Take a promise back.

        Raises:
            Refused: ``already_released``.
        """
        reservation.release()
        reserved, id = self.reserved - reservation.quantity, reservation.reservation_id
        return self.record(ReservationReleased(self.item_id, id, reservation.quantity, self.on_hand, reserved))

    @evolves(StockAdjusted)
    def _adjusted(self, event: StockAdjusted) -> None:
        self.on_hand = event.on_hand

    @evolves(ItemReserved)
    def _reserved(self, event: ItemReserved) -> None:
        self.reserved = event.reserved

    @evolves(ReservationReleased)
    def _released(self, event: ReservationReleased) -> None:
        self.reserved = event.reserved


class ProcessedRequest(Aggregate, table="processed_request", id="key"):
    """An idempotency key with the answer that was given: it moved here from the monolith, with those before it."""

    key: str
    kind: str
    item_id: int
    delta: int
    response: dict[str, Any]
