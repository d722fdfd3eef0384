"""A real Prometheus reads a real ``fig up`` with what ``fig alerts`` prints; a real process is killed, and it warns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.servers.prometheus import Prometheus
from stranglerfig.foundation import clock
from stranglerfig.runtime import processes
from stranglerfig.runtime.embedded import free_port
from tests.conftest import passable

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
FIG = str(Path(sys.executable).with_name("fig"))


def until(condition: Callable[[], Any], what: str, timeout: float = 120) -> Any:
    deadline = clock.monotonic() + timeout
    while not (found := condition()):
        assert clock.monotonic() < deadline, f"waited for {what}, in vain"
        clock.block(0.1)
    return found


class Receiver(BaseHTTPRequestHandler):
    """A webhook that refuses its first call."""

    posted: list[dict[str, Any]]
    refusals: list[int]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.refusals.pop() if self.refusals else 200
        if status == 200:
            self.posted.append(body)
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    posted: list[dict[str, Any]] = []
    handler = type("Handler", (Receiver,), {"posted": posted, "refusals": [500]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook", posted
    server.shutdown()
    server.server_close()
    thread.join()


class Project:
    """A project whose webhook's address is in the environment."""

    def __init__(self, directory: Path, database: str, webhook: str) -> None:
        self.directory = directory
        self.environment = {**os.environ, "ALERTS_URL": webhook}
        (directory / "fig.yaml").write_text(
            "name: shop\n"
            f"monolith: {{url: 'http://127.0.0.1:9', database: '{database}'}}\n"
            f"facade: {{listen: '127.0.0.1:{free_port()}'}}\nalerts: {{webhook: {{env: ALERTS_URL}}}}\n"
        )

    def fig(self, *arguments: str) -> str:
        done = subprocess.run(
            [FIG, "--project", str(self.directory), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def role(self, name: str) -> dict[str, Any]:
        rows = {row["role"]: row for row in json.loads(self.fig("--json", "ps"))["roles"]}
        found: dict[str, Any] = rows[name]
        return found

    def close(self) -> None:
        pid = json.loads((self.directory / ".fig/state.json").read_text())["pid"]
        subprocess.run([FIG, "--project", str(self.directory), "down"], check=False, capture_output=True, timeout=120)
        if str(self.directory) in processes.command_line(pid):
            processes.end(pid)


def test_prometheus_finds_every_process_and_a_killed_one_is_told_of(
    tmp_path: Path,
    postgres: Any,
    receiver: tuple[str, list[dict[str, Any]]],
    begin: Callable[[Callable[[], None]], None],
) -> None:
    webhook, posted = receiver
    project = Project(passable(tmp_path), postgres.database(), webhook)
    with closing(project):
        project.fig("up", "--detach")
        rules = tmp_path / "fig.rules.yml"
        project.fig("alerts", "rules", "--output", str(rules))
        scrape = project.fig("alerts", "scrape").replace("scrape_interval: 5s", "scrape_interval: 1s")
        hurried = rules.read_text().replace("interval: 15s", "interval: 1s")
        rules.write_text(hurried)
        server = Prometheus(tmp_path / "prometheus", scrape, [rules])
        begin(server.start)
        try:
            wanted = {
                "up",
                "fence",
                "shadow",
                "envoy",
                "registry",
                "capture",
                "sync",
                "controller",
                "alerts",
                "console",
            }

            def healths() -> dict[str, str]:
                return {each["labels"]["role"]: each["health"] for each in server.ask("targets")["activeTargets"]}

            until(lambda: healths() == dict.fromkeys(wanted, "up"), "every target to be up")
            assert {each["labels"]["estate"] for each in server.ask("targets")["activeTargets"]} == {"shop"}

            def served(query: str, label: str) -> dict[str, float]:
                found = server.ask("query", query=query)["result"]
                return {each["metric"].get(label, ""): float(each["value"][1]) for each in found}

            everyone = (wanted | {"postgres"}) - {"up"}
            until(lambda: served("fig_process_up", "process") == dict.fromkeys(everyone, 1), "every role to be seen")
            assert set(served("fig_build_info", "role")) >= wanted - {"envoy"}
            until(lambda: server.ask("query", query="fig_database_up == 1")["result"], "the databases to be seen")
            assert not [each for each in server.ask("alerts")["alerts"] if each["state"] == "firing"]

            # A further worker is found, and no longer when it has ended.
            further = subprocess.Popen(
                [FIG, "--project", str(project.directory), "run", "sync"],
                env=project.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            syncs = 'count(up{role="sync"} == 1)'
            until(lambda: served(syncs, "none") == {"": 2}, "the further worker")
            further.send_signal(signal.SIGTERM)
            assert further.wait(60) == 0
            until(lambda: served('count(up{role="sync"})', "none") == {"": 1}, "it to be left out")

            for _ in range(3):
                pid = until(
                    lambda: (row := project.role("shadow"))["state"] == "ready" and row["pid"], "the comparator"
                )
                os.kill(pid, signal.SIGKILL)
                until(lambda pid=pid: project.role("shadow")["pid"] != pid, "its successor")  # type: ignore[misc]

            def firing() -> list[dict[str, str]]:
                return [a["labels"] for a in server.ask("alerts")["alerts"] if a["state"] == "firing"]

            expected = {
                "alertname": "FigProcessRestarting",
                "process": "shadow",
                "severity": "warning",
                "estate": "shop",
            }
            until(lambda: expected in firing(), "Prometheus' alert")
            until(lambda: posted, "the webhook's")
            assert posted[0]["version"] == "4"
            assert [alert["labels"] for alert in posted[0]["alerts"]] == [expected]
            assert "  fires since " in project.fig("alerts", "list")
        finally:
            server.stop()
