"""``kill -9`` of the controller and of the monolith's MariaDB, under traffic."""

from __future__ import annotations

import pytest
from mariadb_driver import ShopOnMariaDB
from shop_driver import READS, WRITES, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("direction", "point"), [("forward", "after:fence"), ("forward", "after:cede"), ("back", "after:cede")]
)
def test_a_killed_controller_finishes_or_undoes(shop_on_mariadb: ShopOnMariaDB, direction: str, point: str) -> None:
    shop = shop_on_mariadb
    start, end = (READS, WRITES) if direction == "forward" else (WRITES, READS)
    shop.go(start)
    pending, before = shop.kill_at(point), shop.pid("controller")
    # Asked once: what the dead one had begun, the next one goes on with.
    if direction == "forward":
        shop.advance()
    else:
        shop.rollback()
    assert not pending.exists() and shop.pid("controller") != before, f"{point} was never reached"
    assert shop.place() == end
    shop.sound("service" if direction == "forward" else "monolith")


def test_a_killed_mariadb_costs_nothing_once_the_service_owns(shop_on_mariadb: ShopOnMariaDB) -> None:
    shop, server = shop_on_mariadb, shop_on_mariadb.mariadb
    shop.go(WRITES)
    server.kill()
    until(lambda: shop.flow("reverse", "sync").get("error"), "sync to notice")
    server.start()
    until(lambda: shop.flow("reverse", "sync").get("state") == "applying", "sync to go on")
    until(lambda: shop.flow("forward", "capture").get("state") == "streaming", "capture to go on", 120)
    shop.sound("service")
    shop.rollback("--reason", "to show the way back")
    shop.sound("monolith")
