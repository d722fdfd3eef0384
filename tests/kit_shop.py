"""A small shop written with the kit, for its tests: stock in rows, accounts in streams, orders from outside."""

from __future__ import annotations

from stranglerfig.kit import Aggregate, Command, Event, Refused, evolves


class StockAdjusted(Event, type="stock.StockAdjusted", key="item_id", version=2):
    item_id: int
    delta: int
    on_hand: int
    reason: str = ""


@StockAdjusted.upcast(1)
def _with_what_is_on_hand(old: dict[str, object]) -> dict[str, object]:
    return {"on_hand": 0, **old}


class OrderPlaced(Event, type="orders.OrderPlaced", key="item_id"):
    item_id: int
    quantity: int


class OrderCancelled(Event, type="orders.OrderCancelled", key="item_id"):
    item_id: int
    quantity: int


class Restock(Command, type="warehouse.Restock", key="item_id"):
    item_id: int


class StockLevel(Aggregate, table="stock_level", id="item_id"):
    item_id: int
    on_hand: int = 0
    tags: list[str] | None = None

    def adjust(self, delta: int, reason: str = "") -> StockAdjusted:
        """Pieces came or went."""
        if self.on_hand + delta < 0:
            raise Refused("insufficient_stock", available=self.on_hand)
        return self.record(StockAdjusted(self.item_id, delta, self.on_hand + delta, reason))

    @evolves(StockAdjusted)
    def _adjusted(self, event: StockAdjusted) -> None:
        self.on_hand = event.on_hand


class Ledger(Aggregate, stream="ledger", id="item_id", snapshot_every=10):
    item_id: int
    total: int = 0
    entries: int = 0

    def enter(self, delta: int) -> StockAdjusted:
        """One more entry."""
        return self.record(StockAdjusted(self.item_id, delta, self.total + delta))

    @evolves(StockAdjusted)
    def _entered(self, event: StockAdjusted) -> None:
        self.total += event.delta
        self.entries += 1


TABLES = """
CREATE TABLE stock_level (item_id int PRIMARY KEY, on_hand int NOT NULL CHECK (on_hand < 1000000), tags jsonb);
INSERT INTO stock_level SELECT i, 100 FROM generate_series(1, 50) AS i;
"""
