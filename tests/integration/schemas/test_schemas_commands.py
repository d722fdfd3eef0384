"""``fig schema``: a team's pipeline against a registry in the control database and one by its URL."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from examples.servers import fetch
from stranglerfig.cli.main import invoke
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.schemas.store import SchemaStore
from tests.integration.schemas.conftest import record

if TYPE_CHECKING:
    from tests.conftest import Server

EXTRACTION = """\
context: inventory
service: {url: "http://127.0.0.1:8002", database: "postgresql://x@127.0.0.1:1/x"}
routes: {reads: [{path: /api/stock, methods: [GET]}]}
tables:
  - {from: public.inventory, to: stock, key: {item: item_id}}
"""
PARSER = ["@asyncapi/parser@3.6.3"]
VALIDATE = """
import { Parser } from '@asyncapi/parser';
import { readFileSync } from 'node:fs';
const { diagnostics } = await new Parser().parse(readFileSync(0, 'utf8'));
console.log(JSON.stringify(diagnostics.filter(found => found.severity === 0).map(found => found.message)));
"""
Run = Callable[..., tuple[int, str, str]]


def event(**properties: str) -> dict[str, Any]:
    fields = {name: {"type": kind} for name, kind in properties.items()}
    return {"type": "object", "properties": fields, "required": list(properties), "additionalProperties": False}


@pytest.fixture
async def project(postgres: Server, tmp_path: Path) -> Path:
    """A project whose control database is the test's: registry and log are in it."""
    dsn = postgres.database()
    estate = {"name": "shop", "monolith": {"url": "http://127.0.0.1:8001", "database": dsn}, "control": dsn}
    (tmp_path / "fig.yaml").write_text(json.dumps(estate))
    folder = tmp_path / "contexts" / "inventory"
    (folder / "schemas").mkdir(parents=True)
    (folder / "extraction.yaml").write_text(EXTRACTION)
    store = SchemaStore(dsn)
    await store.prepare()
    await store.close()
    log = PostgresLog(dsn)
    await log.migrate()
    await log.create_topic("events.inventory")
    await log.create_topic("changes.inventory")
    for group in ("low-stock", "invoices"):
        await (await log.subscribe(["events.inventory"], group)).close()
    await log.close()
    return tmp_path


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, directory: Path = project) -> tuple[int, str, str]:
        as_json = "--json" in words
        status = invoke(
            [*(("--json",) if as_json else ()), "--project", str(directory), *(w for w in words if w != "--json")],
            as_json=as_json,
        )
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def write(project: Path, name: str, content: Any) -> str:
    file = project / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def test_a_schema_is_registered_checked_and_told(run: Run, project: Path) -> None:
    first = write(project, "order.avsc", record(("id", "long")))
    second = write(project, "next.avsc", record(("id", "long"), ("note", "string", "")))
    broken = write(project, "broken.avsc", record(("id", "string")))
    assert run("schema", "history")[1] == "Nothing is registered yet.\n"
    assert run("schema", "register", "orders-value", first, "--dry-run")[1] == (
        "order.avsc could be registered for orders-value.\n"
    )
    assert run("schema", "history", "orders-value")[0] == 4
    status, out, _ = run("schema", "register", "orders-value", first, "--by", "Ann", "--level", "full", "--json")
    assert status == 0 and json.loads(out) == {"subject": "orders-value", "version": 1, "id": 1, "dry_run": False}
    assert "version 1 of orders-value (id 1)" in run("schema", "register", "orders-value", first)[1]
    assert run("schema", "check", "orders-value", second)[:2] == (
        0,
        "orders-value: next.avsc can be registered (FULL)\n",
    )
    run("schema", "register", "orders-value", second)
    status, out, err = run("schema", "register", "orders-value", broken)
    assert status == 3 and "nobody reads orders yet" in err and "id" in err
    status, out, _ = run("schema", "history", "orders-value")
    assert status == 0 and "Ann" in out and "note" in out.splitlines()[-1]
    assert "note" in run("schema", "diff", "orders-value")[1] == run("schema", "diff", "orders-value", "1", "2")[1]
    assert json.loads(run("schema", "diff", "orders-value", "2", "2", "--json")[1])["changes"] == []
    assert run("schema", "diff", "orders-value", "1", "7")[0] == 4
    assert run("schema", "history")[1] == "orders-value  2 version(s)  FULL\n"


def test_a_break_names_the_consumers_that_it_would_hurt(run: Run, project: Path) -> None:
    folder = project / "contexts" / "inventory" / "schemas"
    assert "no schemas yet" in run("schema", "check")[1]
    write(folder, "StockAdded.v1.json", event(item="integer", amount="integer"))
    write(folder, "StockMoved.v1.json", {**event(item="integer"), "x-fig-generated": "0011"})
    assert run("schema", "check")[0] == 0
    for name in ("StockAdded", "StockMoved"):
        run("schema", "register", f"inventory.{name}", str(folder / f"{name}.v1.json"), "--level", "FULL")
    write(folder, "StockAdded.v2.json", event(item="integer"))
    status, out, _ = run("schema", "check")
    assert status == 1
    assert "inventory.StockAdded cannot change so:" in out and "amount" in out
    assert "it would hurt who reads events.inventory: invoices, low-stock" in out
    assert "inventory.StockMoved: StockMoved.v1.json can be registered (FULL)" in out
    status, out, _ = run("schema", "check", "--json")
    rows = {row["subject"]: row for row in json.loads(out)}
    assert status == 1 and rows["inventory.StockAdded"]["consumers"] == ["invoices", "low-stock"]
    assert rows["inventory.StockAdded"]["problems"][0]["path"] and rows["inventory.StockMoved"]["compatible"]


def test_mistakes_of_usage_are_told(run: Run, project: Path) -> None:
    odd = write(project, "order.txt", "{}")
    for words in (
        ("check", "only-a-subject"),
        ("check", "s", odd),
        ("register", "s", odd, "--format", "JSON", "--reference", "x"),
        ("register", "s", odd, "--format", "JSON", "--level", "SIDEWAYS"),
        ("serve", "--listen", "nowhere"),
    ):
        assert run("schema", *words)[0] == 2, words
    status, _, err = run("schema", "check", "s", write(project, "broken.avsc", "{"), "--json")
    assert status == 2 and json.loads(err)["error"]["code"] == "schema_invalid"


@pytest.fixture
def served(project: Path) -> Iterator[str]:
    """The installed server on the project's database."""
    with subprocess.Popen(
        [sys.executable, "-m", "stranglerfig.cli.main", "--json", "--project", str(project), "schema", "serve"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = ""
        while not lines.rstrip().endswith("}"):
            lines += process.stdout.readline()
        yield json.loads(lines)["url"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_pipeline_asks_by_url_without_a_project(run: Run, project: Path, served: str, tmp_path: Path) -> None:
    with urllib.request.urlopen(f"{served}/health") as answer:
        assert json.load(answer)["status"] == "ok"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    first = write(elsewhere, "money.avsc", record(("cents", "long"), name="shop.Money"))
    order = write(elsewhere, "order.avsc", record(("total", "shop.Money")))
    broken = write(elsewhere, "broken.avsc", record(("cents", "string"), name="shop.Money"))

    def ask(*words: str) -> tuple[int, str, str]:
        return run("schema", "--registry", served, *words, directory=elsewhere)

    assert ask("register", "money", first, "--level", "FULL")[0] == 0
    assert ask("register", "orders-value", order, "--reference", "shop.Money=money:1")[0] == 0
    assert ask("check", "money", first)[:2] == (0, "money: money.avsc can be registered (FULL)\n")
    status, out, _ = ask("check", "money", broken)
    assert status == 1 and "who reads events.money is not known" in out
    assert ask("history", "none")[0] == 4
    # The project whose fig.yaml names it by URL sees the same.
    estate = json.loads((project / "fig.yaml").read_text()) | {"schemas": served}
    (project / "fig.yaml").write_text(json.dumps(estate))
    assert "money" in run("schema", "history")[1]


def problems_of(document: str) -> list[str]:
    """What AsyncAPI's own parser finds wrong."""
    folder = fetch.npm("asyncapi", PARSER)
    script = folder / "validate.mjs"
    script.write_text(VALIDATE)
    done = subprocess.run(["node", str(script)], input=document, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_estates_document_is_valid_by_asyncapis_own_parser(run: Run, project: Path) -> None:
    money = write(project, "money.json", {"$id": "money", **event(cents="integer")})
    run("schema", "register", "shop.Money", money)
    order = {
        "type": "object",
        "properties": {"total": {"$ref": "money"}, "to": {"$ref": "#/definitions/place"}},
        "definitions": {"place": {"type": "object", "properties": {"within": {"$ref": "#/definitions/place"}}}},
    }
    write(project, "order.json", order)
    for words in (
        ("inventory.Ordered", str(project / "order.json"), "--reference", "money=shop.Money:1"),
        ("a topic/with signs-value", write(project, "o.avsc", record(("id", "long")))),
        ("avro.Money", write(project, "m.avsc", record(("cents", "long"), name="shop.Money"))),
        (
            *("paid-value", write(project, "p.avsc", record(("sum", "shop.Money"), ("kept", ["null", "shop.Money"])))),
            *("--reference", "shop.Money=avro.Money:1"),
        ),
        ("proto-value", write(project, "o.proto", 'syntax = "proto3"; message Order { int64 id = 1; }')),
    ):
        status, _, err = run("schema", "register", *words)
        assert status == 0, err
    file = project / "asyncapi.json"
    assert run("schema", "docs", "--output", str(file))[0] == 0
    found = json.loads(file.read_text())
    assert set(found["channels"]) == {
        "events.inventory",
        "events.shop",
        "events.avro",
        "paid",
        "a_topic_with_signs",
        "proto",
    }
    assert found["operations"]["read.events.inventory.low-stock"]["action"] == "receive"
    assert found["channels"]["events.inventory"]["messages"]["inventory.Ordered"]["x-version"] == 1
    assert problems_of(file.read_text()) == []
    found["operations"]["send.proto"]["action"] = "shout"
    assert problems_of(json.dumps(found)) != [], "the parser does find what is wrong"
