"""Routes by queue and the broker: what is wrong is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from test_runtime_settings import EXTRACTION, GOOD

from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import yamlfile
from stranglerfig.runtime.settings import load_project

QUEUED = EXTRACTION.replace(
    '  reads: [{path: "/api/inventory/{itemId}"}]\n',
    """\
  reads: [{path: "/api/inventory/{itemId}"}, {queue: shop.commands, types: [GetStock]}]
  writes:
    - {path: /api/inventory/adjust, methods: [POST]}
    - {queue: shop.commands, types: [AdjustStock, ReserveItem]}
queues:
  shop.commands:
    monolith: shop.commands.monolith
    service: inventory.commands
    key: header:item
    command_id: message_id
""",
)
BROKER = GOOD + "broker: {url: {env: BROKER}, metrics: [http://127.0.0.1:15692/]}\n"


def parsed(folder: Path, text: str) -> ExtractionSettings:
    file = folder / "extraction.yaml"
    file.write_text(text)
    return yamlfile.parse(yamlfile.read(file), ExtractionSettings)


def test_routes_by_queue_stand_beside_those_by_path(tmp_path: Path) -> None:
    found = parsed(tmp_path, QUEUED)
    assert [route.path for route in found.routes.http_reads] == ["/api/inventory/{itemId}"]
    assert [route.types for route in found.routes.queue_reads] == [("GetStock",)]
    assert [route.path for route in found.routes.http_writes] == ["/api/inventory/adjust"]
    assert [route.types for route in found.routes.queue_writes] == [("AdjustStock", "ReserveItem")]
    assert found.queues["shop.commands"].type == "type" and found.queues["shop.commands"].prefetch == 1000


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("types: [GetStock]", "types: []", 4, "routes.reads[1].types"),
        ("types: [GetStock]", "types: [A, A]", 4, "each type once; twice here: A"),
        ("types: [GetStock]", "typs: [GetStock]", 4, "did you mean 'types'?"),
        ("key: header:item", "key: item", 12, "queues.shop.commands.key: found 'item'; allowed: type, message_id"),
        ("    monolith: shop.commands.monolith\n", "", 9, "monolith: is missing"),
        ("service: inventory.commands", "service: amq.x", 11, "does not begin with amq."),
        ("service: inventory.commands", "service: shop.commands.monolith", 9, "a queue of their own each"),
        ("service: inventory.commands", "service: shop.commands", 1, "leads back into the inbound queue"),
        ("types: [AdjustStock, ReserveItem]", "types: [GetStock]", 1, "is in routes.reads and routes.writes"),
        ("- {queue: shop.commands,", "- {queue: other,", 1, "names the queue 'other'; allowed: a key of queues"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in QUEUED
    with pytest.raises(FigError) as caught:
        parsed(tmp_path, QUEUED.replace(old, new))
    assert caught.value.code == "bad_configuration"
    assert says in caught.value.message and f"extraction.yaml:{line}:" in caught.value.message, caught.value.message


def test_a_queue_that_no_route_names_is_a_mistake(tmp_path: Path) -> None:
    data = yaml.safe_load(QUEUED.replace(" on:", ' "on":'))
    data["queues"]["unused"] = {"monolith": "a", "service": "b"}
    with pytest.raises(FigError, match="no route names the queue 'unused'"):
        parsed(tmp_path, yaml.safe_dump(data))


def test_the_brokers_address_is_found_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "fig.yaml").write_text(BROKER)
    found = load_project(tmp_path, {"SHOP_DSN": "postgresql://a@b/c", "BROKER": "amqp://fig:secret@rabbit/shop"})
    assert found.estate.broker is not None
    assert found.reveal(found.estate.broker.url) == "amqp://fig:secret@rabbit/shop"
    assert found.estate.broker.metrics == ("http://127.0.0.1:15692",)
    assert "secret" not in repr(found)
    wrong = load_project(tmp_path, {"BROKER": "http://fig:secret@rabbit"})
    assert wrong.estate.broker is not None
    with pytest.raises(FigError, match="value of BROKER is not a broker's address") as caught:
        wrong.reveal(wrong.estate.broker.url)
    assert caught.value.code == "bad_address" and "secret" not in str(caught.value)
    (tmp_path / "fig.yaml").write_text(GOOD + "broker: {url: {env: BROKER}, metrics: [rabbit]}\n")
    with pytest.raises(FigError, match="an address is written http://host:15692, not rabbit"):
        load_project(tmp_path, {})
