"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stranglerfig.foundation import ids
from stranglerfig.foundation.errors import FigError


@contextmanager
def written_whole(path: Path, *, replace: bool) -> Iterator[Path]:
    """A path beside ``path`` to be written to, which becomes ``path`` at the end of the block; gone when that fails.

    Raises:
        FigError: ``file_exists`` when there is one and ``replace`` is false; ``file_unwritable``.
    """
    if not replace and path.exists():
        raise FigError(
            "file_exists", f"{path} is there already", "Name another file, or replace it with --force.", file=str(path)
        )
    draft = path.with_name(f".{path.name}.{ids.nonce()[:8]}")
    try:
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` to be filled, which becomes ``path`` at the end of the block; gone when that fails.

    Raises:
        FigError: ``folder_not_empty`` when there is something already; ``file_unwritable``.
    """
    path = path.resolve()
    draft = path.with_name(f".{path.name}.{ids.nonce()[:8]}")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FigError(
                "folder_not_empty",
                f"{path} is there already, and is not an empty folder",
                "Name another folder, or move away what is there.",
                folder=str(path),
            )
        draft.mkdir()
        yield draft
        draft.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> FigError:
    return FigError(
        "file_unwritable",
        f"{path} cannot be written: {error.strerror or error}",
        "Check that its folder exists, that there is space, and that the account fig runs as may write there.",
        file=str(path),
    )
