"""Who may do what, as the installed command says it to the people who use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stranglerfig.runtime.embedded import free_port
from tests.conftest import Server, passable

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
FIG = str(Path(sys.executable).with_name("fig"))


class Project:
    """A project with one context, access and a policy; ``token`` is whose commands are run."""

    def __init__(self, directory: Path, monolith: str, service: str) -> None:
        self.directory = directory
        self.token: str | None = None
        (directory / "fig.yaml").write_text(
            "name: shop\n"
            f"monolith: {{url: 'http://127.0.0.1:9', database: '{monolith}'}}\n"
            f"facade: {{listen: '127.0.0.1:{free_port()}'}}\n"
            "access: {}\n"
            "policy: {approvals: {build: 1}}\n"
        )
        context = directory / "contexts" / "things"
        context.mkdir(parents=True)
        (context / "extraction.yaml").write_text(
            "context: things\n"
            f"service: {{url: 'http://127.0.0.1:9', database: '{service}'}}\n"
            "routes: {}\n"
            "tables: [{from: public.thing, to: thing, key: {id: id}}]\n"
        )

    def fig(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "FIG_TOKEN"}
        if self.token is not None:
            environment["FIG_TOKEN"] = self.token
        return subprocess.run(
            [FIG, "--project", str(self.directory), "--json", *arguments],
            capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL, env=environment,
        )  # fmt: skip

    def json(self, *arguments: str) -> Any:
        done = self.fig(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refusal(self, *arguments: str) -> tuple[int, str]:
        done = self.fig(*arguments)
        return done.returncode, json.loads(done.stderr)["error"]["code"]


@pytest.fixture
def project(tmp_path: Path, postgres: Server, postgres_b: Server) -> Iterator[Project]:
    found = Project(passable(tmp_path), postgres.database(), postgres_b.database())
    done = found.fig("up", "--detach")
    assert done.returncode == 0, done.stderr
    yield found
    found.fig("down")


def test_a_token_decides_what_a_command_line_may(project: Project) -> None:
    assert project.refusal("advance", "things") == (3, "token_missing")
    # What goes to a database without the controller is held to the same.
    assert project.refusal("sync", "skip", "things", "1") == (3, "token_missing")
    tokens = {}
    for name, role in (("vera", "viewer"), ("otto", "operator"), ("anna", "approver")):
        made = project.json("token", "create", name, "--role", role, "--expires", "30d")
        tokens[name] = made["token"]
        project.token = made["token"] if role == "approver" else None
    assert project.refusal("token", "create", "Anna", "--role", "viewer") == (3, "token_exists")
    assert [(row["name"], row["role"]) for row in project.json("token", "list")] == [
        ("anna", "approver"), ("otto", "operator"), ("vera", "viewer"),
    ]  # fmt: skip

    project.token = tokens["vera"]
    assert project.refusal("advance", "things") == (3, "not_permitted")
    assert project.refusal("events", "discard", "1") == (3, "not_permitted")
    assert project.fig("sync", "parked", "things").returncode == 0
    assert project.refusal("token", "create", "me", "--role", "approver") == (3, "not_permitted")
    project.token = None
    assert project.refusal("token", "create", "me", "--role", "approver") == (3, "token_missing")
    project.token = tokens["otto"]
    assert project.refusal("advance", "things") == (3, "approvals_missing")
    assert project.refusal("approve", "things", "build") == (3, "not_permitted")
    assert project.refusal("events", "discard", "1")[1] == "nothing_kept"
    assert project.refusal("personal", "destroy", "4711", "--confirm", "4711")[1] == "nothing_kept"
    project.token = tokens["anna"]
    project.json("approve", "things", "build")
    (given,) = project.json("approvals", "things")
    assert (given["person"], given["stage"], given["counts"]) == ("anna", "build", True)
    assert project.refusal("advance", "things") == (3, "approvals_missing"), "the one who asks is not counted"
    project.json("token", "revoke", "otto")
    project.token = tokens["otto"]
    assert project.refusal("rollback", "things") == (3, "token_refused")

    trail = project.json("audit", "--last", "100")
    refused = [(row["name"], row["action"], row["code"]) for row in trail if row["outcome"] == "refused"]
    assert ("vera", "advance", "not_permitted") in refused and ("otto", "approve", "not_permitted") in refused
    assert [(action, code) for _, action, code in refused] == [
        ("advance", "token_missing"),
        ("sync-skip", "token_missing"),
        ("advance", "not_permitted"),
        ("events-discard", "not_permitted"),
        ("token-create", "not_permitted"),
        ("token-create", "token_missing"),
        ("advance", "approvals_missing"),
        ("approve", "not_permitted"),
        ("advance", "approvals_missing"),
        ("rollback", "token_refused"),
    ]
    assert [(row["name"], row["code"]) for row in trail if row["outcome"] == "failed"] == [("otto", "nothing_kept")]
    assert all("pid " in row["origin"] for row in trail)
    assert project.json("audit", "--verify")["lines"] == len(trail)
    said = "".join(file.read_text(errors="replace") for file in project.directory.rglob("*.log")) + json.dumps(trail)
    assert not any(token.rpartition("_")[2] in said for token in tokens.values())
