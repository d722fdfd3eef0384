"""``fig events choose`` as a user runs it, without a project: measured, saved, and nothing left, also after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from stranglerfig.runtime import processes
from tests.conftest import Server, passable

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
FIG = str(Path(sys.executable).with_name("fig"))


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder for temporary files that is this test's alone, and open to the account that runs PostgreSQL."""
    found = tmp_path / "scratch"
    found.mkdir()
    passable(found)
    yield found
    for pid in running(found):
        processes.end(pid)


def running(scratch: Path) -> list[int]:
    """Every process that has the folder in its command line."""
    pids = (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and str(scratch) in processes.command_line(pid)]


def choose(scratch: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [FIG, "--json", "events", "choose", "--size", "100", "--rate", "50", "--duration", "2s", *arguments],
        cwd=scratch.parent,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def databases(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as conn:
        return [row[0] for row in conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'fig-choose-%'")]


def test_candidates_are_measured_and_nothing_is_left(scratch: Path, postgres: Server) -> None:
    theirs = postgres.database()
    away = "kafka://127.0.0.1:1?socket.timeout.ms=1000"
    process = choose(scratch, "--candidate", "embedded", "--candidate", theirs, "--candidate", away)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    found = json.loads(out)
    embedded, other, kafka = found["results"]
    for result in (embedded, other):
        measured = result["measured"]
        assert measured["latency"]["unseen"] == 0 and measured["ordering"]["outcome"] == "held"
        assert measured["replay_position"]["outcome"] == measured["replay_time"]["outcome"] == "held"
        assert all(one["per_second"] > 0 for one in measured["throughput"])
    assert embedded["durability"]["outcome"] == "held" and embedded["further"] == 0
    assert "3 times kill -9" in embedded["durability"]["says"]
    assert other["durability"] == {"outcome": "not tested", "says": "not ours to kill"} and other["further"] == 1
    assert "fsync off" in other["settings"] and "fsync on" in embedded["settings"]
    assert kafka["measured"] is None and "log_unreachable" in kafka["problem"]
    assert all(Path(scratch.parent, file).exists() for file in found["files"])
    assert list(scratch.iterdir()) == [] == running(scratch)
    assert databases(theirs) == []
    with psycopg.connect(theirs) as conn:
        assert conn.execute("SELECT to_regnamespace('fig')").fetchone() == (None,)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_it_early_finds_nothing_left(scratch: Path, postgres: Server, number: signal.Signals) -> None:
    theirs = postgres.database()
    process = choose(scratch, "--candidate", theirs)
    assert process.stderr is not None
    for line in process.stderr:
        if "throughput" in line:
            break
    deadline = time.monotonic() + 30
    while not databases(theirs):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert running(scratch)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert list(scratch.iterdir()) == [] == running(scratch)
    assert databases(theirs) == [] and not (scratch.parent / "choose.json").exists()
