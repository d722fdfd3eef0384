"""What the contexts of an estate take turns at: they share a façade, and the monolith's database.

A turn is a lock of a session in the control database, so that whoever starts processes anew can wait for it too:
nobody takes the fence away from under a cut-over. No cut-over's safety rests on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stranglerfig.extraction.ports import Progress
from stranglerfig.foundation import postgres


class Turns:
    """The turns of one controller.

    Attributes:
        fenced: the context whose writes are held now: whoever sets routes meanwhile sets them so.
    """

    def __init__(self) -> None:
        self.fenced: str | None = None
        self._cutting = asyncio.Lock()
        self._context = ""

    @asynccontextmanager
    async def cut_over(self, control_dsn: str, context: str, progress: Progress) -> AsyncIterator[None]:
        """One at a time; says for whom it waits.

        Raises:
            FigError: ``database_unreachable``, before anything is held.
        """
        if self._cutting.locked():
            await progress(f"waiting for the cut-over of {self._context}", {})
        async with self._cutting, postgres.session(control_dsn, what="turn") as conn:
            if not await _try(conn):
                await progress("waiting for the processes that fig up starts with the new extraction.yaml", {})
                await conn.execute("SELECT pg_advisory_lock(hashtextextended('fig.turn', 0))")
            self._context = context
            try:
                yield
            finally:
                self.fenced = None


@asynccontextmanager
async def between_cut_overs(control_dsn: str) -> AsyncIterator[bool]:
    """A time in which no cut-over begins; False when one is under way.

    Raises:
        FigError: ``database_unreachable``.
    """
    async with postgres.session(control_dsn, what="turn") as conn:
        yield await _try(conn)


async def _try(conn: postgres.Connection) -> bool:
    return bool(await postgres.value(conn, "SELECT pg_try_advisory_lock(hashtextextended('fig.turn', 0))"))
