"""Every command has help, an example and its place in the reference; errors become text and status in one place."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from stranglerfig.cli import codes, reference, render
from stranglerfig.cli.main import fig, invoke, main
from stranglerfig.foundation.errors import FigError
from stranglerfig.storming.model import missing_signatures, semantic_hash
from stranglerfig.storming.text import parse

ROOT = Path(__file__).parents[3]
COMMANDS = list(reference.walk(fig))
MODEL = """\
context Inventory
  aggregate StockLevel
    command AdjustStock(itemId: uuid)
    event StockAdjusted(itemId: uuid)
"""


@pytest.mark.parametrize(("names", "command"), COMMANDS, ids=[" ".join(names) for names, _ in COMMANDS])
def test_every_command_has_help_and_an_example(names: tuple[str, ...], command: click.Command) -> None:
    assert command.help and "Example: " in command.help
    if not isinstance(command, click.Group):
        example = command.help.rpartition("Example: ")[2].strip()
        assert " ".join(names) in example
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, f"{parameter.name} has no help"
    assert invoke([*names[1:], "--help"]) == 0


def test_the_reference_is_what_the_code_says() -> None:
    assert reference.drifted(ROOT / "docs" / "reference") == [], "run make docs"


def test_every_command_and_error_is_in_the_reference() -> None:
    commands, errors = reference.commands(), reference.errors()
    assert all(f" {' '.join(names)}\n" in commands for names, _ in COMMANDS)
    assert all(f"## {code}\n" in errors for code in codes.catalogue())


def test_the_reference_is_written_and_checked(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(reference.main, [str(tmp_path), "--check"]).exit_code == 1
    assert runner.invoke(reference.main, [str(tmp_path)]).exit_code == 0
    assert runner.invoke(reference.main, [str(tmp_path), "--check"]).exit_code == 0
    assert "`monolith`" in (tmp_path / "fig-yaml.md").read_text()


def test_every_error_code_is_explained() -> None:
    source = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    used = set(re.findall(r'FigError\(\s*"([a-z_]+)"', source))
    known = codes.catalogue()
    assert used - set(known) == set(), "add them to cli/codes.yaml"
    for code, entry in known.items():
        assert entry["kind"] in ("usage", "refused", "not_found", "other"), code
        assert entry["title"] and entry["means"] and entry["do"], code


def test_explain_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["explain", "port_in_use"]) == 0
    assert "What to do: End it" in capsys.readouterr().out
    assert invoke(["explain"]) == 0
    assert "port_in_use " in capsys.readouterr().out
    assert invoke(["explain", "prt_in_use"]) == 4
    assert "Did you mean port_in_use?" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["completion", shell]) == 0
    assert "_FIG_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["nonsense"], 2, "No such command"),
        (["--project", "/nowhere", "status"], 2, "[no_configuration]"),
        (["abort", "inventory"], 4, "[unknown_context]"),
        (["abort", "orders", "--confirm", "x"], 3, "[not_confirmed]"),
        (["decommission", "drop", "orders"], 3, "[not_confirmed]"),
        (["advance", "orders", "--override", " "], 2, "[usage]"),
        (["status"], 1, "[not_running]"),
        (["plan", "orders"], 1, "[not_running]"),
        (["status", "inventory"], 4, "[unknown_context]"),
        (["events", "topics"], 1, "[not_running]"),
        (["events", "replay", "t", "--group", "g"], 2, "[usage]"),
        (["sync", "parked", "inventory"], 4, "[unknown_context]"),
        (["report", "orders", "--facts", "/dev/null"], 2, "/dev/null"),
        (["run", "postgrs"], 2, "postgrs"),
    ],
)
def test_errors_have_their_status(
    project: Path, arguments: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments == ["abort", "inventory"]:
        arguments += ["--confirm", "inventory"]
    given = arguments if "--project" in arguments else ["--project", str(project), *arguments]
    assert invoke(given) == status
    assert says in capsys.readouterr().err


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "fig.yaml").write_text(
        "name: shop\nmonolith: {url: http://127.0.0.1:8001, database: postgresql://fig@127.0.0.1:1/shop}\n"
    )
    folder = tmp_path / "contexts" / "orders"
    folder.mkdir(parents=True)
    (folder / "extraction.yaml").write_text(
        "context: orders\nservice: {url: http://127.0.0.1:8002, database: postgresql://fig@127.0.0.1:1/orders}\n"
        "routes: {reads: [{path: /api/orders}]}\ntables: [{from: public.orders, to: orders, key: {id: id}}]\n"
    )
    return tmp_path


def test_json_errors_are_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--json", "--project", str(project), "status", "none"], as_json=True) == 4
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "unknown_context"
    assert invoke(["--json", "nonsense"], as_json=True) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"


def test_nothing_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--project", str(project), "ps"]) == 0
    assert invoke(["--project", str(project), "down"]) == 0
    assert capsys.readouterr().out.count("Nothing runs on this project") == 2


def test_a_report_is_not_written_in_a_dry_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--project", str(project), "report", "orders", "--output", str(project / "out"), "--dry-run"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert not (project / "out").exists()


def test_the_unexpected_is_told_without_a_stack_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(codes, "catalogue", fail)
    assert invoke(["explain", "x"]) == 1
    assert "RuntimeError: boom" in capsys.readouterr().err
    with pytest.raises(RuntimeError):
        invoke(["explain", "x"], debug=True)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (click.Abort(), 130)])
def test_ctrl_c_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(codes, "catalogue", fail)
    assert invoke(["explain"]) == status
    assert capsys.readouterr().err.strip() == ""


def test_group_flags_may_stand_last(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["fig", "explain", "port_in_use", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["code"] == "port_in_use"


# --- what the terminal shows

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (42, "42 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert render.duration(seconds) == text


def test_an_amount_says_only_what_is_known() -> None:
    assert render.amount({}) == ""
    assert render.amount({"done": 5}) == "5"
    full = {"done": 41_000, "total": 100_000, "rate": 52_300.4, "remaining": 2}
    assert render.amount(full) == "41,000 of 100,000, 52,300/s, about 2.0 s left"


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with render.progress(False) as show:
        show("progress", "copied 1 of items", {"done": 1, "total": 9}, AT)
        show("progress", "copied 2 of items", {"done": 2, "total": 9}, AT + timedelta(seconds=0.5))
        show("progress", "copied 9 of items", {"done": 9, "total": 9}, AT + timedelta(seconds=0.6))
        show("note", "slot made", {}, AT)
        show(
            "done", "inventory is sync", {"place": "sync", "findings": [{"code": "x", "line": 3}, "y"], "none": []}, AT
        )
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "copied 1 of items: 1 of 9",
        "copied 9 of items: 9 of 9",
        "slot made",
        "inventory is sync",
        "  place: sync",
        "  findings:",
        "    code x, line 3",
        "    y",
        "  none: none",
    ]


def test_json_lines_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with render.progress(True) as show:
        show("done", "ready", {"a": 1}, AT)
    assert json.loads(capsys.readouterr().out) == {
        "at": "2026-01-01T00:00:00+00:00",
        "kind": "done",
        "text": "ready",
        "data": {"a": 1},
    }


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_terminal=True, record=True, width=100)
    monkeypatch.setattr(render, "Console", lambda: console)
    with render.progress(False) as show:
        show("note", "begins", {}, AT)
        show("progress", "copied 1 rows", {"done": 1, "total": 9}, AT)
        show("progress", "copied 9 rows", {"done": 9, "total": 9, "rate": 8}, AT)
        show("done", "ready", {"rows": 9}, AT)
    text = console.export_text()
    assert "begins" in text and "9 of 9, 8/s" in text and "rows: 9" in text


def test_how_far_a_command_is_stands_beside_its_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with render.beside(True) as told:
        told("sources read", 1, 2)
    with render.beside(False) as told:
        told("sources read", 1, 2)
        told("sources read", 2, 2)
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines() == ["sources read: 1 of 2", "sources read: 2 of 2"]
    console = Console(force_terminal=True, record=True, width=100)
    monkeypatch.setattr(render, "Console", lambda *, stderr: console)
    with render.beside(False) as told:
        told("sources read", 2, 2)
    assert "2 of 2" in console.export_text()


STATUS: dict[str, Any] = {
    "extractions": [
        {
            "context": "inventory",
            "stage": "reads",
            "step": "10",
            "owner": "monolith",
            "epoch": 0,
            "gate": {
                "kpis": [
                    {"name": "error_rate", "threshold": 0.0001, "observed": 0.0, "bound": 0.00012, "samples": 24000,
                     "needed": 5956, "verdict": "inconclusive"}
                ]
            },
            "now": {"at": AT, "monolith": {"reads": 90, "p99_ms": 4.5}, "lag_forward_ms": 3.0, "list": [1]},
            "flows": {
                "forward": {
                    "capture": {"state": "streaming", "lag_bytes": 12},
                    "sync": {"state": "stopped", "error": {"code": "change_refused", "message": "no"}},
                },
                "reverse": {
                    "capture": {"state": "off", "error": "old"},
                    "sync": {
                        "state": "applying",
                        "waits_for": [{"pid": 4711, "application": "nightly", "seconds": 12.3}, {"pid": 4712}],
                    },
                },
            },
            "warnings": ["the slot keeps WAL"],
        }
    ]
}  # fmt: skip


def test_a_status_is_shown_whole() -> None:
    console = Console(record=True, width=160)
    console.print(render.status(STATUS))
    text = console.export_text()
    for word in (
        "inventory: reads, 10 %; the monolith owns the writes, epoch 0",
        "monolith reads 90, monolith p99 ms 4.5, lag forward ms 3",
        "forward: capture streaming, lag bytes 12; sync stopped, (no [change_refused])",
        "sync applying, waits for pid 4711 (nightly, open for 12.3 s) and pid 4712",
        "inconclusive",
        "5,956",
        "warning: the slot keeps WAL",
    ):
        assert word in text
    [line] = render.status_lines(STATUS)
    assert "error_rate 0 of 0.0001: inconclusive" in line and "(old)" in line


def test_instances_are_shown_where_there_are_several() -> None:
    one = {"reads": 30, "writes": 6, "errors": 0, "p99_ms": 2.5, "share": 0.75, "serving": True}
    gone = {"serving": False}
    lines = render.instances({"now": {"instances": {"10.0.0.7:80": one, "10.0.0.8:80": gone}}})
    assert lines == [
        "instance 10.0.0.7:80: 75%, reads 30, writes 6, errors 0, p99 ms 2.5",
        "instance 10.0.0.8:80: not serving; no request",
    ]
    assert not render.instances({"now": {"instances": {"10.0.0.7:80": one}}}) and not render.instances({"now": None})
    assert "10.0.0.7" not in render.traffic({"now": {"monolith": {"reads": 1}, "instances": {"10.0.0.7:80": one}}})


def test_an_empty_status_says_what_to_do() -> None:
    console = Console(record=True, width=160)
    console.print(render.status({"extractions": []}))
    assert "fig plan CONTEXT" in console.export_text()
    assert render.number(True) == "True" and render.number(None) == "-" and render.number(0.00012) == "0.00012"


def test_an_error_is_shown_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    from stranglerfig.cli.main import show

    show(FigError("x", "it broke"), as_json=False)
    assert capsys.readouterr().err == "fig: it broke\n     [x]  more: fig explain x\n"


# --- the model

STORM = ROOT / "examples/shop/estate/contexts/inventory/model.storm"


def test_the_model_is_checked_signed_and_used(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project / "contexts" / "inventory"
    folder.mkdir()
    (folder / "model.storm").write_text(STORM.read_text())
    run = ["--project", str(project), "model"]
    assert invoke([*run, "lint", "inventory"]) == 0
    assert invoke([*run, "hash", "inventory"]) == 0
    assert "signed by" in capsys.readouterr().out
    assert invoke([*run, "sign", "inventory", "--role", "architect", "--name", "Ada"]) == 0
    assert "Ada" in (folder / "model.storm").read_text()
    assert invoke([*run, "sign", "inventory", "--role", "nobody", "--dry-run"]) == 2
    assert invoke([*run, "generate", "inventory", "--check"]) == 3
    assert invoke([*run, "generate", "inventory"]) == 0
    assert list(folder.glob("schemas/*.json"))
    (folder / "extraction.yaml").unlink()
    (folder / "model.storm").write_text(
        (folder / "model.storm").read_text().replace("context Inventory", "context Stock")
    )
    assert invoke([*run, "generate", "inventory"]) == 4
    assert invoke([*run, "lint", "none"]) == 4


def test_a_file_that_was_merged_is_told_of_when_the_model_moves_on(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project / "contexts" / "inventory"
    folder.mkdir()
    storm, schema = folder / "model.storm", folder / "schemas" / "StockAdjusted.v1.json"
    storm.write_text(STORM.read_text())
    run = ["--project", str(project), "model", "generate", "inventory"]
    assert invoke(run) == 0
    schema.write_text(schema.read_text().replace('"title"', '"description": "ours",\n  "title"'))
    assert invoke([*run, "--check"]) == 0 and '-  "description": "ours"' in capsys.readouterr().out
    for kind in ("decimal", "float"):  # once more after it was merged
        storm.write_text(re.sub(r"(StockAdjusted.*delta: )\w+", rf"\g<1>{kind}", storm.read_text()))
        assert invoke(run) == 0 and f"drifted    {schema}" in capsys.readouterr().out
        assert invoke([*run, "--check"]) == 3
        assert invoke([*run, "--merged", str(schema)]) == 0
        assert invoke([*run, "--check"]) == 0 and "ours" in schema.read_text()
    assert invoke([*run, "--merged", str(storm)]) == 2


def test_a_model_is_formatted_and_its_sign_offs_stay(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project / "contexts" / "inventory"
    folder.mkdir()
    file, tidy = folder / "model.storm", STORM.read_text()
    head, _, tail = tidy.partition("  policy")
    untidy = f"? a line of another version\n{head}\n   policy" + tail.replace("layout", "# on the wall\nlayout", 1)
    file.write_text(untidy)
    run = ["--project", str(project)]
    assert invoke([*run, "model", "fmt", "--check"]) == 3
    said = capsys.readouterr()
    assert "[model_not_formatted]" in said.err and "-   policy" in said.out and file.read_text() == untidy
    assert invoke([*run, "model", "fmt", "inventory"]) == 0
    written = file.read_text()
    assert "? a line of another version" in written and "# on the wall" in written
    assert semantic_hash(parse(written)) == semantic_hash(parse(untidy))
    assert invoke([*run, "model", "fmt", str(file), "--check"]) == 0
    file.write_text(tidy.replace("  readmodel", "      readmodel"))
    assert invoke([*run, "model", "fmt"]) == 0
    assert file.read_text() == tidy and missing_signatures(parse(tidy)) == ()
    capsys.readouterr()
    assert invoke(["--json", *run, "model", "fmt", "--check"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"file": str(file), "state": "unchanged", "diff": []}]
    assert invoke([*run, "model", "fmt", "nowhere.storm"]) == 2


def test_a_model_is_compared_with_what_was_committed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project / "contexts" / "inventory"
    folder.mkdir()
    file = folder / "model.storm"
    file.write_text(STORM.read_text())
    run = ["--project", str(project)]
    assert invoke([*run, "model", "diff", "inventory"]) == 4
    assert "[no_earlier_model]" in capsys.readouterr().err
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=folder, check=True)
    assert invoke([*run, "model", "diff", "inventory"]) == 0
    assert capsys.readouterr().out == "The meaning is the same.\n"
    (folder / "was.storm").write_text(STORM.read_text())
    file.write_text(file.read_text().replace("delta: int, on_hand: int", "delta: decimal, on_hand: int"))
    for other in ([], [str(folder / "was.storm")]):
        assert invoke(["--json", *run, "model", "diff", str(file), *other]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [(c["change"], c["place"]) for c in found["changes"]] == [("changed", "Inventory.StockAdjusted.delta")]
        assert found["events"][0]["compatible"] is False and len(found["void"]) == 2
    assert invoke([*run, "model", "diff", "inventory", "--since", "nowhere"]) == 4


def test_the_roadmap_is_of_all_models(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project / "contexts" / "inventory"
    folder.mkdir()
    (folder / "model.storm").write_text(STORM.read_text())
    (project / "contexts" / "orders" / "model.storm").write_text("context Orders\n  aggregate Order\n")
    assert invoke(["--project", str(project), "model", "roadmap"]) == 0
    shown = capsys.readouterr().out
    assert "## 1. orders" in shown
    assert invoke(["--project", str(project), "model", "roadmap", "--output", str(project / "ROADMAP.md")]) == 0
    assert (project / "ROADMAP.md").read_text() == shown and "ROADMAP.md is written" in capsys.readouterr().out
    assert invoke(["--json", "--project", str(project), "model", "roadmap"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [step["context"] for step in steps] == ["orders", "inventory"] and steps[1]["early"] == []


def test_a_model_with_errors_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project / "contexts" / "orders"
    assert invoke(["--project", str(project), "model", "lint", "orders"]) == 2
    (folder / "model.storm").write_text("context Orders\n  aggregate Order\n    event Place\n")
    assert invoke(["--project", str(project), "model", "lint", "orders"]) == 3
    assert "[model_has_errors]" in capsys.readouterr().err
