"""The console where ``fig.yaml`` says who may act: each request has its person, each command their signature."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from stranglerfig.access import credentials
from stranglerfig.access.model import Role
from stranglerfig.console.role import server_of
from stranglerfig.foundation import postgres as sessions
from stranglerfig.runtime.settings import load_project
from tests import console_project
from tests.conftest import Server

ADVANCE = {"verb": "advance", "dry_run": True}
COMMANDS = "/api/extractions/inventory/commands"
ASKED = "SELECT verb, asked_from, signature IS NOT NULL FROM fig.command WHERE args ->> 'dry_run' = 'true'"


class Console(NamedTuple):
    """One that is served, and how to ask it as somebody."""

    control: str
    url: str
    tokens: dict[Role, str]

    async def ask(self, path: str, role: Role | None, body: Any = None) -> tuple[int, Any]:
        headers = {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}
        method = "GET" if body is None else "POST"
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, self.url + path, json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()


@pytest.fixture
async def console(postgres: Server, tmp_path: Path) -> AsyncIterator[Console]:
    control = postgres.database()
    project = console_project.write(tmp_path, control)
    (tmp_path / "fig.yaml").write_text((tmp_path / "fig.yaml").read_text() + "access: {}\n")
    await console_project.begin(project, control)
    server = server_of(load_project(tmp_path), control)
    await server.start("127.0.0.1", 0)
    tokens = {}
    async with sessions.session(control, what="test") as conn:
        await credentials.migrate(conn)
        for role in (Role.VIEWER, Role.OPERATOR):
            _, tokens[role] = await credentials.create(
                conn, kind="token", name=f"ann's {role}", person="ann", role=role, how="token", by="test", lasts=None
            )
    assert server.link("ann@desk") == f"http://127.0.0.1:{server.port}/"
    yield Console(control, f"http://127.0.0.1:{server.port}", tokens)
    await server.stop()


async def test_nobody_looks_or_acts_without_a_name(console: Console) -> None:
    assert await console.ask("/api/login", None) == (200, {"estate": "shop", "token": True, "oidc": False})
    for path, body in (("/api/estate", None), ("/api/audit", None), (COMMANDS, ADVANCE)):
        status, said = await console.ask(path, None, body)
        assert (status, said["error"]["code"]) == (401, "token_missing")
    status, _ = await console.ask("/api/session", None, {"token": "x"})
    assert status == 401, "there are no links"


async def test_a_viewer_looks_and_an_operator_acts(console: Console) -> None:
    status, estate = await console.ask("/api/estate", Role.VIEWER)
    assert (status, len(estate["contexts"])) == (200, 2)
    status, said = await console.ask(COMMANDS, Role.VIEWER, ADVANCE)
    assert (status, said["error"]["code"]) == (403, "not_permitted")
    status, asked = await console.ask(COMMANDS, Role.OPERATOR, ADVANCE)
    assert (status, asked["verb"], asked["state"]) == (200, "advance", "pending")
    async with sessions.session(console.control, what="test") as conn:
        assert await sessions.fetch(conn, ASKED) == [("advance", "console, 127.0.0.1", True)]
