"""Proof that a MariaDB and the service hold the same: as ``proof``, with what either database knows of touched rows."""

from __future__ import annotations

from stranglerfig.changes.mapping import Mapping
from stranglerfig.extraction.parts import ContextParts, Parts
from stranglerfig.extraction.ports import Progress
from stranglerfig.extraction.proof import Proof, QuickProof
from stranglerfig.extraction.store import Standing
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.verification.touched import Touched


def quick_proof(parts: Parts, context: ContextParts, standing: Standing, progress: Progress) -> Proof:
    """The proof of a cut-over, for the kind of database that the monolith has."""
    made = QuickProofAcross if mysql.is_mysql(parts.monolith_dsn) else QuickProof
    return made(parts, context, standing, progress)


class QuickProofAcross(Proof):
    """Between a MariaDB and the service."""

    def __init__(self, parts: Parts, context: ContextParts, standing: Standing, progress: Progress) -> None:
        super().__init__(parts, context, standing, progress)
        self._monolith: mysql.Connection | None = None
        self._service: postgres.Connection | None = None
        self._touched: Touched | None = None

    async def close(self) -> None:
        """Let go of the sessions."""
        for conn in (self._monolith, self._service):
            if conn is not None:
                await conn.close()
        await super().close()

    async def _begin(self, mapping: Mapping) -> None:
        if self._monolith is None:
            self._monolith = mysql.Connection(self._parts.monolith_dsn, self._what)
            await self._monolith.open()
        if self._service is None:
            self._service = await postgres.connect(self._context.service_dsn, what=self._what, options="-c jit=off")
        self._touched = Touched(self._monolith, self._service, mapping)
        await self._touched.begin()

    async def prove(self, nonce: str) -> None:
        """Rows touched on either side since the rehearsal, or not settled by it, are equal."""
        assert self._touched is not None and self._service is not None
        await self._derived(self._service)
        for table, unequal in (await self._touched.unequal(self._moving)).items():
            raise FigError(
                "not_equal",
                f"{table}: {len(unequal)} touched rows differ (such as {', '.join(unequal[:3])})",
                "fig verify names the differences.",
                nonce=nonce,
            )
