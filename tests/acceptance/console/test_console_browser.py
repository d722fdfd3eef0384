"""The console as an operator sees it: real Chromium, the installed command, a real control database."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stranglerfig.extraction.stages import Place, Stage
from stranglerfig.extraction.store import Store
from stranglerfig.foundation import clock
from stranglerfig.gates.evidence import EvidenceStore, Samples
from stranglerfig.runtime.embedded import free_port
from tests import axe, console_project
from tests.browser import Browser
from tests.conftest import passable

if TYPE_CHECKING:
    from stranglerfig.runtime.settings import Project
    from tests.conftest import Server

pytestmark = pytest.mark.acceptance
FIG = str(Path(sys.executable).with_name("fig"))
MODEL = Path(__file__).parents[3] / "examples/shop/estate/contexts/inventory/model.storm"
PAGES = {
    "estate": ("#/", "document.querySelectorAll('[data-context]').length === 2"),
    "extraction": ("#/extractions/inventory", "document.querySelectorAll('.chart canvas').length === 8"),
    "not begun": ("#/extractions/catalogue", "document.querySelector('.pipeline')"),
    "audit": ("#/audit", "document.querySelectorAll('.audit tbody tr').length > 5"),
}
WIDER = "document.documentElement.scrollWidth > innerWidth"
SAMPLES = "Number(document.querySelector('[data-kpi=shadow_mismatch]')?.dataset.samples)"


def button(words: str) -> str:
    """The button that begins with these words, of the dialog where one is open."""
    return (
        "[...(document.querySelector('dialog[open]') ?? document).querySelectorAll('button')]"
        f".find(each => each.innerText.startsWith({words!r}) && !each.disabled)"
    )


@pytest.fixture
async def begun(postgres: Server, tmp_path: Path) -> tuple[Project, str]:
    """A project with an extraction on its way, and its control database."""
    control = postgres.database()
    (folder := tmp_path / "project").mkdir()
    project = console_project.write(folder, control)
    await console_project.begin(project, control)
    return project, control


@pytest.fixture
async def link(begun: tuple[Project, str]) -> AsyncIterator[str]:
    """What ``fig console`` prints."""
    command = (sys.executable, "-m", "stranglerfig.cli.main", "--project", str(begun[0].directory), "--json", "console")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    said = b""
    async with asyncio.timeout(60):
        while not said.rstrip().endswith(b"}"):
            said += await process.stdout.readline()
    yield json.loads(said)["link"]
    process.terminate()
    assert await process.wait() == 0


async def colours(browser: Browser, scheme: str) -> None:
    await browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


async def test_the_pages_follow_what_happens_without_being_loaded_again(
    browser: Browser, begun: tuple[Project, str], link: str
) -> None:
    project, control = begun
    await browser.size(1440, 900)
    await browser.open(link)
    await browser.until(PAGES["estate"][1], seconds=60)
    assert await browser.ask("location.hash") == "#/", "the token is gone from the address"
    await browser.ask("window.mine = 'not loaded again'")

    # Keys lead about, and an address leads back.
    await browser.press("4")
    await browser.until(PAGES["audit"][1], seconds=30)
    await browser.ask("location.hash = '#/extractions/inventory'")
    await browser.until(PAGES["extraction"][1], seconds=30)
    await browser.until("document.querySelector('[data-kpi=latency] .grown polygon')", seconds=30)
    shown = "document.querySelector('main').innerText"
    for words in ("reads at 10 %", "1 row differs", "1 mismatched", "Requests held", "taken back"):
        assert words in await browser.ask(shown)

    # The controller judges again, and then goes on: the page says so.
    store, evidence = await Store.open(control), EvidenceStore(control)
    try:
        standing = await store.standing("inventory")
        samples = Samples()
        samples.count("shadow_mismatch", clock.epoch(), n=1234)
        await evidence.add("inventory", standing.evidence, samples)
        await console_project.judge(project, store, evidence)
        await browser.until(f"{SAMPLES} === 1234", seconds=30)
        await store.enter(standing, Place(Stage.READS, "50"), by="ann@desk")
        await browser.until("document.querySelector('.pipeline .inner .now').innerText === '50 %'", seconds=30)
    finally:
        await store.close()
        await evidence.close()
    assert await browser.ask("window.mine") == "not loaded again"

    # The link was for once; the session is this browser's, also at another page's address.
    await browser.open("about:blank")
    await browser.open(link.partition("#")[0] + "#/extractions/inventory")
    await browser.until("document.querySelector('.pipeline')", seconds=30)
    await browser.ask("localStorage.clear()")
    await browser.open("about:blank")
    await browser.open(link)
    await browser.until("document.querySelector('.sorry')", seconds=30)
    assert [each for each in browser.said if "403" not in each] == []


async def test_a_page_that_was_cut_off_says_so_and_goes_on(
    browser: Browser, begun: tuple[Project, str], link: str
) -> None:
    await browser.open(link)
    await browser.until(PAGES["estate"][1], seconds=60)
    await browser.online(on=False)
    await browser.ask("location.hash = '#/audit'")
    await browser.until("document.querySelector('.trouble')", seconds=60)
    await browser.online(on=True)
    await browser.until(f"{PAGES['audit'][1]} && !document.querySelector('.trouble')", seconds=60)


async def test_nothing_that_a_program_can_find_is_wrong(
    browser: Browser, begun: tuple[Project, str], link: str
) -> None:
    program = axe.script()
    await browser.size(1440, 900)
    await browser.open(link)
    await browser.until(PAGES["estate"][1], seconds=60)
    await browser.ask(program)
    found: dict[str, Any] = {}
    for width in (1440, 390):
        await browser.size(width, 900)
        for name, (address, ready) in PAGES.items():
            await browser.ask(f"location.hash = {address!r}")
            await browser.until(ready, seconds=30)
            for scheme in ("light", "dark"):
                await colours(browser, scheme)
                faults = await browser.ask(axe.FAULTS % axe.RULES)
                if await browser.ask(WIDER):
                    faults.append("the page is wider than the window")
                found[f"{name}, {width}, {scheme}"] = faults
    # What leaves: a context before its drop and after it, and the monolith.
    left = "document.querySelector('.departing')?.innerText.includes"
    for dropped, words in ((False, "wait in"), (True, "are dropped")):
        await console_project.depart(begun[1], dropped=dropped)
        for width, scheme in ((1440, "light"), (390, "dark")):
            await browser.size(width, 900)
            await colours(browser, scheme)
            for page, ready in (
                ("#/extractions/catalogue", f"{left}({words!r})"),
                ("#/", f"document.querySelector('.monolith-end[data-retired={json.dumps(dropped)}] details')"),
            ):
                await browser.ask(f"location.hash = {page!r}")
                await browser.until(ready, seconds=30)
                await browser.ask("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
                faults = await browser.ask(axe.FAULTS % axe.RULES)
                if await browser.ask(WIDER):
                    faults.append("the page is wider than the window")
                found[f"{page}, {words}, {width}, {scheme}"] = faults
    await browser.ask("location.hash = '#/extractions/inventory'")
    await browser.until(button("Abort"), seconds=30)
    await browser.ask(f"{button('Abort')}.click()")
    await browser.until("document.querySelector('dialog[open] .said')", seconds=30)
    found["an action"] = await browser.ask(axe.FAULTS % axe.RULES)
    assert {state: faults for state, faults in found.items() if faults} == {}
    assert browser.said == []


@pytest.fixture
def running(postgres: Server, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """``fig up`` on a project whose extraction has not begun; what it said when it was ready."""
    folder = passable(tmp_path) / "estate"
    folder.mkdir()
    console_project.write(folder, postgres.database(), ("inventory",))
    shutil.copy(MODEL, folder / "contexts/inventory/model.storm")
    inner = folder / "contexts/inventory/extraction.yaml"
    inner.write_text(inner.read_text().replace("postgresql://127.0.0.1:9/inventory", postgres.database()))
    file = folder / "fig.yaml"
    text = file.read_text().replace("postgresql://127.0.0.1:9/shop", postgres.database())
    file.write_text(text.replace("127.0.0.1:8080", f"127.0.0.1:{free_port()}"))

    def fig(*arguments: str) -> str:
        command = [FIG, "--project", str(folder), "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        said = json.loads(fig("up", "--detach"))
        said["again"] = json.loads(fig("console", "--link"))["link"]
        yield said
    finally:
        fig("down")


async def test_an_action_goes_from_its_dry_run_to_its_end(browser: Browser, running: dict[str, Any]) -> None:
    assert running["console_link"].partition("#")[0] == running["addresses"]["console"]
    await browser.size(1440, 900)
    await browser.open(running["console_link"])
    await browser.until("document.querySelectorAll('.processes .ready').length >= 8", seconds=60)
    await browser.ask("location.hash = '#/extractions/inventory'")
    await browser.until("document.querySelector('.lead')?.innerText.startsWith('prepare')", seconds=60)

    # The gate does not pass: the dry run says why, and an override wants a reason.
    await browser.until(button("Advance to build"), seconds=30)
    await browser.ask(f"{button('Advance to build')}.click()")
    await browser.until("document.querySelector('dialog[open] textarea')", seconds=60)
    dialog = "document.querySelector('dialog[open]').innerText"
    assert "Goes from prepare to build" in await browser.ask(dialog)
    assert "gate of prepare fails" in await browser.ask(dialog)
    assert not await browser.ask(f"!!{button('Override and advance')}")
    await browser.ask("document.querySelector('dialog[open] textarea').focus()")
    await browser.write("the model is agreed on elsewhere")
    await browser.until(button("Override and advance"))
    await browser.ask(f"{button('Override and advance')}.click()")
    await browser.until(f"{button('Close')} && document.querySelector('dialog[open] [data-state=done]')", seconds=60)
    assert "inventory is build" in await browser.ask(dialog)
    await browser.ask(f"{button('Close')}.click()")
    await browser.until("document.querySelector('.lead')?.innerText.startsWith('build')", seconds=60)

    # What cannot be undone wants the name, and then ends it.
    await browser.ask(f"{button('Abort')}.click()")
    await browser.until("document.querySelector('dialog[open] .effects')", seconds=60)
    assert not await browser.ask(f"!!{button('Abort now')}")
    await browser.ask("document.querySelector('dialog[open] input').focus()")
    await browser.write("inventory")
    await browser.until(button("Abort now"))
    await browser.ask(f"{button('Abort now')}.click()")
    await browser.until(f"{button('Close')} && document.querySelector('dialog[open] [data-state=done]')", seconds=60)
    await browser.ask(f"{button('Close')}.click()")
    await browser.until("document.querySelector('.lead')?.innerText.startsWith('aborted')", seconds=60)

    await browser.ask("location.hash = '#/audit/inventory'")
    await browser.until("document.querySelectorAll('.audit tbody tr').length >= 4", seconds=30)
    trail = await browser.ask("document.querySelector('.audit').innerText")
    assert "(console)" in trail and "the model is agreed on elsewhere" in trail
    assert browser.said == []
