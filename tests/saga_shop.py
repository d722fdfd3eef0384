"""Checkout across two services, for the tests of sagas: stock and money are on one side, the saga on the other."""

from __future__ import annotations

import os

from stranglerfig.kit import Aggregate, Command, Event, Refused, Service, Transaction
from stranglerfig.sagas import Retry, Saga, call, step
from stranglerfig.sagas.running import Sagas

PATIENCE = float(os.environ.get("SAGA_SHOP_PATIENCE", "5"))
"""Seconds for which an answer is awaited."""
SOON = Retry(attempts=3, first=0.05, factor=2, most=0.5)


class OrderPlaced(Event, type="orders.OrderPlaced", key="order_id"):
    order_id: int
    item_id: int
    quantity: int
    cents: int


class OrderConfirmed(Event, type="orders.OrderConfirmed", key="order_id"):
    order_id: int


class OrderRejected(Event, type="orders.OrderRejected", key="order_id"):
    order_id: int
    reason: str


class Reserve(Command, type="stock.Reserve", key="item_id"):
    item_id: int
    order_id: int
    quantity: int


class Release(Command, type="stock.Release", key="item_id"):
    item_id: int
    order_id: int


class ItemReserved(Event, type="stock.ItemReserved", key="item_id"):
    item_id: int
    order_id: int
    quantity: int


class SoldOut(Event, type="stock.SoldOut", key="item_id"):
    item_id: int
    order_id: int
    reason: str = "sold out"


class Released(Event, type="stock.Released", key="item_id"):
    item_id: int
    order_id: int


class Charge(Command, type="money.Charge", key="order_id"):
    order_id: int
    cents: int


class Charged(Event, type="money.Charged", key="order_id"):
    order_id: int


class Declined(Event, type="money.Declined", key="order_id"):
    order_id: int
    reason: str = "declined"


async def looked_at(saga: Checkout, key: str) -> None:
    """Outside: a clerk has a look."""


async def forgotten(saga: Checkout, key: str) -> None:
    """Outside: never mind."""


class Checkout(
    Saga, type="orders.Checkout", starts=OrderPlaced, completed=OrderConfirmed, compensated=OrderRejected, within="60s",
):  # fmt: skip
    order_id: int
    item_id: int
    quantity: int
    cents: int
    reason: str = ""

    @property
    def is_checked(self) -> bool:
        """Whether somebody outside has a look at it first."""
        return self.order_id % 10 == 0

    look = call(looked_at, undo=forgotten, timeout="2s", retry=SOON, when="is_checked")
    reserve = step(
        Reserve,
        ok=ItemReserved,
        fail=SoldOut,
        undo=Release,
        undone=Released,
        timeout=PATIENCE,
        retry=SOON,
        keep=["reason"],
    )
    charge = step(
        Charge,
        ok=Charged,
        fail=Declined,
        timeout=PATIENCE,
        retry=Retry(attempts=None, first=0.05, most=1),
        pivot=True,
        keep=["reason"],
    )


class Level(Aggregate, table="level", id="item_id"):
    item_id: int
    left: int


class Reservation(Aggregate, table="reservation", id="order_id"):
    order_id: int
    item_id: int
    quantity: int
    state: str


class Payment(Aggregate, table="payment", id="order_id"):
    order_id: int
    cents: int


STOCK = """
CREATE TABLE level (item_id int PRIMARY KEY, "left" int NOT NULL CHECK ("left" >= 0));
CREATE TABLE reservation (order_id int PRIMARY KEY, item_id int NOT NULL, quantity int NOT NULL, state text NOT NULL);
CREATE TABLE payment (order_id int PRIMARY KEY, cents int NOT NULL);
"""


def stock(service: Service) -> None:
    """What keeps stock and takes money."""

    @service.on(Reserve, emits=[ItemReserved, SoldOut])
    async def reserve(command: Reserve, tx: Transaction) -> None:
        level = await tx.load(Level, command.item_id)
        known = await tx.find(Reservation, command.order_id)
        if known is not None or level.left < command.quantity:
            return tx.send(SoldOut(command.item_id, command.order_id))
        level.left -= command.quantity
        await tx.add(Reservation(command.order_id, command.item_id, command.quantity, "held"))
        tx.send(ItemReserved(command.item_id, command.order_id, command.quantity))

    @service.on(Release, emits=[Released])
    async def release(command: Release, tx: Transaction) -> None:
        known = await tx.find(Reservation, command.order_id)
        if known is not None and known.state == "held":
            known.state = "released"
            (await tx.load(Level, command.item_id)).left += known.quantity
        tx.send(Released(command.item_id, command.order_id))

    @service.on(Charge, emits=[Charged, Declined])
    async def charge(command: Charge, tx: Transaction) -> None:
        if command.cents % 7 == 0:
            return tx.send(Declined(command.order_id))
        if await tx.find(Payment, command.order_id) is not None:
            raise Refused("charged_twice")
        await tx.add(Payment(command.order_id, command.cents))
        tx.send(Charged(command.order_id))


def orders(service: Service) -> Sagas:
    """What runs the checkouts."""
    return Sagas(service, [Checkout])


TOPICS = ("events.orders", "events.stock", "events.money", "commands.stock", "commands.money")
