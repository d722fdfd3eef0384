"""A file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.files import folder_written_whole, written_whole


def test_a_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with written_whole(path, replace=False) as draft:
        draft.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_what_is_there_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(FigError) as refused, written_whole(path, replace=False):
        raise AssertionError("not reached")
    assert refused.value.code == "file_exists" and path.read_text() == "old"
    with pytest.raises(ValueError, match="half"), written_whole(path, replace=True) as draft:
        draft.write_text("ha")
        raise ValueError("half way")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with written_whole(path, replace=True) as draft:
        draft.write_text("new")
    assert path.read_text() == "new"


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(FigError) as refused,
        written_whole(tmp_path / "away" / "out.jsonl", replace=False) as draft,
    ):
        draft.write_text("x")
    assert refused.value.code == "file_unwritable"


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "made"
    with folder_written_whole(path) as draft:
        (draft / "file").write_text("new")
        assert not path.exists()
    assert [str(each.relative_to(tmp_path)) for each in sorted(tmp_path.rglob("*"))] == ["made", "made/file"]


@pytest.mark.parametrize("failure", [ValueError("ours"), OSError(28, "No space left on device")])
def test_a_folder_that_could_not_be_filled_leaves_nothing(tmp_path: Path, failure: Exception) -> None:
    with pytest.raises((ValueError, FigError)), folder_written_whole(tmp_path / "made") as draft:
        (draft / "file").write_text("half")
        raise failure
    assert list(tmp_path.iterdir()) == []
