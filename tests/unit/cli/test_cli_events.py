"""``fig events`` on the log in memory: filters, windows, files, copies; and the choice without servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from stranglerfig.cli.events import choose as choosing_command
from stranglerfig.cli.events import export, look, replay
from stranglerfig.cli.main import Fig, invoke
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import choosing, wiring
from tests.unit.eventlog.choice_sample import AWAY, KAFKA, POSTGRES

TIME = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)
Say = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    """A topic of six events, one per minute, in two partitions; one of them is bytes."""
    found = MemoryLog()
    asyncio.run(found.create_topic("stock", partitions=2))
    for number in range(6):
        monkeypatch.setattr(clock, "now", lambda at=TIME + timedelta(minutes=number): at)
        data = b"\xff\x01" if number == 5 else json.dumps({"item_id": number % 3, "qty": number}).encode()
        event = Event(
            f"e{number}", "/shop", f"inventory.{'Counted' if number % 2 else 'Adjusted'}", TIME, data,
            "application/octet-stream" if number == 5 else "application/json",
            subject=f"item-{number % 3}", partitionkey=str(number % 3),
        )  # fmt: skip
        asyncio.run(found.append("stock", [event], partition=number % 2))
    monkeypatch.undo()

    @asynccontextmanager
    async def opened(_: Fig) -> AsyncIterator[MemoryLog]:
        found._changed = asyncio.Condition()  # each command has a loop of its own
        yield found

    for module in (look, export, replay):
        monkeypatch.setattr(module, "opened", opened)
    monkeypatch.setattr(wiring, "checked", lambda _, log: log)
    return found


@pytest.fixture
def fig(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    (tmp_path / "fig.yaml").write_text(
        "name: shop\nmonolith: {url: http://127.0.0.1:1, database: postgresql://fig@127.0.0.1:1/shop}\n"
    )

    def run(*arguments: str, status: int = 0) -> str:
        capsys.readouterr()
        found = invoke(["--project", str(tmp_path), "--json", "events", *arguments], as_json=True)
        said = capsys.readouterr()
        assert found == status, said.err
        return said.err if status else said.out

    return run


def ids(text: str) -> list[str]:
    return [json.loads(line)["id"] for line in text.splitlines()]


def code(text: str) -> str:
    return str(json.loads(text)["error"]["code"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["e0", "e2", "e4", "e1", "e3", "e5"]),
        (["--last", "1"], ["e4", "e5"]),
        (["--type", "*.Adjusted"], ["e0", "e2", "e4"]),
        (["--key", "1", "--key", "2"], ["e2", "e4", "e1", "e5"]),
        (["--subject", "item-0"], ["e0", "e3"]),
        (["--source", "/nobody"], []),
        (["--where", "item_id=1"], ["e4", "e1"]),
        (["--where", "item_id=1", "--where", "qty=4"], ["e4"]),
        (["--since", "2026-03-04T09:03:00"], ["e4", "e3", "e5"]),
        (["--since", "2026-03-04T10:01:00+0100", "--until", "2026-03-04T09:03:00"], ["e2", "e1"]),
        (["--follow", "--until", "2026-03-04T09:02:00"], ["e0", "e1"]),
    ],
)
@pytest.mark.usefixtures("log")
def test_tail_prints_what_is_asked_for(fig: Callable[..., str], arguments: list[str], expected: list[str]) -> None:
    assert ids(fig("tail", "stock", *arguments)) == expected


@pytest.mark.usefixtures("log")
def test_tail_refuses_what_it_cannot_read(fig: Callable[..., str]) -> None:
    assert code(fig("tail", "stock", "--where", "item_id", status=2)) == "usage"
    assert code(fig("tail", "nothing", status=4)) == "unknown_topic"


@pytest.mark.usefixtures("log")
def test_text_is_for_readers(tmp_path: Path, fig: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    fig("topics")
    assert invoke(["--project", str(tmp_path), "events", "tail", "stock", "--key", "1", "--last", "2"]) == 0
    said = capsys.readouterr().out
    assert '0/2  2026-03-04T09:00:00.000000Z  inventory.Adjusted  item-1  {"item_id":1,"qty":4}' in said


@pytest.mark.usefixtures("log")
def test_show_prints_one_event(fig: Callable[..., str]) -> None:
    assert json.loads(fig("show", "stock", "1", "--partition", "1"))["id"] == "e3"
    assert code(fig("show", "stock", "9", status=4)) == "unknown_position"


@pytest.mark.usefixtures("log")
def test_export_writes_lines(fig: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "stock.jsonl"
    said = json.loads(fig("export", "stock", "--output", str(file), "--type", "*.Counted"))
    assert said == {"lines": 3, "file": str(file), "format": "jsonl"} and ids(file.read_text()) == ["e1", "e3", "e5"]
    assert code(fig("export", "stock", "--output", str(file), status=3)) == "file_exists"
    fig("export", "stock", "--output", str(file), "--position", "2", "--force")
    assert ids(file.read_text()) == ["e4", "e5"]
    assert ids(fig("export", "stock", "--until", "2026-03-04T09:01:00")) == ["e0"]
    assert code(fig("export", "stock", "--position", "1", "--since", "2026-03-04", status=2)) == "usage"


@pytest.mark.usefixtures("log")
def test_export_writes_parquet(fig: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "stock.parquet"
    assert json.loads(fig("export", "stock", "--output", str(file), "--flatten"))["format"] == "parquet"
    rows = parquet.read_table(file).to_pylist()
    assert [row["id"] for row in rows] == ["e0", "e2", "e4", "e1", "e3", "e5"]
    assert [(row["data.item_id"], row["data.qty"]) for row in rows[1:3]] == [(2, 2), (1, 4)]
    assert json.loads(rows[1]["data"]) == {"item_id": 2, "qty": 2}
    assert (rows[5]["data"], rows[5]["data_bytes"], rows[5]["data.qty"]) == (None, b"\xff\x01", None)
    other = tmp_path / "other"
    fig("export", "stock", "--output", str(other), "--format", "parquet", "--where", "qty=4")
    assert [row["id"] for row in parquet.read_table(other).to_pylist()] == ["e4"]
    assert code(fig("export", "stock", "--format", "parquet", status=2)) == "usage"
    assert code(fig("export", "stock", "--flatten", status=2)) == "usage"


def test_replay_moves_a_group(fig: Callable[..., str], log: MemoryLog) -> None:
    moved = json.loads(fig("replay", "stock", "--group", "g", "--since", "2026-03-04T09:03:00", "--dry-run"))
    assert moved["after"] == [0, 0] and moved["dry_run"]
    moved = json.loads(fig("replay", "stock", "--group", "g", "--since", "2026-03-04T09:03:00"))
    assert moved["after"] == [2, 1] == list(asyncio.run(log.committed("stock", "g")))


@pytest.mark.usefixtures("log")
def test_replay_copies_to_a_file(fig: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "part.jsonl"
    assert json.loads(fig("replay", "stock", "--to-file", str(file), "--key", "1"))["copied"] == 2
    assert ids(file.read_text()) == ["e4", "e1"]
    assert code(fig("replay", "stock", "--to-file", str(file), status=3)) == "file_exists"


def test_replay_copies_to_a_topic(fig: Callable[..., str], log: MemoryLog) -> None:
    counted = json.loads(fig("replay", "stock", "--to-topic", "copy", "--where", "item_id=1", "--dry-run"))
    assert counted["copied"] == 2 and asyncio.run(log.topic("copy")) is None
    fig("replay", "stock", "--to-topic", "copy")
    fig("replay", "stock", "--to-topic", "copy")  # ids are kept: nothing is there twice
    assert ids(fig("export", "copy")) == ["e0", "e2", "e4", "e1", "e3", "e5"]
    asyncio.run(log.create_topic("one"))
    fig("replay", "stock", "--to-topic", "one", "--until", "2026-03-04T09:02:00")
    assert ids(fig("export", "one")) == ["e0", "e1"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--group", "g", "--to-topic", "x", "--position", "0"],
        ["--group", "g"],
        ["--group", "g", "--position", "0", "--type", "x"],
        ["--group", "g", "--position", "0", "--until", "2026-03-04"],
        ["--to-topic", "stock"],
    ],
)
@pytest.mark.usefixtures("log")
def test_replay_refuses_what_it_cannot_do(fig: Callable[..., str], arguments: list[str]) -> None:
    assert code(fig("replay", "stock", *arguments, status=2)) == "usage"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What measuring finds, without measuring."""
    results: list[Any] = [POSTGRES, KAFKA]

    async def chosen(ask: Any, candidates: Any, say: Callable[[str], None]) -> list[Any]:
        say(f"{len(candidates)} measured for {ask.seconds:g} s")
        return results

    monkeypatch.setattr(choosing, "choose", chosen)
    return results


@pytest.mark.usefixtures("answers")
def test_a_choice_is_printed_and_saved(
    fig: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "choice.html"
    given = ["--rate", "5000", "--duration", "1m", "--candidate", "embedded", "--output", str(page)]
    printed = json.loads(fig("choose", *given))
    saved = json.loads((tmp_path / "choice.json").read_text())
    assert printed.pop("files") == [str(page), str(tmp_path / "choice.json")] and printed == saved
    assert saved["ask"] == {"size": 500, "rate": 5000.0, "seconds": 60.0}
    assert KAFKA.name in page.read_text()
    assert invoke(["--project", str(tmp_path), "events", "choose", *given]) == 0
    said = capsys.readouterr()
    assert "210,000/s" in said.out and "1 measured for 60 s" in said.err and str(page) in said.out


def test_a_choice_of_nothing_is_an_error(fig: Callable[..., str], tmp_path: Path, answers: list[Any]) -> None:
    answers[:] = [AWAY]
    page = tmp_path / "choice.html"
    said = fig("choose", "--candidate", "embedded", "--output", str(page), status=1)
    assert code(said[said.index("{") :]) == "nothing_measured"
    assert "it does not answer" in page.read_text()


@pytest.mark.parametrize(("text", "seconds"), [("20s", 20), ("2m", 120), ("2500ms", 2.5), ("7", 7), ("2.5s", 2.5)])
def test_durations(text: str, seconds: float) -> None:
    assert choosing_command.Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "fast", "1s", "2h", "61m", "-5s"])
def test_durations_that_are_none(fig: Callable[..., str], text: str) -> None:
    assert code(fig("choose", "--duration", text, status=2)) == "usage"


def test_a_broken_project_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "fig.yaml").write_text("name: [")
    with pytest.raises(FigError) as refused:
        choosing_command._project(Fig(tmp_path, json=False, debug=False))
    assert refused.value.code == "bad_configuration"
    assert choosing_command._project(Fig(tmp_path / "away", json=False, debug=False)) is None
