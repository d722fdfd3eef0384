"""What the service does on command: an order's reservation, and its way back."""

from __future__ import annotations

from typing import Any

from psycopg import conninfo

from examples.shop.service.domain import ReleaseOrder, ReserveItem
from examples.shop.service.service import Inventory
from examples.shop.service.tests.conftest import Api
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.kit import Command
from stranglerfig.kit.testing import event_of

TOPIC = "commands.inventory"
ANSWERS = "SELECT type, data->>'reason', causationid FROM outbox WHERE causationid <> 'k' ORDER BY occurred_at, type"


async def told(api: Api, *commands: tuple[str, Command]) -> None:
    """Have the service handle commands, by their ids, as one batch."""
    log = MemoryLog()
    await log.create_topic(TOPIC)
    inventory = Inventory(conninfo.make_conninfo(api.dsn, user="inventory_app"), log)
    (consumer,) = inventory.service.consumers()
    await consumer.begin()
    await log.append(TOPIC, [event_of(command, source="/checkout")._replace(id=id) for id, command in commands])
    await consumer.handle(await log.read(TOPIC, 0, 0))
    await inventory.service.close()


def stands(api: Api, item_id: int) -> Any:
    (row,) = api.rows(f"SELECT on_hand, reserved FROM stock_level WHERE item_id = {item_id}")
    return row


async def test_an_order_reserves_and_takes_it_back(api: Api) -> None:
    await told(api, ("a", ReserveItem(3, 4, 9)))
    assert stands(api, 3) == (100, 4)
    assert api.rows("SELECT item_id, order_ref, quantity, state FROM reservation") == [(3, 9, 4, "held")]
    await told(api, ("a", ReserveItem(3, 4, 9)), ("b", ReleaseOrder(3, 9)))
    assert stands(api, 3) == (100, 0)
    assert api.rows("SELECT state FROM reservation") == [("released",)]
    assert api.rows("SELECT type, causationid FROM outbox ORDER BY occurred_at, type DESC") == [
        ("inventory.ItemReserved", "a"), ("inventory.ReservationReleased", "b"), ("inventory.OrderReleased", "b"),
    ]  # fmt: skip


async def test_what_cannot_be_promised_is_refused_and_taken_back_as_nothing(api: Api) -> None:
    await told(
        api, ("a", ReserveItem(3, 101, 9)), ("b", ReleaseOrder(3, 9)), ("c", ReserveItem(4_000, 1, 10)),
        ("d", ReserveItem(5, 1, 11)), ("e", ReserveItem(5, 1, 11)),
    )  # fmt: skip
    found = {cause: (type_, reason) for type_, reason, cause in api.rows(ANSWERS)}
    assert found == {
        "a": ("inventory.ReservationRefused", "insufficient_stock"), "b": ("inventory.OrderReleased", None),
        "c": ("inventory.ReservationRefused", "unknown_item"), "d": ("inventory.ItemReserved", None),
        "e": ("inventory.ReservationRefused", "already_reserved"),
    }  # fmt: skip
    assert stands(api, 3) == (100, 0) and stands(api, 5) == (100, 1)


async def test_reserved_and_taken_back_at_once(api: Api) -> None:
    await told(api, ("a", ReserveItem(3, 4, 9)), ("b", ReleaseOrder(3, 9)), ("c", ReleaseOrder(3, 9)))
    assert stands(api, 3) == (100, 0)
    assert api.rows("SELECT count(*) FROM order_hold") == [(0,)]
