"""The wall of one model: the document that people share, and the file that it is taken from and written to."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stranglerfig.console import shared
from stranglerfig.console.room import Room, Storage
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.files import written_whole
from stranglerfig.storming import board, text
from stranglerfig.storming.model import Model


class SharedWall:
    """Opens with what was on it; a wall that nobody has used takes what the file says."""

    def __init__(self, storage: Storage, file: Path) -> None:
        self.room = Room(storage)
        self.file = file
        if storage.fact("seen") is None:
            self.take_file()

    @property
    def name(self) -> str:
        """What people call it."""
        stem = self.file.parent.name if self.file.name == "model.storm" else self.file.stem
        return stem.replace("-", " ").capitalize()

    def file_changed(self) -> bool:
        """Whether somebody else wrote the file since the wall last read or wrote it."""
        return _digest(self._on_disk()) != self.room.storage.fact("seen")

    def take_file(self) -> int:
        """Make the wall say what the file says; returns how many items that changed."""
        found = self._on_disk()
        touched = self.take(found)
        self.room.storage.say("seen", _digest(found))
        return touched

    def take(self, said: str) -> int:
        """Make the wall say what a text says, as the difference to what it says; returns how many items changed."""
        now = shared.read(self.room.doc)
        return shared.write(self.room.doc, board.to_board(text.parse(said), now))

    def model(self) -> Model:
        """What the wall says, with the signatures of the file."""
        return board.to_model(shared.read(self.room.doc), text.parse(self._on_disk()))

    def text(self) -> str:
        """The same as text."""
        return text.show(self.model())

    def write(self) -> bool:
        """Write the file; False when it says that already.

        Raises:
            FigError: ``wall_file_changed`` when somebody else wrote it meanwhile; ``file_unwritable``.
        """
        if self.file_changed():
            raise FigError(
                "wall_file_changed",
                f"{self.file} was changed since the wall last read it",
                "Take the file's text into the wall first, or put the file back.",
                file=str(self.file),
            )
        said = self.text()
        if said == self._on_disk():
            return False
        with written_whole(self.file, replace=True) as draft:
            draft.write_text(said, encoding="utf-8")
        self.room.storage.say("seen", _digest(said))
        return True

    def _on_disk(self) -> str:
        try:
            return self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise FigError("no_model", f"the model {self.file} cannot be read: {error}", "Check the file.") from error


def _digest(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()
