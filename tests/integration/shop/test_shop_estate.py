"""The estate on real servers, small: load, ledger, releases without a failed request, the change as a patch."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from examples.shop import ledger
from examples.shop.demo import QUICK
from examples.shop.estate import Estate
from stranglerfig.foundation import clock
from tests.conftest import passable

ITEMS = 500


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return passable(tmp_path_factory.mktemp("estate"))


@pytest.fixture(scope="module")
def estate(root: Path) -> Iterator[Estate]:
    estate = Estate(root, items=ITEMS, seed=3, settings={"fsync": "off"})
    seen: list[str] = []
    estate.start_databases(lambda name, rows, share: seen.append(name))
    assert seen[0] == "products" and seen[-1] == "analyze"
    try:
        yield estate
    finally:
        estate.stop()


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=5) as response:
        return dict(json.load(response))


def wait(what: str, condition: Any, timeout: float = 20) -> None:
    deadline = clock.monotonic() + timeout
    while not condition():
        assert clock.monotonic() < deadline, f"waited for {what}"
        clock.block(0.05)


def copy_to_service(estate: Estate) -> None:
    """What stranglerfig will do with care: the monolith's rows in the service's model."""
    pairs = {
        "inventory_item": "SELECT item_id, sku, name, reorder_level FROM inventory",
        "stock_level": "SELECT item_id, quantity, reserved, updated_at FROM inventory",
        "reservation": "SELECT id, item_id, order_id, qty,"
        " CASE WHEN released THEN 'released' ELSE 'held' END, created_at FROM reservations",
        "processed_request": "SELECT key, kind, item_id, delta, response, created_at FROM inventory_requests",
    }
    with psycopg.connect(estate.monolith_dsn) as source, psycopg.connect(estate.service_dsn) as target:
        target.execute("TRUNCATE inventory_item, stock_level, reservation, processed_request, outbox")
        for table, query in pairs.items():
            with (
                source.cursor().copy(f"COPY ({query}) TO STDOUT".encode()) as out,
                target.cursor().copy(f"COPY {table} FROM STDIN".encode()) as into,
            ):
                for data in out:
                    into.write(data)
        target.execute(
            "SELECT setval(pg_get_serial_sequence('reservation', 'reservation_id'),"
            " (SELECT max(reservation_id) + 100 FROM reservation))"
        )


def test_a_run_under_load_leaves_a_sound_ledger_and_tampering_shows(estate: Estate) -> None:
    estate.deploy_monolith()
    estate.ledger.unlink(missing_ok=True)
    estate.start_load(url=estate.monolith_url, rate=150, mix={"reads": 40, "writes": 50, "orders": 10})
    wait("the first requests", lambda: estate.load_status().get("writes_succeeded", 0) > 60)
    # A new release, reserving through the API: nobody notices.
    estate.deploy_monolith(reserve="api", inventory_url=estate.monolith_url)
    assert get(f"{estate.monolith_url}/health")["reserve"] == "api"
    seen = estate.load_status()["requests"]
    wait("requests to the new release", lambda: estate.load_status()["requests"] > seen + 150)
    totals = estate.stop_load()
    assert totals["failed"] == 0 and totals["stale_reads"] == 0 and totals["orders_succeeded"] > 5
    copy_to_service(estate)

    result = ledger.check(estate.ledger, estate.monolith_dsn, estate.service_dsn, "monolith", seed=3)
    assert ledger.sound(result), result["examples"]
    assert result["requests"] == totals["requests"] and result["unequal_sides"] == 0
    assert result["acknowledged_writes"] == totals["writes_succeeded"] + totals["orders_succeeded"]
    assert ledger.sound(ledger.check(estate.ledger, estate.monolith_dsn, estate.service_dsn, "service", seed=3))

    def spoiled(*statements: str) -> dict[str, Any]:
        """The check's figures after changes behind the estate's back, which are undone again."""
        copy_to_service(estate)
        with psycopg.connect(estate.service_dsn) as conn:
            for statement in statements:
                assert conn.execute(statement.encode()).rowcount == 1
        return ledger.check(estate.ledger, estate.monolith_dsn, estate.service_dsn, "service", seed=3)

    # Of an item that was adjusted once: no other write explains what is missing.
    one = (
        "(SELECT min(key) FROM processed_request WHERE kind = 'adjust' GROUP BY item_id"
        " HAVING count(*) = 1 AND min(delta) > 0 ORDER BY 1 LIMIT 1)"
    )
    item = f"(SELECT item_id FROM processed_request WHERE key = {one})"
    delta = f"(SELECT delta FROM processed_request WHERE key = {one})"
    assert spoiled(f"DELETE FROM processed_request WHERE key = {one}")["lost_writes"] == 1
    twice = spoiled(f"UPDATE stock_level SET on_hand = on_hand + 1 + abs({delta}) WHERE item_id = {item}")
    assert twice["duplicated_writes"] == 1 and twice["unequal_sides"] == 1
    lost = spoiled(f"UPDATE stock_level SET on_hand = on_hand - {delta} WHERE item_id = {item}")
    assert lost["lost_writes"] == 1
    invented = "INSERT INTO processed_request (key, kind, item_id, delta, response) VALUES ('x', 'adjust', 1, 1, '{}')"
    assert spoiled(invented)["phantom_writes"] == 1
    unasked = "INSERT INTO reservation (item_id, quantity) VALUES (1, 1)"
    assert spoiled(unasked, "UPDATE stock_level SET reserved = reserved + 1 WHERE item_id = 1")["phantom_writes"] == 1
    ordered = "(SELECT max(reservation_id) FROM reservation WHERE order_ref IS NOT NULL)"
    assert spoiled(f"DELETE FROM reservation WHERE reservation_id = {ordered}")["lost_writes"] >= 1
    copy_to_service(estate)


def test_a_release_is_replaced_under_load_without_a_failed_request(estate: Estate, root: Path) -> None:
    copy_to_service(estate)
    first = estate.deploy_service()
    estate.ledger.unlink(missing_ok=True)
    estate.start_load(url=estate.service_url, rate=200, mix={"reads": 60, "writes": 40})
    wait("the first requests", lambda: estate.load_status().get("requests", 0) > 50)
    second = estate.deploy_service("bad")
    assert not first.alive() and second.alive()
    assert get(f"{estate.service_url}/health")["release"] == "bad"
    good, bad = (get(f"{estate.service_url}/api/inventory/{n}") for n in (21, 20))
    assert good["available"] == good["on_hand"] - good["reserved"]
    assert bad["available"] != bad["on_hand"] - bad["reserved"]
    estate.deploy_service("good")
    estate.steer(stop=True)
    wait("the load's end", lambda: not estate.programs["load"].alive())
    totals = estate.stop_load()
    # Products are no business of this service: those reads are refused, nothing fails.
    assert totals["failed"] == 0 and totals["state"] == "stopped"
    assert (estate.ledger.parent / "ledger.jsonl.series.jsonl").read_text().count("p99_ms") >= 2


def test_monolith_and_service_answer_alike(estate: Estate) -> None:
    copy_to_service(estate)
    estate.deploy_monolith(reserve="table")
    estate.deploy_service()
    for item in (1, 20, 77, ITEMS):
        urls = [f"{url}/api/inventory/{item}" for url in (estate.monolith_url, estate.service_url)]
        texts = [urllib.request.urlopen(url, timeout=5).read() for url in urls]
        assert texts[0] == texts[1]


def test_the_nightly_recount(estate: Estate) -> None:
    assert estate.nightly(every=100) == (0, "recounted 5 items")


def test_the_role_fig_is_no_superuser_and_may_what_it_must(estate: Estate) -> None:
    for dsn in (estate.environment()["SHOP_FIG_DSN"], estate.environment()["INVENTORY_FIG_DSN"]):
        table = "inventory" if "/shop" in dsn else "stock_level"
        with psycopg.connect(dsn) as conn:
            found = conn.execute(
                "SELECT rolsuper, rolreplication FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            assert found == (False, True)
            conn.execute(f"CREATE PUBLICATION p FOR TABLE {table}".encode())
            conn.execute("CREATE SCHEMA try")
            conn.execute(f"ALTER TABLE {table} SET SCHEMA try".encode())
            conn.execute("SELECT pg_replication_origin_create('try')")
            conn.execute("SET session_replication_role = replica")
            conn.execute("SET deadlock_timeout = '10ms'")
            conn.rollback()


def test_the_project_folder_is_complete(estate: Estate) -> None:
    folder = estate.write_project(QUICK)
    fig = yaml.safe_load((folder / "fig.yaml").read_text())
    extraction = yaml.safe_load((folder / "contexts/inventory/extraction.yaml").read_text())
    assert fig["monolith"]["url"] == estate.monolith_url and "$" not in (folder / "fig.yaml").read_text()
    assert extraction["service"]["url"] == estate.service_url
    assert "$" not in (folder / "contexts/inventory/extraction.yaml").read_text()
    assert [t["to"] for t in extraction["tables"]] == [
        "inventory_item",
        "stock_level",
        "reservation",
        "processed_request",
    ]
    for pattern in extraction["decommission"]["code"]:
        assert any(folder.glob(pattern))


def test_the_monolith_without_inventory_passes_its_tests_on_the_reduced_database(estate: Estate) -> None:
    reduced = estate.reduced_monolith()
    assert not (reduced / "inventory.py").exists()
    with psycopg.connect(estate.monolith_dsn, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA away")
        for table in ("inventory_requests", "reservations", "inventory"):
            conn.execute(f"ALTER TABLE {table} SET SCHEMA away".encode())
    try:
        plain = ("-p", "no:asyncio", "-p", "no:randomly", "-p", "no:cacheprovider")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *plain, str(reduced / "tests")],
            env=dict(estate.environment()),
            cwd=estate.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        estate.deploy_monolith(code=reduced, inventory_url=estate.service_url)
        assert get(f"{estate.monolith_url}/api/products/1")["id"] == 1
    finally:
        with psycopg.connect(estate.monolith_dsn, autocommit=True) as conn:
            for table in ("inventory", "reservations", "inventory_requests"):
                conn.execute(f"ALTER TABLE away.{table} SET SCHEMA public".encode())
            conn.execute("DROP SCHEMA away")
        estate.deploy_monolith(code=Path(ledger.__file__).parent / "monolith", reserve="table")
