"""What the console reads of a project: its settings, and the control database over one kept session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stranglerfig.changes.flows import Flow, Flows
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.extraction.journal import Journal
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.extraction.store import Store
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection, Kept
from stranglerfig.gates.evidence import EvidenceStore
from stranglerfig.runtime.datadir import DataDirectory
from stranglerfig.runtime.settings import Estate, MonolithSettings, Project
from stranglerfig.runtime.wiring import open_log, open_registry
from stranglerfig.schemas.ports import Registry
from stranglerfig.verification import shadow


class Reading:
    """One project, as whoever only looks sees it: it begins no extraction and writes nothing but tables that miss."""

    def __init__(self, project: Project, control: str) -> None:
        self.project = project
        self.control = control
        self.data = DataDirectory(project.data_directory)
        self.flows = Flows(control, keep=True)
        self.evidence = EvidenceStore(control)
        self.journal = Journal(control)
        self._kept = Kept(control, what="console")
        self._log: EventLog | None = None
        self._registry: Registry | None = None

    @classmethod
    def nowhere(cls) -> Reading:
        """Of no project: enough to say what routes there are."""
        from pathlib import Path

        monolith = MonolithSettings.model_construct()
        estate = Estate.model_construct(name="nowhere", monolith=monolith, data=Path(".fig"))
        return cls(Project(Path(), estate, {}), "")

    async def prepare(self) -> None:
        """Create or bring forward the tables that are read, whichever role would have been the first."""
        await (await Store.open(self.control, what="console")).close()
        await self.flows.migrate()
        await self.evidence.migrate()
        await self.journal.migrate()
        own = PostgresLog(self.control)
        try:
            await own.migrate()
        finally:
            await own.close()
        async with self.session() as conn:
            await shadow.migrate(conn)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """The kept session, for one reader at a time."""
        async with self._kept.session() as conn:
            yield conn

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The extraction's rows, over the kept session."""
        async with self._kept.session() as conn:
            yield Store(conn)

    @property
    def log(self) -> EventLog:
        """The event log, opened by whoever looks at it first."""
        if self._log is None:
            self._log = open_log(self.project)
        return self._log

    @property
    def registry(self) -> Registry:
        """The schema registry, the same way."""
        if self._registry is None:
            self._registry = open_registry(self.project)
        return self._registry

    def settings(self, context: str) -> ExtractionSettings:
        """A context's ``extraction.yaml``.

        Raises:
            FigError: ``unknown_context``.
        """
        known = self.project.extractions
        if context not in known:
            raise FigError(
                "unknown_context",
                f"there is no context '{context}' (known: {', '.join(known) or 'none'})",
                "Check the name, or write contexts/NAME/extraction.yaml; fig ps says when it cannot be taken up.",
            )
        return known[context]

    async def flows_of(self, context: str) -> list[Flow]:
        """A context's flows, both directions."""
        return [flow for flow in await self.flows.all() if flow.context == context]

    async def close(self) -> None:
        """End the sessions."""
        for opened in (self._log, self._registry):
            if opened is not None:
                await opened.close()
        await self.flows.close()
        await self.evidence.close()
        await self.journal.close()
        await self._kept.close()
