"""Proof that a MariaDB and the service hold the same: as ``proof``, with what either database knows of touched rows."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC

from stranglerfig.extraction import proof
from stranglerfig.extraction.parts import ContextParts, Parts, Progress
from stranglerfig.extraction.proof import QuickProof
from stranglerfig.extraction.store import Standing
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.verification.model import Key
from stranglerfig.verification.touched import Touched


def quick_proof(
    parts: Parts, context: ContextParts, standing: Standing, progress: Progress
) -> QuickProof | QuickProofAcross:
    """The proof of a cut-over, for the kind of database that the monolith has."""
    made = QuickProofAcross if mysql.is_mysql(parts.monolith_dsn) else QuickProof
    return made(parts, context, standing, progress)


class QuickProofAcross:
    """``ProofPort`` of a cut-over: rehearse compares everything, prove only what was touched since.

    Sessions are open before anything is held.
    """

    def __init__(self, parts: Parts, context: ContextParts, standing: Standing, progress: Progress) -> None:
        self._parts = parts
        self._context = context
        self._standing = standing
        self._progress = progress
        self._monolith: mysql.Connection | None = None
        self._service: postgres.Connection | None = None
        self._control: postgres.Connection | None = None
        self._touched: Touched | None = None
        self._moving: MappingABC[str, tuple[Key, ...]] = {}

    async def close(self) -> None:
        """Let go of the sessions."""
        for conn in (self._monolith, self._service, self._control):
            if conn is not None:
                await conn.close()

    async def rehearse(self) -> None:
        """The whole comparison, before anything is held."""
        what = f"proof:{self._context.settings.context}"
        if self._monolith is None:
            self._monolith = mysql.Connection(self._parts.monolith_dsn, what)
            await self._monolith.open()
        if self._service is None:
            self._service = await postgres.connect(self._context.service_dsn, what=what, options="-c jit=off")
        if self._control is None:
            self._control = await postgres.connect(self._parts.control_dsn, what=what)
        mapping = await proof.mapping_now(self._parts, self._context, retired=False)
        mapping.require_reversible()
        self._touched = Touched(self._monolith, self._service, mapping)
        await self._touched.begin()
        found = await proof.compare(self._parts, self._context, self._standing, self._progress)
        proof.require_equal(found)
        # Neither equal nor different yet: to be proved one by one, also where only a removal is on its way.
        self._moving = found.moving

    async def prove(self, nonce: str) -> None:
        """Rows touched on either side since the rehearsal, or not settled by it, are equal."""
        assert self._touched is not None and self._service is not None and self._control is not None
        if self._standing.owner != "service" and self._context.settings.derive:
            await proof.derived(self._service, self._control, self._context.settings.context)
        for table, unequal in (await self._touched.unequal(self._moving)).items():
            raise FigError(
                "not_equal",
                f"{table}: {len(unequal)} touched rows differ (such as {', '.join(unequal[:3])})",
                "fig verify names the differences.",
                nonce=nonce,
            )
