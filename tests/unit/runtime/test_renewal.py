"""What ``fig up`` takes up of changed files, and what it refuses and goes on without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.runtime.renewal import Renewal, fixed
from stranglerfig.runtime.settings import Project, load_project

ESTATE = "name: shop\nmonolith: {url: http://127.0.0.1:8001, database: {env: SHOP_DSN}}\n"
INVENTORY = """\
context: inventory
service: {url: "http://127.0.0.1:1", database: {env: X}}
routes: {reads: [{path: "/api/inventory/{itemId}"}]}
tables: [{from: public.inventory, to: item, key: {id: id}}]
"""
CATALOGUE = INVENTORY.replace("inventory", "catalogue").replace("to: item", "to: product")


def write(folder: Path, name: str, text: str) -> None:
    file = folder / "contexts" / name / "extraction.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def renewal(tmp_path: Path) -> Renewal:
    (tmp_path / "fig.yaml").write_text(ESTATE)
    write(tmp_path, "inventory", INVENTORY)

    async def made(project: Project, settings: ExtractionSettings) -> Mapping[str, Any]:
        return {"remaining_writers": "refuse"}

    return Renewal(load_project(tmp_path, {"X": "postgresql://a@h/x", "Y": "postgresql://a@h/y"}), made)


def look(renewal: Renewal, *streaming: str) -> Project | None:
    async def running() -> tuple[str, ...]:
        return streaming

    return asyncio.run(renewal.look(running))


def test_a_new_context_is_taken_up_once(renewal: Renewal, tmp_path: Path) -> None:
    assert look(renewal) is None
    write(tmp_path, "catalogue", CATALOGUE)
    found = look(renewal, "inventory")
    assert found is not None and sorted(found.extractions) == ["catalogue", "inventory"]
    # While a cut-over is under way nobody takes it: it is said again.
    assert look(renewal, "inventory") is not None
    renewal.taken(found)
    assert look(renewal, "inventory") is None and renewal.refused is None


def test_where_a_service_listens_starts_nothing_anew(renewal: Renewal, tmp_path: Path) -> None:
    write(tmp_path, "inventory", INVENTORY.replace("127.0.0.1:1", "127.0.0.1:2"))
    assert look(renewal, "inventory") is None and renewal.refused is None


def test_what_can_change_under_running_streams(renewal: Renewal, tmp_path: Path) -> None:
    write(tmp_path, "inventory", INVENTORY + "facade: {shadow_share: 50}\n")
    found = look(renewal, "inventory")
    assert found is not None and found.extractions["inventory"].facade.shadow_share == 50


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda text: text.replace("to: item", "to: thing"), "tables"),
        (lambda text: text.replace("env: X", "env: Y"), "service.database"),
        (lambda text: text.replace("env: X}", "env: X}, outbox: public.outbox"), "service.outbox"),
    ],
)
def test_what_running_streams_are_made_from_waits(
    renewal: Renewal, tmp_path: Path, change: Callable[[str], str], named: str
) -> None:
    write(tmp_path, "inventory", change(INVENTORY))
    write(tmp_path, "catalogue", CATALOGUE)
    assert look(renewal, "inventory") is None
    assert renewal.refused is not None and renewal.refused.code == "waits_for_a_start"
    assert f"extraction.yaml: {named} cannot change" in renewal.refused.message
    # Set back, or the streams ended: it is taken up.
    write(tmp_path, "inventory", INVENTORY)
    assert look(renewal, "inventory") is not None and renewal.refused is None


def test_partitions_change_under_running_streams(renewal: Renewal, tmp_path: Path) -> None:
    write(tmp_path, "inventory", INVENTORY + "partitions: 4\n")
    assert look(renewal, "inventory") is not None


def test_a_conflict_rule_may_be_given_at_any_time(tmp_path: Path) -> None:
    (tmp_path / "fig.yaml").write_text(ESTATE)

    def with_rule(rule: str) -> ExtractionSettings:
        write(tmp_path, "inventory", f"remaining_writers: bidirectional\n{INVENTORY}".replace("}}]", f"}}{rule}}}]"))
        return load_project(tmp_path, {}).extractions["inventory"]

    before, after = with_rule(""), with_rule(", conflicts: {rule: service wins}")
    assert before != after and fixed(before, after) == []


def test_who_writes_is_what_the_cut_over_was_made_with(renewal: Renewal, tmp_path: Path) -> None:
    write(tmp_path, "inventory", INVENTORY + "remaining_writers: bidirectional\n")
    assert look(renewal, "inventory") is None
    assert renewal.refused is not None and renewal.refused.code == "configuration_changed"
    assert look(renewal) is not None, "no stream runs: there was no cut-over"


def test_tables_change_before_there_are_streams(renewal: Renewal, tmp_path: Path) -> None:
    write(tmp_path, "inventory", INVENTORY.replace("to: item", "to: thing"))
    assert look(renewal) is not None


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("catalogue", "context: [", "bad_configuration"),
        ("catalogue", CATALOGUE.replace("public.catalogue", "public.inventory"), "bad_configuration"),
        ("catalogue", CATALOGUE.replace("env: X", "env: NOT_THERE"), "secret_missing"),
        ("inventory", INVENTORY.replace("context: inventory", "context: stock"), "waits_for_a_start"),
    ],
)
def test_what_cannot_be_is_refused_and_mended(
    renewal: Renewal, tmp_path: Path, name: str, text: str, code: str
) -> None:
    write(tmp_path, name, text)
    assert look(renewal) is None
    assert renewal.refused is not None and renewal.refused.code == code and renewal.refused.remedy
    again = renewal.refused.message
    assert look(renewal) is None and renewal.refused is not None and renewal.refused.message == again
    write(tmp_path, "inventory", INVENTORY)
    write(tmp_path, "catalogue", CATALOGUE)
    assert look(renewal) is not None and renewal.refused is None


def test_another_fig_yaml_waits(renewal: Renewal, tmp_path: Path) -> None:
    (tmp_path / "fig.yaml").write_text(ESTATE + "facade: {listen: '127.0.0.1:9999'}\n")
    assert look(renewal) is None
    assert renewal.refused is not None and "fig.yaml: it has changed" in renewal.refused.message
    (tmp_path / "fig.yaml").write_text(ESTATE)
    assert look(renewal) is None and renewal.refused is None


def test_a_context_that_is_gone_waits(renewal: Renewal, tmp_path: Path) -> None:
    (tmp_path / "contexts" / "inventory" / "extraction.yaml").unlink()
    assert look(renewal) is None
    assert renewal.refused is not None and "'inventory' any more" in renewal.refused.message
