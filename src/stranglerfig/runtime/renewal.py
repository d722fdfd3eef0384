"""``contexts/*/extraction.yaml`` while ``fig up`` runs: what of it the processes are to be started anew with.

A process that dies reads the files as they are then, so that what is refused here stays to be mended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.rereading import Stamp, stamp
from stranglerfig.runtime.settings import ESTATE_FILE, Project, load_project

if TYPE_CHECKING:
    from stranglerfig.extraction.settings import ExtractionSettings

Made = Callable[[Project, "ExtractionSettings"], Awaitable[Mapping[str, Any]]]


class Renewal:
    """Asked now and then, answers with the project as it is to be run.

    Args:
        project: what runs; its extractions are read.
        made: what the cut-over was made with by which the service owns a context; empty where it does not.

    Attributes:
        refused: why what stands in the files is not in force; None when it is.
    """

    def __init__(self, project: Project, made: Made | None = None) -> None:
        self._running = project
        self._made = made or _made
        self._known = dict(project.extractions)
        self._seen = _stamps(project)
        self._open = False
        self.refused: FigError | None = None

    async def look(self, streaming: Callable[[], Awaitable[Iterable[str]]]) -> Project | None:
        """The project anew, where its files say something else than what runs; None where there is nothing to do.

        Args:
            streaming: says the contexts whose streams run; asked only where a file has changed.
        """
        now = await asyncio.to_thread(_stamps, self._running)
        if now == self._seen and not self._open:
            return None
        self._seen, self._open = now, True
        try:
            found, changed = await asyncio.to_thread(self._read)
            for name in changed & frozenset(await streaming() if changed else ()):
                await self._refuse_under_streams(found, name)
        except FigError as error:
            self.refused = error
            return None
        self.refused, self._open = None, bool(changed)
        return found if changed else None

    def taken(self, project: Project, failed: FigError | None = None) -> None:
        """``project`` is what runs from now on, or what processes try to run again and again where one ``failed``."""
        self._running = project
        self._known = dict(project.extractions)
        self._open, self.refused = False, failed

    def _read(self) -> tuple[Project, set[str]]:
        """The project as its files say it, and the contexts that are new or others."""
        project = load_project(self._running.directory, self._running.environment)
        found = project.extractions
        if project.estate != self._running.estate:
            raise _waits(project.directory / ESTATE_FILE, "it has changed", "Start fig again: fig down, fig up.")
        for gone in self._known.keys() - found.keys():
            raise _waits(
                project.directory / "contexts",
                f"no extraction.yaml has the context '{gone}' any more",
                "Put it back; to be rid of it, abort the extraction and start fig again.",
            )
        changed = {name for name, settings in found.items() if not _as_good_as(self._known.get(name), settings)}
        for name in changed:
            _possible(project, found[name])
        return project, changed

    async def _refuse_under_streams(self, project: Project, name: str) -> None:
        from stranglerfig.extraction.made import require_same

        new = project.extractions[name]
        if (old := self._known.get(name)) is None:
            return
        if wrong := fixed(old, new):
            raise _waits(
                project.folder(name) / "extraction.yaml",
                f"{', '.join(wrong)} cannot change while the streams of '{name}' run",
                "Set it back; or roll back to build, which ends them, and advance again.",
            )
        require_same(new, await self._made(project, new))


def fixed(old: ExtractionSettings, new: ExtractionSettings) -> list[str]:
    """The keys of ``extraction.yaml`` that differ, of those that rows already copied depend on.

    A conflict rule may be given at any time; who writes, and the triggers, are held against the cut-over itself.
    """
    pairs = {
        "tables": (_mapping(old), _mapping(new)),
        "capture": (old.capture, new.capture),
        "service.database": (old.service.database, new.service.database),
        "service.outbox": (old.service.outbox, new.service.outbox),
    }
    return [name for name, (before, after) in pairs.items() if before != after]


def _mapping(settings: ExtractionSettings) -> list[dict[str, Any]]:
    return [table.model_dump(exclude={"conflicts"}) for table in settings.tables]


async def _made(project: Project, settings: ExtractionSettings) -> Mapping[str, Any]:
    from stranglerfig.databases import sides

    async with sides.session(project.reveal(settings.service.database), what="configuration") as service:
        return await service.made_with(settings.context)


def _as_good_as(old: ExtractionSettings | None, new: ExtractionSettings) -> bool:
    """Whether they are the same but for what takes effect by itself."""
    from stranglerfig.extraction.addresses import taken_up

    return old is not None and new == old.model_copy(update={"service": taken_up(old.service, new.service)})


def _possible(project: Project, settings: ExtractionSettings) -> None:
    """Refuse what a process could not be started with: a secret that is not there, a broker that nobody named."""
    from stranglerfig.runtime.wiring import broker, saga_database

    project.reveal(settings.service.database)
    saga_database(project, settings.context, settings)
    if settings.queues:
        broker(project)


def _waits(file: Path, why: str, remedy: str) -> FigError:
    return FigError("waits_for_a_start", f"{file}: {why}", remedy, file=str(file))


def _stamps(project: Project) -> Mapping[Path, Stamp | None]:
    files = [project.directory / ESTATE_FILE, *project.directory.glob("contexts/*/extraction.yaml")]
    return {file: stamp(file) for file in files}
