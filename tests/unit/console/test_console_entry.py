"""The console's door: a link opens it once, in its time, and only with this project's key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from stranglerfig.console.entry import LASTS, LINK, SESSION, Entry
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError


def test_a_link_opens_once_and_its_session_names_who_asked(tmp_path: Path) -> None:
    token = Entry(tmp_path / "console").link_token("ann@desk")
    door = Entry(tmp_path / "console")  # another process, such as fig ps
    session = door.admit(token)
    assert door.who(session) == "ann@desk"
    for again in (door, Entry(tmp_path / "console")):
        with pytest.raises(FigError, match="was used"):
            again.admit(token)
    assert door.who(session) == "ann@desk"


def test_links_and_sessions_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Entry(tmp_path)
    late, token = door.link_token("ann"), door.link_token("ann")
    session = door.admit(token)
    now = clock.epoch()
    monkeypatch.setattr(clock, "epoch", lambda: now + LASTS[LINK] + 1)
    with pytest.raises(FigError, match="no longer valid"):
        door.admit(late)
    assert door.who(session) == "ann"
    monkeypatch.setattr(clock, "epoch", lambda: now + LASTS[SESSION] + 1)
    with pytest.raises(FigError) as refused:
        door.who(session)
    assert refused.value.code == "console_session"


@pytest.mark.parametrize("made", ["", "x", ".", "a.b", "\udcff.x", "é.é"])
def test_what_nobody_signed_opens_nothing(tmp_path: Path, made: str) -> None:
    with pytest.raises(FigError) as refused:
        Entry(tmp_path).who(made)
    assert refused.value.code == "console_session"


def test_a_link_is_no_session_nor_another_projects(tmp_path: Path) -> None:
    here, there = Entry(tmp_path / "a"), Entry(tmp_path / "b")
    token = here.link_token("ann")
    for wrong in (here.who, there.admit):
        with pytest.raises(FigError):
            wrong(token)
    with pytest.raises(FigError):
        here.admit(here.admit(token))
    body, _, mac = here.link_token("ann").partition(".")
    with pytest.raises(FigError):
        here.admit(f"{body}A.{mac}")


def test_nobody_else_reads_the_key(tmp_path: Path) -> None:
    Entry(tmp_path / "console").link_token("ann")
    assert stat.S_IMODE((tmp_path / "console").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "console/key").stat().st_mode) == 0o600
