"""What a person on call does between two stages: decide about a change that does not go in, look into the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from shop_driver import CONTEXT, Shop, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
SYNC = ("sync", "")
LONG = "n" * 50


def run(dsn: str, statement: str) -> None:
    """As the database's administrator."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(statement.encode())


def stopped(shop: Shop) -> dict[str, Any]:
    """The change that sync stands at."""

    def there() -> list[dict[str, Any]]:
        # The flow's report is half a second old at most: sync may be on its way to stand here again.
        if shop.flow("forward", "sync").get("state") != "stopped":
            return []
        return list(shop.fig("sync", "parked", CONTEXT)["list"])

    [parked] = until(there, "sync to stop", 30)
    return parked


def goes_on(shop: Shop) -> None:
    """Wait until sync applies again."""
    until(lambda: shop.flow("forward", "sync").get("state") == "applying", "sync to go on", 30)


def test_a_change_that_does_not_go_in_waits_for_a_person(shop: Shop) -> None:
    shop.go(SYNC)
    source, target = shop.estate.monolith_dsn, shop.estate.service_dsn
    refuse = "ALTER TABLE inventory_item ADD CONSTRAINT short CHECK (length(name) < 40) NOT VALID"
    with shop.quiet():
        run(target, refuse)
        run(source, f"UPDATE inventory SET name = '{LONG}' WHERE item_id = 7")
        parked = stopped(shop)
        assert (parked["reason"], parked["change"]["after"]["name"]) == ("error", LONG) and "short" in parked["error"]
        number = str(parked["id"])
        assert "short" in shop.text("sync", "parked", CONTEXT)
        assert shop.fig("sync", "retry", CONTEXT, number, "--dry-run")["dry_run"]
        assert shop.refusal("sync", "skip", CONTEXT, "99999").code == "unknown_parked"
        # Tried again before anything was mended, it waits again; mended, it goes in.
        shop.fig("sync", "retry", CONTEXT, number)
        number = str(until(lambda: stopped(shop)["id"], "the change to wait again"))
        run(target, "ALTER TABLE inventory_item DROP CONSTRAINT short")
        assert shop.fig("sync", "retry", CONTEXT, number)["decided"] == "retry"
        goes_on(shop)
        until(lambda: shop.value(target, "SELECT name FROM inventory_item WHERE item_id = 7") == LONG, "the change")
        # Left out, it is a difference from then on, which verification names and repairs.
        run(target, refuse)
        run(source, f"UPDATE inventory SET name = '{LONG}' WHERE item_id = 8")
        shop.fig("sync", "skip", CONTEXT, str(stopped(shop)["id"]))
        goes_on(shop)
        assert shop.value(target, "SELECT name FROM inventory_item WHERE item_id = 8") != LONG
        run(target, "ALTER TABLE inventory_item DROP CONSTRAINT short")
        shop.fig("verify", CONTEXT, "--repair")
        assert shop.fig("verify", CONTEXT)["differences"] == 0
        assert shop.value(target, "SELECT name FROM inventory_item WHERE item_id = 8") == LONG
    assert shop.fig("sync", "parked", CONTEXT) == {"list": []}
    shop.sound("monolith")


def test_the_log_can_be_looked_into_and_handed_out(shop: Shop, tmp_path: Path) -> None:
    shop.go(SYNC)
    topics = {row["topic"]: row for row in shop.fig("events", "topics")["list"]}
    changes, facts = f"fig.changes.{CONTEXT}.forward", f"events.{CONTEXT}"
    assert {changes, facts} <= topics.keys()
    tail = shop.ask("events", "tail", facts, "--last", "3")
    tail.result()
    newest = tail.lines()
    assert [line["type"] for line in newest] == ["inventory.InventoryLevelChanged"] * 3
    position = newest[-1]["position"]
    assert shop.fig("events", "show", facts, str(position))["id"] == newest[-1]["id"]
    assert newest[-1]["id"] not in shop.text("events", "show", facts, "0")
    tail = shop.ask("events", "tail", changes, "--last", "1")
    tail.result()
    assert {"op", "after", "source"} <= tail.lines()[-1]["change"].keys()
    assert shop.refusal("events", "show", facts, "99999999").code == "unknown_position"
    assert shop.refusal("events", "tail", "nothing").code == "unknown_topic"
    file = tmp_path / "facts.jsonl"
    shop.text("events", "export", facts, "--output", str(file))
    exported = [orjson.loads(line) for line in file.read_text().splitlines()]
    assert [line["position"] for line in exported] == list(range(len(exported))) and len(exported) > position
    moved = shop.fig("events", "replay", facts, "--group", "reader", "--position", "2", "--dry-run")
    assert (moved["before"], moved["after"], moved["dry_run"]) == ([0], [0], True)
    assert shop.fig("events", "replay", facts, "--group", "reader", "--position", "2")["after"] == [2]
