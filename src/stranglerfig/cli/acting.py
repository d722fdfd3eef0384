"""Commands that change something without the controller: who may, and the line in the audit trail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from stranglerfig.access import audit, credentials
from stranglerfig.access.model import Principal, Role, local, not_permitted
from stranglerfig.cli.extraction import asker, origin
from stranglerfig.cli.main import Fig
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError


@asynccontextmanager
async def acting(
    fig: Fig,
    action: str,
    details: Mapping[str, Any],
    *,
    context: str = "",
    role: Role = Role.OPERATOR,
    harmless: bool = False,
) -> AsyncIterator[None]:
    """Do ``action`` in this block: whoever may not is refused before it, and what became of it is in the audit trail.

    What is ``harmless`` (a dry run, a copy into a file) anyone may. Without ``access`` in fig.yaml whoever reaches the
    databases may act; where no control database answers then, there is no trail to write to.

    Raises:
        FigError: ``token_missing``, ``token_refused``, ``not_permitted``; ``not_running``, ``database_unreachable``
            where access is configured; what the block raises.
    """
    conn = None if harmless else await _trail(fig)
    if conn is None:
        yield
        return
    try:
        await credentials.migrate(conn)
        who = await _permitted(fig, conn, action, context, role)
        try:
            yield
        except FigError as error:
            await audit.record(conn, audit.Entry(who, action, "failed", context, error.code, details))
            raise
        await audit.record(conn, audit.Entry(who, action, "done", context, details=details))
    finally:
        await conn.close()


async def _trail(fig: Fig) -> postgres.Connection | None:
    """A session with the control database; None where nobody must be asked for and none is there."""
    try:
        return await postgres.connect(fig.control, what="cli")
    except FigError as error:
        if fig.project.estate.access is not None or error.code not in ("not_running", "database_unreachable"):
            raise
        return None


async def _permitted(fig: Fig, conn: postgres.Connection, action: str, context: str, role: Role) -> Principal:
    if fig.project.estate.access is None:
        return local(asker(), origin())
    who = Principal(asker(), "", Role.VIEWER, "unverified", origin())
    try:
        if fig.token is None:
            raise FigError(
                "token_missing",
                f"this estate wants to know who asks, and '{action}' came without a token",
                "Set FIG_TOKEN to your token; an approver makes one: fig token create NAME --role operator.",
            )
        who = (await credentials.identify(conn, fig.token)).principal(origin())
        if not who.role.covers(role):
            raise not_permitted(who, action, role)
    except FigError as error:
        await audit.record(conn, audit.Entry(who, action, "refused", context, error.code))
        raise
    return who
