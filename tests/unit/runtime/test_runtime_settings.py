"""fig.yaml and extraction.yaml: what is right is read, what is wrong is told exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from stranglerfig.changes.model import Direction
from stranglerfig.changes.settings import DatabaseReference
from stranglerfig.eventlog import describe
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import yamlfile
from stranglerfig.runtime.datadir import DataDirectory
from stranglerfig.runtime.places import registry_url
from stranglerfig.runtime.settings import MonolithReference, load_project
from stranglerfig.runtime.supervise import Supervisor
from stranglerfig.runtime.wiring import through

GOOD = """\
name: shop
monolith:
  url: http://127.0.0.1:8001
  database: {env: SHOP_DSN}
facade: {listen: "127.0.0.1:8080"}
"""
EXTRACTION = """\
context: inventory
service: {url: http://127.0.0.1:8002, database: {file: secret}}
routes:
  reads: [{path: "/api/inventory/{itemId}"}]
tables:
  - from: public.inventory
    to: item
    key: {id: id}
derive:
  - event: inventory.Changed
    on: {table: public.inventory, op: [c]}
    key: new.id
    data: {id: new.id}
"""


def project(folder: Path, text: str = GOOD) -> Path:
    (folder / "fig.yaml").write_text(text)
    return folder


def refused(folder: Path, text: str) -> FigError:
    with pytest.raises(FigError) as caught:
        load_project(project(folder, text), {})
    return caught.value


def test_an_estate_is_read_with_its_defaults(tmp_path: Path) -> None:
    found = load_project(project(tmp_path), {"SHOP_DSN": "postgresql://fig:secret@db.local/shop"})
    assert found.estate.name == "shop" and found.log_url is None
    assert found.estate.listen == ("127.0.0.1", 8080)
    assert found.data_directory == tmp_path / ".fig"
    assert found.reveal(found.estate.monolith.database).endswith("@db.local/shop")
    assert found.describe(found.estate.monolith.database) == "fig@db.local:5432/shop"
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        (GOOD.replace("database", "databse"), 2, "monolith.database", "is missing"),
        (GOOD + "fasade: {}\n", 6, "fasade", "did you mean 'facade'?"),
        (
            GOOD.replace("{env: SHOP_DSN}", "{evn: X}"),
            4,
            "monolith.database.evn",
            "allowed: env, file, command, timeout, dsn",
        ),
        (GOOD.replace("{env: SHOP_DSN}", "5"), 4, "monolith.database", "found 5"),
        (GOOD.replace("{env: SHOP_DSN}", "{env: A, file: b}"), 4, "monolith.database", "exactly one"),
        (GOOD.replace("name: shop", "name: Shop!"), 1, "name", "found 'Shop!'"),
        (GOOD + "log: kafka\n", 6, "log", "allowed: postgres"),
        (GOOD + "name: twice\n", 6, "name", "line 1"),
        ("name: [", 1, "", "expected"),
        ("- a\n", 1, "", "found ['a']"),
        ("", 1, "name", "is missing"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, line: int, key: str, says: str) -> None:
    error = refused(tmp_path, text)
    assert error.code == "bad_configuration"
    assert f"{tmp_path}/fig.yaml:{line}:" in error.message and says in error.message
    assert (error.context["line"], error.context["key"]) == (line, key)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    error = refused(tmp_path, GOOD.replace("database", "databse") + "fasade: {}\n")
    assert [mistake["line"] for mistake in error.context["mistakes"]] == [2, 4, 6]


def test_no_project_is_told(tmp_path: Path) -> None:
    with pytest.raises(FigError) as caught:
        load_project(tmp_path, {})
    assert caught.value.code == "no_configuration"


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "fig.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FigError) as caught:
        load_project(tmp_path, {})
    assert caught.value.code == "no_configuration"


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ({"env": "NONE"}, "secret_missing"),
        ({"file": "none"}, "secret_missing"),
        ({"dsn": "not an address"}, "bad_address"),
    ],
)
def test_a_missing_secret_is_told_and_never_shown(tmp_path: Path, reference: dict[str, str], code: str) -> None:
    found = load_project(project(tmp_path), {})
    database = DatabaseReference.model_validate(reference)
    with pytest.raises(FigError) as caught:
        found.reveal(database)
    assert caught.value.code == code
    assert "not an address" not in caught.value.message
    assert found.describe(database).startswith(("the value of NONE", "the content of none", "what the"))


def test_extractions_are_read_when_asked_for(tmp_path: Path) -> None:
    folder = project(tmp_path) / "contexts" / "inventory"
    folder.mkdir(parents=True)
    (folder / "extraction.yaml").write_text(EXTRACTION)
    (tmp_path / "secret").write_text("postgresql://fig@127.0.0.1:5432/inventory\n")
    found = load_project(tmp_path, {})
    settings = found.extractions["inventory"]
    # 'on' is a key, not a truth, whatever YAML 1.1 thinks of it.
    assert settings.derive[0].on.table == "public.inventory"
    assert found.reveal(settings.service.database).endswith("/inventory")
    assert found.folder("inventory") == folder
    with pytest.raises(FigError) as caught:
        found.folder("orders")
    assert caught.value.code == "unknown_context"


def test_two_extractions_of_one_context_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = project(tmp_path) / "contexts" / name
        folder.mkdir(parents=True)
        (folder / "extraction.yaml").write_text(EXTRACTION)
    with pytest.raises(FigError) as caught:
        _ = load_project(tmp_path, {}).extractions
    assert caught.value.code == "bad_configuration"


OTHER = EXTRACTION.replace("context: inventory", "context: stock").replace("file: secret", "file: other")
OWN_TABLE = OTHER.replace("public.inventory", "public.stock")
OWN_ROUTE = OTHER.replace("/api/inventory", "/api/stock")


@pytest.mark.parametrize(
    ("text", "line", "kind", "what"),
    [
        (OWN_ROUTE, 6, "table", "public.inventory"),
        (OWN_TABLE.replace("{itemId}", "{id}"), 4, "route", "GET /api/inventory"),
        (
            OWN_TABLE.replace("/api/inventory", "/api/stock").replace("file: other", "file: secret"),
            7,
            "table",
            "public.item",
        ),
    ],
)
def test_what_can_move_with_one_context_is_not_claimed_by_two(
    tmp_path: Path, text: str, line: int, kind: str, what: str
) -> None:
    for name, content in (("inventory", EXTRACTION), ("stock", text)):
        (tmp_path / "contexts" / name).mkdir(parents=True)
        (tmp_path / "contexts" / name / "extraction.yaml").write_text(content)
    found = load_project(project(tmp_path), {})
    with pytest.raises(FigError, match="belongs to the context 'inventory'") as caught:
        _ = found.extractions
    assert caught.value.code == "bad_configuration" and caught.value.context["line"] == line
    assert f"the {kind} {what}" in caught.value.message


def test_two_extractions_side_by_side(tmp_path: Path) -> None:
    apart = OWN_TABLE.replace("/api/inventory", "/api/stock")
    for name, content in (("inventory", EXTRACTION), ("stock", apart)):
        (tmp_path / "contexts" / name).mkdir(parents=True)
        (tmp_path / "contexts" / name / "extraction.yaml").write_text(content)
    assert list(load_project(project(tmp_path), {}).extractions) == ["inventory", "stock"]


def test_a_mistake_deep_in_a_list_has_its_line(tmp_path: Path) -> None:
    folder = project(tmp_path) / "contexts" / "inventory"
    folder.mkdir(parents=True)
    (folder / "extraction.yaml").write_text(EXTRACTION.replace("    to: item\n", "    too: item\n"))
    with pytest.raises(FigError) as caught:
        _ = load_project(tmp_path, {}).extractions
    keys = {(mistake["line"], mistake["key"]) for mistake in caught.value.context["mistakes"]}
    assert keys == {(6, "tables[0].to"), (7, "tables[0].too")}


def test_yaml_is_read_by_the_rules_of_1_2(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("on: off\nat: 2024-01-01\nn: 12\nf: 1e-4\nt: true\nnothing: ~\nempty:\nclock: 12:30\n")
    data = yamlfile.read(file).data
    assert data == {
        "on": "off",
        "at": "2024-01-01",
        "n": 12,
        "f": 1e-4,
        "t": True,
        "nothing": None,
        "empty": None,
        "clock": "12:30",
    }


def test_the_log_is_an_address_or_where_one_is(tmp_path: Path) -> None:
    there = load_project(project(tmp_path, GOOD + "log: kafka://a:9092,b:9092\n"), {})
    assert there.log_url == "kafka://a:9092,b:9092"
    folder = project(tmp_path, GOOD + "log: {env: LOG}\n")
    hidden = load_project(folder, {"LOG": "kafka://u:secret@a:9092"})
    assert hidden.log_url == "kafka://u:secret@a:9092"
    assert "secret" not in repr(hidden)
    assert describe("kafka://u:secret@a:9092/x?sasl.password=secret") == "kafka://a:9092/x"
    with pytest.raises(FigError, match="LOG, which the configuration names, is not set"):
        _ = load_project(folder, {}).log_url


@pytest.mark.parametrize(
    ("text", "url", "roles"),
    [
        ("", "http://127.0.0.1:7", True),
        ("schemas: embedded\n", "http://127.0.0.1:7", True),
        ("schemas: {listen: 127.0.0.1:8081}\n", "http://127.0.0.1:8081", True),
        ("schemas: https://registry.example.com\n", "https://registry.example.com", False),
    ],
)
def test_the_registry_is_ours_or_another(tmp_path: Path, text: str, url: str, roles: bool) -> None:
    found = load_project(project(tmp_path, GOOD + text), {})
    assert registry_url(found, {"registry": 7}) == url
    supervisor = Supervisor(found, DataDirectory(tmp_path / ".fig"))
    assert ("registry" in supervisor._roles) is roles


def test_the_other_registrys_credentials_are_elsewhere(tmp_path: Path) -> None:
    text = "schemas: {url: 'http://r:8081', credentials: {%s}}\n"
    found = load_project(project(tmp_path, GOOD + text % "env: LOGIN"), {"LOGIN": "ann:secret"})
    assert found.estate.schemas.credentials is not None
    assert found.secret(found.estate.schemas.credentials) == "ann:secret"
    assert "secret" not in repr(found)
    error = refused(tmp_path, GOOD + text % "env: A, file: b")
    assert "exactly one" in error.message
    assert refused(tmp_path, GOOD + "schemas: http://ann:secret@r:8081\n").code == "bad_configuration"


def test_who_names_no_registry_before_a_start_has_none(tmp_path: Path) -> None:
    assert registry_url(load_project(project(tmp_path), {}), {}) is None


CONNECT = """\
connect:
  url: http://connect:8083
  kafka: a:9092,b:9092
  client: kafka.properties
  passwords: {monolith: "${file:/run/pg:monolith}"}
"""


def test_debezium_needs_a_kafka_connect(tmp_path: Path) -> None:
    file = tmp_path / "contexts/inventory/extraction.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(EXTRACTION + "capture: debezium\n")
    with pytest.raises(FigError) as raised:
        load_project(project(tmp_path), {}).extractions  # noqa: B018  read when asked for
    assert raised.value.code == "bad_configuration"
    assert f"{file}:{EXTRACTION.count(chr(10)) + 1}: capture:" in raised.value.message
    found = load_project(project(tmp_path, GOOD + CONNECT), {})
    assert found.extractions["inventory"].capture == "debezium"
    with pytest.raises(FigError) as missing:
        through(found)
    assert missing.value.code == "secret_missing"
    (tmp_path / "kafka.properties").write_text("# TLS\nsecurity.protocol = ssl\nssl.key.password=s3=cret\n\n")
    made = through(found)
    assert made is not None and (made.url, made.servers) == ("http://connect:8083", "a:9092,b:9092")
    assert made.client == {"security.protocol": "ssl", "ssl.key.password": "s3=cret"} and "s3=cret" not in repr(made)
    assert dict(made.passwords) == {Direction.FORWARD: "${file:/run/pg:monolith}"}
    assert through(load_project(project(tmp_path), {})) is None
    assert load_project(project(tmp_path, GOOD + "connect: {url: http://c, kafka: 'a:1'}\n"), {}).kafka_client() == {}


@pytest.mark.parametrize("text", ["connect: {kafka: 'a:1'}", "connect: {url: http://c, kafka: kafka://a}"])
def test_a_kafka_connect_has_a_url_and_brokers(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, GOOD + text + "\n").code == "bad_configuration"


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_only_the_monolith_may_be_on_a_mariadb(tmp_path: Path, scheme: str) -> None:
    address = f"{scheme}://shop:s3cret@db/shop"
    found = load_project(project(tmp_path, GOOD), {"SHOP_DSN": address})
    assert found.reveal(MonolithReference(dsn=address)) == address
    with pytest.raises(FigError) as raised:
        found.reveal(DatabaseReference(dsn=address))
    assert raised.value.code == "postgresql_needed" and "shop@db:3306/shop" in raised.value.message
    assert "s3cret" not in str(raised.value.as_dict())
    with pytest.raises(FigError) as raised:
        found.reveal(MonolithReference(dsn=f"{address}?ssl=1"))
    assert raised.value.code == "bad_address" and "s3cret" not in str(raised.value.as_dict())
