"""Customers, for tests of personal data: kept as a stream, shown on a card, with a gift from one to another."""

from __future__ import annotations

from datetime import date

from stranglerfig.kit import Aggregate, Command, Event, Projection, evolves


class CustomerMoved(
    Event,
    type="crm.CustomerMoved",
    key="customer_id",
    version=2,
    personal={"street": "customer_id", "born": "customer_id"},
):
    customer_id: int
    street: str | None = None
    born: date | None = None
    moves: int = 0


@CustomerMoved.upcast(1)
def _road_is_street(old: dict[str, object]) -> dict[str, object]:
    """What was called a road, by whom was called who."""
    renamed = {"road": "street", "who": "customer_id"}
    return {renamed.get(name, name): value for name, value in old.items()} | {"moves": len(str(old.get("road") or ""))}


class GiftSent(Event, type="crm.GiftSent", key="gift_id", personal={"words": "from_whom", "to": "to_whom"}):
    gift_id: str
    from_whom: int
    to_whom: str
    words: str | None = None
    to: list[str] | None = None


class Move(Command, type="crm.Move", key="customer_id"):
    customer_id: int
    street: str


class Customer(Aggregate, stream="customer", id="customer_id"):
    customer_id: int
    street: str | None = None
    born: date | None = None
    moves: int = 0

    def move(self, street: str | None, born: date | None = None) -> CustomerMoved:
        """Somebody moves."""
        return self.record(CustomerMoved(self.customer_id, street, born or self.born, self.moves + 1))

    @evolves(CustomerMoved)
    def _moved(self, event: CustomerMoved) -> None:
        self.street, self.born, self.moves = event.street, event.born, event.moves


class Card(Projection, name="card", id="customer_id"):
    customer_id: int
    street: str | None = None
    moves: int = 0

    @evolves(CustomerMoved)
    def _moved(self, event: CustomerMoved) -> None:
        self.street = event.street
        self.moves += 1
