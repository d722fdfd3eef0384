"""What the benches share: a folder that PostgreSQL's account may pass, servers, sizes, peaks of memory, progress."""

from __future__ import annotations

import contextlib
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


_TICK = os.sysconf("SC_CLK_TCK")


def _busy() -> float:
    """Seconds of processor time that the machine has spent."""
    numbers = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / _TICK


def _trees() -> tuple[dict[int, float], dict[int, int]]:
    """Seconds that each process (with its children that have ended) has spent, and each one's parent."""
    spent: dict[int, float] = {}
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
                spent[int(folder.name)] = sum(map(int, fields[11:15])) / _TICK
    return spent, parents


def cpu_seconds(pid: int) -> float:
    """The processor time that a process, its threads and its ended children have spent."""
    return _trees()[0][pid]


class Spent:
    """The processor time that some processes, all of this bench's, and other programs spend from now on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._begun = time.perf_counter()
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        spent, parents = _trees()
        found = {name: spent.get(pid, 0.0) for name, pid in self._pids.items()}
        mine = 0.0
        for pid, seconds in spent.items():
            at = pid
            while at > 1 and at != os.getpid():
                at = parents.get(at, 0)
            mine += seconds if at == os.getpid() else 0.0
        return found | {"the bench with its servers": mine, "the machine": _busy()}

    def says(self) -> str:
        """Cores busy on average, in words."""
        seconds = time.perf_counter() - self._begun
        now = self._now()
        cores = {name: (now[name] - before) / seconds for name, before in self._before.items()}
        others = max(0.0, cores.pop("the machine") - cores["the bench with its servers"])
        listed = ", ".join(f"{name} {busy:.2f}" for name, busy in cores.items())
        return f"cores busy of {os.cpu_count()}: {listed}, other programs {others:.2f}"


def await_quiet(most: float, patience: float, say: Callable[[str], None]) -> None:
    """Wait until less than ``most`` cores are busy; goes on after ``patience`` seconds, and says so."""
    deadline = time.perf_counter() + patience
    told = False
    while patience > 0:
        before, begun = _busy(), time.perf_counter()
        time.sleep(1.0)
        busy = (_busy() - before) / (time.perf_counter() - begun)
        if busy < most:
            return
        if time.perf_counter() > deadline:
            say(f"other programs keep {busy:.1f} cores busy: the figures say less than they could")
            return
        if not told:
            told = True
            say(f"other programs keep {busy:.1f} cores busy: waiting for a quiet moment")


def until(condition: Callable[[], bool], timeout: float, what: str, every: float = 0.01) -> float:
    """Wait for something; returns when it was seen (``time.perf_counter``)."""
    deadline = time.perf_counter() + timeout
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}, in vain")
        time.sleep(every)
    return time.perf_counter()
