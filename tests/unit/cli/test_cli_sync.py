"""What ``fig sync`` says of changes that wait for a person."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from stranglerfig.cli import sync
from stranglerfig.cli.codes import catalogue

CONFLICT = {
    **{"id": 3, "direction": "forward", "pair": "public.label", "table": "public.label", "key": ["a"], "rule": None},
    **{"outcome": "stopped", "theirs": {}, "ours": {}, "lsn": 1, "ordinal": 1, "at": "2026-01-01T00:00:00Z"},
}
PARKED = {
    **{"id": 7, "direction": "forward", "lsn": 1, "ordinal": 1, "reason": "error", "change": {}, "statement": ""},
    **{"resolution": None, "at": "2026-01-01T00:00:00Z"},
}


def said(monkeypatch: pytest.MonkeyPatch, command: str, rows: list[dict[str, Any]]) -> str:
    """What the command prints where the store finds ``rows``."""
    import click

    from stranglerfig.runtime import parked as store

    async def found(*_: Any, **__: Any) -> list[dict[str, Any]]:
        return rows

    monkeypatch.setattr(store, {"parked": "listed", "conflicts": "conflicts"}[command], found)

    def run(work: Any) -> Any:
        try:
            work.send(None)
        except StopIteration as stopped:
            return stopped.value
        raise AssertionError("the store waits for nothing here")

    fig = SimpleNamespace(project=None, run=run, print=lambda _, text: click.echo(text))
    result = CliRunner().invoke(sync.sync, [command, "inventory"], obj=fig)
    assert result.exit_code == 0, result.output
    return result.output


def test_an_open_conflict_says_what_leads_out_and_what_it_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(monkeypatch, "conflicts", [CONFLICT | {"parked": 7}])
    assert "parked forward 7" in text
    assert "fig sync skip in both directions, and only then write the row once" in text
    assert "the way back is refused" in text


def test_a_conflict_that_was_decided_about_bars_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(monkeypatch, "conflicts", [CONFLICT | {"parked": None}])
    assert "public.label a: stopped" in text
    assert "way back" not in text


@pytest.mark.parametrize("code", ["conflict", "row_missing", "change_without_version"])
def test_what_is_parked_says_what_leads_out(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    text = said(monkeypatch, "parked", [PARKED | {"error": f"row a of public.label … [{code}]"}])
    assert " ".join(catalogue()[code]["do"].split()) in " ".join(text.split())


def test_what_the_database_said_has_no_remedy_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    row = PARKED | {"error": "duplicate key [23505]"}
    assert "duplicate key" in said(monkeypatch, "parked", [row])
    assert row["do"] is None
