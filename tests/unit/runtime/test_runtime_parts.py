"""The data directory, log lines, processes and the runner of flows, without servers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stranglerfig.changes.flows import Flow
from stranglerfig.changes.model import Direction
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import flowing, logs, processes, reporting
from stranglerfig.runtime.datadir import DataDirectory, port_is_free
from stranglerfig.runtime.embedded import free_port
from stranglerfig.runtime.roles import killer
from stranglerfig.telemetry import metrics


def test_a_data_directory_of_another_version_is_refused(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    data.prepare()
    (data.path / "VERSION").write_text("99\n")
    with pytest.raises(FigError) as caught:
        data.prepare()
    assert caught.value.code == "data_directory_version" and caught.value.context["found"] == "99"


def test_a_data_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FigError) as caught:
        DataDirectory(tmp_path / "file" / "data").prepare()
    assert caught.value.code == "data_directory_unwritable"


def test_only_one_holds_the_lock(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    assert data.holder() is None
    with data.lock():
        assert data.holder() == os.getpid()
        with pytest.raises(FigError) as caught, DataDirectory(tmp_path).lock():
            pass
        assert caught.value.code == "already_running" and caught.value.context["pid"] == os.getpid()
    assert data.holder() is None


def test_ports_are_chosen_once(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    first = data.choose_ports(("a", "b"))
    assert len(set(first.values())) == 2
    assert data.choose_ports(("a", "b", "c")) == {**first, "c": data.ports()["c"]}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["a"]))
        taken.listen()
        assert not port_is_free("127.0.0.1", first["a"])
        assert data.choose_ports(("a",))["a"] != first["a"]
    port = data.ports()["a"]
    assert data.choose_ports(("a",), configured=[port])["a"] != port, "somebody will listen there"


def test_no_port_is_given_twice() -> None:
    assert len({free_port() for _ in range(300)}) == 300


def test_logs_of_the_last_run_are_kept_beside(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    data.prepare()
    data.rotate("sync").write_text("old")
    assert data.rotate("sync") == data.log_file("sync")
    assert (data.logs / "sync.log.1").read_text() == "old"
    assert data.ready("sync") is None
    data.say_ready("sync")
    assert data.ready("sync") == os.getpid()
    assert data.state() == {}


def record(**extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("stranglerfig.sync.apply", logging.INFO, __file__, 1, "applied %d", (3,), None)
    made.__dict__.update(extra)
    return made


def test_log_lines_carry_their_action() -> None:
    plain = logs.Plain().format(record(action="applied", context="inventory"))
    assert plain.endswith("INFO sync.apply: applied 3 action=applied context=inventory")
    parsed = json.loads(logs.Json().format(record(action="applied")))
    assert (parsed["message"], parsed["action"], parsed["level"]) == ("applied 3", "applied", "info")


def test_log_lines_carry_stack_traces() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        made = record()
        made.exc_info = sys.exc_info()
    assert "ValueError: no" in logs.Plain().format(made)
    assert "ValueError: no" in json.loads(logs.Json().format(made))["exception"]


def test_installing_the_format_replaces_what_was_there() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.install({"FIG_LOG_FORMAT": "json"})
        assert [type(h.formatter) for h in root.handlers] == [logs.Json]
        logs.install({})
        assert [type(h.formatter) for h in root.handlers] == [logs.Plain]
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def test_processes_are_known_by_their_ids() -> None:
    program = "import time; print('on', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert processes.alive(child.pid)
    assert "time.sleep(60)" in processes.command_line(child.pid)
    processes.end(child.pid)
    assert not processes.alive(child.pid)
    assert child.wait() == -signal.SIGTERM
    assert processes.command_line(child.pid) == ""
    processes.end(child.pid)
    assert not processes.follow(child.pid)
    child.stdout.close()


def test_a_stubborn_process_is_killed() -> None:
    ignoring = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    processes.end(child.pid, patience=0.1)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()


def test_a_kill_point_kills_once(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from stranglerfig.runtime.roles import killer\n"
        f"reached = killer(Path({str(tmp_path)!r}), 'cede/after'); reached('other'); print('on'); reached('cede/after')"
    )
    run = [sys.executable, "-c", script]
    assert subprocess.run(run, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert (tmp_path / "killed-cede-after").exists()
    assert subprocess.run(run, check=False, capture_output=True).returncode == 0
    killer(tmp_path, None)("anything")


class FakeFlows:
    """The control database's flows, in memory."""

    def __init__(self, *flows: Flow) -> None:
        self.flows = list(flows)
        self.reports: list[dict[str, Any]] = []
        self.away = False

    async def all(self) -> list[Flow]:
        if self.away:
            raise FigError("database_unreachable", "away")
        return self.flows

    async def report(self, context: str, direction: Direction, part: str, said: dict[str, Any]) -> None:
        if self.away:
            raise FigError("database_unreachable", "away")
        self.reports.append(said)


async def test_wanted_flows_run_and_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flowing, "LOOK", 0.01)
    flow = Flow("inventory", Direction.FORWARD, True, True, True, 1)
    flows = FakeFlows(flow, replace(flow, direction=Direction.REVERSE, capture_on=False))
    running: list[tuple[str, int]] = []
    failures = 0

    async def work(wanted: Flow, report: flowing.Report) -> None:
        nonlocal failures
        if failures == 0:
            failures += 1
            raise FigError("slot_active", "in use")
        running.append((wanted.direction.value, wanted.generation))
        await report({"state": "streaming"})
        try:
            await asyncio.Event().wait()
        finally:
            running.remove((wanted.direction.value, wanted.generation))

    said: list[str] = []
    role = flowing.FlowsRole(flows, "capture", work)  # type: ignore[arg-type]
    task = tasks.spawn(role.run(lambda: said.append("ready")), name="role")

    async def is_running(*wanted: tuple[str, int]) -> None:
        async def so() -> bool:
            return running == list(wanted)

        await clock.until(so, timeout=5, what=f"{wanted}")

    await is_running(("forward", 1))
    assert said == ["ready"]
    assert flows.reports[0]["state"] == "failed" and flows.reports[0]["error"]["code"] == "slot_active"
    flows.away = True  # what runs goes on
    await asyncio.sleep(0.05)
    await is_running(("forward", 1))
    flows.away = False
    flows.flows = [replace(flow, generation=2)]
    await is_running(("forward", 2))
    flows.flows = [replace(flow, capture_on=False)]
    await is_running()
    await tasks.stop(task)


async def test_a_partition_s_report_is_kept_by_itself_and_measured_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flow = Flow("divided", Direction.FORWARD, True, True, True, 1)
    kept: list[tuple[Any, ...]] = []

    class Parts(FakeFlows):
        async def report_part(self, *said: Any) -> None:
            kept.append(said[:4])

    role = flowing.FlowsRole(Parts(flow), "sync", None)  # type: ignore[arg-type]
    report = role._reporter(flow)

    async def say(partition: int, **more: Any) -> None:
        await report({"partition": partition, "partitions": 3, "worker": "a/1", "state": "applying"} | more)

    def measured(name: str) -> float:
        return (
            metrics.REGISTRY.get_sample_value(f"fig_sync_{name}", {"context": "divided", "direction": "forward"}) or 0
        )

    def state(name: str) -> float:
        labels = {"context": "divided", "direction": "forward", "part": "sync", "state": name}
        return metrics.REGISTRY.get_sample_value("fig_flow_state", labels) or 0

    await say(1, rows=10, parked=10)
    await say(2, rows=5, parked=5, state="stopped")
    assert kept == [("divided", Direction.FORWARD, number, "a/1") for number in (1, 2)]
    assert (measured("parked_changes"), state("stopped"), state("applying")) == (15, 1, 0)
    assert measured("rows_total") == 15
    # What nothing is heard of has gone to another process.
    later = clock.now() + flowing.SILENT + timedelta(seconds=1)
    monkeypatch.setattr(flowing.clock, "now", lambda: later)
    await say(1, rows=11, parked=11)
    assert (measured("parked_changes"), state("stopped"), state("applying")) == (11, 0, 1)
    assert measured("rows_total") == 16, "what the other one applied stays applied"


def test_a_report_is_gathered() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    visits = [
        {
            "stage": "prepare",
            "step": "",
            "entered_at": at,
            "left_at": at + timedelta(seconds=9),
            "gate": None,
            "left_by": None,
        }
    ]
    milestones = [
        {"kind": "cutover", "at": at, "direction": "forward", "epoch": 1, "held_requests": 3, "hold_p50_ms": 1.0,
         "hold_p99_ms": 2.0, "hold_max_ms": 3.0, "duration_ms": 40.0, "steps": {"cede": 1}},
        {"kind": "rollback", "at": at, "stage": "reads", "cause": "slow", "automatic": True},
        {"kind": "switch", "at": at, "what": "reads at 10 %"},
        {"kind": "verification", "at": at, "rows_compared": 5, "differences": 0, "seconds": 0.1, "place": "sync"},
    ]  # fmt: skip
    synced = {"snapshot_rows": 5, "snapshot_seconds": 1.0, "latency_total_ms": {"p50": 4.0, "p99": 9.0}}
    facts = {"mode": "quick", "ledger": {"requests": 7}, "replay": {"items": 5}}
    found = reporting.gather(
        "inventory", "done", {"decommission": {"before": {}}}, visits, milestones, [], synced, facts
    )
    assert (found.outcome, found.mode, found.duration_seconds) == ("completed", "quick", 9.0)
    assert found.cutovers[0].more == {"steps": {"cede": 1}} and found.rollbacks[0].automatic
    assert [mark.kind for mark in found.marks] == ["cutover", "rollback", "switch"]
    assert found.sync == {"snapshot_rows": 5, "snapshot_seconds": 1.0, "latency_p50_ms": 4.0, "latency_p99_ms": 9.0}
    assert found.more == {"replay": {"items": 5}} and found.verification[0].rows_compared == 5


@pytest.mark.parametrize("text", ["[", "[1]"])
def test_facts_that_are_no_object_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "facts").write_text(text)
    with pytest.raises(FigError) as caught:
        reporting.read_facts(tmp_path / "facts")
    assert caught.value.code == "bad_facts"
