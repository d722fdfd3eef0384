"""What a service's database says of its sagas, for metrics; with what :mod:`stranglerfig.kit.measuring` says."""

from __future__ import annotations

from stranglerfig.foundation import postgres
from stranglerfig.foundation.postgres import Connection
from stranglerfig.kit import measuring
from stranglerfig.kit.operating import is_kept_here
from stranglerfig.sagas.operating import has_sagas, queries
from stranglerfig.telemetry.metrics import ServiceFigures


async def measure(conn: Connection, service: str, figures: ServiceFigures) -> bool:
    """Read what waits in a service's database, and show it; whether it is one of the kit's."""
    if not await is_kept_here(conn):
        figures.unknown(service)
        return False
    kit = await measuring.measured(conn)
    here = {"outbox_messages": float(kit.outbox), "outbox_oldest_seconds": kit.oldest}
    if not await has_sagas(conn):
        figures.show(service, here, kit.parked, None)
        return True
    sagas = [(name, status, int(count)) for name, status, count in await postgres.fetch(conn, queries.counted)]
    row = await postgres.one(conn, queries.saga_figures)
    assert row is not None
    figures.show(service, here, kit.parked, sagas, due=float(row[0]), blocked=int(row[1]))
    return True
