"""``fig seams`` over the shop's monolith, as an architect runs it: Inventory among the first, and why."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import aiohttp
import psycopg
import pytest

from stranglerfig.console.shared import read as board_of
from stranglerfig.storming.board import to_board
from stranglerfig.storming.text import parse
from tests.conftest import MonolithOnMariaDB, Server
from tests.storm import Client, Storm

pytestmark = pytest.mark.acceptance
FIG = str(Path(sys.executable).with_name("fig"))
MONOLITH = Path(__file__).parents[2] / "examples/shop/monolith"
AGREED = MONOLITH.parent / "estate/contexts/inventory/model.storm"
"""What those who run the inventory have signed."""
INVENTORY = ["inventory", "inventory_requests", "reservations"]
ITEMS = """
INSERT INTO products (id, sku, name, price_cents) SELECT i, 'S' || i, 'Item', 100 FROM generate_series(1, 20) AS i;
INSERT INTO customers (id, name, email) VALUES (1, 'Ada', 'ada@example.org');
INSERT INTO inventory (item_id, sku, name, quantity) SELECT id, sku, name, 1000000 FROM products;
"""
ASKED = (
    *(("POST", "/api/inventory/adjust", {"item_id": item, "delta": 3}) for item in (1, 2, 3)),
    ("POST", "/api/inventory/reserve", {"item_id": 4, "qty": 1}),
    ("POST", "/api/orders", {"customer_id": 1, "lines": [{"item_id": 5, "qty": 1}]}),
    ("GET", "/api/inventory/6", None),
    ("GET", "/api/products/7?currency=EUR", None),
    ("GET", "/health", None),
)


@pytest.fixture(scope="module")
def project(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a shop whose database is there, with some items on stock."""
    dsn = postgres.database()
    for role in ("shop_app", "shop_nightly"):
        postgres.role(role)
    with psycopg.connect(dsn) as conn:
        conn.execute((MONOLITH / "schema.sql").read_bytes())
        conn.execute(ITEMS)
    folder = tmp_path_factory.mktemp("project")
    (folder / "fig.yaml").write_text(f"name: shop\nmonolith: {{url: http://127.0.0.1:8001, database: {dsn}}}\n")
    return folder


def fig(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FIG, "--project", str(project), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def dsn_of(project: Path) -> str:
    return (project / "fig.yaml").read_text().partition("database: ")[2].rstrip("}\n")


@contextmanager
def at_work(project: Path, log: Path) -> Iterator[None]:
    """The monolith itself, asked for one thing after the other; ``log`` gets what a façade would write of it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd, base = listening.fileno(), f"http://127.0.0.1:{listening.getsockname()[1]}"
        environment = os.environ | {"SHOP_DSN": dsn_of(project), "SHOP_FD": str(fd), "SHOP_DRAIN": "0"}
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.shop.monolith"], env=environment, pass_fds=[fd], cwd=MONOLITH.parents[2]
        )
    begun, ended = threading.Event(), threading.Event()

    def ask() -> None:
        with log.open("w") as written:
            for number, (method, path, body) in enumerate(itertools.cycle(ASKED)):
                if ended.is_set():
                    return
                data = None if body is None else json.dumps(body).encode()
                headers = {"Idempotency-Key": f"seams-{number}", "Content-Type": "application/json"}
                with urlopen(Request(f"{base}{path}", data, headers, method=method), timeout=20) as answer:
                    assert answer.status == 200
                written.write(json.dumps({"method": method, "path": path, "route": "pass"}) + "\n")
                written.flush()
                if number == len(ASKED):
                    begun.set()
                ended.wait(0.005)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        ended.set()
        asking.join()
        process.terminate()
        process.wait(timeout=20)


def test_inventory_is_among_the_first_and_every_claim_has_its_evidence(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with at_work(project, log):
        done = fig(project, "--json", "seams", "--source", str(MONOLITH), "--sample", "4s", "--access-log", str(log))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["first"] == "inventory"
    inventory = next(each for each in told["candidates"] if each["name"] == "inventory")
    assert inventory["tables"] == INVENTORY and inventory["front"] == 1 and inventory["place"] <= 2
    assert inventory["stability"] > 0.75
    assert sorted(inventory["exclusive_routes"]) == [
        "GET /api/inventory/{item_id:int}",
        "POST /api/inventory/adjust",
        "POST /api/inventory/release",
        "POST /api/inventory/reserve",
    ]
    assert [each["name"] for each in inventory["cut"]] == ["POST /api/orders"]
    against = "\n".join(line for doubt in inventory["doubts"] for line in doubt["evidence"])
    assert "orders.py:" in against and "UPDATE inventory SET reserved" in against
    assert "inventory_item_id_fkey: FOREIGN KEY (item_id) REFERENCES products(id)" in against
    coverage = {each["source"]: each["state"] for each in told["coverage"]}
    assert coverage == {
        "catalogue": "read",
        "statements": "absent",
        "transactions": "read",
        "python": "read",
        "git": "not asked",
        "traces": "not asked",
        "traffic": "read",
    }
    # Of five that write one is an order; of seven to routes that reach tables, six reach its, and five no others.
    assert inventory["entangled_share"] == pytest.approx(0.2, abs=0.1)
    assert {(each["table"], each["of"] > 10) for each in inventory["written_with"]} == {
        ("orders", True),
        ("order_lines", True),
        ("payments", True),
    }
    assert (inventory["traffic"], inventory["own_traffic"]) == pytest.approx((6 / 7, 5 / 7), abs=0.1)
    assert "written in one with payments in " in against
    with psycopg.connect(dsn_of(project)) as conn:
        left = (
            "SELECT (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_replication_slots WHERE temporary)"
        )
        assert conn.execute(left).fetchone() == (0, 0)


def test_what_if_a_table_were_in_another_context(project: Path) -> None:
    asked = ("--without-database", "--source", str(MONOLITH), "--move", "reservations=orders")
    done = fig(project, "--json", "seams", *asked)
    assert done.returncode == 0, done.stderr
    what = json.loads(done.stdout)["what_if"]
    inventory = next(each for each in what["candidates"] if each["name"] == "inventory")
    assert inventory["tables"] == {"before": INVENTORY, "after": INVENTORY[:2]}
    figures = inventory["figures"]
    assert figures["exclusive_routes"] == {"before": 4, "after": 2}
    assert figures["stability"]["before"] > figures["stability"]["after"]
    assert what["figures"]["parts"] == {"before": 4, "after": 4}


async def test_from_a_candidate_straight_to_a_draft_a_picture_and_the_wall(project: Path, tmp_path: Path) -> None:
    folder = project / "contexts" / "inventory"
    folder.mkdir(parents=True)
    draft, picture = folder / "model.storm", tmp_path / "seams.svg"
    asked = ("--source", str(MONOLITH), "--svg", str(picture), "--draft", "inventory", str(draft))
    done = await asyncio.to_thread(fig, project, "seams", *asked)
    assert done.returncode == 0, done.stderr
    assert "\nBegin with inventory." in done.stdout and done.stdout.rstrip().endswith(f"Written: {draft}")
    text = draft.read_text()
    assert "    command AdjustInventory(item_id: int)\n" in text
    assert "    event InventoryAdjusted(item_id: int) v1 key item_id\n" in text
    assert "POST" not in text and picture.read_text().startswith("<svg")
    found = json.loads((await asyncio.to_thread(fig, project, "--json", "model", "lint", "inventory")).stdout)
    assert [each["code"] for each in found if each["severity"] == "error"] == ["open_hotspot"]
    await hangs_from_left_to_right(project, draft)


async def hangs_from_left_to_right(project: Path, draft: Path) -> None:
    """The draft on the wall, as a browser gets it: a command, what it asks, and what has happened then."""
    storm = Storm(project, str(draft))
    await storm.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, storm.link)
            await client.join()
            async with asyncio.timeout(10):
                while len(client.texts()) < 10:
                    await asyncio.sleep(0.01)
            hung = board_of(client.doc)
            status, text = await client.ask("GET", "text")
            await client.leave()
    finally:
        await storm.end()
    said = list(filter(None, draft.read_text().splitlines()))
    assert status == 200 and [line for line in text.splitlines() if line in said] == said
    assert [each.name for each in hung.contexts.values()] == ["Inventory"]
    by_kind: dict[str, dict[str, int]] = {}
    for note in hung.notes.values():
        by_kind.setdefault(note.kind, {})[note.text] = note.x
    assert set(by_kind["command"]) == {"AdjustInventory", "ReserveInventory", "ReleaseInventory"}
    assert set(by_kind["aggregate"]) == {"Inventory", "InventoryRequest", "Reservation"}
    assert max(by_kind["command"].values()) < by_kind["aggregate"]["Inventory"] < min(by_kind["event"].values())
    assert len({(note.x, note.y) for note in hung.notes.values()}) == len(hung.notes) == 10


async def test_the_model_that_the_shop_moves_by_is_the_draft_corrected_on_the_wall(
    project: Path, tmp_path: Path
) -> None:
    """Corrected as on the day: beginning with the draft, under the eyes of who else is there, with its places kept."""
    draft = project / "draft.storm"
    asked = ("--without-database", "--source", str(MONOLITH), "--draft", "inventory", str(draft))
    assert (await asyncio.to_thread(fig, project, "seams", *asked)).returncode == 0
    storm = Storm(project, str(draft))
    await storm.start()
    try:
        async with aiohttp.ClientSession() as session:
            corrector, onlooker = Client(session, storm.link), Client(session, storm.reads_only)
            await corrector.join()
            await onlooker.join()
            await onlooker.until(*hanging(draft))
            status, touched = await corrector.ask("POST", "text", AGREED.read_text())
            assert status == 200 and touched["touched"] > 20
            async with asyncio.timeout(10):
                while "StockAdjusted" not in onlooker.texts() or "InventoryAdjusted" in onlooker.texts():
                    await asyncio.sleep(0.01)
            assert (await corrector.ask("PUT", "file"))[0] == 200
            await corrector.leave()
            await onlooker.leave()
    finally:
        await storm.end()
    compared = await asyncio.to_thread(fig, project, "--json", "model", "diff", str(AGREED), str(draft))
    assert compared.returncode == 0, compared.stderr
    said = json.loads(compared.stdout)
    assert said["same_meaning"] and not said["changes"]
    hashes = [json.loads(fig(project, "--json", "model", "hash", str(file)).stdout)["hash"] for file in (AGREED, draft)]
    assert hashes[0] == hashes[1] and f" of {hashes[0]}" in AGREED.read_text()


def hanging(draft: Path) -> list[str]:
    """What hangs on a wall of this text."""
    return sorted(note.text for note in to_board(parse(draft.read_text())).notes.values())


JAVA = """
package shop;
@Entity class Item { @OneToMany(cascade = CascadeType.ALL) @JoinColumn List<Stock> stock; }
@Entity class Stock {}
@Entity @Table(name = "Customers") class Customer {}
interface Items extends JpaRepository<Item, Long> {}
interface Customers extends JpaRepository<Customer, Long> {}
@RestController class Shop {
    Items items; Customers customers;
    @GetMapping("/items/{id}") Item one(@PathVariable long id) { return items.findById(id).orElseThrow(); }
    @PostMapping("/items") void add(@RequestBody Item item) { items.save(item); }
    @PutMapping("/customers/{id}") void rename(@RequestBody Customer customer) { customers.save(customer); }
}
"""


def test_a_monolith_in_java_on_mariadb(mariadb: MonolithOnMariaDB, tmp_path: Path) -> None:
    database = mariadb.database()
    with mariadb.session(database) as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE item (id bigint PRIMARY KEY)")
        cursor.execute("CREATE TABLE stock (id bigint PRIMARY KEY, item bigint REFERENCES item (id))")
        cursor.execute("CREATE TABLE customers (id bigint PRIMARY KEY, name varchar(80))")
    (tmp_path / "fig.yaml").write_text(
        f"name: shop\nmonolith: {{url: http://127.0.0.1:8001, database: '{mariadb.server.url(database)}'}}\n"
    )
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "Shop.java").write_text(JAVA)
    done = fig(
        tmp_path, "--json", "seams", "--source", str(tmp_path / "src"), "--draft", "item", str(tmp_path / "m.storm")
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sorted(each["tables"] for each in told["candidates"]) == [["customers"], ["item", "stock"]]
    item = next(each for each in told["candidates"] if each["name"] == "item")
    assert sorted(item["exclusive_routes"]) == ["GET /items/{id}", "POST /items"]
    states = {each["source"]: each["state"] for each in told["coverage"]}
    assert (states["catalogue"], states["java"], states["statements"]) == ("read", "read", "absent")
    assert "python" not in states and "Item" in (tmp_path / "m.storm").read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["--draft", "billing", "FOLDER/model.storm"], 4, "unknown_candidate"),
        (["--draft", "inventory", "FOLDER/none/model.storm", "--svg", "FOLDER/a.svg"], 1, "file_unwritable"),
        (["--draft", "inventory", "FOLDER/there.storm", "--svg", "FOLDER/a.svg"], 3, "file_exists"),
        (["--value", "goods=3"], 2, "unknown_table"),
        (["--value", "items"], 2, "usage"),
        (["--move", "goods=orders"], 2, "unknown_table"),
        (["--move", "inventory="], 2, "usage"),
        (["--access-log", "FOLDER/none"], 2, "access_log_unreadable"),
        (["--statement-log", "FOLDER/none"], 2, "statement_log_unreadable"),
        (["--source", "FOLDER"], 2, "no_sources"),
        (["--git", "FOLDER"], 2, "no_git"),
        (["--without-database"], 3, "no_evidence"),
    ],
)
def test_what_is_refused_changes_nothing(
    project: Path, tmp_path: Path, arguments: list[str], status: int, code: str
) -> None:
    (tmp_path / "there.storm").write_text("context Inventory\n")
    given = [argument.replace("FOLDER", str(tmp_path)) for argument in arguments]
    more = [] if "--source" in given or "--without-database" in given else ["--source", str(MONOLITH)]
    done = fig(project, "--json", "seams", *more, *given)
    assert json.loads(done.stderr)["error"]["code"] == code
    assert done.returncode == status
    assert [each.name for each in tmp_path.iterdir()] == ["there.storm"]
    assert (tmp_path / "there.storm").read_text() == "context Inventory\n"
