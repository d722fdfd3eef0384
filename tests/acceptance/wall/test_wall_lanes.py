"""Swimlanes, by keyboard and by pointer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.browser import Browser
from tests.storm import Storm, opened, write

pytestmark = pytest.mark.acceptance
NAMES = "[...document.querySelectorAll('.lane-name')].map(e => e.innerText).join()"
HEIGHTS = "[...document.querySelectorAll('.lane')].map(e => e.offsetHeight).join()"
SPOKEN = "[...document.querySelectorAll('.lane-name')].map(e => e.ariaLabel).join('; ')"


async def lane(browser: Browser, name: str) -> None:
    await browser.press("Escape")
    await browser.press("s")
    await browser.until("document.activeElement.matches('.lane-edit')")
    await browser.write(name)
    await browser.press("Enter")
    await browser.until(f"document.activeElement.matches('.lane-name') && {NAMES}.endsWith({name!r})")


async def focused(browser: Browser, name: str) -> list[Any]:
    """Focus a lane's name; returns its middle on the screen."""
    found = f"[...document.querySelectorAll('.lane-name')].find(e => e.innerText === {name!r})"
    middle = "(r => [r.x + r.width / 2, r.y + 14])(e.getBoundingClientRect())"
    return list(await browser.ask(f"(e => {{ e.focus(); return {middle}; }})({found})"))


async def test_lanes_are_put_up_named_moved_resized_and_removed(browsers: list[Browser], storm: Storm) -> None:
    ann, ben = browsers
    await asyncio.gather(opened(ann, storm.link), opened(ben, storm.link))
    await ann.press("s")
    assert await ann.ask(NAMES) == "", "there are none while people explore"
    await ann.ask("[...document.querySelectorAll('.phases button')].at(-1).click()")
    await ann.until("document.querySelector('.palette button:nth-child(5):not(:disabled)')")

    await lane(ann, "Shop")
    await lane(ann, "Warehouse")
    await ben.until(f"{NAMES} === 'Shop,Warehouse' && {HEIGHTS} === '300,300'")

    # A sticky says in which lane it hangs; moving the lane takes it along.
    box = await ann.ask("(r => [700, r.y + r.height / 2])(document.querySelector('.lane').getBoundingClientRect())")
    await ann.mouse("mouseMoved", *box)
    await write(ann, "e", "order placed")
    await ben.until("document.querySelector('[aria-label=\"Domain event: Order Placed, in the lane Shop\"]')")
    await ben.until(f"{SPOKEN} === 'Swimlane Shop, 1 of 2, 1 sticky; Swimlane Warehouse, 2 of 2, 0 stickies'")
    hung = "parseInt(document.querySelector('.react-flow__node-sticky').style.top)"
    before = await ann.ask(hung)
    await focused(ann, "Shop")
    await ann.press("ArrowDown", modifiers=1)
    await ben.until(f"{NAMES} === 'Warehouse,Shop' && {hung} === {before + 300}")
    await ben.until("document.querySelector('[aria-label$=\"in the lane Shop\"]')")

    # Higher by keyboard: what is below makes room. Taken back in one step.
    await focused(ann, "Warehouse")
    await ann.press("ArrowDown", modifiers=8)
    await ben.until(f"{HEIGHTS} === '340,300' && {hung} === {before + 340}")
    await ann.press("z", modifiers=2)
    await ben.until(f"{HEIGHTS} === '300,300' && {hung} === {before + 300}")

    # By pointer: the edge resizes, the name is dragged to another's place, the buttons do the same without dragging.
    edge = await ann.ask(
        "(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector('.lane-edge').getBoundingClientRect())"
    )
    zoom = await ann.ask("new DOMMatrix(document.querySelector('.react-flow__viewport').style.transform).a")
    await ann.drag((edge[0], edge[1]), (edge[0], edge[1] + 60 * zoom))
    await ben.until(f"{HEIGHTS} === '360,300'")
    start, end = await focused(ann, "Warehouse"), await focused(ann, "Shop")
    await ann.drag((start[0], start[1]), (end[0], end[1] + 20))
    await ben.until(f"{NAMES} === 'Shop,Warehouse' && {HEIGHTS} === '300,360'")
    assert await ann.ask("document.querySelector('.lane-acts')") is None, "a drag is no click"
    await ann.click(*await focused(ann, "Shop"))
    await ann.until("document.querySelector('.lane-acts')")
    await ann.ask("document.querySelector('.lane-acts [aria-label=\"Higher\"]').click()")
    await ben.until(f"{HEIGHTS} === '340,360'")

    # Named anew and taken down; the sticky stays.
    await focused(ann, "Warehouse")
    await ann.press("Enter")
    await ann.until("document.activeElement.matches('.lane-edit')")
    await ann.write("Store")
    await ann.press("Enter")
    await ben.until(f"{NAMES} === 'Shop,Store'")
    await ben.ask("document.querySelector('.menu > button').click()")
    await ben.until("document.querySelector('.drop')")
    await ben.ask("[...document.querySelectorAll('.drop button')].find(e => e.innerText.startsWith('Write')).click()")
    await ben.until("document.querySelector('.toast').innerText === 'wall.storm is written.'")
    text = (storm.folder / "wall.storm").read_text()
    assert 'lane "Shop" ' in text and 'lane "Store" ' in text
    await focused(ann, "Shop")
    await ann.press("Delete")
    await ben.until(f"{NAMES} === 'Store' && document.querySelectorAll('.sticky').length === 1")
    assert (ann.said, ben.said) == ([], [])
