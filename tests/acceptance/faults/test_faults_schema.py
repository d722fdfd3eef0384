"""What happens to the databases' shape under sync: a slot dropped, columns added, dropped and retyped, a mapping that
cannot be reversed. Each is a refusal that says what to do, and what it says helps."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from shop_driver import CONTEXT, READS, WRITES, Shop, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
SYNC = ("sync", "")
SLOT = "fig_inventory_forward"


def run(dsn: str, *statements: str) -> None:
    """As the database's administrator."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement.encode())


def trouble(shop: Shop, *codes: str, part: str = "capture") -> dict[str, Any]:
    """Wait until a part of the forward flow says that it has stopped, and why."""

    def said() -> Any:
        error = shop.flow("forward", part).get("error")
        return error if error and error["code"] in codes else None

    return dict(until(said, f"one of {codes} (it says {shop.flow('forward', part)})", 30))


def test_a_dropped_slot_is_named_and_copied_again(shop: Shop) -> None:
    shop.go(SYNC)
    dsn = shop.estate.monolith_dsn

    def dropped() -> bool:
        try:
            run(
                dsn,
                f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{SLOT}'",
                f"SELECT pg_drop_replication_slot('{SLOT}')",
            )
        except psycopg.errors.ObjectInUse:
            return False
        return True

    until(dropped, "the slot to go")
    error = trouble(shop, "slot_lost")
    assert error["remedy"]
    status = shop.status()["flows"]["forward"]["capture"]
    assert (status["state"], status["error"]["code"]) == ("failed", "slot_lost")
    assert "slot_lost" in shop.text("status", CONTEXT)
    assert shop.refusal("verify", CONTEXT).code
    said = shop.fig("sync", "resnapshot", CONTEXT)
    assert said["text"] == "copied again"
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    shop.sound("monolith")
    shop.go(WRITES)
    shop.sound("service")


def test_a_column_that_nobody_maps_may_come_and_go(shop: Shop) -> None:
    shop.go(SYNC)
    dsn = shop.estate.monolith_dsn
    run(dsn, "ALTER TABLE inventory ADD COLUMN shelf text")
    run(dsn, "UPDATE inventory SET shelf = 'A' WHERE item_id < 20")
    shop.sound("monolith")
    run(dsn, "ALTER TABLE inventory DROP COLUMN shelf", "UPDATE inventory SET reorder_level = 0 WHERE item_id < 20")
    # Nobody mapped it, but that a column goes is for a person to look at: nothing is guessed, and nothing is lost.
    error = trouble(shop, "incompatible_ddl")
    assert "shelf" in error["message"] and error["remedy"]
    shop.fig("sync", "resnapshot", CONTEXT)
    shop.sound("monolith")


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ("ALTER COLUMN quantity TYPE bigint", "ALTER COLUMN quantity TYPE integer"),
        ("RENAME COLUMN reorder_level TO reorder_at", "RENAME COLUMN reorder_at TO reorder_level"),
    ],
    ids=["retyped", "gone"],
)
def test_a_mapped_column_that_changes_stops_the_stream(shop: Shop, there: str, back: str) -> None:
    """The refusal says what to do, and doing it helps."""
    shop.go(SYNC)
    dsn = shop.estate.monolith_dsn
    touch = "UPDATE inventory SET name = name WHERE item_id < 20"
    with shop.quiet():
        run(dsn, f"ALTER TABLE inventory {there}", touch)
        try:
            assert trouble(shop, "incompatible_ddl")["remedy"]
        finally:
            run(dsn, f"ALTER TABLE inventory {back}", touch)
        shop.fig("sync", "resnapshot", CONTEXT)
    shop.sound("monolith")
    shop.go(READS)
