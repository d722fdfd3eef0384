"""What the benches share: a folder that PostgreSQL's account may pass, servers, sizes, peaks of memory, progress."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stranglerfig.runtime.embedded import EmbeddedPostgres


@dataclass
class Context:
    """One run of the benches.

    Attributes:
        scale: what numbers of rows, transactions and seconds are multiplied by; targets are for 1.
        peaks: MB that each process of ours held at most, by ``bench/process``.
    """

    root: Path
    scale: float
    say: Callable[[str], None]
    peaks: dict[str, float] = field(default_factory=dict)

    def rows(self, full: int) -> int:
        """A number of rows at this scale."""
        return max(1000, int(full * self.scale))

    def seconds(self, full: float) -> float:
        """A length of time at this scale."""
        return max(3.0, full * self.scale)

    def peak(self, process: str, megabytes: float) -> None:
        """Keep the highest."""
        self.peaks[process] = max(self.peaks.get(process, 0.0), megabytes)

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """A folder that is gone afterwards."""
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))
        path.chmod(0o755)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def servers(self, *names: str, **settings: str) -> Iterator[list[EmbeddedPostgres]]:
        """PostgreSQL servers as ``fig up`` runs them, durable, each with a data directory of its own."""
        with self.folder("servers") as root:
            started = [EmbeddedPostgres(root / name, settings=settings, die_with_parent=True) for name in names]
            try:
                for server in started:
                    server.start()
                yield started
            finally:
                for server in started:
                    server.stop()


def until(condition: Callable[[], bool], timeout: float, what: str, every: float = 0.01) -> float:
    """Wait for something; returns when it was seen (``time.perf_counter``)."""
    deadline = time.perf_counter() + timeout
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}, in vain")
        time.sleep(every)
    return time.perf_counter()
