"""``fig new service``: what is refused leaves nothing, and what is written is there whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stranglerfig.cli.main import invoke
from stranglerfig.storming.service import render

MODEL = """\
context Stock
  aggregate Level
    command AdjustStock(item_id: int)
    event StockAdjusted(item_id: int) v1 key item_id
hotspot "Who?" on AdjustStock
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_service_is_written_to_a_folder_of_its_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "billing").mkdir()
    assert invoke(["new", "service", "billing"]) == 0
    assert [each.name for each in here.iterdir()] == ["billing"]
    assert (here / "billing/billing/domain.py").is_file() and (here / "billing/tests/test_api.py").is_file()
    assert "cd billing && make setup test" in capsys.readouterr().out


def test_what_is_not_in_the_model_is_said_as_json_as_well(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "model.storm").write_text(MODEL)
    assert invoke(["--json", "new", "service", "stock", "--model", "model.storm", "--to", "s"], as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["service"], told["folder"], told["not_in_the_model"]) == ("stock", "s", [])
    assert sorted(told["files"]) == sorted(
        str(f.relative_to(here / "s")) for f in (here / "s").rglob("*") if f.is_file()
    )


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["Billing"], 2, "bad_service_name"),
        (["billing", "--to", "full"], 3, "folder_not_empty"),
        (["billing", "--to", "model.storm"], 3, "folder_not_empty"),
        (["billing", "--to", "nowhere/billing"], 1, "file_unwritable"),
        (["billing", "--to", "."], 2, "usage"),
        (["billing", "--model", "none.storm"], 2, "no_model"),
        (["billing", "--model", "model.storm"], 4, "unknown_context"),
        (["stock", "--model", "bad.storm"], 3, "model_has_errors"),
        (["stock", "--model", "keyless.storm"], 2, "model_unusable"),
    ],
)
def test_what_is_refused_leaves_nothing(
    here: Path, arguments: list[str], status: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "full").mkdir()
    (here / "full/kept").touch()
    (here / "model.storm").write_text(MODEL)
    (here / "bad.storm").write_text(MODEL.replace("item_id: int", "item_id: number"))
    (here / "keyless.storm").write_text(MODEL.replace(" v1 key item_id", ""))
    before = sorted(here.rglob("*"))
    assert invoke(["new", "service", *arguments]) == status
    assert f"[{code}]" in capsys.readouterr().err
    assert sorted(here.rglob("*")) == before


def test_a_folder_is_never_half_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "project", lambda plan: {"Makefile": "all:\n", "Makefile/beneath": "no folder"})
    assert invoke(["new", "service", "billing"]) == 1
    assert list(here.iterdir()) == []
