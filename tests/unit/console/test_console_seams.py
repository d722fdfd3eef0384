"""What the seams page keeps: its edits, its link, and the command that says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from stranglerfig.console.seams import Door, EditsFile, command
from stranglerfig.foundation.errors import FigError
from stranglerfig.seams.edits import Edits, Move


def test_a_link_stays_the_same_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "seams" / "page.json"
    door = Door.of(file)
    door.keep(4711)
    again = Door.of(file)
    assert (again.token, again.port) == (door.token, 4711) and len(door.token) >= 20
    assert file.stat().st_mode & 0o077 == 0
    file.write_text("{")
    assert Door.of(file).token not in ("", door.token)


def test_edits_are_read_from_the_file_each_time(tmp_path: Path) -> None:
    file = EditsFile(tmp_path / "edits.json")
    assert file.read() == Edits() and not file.path.exists()
    file.write(Edits((Move(("items",), "sales"),)))
    assert EditsFile(file.path).read() == Edits((Move(("items",), "sales"),))
    file.path.write_bytes(b"\xff")
    with pytest.raises(FigError) as refused:
        file.read()
    assert refused.value.code == "seams_edits_invalid" and str(file.path) in refused.value.message


def test_the_command_can_be_given_to_a_shell() -> None:
    said = command(("--project", "my shop", "seams"), {"order lines": "orders", "items": "stock"})
    assert said == "fig --project 'my shop' seams --move 'order lines=orders' --move items=stock"
