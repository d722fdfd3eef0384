"""How far a direction's changes are in: the row of ``fig.applied``, and what it becomes. Pure but for the clock."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from stranglerfig.changes.model import Item, SnapshotChunk, SnapshotEdge, SourcePosition, Transaction
from stranglerfig.foundation import clock
from stranglerfig.sync.model import position_of


@dataclass(frozen=True, slots=True)
class Applied:
    """The row of ``fig.applied``: how far this direction is in, and where the log is read next.

    ``updated_at`` is of the row as it was found, on a PostgreSQL.
    """

    generation: int = 0
    lsn: int = 0
    ordinal: int = 0
    log_position: int = 0
    activated: int = 0
    source_committed_at: int | None = None
    snapshot_rows: int = 0
    snapshot_total: int = 0
    snapshot_began_at: datetime | None = None
    snapshot_ended_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def position(self) -> SourcePosition:
        """The last change that is in."""
        return SourcePosition(self.lsn, self.ordinal)


class Unit(NamedTuple):
    """An item of the log, and the log position to go on from once it is applied."""

    item: Item
    log_position: int


def before(units: Sequence[Unit], at: SourcePosition) -> list[Unit]:
    """Those of ``units`` that end before ``at``."""
    return list(itertools.takewhile(lambda unit: position_of(unit.item) < at, units))


def after(applied: Applied, units: Sequence[Unit], activated: int) -> Applied:
    """How far the direction is once ``units`` are in, and with them epoch ``activated``."""
    last = units[-1]
    lsn, ordinal = position_of(last.item)
    then = replace(applied, lsn=lsn, ordinal=ordinal, log_position=last.log_position, activated=activated)
    for unit in units:
        item = unit.item
        if isinstance(item, Transaction):
            then = replace(then, source_committed_at=item.committed_at) if unit is last else then
        elif isinstance(item, SnapshotChunk):
            then = replace(then, snapshot_rows=then.snapshot_rows + item.rows)
        elif isinstance(item, SnapshotEdge) and item.begins:
            then = replace(
                then,
                generation=item.generation,
                snapshot_rows=0,
                snapshot_total=item.total_rows,
                snapshot_began_at=clock.now(),
                snapshot_ended_at=None,
            )
        elif isinstance(item, SnapshotEdge):
            then = replace(then, snapshot_total=item.total_rows or then.snapshot_rows, snapshot_ended_at=clock.now())
    return then
