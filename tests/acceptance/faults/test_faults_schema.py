"""What happens to the databases' shape under sync: a slot dropped, columns added, dropped and retyped, a mapping that
cannot be reversed. Each is a refusal that says what to do, and what it says helps."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from shop_driver import CONTEXT, READS, WRITES, Shop, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]
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
    run(dsn, "ALTER TABLE inventory DROP COLUMN shelf")
    run(dsn, "UPDATE inventory SET reorder_level = reorder_level WHERE item_id < 20")
    shop.sound("monolith")
    assert shop.flow("forward", "capture")["state"] == "streaming"


def test_a_retyped_column_is_followed(shop: Shop) -> None:
    shop.go(SYNC)
    dsn = shop.estate.monolith_dsn
    run(dsn, "ALTER TABLE inventory ALTER COLUMN quantity TYPE bigint")
    try:
        settle(shop)
        shop.sound("monolith")
    finally:
        run(dsn, "ALTER TABLE inventory ALTER COLUMN quantity TYPE integer")
    settle(shop)
    shop.sound("monolith")


def test_a_mapped_column_that_goes_stops_the_stream_until_it_is_back(shop: Shop) -> None:
    """Nothing is guessed: what would be lost waits, the refusal says what to do, and doing it helps."""
    shop.go(SYNC)
    dsn = shop.estate.monolith_dsn
    with shop.quiet():
        run(dsn, "ALTER TABLE inventory RENAME COLUMN name TO title")
    try:
        settle(shop, may_stop=True)
        refused = shop.refusal("advance", CONTEXT)
        assert refused.remedy
    finally:
        run(dsn, "ALTER TABLE inventory RENAME COLUMN title TO name")
    settle(shop, may_stop=True)
    if shop.flow("forward", "capture").get("state") != "streaming":
        shop.fig("sync", "resnapshot", CONTEXT)
    shop.sound("monolith", failed=True)
    shop.go(READS)


def settle(shop: Shop, *, may_stop: bool = False) -> None:
    """Wait until the forward flow streams, copying again where it says that this is what it takes."""

    def decided() -> bool:
        capture, sync = shop.flow("forward", "capture"), shop.flow("forward", "sync")
        stopped = any(part.get("error") for part in (capture, sync))
        return stopped or (capture.get("state"), sync.get("state")) == ("streaming", "applying")

    until(decided, "the forward flow", 30)
    for part in ("capture", "sync"):
        error = shop.flow("forward", part).get("error")
        if error:
            assert error["remedy"], error
            if not may_stop:
                shop.fig("sync", "resnapshot", CONTEXT)
                return
