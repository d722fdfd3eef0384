"""The wall under fingers, and contexts dragged by pointer with what is in them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.storm import Storm, opened, write

pytestmark = pytest.mark.acceptance
MODEL = Path("examples/shop/estate/contexts/inventory/model.storm")
ZOOM = "new DOMMatrix(document.querySelector('.react-flow__viewport').style.transform).a"
PLACES = (
    "Object.fromEntries([...document.querySelectorAll('.react-flow__node')].map(e => "
    "[e.ariaLabel.split(',')[0], [parseInt(e.style.left), parseInt(e.style.top)]]))"
)


async def middle(browser: Browser, name: str) -> tuple[float, float]:
    found = f"[...document.querySelectorAll('.words, .area-title')].find(e => e.innerText === {name!r})"
    x, y = await browser.ask(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({found}.getBoundingClientRect())")
    return x, y


async def touch(browser: Browser, kind: str, *points: tuple[float, float]) -> None:
    fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
    await browser.send("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)


async def test_a_finger_selects_and_drags_and_two_come_near(browsers: list[Browser], storm: Storm) -> None:
    ann, ben = browsers
    await opened(ben, storm.link)
    await write(ben, "e", "order placed")
    await ann.send("Emulation.setTouchEmulationEnabled", enabled=True)
    await ann.size(390, 844, touch=True)
    await ann.open(storm.link)
    await ann.until("document.querySelectorAll('.sticky').length === 1")
    await asyncio.sleep(0.5)  # until the page has come to rest: a finger takes what is below it

    # A tap selects, and says so by the panel; a tap beside it lets go.
    x, y = await middle(ann, "Order Placed")
    await touch(ann, "touchStart", (x, y))
    await touch(ann, "touchEnd")
    await ann.until("document.querySelector('.inspector h2')?.innerText === 'Order Placed'")
    await touch(ann, "touchStart", (60, 160))
    await touch(ann, "touchEnd")
    await ann.until("!document.querySelector('.inspector')")

    # A finger on a sticky drags it, from where it is known to drag and not to tap.
    before = (await ben.ask(PLACES))["Domain event: Order Placed"]
    await touch(ann, "touchStart", (x, y))
    for step in range(1, 9):
        await touch(ann, "touchMove", (x - 6 * step, y + 10 * step))
    await touch(ann, "touchEnd")
    zoom = await ann.ask(ZOOM)
    wanted = [round(before[0] - 48 / zoom), round(before[1] + 80 / zoom)]
    moved = f"({PLACES})['Domain event: Order Placed']"
    await ben.until(f"{moved}.every((at, i) => Math.abs(at - {wanted}[i]) < 30 / {zoom})")

    # A finger on the wall moves the wall; two fingers that part come near.
    view = "document.querySelector('.react-flow__viewport').style.transform"
    stood = await ann.ask(view)
    await touch(ann, "touchStart", (60, 200))
    for step in range(1, 6):
        await touch(ann, "touchMove", (60 + 8 * step, 200))
    await touch(ann, "touchEnd")
    await ann.until(f"{view} !== {stood!r}")
    assert await ann.ask(ZOOM) == zoom
    await touch(ann, "touchStart", (180, 200), (210, 200))
    for step in range(1, 9):
        await touch(ann, "touchMove", (180 - 8 * step, 200), (210 + 8 * step, 200))
    await touch(ann, "touchEnd")
    await ann.until(f"{ZOOM} > {1.5 * zoom}")
    assert await ben.ask("document.querySelectorAll('.sticky').length") == 1
    assert (ann.said, ben.said) == ([], [])


async def test_a_context_is_dragged_by_its_name_with_all_that_is_in_it(browsers: list[Browser], tmp_path: Path) -> None:
    (folder := tmp_path / "model").mkdir()
    (folder / "model.storm").write_text(MODEL.read_text())
    storm = Storm(folder, str(folder / "model.storm"))
    await storm.start()
    try:
        ann, ben = browsers
        await asyncio.gather(opened(ann, storm.link), opened(ben, storm.link))
        for page in (ann, ben):
            await page.until("document.querySelectorAll('.sticky').length > 15")
        await asyncio.sleep(0.5)
        before = await ben.ask(PLACES)
        x, y = await middle(ann, "Inventory")
        await ann.drag((x, y), (x + 120, y + 40))
        where = f"({PLACES})['Bounded context: Inventory'][0]"
        await ben.until(f"{where} > {before['Bounded context: Inventory'][0] + 40}")
        await ann.until("!document.body.classList.contains('moving')")
        after = await ann.ask(PLACES)
        await ben.until(f"JSON.stringify({PLACES}) === JSON.stringify({after!r})")
        shift = [
            a - b
            for a, b in zip(after["Bounded context: Inventory"], before["Bounded context: Inventory"], strict=True)
        ]
        outside = {
            "Command: Orders.Reject Order",
            "Domain event: Orders.Order Cancelled",
            "Domain event: Orders.Order Placed",
        }
        for name, (left, top) in before.items():
            wanted = [left, top] if name in outside else [left + shift[0], top + shift[1]]
            assert after[name] == wanted, name
        # One step back, and all is where it was.
        await ann.press("z", modifiers=2)
        await ben.until(f"JSON.stringify({PLACES}) === JSON.stringify({before!r})")
        assert (ann.said, ben.said) == ([], [])
    finally:
        await storm.end()


async def test_an_arrow_is_drawn_from_a_point_and_taken_by_a_click(browsers: list[Browser], storm: Storm) -> None:
    ann, ben = browsers
    await asyncio.gather(opened(ann, storm.link), opened(ben, storm.link))
    await write(ann, "e", "order placed")
    await write(ann, "e", "order paid")
    await ann.press("Escape")
    start, end = await middle(ann, "Order Placed"), await middle(ann, "Order Paid")
    box = await ann.ask("document.querySelector('.sticky').getBoundingClientRect().width")
    await ann.mouse("mouseMoved", *start)
    await ann.until("document.querySelectorAll('.react-flow__handle').length === 2")
    await ann.drag((start[0] + box / 2, start[1]), end)
    await ben.until("document.querySelectorAll('.arrow').length === 1")
    await ann.until("document.querySelectorAll('.arrow').length === 1")
    await ann.press("Escape")
    await ann.click((start[0] + end[0]) / 2, start[1] + 3)
    await ann.until("document.querySelector('.arrow.selected')")
    await ann.press("Delete")
    await ben.until("document.querySelectorAll('.arrow').length === 0")
    assert await ben.ask("document.querySelectorAll('.sticky').length") == 2
    assert (ann.said, ben.said) == ([], [])
