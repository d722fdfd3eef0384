"""The console as a role of ``fig up``."""

from __future__ import annotations

import asyncio

from stranglerfig.console.access import ConsoleAccess
from stranglerfig.console.app import ConsoleServer
from stranglerfig.console.entry import Entry
from stranglerfig.console.reading import Reading
from stranglerfig.runtime.datadir import DataDirectory
from stranglerfig.runtime.roles import Role, serve
from stranglerfig.runtime.settings import Project


def server_of(project: Project, control: str) -> ConsoleServer:
    """A project's console, not started yet."""
    data = DataDirectory(project.data_directory)
    settings = project.estate.access
    access = None
    if settings is not None:
        named = None if settings.oidc is None else settings.oidc.client_secret
        secret = None if named is None else project.secret(named)
        public = frozenset({"/api/openapi.json"})
        access = ConsoleAccess(settings, control, secret=secret, estate=project.estate.name, public=public)
    return ConsoleServer(Reading(project, control), Entry(data.path / "console"), access=access)


def be(role: Role) -> None:
    """Serve the console on its port until the process is asked to end."""

    async def work() -> None:
        server = server_of(role.project, role.control)
        try:
            await server.start("127.0.0.1", role.ports["console"])
            role.ready()
            await asyncio.Event().wait()
        finally:
            await server.stop()

    serve(role, work())
