"""Fifty people on a wall of 2,000 stickies, some of them offline now and then: at the end all have the same wall.

``FIG_WALL_SECONDS`` says for how long they edit (20 by default).
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pycrdt import Doc, Map

from examples.servers.fetch import Missing
from stranglerfig.console.shared import MAPS
from tests.browser import Browser
from tests.conftest import required
from tests.storm import STICKIES, Client, Storm, hang_all

pytestmark = pytest.mark.acceptance
PEOPLE, PAGES = 47, 3
KEPT = """(async () => {
  const { name } = (await indexedDB.databases()).find((found) => found.name.startsWith('fig-wall-'));
  const open = indexedDB.open(name);
  const db = await new Promise((done) => { open.onsuccess = () => done(open.result); });
  const all = db.transaction('updates').objectStore('updates').getAll();
  await new Promise((done) => { all.onsuccess = done; });
  db.close();
  return all.result.map((update) => btoa(Array.from(update, (byte) => String.fromCharCode(byte)).join('')));
})()"""
HUNG = """Object.fromEntries([...document.querySelectorAll('.react-flow__node-sticky')].map((e) =>
  [e.dataset.id, [e.ariaLabel.split(': ')[1].split(',')[0], parseInt(e.style.left), parseInt(e.style.top)]]))"""
PLACE = """(() => {
  const all = [...document.querySelectorAll('.react-flow__node-sticky')].map((e) => e.getBoundingClientRect())
    .filter((r) => r.left > 20 && r.right < 1300 && r.top > 80 && r.bottom < 700);
  const r = all[Math.floor(Math.random() * all.length)];
  return r ? [r.x + r.width / 2, r.y + r.height / 2] : null;
})()"""


class Crowd:
    """Everybody, with what they have put on the wall and taken from it."""

    def __init__(self, storm: Storm, session: aiohttp.ClientSession, browsers: list[Browser]) -> None:
        self.storm = storm
        self.clients = [Client(session, storm.link) for _ in range(PEOPLE)]
        self.browsers = browsers
        self.added = {f"n{number}": f"Happened{number}" for number in range(STICKIES)}
        self.removed: set[str] = set()
        self.typed: set[str] = set()
        """Texts of what was typed in a page, which makes the ids."""
        self.edits = self.breaks = 0
        self.over = asyncio.Event()

    async def open(self) -> None:
        await self.clients[0].join()
        hang_all(self.clients[0])
        await asyncio.gather(*(client.join() for client in self.clients[1:]))
        for browser in self.browsers:
            await browser.size(1440, 900)
            await browser.open(self.storm.link)
            await browser.until(f"document.querySelectorAll('.sticky').length === {STICKIES}", seconds=60)

    async def edit(self, number: int) -> None:
        """One client: about one edit a second, and away for a while after every eight or so."""
        client, chance = self.clients[number], random.Random(number)
        while not self.over.is_set():
            if client.closed.is_set():
                self.change(number, chance)  # the server is gone: it goes on alone
                await client.rejoin()
                self.breaks += 1
            if chance.random() < 0.12:
                await client.leave()
                for _ in range(chance.randrange(1, 5)):
                    self.change(number, chance)
                    await asyncio.sleep(chance.random() / 2)
                await client.rejoin()
                self.breaks += 1
            self.change(number, chance)
            await asyncio.sleep(0.5 + chance.random())

    def change(self, number: int, chance: random.Random) -> None:
        client = self.clients[number]
        notes: Map[Any] = client.doc.get("notes", type=Map)
        known = list(notes.keys())
        self.edits += 1
        id_ = chance.choice(known) if known else ""
        match chance.choice(["move", "move", "move", "add", "add", "word", "remove"]) if id_ else "add":
            case "move":
                with client.doc.transaction():
                    notes[id_]["x"], notes[id_]["y"] = chance.randrange(12_000), chance.randrange(6_000)
            case "word":
                notes[id_]["spec"] = f"(changed_{number}: int)"
            case "remove":
                self.removed.add(id_)
                del notes[id_]
            case _:
                new, text = f"by{number}-{self.edits}", f"Added{number}n{self.edits}"
                client.hang(new, text, x=chance.randrange(12_000), y=chance.randrange(6_000))
                self.added[new] = text

    async def use(self, number: int) -> None:
        """One page, as people use it: by mouse and keyboard."""
        page = self.browsers[number]
        for step in range(10_000):
            while (place := await page.ask(PLACE)) is None:  # who drags what has just gone moves the view
                await page.press("Escape")
                await page.press("0")
                await asyncio.sleep(0.2)
            x, y = place
            if step % 3 == 0:
                await page.drag((x, y), (x + 60, y + 30))
            elif step % 3 == 1:
                await page.press("Escape")
                await page.mouse("mouseMoved", 700 + step, 400)
                await page.press("e")
                await page.until("document.activeElement.matches('.sticky textarea')", seconds=20)
                await page.write(text := f"Page{number}n{step}")
                await page.press("Enter")
                self.typed.add(text)
                await page.press("0")
            else:
                await page.press("Escape")
                await page.click(x, y)
                selected = "[...document.querySelectorAll('.selected.react-flow__node')].map(e => e.dataset.id)"
                found = await page.ask(selected)
                if len(found) == 1:  # nobody took it meanwhile, and no other lies on it
                    self.removed.add(found[0])
                    await page.press("Delete")
                    await page.until(f'!document.querySelector("[data-id=\\"{found[0]}\\"]")', seconds=20)
            self.edits += 1
            if self.over.is_set():
                return
            await asyncio.sleep(0.5)

    async def agree(self, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until all have the same; returns it. The one who comes last has what the server has."""
        last = Client(self.clients[0].session, self.storm.link)
        for client in self.clients:
            if client.closed.is_set():
                await client.rejoin()
        await last.join()
        deadline = asyncio.get_running_loop().time() + seconds
        while others := await self.differ(wall := said(last.doc)):
            assert asyncio.get_running_loop().time() < deadline, f"not what the server has: {others}"
            await asyncio.sleep(0.25)
        await asyncio.gather(*(client.leave() for client in [*self.clients, last]))
        return wall

    async def differ(self, wall: dict[str, Any]) -> dict[str, Any]:
        """Who has something else, with what of the stickies is so."""
        found = {f"client {number}": said(client.doc) for number, client in enumerate(self.clients)}
        if all(each == wall for each in found.values()):
            found = {f"page {number}": said(await self.kept(page)) for number, page in enumerate(self.browsers)}
        return {
            who: [
                (id_, has["notes"].get(id_), note)
                for id_, note in wall["notes"].items()
                if has["notes"].get(id_) != note
            ][:3]
            for who, has in found.items()
            if has != wall
        }

    @staticmethod
    async def kept(page: Browser) -> Doc[Any]:
        """The document of a page, from where it keeps it."""
        doc: Doc[Any] = Doc()
        for update in await page.ask(KEPT):
            doc.apply_update(base64.b64decode(update))
        return doc


async def all_in_view(page: Browser, number: int, seconds: float = 60.0) -> None:
    """Fit the view, and once more where the last edits were drawn only after that."""
    count = "document.querySelectorAll('.react-flow__node-sticky').length"
    where = "document.activeElement.outerHTML + document.querySelector('.react-flow__viewport').style.transform"
    deadline = asyncio.get_running_loop().time() + seconds
    while (seen := await page.ask(count)) != number:
        assert asyncio.get_running_loop().time() < deadline, f"{seen} of {number} in view: {await page.ask(where)}"
        await page.press("Escape")
        await page.press("0")
        await asyncio.sleep(1)


def said(doc: Doc[Any]) -> dict[str, Any]:
    return {name: doc.get(name, type=Map).to_py() for name in MAPS}


async def test_fifty_people_on_two_thousand_stickies_have_one_wall_in_the_end(tmp_path: Path) -> None:
    (folder := tmp_path / "project").mkdir()
    storm, browsers = Storm(folder), [Browser(tmp_path / f"browser{number}") for number in range(PAGES)]
    seconds = float(os.environ.get("FIG_WALL_SECONDS", "20"))
    try:
        await asyncio.gather(*(browser.start() for browser in browsers))
    except Missing as missing:
        required(str(missing))
    try:
        await storm.start()
        async with aiohttp.ClientSession() as session:
            crowd = Crowd(storm, session, browsers)
            await crowd.open()
            async with asyncio.TaskGroup() as group:
                for number in range(PEOPLE):
                    group.create_task(crowd.edit(number))
                for number in range(PAGES):
                    group.create_task(crowd.use(number))
                await asyncio.sleep(seconds / 2)
                await storm.end(signal.SIGKILL)
                await asyncio.sleep(1)
                await storm.start()
                await asyncio.sleep(seconds / 2)
                crowd.over.set()
            wall = await crowd.agree()

        # Nothing is lost: what was put up and never taken down is there. Nothing is doubled, nothing is made up.
        texts = {id_: note["text"] for id_, note in wall["notes"].items()}
        lost = {id_: text for id_, text in crowd.added.items() if id_ not in crowd.removed and texts.get(id_) != text}
        assert lost == {}
        assert crowd.removed.isdisjoint(texts)
        rest = sorted(text for id_, text in texts.items() if id_ not in crowd.added)
        there = {text for text in crowd.typed if text in rest}
        assert rest == sorted(there), "typed once, there once"
        assert len(crowd.typed - there) <= sum(id_ not in crowd.added for id_ in crowd.removed)
        assert crowd.typed and crowd.removed and crowd.breaks > PEOPLE and crowd.edits > 20 * seconds

        # The pages show what their documents say.
        shown = {id_: [n["text"], n["x"], n["y"]] for id_, n in wall["notes"].items()}
        for browser in browsers:
            await all_in_view(browser, len(shown))
            assert await browser.ask(HUNG) == shown
            # The server was killed, which the network says in several ways; the page itself has no error.
            of_the_network = ("net::ERR_", "WebSocket connection to")
            assert [line for line in browser.said if not any(words in line for words in of_the_network)] == []
    finally:
        await asyncio.gather(*(browser.stop() for browser in browsers))
        await storm.end()
