"""``saga_success``: whether sagas end in time, counted as evidence while the context is on its way."""

from __future__ import annotations

import logging
from datetime import datetime

import psycopg

from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.gates.evidence import Samples
from stranglerfig.gates.settings import SagaSuccess
from stranglerfig.sagas import operating

log = logging.getLogger(__name__)
KPI = "saga_success"


class SagaEnds:
    """Reads on where it stopped, in the database that keeps the sagas.

    Each saga that began since :meth:`begin` is one sample, once: a success when it ended within its time, whether
    completed, compensated or refused; else a failure from the moment its time was up, whatever becomes of it.
    """

    def __init__(self, dsn: str, settings: SagaSuccess) -> None:
        self._settings = settings
        self._session = postgres.Kept(dsn, what="observer of sagas")
        self._begun: datetime | None = None
        self._seen: datetime | None = None

    def begin(self) -> None:
        """Sagas that begin from the next look on are counted."""
        self._begun = self._seen = None

    async def look(self, samples: Samples) -> None:
        """Take what came since the last look; that a database is away is no failure of a saga."""
        try:
            async with self._session.session() as conn:
                if self._begun is None or self._seen is None:
                    self._begun = self._seen = await operating.settled(conn)
                    return
                until = await operating.settled(conn)
                found = await operating.ends(
                    conn, self._settings.sagas, begun=self._begun, since=self._seen, until=until,
                    within=self._settings.within / 1000,
                )  # fmt: skip
        except (FigError, psycopg.Error) as error:
            log.warning("sagas are not counted: %s", error, extra={"action": "sagas_uncounted"})
            return
        self._seen = until
        for at, n, late in found:
            samples.count(KPI, at, n=n, failed=late)

    async def close(self) -> None:
        """Let go of the session."""
        await self._session.close()
