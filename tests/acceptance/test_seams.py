"""``fig seams`` over the shop's monolith, as an architect runs it: Inventory among the first, and why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Server

pytestmark = pytest.mark.acceptance
FIG = str(Path(sys.executable).with_name("fig"))
MONOLITH = Path(__file__).parents[2] / "examples/shop/monolith"
INVENTORY = ["inventory", "inventory_requests", "reservations"]


@pytest.fixture(scope="module")
def project(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a shop whose database is there, empty."""
    dsn = postgres.database()
    for role in ("shop_app", "shop_nightly"):
        postgres.role(role)
    with psycopg.connect(dsn) as conn:
        conn.execute((MONOLITH / "schema.sql").read_bytes())
    folder = tmp_path_factory.mktemp("project")
    (folder / "fig.yaml").write_text(f"name: shop\nmonolith: {{url: http://127.0.0.1:8001, database: {dsn}}}\n")
    return folder


def fig(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FIG, "--project", str(project), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_inventory_is_among_the_first_and_every_claim_has_its_evidence(project: Path) -> None:
    done = fig(project, "--json", "seams", "--source", str(MONOLITH))
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
    assert coverage == {"catalogue": "read", "statements": "absent", "python": "read", "git": "not asked"}


def test_from_a_candidate_straight_to_a_draft_and_a_picture(project: Path, tmp_path: Path) -> None:
    folder = project / "contexts" / "inventory"
    folder.mkdir(parents=True)
    draft, picture = folder / "model.storm", tmp_path / "seams.svg"
    done = fig(project, "seams", "--source", str(MONOLITH), "--svg", str(picture), "--draft", "inventory", str(draft))
    assert done.returncode == 0, done.stderr
    assert "\nBegin with inventory." in done.stdout and done.stdout.rstrip().endswith(f"Written: {draft}")
    text = draft.read_text()
    assert "    command AdjustInventory(item_id: int)\n" in text
    assert "    event InventoryAdjusted(item_id: int) v1 key item_id\n" in text
    assert "POST" not in text and picture.read_text().startswith("<svg")
    found = json.loads(fig(project, "--json", "model", "lint", "inventory").stdout)
    assert [each["code"] for each in found if each["severity"] == "error"] == ["open_hotspot"]


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["--draft", "billing", "FOLDER/model.storm"], 4, "unknown_candidate"),
        (["--draft", "inventory", "FOLDER/none/model.storm", "--svg", "FOLDER/a.svg"], 1, "file_unwritable"),
        (["--draft", "inventory", "FOLDER/there.storm", "--svg", "FOLDER/a.svg"], 3, "file_exists"),
        (["--value", "goods=3"], 2, "unknown_table"),
        (["--value", "items"], 2, "usage"),
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
