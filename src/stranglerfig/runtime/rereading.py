"""``contexts/*/extraction.yaml`` while a process runs: which have changed, and what they say now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.settings import Project

Stamp = tuple[int, int, int]


class Rereading:
    """Asked now and then, answers with what is new. A file is only read again when its inode, size or time differs.

    Args:
        project: whose extractions; read once now, so that what changed since they were loaded is not passed over.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._last: dict[str, ExtractionSettings | FigError] = dict(project.extractions)
        self._files = {project.folder(name) / "extraction.yaml": name for name in project.extractions}
        self._stamps: dict[Path, Stamp | None] = {}

    def __call__(self) -> Mapping[str, ExtractionSettings | FigError]:
        """The contexts whose file says something else than at the last call, or can no longer be read."""
        found: dict[str, ExtractionSettings | FigError] = {}
        for file, name in self._files.items():
            found_now = stamp(file)
            if self._stamps.get(file, ()) == found_now:
                continue
            self._stamps[file] = found_now
            now = self._now(file, name)
            if not _same(now, self._last[name]):
                self._last[name] = found[name] = now
        return found

    def _now(self, file: Path, name: str) -> ExtractionSettings | FigError:
        try:
            settings = self._project.load_extraction(file)
        except FigError as error:
            return error
        if settings.context != name:
            return FigError(
                "bad_configuration",
                f"{file}: context: found '{settings.context}', where '{name}' was when fig was started",
                "Set it back.",
                file=str(file),
            )
        return settings


def _same(one: ExtractionSettings | FigError, other: ExtractionSettings | FigError) -> bool:
    if isinstance(one, FigError) or isinstance(other, FigError):
        return isinstance(one, FigError) and isinstance(other, FigError) and one.message == other.message
    return one == other


def stamp(file: Path) -> Stamp | None:
    """What differs when the file was written anew; None when it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
