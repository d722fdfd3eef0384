"""What the benches share: a folder that PostgreSQL's account may pass, servers, sizes, peaks of memory, progress."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
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


class Spent:
    """The processor time that some processes, and the whole machine, spend from now on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._begun = time.perf_counter()
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        tick = os.sysconf("SC_CLK_TCK")
        found = {}
        for name, pid in self._pids.items():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found[name] = (int(fields[11]) + int(fields[12])) / tick
        numbers = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        found["the machine"] = (sum(numbers) - numbers[3] - numbers[4]) / tick
        return found

    def says(self) -> str:
        """Cores busy on average, in words."""
        seconds = time.perf_counter() - self._begun
        now = self._now()
        listed = ", ".join(f"{name} {(now[name] - before) / seconds:.2f}" for name, before in self._before.items())
        return f"cores busy: {listed} of {os.cpu_count()}"


def until(condition: Callable[[], bool], timeout: float, what: str, every: float = 0.01) -> float:
    """Wait for something; returns when it was seen (``time.perf_counter``)."""
    deadline = time.perf_counter() + timeout
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}, in vain")
        time.sleep(every)
    return time.perf_counter()
