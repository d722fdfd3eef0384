"""A console where people log in: real Chromium, with a token that an approver made; who only looks cannot act."""

from __future__ import annotations

from pathlib import Path

import pytest

from stranglerfig.access import credentials
from stranglerfig.access.model import Role
from stranglerfig.console.role import server_of
from stranglerfig.foundation import postgres as sessions
from stranglerfig.runtime.settings import load_project
from tests import axe, console_project
from tests.browser import Browser
from tests.conftest import Server

pytestmark = pytest.mark.acceptance
BUTTON = "[...document.querySelectorAll('button')].find((each) => each.innerText.startsWith({words!r}))"
WIDER = "document.documentElement.scrollWidth > innerWidth"


async def test_who_has_a_token_logs_in_and_out(browser: Browser, postgres: Server, tmp_path: Path) -> None:
    control = postgres.database()
    (folder := tmp_path / "project").mkdir()
    project = console_project.write(folder, control)
    (folder / "fig.yaml").write_text((folder / "fig.yaml").read_text() + "access: {}\n")
    await console_project.begin(project, control)
    async with sessions.session(control, what="test") as conn:
        await credentials.migrate(conn)
        _, token = await credentials.create(
            conn, kind="token", name="ann", person="ann", role=Role.VIEWER, how="token", by="test", lasts=None
        )
    server = server_of(load_project(folder), control)
    await server.start("127.0.0.1", 0)
    try:
        await browser.size(390, 844)
        await browser.open(f"http://127.0.0.1:{server.port}/#/extractions/inventory")
        await browser.until("document.querySelector('.login input')", seconds=60)
        assert not await browser.ask(WIDER)
        await browser.ask(f"(0, eval)({axe.script()!r})")
        assert await browser.ask(axe.FAULTS % axe.RULES) == []

        await browser.ask("document.querySelector('.login input').focus()")
        await browser.write("fig_wrong_token")
        await browser.press("Enter")
        await browser.until("document.querySelector('[role=alert]')", seconds=30)
        await browser.ask("document.querySelector('.login input').select()")
        await browser.write(token)
        await browser.press("Enter")
        await browser.until("document.querySelector('.pipeline')", seconds=60)
        assert "ann, viewer" in await browser.ask("document.querySelector('.who').textContent")
        assert token not in await browser.ask("JSON.stringify(localStorage) + document.cookie + location.href")

        # Loaded again the session is still there; a command is refused, for she may only look.
        await browser.open(f"http://127.0.0.1:{server.port}/#/")
        await browser.until("document.querySelectorAll('[data-context]').length === 2", seconds=60)
        asked = (
            "fetch('/api/extractions/inventory/commands', {method: 'POST', body: '{\"verb\": \"abort\"}',"
            " headers: {'Content-Type': 'application/json'}}).then((answer) => answer.json())"
        )
        assert (await browser.ask(asked))["error"]["code"] == "csrf", "a page that has not read its own token"
        await browser.ask(BUTTON.format(words="Log out") + ".click()")
        await browser.until("document.querySelector('.login input')", seconds=30)
        assert (await browser.ask("fetch('/api/estate').then((answer) => answer.status)")) == 401
    finally:
        await server.stop()
