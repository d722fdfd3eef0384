"""The page of ``fig seams --serve`` as an architect uses it: a real Chromium, the shop's database and sources."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from tests.browser import Browser
from tests.conftest import Server

pytestmark = pytest.mark.acceptance
MONOLITH = Path(__file__).parents[2] / "examples/shop/monolith"
FIG = (sys.executable, "-m", "stranglerfig.cli.main", "--project")
ASKED = ("seams", "--source", str(MONOLITH))
MOVED = ("reservations", "orders")
FIGURES = (
    "Object.fromEntries([...document.querySelectorAll('.ranking tbody tr')].map(row => [row.dataset.candidate, "
    "Object.fromEntries([...row.querySelectorAll('td')].map(cell => "
    "[cell.dataset.figure, cell.querySelector('.value').innerText]))]))"
)
WHOLE = (
    "Object.fromEntries([...document.querySelectorAll('.whole > div')].map(e => "
    "[e.dataset.figure, e.querySelector('.value').innerText]))"
)
# Of every text that is seen, its colour against the nearest opaque ground: what is less than AA asks for.
PALE = """
(() => {
  const channels = c => (c.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.9) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')]
    .filter(e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .flatMap(e => {
      const [a, b] = [light(channels(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
      const ratio = (a + 0.05) / (b + 0.05);
      return ratio < 4.5 ? [`${e.tagName}.${e.className} ${e.textContent} ${ratio.toFixed(2)}`] : [];
    });
})()
"""
UNNAMED = (
    "[...document.querySelectorAll('button, input, select, [role=menu], [tabindex=\"0\"]')].filter(e => "
    "!(e.ariaLabel || e.innerText || e.labels?.length)).map(e => e.outerHTML)"
)


class Page:
    """``fig seams --serve``, running."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.link = folder, ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(*FIG, str(self.folder), "--json", *ASKED, "--serve"), stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        said = b""
        async with asyncio.timeout(60):
            while not said.rstrip().endswith(b"}"):
                line = await self._process.stdout.readline()
                assert line, said
                said += line
        self.link = json.loads(said)["link"]

    async def end(self) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            return await self._process.wait()

    async def ask(self, method: str, what: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        base, _, own = self.link.partition("#")
        headers = {"Authorization": f"Bearer {own if token is None else token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{base}api/{what}", json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()


@pytest.fixture(scope="module")
def dsn(postgres: Server) -> str:
    found = postgres.database()
    for role in ("shop_app", "shop_nightly"):
        postgres.role(role)
    with psycopg.connect(found) as conn:
        conn.execute((MONOLITH / "schema.sql").read_bytes())
    return found


@pytest.fixture
async def page(dsn: str, tmp_path: Path) -> AsyncIterator[Page]:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "fig.yaml").write_text(f"name: shop\nmonolith: {{url: http://127.0.0.1:8001, database: {dsn}}}\n")
    found = Page(folder)
    await found.start()
    yield found
    await found.end()


async def opened(browser: Browser, page: Page, width: int = 1440, height: int = 900, *, touch: bool = False) -> None:
    await browser.size(width, height, touch=touch)
    await browser.open(page.link)
    await browser.until("document.querySelector('.ranking tbody tr')")


def within(table: str, context: str) -> str:
    return f"document.querySelector('[data-drop={context}] [data-table={table}]')"


async def middle(browser: Browser, element: str) -> tuple[float, float]:
    x, y = await browser.ask(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({element}.getBoundingClientRect())")
    return x, y


def said_by_the_command(folder: Path, *more: str) -> dict[str, Any]:
    done = subprocess.run(
        [*FIG, str(folder), "--json", *ASKED, *more], capture_output=True, text=True, timeout=120, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def test_a_table_is_dragged_and_every_figure_is_that_of_the_command(browser: Browser, page: Page) -> None:
    await opened(browser, page)
    before, whole = await browser.ask(FIGURES), await browser.ask(WHOLE)
    table, context = MOVED
    start = await middle(browser, within(table, "inventory"))
    x, y = await browser.ask(
        "(r => [r.right - 20, r.bottom - 8])(document.querySelector('[data-drop=orders]').getBoundingClientRect())"
    )
    await browser.drag(start, (x, y))
    await browser.until(within(table, context))
    after, now = await browser.ask(FIGURES), await browser.ask(WHOLE)
    what = (await asyncio.to_thread(said_by_the_command, page.folder, "--move", f"{table}={context}"))["what_if"]
    shares = {"stability", "cross_share", "entangled_share", "changed_with_others", "traffic", "own_traffic"}

    def shown(name: str, value: float | None) -> str:
        if value is None:
            return "\N{EN DASH}"
        return f"{int(value * 100 + 0.5)} %" if name in shares else f"{value:g}"

    for each in what["candidates"]:
        for name, pair in each["figures"].items():
            assert before[each["name"]][name] == shown(name, pair["before"]), (each["name"], name)
            assert after[each["name"]][name] == shown(name, pair["after"]), (each["name"], name)
    for name, pair in what["figures"].items():
        assert (whole[name], now[name]) == tuple(
            f"{pair[when]:.3f}" if name != "parts" else str(pair[when]) for when in ("before", "after")
        )
    assert len([name for name in whole if whole[name] != now[name]]) >= 5

    # What it was is shown beside it, and in words for who does not see colours.
    changed = "[...document.querySelectorAll('[data-candidate=inventory] .change')].map(e => e.innerText)"
    assert any(re.fullmatch("\N{MINUS SIGN}2\\s*worse", each) for each in await browser.ask(changed))
    assert f"--move {table}={context}" in await browser.ask("document.querySelector('.wide .command code').innerText")

    # Undone by key and done again; another browser's edit arrives by itself; back to the proposal.
    await browser.press("z", modifiers=2)
    await browser.until(within(table, "inventory"))
    assert (await browser.ask(FIGURES), await browser.ask(WHOLE)) == (before, whole)
    await browser.press("z", modifiers=2 | 8)
    await browser.until(within(table, context))
    assert (await page.ask("POST", "steps", {"move": ["payments"], "to": None}))[0] == 200
    await browser.until(within("payments", "payments"))
    await browser.ask("[...document.querySelectorAll('.tools button')].at(-1).click()")
    await browser.until(within("payments", "orders"))

    # What ties two tables is a press on their line away.
    line = "[...document.querySelectorAll('.tie')].find(e => e.textContent.startsWith('inventory and reservations'))"
    await browser.ask(f"{line}.querySelector('.hit').dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
    await browser.until("document.querySelector('aside h2').innerText === 'inventory and reservations'")
    await browser.until("document.querySelector('aside').innerText.includes('reservations_item_id_fkey')")
    assert (await browser.ask(FIGURES), await browser.ask(WHOLE)) == (before, whole)
    assert browser.said == []


async def test_by_keyboard_alone_and_still_there_after_a_reload(browser: Browser, page: Page) -> None:
    await opened(browser, page)
    await browser.ask("document.querySelector('[data-table=reservations]').focus()")
    await browser.press("Enter")
    await browser.until("document.querySelector('aside h2').innerText === 'reservations'")
    await browser.until("[...document.querySelectorAll('aside details')].some(e => e.innerText.includes('Statements'))")
    evidence = "[...document.querySelectorAll('aside .evidence code')].map(e => e.textContent).join('\\n')"
    assert re.search(r"INSERT INTO reservations.*\(\w+\.py:\d+\)", await browser.ask(evidence))
    await browser.press("m")
    await browser.until("document.activeElement.matches('[role=menuitem]')")
    assert await browser.ask("document.activeElement.parentElement.ariaLabel") == "Move reservations to"
    await browser.press("o")
    await browser.until("document.activeElement.innerText === 'orders'")
    await browser.press("Enter")
    await browser.until(within(*MOVED))
    await browser.until("document.activeElement.dataset.table === 'reservations'")
    assert (await browser.ask("document.querySelector('[role=status]').innerText")).startswith(
        "reservations: moved to orders. Begin with "
    )

    # A context is called otherwise.
    await browser.press("Escape")
    await browser.ask("document.querySelector('[data-candidate=orders] button').click()")
    await browser.press("r")
    await browser.until("document.activeElement.matches('aside input')")
    await browser.press("a", modifiers=2, does="selectAll")
    await browser.write("Sales")
    await browser.press("Enter")
    await browser.until(within("reservations", "sales"))

    # It is in the file, so that a reload has it, and a server that is begun anew; the command says the same.
    kept = json.loads((page.folder / "seams-edits.json").read_text())
    assert kept["steps"] == [{"move": ["reservations"], "to": "orders"}, {"rename": "orders", "to": "Sales"}]
    await browser.send("Page.reload")
    await browser.until(within("reservations", "sales"))
    told = await asyncio.to_thread(said_by_the_command, page.folder)
    assert told["edits"]["moves"] == dict.fromkeys(("order_lines", "orders", "payments", "reservations"), "sales")
    assert await page.end() == 0
    await browser.until("document.querySelector('.state').innerText.startsWith('Not connected')")
    assert await browser.ask("[...document.querySelectorAll('.tools button')].every(e => e.disabled)")
    await browser.ask("window.before = true")
    link = page.link
    await page.start()
    assert page.link == link
    await browser.until(f"!window.before && {within('reservations', 'sales')}")  # its evidence is another run's


async def test_a_draft_is_written_where_it_opens_on_the_wall_and_over_nothing(browser: Browser, page: Page) -> None:
    await opened(browser, page)
    await browser.ask("document.querySelector('[data-candidate=inventory] button').click()")
    await browser.press("d")
    await browser.until("document.querySelector('dialog[open] h2')?.innerText === 'The draft of inventory is written'")
    file = page.folder / "contexts" / "inventory" / "model.storm"
    assert f"storm {file}" in await browser.ask("document.querySelector('dialog code').innerText")
    same = page.folder / "same.storm"
    await asyncio.to_thread(said_by_the_command, page.folder, "--draft", "inventory", str(same))
    assert file.read_text() == same.read_text() and "command AdjustInventory(item_id: int)" in file.read_text()

    file.write_text("context Inventory\n")
    await browser.press("Escape")
    await browser.until("!document.querySelector('dialog[open]')")
    await browser.press("d")
    await browser.until("document.querySelector('dialog[open] h2')?.innerText === 'There is a model already'")
    await browser.press("Enter")
    await browser.until("!document.querySelector('dialog[open]')")
    assert file.read_text() == "context Inventory\n"
    await browser.press("d")
    await browser.until("document.querySelector('dialog[open] .hot')")
    await browser.ask("document.querySelector('dialog .hot').click()")
    await browser.until("document.querySelector('dialog[open] h2')?.innerText === 'The draft of inventory is written'")
    assert file.read_text() == same.read_text()


@pytest.mark.parametrize("width", [1440, 390])
async def test_everything_has_a_name_a_contrast_and_a_place(browser: Browser, page: Page, width: int) -> None:
    await opened(browser, page, width, 844, touch=width < 500)
    assert await browser.ask("document.documentElement.scrollWidth") == width
    assert await browser.ask(UNNAMED) == [] and await browser.ask(PALE) == []
    # By finger: chosen with a tap, moved from the menu.
    await browser.ask("document.querySelector('[data-table=reservations]').click()")
    await browser.until("document.querySelector('aside .main')?.innerText.startsWith('Move to')")
    top, bottom = await browser.ask(
        "(r => [r.top, r.bottom])(document.querySelector('aside .main').getBoundingClientRect())"
    )
    assert top >= 0 and bottom <= 844  # in sight, however long the picture is
    await browser.ask("document.querySelector('aside .main').click()")
    await browser.until("document.querySelector('[role=menu]')")
    left, right = await browser.ask(
        "(r => [r.left, r.right])(document.querySelector('[role=menu]').getBoundingClientRect())"
    )
    assert left >= 0 and right <= width
    await browser.ask("[...document.querySelectorAll('[role=menuitem]')].find(e => e.innerText === 'orders').click()")
    await browser.until(within(*MOVED))
    assert await browser.ask("document.documentElement.scrollWidth") == width
    assert await browser.ask(UNNAMED) == [] and await browser.ask(PALE) == []
    roles = await browser.send("Accessibility.getFullAXTree")
    names = {node["name"]["value"] for node in roles["nodes"] if node.get("name", {}).get("value")}
    assert {"reservations, in orders", "Ranking, every figure of each candidate", "customers: 1 table"} <= names
    assert browser.said == []


async def test_what_a_link_may_not(page: Page, tmp_path: Path) -> None:
    for method, what in (("GET", "graph"), ("GET", "seams"), ("GET", "table?name=orders"), ("POST", "undo")):
        status, told = await page.ask(method, what, token="guessed")
        assert (status, told["error"]["code"]) == (403, "seams_link")
    for body, code in (
        ({"candidate": "inventory", "file": "../away.storm"}, "draft_elsewhere"),
        ({"candidate": "inventory", "file": "fig.yaml"}, "draft_elsewhere"),
        ({"candidate": "billing"}, "unknown_candidate"),
    ):
        status, told = await page.ask("POST", "draft", body)
        assert (status >= 400, told["error"]["code"]) == (True, code)
    for step, code in (
        ({"move": ["goods"], "to": "orders"}, "unknown_table"),
        ({"rename": "orders", "to": "inventory"}, "context_name"),
        ({"fly": True}, "seams_edits_invalid"),
    ):
        assert (await page.ask("POST", "steps", step))[1]["error"]["code"] == code
    assert not (page.folder / "seams-edits.json").exists() and not (tmp_path / "away.storm").exists()

    # A file that an editor broke is said, not overwritten.
    (page.folder / "seams-edits.json").write_text("{")
    assert (await page.ask("POST", "undo"))[1]["error"]["code"] == "seams_edits_invalid"
    assert (page.folder / "seams-edits.json").read_text() == "{"
