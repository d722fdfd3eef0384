"""The TextMate grammar by the engine that editors have: it understands the lines that the parser understands."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from examples.servers import fetch
from stranglerfig.cli.main import invoke
from stranglerfig.storming.model import Model
from stranglerfig.storming.text import parse

ROOT = Path(__file__).parents[3]
STORM = ROOT / "examples/shop/estate/contexts/inventory/model.storm"
ENGINE = ["vscode-textmate@9.3.2", "vscode-oniguruma@2.0.1"]
WALL = """
wall
  lane "Back office" -340 260
  context "Inventory" 50 50 700 300
  sticky actor "Clerk" 0 100
  sticky event "Parcel sent" says "(id: int) v2" 10 -20 in "Shipping"
  link "Clerk" -> "AdjustStock"
  # a comment
  pivotal "StockAdjusted"
  comment on "Who?" by "Ann": "Support, up to ten"
"""
Tokens = list[tuple[str, str]]


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("grammar") / "storm.tmLanguage.json"
    assert invoke(["model", "grammar", "--output", str(file)]) == 0
    return file


def tokens(text: str, grammar: Path) -> list[Tokens]:
    """The tokens of each line: what it says, and its innermost scope."""
    script = fetch.npm("textmate", ENGINE) / "tokens.mjs"
    shutil.copy(Path(__file__).with_name("tokens.mjs"), script)
    done = subprocess.run(["node", str(script), str(grammar)], input=text, capture_output=True, text=True, check=True)
    return [[(word, scope) for word, scope in json.loads(line)] for line in done.stdout.splitlines()]


def strange(found: list[Tokens]) -> list[str]:
    """The lines that are shown as mistakes."""
    return ["".join(word for word, _ in line) for line in found if any(".illegal." in scope for _, scope in line)]


def not_understood(model: Model) -> list[str]:
    scopes = [model.unknown, *(c.unknown for c in model.contexts)]
    scopes += [a.unknown for c in model.contexts for a in c.aggregates]
    return [line for lines in scopes for line in lines if not line.startswith("#")]


def test_the_shops_model_is_understood_to_the_last_word(grammar: Path) -> None:
    text = STORM.read_text() + WALL
    assert not_understood(parse(text)) == []
    found = tokens(text, grammar)
    assert strange(found) == []
    bare = [word for line in found for word, scope in line if scope.startswith("meta.") and word.strip(" ,")]
    assert bare == [], "every word has a scope of its own"
    of = {word: scope for line in found for word, scope in line}
    assert of["Inventory"].endswith("context.storm")
    line = next(line for line in found if ("AdjustStock", "entity.name.function.command.storm") in line)
    assert line[0] == ("command", "keyword.control.storm")
    assert ("delta", "variable.parameter.field.storm") in line and ("int", "support.type.storm") in line
    assert of["->"] == "keyword.operator.storm" and of["620"] == "constant.numeric.storm"
    assert of["?"] == "storage.modifier.optional.storm" and of["v1"] == "constant.numeric.version.storm"
    assert of["70c7d9ece3e0970e34cb71aad427d223"] == "constant.other.hash.storm"


@pytest.mark.parametrize(
    "line",
    [
        "sticker Blue",
        "context Two Words",
        "    event Lost(broken field) v1",
        "    event Lost(id: int) key",
        "    command Find(id: int, email: str? personal)",
        "    command Find(ids: list[int])",
        "    aggregate Shelf",
        '  policy "a": -> Find',
        "  policy a: X -> Find",
        "  readmodel Seen",
        "  readmodel Seen from X",
        'hotspot "Who?" on Inventory.Find answered "Ann"',
        'hotspot "Who?"',
        "signoff required: a, b",
        'signoff by "Ann" as a on 2026-01-02 of xyz',
        "# anything (at all",
    ],
)
def test_it_marks_what_the_parser_does_not_understand(line: str, grammar: Path) -> None:
    text = f"context Inventory\n  aggregate Item\n    command Take\n{line}\n"
    assert bool(strange(tokens(text, grammar))) == bool(not_understood(parse(text)))
