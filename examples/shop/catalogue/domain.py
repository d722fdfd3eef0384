"""The catalogue's rules: products, and what happens to their prices. No I/O, no clock."""

from __future__ import annotations

from stranglerfig.kit import Aggregate, Event, evolves


class PriceChanged(Event, type="catalogue.PriceChanged", key="product_id"):
    """What a product costs from now on, as which change of it."""

    product_id: int
    price_cents: int
    revision: int


class Product(Aggregate, table="product", id="product_id"):
    """What is sold."""

    product_id: int
    sku: str
    name: str
    price_cents: int
    revision: int = 0

    def reprice(self, price_cents: int) -> PriceChanged:
        """It costs something else."""
        return self.record(PriceChanged(self.product_id, price_cents, self.revision + 1))

    @evolves(PriceChanged)
    def _repriced(self, event: PriceChanged) -> None:
        self.price_cents, self.revision = event.price_cents, event.revision


class PriceChange(Aggregate, table="price_change", id="key"):
    """An idempotency key with what came of it: it moved here from the monolith, with those before it."""

    key: str
    product_id: int
    price_cents: int
    revision: int
