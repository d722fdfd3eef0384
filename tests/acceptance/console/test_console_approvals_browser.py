"""Approvals in the console: real Chromium, real tokens, a real controller, and two people who are not of one mind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stranglerfig.access import credentials
from stranglerfig.access.model import Role
from stranglerfig.console.role import server_of
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.extraction import commands
from stranglerfig.extraction.parts import ContextParts, Parts
from stranglerfig.extraction.store import Store
from stranglerfig.foundation import postgres as sessions
from stranglerfig.foundation import tasks
from stranglerfig.runtime.settings import load_project
from tests import axe, console_project
from tests.browser import Browser
from tests.conftest import Server
from tests.gateless import Gateless

pytestmark = pytest.mark.acceptance
POLICY = """
access: {rates: {login: 60}}
policy:
  approvals: {build: 1}
  windows: {build: daily 00:00-24:00 UTC, sync: [Mon 10:00-10:01 UTC, Mon 10:02-10:03 UTC]}
"""
CARD = "document.querySelector('[data-agreement=inventory]')"
WIDER = "document.documentElement.scrollWidth > innerWidth"


@dataclass
class Office:
    """A console where people log in, a controller behind it, and their tokens."""

    address: str
    control: str
    tokens: dict[str, str]

    async def ask(self, who: str, verb: str, **args: Any) -> str:
        """A command of theirs; what became of it."""
        number = await commands.submit(
            self.control, "inventory", verb, args, who, asked_from=f"{who}@desk", token=self.tokens[who]
        )
        said = [event async for event in commands.follow(self.control, number, patience=60)]
        return str(said[-1].data.get("code", said[-1].kind))


@pytest.fixture
async def office(postgres: Server, tmp_path: Path) -> AsyncIterator[Office]:
    control = postgres.database()
    (folder := tmp_path / "project").mkdir()
    console_project.write(folder, control, ("inventory",))
    (folder / "fig.yaml").write_text((folder / "fig.yaml").read_text() + POLICY)
    project = load_project(folder)
    server = server_of(project, control)
    await server.start("127.0.0.1", 0)
    store = await Store.open(control)
    nobody = "postgresql://nobody@127.0.0.1/nothing"
    parts: Any = Parts(
        name="shop", project=folder, data=folder, control_dsn=control,
        monolith_url="http://127.0.0.1:1", monolith_dsn=nobody,
        contexts={"inventory": ContextParts(project.extractions["inventory"], folder, nobody)},
        log=MemoryLog(), registry=None, flows=None, envoy=None, fence=None,  # type: ignore[arg-type]
        access=True, policy=project.estate.policy,
    )  # fmt: skip
    controller = tasks.spawn(Gateless(parts, store, None).take_commands(), name="controller")  # type: ignore[arg-type]
    tokens = {}
    async with sessions.session(control, what="test") as conn:
        for name, role in (("olga", Role.OPERATOR), ("anna", Role.APPROVER), ("bert", Role.APPROVER)):
            _, tokens[name] = await credentials.create(
                conn, kind="token", name=name, person=name, role=role, how="token", by="test", lasts=None
            )
    yield Office(f"http://127.0.0.1:{server.port}/", control, tokens)
    await tasks.stop(controller)
    await store.close()
    await server.stop()


def button(words: str) -> str:
    return (
        "[...(document.querySelector('dialog[open]') ?? document).querySelectorAll('button')]"
        f".find((each) => each.innerText.startsWith({words!r}) && !each.disabled)"
    )


async def press(browser: Browser, words: str) -> None:
    await browser.until(button(words), seconds=60)
    await browser.ask(f"{button(words)}.click()")


async def log_in(browser: Browser, office: Office, who: str) -> None:
    await browser.open("about:blank")
    await browser.open(f"{office.address}#/extractions/inventory")
    await browser.until("document.querySelector('.login input, .pipeline')", seconds=60)
    if await browser.ask("!!document.querySelector('.pipeline')"):
        await press(browser, "Log out")
        await browser.until("document.querySelector('.login input')", seconds=60)
    await browser.ask("document.querySelector('.login input').focus()")
    await browser.write(office.tokens[who])
    await browser.press("Enter")
    await browser.until(CARD, seconds=60)


async def faultless(browser: Browser) -> None:
    """WCAG, wide and narrow, light and dark, of what is shown now."""
    await browser.ask(f"(0, eval)({axe.script()!r})")
    for width in (1440, 390):
        await browser.size(width, 900)
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            await browser.send("Emulation.setEmulatedMedia", features=features)
            assert await browser.ask(axe.FAULTS % axe.RULES) == [], (width, scheme)
            assert not await browser.ask(WIDER), (width, scheme)
    await browser.size(1440, 900)


async def test_one_asks_another_declines_and_then_approves(browser: Browser, office: Office) -> None:
    await browser.size(1440, 900)
    await log_in(browser, office, "anna")
    assert "Nobody has asked" in await browser.ask(f"{CARD}.innerText")
    assert "window open" in await browser.ask(f"{CARD}.innerText")

    # An approver asks: her own yes would not count, and the page does not offer it; nor does the API.
    await press(browser, "Advance to build")
    await browser.until("document.querySelector('dialog[open] .wants')", seconds=60)
    await faultless(browser)
    await browser.ask("document.querySelector('dialog[open] input').focus()")
    await browser.write("the service is deployed")
    await press(browser, "Ask for approval")
    await browser.until("document.querySelector('dialog[open] [data-state=failed]')", seconds=60)
    await press(browser, "Close")
    await browser.until(f"{CARD}.innerText.includes('You asked for it')", seconds=60)
    assert not await browser.ask(f"!!{button('Approve')}")
    body = '{"verb": "approve", "stage": "build", "dry_run": false}'
    own = await browser.ask(
        "fetch('/api/whoami').then((answer) => answer.json()).then((me) => fetch("
        f"'/api/extractions/inventory/commands', {{method: 'POST', body: {body!r},"
        " headers: {'Content-Type': 'application/json', 'X-CSRF-Token': me.csrf}})).then((answer) => answer.json())"
    )
    assert own["error"]["code"] == "own_request"

    # Who may not approve reads that an approver does.
    await log_in(browser, office, "olga")
    assert "An approver says yes or no" in await browser.ask(f"{CARD}.innerText")

    # Another approver finds it on the estate, and says no, with a reason.
    await log_in(browser, office, "bert")
    await browser.ask("location.hash = '#/'")
    await browser.until(f"{CARD}?.dataset.waits === 'true' && document.querySelector('.contexts')", seconds=60)
    asked = await browser.ask(f"{CARD}.innerText")
    assert "Asked for by anna" in asked and "Why: the service is deployed" in asked and "counts for 24 h" in asked
    await faultless(browser)
    await press(browser, "Decline inventory")
    await browser.until("document.querySelector('dialog[open] .effects')", seconds=60)
    await faultless(browser)
    assert not await browser.ask(f"!!{button('Decline now')}"), "it wants a reason"
    await browser.ask("document.querySelector('dialog[open] input').focus()")
    await browser.write("not on a Friday")
    await press(browser, "Decline now")
    await browser.until("document.querySelector('dialog[open] [data-state=done]')", seconds=60)
    await press(browser, "Close")
    await browser.until(f"{CARD}.innerText.includes('not on a Friday')", seconds=60)
    await faultless(browser)

    # Asked again, he says yes; then she may, and it is she who takes the step.
    assert await office.ask("anna", "advance") == "approvals_missing"
    await press(browser, "Approve inventory")
    await browser.until("document.querySelector('dialog[open] .effects')", seconds=60)
    assert "is not taken by this" in await browser.ask("document.querySelector('dialog[open]').innerText")
    await press(browser, "Approve now")
    await browser.until("document.querySelector('dialog[open] [data-state=done]')", seconds=60)
    await press(browser, "Close")
    await browser.until(f"{CARD}.innerText.includes('agreed to') && {CARD}.innerText.includes('bert')", seconds=60)
    assert await office.ask("bert", "advance") == "approvals_missing", "he is not counted where he asks"
    assert await office.ask("anna", "advance") == "done"
    await browser.until(f"{CARD}.innerText.includes('window closed')", seconds=60)
    await faultless(browser)
    assert [each for each in browser.said if "409" not in each and "401" not in each] == []
