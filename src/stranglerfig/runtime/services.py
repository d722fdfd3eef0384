"""The databases of services that are written with the kit: those of the contexts, and those that ``fig.yaml`` names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.runtime.settings import Project

Has = Callable[[Connection], Awaitable[bool]]


def databases(project: Project, only: str | None = None) -> dict[str, str]:
    """Each service's DSN by its name: a context's, or one of ``services`` in ``fig.yaml``.

    Raises:
        FigError: ``unknown_service``.
    """
    found = {name: each.service.database for name, each in project.extractions.items()} | project.estate.services
    if only is not None and only not in found:
        raise FigError(
            "unknown_service",
            f"there is no service '{only}'; known are: {', '.join(sorted(found)) or 'none'}",
            "Name a context, or write services: {NAME: {env: DSN}} into fig.yaml.",
            service=only,
            known=sorted(found),
        )
    return {
        name: dsn
        for name, reference in found.items()
        if only in (None, name) and not mysql.is_mysql(dsn := project.reveal(reference))
    }


async def each(project: Project, only: str | None, has: Has) -> AsyncIterator[tuple[str, Connection]]:
    """A session with each service's database that keeps what ``has`` asks for.

    Raises:
        FigError: ``unknown_service``, ``database_unreachable``, ``newer_schema``; ``nothing_kept`` when none has it.
    """
    from stranglerfig.kit import service
    from stranglerfig.sagas import instances

    names = databases(project, only)
    there = 0
    for name, dsn in names.items():
        async with postgres.session(dsn, what="cli") as conn:
            await postgres.require_known(conn, (service.TABLES, instances.TABLES))
            if await has(conn):
                there += 1
                yield name, conn
    if not there:
        raise FigError(
            "nothing_kept",
            f"no service written with the kit is among: {', '.join(names) or 'no services'}",
            "Its migrate() makes the kit's tables; what is no context's is named under services in fig.yaml.",
            services=list(names),
        )
