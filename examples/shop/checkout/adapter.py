"""The monolith as one that reacts: what it would do in the flow ``purchase``, if it could listen.

Reads the log, asks the monolith by HTTP, and says on the log what came of it. An event that comes again asks again,
which changes nothing, and says the same under the same id. It is written without the kit: the log and HTTP are enough.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from examples.shop.checkout import shop
from examples.shop.checkout.domain import OrderConfirmed, OrderRejected, PurchaseRequested
from examples.shop.client import Unanswered
from examples.shop.service.domain import ItemReserved, OrderOpened, OrderReleased, PaymentDeclined, ReservationRefused
from stranglerfig.eventlog import model
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock
from stranglerfig.kit import Event, Refused
from stranglerfig.kit.messages import data_of, decode, key_of, kind_of

GROUP = "shop.purchase"
HEARS = ("events.checkout", "events.inventory")
SAYS = "events.shop"
FLOW = "purchase:"
"""What the correlation ids of our flows begin with: others reserve as well."""
SOURCE = "/shop"
LINGER = 0.05
"""Seconds for which events are let gather: two cores carry the whole estate here."""
_SPACE = uuid.UUID("6f1f1c1e-4a6e-4b58-9a5e-0d5a3c0c9b11")
log_ = logging.getLogger(__name__)


async def open_order(event: PurchaseRequested) -> Event:
    """An order for who wants to buy, pending."""
    try:
        return OrderOpened(await shop.open_order(event), event.item_id, event.quantity)
    except Refused as refused:
        return OrderRejected(0, refused.code)


async def settle(event: ItemReserved) -> Event:
    """Its pieces are held: it is charged, and confirmed."""
    order_id = event.order_ref or 0
    try:
        await shop.charge(order_id)
    except Refused:
        return PaymentDeclined(order_id, event.item_id)
    await shop.confirm(order_id)
    return OrderConfirmed(order_id)


async def reject(event: ReservationRefused | OrderReleased) -> Event:
    """There is nothing to sell, or nobody who pays."""
    order_id = event.order_ref or 0
    await shop.reject(order_id)
    return OrderRejected(order_id, event.reason if isinstance(event, ReservationRefused) else "declined")


REACTIONS: dict[str, tuple[type[Event], Callable[[Any], Awaitable[Event]]]] = {
    kind_of(cls).type: (cls, reaction)
    for cls, reaction in (
        (PurchaseRequested, open_order),
        (ItemReserved, settle),
        (ReservationRefused, reject),
        (OrderReleased, reject),
    )
}


async def reacted(cause: model.Event) -> model.Event:
    """What follows from an event of a flow; however long the monolith does not answer."""
    cls, reaction = REACTIONS[cause.type]
    while True:
        try:
            said = await reaction(decode(cls, cause))
            break
        except (Unanswered, RuntimeError) as error:
            log_.warning("%s of %s: %s", cause.type, cause.correlationid, error)
            await asyncio.sleep(0.5)
    kind = kind_of(said)
    return model.Event(
        str(uuid.uuid5(_SPACE, cause.id)), SOURCE, kind.type, clock.now(), data_of(said), dataschema=kind.dataschema,
        partitionkey=key_of(said), traceparent=cause.traceparent, correlationid=cause.correlationid,
        causationid=cause.id,
    )  # fmt: skip


async def run(log: EventLog) -> None:
    """React until cancelled."""
    subscription = await log.subscribe(HEARS, GROUP)
    try:
        async for batch in subscription.batches():
            causes = [
                record.event
                for record in batch
                if record.event.type in REACTIONS and (record.event.correlationid or "").startswith(FLOW)
            ]
            if causes:
                await log.append(SAYS, await asyncio.gather(*map(reacted, causes)))
            await subscription.commit(batch[-1])
            await asyncio.sleep(LINGER)
    finally:
        await subscription.close()
