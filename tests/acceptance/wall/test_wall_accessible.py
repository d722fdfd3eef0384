"""WCAG 2.2 AA on the wall, as far as programs can tell: axe-core in each of the page's states, and what it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.axe import FAULTS, RULES, script
from tests.browser import Browser
from tests.storm import Storm, opened, write

pytestmark = pytest.mark.acceptance
MODEL = Path("examples/shop/estate/contexts/inventory/model.storm")
WALL = """
wall
  lane "Shop" -60 260
  lane "Warehouse" 200 400
  comment on "Who may adjust below what is reserved?" by "Ann": "Support, up to ten"
"""
BORDERS = """(() => {
  const colour = (said) => {
    const parts = said.match(/[\\d.]+/g).map(Number);
    return parts.length < 4 || parts[3] === 1 ? parts.slice(0, 3) : null;
  };
  // https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
  const light = (c) => c.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const behind = (e) => colour(getComputedStyle(e).backgroundColor) ?? behind(e.parentElement);
  return [...document.querySelectorAll('input:not([hidden], [type=checkbox]), textarea, select')]
    .filter((e) => e.checkVisibility() && !e.closest('.sticky, .area-title'))
    .map((e) => [e, ratio(colour(getComputedStyle(e).borderTopColor), behind(e.parentElement))])
    .filter(([, r]) => r < 3).map(([e, r]) => `${e.outerHTML.slice(0, 80)} ${r.toFixed(2)}`);
})()"""
UNSEEN = """(() => {
  const of = getComputedStyle(document.activeElement);
  const seen = of.outlineStyle !== 'none' && parseFloat(of.outlineWidth) >= 2
    || document.activeElement.matches('path') && of.strokeWidth === '4px' || document.activeElement === document.body;
  return seen ? '' : `${of.outline} ${document.activeElement.outerHTML.slice(0, 120)}`;
})()"""


@pytest.fixture
async def model(tmp_path: Path) -> AsyncIterator[Storm]:
    (folder := tmp_path / "model").mkdir()
    (folder / "model.storm").write_text(MODEL.read_text() + WALL)
    storm = Storm(folder, str(folder / "model.storm"))
    await storm.start()
    yield storm
    await storm.end()


@pytest.fixture(scope="module")
def axe() -> str:
    return script()


async def show(browser: Browser, *steps: str) -> None:
    """Bring the page to a state: presses of keys, ``@`` a sticky's name to select it, and ``!`` what to click."""
    await browser.press("Escape")
    await browser.ask("document.querySelector('dialog[open]')?.close()")
    for step in steps:
        if step.startswith("@"):
            name = f"[...document.querySelectorAll('.react-flow__node')].find(e => e.ariaLabel.includes({step[1:]!r}))"
            await browser.ask(f"{name}.focus()")
            await browser.press(" ")
        elif step.startswith("!"):
            await browser.ask(f"document.querySelector({step[1:]!r}).click()")
        else:
            await browser.press(step)
    await browser.ask("new Promise((done) => setTimeout(done, 300))")  # until the page has come near


STATES: dict[str, tuple[str, ...]] = {
    "nothing selected": (),
    "an event selected": ("@Stock Adjusted",),
    "a question selected": ("@Who may adjust",),
    "several selected": ("@Stock Adjusted", "!.react-flow__node-sticky"),
    "words being written": ("@Stock Adjusted", "Enter"),
    "a context being named": ("@Bounded context", "Enter"),
    "a context selected": ("@Bounded context",),
    "the menu": ("!.menu > button",),
    "the keys": ("?",),
    "a lane's buttons": ("!.lane-name",),
    "a lane being named": ("s",),
}


@pytest.mark.parametrize("width", [1440, 390])
async def test_nothing_that_a_program_can_find_is_wrong(
    browsers: list[Browser], model: Storm, axe: str, width: int
) -> None:
    ann, ben = browsers
    for browser, link in ((ann, model.link), (ben, model.reads_only)):
        await opened(browser, link, width)
        await browser.until("document.querySelectorAll('.sticky').length > 5")
        await browser.press("0")
        await browser.ask(axe)
    found: dict[str, Any] = {}
    for state, steps in STATES.items():
        await show(ann, *steps)
        found[state] = await ann.ask(FAULTS % RULES) + await ann.ask(BORDERS)
    found["only to look at"] = await ben.ask(FAULTS % RULES)
    await ann.ask("document.querySelector('.menu > button').click()")
    await ann.until("document.querySelector('.drop')")
    await ann.ask("[...document.querySelectorAll('.drop button')].find(e => e.innerText === 'Check the model').click()")
    await ann.until("document.querySelector('dialog[open]')")
    found["findings"] = await ann.ask(FAULTS % RULES)
    assert {state: faults for state, faults in found.items() if faults} == {}


async def test_the_focus_is_seen_wherever_tab_brings_it(browsers: list[Browser], model: Storm) -> None:
    ann = browsers[0]
    await opened(ann, model.link)
    await ann.until("document.querySelectorAll('.sticky').length > 5")
    seen = set()
    for _ in range(150):
        await ann.press("Tab")
        assert await ann.ask(UNSEEN) == ""
        seen.add(await ann.ask("document.activeElement.closest('[class]')?.classList[0]"))
    assert {"arrow", "lane-name", "palette", "phases", "react-flow__node", "timer"} <= seen, seen


async def test_who_wants_no_motion_gets_none(browsers: list[Browser], model: Storm) -> None:
    ann = browsers[0]
    await ann.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    await opened(ann, model.link)
    await ann.until("document.querySelectorAll('.sticky').length > 5")
    moving = (
        "[...document.querySelectorAll('*')].filter(e => (s => parseFloat(s.transitionDuration) > 0 || "
        "parseFloat(s.animationDuration) > 0 && !/^(none|toast)$/.test(s.animationName))(getComputedStyle(e))).length"
    )
    assert await ann.ask(moving) == 0
    # The view jumps: it is where it goes in the frame after the key.
    where = "document.querySelector('.react-flow__viewport').style.transform"
    before = await ann.ask(where)
    await ann.press("+")
    twice = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    await ann.ask(twice)
    at_once = await ann.ask(where)
    await asyncio.sleep(0.4)
    assert before != at_once == await ann.ask(where)


async def test_a_context_is_drawn_resized_and_moved_by_keyboard_alone(browsers: list[Browser], storm: Storm) -> None:
    ann, ben = browsers
    await asyncio.gather(opened(ann, storm.link), opened(ben, storm.link))
    await ann.ask("[...document.querySelectorAll('.phases button')].at(-1).click()")
    await ann.until("document.querySelector('.palette button:nth-child(9):not(:disabled)')")
    await write(ann, "c", "place order")
    await write(ann, "e", "order placed")
    await ann.press("a", modifiers=2)
    await ann.until("document.querySelectorAll('.sticky.selected').length === 2")
    await ann.press("l")
    await ann.press("b")
    await ann.until("document.activeElement.matches('.area-title textarea')")
    await ann.write("Orders")
    await ann.press("Enter")
    await ben.until("document.querySelectorAll('.arrow').length === 1")
    node = "document.querySelector('.react-flow__node-area').style"
    area = f"(s => [s.left, s.top, s.width, s.height].map(parseFloat).join())({node})"
    await ben.until("document.querySelector('.area-title')?.innerText === 'Orders'")
    left, top, width, height = (float(part) for part in (await ben.ask(area)).split(","))
    await ann.until("document.activeElement.matches('.react-flow__node-area')")
    await ann.press("ArrowRight", modifiers=1)
    await ann.press("ArrowDown", modifiers=1)
    await ben.until(f"{area} === '{left:g},{top:g},{width + 24:g},{height + 24:g}'")
    hung = "parseFloat(document.querySelector('.react-flow__node-sticky').style.left)"
    before = await ben.ask(hung)
    await ann.press("ArrowRight")
    await ben.until(f"{hung} > {before} && {area}.startsWith('{left:g},') === false")
    assert (ann.said, ben.said) == ([], [])


async def test_the_focus_stays_with_a_sticky_that_comes_to_another_place(browsers: list[Browser], storm: Storm) -> None:
    """In the page stickies stand as on the timeline; by one's own keys, and by others, they change places."""
    ann, ben = browsers
    await asyncio.gather(opened(ann, storm.link), opened(ben, storm.link))
    for words in ("first done", "second done"):
        await write(ann, "e", words)
    await ann.press("Escape")
    order = "[...document.querySelectorAll('.sticky .words')].map(e => e.innerText).join('|')"
    await ben.until(f"{order} === 'First Done|Second Done'")
    here = "document.activeElement.ariaLabel"
    await ann.ask("document.querySelector('.react-flow__node-sticky').focus()")
    await ann.press(" ")
    await ann.until("document.querySelectorAll('.selected.react-flow__node').length === 1")
    for _ in range(60):
        await ann.press("ArrowRight")
    await ben.until(f"{order} === 'Second Done|First Done'")
    assert await ann.ask(here) == "Domain event: First Done"

    # Ben moves it back past the other one, while Ann reads it.
    await ben.ask("[...document.querySelectorAll('.react-flow__node-sticky')].at(-1).focus()")
    await ben.press(" ")
    for _ in range(60):
        await ben.press("ArrowLeft")
    await ann.until(f"{order} === 'First Done|Second Done'")
    assert await ann.ask(here) == "Domain event: First Done"
