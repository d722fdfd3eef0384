"""The shared wall at its largest: 2,000 stickies in a real Chromium."""

from __future__ import annotations

import asyncio
import bisect
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from pycrdt import Map

from bench.context import Context
from bench.result import Result, quantile
from examples.servers.fetch import Missing
from tests.browser import Browser
from tests.storm import STICKIES, Client, Storm, hang_all

DRAG_TARGET = 16.0
REMOTE_TARGET = 150.0
EDITORS, SEEN = 30, "n1024"
_NUMBERS = itertools.count(1)
_WATCH = f"""
window.drawn = new Map();
new MutationObserver((changes) => {{
  const said = changes.filter((c) => c.target.dataset.id === "{SEEN}").map((c) => c.target.ariaLabel.split(": ")[1]);
  if (said.length) requestAnimationFrame(() => setTimeout(() => {{
    for (const words of said) if (!drawn.has(words)) drawn.set(words, performance.timeOrigin + performance.now());
  }}));
}}).observe(document.body, {{subtree: true, attributes: true, attributeFilter: ["aria-label"]}});
"""


def dragged(context: Context) -> list[Result]:
    """``wall_drag_p95``: the main thread's work in a frame while a sticky is dragged among 2,000."""
    with context.folder("wall") as folder:
        try:
            frames = asyncio.run(_dragged(folder, moves=max(30, int(150 * context.scale))))
        except Missing as missing:
            return [Result("wall_drag_p95", 0.0, "ms", target=DRAG_TARGET, failed=f"not measured: {missing}")]
    slowest = max(quantile(found, 0.95) for found in frames.values())
    return [
        Result(
            "wall_drag_p95",
            slowest,
            "ms",
            target=DRAG_TARGET,
            note="processor time of the page's main thread in a frame; p50, p95, most and frames: " + _listed(frames),
        )
    ]


def seen(context: Context) -> list[Result]:
    """``wall_remote_p95``: from an edit at one client until another's page has drawn it, with thirty who edit."""
    with context.folder("wall") as folder:
        try:
            found = asyncio.run(_seen(folder, edits=max(20, int(150 * context.scale))))
        except Missing as missing:
            return [Result("wall_remote_p95", 0.0, "ms", target=REMOTE_TARGET, failed=f"not measured: {missing}")]
    slowest = max(quantile(took, 0.95) for took in found.values())
    note = f"{STICKIES} stickies, {EDITORS} clients with an edit a second each; p50, p95, most and edits: "
    return [Result("wall_remote_p95", slowest, "ms", target=REMOTE_TARGET, note=note + _listed(found))]


def _listed(found: dict[str, list[float]]) -> str:
    return "; ".join(
        f"{name} {quantile(each, 0.5):.1f}, {quantile(each, 0.95):.1f}, {max(each):.1f} of {len(each)}"
        for name, each in found.items()
    )


@asynccontextmanager
async def _full(folder: Path, people: int) -> AsyncIterator[tuple[Browser, list[Client]]]:
    """A page that shows a wall at its largest, and so many clients beside it."""
    project = folder / "project"
    project.mkdir()
    storm, browser = Storm(project), Browser(folder / "profile")
    try:
        await browser.start()
        await storm.start()
        async with aiohttp.ClientSession() as session:
            clients = [Client(session, storm.link) for _ in range(people)]
            await clients[0].join()
            hang_all(clients[0])
            await asyncio.gather(*(client.join() for client in clients[1:]))
            await browser.size(1440, 900)
            await browser.open(storm.link)
            # The canvas draws what is in sight only: all of it, once it is seen whole.
            await browser.until(f"document.querySelectorAll('.sticky').length === {STICKIES}", seconds=60)
            yield browser, clients
            await asyncio.gather(*(client.leave() for client in clients))
    finally:
        await browser.stop()
        await storm.end()


async def _seen(folder: Path, edits: int) -> dict[str, list[float]]:
    async with _full(folder, EDITORS) as (browser, clients):
        await browser.ask(_WATCH)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(clients[1:], start=1):
                group.create_task(_edit(client, random.Random(number), over))
            found = {"all in sight": await _sights(browser, clients[0], edits)}
            await _close_up(browser)
            found["forty in sight"] = await _sights(browser, clients[0], edits)
            over.set()
    return found


async def _edit(client: Client, chance: random.Random, over: asyncio.Event) -> None:
    notes: Map[Any] = client.doc.get("notes", type=Map)
    while not over.is_set():
        await asyncio.sleep(2 * chance.random())
        if "n1999" in notes:
            note = notes[f"n{chance.randrange(STICKIES)}"]
            with client.doc.transaction():
                note["x"], note["y"] = note["x"] + chance.randrange(-60, 60), note["y"] + chance.randrange(-60, 60)


async def _sights(browser: Browser, client: Client, edits: int) -> list[float]:
    """Milliseconds from each edit to the frame in which it is drawn; both clocks are this machine's."""
    notes: Map[Any] = client.doc.get("notes", type=Map)
    await browser.ask("drawn.clear()")
    asked: dict[str, float] = {}
    for _ in range(edits):
        text = f"Seen{next(_NUMBERS)}"
        asked[text] = time.time() * 1000
        notes[SEEN]["text"] = text
        await asyncio.sleep(0.1)
    await browser.until(f"drawn.has('{text}')")
    drawn = await browser.ask("Object.fromEntries(drawn)")
    # What the next edit came before was never drawn, as that one was: it counts from its own time to the next's sight.
    found, later = [], 0.0
    for text, at in reversed(asked.items()):
        later = drawn.get(text, later)
        found.append(later - at)
    return found


async def _dragged(folder: Path, moves: int) -> dict[str, list[float]]:
    async with _full(folder, people=1) as (browser, _):
        await browser.until("new DOMMatrix(document.querySelector('.react-flow__viewport').style.transform).a < 0.2")
        found = {"all in sight": await _frames(browser, moves)}
        await _close_up(browser)
        found["forty in sight"] = await _frames(browser, moves)
    return found


async def _close_up(browser: Browser) -> None:
    await browser.press("Escape")
    await browser.press("/")
    await browser.write("Happened1025")
    await browser.press("Enter")
    await browser.until("document.querySelectorAll('.sticky').length < 200")
    await browser.press("Escape")


async def _frames(browser: Browser, moves: int) -> list[float]:
    """Drag a sticky about; returns the milliseconds that each frame took of the main thread."""
    where = await browser.ask(
        "(() => { const r = [...document.querySelectorAll('.sticky')].map(e => e.getBoundingClientRect())"
        ".sort((a, b) => Math.hypot(a.x - 600, a.y - 400) - Math.hypot(b.x - 600, b.y - 400))[0];"
        " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    x, y = where
    await browser.mouse("mouseMoved", x, y)
    await browser.trace()
    await browser.mouse("mousePressed", x, y, button="left", clickCount=1)
    await browser.mouse("mouseMoved", x + 5, y + 5, button="left")
    for move in range(moves):
        await browser.mouse("mouseMoved", x + 5 + move % 40 * 4, y + 5 + move % 25 * 4, button="left")
    events = await browser.traced()
    assert await browser.ask("document.querySelectorAll('.react-flow__node.dragging').length") == 1, (
        "nothing was dragged"
    )
    await browser.mouse("mouseReleased", x, y, button="left", clickCount=1)
    return main_thread(events)


def main_thread(events: Iterable[dict[str, Any]]) -> list[float]:
    """Milliseconds of the page's main thread between one frame's begin and the next's.

    Processor time (``tdur``), as other programs on the machine are none of the page's doing; the format is
    https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
    """
    events = [e for e in events if e["ph"] == "X"]
    drawn = [e for e in events if e["name"] == "Layerize"]
    thread = drawn[-1]["pid"], drawn[-1]["tid"]
    ends = sorted(e["ts"] for e in drawn)
    frames = [0.0] * len(ends)
    for event in events:
        if event["name"].endswith("::RunTask") and (event["pid"], event["tid"]) == thread:
            # What is done until a frame is drawn is that frame's.
            at = bisect.bisect_left(ends, event["ts"])
            if at < len(frames):
                frames[at] += event.get("tdur", event["dur"]) / 1000
    return frames[1:]
