"""An extraction from a monolith on a MariaDB: to the writes, back, and there again, by the installed command, under
traffic, through Kafka Connect with Debezium's connectors."""

from __future__ import annotations

import pytest
from mariadb_driver import ShopOnMariaDB
from shop_driver import CONTEXT, READS, WRITES, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]
LEFT = """SELECT trigger_name FROM information_schema.triggers WHERE trigger_name LIKE 'fig%%'
UNION ALL SELECT context FROM fig.ownership UNION ALL SELECT direction FROM fig.applied"""


def test_to_the_writes_and_back_and_there_again(shop_on_mariadb: ShopOnMariaDB) -> None:
    shop, estate = shop_on_mariadb, shop_on_mariadb.estate
    plan = shop.fig("plan", CONTEXT)
    assert not [finding for finding in plan["findings"] if finding["severity"] == "refuse"], plan["findings"]
    assert [finding for finding in plan["findings"] if finding["code"] == "writers_unrecorded"]
    shop.go(("build", ""))
    assert any("connector" in effect for effect in shop.fig("advance", CONTEXT, "--dry-run")["effects"])

    # Sync, taken back without a trace, and again.
    shop.advance()
    for direction in ("forward", "reverse"):  # Kafka Connect takes its time to begin with a connector
        until(
            lambda way=direction: shop.flow(way, "capture").get("state") == "streaming", f"the {direction} stream", 120
        )
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    shop.rollback()
    assert shop.value(estate.service_dsn, "SELECT count(*) FROM stock_level") == 0
    assert shop.monolith(LEFT) == []
    shop.go(("sync", ""))
    shop.sound("monolith")

    shop.go(READS)
    shop.advance()
    assert shop.place() == WRITES and shop.ownership()["monolith"][0] == "ceded"
    shop.sound("service")
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    shop.rollback("--reason", "to show the way back")
    assert shop.place() == READS and shop.owner() == "monolith"
    shop.sound("monolith")
    shop.advance()
    shop.sound("service")
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    assert shop.refusal("advance", CONTEXT, "--wait", "60").code == "decommission_unsupported"
