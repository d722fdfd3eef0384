"""The wall as people use it: real Chromium browsers on one board, each with a profile of its own."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.browser import Browser
from tests.storm import WORDS, Client, Storm, opened, write

pytestmark = pytest.mark.acceptance
MODEL = Path("examples/shop/estate/contexts/inventory/model.storm")

UNSELECTED = "!document.querySelector('.selected.react-flow__node')"


async def test_two_browsers_share_one_wall(browsers: list[Browser], storm: Storm) -> None:
    ann, ben = browsers
    await asyncio.gather(opened(ann, storm.link), opened(ben, storm.link))
    await ann.until("document.querySelectorAll('.people li').length === 1")
    await ann.until("document.querySelector('.empty')?.innerText.startsWith('What happens')")

    # One writes by keyboard, the other sees it; stickies say words, the model gets a name.
    await write(ann, "e", "order placed")
    await ben.until(f"{WORDS} === 'Order Placed'")
    await write(ben, "e", "payment refused")
    await ann.until(f"{WORDS} === 'Order Placed|Payment Refused'")

    # A phase opens its part of the palette.
    await ann.press("c")
    assert await ann.ask(WORDS) == "Order Placed|Payment Refused"
    await ann.ask("[...document.querySelectorAll('.phases button')].at(-1).click()")
    await ben.until("document.querySelector('.phases [aria-current]').innerText === 'Contexts'")

    # Undo takes back what one did oneself, not what the other did since.
    await ann.press("z", modifiers=2)
    await ben.until(f"{WORDS} === 'Payment Refused'")
    await ann.press("z", modifiers=2 | 8)
    await ben.until(f"{WORDS} === 'Order Placed|Payment Refused'")

    # What one drags moves on the other's wall.
    placed = "[...document.querySelectorAll('.words')].find(e => e.innerText === 'Order Placed')"
    where = f"{placed}.closest('.react-flow__node').style.left"
    before = await ben.ask(where)
    box = await ann.ask(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({placed}.getBoundingClientRect())")
    await ann.drag((box[0], box[1]), (box[0] - 260, box[1] + 90))
    await ben.until(f"{where} !== {before!r}")

    # An arrow by keyboard alone: from the selected to the one that Enter is pressed on; undone again.
    node = "document.querySelectorAll('.react-flow__node-sticky')"
    await ann.press("Escape")
    await ann.until(UNSELECTED)
    await ann.ask(f"{node}[0].focus()")
    await ann.press(" ")
    await ann.until("document.querySelectorAll('.sticky.selected').length === 1")
    await ann.press("l")
    await ann.press("Tab")
    await ann.press("Enter")
    await ben.until("document.querySelectorAll('.arrow').length === 1")
    await ann.press("z", modifiers=2)
    await ben.until("document.querySelectorAll('.arrow').length === 0")

    # All are joined, a context is drawn around them, and it is named.
    await ann.press("a", modifiers=2)
    await ann.until("document.querySelectorAll('.sticky.selected').length === 2")
    await ann.press("l")
    await ben.until("document.querySelectorAll('.arrow').length === 1")
    # A picture without a size is not painted.
    assert await ben.ask("document.querySelector('.arrow').ownerSVGElement.getBoundingClientRect().width") > 0
    await ann.press("b")
    await ann.until("document.activeElement.matches('.area-title textarea')")
    await ann.write("Orders")
    await ann.press("Enter")
    await ben.until("document.querySelector('.area-title')?.innerText === 'Orders'")

    # The file is written when somebody says so.
    file = storm.folder / "wall.storm"
    assert not file.exists()
    await ben.ask("document.querySelector('.menu > button').click()")
    await ben.until("document.querySelector('.drop')")
    await ben.ask("[...document.querySelectorAll('.drop button')].find(e => e.innerText.startsWith('Write')).click()")
    await ben.until("document.querySelector('.toast').innerText === 'wall.storm is written.'")
    text = file.read_text()
    assert 'context "Orders"' in text and 'sticky event "OrderPlaced"' in text and ' in "Orders"' in text

    # It is there after a reload, and after the server was killed.
    await ann.send("Page.reload")
    await ann.until(f"{WORDS} === 'Order Placed|Payment Refused'")
    assert (ann.said, ben.said) == ([], [])
    await storm.end(signal.SIGKILL)
    await ben.until("document.querySelector('.state.offline')")
    await write(ben, "h", "Who refunds?")
    await storm.start()
    await ann.until(f"{WORDS} === 'Order Placed|Payment Refused|Who refunds?'", seconds=15)


async def test_a_page_that_has_not_synced_does_not_say_that_the_wall_is_empty(
    browsers: list[Browser], storm: Storm
) -> None:
    ann = browsers[0]
    await opened(ann, storm.link)
    await write(ann, "e", "order placed")
    deaf = "Object.assign(window, {WebSocket: class { static CLOSED = 3; send() {} }});"
    script = await ann.send("Page.addScriptToEvaluateOnNewDocument", source=deaf)
    await ann.send("Storage.clearDataForOrigin", origin=storm.link.partition("/#")[0], storageTypes="indexeddb")
    await ann.send("Page.reload")
    await ann.until("document.querySelector('.empty')?.innerText === 'Connecting …'")
    await ann.send("Page.removeScriptToEvaluateOnNewDocument", **script)
    await ann.send("Page.reload")
    await ann.until(f"{WORDS} === 'Order Placed'")


async def test_a_hotspot_is_talked_about_and_what_hangs_is_found_copied_and_removed(
    browsers: list[Browser], storm: Storm
) -> None:
    ann, ben = browsers
    await asyncio.gather(opened(ann, storm.link), opened(ben, storm.reads_only))
    await write(ann, "h", "Who may refund?")
    await ann.ask("document.querySelector('.comments input').focus()")
    await ann.write("Support, up to fifty")
    await ann.press("Enter")
    await ben.until("document.querySelector('.sticky .count')?.innerText === '1'")

    # Who only looks has no palette, and their keys do nothing.
    assert await ben.ask("document.querySelector('.palette')") is None
    await ben.press("e")
    await ann.ask("document.querySelector('.react-flow__node').focus()")
    await ann.press("d", modifiers=2)
    await ben.until(f"{WORDS} === 'Who may refund?|Who may refund?'")
    await ann.press("Delete")
    await ben.until(f"{WORDS} === 'Who may refund?'")

    # Copied and pasted, with the pointer where the other sees it; taken together by a lasso, and removed.
    await ann.ask("document.querySelector('.react-flow__node').focus()")
    await ann.press(" ")
    await ann.press("c", modifiers=2, does="copy")
    await ann.mouse("mouseMoved", 400, 600)
    await ann.press("v", modifiers=2, does="paste")
    await ben.until(f"{WORDS} === 'Who may refund?|Who may refund?'")
    await ben.until("document.querySelector('.cursor span')?.innerText.startsWith('Guest')")
    await ann.press("Escape")
    await ann.drag((340, 200), (1080, 740))
    await ann.until("document.querySelectorAll('.sticky.selected').length === 2")
    await ann.press("Escape")
    await ann.until(UNSELECTED)
    nodes = "document.querySelectorAll('.react-flow__node')"
    await ann.ask(f"{nodes}[0].focus()")
    await ann.press(" ")
    await ann.press("Delete")
    await ben.until(f"{WORDS} === 'Who may refund?'")

    await ann.press("/")
    await ann.until("document.activeElement.id === 'search'")
    await ann.write("nothing like it")
    await ann.until("document.querySelectorAll('.sticky.dim').length === 1")
    assert (ann.said, ben.said) == ([], [])


async def test_phases_timer_pivotal_events_import_and_findings(browsers: list[Browser], storm: Storm) -> None:
    ann, ben = browsers
    await asyncio.gather(opened(ann, storm.link), opened(ben, storm.reads_only))
    offered = "[...document.querySelectorAll('.palette button:not(:disabled) span')].map(e => e.innerText).join()"
    phases = {
        "Timeline": "Domain event,Hotspot,Swimlane",
        "Commands": "Domain event,Hotspot,Actor,Command,Policy,Read model,External system,Swimlane",
        "Aggregates": "Domain event,Hotspot,Actor,Command,Policy,Read model,External system,Aggregate,Swimlane",
        "Contexts": "Domain event,Hotspot,Actor,Command,Policy,Read model,External system,Aggregate,Context,Swimlane",
    }
    for phase, stickies in phases.items():
        await ann.ask(f"[...document.querySelectorAll('.phases button')].find(e => e.innerText === '{phase}').click()")
        await ann.until(f"{offered} === '{stickies}'")

    await write(ann, "e", "order placed")
    await ann.press("v")
    await ben.until("document.querySelector('.sticky.pivotal') && document.querySelector('.pivot')")
    await ann.press("v")
    await ben.until("!document.querySelector('.sticky.pivotal') && !document.querySelector('.pivot')")

    await ann.ask(
        "(e => { e.value = '5'; e.dispatchEvent(new Event('change', {bubbles: true})); })"
        "(document.querySelector('select.timer'))"
    )
    await ben.until("/^(5:00|4:5\\d)$/.test(document.querySelector('button.timer')?.innerText)")
    await ann.ask("document.querySelector('button.timer').click()")
    await ben.until("document.querySelector('select.timer')")

    found = await ann.send(
        "Runtime.evaluate", expression="document.querySelector('.menu input[type=file]')", returnByValue=False
    )
    await ann.send("DOM.setFileInputFiles", files=[str(MODEL.resolve())], objectId=found["result"]["objectId"])
    await ben.until("document.querySelector('.area-title')?.innerText === 'Inventory'")
    await ann.until("document.querySelector('.toast').innerText.endsWith('things on the wall have changed.')")

    await write(ann, "a", "nothing takes it")
    await ann.ask("document.querySelector('.menu > button').click()")
    await ann.until("document.querySelector('.drop')")
    await ann.ask("[...document.querySelectorAll('.drop button')].find(e => e.innerText === 'Check the model').click()")
    await ann.until("/^[1-9]\\d* findings/.test(document.querySelector('dialog[open] h2')?.innerText)")
    assert (ann.said, ben.said) == ([], [])


async def test_a_model_opens_on_a_telephone_and_is_saved_as_pictures(browsers: list[Browser], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(MODEL, folder / "model.storm")
    storm, ann = Storm(folder, str(folder / "model.storm")), browsers[0]
    await storm.start()
    try:
        await ann.size(390, 844, touch=True)
        await ann.open(storm.link)
        await ann.until("document.querySelectorAll('.sticky').length > 15")
        assert await ann.ask("document.documentElement.scrollWidth") == 390
        assert await ann.ask("document.querySelector('.palette').getBoundingClientRect().right") <= 390
        unnamed = await ann.ask(
            "[...document.querySelectorAll('button, input, select, textarea, .react-flow__node')].filter(e => "
            "!(e.hidden || e.ariaLabel || e.innerText || e.title || e.labels?.length)).map(e => e.outerHTML)"
        )
        assert unnamed == []
        downloads = tmp_path / "downloads"
        await ann.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        for kind, begins in (("text", b"# What"), ("SVG", b"<svg"), ("PNG", b"\x89PNG")):
            await ann.ask("document.querySelector('.menu > button').click()")
            await ann.until("document.querySelector('.drop')")
            entry = f"[...document.querySelectorAll('.drop button')].find(e => e.innerText === 'Save as {kind}')"
            await ann.ask(f"{entry}.click()")
            name = downloads / ("model.storm" if kind == "text" else f"model.{kind.lower()}")
            async with asyncio.timeout(10):
                while not (name.exists() and name.stat().st_size):
                    await asyncio.sleep(0.02)
            assert name.read_bytes().startswith(begins)
        assert b"Stock Level" in (downloads / "model.svg").read_bytes()
        assert (downloads / "model.storm").read_text().startswith(MODEL.read_text().partition("layout")[0])
        assert ann.said == []
    finally:
        await storm.end()


async def test_what_hangs_far_away_comes_into_view(browsers: list[Browser], storm: Storm) -> None:
    async with aiohttp.ClientSession() as session:
        client = Client(session, storm.link)
        await client.join()
        client.hang("near", "OrderPlaced")
        await opened(browsers[0], storm.link)
        await browsers[0].until("document.querySelectorAll('.sticky').length === 1")
        client.hang("far", "OrderShipped", x=40_000, y=20_000)  # dragged there, with the wall moving along
        async with asyncio.timeout(20):
            while await browsers[0].ask("document.querySelectorAll('.sticky').length") != 2:
                await browsers[0].press("0")
                await asyncio.sleep(0.3)
        await client.leave()
