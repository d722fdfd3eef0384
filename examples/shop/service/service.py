"""What the inventory does when it is asked: state, answer and event in one transaction of the kit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from examples.shop.answers import Asked
from examples.shop.service.domain import (
    Hold,
    InventoryItem,
    ItemReserved,
    OrderOpened,
    OrderReleased,
    PaymentDeclined,
    ProcessedRequest,
    ReleaseOrder,
    Reservation,
    ReservationRefused,
    ReservationReleased,
    ReserveItem,
    StockLevel,
)
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import postgres
from stranglerfig.kit import Cause, Outbox, Refused, Service, Transaction

# One item as the API shows it; the same fields in the same order as the monolith's.
READ = """
SELECT json_build_object('item_id', item_id, 'sku', sku, 'name', name, 'on_hand', on_hand, 'reserved', reserved,
    'available', on_hand - reserved, 'reorder_level', reorder_level,
    'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text
FROM stock_level JOIN inventory_item USING (item_id) WHERE item_id = %s
"""
NEXT = "SELECT nextval('reservation_reservation_id_seq')"
TOPICS = ("commands.inventory", "events.shop")
"""Where what it reacts to comes from."""
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a command: the level after it, by how many pieces, and what else the answer says."""

    level: StockLevel
    delta: int
    facts: Answer


Decide = Callable[[Transaction], Awaitable[Decided]]


class Inventory:
    """The commands, each answered once for its key, and what is read. All raise ``Refused`` where a rule says no.

    Args:
        log: where commands and events of others come from; without it only requests are answered.
    """

    def __init__(self, dsn: str, log: EventLog | None = None) -> None:
        # Its events go to the log by the extraction's capture, out of the outbox that the team made.
        outbox = Outbox("public.outbox", data="jsonb", id="uuid")
        self.service = Service("inventory", database=dsn, log=log, outbox=outbox, linger=0.02)
        if log is not None:
            on = self.service.on
            on(ReserveItem, emits=[ItemReserved, ReservationRefused])(reserve_for_order)
            on(ReleaseOrder, emits=[ReservationReleased, OrderReleased])(release_order)
            on(OrderOpened, emits=[ItemReserved, ReservationRefused])(order_opened)
            on(PaymentDeclined, emits=[ReservationReleased, OrderReleased])(payment_declined)

    async def migrate(self) -> None:
        """Create or bring forward the kit's tables, for the roles that the service's own have."""
        await self.service.migrate(owner="inventory_owner", users=["inventory_app"])

    async def read(self, item_id: int) -> str:
        """One item as JSON text."""
        async with self.service.session() as conn:
            found = await postgres.value(conn, READ, (item_id,))
        if found is None:
            raise Refused("unknown_item")
        return str(found)

    async def adjust(self, asked: Asked, item_id: int, delta: int, reason: str) -> Answer:
        """Change what is on hand."""

        async def decide(tx: Transaction) -> Decided:
            level = await _level(tx, item_id)
            level.adjust(delta, reason)
            return Decided(level, delta, {})

        return await self._once(asked, "adjust", decide)

    async def reserve(self, asked: Asked, item_id: int, quantity: int, order_ref: int | None) -> Answer:
        """Promise pieces; the answer has ``reservation_id``."""

        async def decide(tx: Transaction) -> Decided:
            level = await _level(tx, item_id)
            id = await tx.value(NEXT)
            level.reserve(await tx.add(Reservation(id, item_id, order_ref, quantity)))
            return Decided(level, quantity, {"reservation_id": id})

        return await self._once(asked, "reserve", decide)

    async def release(self, asked: Asked, reservation_id: int) -> Answer:
        """Take a promise back."""

        async def decide(tx: Transaction) -> Decided:
            reservation = await tx.load(Reservation, reservation_id)
            level = await _level(tx, reservation.item_id)
            level.release(reservation)
            return Decided(level, -reservation.quantity, {"reservation_id": reservation_id})

        return await self._once(asked, "release", decide)

    async def _once(self, asked: Asked, kind: str, decide: Decide) -> Answer:
        async def work(tx: Transaction) -> Answer:
            done = await decide(tx)
            level, item = done.level, await tx.load(InventoryItem, done.level.item_id)
            level.updated_at = await tx.now()
            answer = {
                "item_id": item.item_id,
                "sku": item.sku,
                "name": item.name,
                "on_hand": level.on_hand,
                "reserved": level.reserved,
                "available": level.on_hand - level.reserved,
                "reorder_level": item.reorder_level,
                "updated_at": f"{level.updated_at:%Y-%m-%dT%H:%M:%S.%fZ}",
                **done.facts,
            }
            await tx.add(ProcessedRequest(asked.key, kind, item.item_id, done.delta, answer))
            return answer

        async def known(tx: Transaction) -> Answer | None:
            before = await tx.find(ProcessedRequest, asked.key)
            return None if before is None else before.response

        return await self.service.execute(work, known=known, cause=Cause(asked.key, asked.key, asked.trace))


async def _level(tx: Transaction, item_id: int) -> StockLevel:
    level = await tx.find(StockLevel, item_id)
    if level is None:
        raise Refused("unknown_item")
    return level


async def reserve_for_order(asked: ReserveItem, tx: Transaction) -> None:
    """Promise an order what it asks for, or say why not."""
    assert asked.order_ref is not None
    try:
        if await tx.find(Hold, asked.order_ref) is not None:
            raise Refused("already_reserved")
        level = await _level(tx, asked.item_id)
        reservation = Reservation(await tx.value(NEXT), asked.item_id, asked.order_ref, asked.quantity)
        level.reserve(reservation)
    except Refused as refused:
        return tx.send(ReservationRefused(asked.item_id, asked.order_ref, refused.code))
    level.updated_at = await tx.now()
    await tx.add(reservation)
    await tx.add(Hold(asked.order_ref, reservation.reservation_id))


async def release_order(asked: ReleaseOrder, tx: Transaction) -> None:
    """Take back what was promised to an order; where nothing was, that is as well."""
    hold = await tx.find(Hold, asked.order_ref)
    if hold is not None:
        level = await _level(tx, asked.item_id)
        level.release(await tx.load(Reservation, hold.reservation_id))
        level.updated_at = await tx.now()
        await tx.remove(hold)
    tx.send(OrderReleased(asked.item_id, asked.order_ref))


async def order_opened(event: OrderOpened, tx: Transaction) -> None:
    """Nobody commands it: an order that is opened is one to reserve for."""
    await reserve_for_order(ReserveItem(event.item_id, event.quantity, event.order_id), tx)


async def payment_declined(event: PaymentDeclined, tx: Transaction) -> None:
    """And one that is not paid for gives back what it had."""
    await release_order(ReleaseOrder(event.item_id, event.order_id), tx)
