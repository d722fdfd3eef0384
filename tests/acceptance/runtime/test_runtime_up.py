"""``fig up`` as a user runs it: ready, refused a second time, healed, ended without a trace; and its refusals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stranglerfig.runtime import processes
from stranglerfig.runtime.embedded import free_port
from tests.conftest import passable

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
FIG = str(Path(sys.executable).with_name("fig"))


class Project:
    """A project's folder, and the installed command on it."""

    def __init__(self, directory: Path, database: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.write(database)

    def write(self, database: str, more: str = "") -> None:
        (self.directory / "fig.yaml").write_text(
            "name: shop\n"
            f"monolith: {{url: 'http://127.0.0.1:9', database: '{database}'}}\n"
            f"facade: {{listen: '127.0.0.1:{self.port}'}}\n{more}"
        )

    def fig(self, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [FIG, "--project", str(self.directory), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def json(self, *arguments: str) -> Any:
        done = self.fig("--json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refusal(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        done = self.fig("--json", *arguments)
        return done.returncode, json.loads(done.stderr)["error"]

    def roles(self) -> dict[str, dict[str, Any]]:
        return {row["role"]: row for row in self.json("ps")["roles"]}

    def pids(self) -> list[int]:
        """Every process that has this folder in its command line."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and str(self.directory) in processes.command_line(int(folder.name)):
                found.append(int(folder.name))
        return [pid for pid in found if pid != os.getpid()]


def until(condition: Callable[[], Any], what: str, timeout: float = 60) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited for {what}, in vain"
        time.sleep(0.05)
    return found


@pytest.fixture
def project(tmp_path: Path, postgres: Any) -> Iterator[Project]:
    found = Project(passable(tmp_path), postgres.database())
    yield found
    found.fig("down")
    for pid in found.pids():
        processes.end(pid)


def test_up_heals_and_ends_without_a_trace(project: Project) -> None:
    up = subprocess.Popen(
        [FIG, "--project", str(project.directory), "--json", "up"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert up.stdout is not None and up.stderr is not None
    ready = json.loads(up.stdout.readline())
    assert ready["ready"] and ready["pid"] == up.pid
    control = ready["addresses"]["control database"]
    with psycopg.connect(control) as conn:
        conn.execute("CREATE TABLE kept (n int)")

    status, error = project.refusal("up")
    assert (status, error["code"], error["context"]["pid"]) == (3, "already_running", up.pid)
    registry = ready["addresses"]["schema registry"]
    assert project.json("status") == {"extractions": [], "schema_registry": registry}
    assert project.json("events", "topics") == []
    assert project.json("schema", "history") == []
    body = json.dumps({"schema": '{"type": "string"}'}).encode()
    with urllib.request.urlopen(f"{registry}/subjects/names-value/versions", body) as answer:
        assert json.load(answer) == {"id": 1}

    # The control PostgreSQL is killed: another one takes its place, with what was committed.
    server = int((project.directory / ".fig/postgres/postmaster.pid").read_text().split("\n")[0])
    os.kill(server, signal.SIGKILL)
    until(lambda: project.roles()["postgres"]["restarts"] >= 1, "the restart")
    until(lambda: project.roles()["postgres"]["state"] == "ready", "the restarted control database")
    with psycopg.connect(control) as conn:
        assert conn.execute("SELECT count(*) FROM kept").fetchone() == (0,)

    def registered() -> bool:
        try:
            with urllib.request.urlopen(f"{registry}/subjects") as answer:
                return bool(json.load(answer) == ["names-value"])
        except urllib.error.HTTPError as error:
            assert json.load(error)["error_code"] == 50001
            return False

    until(registered, "the registry, which was not restarted, to see its database again")

    # So is Envoy, by its parent's death.
    envoy = project.roles()["envoy"]["pid"]
    os.kill(envoy, signal.SIGKILL)
    until(lambda: project.roles()["envoy"]["restarts"] >= 1, "Envoy's restart")
    until(lambda: project.roles()["envoy"]["state"] == "ready", "the restarted Envoy")

    up.send_signal(signal.SIGINT)
    assert up.wait(30) == 0
    up.stdout.close()
    up.stderr.close()
    assert project.pids() == []
    assert project.json("ps")["running"] is False


def test_killing_fig_up_leaves_nothing_and_the_next_one_starts(project: Project) -> None:
    first = project.json("up", "--detach")
    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: project.pids() == [], "the orphans' end")
    second = project.json("up", "--detach")
    assert second["addresses"] == first["addresses"]
    assert project.json("down")["ended"] == second["pid"]
    assert project.pids() == []


def test_a_postgres_that_outlived_its_parent_is_replaced(project: Project) -> None:
    """As on a system that does not tell children of their parent's death."""
    first = project.json("up", "--detach")
    role = project.roles()["postgres"]["pid"]
    server = int((project.directory / ".fig/postgres/postmaster.pid").read_text().split("\n")[0])
    os.kill(role, signal.SIGKILL)
    until(lambda: project.roles()["postgres"]["state"] == "ready" and project.roles()["postgres"]["pid"] != role, "it")
    now = int((project.directory / ".fig/postgres/postmaster.pid").read_text().split("\n")[0])
    assert now != server and first["ready"]


def test_an_unreachable_monolith_is_told(project: Project) -> None:
    project.write("postgresql://fig:hidden@127.0.0.1:1/shop")
    done = project.fig("up")
    assert done.returncode == 1 and "fig@127.0.0.1:1/shop cannot be reached" in done.stderr
    assert "hidden" not in done.stderr and "Traceback" not in done.stderr
    assert project.pids() == []
    status, error = project.refusal("up", "--detach")
    assert (status, error["code"]) == (1, "database_unreachable")


def test_a_taken_port_is_named(project: Project) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", project.port))
        taken.listen()
        status, error = project.refusal("up")
    assert (status, error["code"], error["context"]["port"]) == (2, "port_in_use", project.port)
    assert str(project.port) in error["message"]


def test_a_wrong_key_is_told_with_its_line(project: Project) -> None:
    project.write("postgresql://fig@127.0.0.1:1/shop", "telemetri: {}\n")
    status, error = project.refusal("up")
    assert (status, error["code"], error["context"]["line"]) == (2, "bad_configuration", 4)
    assert "did you mean 'telemetry'?" in error["message"]


def test_a_data_directory_of_another_version_is_refused(project: Project) -> None:
    data = project.directory / ".fig"
    data.mkdir()
    (data / "VERSION").write_text("0\n")
    status, error = project.refusal("up")
    assert (status, error["code"]) == (2, "data_directory_version")
    (data / "VERSION").unlink()
    (data / "postgres").mkdir()
    (data / "postgres" / "PG_VERSION").write_text("9.6\n")
    status, error = project.refusal("up")
    assert (status, error["code"]) == (2, "data_directory_version")
    assert "made by PostgreSQL 9.6" in error["message"]
    assert project.pids() == []


def test_a_control_database_of_ones_own(project: Project, postgres: Any) -> None:
    project.write(postgres.database(), f"control: {postgres.database()}\n")
    up = project.json("up", "--detach")
    assert "postgres" not in project.roles()
    assert not (project.directory / ".fig/postgres").exists()
    assert up["addresses"]["control database"].startswith("postgres@127.0.0.1:")
    done = project.fig("ps")
    assert "controller" in done.stdout and "ready" in done.stdout
    assert "Ended process" in project.fig("down").stdout


def test_a_killed_nursery_takes_its_roles_with_it_and_they_come_back(project: Project) -> None:
    project.json("up", "--detach")
    before = {role: row["pid"] for role, row in project.roles().items()}
    nursery = int(Path(f"/proc/{before['sync']}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(nursery, signal.SIGKILL)

    def back() -> bool:
        now = project.roles()
        return all(row["state"] == "ready" and row["pid"] != before[role] for role, row in now.items())

    until(back, "all roles")
    assert project.json("status")["extractions"] == []


EXTRACTION = """\
context: NAME
service: {url: "http://127.0.0.1:9", database: SERVICE}
routes: {reads: [{path: "/api/NAME/{itemId}"}]}
tables: [{from: public.NAME, to: item, key: {id: id}}]
"""


def test_a_context_is_taken_up_by_what_runs(project: Project, postgres: Any) -> None:
    """Written wrong it changes nothing, and ``fig ps`` says why; mended it is known within seconds, and Envoy stays."""
    project.json("up", "--detach")
    before = project.roles()
    file = project.directory / "contexts" / "orders" / "extraction.yaml"
    file.parent.mkdir(parents=True)
    text = EXTRACTION.replace("NAME", "orders")
    file.write_text(text.replace("SERVICE", "{env: FIG_IS_NOT_TOLD}"))
    refused = until(lambda: project.json("ps")["refused"], "the refusal")
    assert refused["code"] == "secret_missing" and "FIG_IS_NOT_TOLD" in project.fig("ps").stdout
    assert project.roles() == before
    assert project.refusal("plan", "orders")[1]["code"] == "unknown_context"

    file.write_text(text.replace("SERVICE", postgres.database()))
    until(lambda: project.roles()["controller"]["pid"] not in (None, before["controller"]["pid"]), "another controller")
    until(lambda: all(row["state"] == "ready" for row in project.roles().values()), "all roles")
    now = project.roles()
    assert {role for role in now if now[role]["pid"] == before[role]["pid"]} == {"postgres", "envoy", "registry"}
    assert not any(row["restarts"] for row in now.values())
    assert project.json("ps")["refused"] is None
    assert "orders" in project.fig("plan", "orders").stdout
    assert [each["context"] for each in project.json("status")["extractions"]] == ["orders"]
