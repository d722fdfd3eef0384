"""What a wrong configuration or estate is refused with, before anything is touched."""

from __future__ import annotations

from typing import Any

import pytest
from shop_driver import CONTEXT, READS, VALUES, WRITES, Shop

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


def restarted(shop: Shop, change: Any) -> None:
    """``fig up`` once more, with other settings."""
    with shop.quiet():
        shop.fig("down")
        shop.estate.write_project(VALUES)
        shop.configure(change)
        shop.up()


def lossy(settings: dict[str, Any]) -> None:
    """A mapping whose way back forgets."""
    settings["tables"][0]["columns"]["name"] = "upper(name)"


def one_way(settings: dict[str, Any]) -> None:
    """A mapping without a way back."""
    del settings["tables"][1]["reverse"]["quantity"]


def both(settings: dict[str, Any]) -> None:
    """Both sides write, but the tables do not send old rows."""
    settings["remaining_writers"] = "bidirectional"


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (one_way, ("mapping_not_reversible",)),
        (lossy, ("mapping_not_identical", "mapping_not_reversible")),
        (both, ("bidirectional_refused",)),
    ],
    ids=["one-way", "lossy", "bidirectional"],
)
def test_writes_do_not_go_where_they_could_not_come_back(shop: Shop, change: Any, codes: tuple[str, ...]) -> None:
    shop.go(READS)
    restarted(shop, change)
    try:
        refused = shop.refusal("advance", CONTEXT, "--override", "to see the proof hold")
        assert refused.code in codes, refused
        assert shop.owner() == "monolith"
    finally:
        restarted(shop, None)
    # What was applied meanwhile was applied as the mapping said.
    shop.fig("verify", CONTEXT, "--repair")
    shop.go(WRITES)
    shop.sound("service")


def test_a_wrong_key_is_named_with_its_line(shop: Shop) -> None:
    shop.go(READS)

    def wrong(settings: dict[str, Any]) -> None:
        settings["fasade"] = settings.pop("facade")

    with shop.quiet():
        shop.fig("down")
        good = shop.file.read_text()
        try:
            shop.configure(wrong)
            refused = shop.refusal("up", "--detach")
            assert (refused.status, refused.code) == (2, "bad_configuration")
            assert "did you mean 'facade'" in refused.message and "extraction.yaml:" in refused.message
        finally:
            shop.file.write_text(good)
            shop.up()
    shop.go(WRITES)
    shop.sound("service")


def test_an_abort_takes_everything_back_and_can_be_begun_anew(shop: Shop) -> None:
    shop.go(WRITES)
    assert shop.fig("abort", CONTEXT, "--dry-run")["effects"]
    assert shop.fig("abort", CONTEXT, "--confirm", CONTEXT)["place"] == "aborted"
    assert shop.ownership() == {"monolith": ("", 0), "service": ("", 0)}
    for dsn in (shop.estate.monolith_dsn, shop.estate.service_dsn):
        assert shop.value(dsn, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == 0
        assert shop.value(dsn, "SELECT count(*) FROM pg_publication") == 0
    assert shop.value(shop.estate.service_dsn, "SELECT count(*) FROM stock_level") == 0
    assert shop.refusal("rollback", CONTEXT).code == "nothing_behind"
    shop.sound("-", equal=False)
    shop.go(WRITES)
    shop.sound("service")
