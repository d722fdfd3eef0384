"""A shop that several tenants share, for the tests of tenants: what the shop of tests.kit_shop has, by tenant."""

from __future__ import annotations

from stranglerfig.kit import Aggregate, Projection, Refused, Service, Transaction, evolves
from tests.kit_shop import OrderPlaced, Restock, StockAdjusted


class Level(Aggregate, table="level", id="item_id", tenant="tenant_id"):
    item_id: int
    on_hand: int = 0
    tags: list[str] | None = None

    def adjust(self, delta: int) -> StockAdjusted:
        """Pieces came or went."""
        if self.on_hand + delta < 0:
            raise Refused("insufficient_stock", available=self.on_hand)
        return self.record(StockAdjusted(self.item_id, delta, self.on_hand + delta))

    @evolves(StockAdjusted)
    def _adjusted(self, event: StockAdjusted) -> None:
        self.on_hand = event.on_hand


class Ledger(Aggregate, stream="book", id="item_id", snapshot_every=3, tenant=True):
    item_id: int
    total: int = 0

    def enter(self, delta: int) -> StockAdjusted:
        """One more entry."""
        return self.record(StockAdjusted(self.item_id, delta, self.total + delta))

    @evolves(StockAdjusted)
    def _entered(self, event: StockAdjusted) -> None:
        self.total += event.delta


class Demand(Projection, name="demand", id="item_id", indexes=["ordered"], tenant="tenant_id"):
    item_id: int
    ordered: int = 0

    @evolves(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self.ordered += event.quantity


TABLE = """
CREATE TABLE level (tenant_id {} NOT NULL, item_id int NOT NULL, on_hand int NOT NULL, tags jsonb,
    PRIMARY KEY (tenant_id, item_id))
"""


def taking_orders(service: Service) -> None:
    """Orders take from their tenant's stock; what is restocked is its tenant's."""

    @service.on(OrderPlaced, emits=[StockAdjusted])
    async def take(event: OrderPlaced, tx: Transaction) -> None:
        (await tx.load(Level, event.item_id)).adjust(-event.quantity)

    @service.on(Restock, subscription="restock", emits=[StockAdjusted])
    async def restock(command: Restock, tx: Transaction) -> None:
        (await tx.open(Level, command.item_id)).adjust(10)
