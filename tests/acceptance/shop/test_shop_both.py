"""Orders that never stop writing the table: to the service and back under load, sync killed meanwhile; no write is lost
or doubled, and both sides end equal."""

from __future__ import annotations

import psycopg
import pytest
from shop_driver import CONTEXT, READS, WRITES, Shop, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]


def test_both_sides_write_and_both_hold_all_of_it(both_shop: Shop) -> None:
    shop = both_shop
    shop.go(WRITES)
    # One row, at the same time on both sides, besides the load: their differences both count.
    shop.silent()

    def held() -> tuple[int, int]:
        return (
            shop.value(shop.estate.service_dsn, "SELECT reserved FROM stock_level WHERE item_id = 600"),
            shop.value(shop.estate.monolith_dsn, "SELECT reserved FROM inventory WHERE item_id = 600"),
        )

    until(lambda: len(set(held())) == 1, "both sides to be equal", 30)
    before, _ = held()
    with (
        psycopg.connect(shop.estate.shop_server.dsn("shop", "shop_app")) as monolith,
        psycopg.connect(shop.estate.inventory_server.dsn("inventory", "inventory_app")) as service,
    ):
        old = shop.kill("sync")  # it is back in a moment: both are written before that
        monolith.execute("UPDATE inventory SET reserved = reserved + 2 WHERE item_id = 600")
        service.execute("UPDATE stock_level SET reserved = reserved + 3 WHERE item_id = 600")
        monolith.commit()
        service.commit()
    shop.back("sync", old)
    until(lambda: held() == (before + 5, before + 5), "both differences on both sides", 30)
    for dsn, statement in (
        (shop.estate.shop_server.dsn("shop", "shop_app"), "UPDATE inventory SET reserved = reserved - 5"),
    ):
        with psycopg.connect(dsn) as conn:
            conn.execute(f"{statement} WHERE item_id = 600".encode())
    listed = shop.fig("sync", "conflicts", CONTEXT)["list"]
    met = [c for c in listed if c["pair"] == "public.stock_level" and c["key"] == ["600"]]
    assert {c["direction"] for c in met} == {"forward", "reverse"}
    assert all(c["theirs"]["before"] and c["ours"] for c in met)
    assert "stock_level 600" in shop.text("sync", "conflicts", CONTEXT)
    until(lambda: shop.flow("forward", "sync").get("conflicts", 0) >= 1 or _conflicts(shop) >= 1, "the count", 10)
    shop.estate.steer(rate=shop.rate)
    for _ in range(3):
        shop.back("sync", shop.kill("sync"))
    shop.back("capture", shop.kill("capture"))
    found = shop.sound("service")
    assert found["acknowledged_writes"] > 100

    def equal() -> bool:
        compared = shop.fig("verify", CONTEXT)
        assert compared["differences"] == 0, compared["difference_list"]
        return bool(compared["equal"])  # and no row that did not hold still under the load

    until(equal, "a comparison in which every row held still once", 60)
    assert shop.fig("sync", "parked", CONTEXT)["list"] == []


def _conflicts(shop: Shop) -> int:
    return int(shop.status()["flows"]["forward"]["sync"].get("conflicts") or 0)


def test_the_way_back_and_over_again_and_out(both_shop: Shop) -> None:
    shop = both_shop
    shop.go(WRITES)
    assert shop.refusal("advance", CONTEXT, "--override", "to see it refused").code == "writers_stay"
    assert shop.refusal("verify", CONTEXT, "--repair").code == "repair_where_both_write"
    shop.go(READS)
    shop.sound("monolith")
    shop.go(WRITES)
    shop.sound("service")
    assert shop.fig("abort", CONTEXT, "--confirm", CONTEXT)["place"] == "aborted"
    assert shop.left_behind() == {"monolith": [], "service": []}
    for dsn in (shop.estate.monolith_dsn, shop.estate.service_dsn):
        assert shop.value(dsn, "SELECT count(*) FROM fig.row_version") == 0
        assert shop.value(dsn, "SELECT count(*) FROM fig.conflict") == 0
    shop.sound("-", equal=False)
