"""Where candidates for a log are looked for, and how they are named."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import choosing
from stranglerfig.runtime.embedded import free_port
from stranglerfig.runtime.settings import Project, load_project


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def project(folder: Path, more: str) -> Project:
    (folder / "fig.yaml").write_text(
        f"name: shop\nmonolith: {{url: http://127.0.0.1:1, database: postgresql://fig@127.0.0.1:1/shop}}\n{more}\n"
    )
    return load_project(folder)


def test_candidates_are_named_without_their_secrets() -> None:
    found = choosing.asked_for(["kafka://user:secret@broker:9092?x=y", "embedded", "postgresql://me:pw@db/x"])
    assert [one.name for one in found] == ["Apache Kafka at broker:9092", choosing.EMBEDDED, "PostgreSQL at db/x"]
    assert [one.ours for one in found] == [False, True, False]
    with pytest.raises(FigError) as refused:
        choosing.asked_for(["carrier-pigeon://roof"])
    assert refused.value.code == "unknown_log_backend"


async def test_the_usual_places_are_looked_at(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = (
        ("Kafka", f"kafka://127.0.0.1:{listener}"),
        ("Pigeons", f"pigeon://localhost:{listener}"),
        ("PostgreSQL", f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"),
    )
    monkeypatch.setattr(choosing, "USUAL", usual)
    candidates, looked = await choosing.look_around(None)
    assert [(one.name, one.origin) for one in candidates] == [
        (f"Apache Kafka at 127.0.0.1:{listener}", "found"),
        (choosing.EMBEDDED, "embedded"),
    ]
    assert [(one.what, one.found, one.says) for one in looked[:-1]] == [
        ("the log of fig.yaml", False, "there is no fig.yaml here"),
        ("Kafka", True, "listens"),
        ("Pigeons", False, "listens, but this version of fig has no such log"),
        ("PostgreSQL", False, "nothing listens"),
    ]


async def test_the_log_of_the_project_comes_first_and_once(
    listener: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "USUAL", (("Kafka", f"kafka://127.0.0.1:{listener}"),))
    named = project(tmp_path, f"log: 'kafka://me:secret@127.0.0.1:{listener},127.0.0.1:1'")
    candidates, looked = await choosing.look_around(named)
    assert [(one.origin, one.ours) for one in candidates] == [("fig.yaml", False), ("embedded", True)]
    assert looked[0].found and "secret" not in looked[0].where + candidates[0].name
    assert [one.what for one in looked] == ["the log of fig.yaml", choosing.EMBEDDED]


async def test_a_project_that_does_not_run_or_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "USUAL", ())
    for more, says in (
        ("", "fig"),
        (f"log: 'kafka://127.0.0.1:{free_port()}'", "nothing listens"),
        (f"control: 'postgresql://postgres@127.0.0.1:{free_port()}/control'", "nothing listens"),
        ("log: 'kafka://broker'", "nothing listens"),
    ):
        candidates, looked = await choosing.look_around(project(tmp_path, more))
        assert [one.origin for one in candidates] == ["embedded"], more
        assert not looked[0].found and says in looked[0].says, more
