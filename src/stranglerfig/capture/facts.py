"""What capture says of itself, gathered from its parts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal

from stranglerfig.capture.model import Progress
from stranglerfig.changes.model import lsn_text
from stranglerfig.foundation.errors import FigError

Standing = Literal["starting", "snapshot", "streaming", "paused", "failed"]


@dataclass(slots=True)
class Facts:
    """The report in the making; whoever learns something writes it here.

    Attributes:
        lsn: everything before it is durable in the log (or was not wanted).
        source_lsn: the end of the source's WAL.
        lag_bytes: of the source's log; None: the difference of the two.
        slot_retained: bytes of WAL that the source keeps for the slot; None where there is none.
        lag_ms: age of the oldest change that is not durable; 0 when there is none.
    """

    state: Standing = "starting"
    error: FigError | None = None
    progress: Progress = field(default_factory=Progress)
    lsn: int = 0
    source_lsn: int = 0
    lag_bytes: int | None = None
    lag_ms: float = 0.0
    wal_status: str | None = None
    safe_wal_size: int | None = None
    slot_retained: int | None = None
    transactions: int = 0
    changes: int = 0
    refusals: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def become(self, state: Standing, error: FigError | None = None) -> None:
        """Change the standing; reported at once."""
        if (state, error) != (self.state, self.error):
            self.state, self.error = state, error
            self.changed.set()

    def report(self) -> dict[str, Any]:
        """As JSON. Rows and changes are counts since this capture started; lag in bytes of WAL and milliseconds."""
        error = self.error
        progress = self.progress
        remaining = progress.remaining if self.state == "snapshot" else None
        return {
            "state": self.state,
            "error": error and {"code": error.code, "message": error.message, "remedy": error.remedy},
            "snapshot_rows": progress.rows,
            "snapshot_total": progress.total,
            "snapshot_rate": round(progress.rate),
            "snapshot_seconds": round(progress.seconds, 3),
            "remaining_seconds": None if remaining is None else round(remaining, 1),
            "lsn": lsn_text(self.lsn),
            "source_lsn": lsn_text(self.source_lsn),
            "lag_bytes": max(0, self.source_lsn - self.lsn) if self.lag_bytes is None else self.lag_bytes,
            "lag_ms": round(self.lag_ms, 1),
            "wal_status": self.wal_status,
            "safe_wal_size": self.safe_wal_size,
            "slot_retained": self.slot_retained,
            "transactions": self.transactions,
            "changes": self.changes,
            "refusals": self.refusals,
        }
