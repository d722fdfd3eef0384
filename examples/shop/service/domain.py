"""The inventory's rules: two aggregates, what they decide, and the events that say so. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST = 2**31 - 1


class Refused(Exception):
    """A business rule says no."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class InventoryItem:
    """What is kept in stock, and from which level on it should be ordered again."""

    item_id: int
    sku: str
    name: str
    reorder_level: int


@dataclass(frozen=True, slots=True)
class StockAdjusted:
    """What is on hand was changed by ``delta``; both figures are those after it."""

    item_id: int
    delta: int
    on_hand: int
    reserved: int
    reason: str


@dataclass(frozen=True, slots=True)
class ItemReserved:
    """``quantity`` was set aside; both figures are those after it."""

    item_id: int
    quantity: int
    order_ref: int | None
    on_hand: int
    reserved: int


@dataclass(frozen=True, slots=True)
class ReservationReleased:
    """A reservation was given back; both figures are those after it."""

    item_id: int
    reservation_id: int
    quantity: int
    on_hand: int
    reserved: int


Event = StockAdjusted | ItemReserved | ReservationReleased


@dataclass(frozen=True, slots=True)
class StockLevel:
    """How many pieces of an item are on hand, and how many of those are promised to somebody."""

    item_id: int
    on_hand: int
    reserved: int

    @property
    def available(self) -> int:
        """What can still be promised."""
        return self.on_hand - self.reserved

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
        return StockAdjusted(self.item_id, delta, on_hand, self.reserved, reason)

    def reserve(self, quantity: int, order_ref: int | None) -> ItemReserved:
        """Promise ``quantity`` pieces.

        Raises:
            Refused: ``insufficient_stock``.
        """
        if quantity > self.available:
            raise Refused("insufficient_stock")
        return ItemReserved(self.item_id, quantity, order_ref, self.on_hand, self.reserved + quantity)

    def release(self, reservation_id: int, quantity: int, state: str) -> ReservationReleased:
        """Take a promise of ``quantity`` pieces back, once.

        Raises:
            Refused: ``already_released``.
        """
        if state != "held":
            raise Refused("already_released")
        return ReservationReleased(self.item_id, reservation_id, quantity, self.on_hand, self.reserved - quantity)

    def after(self, event: Event) -> StockLevel:
        """The level once ``event`` has happened."""
        return StockLevel(self.item_id, event.on_hand, event.reserved)
