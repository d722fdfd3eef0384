"""The most memory that any process of ours held while it moved a million rows or a backlog."""

from __future__ import annotations

from bench import snapshot, stream
from bench.context import Context
from bench.result import Result


def peaks(context: Context) -> list[Result]:
    """``memory``: from the benches that ran before; those that are needed and did not run are run."""
    for name, bench in (("snapshot_mapped", snapshot.mapped), ("backlog", stream.backlog)):
        if f"{name}/sync" not in context.peaks:
            bench(context)
    worst = max(context.peaks, key=lambda process: context.peaks[process])
    listed = ", ".join(f"{process} {peak:.0f}" for process, peak in sorted(context.peaks.items()))
    return [Result("memory", context.peaks[worst], "MB", target=200.0, note=f"most: {worst}; of all: {listed}")]
