"""Who listens, and what it takes: read from a made-up ``/proc``, and of a process of ours."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stranglerfig.runtime import footprint

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Process 20 listens on 9092 and has the child 21, which has 22; 30 is another."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        f"{HEAD}   0: 0100007F:2384 00000000:0000 0A 0:0 00:0 0 0 0 777 1\n"
        "   1: 0100007F:2385 0100007F:1234 01 0:0 00:0 0 0 0 888 1\n"
    )
    for pid, parent, kilobytes, inode in ((20, 1, 100, 777), (21, 20, 10, 1), (22, 21, 1, 2), (30, 1, 5000, 888)):
        folder = tmp_path / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "fd" / "3").symlink_to(f"socket:[{inode}]")
        (folder / "stat").write_text(f"{pid} (a (b) c) S {parent} 0 0")
        (folder / "smaps_rollup").write_text(f"aaa\nRss: 999999 kB\nPss: {kilobytes} kB\nPss_Dirty: 5 kB\n")
    return tmp_path


def test_the_listener_is_found_by_its_port(proc: Path) -> None:
    assert footprint.listening(9092, proc) == 20
    assert footprint.listening(9093, proc) is None  # connected, not listening
    (proc / "20" / "fd" / "3").unlink()
    assert footprint.listening(9092, proc) is None


def test_a_server_is_its_process_and_all_below(proc: Path) -> None:
    found = footprint.of_process(20, proc)
    assert found is not None and (found.processes, found.memory_bytes) == (3, 111 * 1024)
    (proc / "22" / "smaps_rollup").unlink()  # it has ended meanwhile
    found = footprint.of_process(20, proc)
    assert found is not None and found.memory_bytes == 110 * 1024


def test_what_may_not_be_seen_is_not_guessed(proc: Path) -> None:
    (proc / "21" / "smaps_rollup").unlink()
    (proc / "21" / "smaps_rollup").mkdir()  # any other error than its absence
    assert footprint.of_process(20, proc) is None


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="there is no /proc here")
def test_a_real_listener_is_seen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = footprint.of_server("127.0.0.1", taken.getsockname()[1])
        assert found is not None and found.processes >= 1 and found.memory_bytes > 1_000_000
        assert footprint.of_server("10.0.0.1", taken.getsockname()[1]) is None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        seen = footprint.of_process(child.pid)
        assert seen is not None and seen.processes == 1
    finally:
        child.communicate(b"\n")
