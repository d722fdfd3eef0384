"""What the reports of one direction's sync say: how far it is, how fast, and what is in its way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from stranglerfig.changes.model import Transaction, lsn_text
from stranglerfig.eventlog.model import shown
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync.applied import Applied, Unit
from stranglerfig.sync.ends import Target
from stranglerfig.sync.latencies import Histogram, Since, Window
from stranglerfig.sync.target import SyncJob
from stranglerfig.telemetry import traces

_WIDEST = 2**53 - 1


@dataclass(slots=True)
class Progress:
    """What the reports say."""

    job: SyncJob
    urgent: asyncio.Event
    state: str = "starting"
    error: FigError | None = None
    applied: Applied = field(default_factory=Applied)
    log_end: int | None = None
    rows: int = 0
    transactions: int = 0
    parked: int = 0
    conflicts: int = 0
    target: Target | None = None
    waits_for: list[dict[str, Any]] = field(default_factory=list)
    since: Since = field(default_factory=Since)
    latencies: Histogram = field(default_factory=Histogram)
    window: Window = field(default_factory=Window)
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=20))

    def opened(self) -> None:
        """The target can be reached; whose rows are held by somebody else may still have to wait for them."""
        if self.error is not None and self.error.code != "rows_busy":
            self.error = None

    def begin(self, target: Target) -> None:
        """Take up ``target`` where it stands."""
        self.target, self.applied = target, target.applied
        at = self.applied.source_committed_at
        applied = None if at is None else _latest(at)
        self.since.begin(_epoch(self.applied.snapshot_ended_at), applied, _epoch(self.applied.updated_at))

    def committed(self, units: Sequence[Unit], applied: Applied, rows: int) -> None:
        """Count what one commit brought."""
        self.applied, self.error = applied, None
        now = clock.epoch()
        here = Histogram()
        times = [_latest(unit.item.committed_at) for unit in units if isinstance(unit.item, Transaction)]
        ended: list[traces.Opened | None] = []
        before = self.transactions
        counts = self.since.see(_epoch(applied.snapshot_ended_at), min(times), now) * 1e6 if times else 0.0
        for unit in units:
            item = unit.item
            if isinstance(item, Transaction) and item.end:
                self.transactions += 1
                if item.committed_at > counts:
                    here.add(max(0.0, now * 1000 - item.committed_at / 1000))
                if item.trace is not None:
                    name = f"apply {self.job.context} {self.job.direction}"
                    ended.append(traces.since(name, item.trace, item.committed_at / 1e6, lsn=lsn_text(item.lsn)))
        spans = [each for each in ended if each is not None]
        what = f"apply {self.job.context} {self.job.direction}: commit"
        traces.end_together(what, spans, size=self.transactions - before)
        if here.count:
            self.latencies.merge(here)
            self.window.merge(int(now), here)
        self.rows += rows

    @property
    def behind(self) -> int:
        """How many records of the log are not in yet; where positions have gaps, how many at most."""
        return min(max(0, (self.log_end or 0) - self.applied.log_position), _WIDEST)

    def report(self) -> dict[str, Any]:
        """The report's keys as ``fig status`` and the gates read them; times in seconds but where named otherwise."""
        applied = self.applied
        now = clock.monotonic()
        self.recent.append((now, self.rows))
        then, rows = self.recent[0]
        rate = (self.rows - rows) / (now - then) if now > then else 0.0
        began, ended = applied.snapshot_began_at, applied.snapshot_ended_at
        seconds = ((ended or clock.now()) - began).total_seconds() if began else None
        left = None
        if began and not ended and seconds and applied.snapshot_rows:
            left = round((applied.snapshot_total - applied.snapshot_rows) * seconds / applied.snapshot_rows, 1)
        committed = applied.source_committed_at
        return {
            "state": self.state,
            "error": self.error.as_dict() if self.error else None,
            "generation": applied.generation,
            "applied_lsn": lsn_text(applied.lsn),
            "applied_ordinal": applied.ordinal,
            "activated": applied.activated,
            "log_position": shown(applied.log_position),
            "log_end": None if self.log_end is None else shown(self.log_end),
            "behind": self.behind,
            "snapshot_rows": applied.snapshot_rows,
            "snapshot_total": applied.snapshot_total,
            "snapshot_done": ended is not None,
            "snapshot_seconds": round(seconds, 3) if seconds is not None else None,
            "remaining_seconds": left,
            "rows": self.rows,
            "transactions": self.transactions,
            "rate": round(rate, 1),
            "latency_ms": self.window.total(int(clock.epoch())).summary(),
            "latency_total_ms": self.latencies.summary(),
            "latency_histogram": self.latencies.pairs(),
            "parked": self.parked,
            "conflicts": self.conflicts,
            "waits_for": self.waits_for,
            "last_source_committed_at": committed / 1e6 if committed is not None else None,
        }


def _epoch(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _latest(committed_at: int) -> float:
    """When a commit was at the latest, in seconds: one that has no fraction (MariaDB's) may have had any."""
    return committed_at / 1e6 + (0.0 if committed_at % 1_000_000 else 1.0)
