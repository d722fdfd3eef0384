"""What a server on this machine takes, seen in ``/proc``: who listens on a port, its processes, their memory."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from stranglerfig.eventlog.choosing.model import Footprint

_LISTEN = "0A"  # TCP_LISTEN in include/net/tcp_states.h


def listening(port: int, root: Path = Path("/proc")) -> int | None:
    """The process that listens on the TCP port; None when there is none that we may see."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port, root)}
    if not sockets:
        return None
    pids = sorted(int(folder.name) for folder in root.iterdir() if folder.name.isdigit())
    for pid in pids:
        with suppress(OSError):
            if any(str(link.readlink()) in sockets for link in (root / str(pid) / "fd").iterdir()):
                return pid
    return None


def _inodes(port: int, root: Path) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (root / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def of_process(pid: int, root: Path = Path("/proc")) -> Footprint | None:
    """A process and all below it; None when it is not ours to see. Memory is PSS: what several share counts once."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in root.iterdir():
        if folder.name.isdigit():
            with suppress(OSError, IndexError):
                children[int((folder / "stat").read_text().rpartition(")")[2].split()[1])].append(int(folder.name))
    family, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        family.append(one)
        waiting += children[one]
    try:
        memory = sum(_pss(one, root) for one in family)
    except OSError:
        return None
    return Footprint(len(family), memory)


def _pss(pid: int, root: Path) -> int:
    """Bytes (proc(5), smaps_rollup); nothing of a process that has ended meanwhile."""
    try:
        text = (root / str(pid) / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


def of_server(host: str, port: int) -> Footprint | None:
    """What the server at the address takes, when it is on this machine and may be seen."""
    if host not in ("127.0.0.1", "localhost", "::1") or not os.path.isdir("/proc/net"):  # noqa: PTH112
        return None
    pid = listening(port)
    return None if pid is None else of_process(pid)
