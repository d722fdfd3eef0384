"""What a service's database says of its outbox and its parked messages, for metrics."""

from __future__ import annotations

from dataclasses import dataclass

from stranglerfig.foundation import postgres
from stranglerfig.foundation.postgres import Connection
from stranglerfig.kit.states import queries


@dataclass(frozen=True, slots=True)
class KitFigures:
    """What waits in a service.

    Attributes:
        outbox: how many messages the outbox holds.
        oldest: seconds that its oldest message has waited; 0 when it is empty.
        parked: by subscription, how many messages are parked, and how many wait behind such.
    """

    outbox: int
    oldest: float
    parked: tuple[tuple[str, int, int], ...]


async def measured(conn: Connection) -> KitFigures:
    """Read them; the database must have the kit's tables (:func:`~stranglerfig.kit.operating.is_kept_here`)."""
    row = await postgres.one(conn, queries.outbox_figures)
    assert row is not None
    parked = await postgres.fetch(conn, queries.parked_figures)
    return KitFigures(
        int(row[0]), float(row[1]), tuple((name, int(here), int(behind)) for name, here, behind in parked)
    )
