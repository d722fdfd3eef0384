"""Processes by their ids: what they are, that they end with their parent, and how one is ended."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from stranglerfig.foundation import clock

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(number: int) -> Callable[[], None] | None:
    """What a child calls before it becomes another program, so that it gets signal ``number`` when its parent dies.

    None where the kernel has no such thing (only Linux has). The signal comes at the end of the parent's *thread*:
    start such children from the main thread.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # loaded here: a forked child must not load libraries

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)

    return ask


def follow(parent: int) -> bool:
    """Ask for SIGTERM when ``parent`` dies; False when it is gone already."""
    if ask := die_with_parent(signal.SIGTERM):
        ask()
    return os.getppid() == parent


def alive(pid: int) -> bool:
    """Whether a process has this id (a zombie counts as gone)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return not Path("/proc/self").exists()


def command_line(pid: int) -> str:
    """The command line of a process; empty when there is none."""
    if not alive(pid):
        return ""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        found = subprocess.run(  # noqa: S603
            ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return found.stdout.strip()


def end(pid: int, number: int = signal.SIGTERM, *, patience: float = 10) -> None:
    """Send ``number``, and SIGKILL to one that is still there after ``patience`` seconds; wait until it is gone."""
    for sent in (number, signal.SIGKILL):
        try:
            os.kill(pid, sent)
        except ProcessLookupError:
            return
        deadline = clock.monotonic() + patience
        while clock.monotonic() < deadline:
            if not alive(pid):
                return
            clock.block(0.01)
